"""Whoever comes when the round is over is told so, and nobody in another's name."""

import pytest

from fedring.coordinator.doors import ClosedDoor
from fedring.lab.simulate.cast import cast, coordinator, device
from fedring.lab.simulate.rehearsal import Rehearsal
from fedring.shared.envelopes import open_envelope
from fedring.shared.errors import PeerError
from fedring.shared.messages import Refused


@pytest.fixture
def ready() -> bytes:
    stage = Rehearsal((2,))
    (said,) = stage.all_ready(stage.announcing())
    return said.raw


@pytest.fixture
def door() -> ClosedDoor:
    return ClosedDoor(coordinator(), cast().authority)


def test_a_late_ready_is_refused_by_name(door: ClosedDoor, ready: bytes) -> None:
    (answer,) = door.receive(device(1).name, ready)
    assert answer.to == device(1).name
    refused = open_envelope(answer.data).verified_by(coordinator().peer, Refused)
    assert refused.message.reason == "round closed"
    assert refused.message.about == open_envelope(ready).digest


def test_nobody_is_turned_away_in_anothers_name(door: ClosedDoor, ready: bytes) -> None:
    with pytest.raises(PeerError):
        door.receive("somebody-else", ready)


def test_what_is_no_ready_gets_no_answer(door: ClosedDoor, ready: bytes) -> None:
    (answer,) = door.receive(device(1).name, ready)
    assert door.receive(device(1).name, answer.data) == []
