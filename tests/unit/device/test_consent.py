"""The owner's limits: whatever an announce asks beyond them is refused, with the reason."""

from typing import Any

import pytest
from attrs import evolve

from fedring.device.consent import Consent
from fedring.lab.simulate.fleet import QUICK, TRAIN
from fedring.lab.simulate.rehearsal import Rehearsal
from fedring.shared.encryption import SUITES
from fedring.shared.messages import Announce

STAGE = Rehearsal(())
CONSENT = Consent(
    threshold=7,
    minimum_key_bits=256,
    max_epochs=10,
    max_values=1000,
    max_duration_s=60.0,
)


def announce(**changes: Any) -> Announce:
    return STAGE.announcing(**changes).announce.message


def modulus(n: int) -> bytes:
    return n.to_bytes((n.bit_length() + 7) // 8, "big")


def test_what_stays_within_the_limits_is_agreed_to() -> None:
    assert CONSENT.objection(announce()) is None


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (
            {"ring": evolve(QUICK, size=7)},
            "rings have 7 members, this device answers above 7",
        ),
        ({"ring": evolve(QUICK, size=2)}, "rings have 2 members, this device answers above 7"),
        ({"suite": "plain"}, "suite plain is not allowed on this device"),
        ({"plan": evolve(TRAIN, epochs=11)}, "11 epochs asked, this device does 10"),
        ({"n_values": 1001}, "1001 values asked, this device does 1000"),
        ({"ring": evolve(QUICK, ready_s=60.5)}, "durations above 60 s"),
        ({"ring": evolve(QUICK, patience_s=60.5)}, "durations above 60 s"),
        ({"ring": evolve(QUICK, release_s=60.5)}, "durations above 60 s"),
        ({"ring": evolve(QUICK, lap_s=60.5)}, "durations above 60 s"),
        ({"paillier_n": modulus(2**255 - 19)}, "255"),
        ({"paillier_n": modulus(2**256)}, "an even Paillier modulus"),
        ({"paillier_n": modulus(2**4096 - 2)}, "an even Paillier modulus"),
        ({"paillier_n": bytes(8)}, "a Paillier modulus written with zeros"),
        ({"paillier_n": b"\0" + modulus(2**256 - 1)}, "a Paillier modulus written with zeros"),
        ({"paillier_n": bytes(256) + modulus(2**2047 + 1)}, "a Paillier modulus written with"),
    ],
)
def test_what_goes_beyond_is_refused_with_its_reason(changes: dict[str, Any], reason: str) -> None:
    objection = CONSENT.objection(announce(**changes))
    assert objection is not None
    assert reason in objection


@pytest.mark.parametrize(
    "changes",
    [
        {"ring": evolve(QUICK, size=8)},
        {"plan": evolve(TRAIN, epochs=10)},
        {"n_values": 1000},
        {"ring": evolve(QUICK, lap_s=60.0)},
    ],
)
def test_the_limits_themselves_are_allowed(changes: dict[str, Any]) -> None:
    assert CONSENT.objection(announce(**changes)) is None


@pytest.mark.parametrize("forbidden", SUITES)
def test_a_suite_that_the_owner_forbids(forbidden: str) -> None:
    limits = evolve(CONSENT, suites=frozenset(SUITES) - {forbidden})
    for name in SUITES:
        assert CONSENT.objection(announce(suite=name)) is None
        expected = f"suite {name} is not allowed on this device" if name == forbidden else None
        assert limits.objection(announce(suite=name)) == expected


def test_a_vector_longer_than_its_suite_takes() -> None:
    roomy = evolve(CONSENT, max_values=10_000)
    assert roomy.objection(announce(suite="paillier", n_values=9600)) is None
    assert roomy.objection(announce(suite="paillier", n_values=9601)) == (
        "9601 values asked, suite paillier takes 9600"
    )
    assert roomy.objection(announce(suite="hybrid", n_values=9601)) is None


def test_by_default_a_key_has_2048_bits_at_least() -> None:
    odd = 2**2047 + 1
    ordinary = Consent(threshold=3)
    assert ordinary.objection(announce(paillier_n=modulus(odd))) is None
    assert ordinary.objection(announce(paillier_n=modulus(2**2046 + 1))) is not None
    assert ordinary.objection(announce(paillier_n=modulus(odd + 1))) is not None
    assert ordinary.objection(announce()) is not None, "simulated keys are for simulations"
