"""Products by floating-point FFT: exact where docs/encryption.md proves it, off by no more else."""

from __future__ import annotations

import os
from collections.abc import Iterator
from fractions import Fraction
from functools import cache
from itertools import product

import gmpy2
import numpy as np
import pytest
from numpy.typing import NDArray

from fedring.lab.estimates import measuring, rounding
from fedring.lab.estimates.measuring import errors, patterns, words
from fedring.lab.estimates.tables import LARGEST_SUM, TWO_LIMBS
from fedring.shared.encryption import generate_key, lattice, packing, suite
from fedring.shared.encryption.lattice import SPLIT, Ring, Split, exact_product
from fedring.shared.encryption.parameters import LAYOUTS, PRODUCTION
from fedring.shared.errors import SumError
from fedring.shared.numbers import SumVector

N = PRODUCTION.dimension
ONE_KEY = PRODUCTION.eta

Complex = NDArray[np.complex128]


def ends(bits: int, signs: SumVector) -> SumVector:
    """Signed limbs at the upper end where a sign is +, at the lower end where it is -."""
    return np.where(signs > 0, (1 << (bits - 1)) - 1, -(1 << (bits - 1)))


def extremes(split: Split) -> Iterator[SumVector]:
    """Public polynomials with every limb at its ends, in patterns made to hurt."""
    for pattern, turns in product(patterns(N, 1).values(), product((1, -1), repeat=len(split))):
        polynomial = np.zeros(N, np.int64)
        for width, turn in zip(reversed(split), turns, strict=True):
            polynomial = (polynomial << width) + ends(width, turn * pattern)
        yield polynomial


@cache
def roots() -> tuple[Complex, Complex]:
    """exp(i pi k / N) for k below 2N, to the nearest complex number; and what that leaves out."""
    with gmpy2.context(gmpy2.get_context(), precision=120):
        angles = [gmpy2.const_pi() * k / N for k in range(2 * N)]
        exact = [(gmpy2.cos(angle), gmpy2.sin(angle)) for angle in angles]
        nearest = [(float(real), float(imag)) for real, imag in exact]
        rest = [
            (float(real - near_real), float(imag - near_imag))
            for (real, imag), (near_real, near_imag) in zip(exact, nearest, strict=True)
        ]
    return np.array(nearest).view(np.complex128)[:, 0], np.array(rest).view(np.complex128)[:, 0]


def test_the_bound_is_what_the_page_derives() -> None:
    # (1 + u)**(3n) (1 + g)**(3n + 3) (1 + sqrt(5) u) for n = 2, sqrt(5) from above
    root = Fraction(2236067977499790, 10**15)
    u, tau = Fraction(rounding.UNIT_ROUNDOFF), Fraction(rounding.CONSTANT_ERROR)
    exact = (1 + u) ** 6 * ((1 + root * u) * (1 + tau)) ** 9 * (1 + root * u) - 1
    assert rounding.relative_error(8) == pytest.approx(float(exact), rel=1e-12)
    # |x| |s| = 2**23 sqrt(8) * 21 sqrt(8)
    assert rounding.product_error(8, 24, 21) == pytest.approx(float(exact) * 2**23 * 21 * 8)


def test_what_must_be_exact_is_proven_to_be() -> None:
    assert sum(SPLIT) == 64
    for width in SPLIT:
        assert rounding.product_error(N, width, LARGEST_SUM) < 0.5
    # and what is converted to int64 fits
    assert 2 ** (max(SPLIT) - 1) * LARGEST_SUM * N < 2**63


@pytest.mark.parametrize("largest", [ONE_KEY, LARGEST_SUM])
def test_errors_stay_below_the_bound(largest: int) -> None:
    seen = measuring.worst_error(Ring(N, TWO_LIMBS), largest)
    assert 0 < seen <= measuring.bound(N, largest)


