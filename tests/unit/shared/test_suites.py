"""What every suite promises, and what only `hybrid` can get wrong."""

import copy
import hashlib
import itertools
import os
import pickle
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from phe import PaillierPublicKey

from fedring.shared.encryption import (
    PRODUCTION,
    SUITES,
    Body,
    OneTimeMask,
    Parameters,
    Suite,
    generate_key,
    max_values,
    suite,
)
from fedring.shared.encryption.streams import Stream
from fedring.shared.errors import BodyError, OneTimeError, ProtocolError, ReleaseError, SumError
from fedring.shared.messages import MAX_BODY_BYTES
from fedring.shared.numbers import IntVector, SumVector, largest_value

KEY = generate_key(512, random=Stream(b"suite tests, 512 bits".ljust(32)).read)
SMALL = Parameters(dimension=64)
DIGEST = hashlib.sha256(b"an announce").digest()

seeds = st.integers(0, 2**32 - 1)
widths = st.sampled_from((8, 16))
each_suite = pytest.mark.parametrize("name", SUITES)


def small_suite(
    n_values: int, bits: int = 16, digest: bytes = DIGEST, name: str = "hybrid"
) -> Suite:
    return suite(
        name,
        public_key=KEY.public_key,
        announce_digest=digest,
        n_values=n_values,
        bits=bits,
        parameters=SMALL,
    )


def vectors(n_contributors: int, n_values: int, bits: int, seed: int) -> list[IntVector]:
    largest = largest_value(bits)
    rng = np.random.default_rng(seed)
    return [
        rng.integers(-largest, largest + 1, n_values).astype(np.int32)
        for _ in range(n_contributors)
    ]


