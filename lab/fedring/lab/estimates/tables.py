"""The tables of docs/encryption.md, from the parameters in force."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import ceil, floor, log10, sqrt

from phe import PaillierPublicKey

from fedring.lab.estimates import attacks, distributions, measuring, rounding
from fedring.lab.estimates.attacks import Instance
from fedring.shared.encryption import PRODUCTION, SUITES, lattice, max_values, suite
from fedring.shared.encryption.lattice import SPLIT
from fedring.shared.encryption.parameters import LAYOUTS

MODULUS_BITS = 64
KEY_BITS = 3072
LARGEST_SUM = ceil(PRODUCTION.bound(LAYOUTS[16].max_contributors))
"""Magnitude of a coefficient in a sum of keys, by the check of the coordinator."""

TWO_LIMBS = (measuring.WIDTH, 64 - measuring.WIDTH)
"""A split that saves a third of the transforms, and for which too little can be proven."""

STANDARD = Instance(
    dimension=PRODUCTION.dimension, modulus_bits=109, secret_sigma=sqrt(2 / 3), error_sigma=3.2
)
"""HomomorphicEncryption.org, 2018, table 1: 128 bits, ternary secret."""


def markdown(heading: Sequence[str], rows: Iterator[Sequence[str]]) -> str:
    """A table as pages hold it."""
    lines = [heading, ["---"] * len(heading), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def tables() -> dict[str, str]:
    """Title -> table."""
    return {
        "Attacks on the mask": markdown(
            (
                "problem",
                "log2 q",
                "sigma of secret, noise",
                "primal: block, bits, quantum bits",
                "dual: block, bits, quantum bits",
            ),
            _attacks(),
        ),
        "One key once a sum is known": markdown(
            (
                "law of a coefficient",
                "sigma",
                "bits",
                "given away by the sum of two",
                "bits left, on average",
                "sigma left",
            ),
            _rests(),
        ),
        "Noise of a sum": markdown(
            (
                "values",
                "contributors",
                "sigma of the noise",
                "accepted up to",
                "honest noise beyond that",
                "rounds away below",
                "honest noise beyond that",
            ),
            _noise(),
        ),
        "Rounding errors of a product": markdown(
            (
                "product",
                "key coefficients up to",
                "limb, bits",
                "error below",
                "same with exact constants",
                "reaches 0.5 at tau =",
            ),
            _rounding(),
        ),
        "Sizes": markdown(
            ("suite", "values", "bits", "ciphertexts", "body", "release", "bytes a value"), _sizes()
        ),
    }


def measured() -> str:
    """Rounding errors seen on this machine for the low limb of masks, beside their bounds."""
    return markdown(
        (
            "key coefficients",
            "error below",
            "largest seen, worst patterns",
            "usual, random key and polynomial",
        ),
        _measured(),
    )


def _attacks() -> Iterator[Sequence[str]]:
    eta, sigma = PRODUCTION.eta, PRODUCTION.sigma
    problems = {"one body, nothing else known": sigma}
    for n_keys in (16, 8, 3, 2):
        problems[f"sums of {n_keys} honest keys and noises known"] = (
            distributions.sigma_given_the_sum(eta, n_keys)
        )
    for title, width in problems.items():
        yield _attack(title, Instance(PRODUCTION.dimension, MODULUS_BITS, width, width))
    yield _attack("for comparison: what the standard calls 128 bits", STANDARD)


def _attack(title: str, instance: Instance) -> Sequence[str]:
    widths = f"{instance.secret_sigma:.2f}, {instance.error_sigma:.2f}"
    found = (
        f"{attack.block}, {floor(attack.bits)}, {floor(attack.quantum_bits)}"
        for attack in (attacks.primal(instance), attacks.dual(instance))
    )
    return title, str(instance.modulus_bits), widths, *found


def _rests() -> Iterator[Sequence[str]]:
    laws = {"ternary, uniform": distributions.TERNARY}
    for eta in (1, 2, PRODUCTION.eta):
        laws[f"centred binomial, eta = {eta}"] = distributions.centred_binomial(eta)
    for title, law in laws.items():
        rest = distributions.given_the_sum_of_two(law)
        yield (
            title,
            f"{distributions.sigma(law):.2f}",
            f"{distributions.entropy(law):.2f}",
            f"{100 * rest.given_away:.1f} %" if rest.given_away > 1e-3 else _power(rest.given_away),
            f"{rest.entropy:.2f}",
            f"{rest.sigma:.2f}",
        )


def _power(chance: float) -> str:
    return f"10^{floor(log10(chance))}"


def _noise() -> Iterator[Sequence[str]]:
    for bits, layout in sorted(LAYOUTS.items(), reverse=True):
        limit = 1 << (layout.noise_bits - 1)
        for n_keys in (16, layout.max_contributors):
            bound = PRODUCTION.bound(n_keys)
            yield (
                f"{bits} bits",
                f"{n_keys:,}",
                f"{PRODUCTION.sigma * sqrt(n_keys):.1f}",
                f"{floor(bound):,}",
                _chance(distributions.log2_tail(PRODUCTION.eta, n_keys, bound)),
                f"{limit:,}",
                _chance(distributions.log2_tail(PRODUCTION.eta, n_keys, limit - 1)),
            )


def _chance(log2_chance: float) -> str:
    return f"2^{ceil(log2_chance)}" if log2_chance > float("-inf") else "never"


def _rounding() -> Iterator[Sequence[str]]:
    products = {
        "one key, in a mask": (PRODUCTION.eta, SPLIT),
        "a sum of keys, at opening": (LARGEST_SUM, SPLIT),
        "one key, two limbs": (PRODUCTION.eta, TWO_LIMBS),
        "a sum of keys, two limbs": (LARGEST_SUM, TWO_LIMBS),
    }
    for title, (largest, split) in products.items():
        for position, limb_bits in enumerate(split):
            if position and limb_bits == split[position - 1]:
                continue
            sizes = (PRODUCTION.dimension, limb_bits, largest)
            tolerated = rounding.tolerated_constant_error(*sizes)
            yield (
                title,
                f"{largest:,}",
                str(limb_bits),
                rounded_up(rounding.product_error(*sizes)),
                rounded_up(rounding.product_error(*sizes, constant_error=0)),
                f"{tolerated:.1f} u" if tolerated else "always",
            )


def _measured() -> Iterator[Sequence[str]]:
    ring = lattice.Ring(PRODUCTION.dimension, TWO_LIMBS)
    wide = PRODUCTION.sigma * sqrt(LAYOUTS[16].max_contributors)
    usual = measuring.usual_error(ring, wide)
    for largest, sigma in ((PRODUCTION.eta, PRODUCTION.sigma), (LARGEST_SUM, wide)):
        yield (
            f"up to {largest:,}, sigma {sigma:.2f}",
            rounded_up(measuring.bound(ring.dimension, largest)),
            f"{measuring.worst_error(ring, largest):,}",
            # errors grow with the key's length, and those of one key are too small to be seen
            f"{usual * sigma / wide:.2f}",
        )


def rounded_up(number: float) -> str:
    """A bound with two digits, never less than it is."""
    unit = 10.0 ** (floor(log10(number)) - 1)
    shown = ceil(number / unit) * unit
    return f"{shown:,.0f}" if number >= 10 else f"{shown:.2g}"


def _sizes() -> Iterator[Sequence[str]]:
    for name in SUITES:
        for n_values in (1_000, 9_600, 100_000, 1_000_000):
            for bits in sorted(LAYOUTS, reverse=True):
                if n_values <= max_values(name):
                    yield _size(name, n_values, bits)


def _size(name: str, n_values: int, bits: int) -> Sequence[str]:
    made = suite(
        name,
        public_key=PaillierPublicKey((1 << KEY_BITS) - 1),
        announce_digest=bytes(32),
        n_values=n_values,
        bits=bits,
    )
    per_value = (made.body_bytes + made.release_bytes) / n_values
    return (
        f"`{name}`",
        f"{n_values:,}",
        str(bits),
        str(made.n_ciphertexts),
        f"{made.body_bytes:,}",
        f"{made.release_bytes:,}",
        f"{per_value:.2f}",
    )
