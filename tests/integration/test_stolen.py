"""Whoever steals a board or the coordinator after a round finds nothing of it in its memory."""

import json
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.integration.stage import Stage, in_list, in_ready

from fedring.lab.brokers import start_broker
from fedring.lab.fleets import LocalFleet
from fedring.lab.processes import Child
from fedring.lab.spy import WAIT_S, Spy

BOARD = "b01"


@pytest.fixture(scope="module")
def one_stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    folder = tmp_path_factory.mktemp("stolen")
    with (
        start_broker(folder / "broker") as broker,
        LocalFleet(folder, broker.address) as fleet,
        Spy(broker.address, fleet.topics, fleet.check) as spy,
    ):
        program = Path(__file__).with_name("telling.py")
        for name in (BOARD, "coordinator"):
            fleet.under[name] = [sys.executable, "-P", program, told_by(fleet, name)]
        stage = Stage(broker, fleet, spy)
        fleet.start()
        stage.published(0)
        yield stage


@pytest.fixture
def stage(one_stage: Stage) -> Stage:
    """The fleet at work, also after a test that failed and left somebody frozen."""
    one_stage.revive()
    return one_stage


def told_by(fleet: LocalFleet, name: str) -> Path:
    return fleet.folder / f"{name}.holds"


def held_by(stage: Stage, name: str) -> dict[str, int]:
    """Objects with secrets of a round in a process, by their kind."""
    fleet = stage.fleet
    child: Child | None = fleet.coordinator if name == "coordinator" else fleet.devices[name]
    assert child is not None
    file = told_by(fleet, name)
    file.unlink(missing_ok=True)
    child.send(signal.SIGUSR1)
    deadline = time.monotonic() + WAIT_S
    while not file.exists():
        assert time.monotonic() < deadline, f"{name} tells nothing"
        time.sleep(0.05)
    held: dict[str, int] = json.loads(file.read_text())
    return held


def test_a_board_stolen_after_its_release_holds_no_secret_of_the_round(stage: Stage) -> None:
    in_ready(stage)
    assert held_by(stage, BOARD) == {"RoundKey": 1, "Secrets": 1}
    stage.fleet.thaw()
    stage.pause()
    assert held_by(stage, BOARD) == {}


def test_a_coordinator_stolen_after_a_round_holds_no_secret_of_it(stage: Stage) -> None:
    since = in_list(stage)
    assert held_by(stage, "coordinator") == {"RoundKey": 1, "Announcing": 1, "Ring": 1}
    stage.fleet.thaw()
    stage.spy.event("model published", since)
    stage.pause()
    assert held_by(stage, "coordinator") == {}