def cancelling_pads(suite_: Suite, n_contributors: int, seed: int) -> list[list[int]]:
    """One row for each contributor; every column adds up to 0 modulo n."""
    stream = Stream(seed.to_bytes(32, "big"))
    n_bytes = -(-suite_.n.bit_length() // 8) + 16

    def piece() -> int:
        return int.from_bytes(stream.read(n_bytes), "big") % suite_.n

    rows = [[piece() for _ in range(suite_.n_ciphertexts)] for _ in range(n_contributors - 1)]
    last = [-sum(column) % suite_.n for column in zip(*rows, strict=True)]
    return [*rows, last or [0] * suite_.n_ciphertexts]


class Ring:
    """What a ring of contributors gives to the coordinator, over the wire."""

    def __init__(self, suite_: Suite, values: Sequence[IntVector], seed: int = 0) -> None:
        self.suite = suite_
        self.values = values
        stream = Stream(seed.to_bytes(32, "big"), number=1)
        masks = [suite_.prepare(stream.read) for _ in values]
        pads = cancelling_pads(suite_, len(values), seed)
        self.bodies = [
            suite_.encode_body(mask.body(vector))
            for mask, vector in zip(masks, values, strict=True)
        ]
        self.releases = [mask.release(row) for mask, row in zip(masks, pads, strict=True)]

    @property
    def expected(self) -> list[int]:
        return [sum(column) for column in zip(*(v.tolist() for v in self.values), strict=True)]

    def body(self) -> Body:
        total = self.suite.decode_body(self.bodies[0])
        for body in self.bodies[1:]:
            self.suite.add(total, self.suite.decode_body(body))
        return total

    def open(self) -> SumVector:
        for release in self.releases:
            self.suite.check_release(release)
        product = self.suite.product(self.releases)
        return self.suite.open(KEY, self.body(), product, len(self.bodies))


def flipped(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


# -- adding as it comes ------------------------------------------------------------------


@given(
    n_values=st.integers(1, 300),
    bits=widths,
    seed=seeds,
    cuts=st.lists(st.integers(1, 30), max_size=8),
)
def test_a_sum_that_comes_in_pieces_is_the_sum(
    n_values: int, bits: int, seed: int, cuts: list[int]
) -> None:
    suite_ = small_suite(n_values, bits)
    first, second = Ring(suite_, vectors(2, n_values, bits, seed), seed).bodies
    mine = suite_.decode_body(second)
    total = suite_.decode_body(first)
    suite_.add(total, mine)
    places = sorted({0, suite_.body_bytes} | {8 * cut for cut in cuts if 8 * cut < len(first)})
    pieces = [
        suite_.add_piece(first[start:stop], mine, start)
        for start, stop in itertools.pairwise(places)
    ]
    assert b"".join(pieces) == suite_.encode_body(total)
    assert suite_.encode_body(mine) == second


@pytest.mark.parametrize(
    ("start", "length"), [(4, 8), (0, 12), (8, 1 << 20), (-8, 16), (-16, 8), (1 << 20, 0)]
)
def test_a_piece_that_no_body_has_is_refused(start: int, length: int) -> None:
    suite_ = small_suite(100)
    body = suite_.decode_body(bytes(suite_.body_bytes))
    with pytest.raises(BodyError, match="a piece from byte"):
        suite_.add_piece(bytes(length), body, start)


def test_residues_are_added_all_at_once() -> None:
    suite_ = small_suite(100, name="paillier")
    assert not suite_.in_pieces
    first, second = Ring(suite_, vectors(2, 100, 16, 1)).bodies
    mine = suite_.decode_body(second)
    total = suite_.decode_body(first)
    suite_.add(total, mine)
    assert suite_.add_piece(first, mine, 0) == suite_.encode_body(total)
    with pytest.raises(BodyError, match="instead of"):
        suite_.add_piece(first[:64], mine, 0)
    with pytest.raises(BodyError, match="instead of"):
        suite_.add_piece(first[64:], mine, 64)
    with pytest.raises(BodyError, match="not below n"):
        suite_.add_piece(b"\xff" * len(first), mine, 0)


# -- the sum is exact --------------------------------------------------------------------


@each_suite
@given(n_values=st.integers(1, 300), n_contributors=st.integers(1, 6), bits=widths, seed=seeds)
@settings(max_examples=60)
def test_the_sum_is_exact_and_the_pads_cancel(
    name: str, n_values: int, n_contributors: int, bits: int, seed: int
) -> None:
    suite_ = small_suite(n_values, bits, name=name)
    ring = Ring(suite_, vectors(n_contributors, n_values, bits, seed), seed)
    assert all(len(body) == suite_.body_bytes for body in ring.bodies)
    assert all(len(release) == suite_.release_bytes for release in ring.releases)
    assert ring.open().tolist() == ring.expected


@pytest.mark.parametrize("n_values", [1, 8128, 8190, 8192, 20_000])
@pytest.mark.parametrize("bits", [8, 16])
def test_production_shapes(n_values: int, bits: int) -> None:
    suite_ = suite(
        "hybrid", public_key=KEY.public_key, announce_digest=DIGEST, n_values=n_values, bits=bits
    )
    ring = Ring(suite_, vectors(2, n_values, bits, seed=n_values))
    assert ring.open().tolist() == ring.expected


@pytest.mark.parametrize(("key_bits", "n_values"), [(3072, 100_000), (2048, 1_000_000)])
def test_full_size(key_bits: int, n_values: int) -> None:
    key = generate_key(key_bits, random=Stream(b"full size".ljust(32)).read)
    suite_ = suite(
        "hybrid", public_key=key.public_key, announce_digest=DIGEST, n_values=n_values, bits=16
    )
    assert suite_.n_ciphertexts == {3072: 15, 2048: 23}[key_bits]
    assert suite_.release_bytes == {3072: 11_520, 2048: 11_776}[key_bits]
    assert suite_.body_bytes == 8 * (n_values // 2 + 32)
    values = vectors(2, n_values, 16, seed=1)
    pads = cancelling_pads(suite_, 2, seed=2)
    masks = [suite_.prepare(os.urandom) for _ in values]
    total, other = (mask.body(vector) for mask, vector in zip(masks, values, strict=True))
    suite_.add(total, other)
    product = suite_.product([mask.release(row) for mask, row in zip(masks, pads, strict=True)])
    opened = suite_.open(key, total, product, 2)
    assert (opened == values[0].astype(np.int64) + values[1]).all()


@each_suite
@pytest.mark.parametrize(("bits", "most"), [(16, 1024), (8, 512)])
def test_as_many_extremes_as_may_be_opened_together(name: str, bits: int, most: int) -> None:
    suite_ = small_suite(6, bits, name=name)
    assert suite_.max_contributors == most
    extreme = np.array([1, 1, -1, -1, 1, -1], np.int32) * np.int32(largest_value(bits))
    total = np.zeros(suite_.body_bytes // 8, np.uint64)
    releases = []
    for _ in range(most):
        mask = suite_.prepare(os.urandom)
        suite_.add(total, mask.body(extreme))
        releases.append(mask.release([0] * suite_.n_ciphertexts))
    product = suite_.product(releases)
    assert suite_.open(KEY, total, product, most).tolist() == (extreme * most).tolist()
    with pytest.raises(ValueError, match=f"{most + 1} contributors, not 1 to {most}"):
        suite_.open(KEY, total, product, most + 1)


@each_suite
def test_two_threads_prepare_at_once(name: str) -> None:
    suite_ = small_suite(500, name=name)
    with ThreadPoolExecutor(2) as pool:
        masks = list(pool.map(suite_.prepare, [os.urandom] * 6))
    values = vectors(6, 500, 16, seed=3)
    total = np.zeros(suite_.body_bytes // 8, np.uint64)
    for mask, vector in zip(masks, values, strict=True):
        suite_.add(total, mask.body(vector))
    product = suite_.product([mask.release([0] * suite_.n_ciphertexts) for mask in masks])
    expected = np.sum(values, axis=0, dtype=np.int64)
    assert (suite_.open(KEY, total, product, 6) == expected).all()


# -- whatever was changed is noticed ------------------------------------------------------


@each_suite
@given(seed=seeds, data=st.data())
@settings(max_examples=60)
def test_a_flipped_bit_in_a_release(name: str, seed: int, data: st.DataObject) -> None:
    ring = Ring(small_suite(40, name=name), vectors(3, 40, 16, seed), seed)
    victim = data.draw(st.integers(0, 2))
    bit = data.draw(st.integers(0, 8 * ring.suite.release_bytes - 1))
    ring.releases[victim] = flipped(ring.releases[victim], bit)
    with pytest.raises((ReleaseError, SumError)):
        ring.open()


@given(seeds, st.data())
@settings(max_examples=60)
def test_a_flipped_bit_in_a_body(seed: int, data: st.DataObject) -> None:
    ring = Ring(small_suite(40), vectors(3, 40, 16, seed), seed)
    bit = data.draw(st.integers(0, 8 * ring.suite.body_bytes - 1))
    ring.bodies[1] = flipped(ring.bodies[1], bit)
    place, height = divmod(bit, 64)
    assume(height not in (5, 6))  # near the bound: noticed or not, as the noise falls
    if 7 <= height < 12:  # above what three noises leave
        with pytest.raises(SumError) as caught:
            ring.open()
        assert caught.value.check == "noise"
    elif place >= 20 and height >= 12:
        with pytest.raises(SumError) as caught:
            ring.open()
        assert caught.value.check == "padding"
    elif height >= 12:  # a forged value keeps to the layout: that is what signatures are for
        assert ring.open().tolist() != ring.expected
    else:  # within the noise, which rounds away
        assert ring.open().tolist() == ring.expected


def test_an_unused_slot_must_be_zero() -> None:
    ring = Ring(small_suite(39), vectors(3, 39, 16, seed=4))
    ring.bodies[0] = flipped(ring.bodies[0], 19 * 64 + 12 + 26)
    with pytest.raises(SumError, match="slot behind the last value"):
        ring.open()


NOT_OPEN = {"hybrid": "key range", "paillier": "plaintext range"}
"""The check that a sum fails whose keys are not those of its bodies."""


@each_suite
@pytest.mark.parametrize("missing", [0, 2])
def test_a_missing_release_leaves_nothing(name: str, missing: int) -> None:
    ring = Ring(small_suite(40, name=name), vectors(3, 40, 16, seed=5))
    del ring.releases[missing]
    with pytest.raises(SumError) as caught:
        ring.open()
    assert caught.value.check == NOT_OPEN[name]


@each_suite
def test_a_release_for_another_list_leaves_nothing(name: str) -> None:
    first = Ring(small_suite(40, name=name), vectors(3, 40, 16, seed=6), seed=6)
    second = Ring(small_suite(40, name=name), vectors(3, 40, 16, seed=6), seed=7)
    first.releases[0] = second.releases[0]
    with pytest.raises(SumError) as caught:
        first.open()
    assert caught.value.check == NOT_OPEN[name]


def test_a_key_that_is_too_large_is_a_bad_release() -> None:
    suite_ = small_suite(2)
    values = np.zeros(2, np.int32)
    product = suite_.product([suite_.prepare(os.urandom).release([100] * suite_.n_ciphertexts)])
    with pytest.raises(SumError, match="a sum of keys of") as caught:
        suite_.open(KEY, suite_.prepare(os.urandom).body(values), product, 1)
    assert caught.value.check == "key range"


def test_a_body_of_another_announce_is_noise() -> None:
    values = np.zeros(2, np.int32)
    mask = small_suite(2, digest=bytes(32)).prepare(os.urandom)
    suite_ = small_suite(2)
    product = suite_.product([mask.release([0] * suite_.n_ciphertexts)])
    with pytest.raises(SumError) as caught:
        suite_.open(KEY, mask.body(values), product, 1)
    assert caught.value.check == "noise"


@each_suite
def test_a_private_key_of_somebody_else(name: str) -> None:
    ring = Ring(small_suite(2, name=name), vectors(1, 2, 16, seed=8))
    other = generate_key(512, random=os.urandom)
    with pytest.raises(ValueError, match="another public key"):
        ring.suite.open(other, ring.body(), ring.suite.product(ring.releases), 1)


# -- one-time secrets ---------------------------------------------------------------------


def prepared(name: str = "hybrid") -> tuple[Suite, OneTimeMask]:
    suite_ = small_suite(3, name=name)
    return suite_, suite_.prepare(os.urandom)


VALUES = np.array([1, -2, 3], np.int32)


@each_suite
def test_a_key_masks_one_body(name: str) -> None:
    _, mask = prepared(name)
    mask.body(VALUES)
    with pytest.raises(OneTimeError, match="difference of the two vectors"):
        mask.body(VALUES)


@each_suite
@pytest.mark.parametrize("copied", [copy.deepcopy, pickle.dumps])
def test_a_mask_cannot_be_copied(name: str, copied: Callable[[OneTimeMask], object]) -> None:
    _, mask = prepared(name)
    with pytest.raises(TypeError, match="serves once and cannot be copied"):
        copied(mask)
    mask.body(VALUES)


@each_suite
def test_a_key_is_released_once(name: str) -> None:
    suite_, mask = prepared(name)
    pads = [1] * suite_.n_ciphertexts
    mask.release(pads)
    with pytest.raises(OneTimeError, match="this device's key"):
        mask.release(pads)


@each_suite
def test_erased_is_used_up(name: str) -> None:
    suite_, mask = prepared(name)
    mask.erase()
    mask.erase()
    with pytest.raises(OneTimeError):
        mask.body(VALUES)
    with pytest.raises(OneTimeError):
        mask.release([0] * suite_.n_ciphertexts)


@each_suite
def test_erasing_leaves_the_body_that_was_given_out(name: str) -> None:
    _, mask = prepared(name)
    body = mask.body(VALUES)
    before = body.copy()
    mask.erase()
    assert (body == before).all()


def test_one_of_many_threads_gets_the_mask() -> None:
    _, mask = prepared()

    def attempt(_: int) -> bool:
        try:
            mask.body(VALUES)
        except OneTimeError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(attempt, range(64))) == 1


@pytest.mark.parametrize(
    "values",
    [
        VALUES.astype(np.int64),
        VALUES[:2],
        VALUES.reshape(1, 3),
        np.array([0, 0, 32768], np.int32),
        np.array([-32768, 0, 0], np.int32),
        np.array([-(2**31), 0, 0], np.int32),
    ],
    ids=["int64", "short", "2d", "32768", "-32768", "least"],
)
def test_a_wrong_vector_uses_nothing_up(values: IntVector) -> None:
    _, mask = prepared()
    with pytest.raises(ValueError, match=r"instead of int32|more than 16 bits"):
        mask.body(values)
    mask.body(VALUES)


@pytest.mark.parametrize("bad", [[], [0], [-1, 0], [0, KEY.public_key.n], [0, 0, 0]])
def test_wrong_pads_use_nothing_up(bad: list[int]) -> None:
    suite_, mask = prepared()
    assert suite_.n_ciphertexts == 2
    with pytest.raises(ValueError, match="needs 2 pads"):
        mask.release(bad)
    mask.release([0, KEY.public_key.n - 1])


def test_nothing_secret_in_print() -> None:
    _, mask = prepared()
    assert repr(mask) == "OneTimeMask(<mask, unused>, <release, unused>)"
    mask.body(VALUES)
    assert repr(mask) == "OneTimeMask(<mask, used up>, <release, unused>)"


# -- what is drawn ------------------------------------------------------------------------


def seeded(name: str, *asked: bytes) -> tuple[Body, bytes]:
    suite_ = small_suite(3, name=name)
    left = list(asked)
    mask = suite_.prepare(lambda n_bytes: left.pop(0).ljust(n_bytes))
    assert not left
    return mask.body(VALUES), mask.release([0] * suite_.n_ciphertexts)


@each_suite
def test_paillier_randomness_has_a_stream_of_its_own(name: str) -> None:
    body, release = seeded(name, b"mask", b"paillier")
    same_body, other_release = seeded(name, b"mask", b"other")
    assert (body == same_body).all()
    assert release != other_release
    other_body, _ = seeded(name, b"other", b"paillier")
    assert (body != other_body).any()


PINNED = {
    "hybrid": "98794b147a5f0dd8b6e7089f52ceecb9eb08221eb982a0875b2024f2d3756fd0",
    "paillier": "18cdf225492558f6dbd50f0ae16a3300d95ebcc3eb41cc9a5beeb92449bf97f9",
}


@each_suite
def test_the_bytes_on_the_wire_are_pinned(name: str) -> None:
    body, release = seeded(name, b"lattice", b"paillier")
    wire = small_suite(3, name=name).encode_body(body) + release
    assert hashlib.sha256(wire).hexdigest() == PINNED[name]


@each_suite
def test_every_mask_is_fresh_and_looks_uniform(name: str) -> None:
    suite_ = small_suite(2000, name=name)
    zeros = np.zeros(2000, np.int32)
    first, second = (suite_.prepare(os.urandom).body(zeros) for _ in range(2))
    assert not (first == second).any()
    ones = np.unpackbits(np.concatenate([first, second]).view(np.uint8)).mean()
    assert ones == pytest.approx(0.5, abs=0.02)  # 14 sigma


# -- limits -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "n_values", "bits", "reason"),
    [
        ("paillier-1", 1, 16, "unknown suite 'paillier-1', known: hybrid, paillier$"),
        ("hybrid", 0, 16, "0 values, suite hybrid takes 1 to 16777152"),
        ("hybrid", (1 << 24) - 63, 16, "16777153 values"),
        ("hybrid", 1, 32, "32 bits"),
        ("paillier", 0, 16, "0 values"),
        ("paillier", 9601, 16, "9601 values, suite paillier takes 1 to 9600"),
        ("paillier", 1, 32, "32 bits"),
    ],
)
def test_announces_that_no_suite_can_serve(
    name: str, n_values: int, bits: int, reason: str
) -> None:
    with pytest.raises(ProtocolError, match=reason):
        suite(
            name,
            public_key=KEY.public_key,
            announce_digest=DIGEST,
            n_values=n_values,
            bits=bits,
        )


@pytest.mark.parametrize("bits", [8, 16])
@each_suite
def test_a_hop_holds_the_longest_body(name: str, bits: int) -> None:
    longest = suite(
        name,
        public_key=KEY.public_key,
        announce_digest=DIGEST,
        n_values=max_values(name),
        bits=bits,
    )
    assert longest.body_bytes <= MAX_BODY_BYTES


@each_suite
def test_a_modulus_too_small_for_a_value_is_refused(name: str) -> None:
    with pytest.raises(ProtocolError, match="a Paillier modulus of 4 bits holds no value"):
        suite(
            name,
            public_key=PaillierPublicKey(15),
            announce_digest=DIGEST,
            n_values=1,
            bits=16,
        )


def test_a_digest_of_the_wrong_length_is_a_bug() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        small_suite(1, digest=b"short")


@given(st.binary(max_size=600))
def test_any_bytes_are_a_body_or_refused(data: bytes) -> None:
    suite_ = small_suite(8)
    try:
        body = suite_.decode_body(data)
    except BodyError:
        assert len(data) != suite_.body_bytes
    else:
        assert suite_.encode_body(body) == data


def test_a_body_from_the_wire_can_be_added_to() -> None:
    suite_ = small_suite(8)
    wire = bytes([255]) * suite_.body_bytes
    total = suite_.decode_body(wire)
    suite_.add(total, np.ones_like(total))
    assert not total.any()
    assert suite_.decode_body(memoryview(wire)).all()


NO_BODIES: dict[str, Callable[[Body], Body]] = {
    "one word": lambda body: body[:1],
    "nothing": lambda body: body[:0],
    "a word less": lambda body: body[:-1],
    "a word more": lambda body: np.append(body, np.uint64(0)),
    "signed": lambda body: body.astype(np.int64),
    "half as wide": lambda body: body.astype(np.uint32),
    "floats": lambda body: body.astype(np.float64),
    "two rows": lambda body: np.stack([body, body]),
}
"""What numpy would add to a body in silence, stretched or converted, or not at all."""


@each_suite
@pytest.mark.parametrize("changed", NO_BODIES.values(), ids=NO_BODIES)
def test_what_is_no_body_of_the_suite_is_refused(
    name: str, changed: Callable[[Body], Body]
) -> None:
    suite_ = small_suite(100, name=name)
    ring = Ring(suite_, vectors(2, 100, 16, 1))
    total, body = map(suite_.decode_body, ring.bodies)
    before = total.copy(), body.copy()
    none = changed(body)
    product = suite_.product(ring.releases)
    told = rf"{none.dtype}.*instead of uint64 \({len(body)},\)"
    for refused in (
        lambda: suite_.add(total, none),
        lambda: suite_.add(none, body),
        lambda: suite_.add_piece(ring.bodies[0], none, 0),
        lambda: suite_.open(KEY, none, product, 2),
    ):
        with pytest.raises(BodyError, match=told):
            refused()
    assert np.array_equal(total, before[0])
    assert np.array_equal(body, before[1])


@each_suite
def test_a_release_of_the_wrong_length(name: str) -> None:
    suite_ = small_suite(8, name=name)
    for length in (0, suite_.release_bytes - 1, suite_.release_bytes + 1):
        with pytest.raises(ReleaseError, match=f"{length} bytes instead of"):
            suite_.check_release(bytes(length))
        with pytest.raises(ReleaseError):
            suite_.product([bytes(length)])


def test_production_is_the_default() -> None:
    suite_ = suite("hybrid", public_key=KEY.public_key, announce_digest=DIGEST, n_values=1, bits=8)
    assert PRODUCTION.dimension == 4096
    assert suite_.n_ciphertexts == -(-4096 // 45)
