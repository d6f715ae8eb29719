import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedring.shared.encryption import packing
from fedring.shared.encryption.parameters import LAYOUTS
from fedring.shared.errors import SumError
from fedring.shared.numbers import SumVector, largest_value

bits = st.sampled_from((8, 16))
seeds = st.integers(0, 2**32 - 1)
MODULUS = (1 << 512) - 569
DIGIT_BITS = 12


@given(bits, st.integers(1, 40), st.integers(1, 6), seeds)
def test_packed_vectors_add_up_under_noise(
    bits: int, length: int, n_contributors: int, seed: int
) -> None:
    layout = LAYOUTS[bits]
    rng = np.random.default_rng(seed)
    largest = largest_value(bits)
    vectors = rng.integers(-largest, largest + 1, (n_contributors, length)).astype(np.int32)
    words = rng.integers(0, 1 << 64, packing.coefficients(length, layout), np.uint64)
    start = words.copy()
    for vector in vectors:
        packing.add_values(words, vector, layout)
    half = 1 << (layout.noise_bits - 1)
    noise = rng.integers(-half, half, len(words))
    carried, found = packing.split_noise(words - start + noise.view(np.uint64), layout)
    assert (found == noise).all()
    values = packing.read_values(carried, layout)
    assert (values[:length] == vectors.sum(axis=0)).all()
    assert not values[length:].any()


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("signs", [(1, 1, 1), (-1, -1, -1), (1, -1, 1), (-1, 1, -1)])
def test_the_largest_sums_do_not_overflow(bits: int, signs: tuple[int, int, int]) -> None:
    layout = LAYOUTS[bits]
    extreme = np.array(signs[: layout.slots], np.int32) * largest_value(bits)
    words = np.zeros(1, np.uint64)
    for _ in range(layout.max_contributors):
        packing.add_values(words, extreme.astype(np.int32), layout)
    carried, noise = packing.split_noise(words, layout)
    assert packing.read_values(carried, layout).tolist() == [
        layout.max_contributors * int(value) for value in extreme
    ]
    assert noise.tolist() == [0]


@pytest.mark.parametrize("bits", [8, 16])
def test_the_layouts_fill_a_coefficient(bits: int) -> None:
    layout = LAYOUTS[bits]
    assert layout.noise_bits + layout.slots * layout.slot_bits == 64
    assert layout.max_contributors * largest_value(bits) < 1 << (layout.slot_bits - 1)


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("more", [-1, 0, 1, 7])
def test_blocks_do_not_show(bits: int, more: int) -> None:
    layout = LAYOUTS[bits]
    values = np.arange(2 * layout.slots * packing.BLOCK + more, dtype=np.int32) % 255 - 127
    words = np.zeros(packing.coefficients(len(values), layout), np.uint64)
    packing.add_values(words, values, layout)
    carried, _ = packing.split_noise(words, layout)
    assert (packing.read_values(carried, layout)[: len(values)] == values).all()


digits = st.lists(st.integers(-2048 // 4, 2047 // 4), min_size=1, max_size=100)


def packed(values: SumVector) -> list[int]:
    return packing.pack_digits(values, MODULUS, DIGIT_BITS)


@given(digits, seeds)
def test_packed_digits_add_up_modulo_n(values: list[int], seed: int) -> None:
    first = np.array(values, np.int64)
    second = np.random.default_rng(seed).permutation(first)
    plaintexts = [(a + b) % MODULUS for a, b in zip(packed(first), packed(second), strict=True)]
    assert len(plaintexts) == -(-len(values) // 42)
    total = packing.unpack_digits(plaintexts, len(values), MODULUS, DIGIT_BITS)
    assert (total == first + second).all()


@pytest.mark.parametrize(("modulus_bits", "expected"), [(3072, 255), (2048, 170), (512, 42)])
def test_digits_follow_the_key(modulus_bits: int, expected: int) -> None:
    assert packing.digits_per_plaintext(modulus_bits, DIGIT_BITS) == expected


@pytest.mark.parametrize("extreme", [-2048, 2047])
def test_extreme_digits(extreme: int) -> None:
    values = np.full(42, extreme, np.int64)
    assert (packing.unpack_digits(packed(values), 42, MODULUS, DIGIT_BITS) == values).all()


@pytest.mark.parametrize(
    ("plaintext", "reason"),
    [
        (1 << (42 * DIGIT_BITS), "above the top digit"),
        (MODULUS // 2, "above the top digit"),
        (MODULUS - (1 << (42 * DIGIT_BITS)), "above the top digit"),
        (1 << (40 * DIGIT_BITS), "behind the last"),
    ],
)
def test_what_is_no_sum_of_digits(plaintext: int, reason: str) -> None:
    with pytest.raises(SumError, match=reason) as caught:
        packing.unpack_digits([plaintext], 40, MODULUS, DIGIT_BITS)
    assert caught.value.check == "key range"
