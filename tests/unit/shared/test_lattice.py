import math
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedring.shared.encryption import lattice
from fedring.shared.encryption.lattice import Ring, exact_product
from fedring.shared.encryption.parameters import PRODUCTION, Parameters
from fedring.shared.encryption.streams import Stream
from fedring.shared.numbers import SumVector

seeds = st.integers(0, 2**32 - 1)
dimensions = st.sampled_from((8, 64, 512))
LARGEST_LOW_LIMB = np.uint64((1 << 63) - (1 << 39) - 1)


@given(st.integers(0, 2**64 - 1), seeds)
def test_the_reference_is_schoolbook_multiplication(coefficient: int, seed: int) -> None:
    draw = random.Random(seed)
    a = [coefficient, *(draw.getrandbits(64) for _ in range(7))]
    s = [draw.randint(-2047, 2047) for _ in range(8)]
    product = [0] * 8
    for i, x in enumerate(a):
        for j, y in enumerate(s):
            product[(i + j) % 8] += x * y if i + j < 8 else -x * y
    expected = [value % 2**64 for value in product]
    assert exact_product(np.array(a, np.uint64), np.array(s, np.int64)).tolist() == expected


@given(dimensions, seeds)
@settings(max_examples=30)
def test_the_product_with_one_key_is_exact(dimension: int, seed: int) -> None:
    ring = lattice.ring(dimension)
    rng = np.random.default_rng(seed)
    key = rng.integers(-21, 22, dimension)
    polynomials = rng.integers(0, 1 << 64, (3, dimension), np.uint64)
    products = ring.product(polynomials, ring.transform(key))
    for polynomial, product in zip(polynomials, products, strict=True):
        assert (product == exact_product(polynomial, key)).all()


KEYS: dict[str, Callable[[np.random.Generator], SumVector]] = {
    "one key": lambda rng: rng.integers(-21, 22, 4096),
    "largest key": lambda rng: np.full(4096, 21),
    "sum of 1024": lambda rng: np.rint(rng.normal(0, 104, 4096)).astype(np.int64),
    "largest sum": lambda rng: rng.choice([-1037, 1037], 4096),
}


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("polynomial", ["random", "largest low limb", "largest"])
def test_the_production_ring_is_exact(key: str, polynomial: str) -> None:
    ring = lattice.ring(4096)
    rng = np.random.default_rng(1)
    vector = KEYS[key](rng)
    polynomials = {
        "random": rng.integers(0, 1 << 64, 4096, np.uint64),
        "largest low limb": np.full(4096, LARGEST_LOW_LIMB),
        "largest": np.full(4096, (1 << 64) - 1, np.uint64),
    }
    chosen = polynomials[polynomial]
    product = ring.product(chosen.reshape(1, -1), ring.transform(vector))[0]
    assert (product == exact_product(chosen, vector)).all()


def inexact(monkeypatch: pytest.MonkeyPatch, relative_error: float) -> None:
    exact = np.fft.fft

    def fft(values: Any, axis: int) -> Any:
        transformed = exact(values, axis=axis)
        noise = np.random.default_rng(3).normal(0, relative_error, transformed.shape)
        return transformed * (1 + noise)

    monkeypatch.setattr(np.fft, "fft", fft)


def test_a_machine_that_cannot_multiply_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    inexact(monkeypatch, 2**-24)
    with pytest.raises(ArithmeticError, match="too inexact"):
        Ring(4096).check()


def test_constants_that_are_off_by_little_are_noticed() -> None:
    ring = Ring(4096)
    ring._untwist = ring._untwist * (1 + 1e-12)
    with pytest.raises(ArithmeticError, match="too inexact"):
        ring.check()


def test_keys_and_noise_are_centred_binomial() -> None:
    count, eta = 200_000, 21
    drawn = lattice.centred_binomial(Stream(bytes(32)), count, eta)
    assert abs(drawn).max() <= eta
    found = np.bincount(drawn + eta, minlength=2 * eta + 1)
    expected = np.array([math.comb(2 * eta, k) for k in range(2 * eta + 1)]) * count / 4**eta
    likely = expected > 20
    chi_square = ((found - expected)[likely] ** 2 / expected[likely]).sum()
    assert chi_square < 60  # 24 degrees of freedom; the stream is fixed, so this cannot flicker


@given(st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=20))
def test_ones_are_counted(words: list[int]) -> None:
    for count in (lattice._ones, lattice._ones_in_fields):
        assert count(np.array(words, np.uint64)).tolist() == [word.bit_count() for word in words]


def test_public_polynomials_depend_on_the_announce_and_their_number_only() -> None:
    seed = lattice.expansion_seed(b"a" * 32)
    assert seed != lattice.expansion_seed(b"b" * 32)
    together = lattice.expand(seed, 0, 5, 64)
    apart = np.concatenate([lattice.expand(seed, 0, 2, 64), lattice.expand(seed, 2, 3, 64)])
    assert (together == apart).all()
    assert len(np.unique(together)) == 5 * 64


def test_streams_hide_their_seed() -> None:
    stream = Stream(b"s" * 32)
    assert repr(stream) == "Stream(...)"
    assert stream.read(8) + stream.read(8) == Stream(b"s" * 32).read(16)
    assert Stream(b"s" * 32).read(16) != Stream(b"s" * 32, number=1).read(16)
    # ChaCha20, RFC 8439 appendix A.1 vector 1: key, nonce and counter 0
    assert Stream(bytes(32)).read(8).hex() == "76b8e0ada0f13d90"
    assert int(Stream(bytes(32)).words(1)[0]).to_bytes(8, "little").hex() == "76b8e0ada0f13d90"


def test_the_radix_of_keys() -> None:
    radix, digits = PRODUCTION.key_radix, 274
    assert radix**digits <= 2 ** (3072 - 4) < (radix + 1) ** digits
    assert 14 * digits < PRODUCTION.dimension <= 15 * digits
    least_for_14 = -(-PRODUCTION.dimension // 14)
    assert (2 * 1036 + 1) ** least_for_14 > 2 ** (3072 - 4)
    # how seldom what is uniform modulo n, n of 3,072 bits, passes for a sum of keys
    for n_contributors, bits in ((1024, 52), (512, 188), (16, 874)):
        passing = 2 * int(PRODUCTION.bound(n_contributors)) + 1
        assert passing < radix
        assert passing**digits << bits <= 2 ** (3072 - 1)


def test_parameters() -> None:
    assert pytest.approx(3.24, abs=0.001) == PRODUCTION.sigma
    assert PRODUCTION.bound(1) > PRODUCTION.eta
    assert int(PRODUCTION.bound(1024)) == 1036
    with pytest.raises(ValueError, match="power of two"):
        Parameters(dimension=4095)
    with pytest.raises(ValueError, match="8"):
        Parameters(dimension=4)
