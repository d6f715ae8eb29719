"""Told to stop, a process leaves soon and says so, whatever it is at.

`Child.wait` gives it far more time than it needs: only one that hangs fails.
"""

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from fedring.lab.brokers import LocalBroker, start_broker
from fedring.lab.fleets import LocalFleet, write_samples
from fedring.lab.processes import Child
from fedring.lab.spy import WAIT_S, Spy

LEAVE_S = 30.0
LONG = {"training": {"epochs": 100, "batch": 1}}
"""Minutes of training, with that many samples."""
MANY = 20_000


def leave(*children: Child) -> None:
    for child in children:
        child.send(signal.SIGTERM)
    for child in children:
        assert child.wait(LEAVE_S) == 0, child.last_words()


def compute(*children: Child) -> None:
    """Wait until each has used a second of a processor from now on."""
    processes = [psutil.Process(child.pid) for child in children]
    enough = [used_s(process) + 1 for process in processes]
    deadline = time.monotonic() + WAIT_S
    while any(used_s(one) < most for one, most in zip(processes, enough, strict=True)):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def used_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[LocalBroker]:
    with start_broker(tmp_path / "broker") as broker:
        yield broker


@pytest.fixture
def fleet(tmp_path: Path, broker: LocalBroker) -> Iterator[LocalFleet]:
    with LocalFleet(tmp_path, broker.address) as fleet:
        yield fleet


@pytest.fixture
def spy(broker: LocalBroker, fleet: LocalFleet) -> Iterator[Spy]:
    with Spy(broker.address, fleet.topics, fleet.check) as spy:
        yield spy


@pytest.fixture
def running(fleet: LocalFleet, spy: Spy) -> LocalFleet:
    """A fleet in its first rounds."""
    fleet.start()
    spy.event("model published", 0)
    return fleet


def everybody(fleet: LocalFleet) -> list[Child]:
    assert fleet.coordinator is not None
    return [fleet.coordinator, *fleet.devices.values()]


def test_in_a_round_they_say_that_they_are_gone(running: LocalFleet, spy: Spy) -> None:
    since = spy.now
    frozen = running.devices["b03"]
    running.freeze("b03")
    spy.status("b01", since, state="ready")
    leave(*(child for child in everybody(running) if child is not frozen))
    for name in ("coordinator", "b01", "b02", "b04"):
        spy.status(name, since, state="offline")


def test_while_the_sum_is_opened(running: LocalFleet, spy: Spy) -> None:
    spy.event("ring closed", spy.now)
    leave(*everybody(running))


def test_while_the_broker_is_gone(running: LocalFleet, broker: LocalBroker) -> None:
    broker.child.kill()
    leave(*everybody(running))


def test_while_the_broker_hangs(running: LocalFleet, broker: LocalBroker) -> None:
    broker.child.freeze()
    try:
        leave(*everybody(running))
    finally:
        broker.child.thaw()


def test_while_training(tmp_path: Path, broker: LocalBroker) -> None:
    with (
        LocalFleet(tmp_path, broker.address, coordinator=LONG) as fleet,
        Spy(broker.address, fleet.topics, fleet.check) as spy,
    ):
        for name in fleet.names:
            write_samples(fleet.data_file(name), seed=name, n_samples=MANY)
        fleet.start()
        for name in fleet.names:
            spy.status(name, 0, state="training")
        compute(*fleet.devices.values())
        leave(*everybody(fleet))
