"""Laws of small secrets: what a sum of them gives away, and how far a sum strays.

Exact up to rounding: probabilities are counted, not taken from a normal curve.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import comb, lgamma, log, log2, sqrt
from typing import TypeAlias

from attrs import frozen

Law: TypeAlias = Mapping[int, float]
"""Value -> probability."""

TERNARY: Law = {-1: 1 / 3, 0: 1 / 3, 1: 1 / 3}


def centred_binomial(eta: int) -> Law:
    """The number of ones among 2 eta fair bits, less eta."""
    return {value: comb(2 * eta, value + eta) / 4**eta for value in range(-eta, eta + 1)}


def sigma(law: Law) -> float:
    """Standard deviation of a law with mean 0."""
    return sqrt(sum(value**2 * chance for value, chance in law.items()))


def entropy(law: Law) -> float:
    """Shannon's entropy in bits."""
    return -sum(chance * log2(chance) for chance in law.values() if chance)


@frozen
class Rest:
    """What is unknown of one of two values with the same law once their sum is known.

    Attributes:
        given_away: probability that the sum allows one value only.
        entropy: bits, on average over the sums.
        sigma: root of the variance that is left, on average over the sums.
    """

    given_away: float
    entropy: float
    sigma: float


def given_the_sum_of_two(law: Law) -> Rest:
    """Looks at every sum in turn."""
    given_away = entropy_left = variance_left = 0.0
    for total in range(2 * min(law), 2 * max(law) + 1):
        together = {
            value: chance * law[total - value]
            for value, chance in law.items()
            if total - value in law
        }
        chance_of_total = sum(together.values())
        conditional = {value: chance / chance_of_total for value, chance in together.items()}
        mean = sum(value * chance for value, chance in conditional.items())
        given_away += chance_of_total if len(conditional) == 1 else 0
        entropy_left += chance_of_total * entropy(conditional)
        variance_left += chance_of_total * sum(
            (value - mean) ** 2 * chance for value, chance in conditional.items()
        )
    return Rest(given_away, entropy_left, sqrt(variance_left))


def hypergeometric(eta: int, n_keys: int, total: int) -> Law:
    """One centred binomial value, given that `n_keys` of them sum to `total`.

    Its ones are 2 eta bits drawn from 2 eta n_keys bits, of which eta n_keys + total are ones.
    """
    ones, zeros = eta * n_keys + total, eta * n_keys - total
    return {
        value: comb(ones, eta + value) * comb(zeros, eta - value) / comb(ones + zeros, 2 * eta)
        for value in range(-eta, eta + 1)
    }


def sigma_given_the_sum(eta: int, n_keys: int) -> float:
    """Root of the variance of one key value, on average over the sums of `n_keys` of them.

    Keys are exchangeable, so the sum explains 1 / n_keys of the variance and the rest is left.
    """
    return sqrt(eta / 2 * (1 - 1 / n_keys))


def log2_tail(eta: int, n_keys: int, bound: float) -> float:
    """log2 of the probability that a sum of centred binomial values exceeds `bound` in magnitude.

    Args:
        eta: of each value.
        n_keys: how many values.
        bound: not negative.

    Returns:
        -inf where the sum cannot get there.
    """
    n_bits = 2 * eta * n_keys
    ones = n_bits // 2 + int(bound) + 1
    if ones > n_bits:
        return float("-inf")
    log_first = lgamma(n_bits + 1) - lgamma(ones + 1) - lgamma(n_bits - ones + 1)
    series, term = 0.0, 1.0
    while term > series * 1e-17:
        series += term
        term *= (n_bits - ones) / (ones + 1)
        ones += 1
    return log_first / log(2) - n_bits + 1 + log2(series)