def test_constants_of_the_transform_are_as_near_as_the_proof_assumes() -> None:
    ring = lattice.ring(N)
    nearest, rest = roots()
    half = np.arange(N // 2)
    for place in range(0, N // 2, 31):
        unit = np.zeros(N, np.int64)
        unit[place] = 1
        # nothing is added to anything: what comes out is constants, multiplied along a path
        path = (place - 4 * place * half) % (2 * N)
        off = abs(ring.transform(unit) - nearest[path] - rest[path])
        assert off.max() < 2 * rounding.CONSTANT_ERROR


@pytest.mark.parametrize("largest", [ONE_KEY, LARGEST_SUM])
def test_keys_and_sums_of_keys_are_multiplied_exactly(largest: int) -> None:
    ring = lattice.ring(N)
    polynomials = [*extremes(SPLIT), np.random.default_rng(5).integers(-(1 << 63), 1 << 63, N)]
    keys = list(patterns(N, largest).values())
    for number, polynomial in enumerate(polynomials):
        assert not errors(ring, polynomial, keys[number % len(keys)]).any()


def test_opening_leaves_the_noise_as_it_is() -> None:
    private_key = generate_key(512, random=os.urandom)
    n, n_values, contributors = private_key.public_key.n, 2 * N, LAYOUTS[16].max_contributors
    summing = suite(
        "hybrid",
        public_key=private_key.public_key,
        announce_digest=bytes(32),
        n_values=n_values,
        bits=16,
    )
    largest = int(PRODUCTION.bound(contributors))
    key = np.full(N, largest)
    packed = packing.pack_digits(key, n, PRODUCTION.key_radix)
    ciphertexts = tuple((1 + n * plaintext) % n**2 for plaintext in packed)
    public = lattice.expand(lattice.expansion_seed(bytes(32)), 0, 2, N)
    mask = np.concatenate([exact_product(polynomial, key) for polynomial in public])
    body = mask[: summing.body_bytes // 8] + np.uint64(largest)

    assert not summing.open(private_key, body, ciphertexts, contributors).any()
    body[7] += np.uint64(1)
    with pytest.raises(SumError, match="noise"):
        summing.open(private_key, body, ciphertexts, contributors)


def radix_two(values: Complex, direction: int) -> Complex:
    """A Fourier transform that halves, one level after the other; numpy's takes 4 or 8 at once.

    Args:
        values: shape (size,), a power of two.
        direction: -1 forward, 1 backward.
    """
    nearest, _ = roots()
    columns = values.reshape(1, -1)
    while columns.shape[1] > 1:
        length = 2 * len(columns)
        even, odd = np.hsplit(columns, 2)
        turns = direction * (2 * N // length) * np.arange(length // 2) % (2 * N)
        odd = odd * nearest[turns, np.newaxis]
        columns = np.concatenate((even + odd, even - odd))
    return columns[:, 0]


def by_radix_two(limb: SumVector, key: SumVector) -> SumVector:
    """limb * key as an integer polynomial, by the second transform."""
    half = N // 2
    twist = roots()[0][:half]
    spectra = [
        radix_two((polynomial[:half] + 1j * polynomial[half:]) * twist, -1)
        for polynomial in (limb, key)
    ]
    back = radix_two(spectra[0] * spectra[1], 1) / half * twist.conj()
    return np.rint(np.concatenate((back.real, back.imag))).astype(np.int64)


@pytest.mark.parametrize("position", range(len(SPLIT)))
def test_a_second_transform_gives_the_same_limbs(position: int) -> None:
    ring = lattice.ring(N)
    offset = sum(ring.split[:position])
    rng = np.random.default_rng(position)
    keys = patterns(N, LARGEST_SUM).values()
    for key, pattern in zip(keys, patterns(N, 1).values(), strict=True):
        for limb in (
            ends(ring.split[position], pattern),
            rng.integers(-1, 2, N) + ends(ring.split[position], pattern) // 2,
        ):
            ours = ring.product(words(limb << offset).reshape(1, -1), ring.transform(key))[0]
            assert (ours == words(by_radix_two(limb, key) << offset)).all()
