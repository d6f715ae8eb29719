"""Rounding errors of this machine's FFT, beside the bounds: `scripts/estimate --measure`.

A limb of fewer bits rounds in the very same places, at a smaller scale: a power of two does not
change a rounding. So errors are looked at where they are large enough to be seen as integers, with
a limb of `WIDTH` bits.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from fedring.lab.estimates.rounding import product_error
from fedring.shared.encryption.lattice import Ring, exact_product
from fedring.shared.encryption.streams import Words
from fedring.shared.numbers import SumVector

WIDTH = 40
LARGEST_LIMB = (1 << (WIDTH - 1)) - 1
FREQUENCIES = (1, 5, 1023)


def patterns(dimension: int, largest: int) -> Mapping[str, SumVector]:
    """Polynomials whose coefficients are all +largest or -largest, chosen to hurt.

    Two alike add up to the largest coefficient there is; two of one frequency to the largest
    value within the transform.
    """
    places = np.arange(dimension)
    chosen = {
        "alike": places >= 0,
        "alternating": places % 2 == 0,
        "halves": places < dimension // 2,
        "random": np.random.default_rng(largest).integers(0, 2, dimension) == 1,
    }
    for frequency in FREQUENCIES:
        turns = (2 * frequency + 1) * places / (2 * dimension)
        chosen[f"frequency {frequency}"] = np.cos(2 * np.pi * turns) >= 0
    return {name: np.where(signs, largest, -largest) for name, signs in chosen.items()}


def words(coefficients: SumVector) -> Words:
    """Signed coefficients modulo 2**64: uint64 of the same shape."""
    return coefficients.view(np.uint64)


def errors(ring: Ring, limb: SumVector, key: SumVector) -> SumVector:
    """How far each coefficient of limb * key is off the exact product: int64, shape (N,)."""
    product = ring.product(words(limb).reshape(1, -1), ring.transform(key))[0]
    off: SumVector = np.subtract(product, exact_product(words(limb), key)).view(np.int64)
    return off


def worst_error(ring: Ring, largest_key: int) -> int:
    """The largest error over all pairs of patterns, for a limb of `WIDTH` bits."""
    limbs = patterns(ring.dimension, LARGEST_LIMB)
    keys = patterns(ring.dimension, largest_key)
    return max(
        int(abs(errors(ring, limb, key)).max()) for limb in limbs.values() for key in keys.values()
    )


def usual_error(ring: Ring, key_sigma: float, n_products: int = 20) -> float:
    """Root mean square of the error for uniform limbs of `WIDTH` bits and keys like sums of keys.

    Args:
        key_sigma: standard deviation of a coefficient; 104 and more, or there is nothing to see.
        n_products: how many are looked at.
    """
    rng = np.random.default_rng(1)
    seen = []
    for _ in range(n_products):
        key = np.rint(rng.normal(0, key_sigma, ring.dimension)).astype(np.int64)
        limb = rng.integers(-LARGEST_LIMB - 1, LARGEST_LIMB + 1, ring.dimension)
        seen.append(errors(ring, limb, key))
    variance = float(np.mean(np.square(np.concatenate(seen), dtype=np.float64)))
    return float(np.sqrt(variance - 1 / 12))  # less the rounding to integers


def bound(dimension: int, largest_key: int) -> float:
    """What `worst_error` cannot exceed: errors are seen after rounding to integers."""
    return product_error(dimension, WIDTH, largest_key) + 0.5
