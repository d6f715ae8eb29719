"""Small signed integers in large ones: values in coefficients, key values in plaintexts.

Both use balanced digits (of radix B: the B whole numbers from -(B // 2) on), so that packing is
linear: the sum of packed vectors is the packed sum, with no offsets to take away.
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


@functools.cache
def digits_per_plaintext(modulus_bits: int, radix: int) -> int:
    """Digits that fit a plaintext modulo n, with a sign and room to spare.

    The largest m with radix**m <= 2**(modulus_bits - 4): 274 of radix 2347 at 3072 bits.
    """
    limit, span, count = 1 << (modulus_bits - 4), radix, 0
    while span <= limit:
        span *= radix
        count += 1
    return count


def pack_digits(digits: SumVector, modulus: int, radix: int) -> list[int]:
    """Digits, lowest first, as plaintexts modulo n; a negative total is its upper half.

    Args:
        digits: int64, shape (k,), each within [-(radix // 2), (radix - 1) // 2].
        modulus: n.
        radix: 2 or more.

    Returns:
        ceil(k / digits_per_plaintext) integers in [0, n).

    Raises:
        ValueError: a digit is outside that range.
    """
    if digits.min() < -(radix // 2) or digits.max() > (radix - 1) // 2:
        raise ValueError(f"digits from {digits.min()} to {digits.max()} in radix {radix}")
    per_plaintext = digits_per_plaintext(modulus.bit_length(), radix)
    places = _places(radix)
    shape = _limbs(len(digits), per_plaintext, len(places))
    rows = np.zeros((shape[0], per_plaintext), np.int64)
    rows.reshape(-1)[: len(digits)] = digits
    spread = np.zeros((shape[0], shape[1] * shape[2]), np.int64)
    spread[:, :per_plaintext] = rows
    base = gmpy2.mpz(radix ** len(places))
    plaintexts = []
    for limbs in (spread.reshape(shape) @ places).tolist():
        total = gmpy2.mpz(0)
        for limb in reversed(limbs):
            total = total * base + limb
        plaintexts.append(int(total % modulus))
    return plaintexts


def unpack_digits(
    plaintexts: Sequence[int],
    count: int,
    modulus: int,
    radix: int,
    *,
    check: SumCheck = "key range",
) -> SumVector:
    """The digits of a sum of packed digits.

    Args:
        plaintexts: integers in [0, n).
        count: digits to read, k.
        modulus: n.
        radix: that of `pack_digits`.
        check: what an error is called.

    Returns:
        int64, shape (k,), each within [-(radix // 2), (radix - 1) // 2].

    Raises:
        SumError: a plaintext is no number of so many digits, or a digit never used is not 0. So it
            looks when a release is bad or missing: uniform modulo n, a plaintext has so few digits
            with a probability of 1/8 or less.
    """
    per_plaintext = digits_per_plaintext(modulus.bit_length(), radix)
    places = _places(radix)
    shape = _limbs(len(plaintexts) * per_plaintext, per_plaintext, len(places))
    base = gmpy2.mpz(radix ** len(places))
    span, lowest = gmpy2.mpz(radix) ** per_plaintext, radix // 2
    offset = lowest * (span - 1) // (radix - 1)  # makes all digits positive
    limbs = []
    for row, plaintext in enumerate(plaintexts):
        total = (plaintext if plaintext <= modulus // 2 else plaintext - modulus) + offset
        if not 0 <= total < span:
            raise SumError(check, f"plaintext {row} reaches above the top digit")
        for _ in range(shape[1]):
            total, limb = gmpy2.f_divmod(total, base)
            limbs.append(int(limb))
    rest = np.array(limbs, np.int64).reshape(shape[:2])
    lifted = np.empty(shape, np.int64)
    for place in range(len(places)):
        rest, lifted[:, :, place] = np.divmod(rest, radix)
    digits = lifted.reshape(len(plaintexts), -1)[:, :per_plaintext].reshape(-1) - lowest
    if digits[count:].any():
        raise SumError(check, "digits behind the last one")
    return digits[:count]


@functools.cache
def _places(radix: int) -> SumVector:
    """1, radix, radix**2 ..: as many digits as numpy handles at once, in a limb of 62 bits."""
    count = digits_per_plaintext(62 + 4, radix)
    return np.array([radix**place for place in range(count)], np.int64)


def _limbs(n_digits: int, per_plaintext: int, per_limb: int) -> tuple[int, int, int]:
    """Plaintexts, limbs of each, digits of each limb; the top limb need not be full."""
    return -(-n_digits // per_plaintext), -(-per_plaintext // per_limb), per_limb
