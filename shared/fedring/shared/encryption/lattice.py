"""Arithmetic in R = Z_q[X] / (X**N + 1), q = 2**64, with numpy's float64 FFT.

Coefficients are uint64 and wrap around by themselves, so adding two bodies is `a += b`.

A product of a uniform polynomial `a` and a small key `s` goes through complex FFTs of N/2 points
(X**N + 1 divides into X**(N/2) - i and its conjugate). float64 holds 53 bits, a coefficient of
the product up to 87: `a` is split into limbs of 22, 21 and 21 bits, signed, lowest first. Every
limb's product is exact, with one key and with a sum of 1,024 keys, whose coefficients are 1,037 at
most: its error is 0.44 at most before it is rounded. So a body is the same on every machine.
The bound is proven in docs/encryption.md, section 7, and computed by `scripts/estimate`; and every
process compares products with exact integer ones before it uses its FFT.

Not protected: secrets against whoever shares the processor. numpy promises no constant time, and
freed temporaries are not overwritten.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import TypeAlias

import gmpy2
import numpy as np
from numpy.typing import NDArray

from fedring.shared.encryption.streams import Stream, Words
from fedring.shared.numbers import SumVector

Transform: TypeAlias = NDArray[np.complex128]

Split: TypeAlias = tuple[int, ...]
"""Widths of limbs in bits, lowest first, 64 in all."""

SPLIT: Split = (22, 21, 21)


class Ring:
    """R for one N; see `ring`.

    Args:
        dimension: N, a power of two, 8 or more.
        split: of the polynomials.
    """

    def __init__(self, dimension: int, split: Split = SPLIT) -> None:
        self.dimension = dimension
        self.split = split
        half = dimension // 2
        self._twist: Transform = np.exp(1j * np.pi * np.arange(half) / dimension)
        self._untwist: Transform = self._twist.conj()

    def transform(self, key: SumVector) -> Transform:
        """A key, or a sum of keys, ready for products. As secret as the key.

        Args:
            key: int64, shape (N,), small: |value| <= 2,048.

        Returns:
            complex128, shape (N / 2,).
        """
        return self._forward(key)

    def product(self, polynomials: Words, transform: Transform) -> Words:
        """Each polynomial times the key, modulo q.

        Args:
            polynomials: uint64, shape (k, N).
            transform: of the key; the product is exact for coefficients up to 1,037.

        Returns:
            uint64, shape (k, N).

        Source: docs/encryption.md, section 7, for the bound and its proof.
        """
        limbs = np.empty((len(self.split), *polynomials.shape), np.int64)
        rest = polynomials.view(np.int64)
        for limb, width in zip(limbs, self.split, strict=True):
            np.left_shift(rest, 64 - width, out=limb)
            np.right_shift(limb, 64 - width, out=limb)
            rest = rest - limb >> width
        transformed = self._forward(limbs)
        transformed *= transform
        products = self._backward(transformed)
        result: Words = products[-1].view(np.uint64)
        for product, width in zip(products[-2::-1], self.split[-2::-1], strict=True):
            result <<= np.uint64(width)
            result += product.view(np.uint64)
        return result

    def _forward(self, polynomials: SumVector) -> Transform:
        half = self.dimension // 2
        folded = np.empty((*polynomials.shape[:-1], half), np.complex128)
        folded.real = polynomials[..., :half]
        folded.imag = polynomials[..., half:]
        folded *= self._twist
        transformed: Transform = np.fft.fft(folded, axis=-1)
        return transformed

    def _backward(self, transformed: Transform) -> SumVector:
        half = self.dimension // 2
        folded = np.fft.ifft(transformed, axis=-1)
        folded *= self._untwist
        numbers = folded.view(np.float64)
        np.rint(numbers, out=numbers)
        polynomials = np.empty((*folded.shape[:-1], self.dimension), np.int64)
        polynomials[..., :half] = folded.real
        polynomials[..., half:] = folded.imag
        return polynomials

    def check(self) -> None:
        """Compare some products with exact ones.

        Raises:
            ArithmeticError: this machine's FFT is worse than IEEE 754 makes it; encrypting would
                destroy sums.
        """
        rng = np.random.default_rng(self.dimension)
        # as wide as a sum of 1,024 keys gets; at random, and where all errors add up
        likely = np.clip(np.rint(rng.normal(0, 104, self.dimension)), -1037, 1037).astype(np.int64)
        polynomials = rng.integers(0, 1 << 64, (2, self.dimension), np.uint64)
        polynomials[1] = (1 << 21) - 1
        for key in (likely, np.full(self.dimension, 1037)):
            products = self.product(polynomials, self.transform(key))
            exact = [exact_product(polynomial, key) for polynomial in polynomials]
            if not np.array_equal(products, exact):
                raise ArithmeticError(
                    "numpy's FFT is too inexact on this machine for lattice products"
                )


@lru_cache(maxsize=4)
def ring(dimension: int) -> Ring:
    """The ring for one N, made and checked once a process; raises as `Ring.check` does."""
    made = Ring(dimension)
    made.check()
    return made


def exact_product(polynomial: Words, key: SumVector) -> Words:
    """polynomial * key in R by one big integer product: slow, and right beyond doubt.

    Kronecker substitution: X = 2**96 leaves each coefficient, N * 2**64 * 2**11 at most, room.

    Args:
        polynomial: uint64, shape (N,), N <= 2**21.
        key: int64, shape (N,), |value| < 2**11.

    Returns:
        uint64, shape (N,).
    """
    length = len(polynomial)

    def substituted(coefficients: Words) -> int:
        slots = np.zeros((length, 3), np.dtype("<u4"))
        slots[:, 0] = coefficients & np.uint64(0xFFFFFFFF)
        slots[:, 1] = coefficients >> np.uint64(32)
        value: int = gmpy2.mpz(int.from_bytes(slots.tobytes(), "little"))
        return value

    def folded(value: int) -> Words:
        slots = np.frombuffer(int(value).to_bytes(24 * length, "little"), np.dtype("<u4"))
        low = slots.reshape(-1, 3)[:, :2].astype(np.uint64)
        full = low[:, 0] | low[:, 1] << np.uint64(32)
        wrapped: Words = np.subtract(full[:length], full[length:])  # X**N = -1
        return wrapped

    times = substituted(polynomial)
    positive = substituted(np.maximum(key, 0).astype(np.uint64))
    negative = substituted(np.maximum(-key, 0).astype(np.uint64))
    product: Words = np.subtract(folded(times * positive), folded(times * negative))
    return product


def expansion_seed(announce_digest: bytes) -> bytes:
    """The seed of the public polynomials of a round: a hash, never a seed that somebody chose.

    Args:
        announce_digest: 32 bytes; whoever made the announce cannot steer the polynomials.

    Returns:
        32 bytes: SHA-256 (FIPS 180-4) of a name and the digest.
    """
    return hashlib.sha256(b"fedring/1 lattice\0" + announce_digest).digest()


def expand(seed: bytes, first: int, count: int, dimension: int) -> Words:
    """Uniform public polynomials: number j is the keystream number j of the seed.

    Args:
        seed: 32 bytes, see `expansion_seed`.
        first: number of the first, 0 or more.
        count: how many, 1 or more.
        dimension: N.

    Returns:
        uint64, shape (count, N).
    """
    rows = [Stream(seed, number).words(dimension) for number in range(first, first + count)]
    return np.stack(rows)


def centred_binomial(stream: Stream, count: int, eta: int) -> SumVector:
    """Small secret values: int64, shape (count,), in [-eta, eta], variance eta / 2.

    The number of ones among 2 * eta uniform bits, less eta; takes one word of the stream each.

    Args:
        stream: consumed by `count` words.
        count: how many, 0 or more.
        eta: 1..32.

    Source: Alkim, Ducas, Poeppelmann, Schwabe, "Post-quantum key exchange - a new hope", 2016, for
        noise of this law; why 21, docs/encryption.md, section 5.
    """
    values = _ones(stream.words(count) >> np.uint64(64 - 2 * eta)).astype(np.int64)
    values -= eta
    return values


def _ones(words: Words) -> NDArray[np.uint8] | Words:
    """Bits set in each word; numpy counts them from 2.0 on."""
    return np.bitwise_count(words) if hasattr(np, "bitwise_count") else _ones_in_fields(words)


def _ones_in_fields(words: Words) -> Words:
    """Bits set in each word, added up in ever wider fields."""
    threes = np.uint64(0x3333333333333333)
    fields: Words = words - (words >> np.uint64(1) & np.uint64(0x5555555555555555))
    fields = (fields & threes) + (fields >> np.uint64(2) & threes)
    fields = fields + (fields >> np.uint64(4)) & np.uint64(0x0F0F0F0F0F0F0F0F)
    ones: Words = fields * np.uint64(0x0101010101010101) >> np.uint64(56)
    return ones
