"""Who is there, by status topics that anybody may have filled with anything."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedring.coordinator import presence
from fedring.coordinator.presence import Presence


def status(state: Any, number: Any = 7) -> bytes:
    return json.dumps({"state": state, "number": number}).encode()


def test_a_device_comes_and_goes() -> None:
    seen = Presence()
    assert seen.saw("b07", status("idle")) == 7
    assert seen.online == {7: "b07"}
    assert seen.by_state() == {"online": 1, "idle": 1}
    assert seen.saw("b07", status("offline")) == 7
    assert seen.online == {}
    assert seen.by_state() == {"online": 0, "offline": 1}


def test_a_last_will_without_a_number_counts_for_the_number_seen_before() -> None:
    seen = Presence()
    seen.saw("b07", status("ready"))
    assert seen.saw("b07", b'{"state": "offline"}') == 7
    assert seen.online == {}


def test_nobody_takes_the_number_of_a_device_that_is_there() -> None:
    seen = Presence()
    seen.saw("b07", status("idle"))
    assert seen.saw("b08", status("idle")) is None
    assert seen.online == {7: "b07"}


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"[]",
        b"{",
        b"\xff",
        b"[" * 4000,
        b" " * 5000,
        status(3),
        status("x" * 33),
        status("idle", "7"),
        status("idle", True),
        status("idle", -1),
        status("idle", 2**32),
        status("idle", 0),
    ],
)
def test_a_status_that_says_nothing_changes_nothing(payload: bytes) -> None:
    seen = Presence()
    assert seen.saw("b07", payload) is None
    assert seen.online == {}


@given(st.binary(max_size=200))
def test_any_bytes_are_taken_or_passed_over(payload: bytes) -> None:
    Presence().saw("b07", payload)


def test_names_are_remembered_up_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(presence, "MAX_DEVICES", 2)
    seen = Presence()
    for number in (1, 2, 3):
        seen.saw(f"b{number}", status("idle", number))
    assert seen.online == {1: "b1", 2: "b2"}
    assert seen.saw("b1", status("ready", 1)) == 1


def test_one_name_is_one_device_at_a_time() -> None:
    """A device writes its own status topic only, but any number into it."""
    seen = Presence()
    for number in range(1, 1000):
        seen.saw("b07", status("idle", number))
    assert seen.online == {1: "b07"}
    seen.saw("b07", status("offline", 1))
    assert seen.saw("b07", status("idle", 9)) == 9
    assert seen.online == {9: "b07"}


def test_our_own_status_stays_short_whatever_states_there_are() -> None:
    seen = Presence()
    for number in range(1, 5000):
        seen.saw(f"b{number}", status(f"{number:032}", number))
    seen.saw("b5000", status("online", 5000))
    states = seen.by_state()
    assert len(states) <= presence.MAX_STATES + 2
    assert states["online"] == 5000
    assert states["other"] >= 4999 - presence.MAX_STATES
