from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedring.shared.encryption import packing
from fedring.shared.encryption.parameters import LAYOUTS, PRODUCTION
from fedring.shared.errors import SumCheck, SumError
from fedring.shared.numbers import largest_value

bits = st.sampled_from((8, 16))
seeds = st.integers(0, 2**32 - 1)
MODULUS = (1 << 512) - 569
KEYS = PRODUCTION.key_radix
SLOTS = {radix: packing.digits_per_plaintext(512, radix) for radix in (KEYS, 1 << 27, 1 << 18)}
"""Radix of key digits, of both layouts of suite `paillier` -> digits in 512 bits."""


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


radices = st.sampled_from((*SLOTS, 2, 3, 1 << 12))
moduli = st.sampled_from([(1 << bits) - 1 for bits in (256, 512, 2048, 3072, 4096)])


def slowly(digits: Sequence[int], modulus: int, radix: int) -> list[int]:
    """Packed by the definition."""
    count = 0
    while radix ** (count + 1) <= 2 ** (modulus.bit_length() - 4):
        count += 1
    rows = [digits[start : start + count] for start in range(0, len(digits), count)]
    return [sum(x * radix**place for place, x in enumerate(row)) % modulus for row in rows]


@given(radices, moduli, st.integers(1, 700), seeds)
def test_packing_is_a_sum_of_powers(radix: int, modulus: int, length: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = rng.integers(-(radix // 2), (radix + 1) // 2, length)
    plaintexts = packing.pack_digits(values, modulus, radix)
    assert plaintexts == slowly(values.tolist(), modulus, radix)
    assert (packing.unpack_digits(plaintexts, length, modulus, radix) == values).all()


@given(
    radices,
    st.lists(st.integers(-(KEYS // 2), KEYS // 2), min_size=1, max_size=100),
    st.integers(1, 4),
    seeds,
)
def test_packed_digits_add_up_modulo_n(
    radix: int, sums: list[int], n_pairs: int, seed: int
) -> None:
    """Whatever the summands are, as long as the sum is within the range of a digit."""
    total = np.array(sums, np.int64).clip(-(radix // 2), (radix - 1) // 2)
    rng = np.random.default_rng(seed)
    others = rng.integers(-(radix // 2), (radix + 1) // 2, (n_pairs, len(sums)))
    plaintexts = packing.pack_digits(total, MODULUS, radix)
    for other in others:
        for signed in (other, -other):
            added = slowly(signed.tolist(), MODULUS, radix)
            plaintexts = [(a + b) % MODULUS for a, b in zip(plaintexts, added, strict=True)]
    assert (packing.unpack_digits(plaintexts, len(sums), MODULUS, radix) == total).all()


@pytest.mark.parametrize("sign", [1, -1])
def test_the_widest_sum_of_1024_keys(sign: int) -> None:
    ones, twos = (packing.pack_digits(np.full(64, x), MODULUS, KEYS) for x in (sign, 2 * sign))

    def total(n_twos: int) -> list[int]:
        n_ones = 1024 - n_twos
        return [(n_ones * a + n_twos * b) % MODULUS for a, b in zip(ones, twos, strict=True)]

    assert set(packing.unpack_digits(total(149), 64, MODULUS, KEYS)) == {sign * 1173}
    with pytest.raises(SumError, match="plaintext 0 reaches above the top digit"):
        packing.unpack_digits(total(150), 64, MODULUS, KEYS)


@pytest.mark.parametrize(
    ("modulus_bits", "radix", "expected"),
    [
        (3072, KEYS, 274),
        (2048, KEYS, 182),
        (4096, KEYS, 365),
        (512, KEYS, 45),
        (256, KEYS, 22),
        (3072, 1 << 27, 113),
        (3072, 1 << 18, 170),
        (2048, 1 << 27, 75),
        (220, 1 << 27, 8),
        (219, 1 << 27, 7),
    ],
)
def test_digits_follow_the_key(modulus_bits: int, radix: int, expected: int) -> None:
    assert packing.digits_per_plaintext(modulus_bits, radix) == expected


@pytest.mark.parametrize(
    ("radix", "extreme"),
    [(KEYS, -1173), (KEYS, 1173), (1 << 27, -(1 << 26)), (1 << 27, (1 << 26) - 1)],
)
def test_extreme_digits(radix: int, extreme: int) -> None:
    count = SLOTS[radix]
    values = np.full(count, extreme, np.int64)
    plaintexts = packing.pack_digits(values, MODULUS, radix)
    assert len(plaintexts) == 1
    assert (packing.unpack_digits(plaintexts, count, MODULUS, radix) == values).all()

    values[count // 2] += 1 if extreme > 0 else -1
    with pytest.raises(ValueError, match=f"in radix {radix}"):
        packing.pack_digits(values, MODULUS, radix)
    with pytest.raises(SumError, match="above the top digit"):  # a carry goes all the way up
        packing.unpack_digits(slowly(values.tolist(), MODULUS, radix), count, MODULUS, radix)


@pytest.mark.parametrize("check", ["key range", "plaintext range"])
@pytest.mark.parametrize("radix", SLOTS)
@pytest.mark.parametrize("sign", [1, -1])
def test_what_is_no_sum_of_digits(radix: int, sign: int, check: SumCheck) -> None:
    count = SLOTS[radix]
    for plaintexts, reason in (
        ([0, radix**count], "plaintext 1 reaches above the top digit"),
        ([0, MODULUS // 2], "plaintext 1 reaches above the top digit"),
        ([0, radix ** (count - 2)], "digits behind the last"),
        ([0, radix ** (count - 1)], "digits behind the last"),
    ):
        bad = [sign * plaintext % MODULUS for plaintext in plaintexts]
        with pytest.raises(SumError, match=reason) as caught:
            packing.unpack_digits(bad, 2 * count - 2, MODULUS, radix, check=check)
        assert caught.value.check == check
