"""What it costs to break a lattice mask, in the core-SVP model.

An attack by lattice reduction calls a solver of the shortest vector problem in blocks of some size,
many times. Core-SVP counts one call, at 2**(0.292 b) steps for blocks of b with the best known
sieve, or 2**(0.265 b) with a quantum computer, and calls that the level of security. It errs to
the safe side: repeats, memory and everything below the exponent cost nothing.

Source: Alkim, Ducas, Poeppelmann, Schwabe, "Post-quantum key exchange - a new hope", USENIX
Security 2016, sections 6.1, 6.3 and 6.4, and their script (docs/encryption.md, section 10).

Not looked at: attacks that use the structure of the ring, and dual attacks that combine guessing
with a Fourier transform.
"""

from __future__ import annotations

from math import e, exp, log, pi, sqrt

from attrs import frozen

CLASSICAL = 0.292
QUANTUM = 0.265
SIEVE_VECTORS = 0.2075
"""Exponent of the number of short vectors that one call of a sieve gives."""

LEAST_BLOCK = 50
"""Below it the formula for the reduction's quality does not hold."""

MOST_LOG_DEVIATION = 5.0
"""Of a dual vector: beyond 148 q there is no advantage that a float could hold."""


@frozen
class Instance:
    """A problem of learning with errors, with as many samples as an attacker wants.

    Attributes:
        dimension: N, of the secret.
        modulus_bits: log2 q.
        secret_sigma: standard deviation of a coefficient of the secret.
        error_sigma: likewise of the noise.
    """

    dimension: int
    modulus_bits: float
    secret_sigma: float
    error_sigma: float


@frozen
class Attack:
    """The cheapest attack of one kind.

    Attributes:
        block: block size of the reduction.
        bits: log2 of the steps on a classical computer.
        quantum_bits: the same with a quantum computer, `block` unchanged.
    """

    block: int
    bits: float
    quantum_bits: float


def root_hermite(block: int) -> float:
    """Quality of a basis reduced with this block size: delta, above 1, the less the better."""
    return float(((pi * block) ** (1 / block) * block / (2 * pi * e)) ** (1 / (2 * (block - 1))))


def primal(instance: Instance) -> Attack:
    """Finding secret and noise as the shortest vector of a lattice.

    A block size is enough when the vector's part in the last block, sigma sqrt(b), is shorter than
    what the reduced basis has there: delta**(2b - d - 1) * volume**(1 / d) for dimension d. The
    number of samples m = d - N - 1 is the attacker's choice. Where the secret is narrower than the
    noise, its coordinates are stretched to the same width first.
    """
    n = instance.dimension
    log_q = instance.modulus_bits * log(2)
    stretching = n * log(instance.error_sigma / instance.secret_sigma)

    def suffices(block: int) -> bool:
        log_delta = log(root_hermite(block))
        # the derivative by d is zero where d**2 log(delta) = (n + 1) log(q) - stretching
        best = int(sqrt(((n + 1) * log_q - stretching) / log_delta))
        return any(
            log(instance.error_sigma) + log(block) / 2
            <= (2 * block - d - 1) * log_delta + ((d - n - 1) * log_q + stretching) / d
            for d in (best, best + 1)
        )

    block = LEAST_BLOCK
    while not suffices(block):
        block += 1
    return Attack(block, CLASSICAL * block, QUANTUM * block)


def dual(instance: Instance) -> Attack:
    """Telling samples from uniform with short vectors of the dual lattice.

    A vector of length l makes an inner product of standard deviation sigma l, which shows with
    advantage 4 exp(-2 (pi sigma l / q)**2); 1 / advantage**2 vectors are needed, and a sieve gives
    2**(0.2075 b) at once.
    """
    n = instance.dimension
    log_q = instance.modulus_bits * log(2)
    narrowing = log(instance.secret_sigma / instance.error_sigma)

    def cost(block: int) -> float:
        log_delta = log(root_hermite(block))
        d = sqrt(n * (log_q + narrowing) / log_delta)
        log_length = d * log_delta + n * (log_q + narrowing) / d
        log_deviation = log(instance.error_sigma) + log_length - log_q
        if log_deviation > MOST_LOG_DEVIATION:
            return float("inf")
        needed = 4 * (pi * exp(log_deviation)) ** 2 / log(2)
        return CLASSICAL * block + max(0.0, needed - SIEVE_VECTORS * block)

    block = LEAST_BLOCK
    cheapest, at = cost(block), block
    while CLASSICAL * block < cheapest:
        block += 1
        if cost(block) < cheapest:
            cheapest, at = cost(block), block
    return Attack(at, cheapest, cheapest - (CLASSICAL - QUANTUM) * at)
