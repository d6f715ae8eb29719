"""Whoever comes when the round is over is told so, and nobody in another's name."""

import pytest
from attrs import evolve

from fedring.coordinator.announcing import announced_round
from fedring.coordinator.doors import ClosedDoor
from fedring.lab.simulate.cast import cast, coordinator, device
from fedring.lab.simulate.rehearsal import Rehearsal
from fedring.shared.envelopes import open_envelope, sign
from fedring.shared.errors import PeerError
from fedring.shared.messages import COORDINATOR_NUMBER, Refused, tag

LAST = (1, 1)


@pytest.fixture
def ready() -> bytes:
    stage = Rehearsal((2,))
    (said,) = stage.all_ready(stage.announcing())
    return said.raw


@pytest.fixture
def door() -> ClosedDoor:
    return ClosedDoor(coordinator(), cast().authority)


def test_a_late_ready_is_refused_by_name(door: ClosedDoor, ready: bytes) -> None:
    (answer,) = door.receive(device(1).name, ready, LAST)
    assert answer.to == device(1).name
    refused = open_envelope(answer.data).verified_by(coordinator().peer, Refused)
    assert refused.message.reason == "round closed"
    assert refused.message.about == open_envelope(ready).digest


def test_nobody_is_turned_away_in_anothers_name(door: ClosedDoor, ready: bytes) -> None:
    with pytest.raises(PeerError):
        door.receive("somebody-else", ready, LAST)


def test_junk_is_a_complaint_about_its_writer(door: ClosedDoor, ready: bytes) -> None:
    for raw in (b"junk", ready[:-1] + bytes([ready[-1] ^ 1])):
        with pytest.raises(PeerError) as fault:
            door.receive("b01", raw, LAST)
        assert fault.value.sender == "b01"


def test_what_is_no_ready_gets_no_answer(door: ClosedDoor, ready: bytes) -> None:
    (answer,) = door.receive(device(1).name, ready, LAST)
    assert door.receive(device(1).name, answer.data, LAST) == []


def test_nothing_is_signed_under_a_round_that_was_never_announced(
    door: ClosedDoor, ready: bytes
) -> None:
    message = open_envelope(ready).message
    liar = device(1)
    for later in (evolve(message, round=message.round + 1), evolve(message, epoch=2**32 - 1)):
        with pytest.raises(PeerError, match="never announced"):
            door.receive(liar.name, sign(later, liar).raw, (message.epoch, message.round))


def test_only_an_announce_or_rest_tells_which_round_was_announced(ready: bytes) -> None:
    """Whoever may write the announce topic must not make an answer of ours look like one."""
    stage = Rehearsal((2,))
    announce = stage.announcing().announce
    assert announced_round(announce.raw, coordinator()) == (1, 1)
    message = announce.message
    where = tag(message.fleet, 9, 9, COORDINATOR_NUMBER)
    refused = sign(Refused(**where, about=announce.digest, reason="round closed"), coordinator())
    for raw in (refused.raw, ready):
        with pytest.raises(PeerError):
            announced_round(raw, coordinator())
