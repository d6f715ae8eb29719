"""Records of the history: what is written is read, and damage is told as such."""

import json

import pytest

from fedring.coordinator.records import Outcome, Version, VoidRing
from fedring.shared.errors import StateError

VERSION = Version(
    version=2,
    parent=1,
    task="train",
    epoch=1,
    round=7,
    digest=b"d" * 32,
    metrics={"accuracy": 0.5},
    created="2026-01-01T00:00:00+00:00",
    link=b"l" * 32,
)
OUTCOME = Outcome(epoch=1, round=7, void_rings=(VoidRing(ring=1, reason="no", members=(1, 2)),))

DAMAGE = {
    "nothing": "",
    "no object": "[]",
    "cut": VERSION.record()[:-5],
    "no digest": VERSION.record().replace("digest", "digits"),
    "a digest of no digits": VERSION.record().replace("64", "xy", 1),
    "one field too many": VERSION.record().replace("{", '{"more":1,', 1),
    "a number that is none": VERSION.record().replace("0.5", "NaN"),
    "a number beyond all": VERSION.record().replace("0.5", "1e999"),
    "no bottom": "[" * 100_000,
}


def test_records_are_read_as_they_were_written() -> None:
    assert Version.from_record(VERSION.record(), VERSION.link) == VERSION
    assert Outcome.from_record(OUTCOME.record()) == OUTCOME


@pytest.mark.parametrize("case", DAMAGE)
def test_a_damaged_version_is_told(case: str) -> None:
    assert DAMAGE[case] != VERSION.record()
    with pytest.raises(StateError, match="a version of the model history is damaged") as caught:
        Version.from_record(DAMAGE[case], VERSION.link)
    assert caught.value.name == "state.damaged"


@pytest.mark.parametrize(
    "change",
    [
        {"void_rings": None},
        {"void_rings": [7]},
        {"void_rings": [{"ring": 1}]},
        {"seconds": {"total": float("inf")}},
        {"more": 1},
    ],
)
def test_a_damaged_outcome_is_told(change: dict[str, object]) -> None:
    record = json.dumps({**json.loads(OUTCOME.record()), **change})
    for damaged in (record, record[:-3], "[" * 100_000):
        with pytest.raises(StateError, match="the outcome of a round is damaged"):
            Outcome.from_record(damaged)
