"""Small signed integers in large ones: values in coefficients, key values in plaintexts.

Both use balanced digits (a digit of b bits is within [-2**(b - 1), 2**(b - 1))), so that packing
is linear: the sum of packed vectors is the packed sum, with no offsets to take away.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Sequence

import gmpy2
import numpy as np

from fedring.shared.encryption.parameters import Layout
from fedring.shared.encryption.streams import Words
from fedring.shared.errors import SumCheck, SumError
from fedring.shared.numbers import IntVector, SumVector

BLOCK = 3 << 12
"""Coefficients handled at a time: 96 KiB stay in a cache near the processor, and below the size
from which the C library asks the system for fresh pages each time."""


def coefficients(n_values: int, layout: Layout) -> int:
    """How many coefficients hold so many values."""
    return -(-n_values // layout.slots)


def add_values(words: Words, values: IntVector, layout: Layout) -> None:
    """Add packed values to coefficients, in place.

    Args:
        words: uint64, shape (coefficients(len(values)) or more,).
        values: int32, shape (d,), each of `layout.bits` bits.
    """
    in_pairs = 0
    if layout.slots == 2 and sys.byteorder == "little":
        in_pairs = len(values) // 2
        _add_pairs(words[:in_pairs], values[: 2 * in_pairs], layout)
    for start in range(in_pairs, coefficients(len(values), layout), BLOCK):
        block = values[start * layout.slots : (start + BLOCK) * layout.slots]
        for slot in range(layout.slots):
            shifted = block[slot :: layout.slots].astype(np.int64)
            shifted <<= layout.noise_bits + slot * layout.slot_bits
            words[start : start + len(shifted)] += shifted.view(np.uint64)


def _add_pairs(words: Words, values: IntVector, layout: Layout) -> None:
    """Both slots of a coefficient at once: two 32-bit values are 64 bits already.

    One factor shifts the lower half to its place, the other what the upper half lacks. Then the
    lower half's sign is extended into the upper one: (x ^ sign) - sign.
    """
    factors = _pair_factors(layout)
    sign = np.uint64(1 << 31)
    scratch = np.empty(2 * BLOCK, np.int32)
    for start in range(0, len(words), BLOCK):
        block = values[2 * start : 2 * (start + BLOCK)]
        scaled = scratch[: len(block)]
        np.multiply(block, factors[: len(block)], out=scaled)
        packed = scaled.view(np.uint64)
        packed ^= sign
        packed -= sign
        words[start : start + BLOCK] += packed


@functools.cache
def _pair_factors(layout: Layout) -> IntVector:
    lower = 1 << layout.noise_bits
    upper = 1 << (layout.noise_bits + layout.slot_bits - 32)
    return np.tile(np.array([lower, upper], np.int32), BLOCK)


def split_noise(words: Words, layout: Layout) -> tuple[SumVector, SumVector]:
    """Coefficients, unmasked, into what they carry and the noise below it.

    Args:
        words: uint64, shape (k,): noise + 2**noise_bits * carried, modulo 2**64.

    Returns:
        int64, shape (k,): carried, packed slots; and the noise, within [-2**(f - 1), 2**(f - 1)).
    """
    noise = _lowest_digits(words.view(np.int64), layout.noise_bits)
    carried = words.view(np.int64) - noise >> layout.noise_bits
    return carried, noise


def read_values(carried: SumVector, layout: Layout) -> SumVector:
    """Packed slots as values: int64, shape (k,) -> int64, shape (k * slots,)."""
    values = np.empty((len(carried), layout.slots), np.int64)
    for slot in range(layout.slots):
        values[:, slot] = _lowest_digits(carried, layout.slot_bits)
        carried = carried - values[:, slot] >> layout.slot_bits
    return values.reshape(-1)


def _lowest_digits(numbers: SumVector, bits: int) -> SumVector:
    return numbers << (64 - bits) >> (64 - bits)


def digits_per_plaintext(modulus_bits: int, digit_bits: int) -> int:
    """Digits that fit a plaintext modulo n, with a sign and room to spare: 255 at 3072 bits."""
    return (modulus_bits - 4) // digit_bits


def pack_digits(digits: SumVector, modulus: int, digit_bits: int) -> list[int]:
    """Digits, lowest first, as plaintexts modulo n; a negative total is its upper half.

    Args:
        digits: int64, shape (k,), each within [-2**(digit_bits - 1), 2**(digit_bits - 1)).
        modulus: n.

    Returns:
        ceil(k / digits_per_plaintext) integers in [0, n).
    """
    per_plaintext = digits_per_plaintext(modulus.bit_length(), digit_bits)
    half = 1 << (digit_bits - 1)
    offset = gmpy2.pack([half] * per_plaintext, digit_bits)
    rows = np.full((-(-len(digits) // per_plaintext), per_plaintext), half, np.int64)
    rows.reshape(-1)[: len(digits)] += digits
    return [int((gmpy2.pack(row, digit_bits) - offset) % modulus) for row in rows.tolist()]


def unpack_digits(
    plaintexts: Sequence[int],
    count: int,
    modulus: int,
    digit_bits: int,
    *,
    check: SumCheck = "key range",
) -> SumVector:
    """The digits of a sum of packed digits.

    Args:
        plaintexts: integers in [0, n).
        count: digits to read, k.
        modulus: n.
        check: what an error is called.

    Returns:
        int64, shape (k,).

    Raises:
        SumError: bits stand above the top digit, or in a digit never used. So it looks when a
            release is bad or missing, except with negligible probability.
    """
    per_plaintext = digits_per_plaintext(modulus.bit_length(), digit_bits)
    half = 1 << (digit_bits - 1)
    offset = gmpy2.pack([half] * per_plaintext, digit_bits)
    digits = np.empty((len(plaintexts), per_plaintext), np.int64)
    for row, plaintext in enumerate(plaintexts):
        total = (plaintext if plaintext <= modulus // 2 else plaintext - modulus) + offset
        above, within = gmpy2.f_divmod_2exp(gmpy2.mpz(total), per_plaintext * digit_bits)
        if above:
            raise SumError(check, f"bits above the top digit in plaintext {row}")
        lifted = gmpy2.unpack(within, digit_bits)
        digits[row] = -half
        digits[row, : len(lifted)] += np.array(lifted, np.int64)
    flat = digits.reshape(-1)
    if flat[count:].any():
        raise SumError(check, "digits behind the last one")
    return flat[:count]
