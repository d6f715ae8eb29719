"""The estimates of docs/encryption.md: right by other people's numbers, and those on the pages."""

from __future__ import annotations

import re
from fractions import Fraction
from itertools import product
from math import ceil, comb, log2, sqrt
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from fedring.lab.estimates import attacks, distributions, rounding, tables
from fedring.lab.estimates.__main__ import main
from fedring.lab.estimates.attacks import Attack, Instance
from fedring.shared.encryption import PRODUCTION, lattice, parameters
from fedring.shared.encryption.lattice import SPLIT

DOCS = Path(__file__).parents[3] / "docs"
PAGE = (DOCS / "encryption.md").read_text(encoding="utf-8")
TABLES = tables.tables()


@pytest.mark.parametrize("title", TABLES)
def test_the_page_has_the_tables_that_the_script_prints(title: str) -> None:
    assert f"\n\n{TABLES[title]}" in PAGE, f"scripts/estimate prints another '{title}'"


def test_the_page_has_no_table_twice_or_of_its_own() -> None:
    headings = {table.splitlines()[0] for table in TABLES.values()}
    assert all(PAGE.count(heading) == 1 for heading in headings)


@pytest.mark.parametrize(
    ("instance", "block"),
    [
        # the Lattice Estimator's README: schemes.Kyber512, primal_usvp
        (Instance(512, log2(3329), sqrt(1.5), sqrt(1.5)), 406),
        # the Lattice Estimator itself, commit 27a581b: primal_usvp, RC.ADPS16, shape "gsa"
        (Instance(4096, 64, PRODUCTION.sigma, PRODUCTION.sigma), 716),
        (Instance(4096, 64, sqrt(5.25), sqrt(5.25)), 702),
        (Instance(4096, 109, sqrt(2 / 3), 3.2), 327),
    ],
)
def test_primal_attacks_need_the_block_sizes_that_others_found(
    instance: Instance, block: int
) -> None:
    assert attacks.primal(instance).block == block


@pytest.mark.parametrize(
    ("dimension", "k", "primal", "dual"), [(1024, 16, 967, 962), (512, 24, 449, 448)]
)
def test_attacks_need_the_block_sizes_that_the_authors_of_the_model_found(
    dimension: int, k: int, primal: int, dual: int
) -> None:
    # NewHope and JarJar, q = 12289: github.com/tpoeppelmann/newhope, scripts/PQsecurity.py, run.
    # It leaves out the one dimension that embeds the target, which makes a block or two.
    width = sqrt(k / 2)
    instance = Instance(dimension, log2(12289), width, width)
    assert attacks.dual(instance).block == dual
    assert 0 <= attacks.primal(instance).block - primal <= 2


def floor(attack: Attack) -> tuple[int, int]:
    return attack.block, int(attack.bits)


def test_the_parameters_and_the_protocol_claim_what_is_computed() -> None:
    alone, pair = (
        floor(attacks.primal(Instance(PRODUCTION.dimension, tables.MODULUS_BITS, sigma, sigma)))
        for sigma in (PRODUCTION.sigma, distributions.sigma_given_the_sum(PRODUCTION.eta, 2))
    )
    standard = floor(attacks.primal(tables.STANDARD))
    claims = " ".join((parameters.__doc__ or "").split())
    assert f"block size {alone[0]}, 2**{alone[1]}" in claims
    assert f"leaves sigma 2.29 and 2**{pair[1]}" in claims
    assert f"by the same estimate: 2**{standard[1]}" in claims
    protocol = " ".join((DOCS / "protocol.md").read_text(encoding="utf-8").split())
    assert f"is 2^{alone[1]}, and 2^{pair[1]} once the sum of two keys is known" in protocol


def test_the_products_claim_what_is_proven() -> None:
    n = PRODUCTION.dimension
    most = tables.rounded_up(rounding.product_error(n, SPLIT[0], tables.LARGEST_SUM))
    claims = " ".join((lattice.__doc__ or "").split())
    assert f"coefficients are {tables.LARGEST_SUM:,} at most: its error is {most} at most" in claims
    factor = ceil(rounding.relative_error(n) / rounding.UNIT_ROUNDOFF)
    assert f"E is {factor} u." in PAGE


