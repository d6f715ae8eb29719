"""Exact for every input: what is opened is the sum, integer for integer, however many add up.

A crowd of masks is made once, each under a key of its own; every example masks other vectors with
the first so and so many of them. Only tests may use a mask twice.
"""

import functools
from collections.abc import Sequence

import numpy as np
import pytest
from attrs import frozen
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from fedring.shared.contributions import contribution, n_values, read_sum
from fedring.shared.encryption import (
    PRODUCTION,
    SUITES,
    Body,
    Parameters,
    Product,
    Suite,
    generate_key,
    suite,
)
from fedring.shared.encryption.streams import Stream
from fedring.shared.numbers import clip_norm, dequantise, largest_value, quantise

KEY = generate_key(128, random=Stream(b"exact sums, 128 bits".ljust(32)).read)
SMALL = Parameters(dimension=8)
MOST = {16: 1024, 8: 512}
D = 7
"""Fills neither the last coefficient nor the last plaintext, at either width."""

each_suite = pytest.mark.parametrize("name", SUITES)
each_width = pytest.mark.parametrize("bits", [8, 16])
seeds = st.integers(0, 2**32 - 1)


@frozen(eq=False)
class Crowd:
    """Masks, and what their first k add up to: `totals[k]` and `products[k]`."""

    suite: Suite
    masks: list[Body]
    totals: list[Body]
    products: list[Product]

    def sum(self, vectors: NDArray[np.int32]) -> list[int]:
        """Masked, added up and opened."""
        total = self.totals[len(vectors)].copy()
        for vector in vectors:
            self.suite.add_values(total, vector)
        opened: list[int] = self.suite.open(
            KEY, total, self.products[len(vectors)], len(vectors)
        ).tolist()
        return opened


@functools.cache
def crowd(name: str, bits: int, length: int, size: int, parameters: Parameters) -> Crowd:
    suite_ = suite(
        name,
        public_key=KEY.public_key,
        announce_digest=bytes(32),
        n_values=length,
        bits=bits,
        parameters=parameters,
    )
    random = Stream(b"a crowd".ljust(32)).read
    masks: list[Body] = []
    totals: list[Body] = [np.zeros(suite_.body_bytes // 8, np.uint64)]
    products: list[Product] = [(1,) * suite_.n_ciphertexts]
    for _ in range(size):
        mask = suite_.prepare(random)
        masks.append(mask.body(np.zeros(length, np.int32)))
        totals.append(totals[-1].copy())
        suite_.add(totals[-1], masks[-1])
        ciphertexts = suite_.product([mask.release([0] * suite_.n_ciphertexts)])
        pairs = zip(products[-1], ciphertexts, strict=True)
        products.append(tuple(before * more % suite_.n**2 for before, more in pairs))
    return Crowd(suite_, masks, totals, products)


def small_crowd(name: str, bits: int) -> Crowd:
    return crowd(name, bits, D, MOST[bits], SMALL)


@st.composite
def vectors(draw: st.DrawFn, bits: int, most: int, length: int) -> NDArray[np.int32]:
    """One row for each contributor: random, extreme, all the same, or alone among the others."""
    count = draw(st.one_of(st.integers(1, most), st.sampled_from((1, 2, most - 1, most))))
    m = largest_value(bits)
    rng = np.random.default_rng(draw(seeds))
    values = rng.integers(-m, m + 1, (count, length))
    one = np.resize(draw(st.lists(st.integers(-m, m), min_size=1, max_size=length)), length)
    match draw(
        st.sampled_from(("random", "extremes", "alike", "largest", "least", "zigzag", "alone"))
    ):
        case "extremes":
            values = np.where(values < 0, -m, m)
        case "alike":
            values[:] = one
        case "largest":
            values[:] = m
        case "least":
            values[:] = -m
        case "zigzag":
            values[:] = m
            values[::2, ::2] = values[1::2, 1::2] = -m
        case "alone":
            values[:] = draw(st.sampled_from((-m, 0, m)))
            values[draw(st.integers(0, count - 1))] = one
    return values.astype(np.int32)


def added(values: NDArray[np.int32]) -> list[int]:
    """One Python integer after the other."""
    return [sum(column) for column in zip(*values.tolist(), strict=True)]


@each_suite
@each_width
@given(data=st.data())
@settings(max_examples=25)
def test_any_vectors_of_any_number_of_contributors(
    name: str, bits: int, data: st.DataObject
) -> None:
    values = data.draw(vectors(bits, MOST[bits], D))
    assert small_crowd(name, bits).sum(values) == added(values)


@each_suite
@each_width
@pytest.mark.parametrize("count", [2, 3, 64, None])
@pytest.mark.parametrize("sign", [1, -1])
def test_the_sum_wraps_around_and_is_exact(
    name: str, bits: int, count: int | None, sign: int
) -> None:
    """Once around for every two contributors: what stands in a body is uniform."""
    all_of_it = small_crowd(name, bits)
    count = MOST[bits] if count is None else count
    modulus = 2**64 if name == "hybrid" else all_of_it.suite.n
    columns = zip(*(residues(name, body) for body in all_of_it.masks[:count]), strict=True)
    rounds = [sum(column) // modulus for column in columns]
    assert max(rounds) > 0
    assert min(rounds) >= count // 3 - 1
    values = np.full((count, D), sign * largest_value(bits), np.int32)
    assert all_of_it.sum(values) == [sign * count * largest_value(bits)] * D


def residues(name: str, body: Body) -> list[int]:
    words: list[int] = body.tolist()
    if name == "hybrid":
        return words
    return [low | high << 64 for low, high in zip(words[::2], words[1::2], strict=True)]


@each_width
@given(data=st.data())
@settings(max_examples=5)
def test_the_same_in_the_lattice_of_production(bits: int, data: st.DataObject) -> None:
    """The second polynomial is cut after its first coefficient."""
    length = (4097 - 32) * {16: 2, 8: 3}[bits]
    values = data.draw(vectors(bits, 12, length))
    assert crowd("hybrid", bits, length, 12, PRODUCTION).sum(values) == added(values)


updates = st.lists(
    st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=3, max_size=3),
    min_size=1,
    max_size=40,
)


@each_suite
@each_width
@given(updates=updates, limits=st.tuples(st.floats(0.001, 10), st.floats(0.001, 100)), seed=seeds)
@settings(max_examples=15)
def test_clipped_updates_come_back_as_their_mean(
    name: str, bits: int, updates: Sequence[Sequence[float]], limits: tuple[float, float], seed: int
) -> None:
    """Exactly the sum of what was rounded, and within one step the mean of what was clipped."""
    clip, bound = limits
    rng = np.random.default_rng(seed)
    kept = [clip_norm(np.array(update, np.float32), bound) for update in updates]
    rounded = [quantise(update, clip, bits, rng) for update, _ in kept]
    masked = [
        contribution(update, clipped=was) for update, (_, was) in zip(rounded, kept, strict=True)
    ]
    all_of_it = crowd(name, bits, n_values(3), 40, SMALL)
    total = np.array(all_of_it.sum(np.array(masked)), np.int64)
    read = read_sum(total, len(updates), bits)
    assert read.update.tolist() == added(np.array(rounded))
    assert read.clipped == sum(was for _, was in kept)
    mean = np.mean([np.clip(update.astype(np.float64), -clip, clip) for update, _ in kept], 0)
    step = clip / largest_value(bits)
    assert abs(dequantise(read.update, clip, bits, len(updates)) - mean).max() <= step * (1 + 1e-9)
