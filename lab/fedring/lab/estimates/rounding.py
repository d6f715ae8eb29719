"""How wrong a product by floating-point FFT can get: the bound of docs/encryption.md, in figures.

The product of a limb x and a key s in Z[X] / (X**N + 1), as lattice.py computes it: N real
coefficients fold into H = N / 2 complex ones, each is turned by a constant ("twist"), an FFT of H
points, the products of two such, an inverse FFT, the twists taken back. With

    u     2**-53, the unit roundoff of IEEE 754 binary64, rounding to nearest
    add   a complex sum is off by u, relative to itself
    mul   a complex product is off by sqrt(5) u (Brent, Percival, Zimmermann, Math. Comp. 76, 2007;
          2 u with fused multiply-add: Jeannerod, Kornerup, Louvet, Muller, Math. Comp. 86, 2017)
    tau   a constant (root of unity) is off by tau, relative to itself
    n     log2 H: each output of an FFT comes from an input through at most n additions and at most
          n multiplications by constants

every coefficient is off by E |x| |s| at most, Euclidean norms, with

    1 + E = (1 + u)**(3n) (1 + g)**(3n + 3) (1 + sqrt(5) u),   1 + g = (1 + sqrt(5) u) (1 + tau).

It has the shape of Percival's bound for cyclic convolutions (Math. Comp. 72, 2003).
"""

from __future__ import annotations

from math import expm1, log1p, log2, sqrt

UNIT_ROUNDOFF = 2.0**-53

CONSTANT_ERROR = 9 * UNIT_ROUNDOFF
"""tau. numpy 2 multiplies two entries of tables, of angles up to pi / 4: 1.6 u for the angle and
1.4 u for sine and cosine right to one unit in the last place, each, and sqrt(5) u to multiply."""


def relative_error(dimension: int, constant_error: float = CONSTANT_ERROR) -> float:
    """E, for a polynomial of so many coefficients."""
    levels = log2(dimension // 2)
    multiplication = log1p(sqrt(5) * UNIT_ROUNDOFF)
    return expm1(
        3 * levels * log1p(UNIT_ROUNDOFF)
        + 3 * (levels + 1) * (multiplication + log1p(constant_error))
        + multiplication
    )


def product_error(
    dimension: int, limb_bits: int, largest_key: int, constant_error: float = CONSTANT_ERROR
) -> float:
    """Largest error of a coefficient before it is rounded to an integer.

    Args:
        dimension: N.
        limb_bits: width of a signed limb of the public polynomial: magnitude 2**(limb_bits - 1).
        largest_key: magnitude of the key's coefficients.
        constant_error: tau.
    """
    limb_norm = 2.0 ** (limb_bits - 1) * sqrt(dimension)
    key_norm = largest_key * sqrt(dimension)
    return relative_error(dimension, constant_error) * limb_norm * key_norm


def tolerated_constant_error(dimension: int, limb_bits: int, largest_key: int) -> float:
    """The tau at which `product_error` reaches one half, in units of u."""
    low, high = 0.0, 2.0**20
    while high - low > 1e-3:
        middle = (low + high) / 2
        reached = product_error(dimension, limb_bits, largest_key, middle * UNIT_ROUNDOFF) < 0.5
        low, high = (middle, high) if reached else (low, middle)
    return low