def test_what_a_sum_of_two_gives_away() -> None:
    # -1, 0, 1 with 1/4, 1/2, 1/4: sums of -2 and 2 leave nothing; -1 and 1 (chance 1/4 each) leave
    # two alike; 0 (chance 3/8) leaves -1, 0, 1 with 1/6, 4/6, 1/6
    rest = distributions.given_the_sum_of_two(distributions.centred_binomial(1))
    assert rest.given_away == pytest.approx(1 / 8)
    left_by_zero = -(2 / 6 * log2(1 / 6) + 4 / 6 * log2(4 / 6))
    assert rest.entropy == pytest.approx(1 / 2 + 3 / 8 * left_by_zero)
    assert rest.sigma**2 == pytest.approx(1 / 2 * 1 / 4 + 3 / 8 * 1 / 3)
    assert distributions.given_the_sum_of_two(distributions.TERNARY).given_away == pytest.approx(
        2 / 9
    )


def by_counting(eta: int, n_keys: int, total: int) -> dict[int, Fraction]:
    """The law of the first of so many values, given their sum, from all outcomes of their bits."""
    found: dict[int, int] = {}
    for values in product(range(-eta, eta + 1), repeat=n_keys):
        if sum(values) == total:
            ways = 1
            for value in values:
                ways *= comb(2 * eta, value + eta)
            found[values[0]] = found.get(values[0], 0) + ways
    return {value: Fraction(ways, sum(found.values())) for value, ways in found.items()}


@pytest.mark.parametrize(("eta", "n_keys"), [(1, 2), (2, 2), (2, 3), (3, 2)])
def test_one_key_given_a_sum_is_hypergeometric(eta: int, n_keys: int) -> None:
    all_sums = distributions.centred_binomial(eta * n_keys)
    variance = 0.0
    for total in range(-eta * n_keys, eta * n_keys + 1):
        counted = by_counting(eta, n_keys, total)
        law = distributions.hypergeometric(eta, n_keys, total)
        assert {value: chance for value, chance in law.items() if chance} == pytest.approx(
            {value: float(chance) for value, chance in counted.items()}
        )
        mean = total / n_keys
        variance += all_sums[total] * sum(
            (value - mean) ** 2 * chance for value, chance in law.items()
        )
    assert distributions.sigma_given_the_sum(eta, n_keys) ** 2 == pytest.approx(variance)


@pytest.mark.parametrize(
    ("eta", "n_keys", "bound"), [(21, 1, 0), (21, 2, 30.5), (2, 9, 7), (1, 1, 1)]
)
def test_tails_are_counted_right(eta: int, n_keys: int, bound: float) -> None:
    n_bits = 2 * eta * n_keys
    ways = sum(comb(n_bits, ones) for ones in range(n_bits + 1) if abs(ones - n_bits // 2) > bound)
    expected: Any = log2(ways) - n_bits if ways else float("-inf")
    assert distributions.log2_tail(eta, n_keys, bound) == pytest.approx(expected)


EXAMPLES = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def test_the_example_works_with_either_suite() -> None:
    (example,) = EXAMPLES
    assert example.count("3072") == 1
    assert example.count('"hybrid"') == 1
    for name in ("hybrid", "paillier"):
        # a short key, since a long one takes seconds to find
        names: dict[str, Any] = {}
        exec(example.replace("3072", "1024").replace('"hybrid"', f'"{name}"'), names)
        assert names["total"].tolist() == [111] * 1000


def test_the_script_prints_every_table_and_looks_at_this_machine() -> None:
    shown = CliRunner().invoke(main, ["--measure"])
    assert shown.exit_code == 0, shown.output
    assert all(f"{title}\n\n{table}" in shown.output for title, table in TABLES.items())
    assert "Rounding errors of this machine\n\n| key coefficients |" in shown.output
