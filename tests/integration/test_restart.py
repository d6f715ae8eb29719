"""Whoever is killed comes back, and training goes on: coordinator, device, broker.

A step of a round is held open by freezing a device that the step waits for; so the coordinator is
killed in that very step, not just about then.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest

from fedring.coordinator.records import Outcome, Version, check_chain
from fedring.coordinator.store import INTERRUPTED
from fedring.lab.brokers import LocalBroker, start_broker
from fedring.lab.fleets import LocalFleet
from fedring.lab.spy import WAIT_S, Heard, Spy

ALL = ("b01", "b02", "b03", "b04")
MOST_TRIES = 8
"""Opening a sum cannot be held up: on a busy machine it may be over before we strike."""


class Stage:
    """A fleet that takes its breath between rounds until a test lets it go on."""

    def __init__(self, broker: LocalBroker, fleet: LocalFleet, spy: Spy) -> None:
        self.broker = broker
        self.fleet = fleet
        self.spy = spy

    def revive(self) -> None:
        """Let everybody run."""
        assert self.fleet.coordinator is not None
        if not self.fleet.coordinator.running:
            self.fleet.start_coordinator()
        for name, child in self.fleet.devices.items():
            if not child.running:
                self.fleet.start_device(name)
        self.fleet.thaw()
        self.fleet.set_paused(False)

    def pause(self) -> None:
        """Wait until no round is running and none begins."""
        since = self.spy.now
        self.fleet.set_paused(True)
        if self._told_state() != "paused":
            self.spy.status("coordinator", since, state="paused")

    def resume(self) -> int:
        """Let rounds begin; gives the moment before."""
        since = self.spy.now
        self.fleet.set_paused(False)
        return since

    def published(self, since: int) -> Heard:
        """Wait for a model that all devices contributed to."""
        return self.spy.event("model published", since, contributors=len(ALL))

    def history(self) -> list[Version]:
        """All versions, oldest first, from a store that opens whole."""
        with closing(self.fleet.store()) as store:
            versions = store.versions()[::-1]
        check_chain(versions)
        return versions

    def last_round(self) -> int:
        """The highest round number taken."""
        with closing(self.fleet.store()) as store:
            return store.last_round()

    def kill_coordinator(self) -> tuple[int, int]:
        """As a power cut would: nothing is said, nothing cleaned up.

        Gives the last round number taken, and a moment after its last word.
        """
        since = self.spy.now
        assert self.fleet.coordinator is not None
        self.fleet.coordinator.kill()
        self.spy.status("coordinator", since, state="offline")  # the broker says so, its last will
        since = self.spy.now
        self.fleet.thaw()
        return self.last_round(), since

    def last_event(self, before: int) -> object:
        """What the coordinator told last before a moment."""
        events = [heard for heard in self.spy.heard[:before] if heard.topic == "event"]
        return events[-1].facts["event"]

    def pids(self) -> dict[str, int]:
        """Process of each device that runs."""
        return {name: one.pid for name, one in self.fleet.devices.items() if one.running}

    def outcome(self, number: int) -> Outcome | None:
        """How a round ended, once it has."""
        with closing(self.fleet.store()) as store:
            return next(one.outcome for one in store.rounds() if one.round == number)

    def announced_rounds(self) -> list[int]:
        """Round numbers in the order they were announced, one for each announce."""
        announces = dict.fromkeys(
            heard.payload
            for heard in self.spy.heard
            if heard.topic == "round" and heard.message and heard.message.kind == "announce"
        )
        messages = [Heard("round", raw).message for raw in announces]
        return [message.round for message in messages if message]

    def _told_state(self) -> object:
        told = [heard for heard in self.spy.heard if heard.topic == "coordinator/status"]
        return told[-1].facts.get("state") if told else None


@pytest.fixture(scope="module")
def one_stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """One fleet for all tests that leave it alive: its devices are never restarted."""
    folder = tmp_path_factory.mktemp("restart")
    with (
        start_broker(folder / "broker") as broker,
        LocalFleet(folder, broker.address) as fleet,
        Spy(broker.address, fleet.topics, fleet.check) as spy,
    ):
        stage = Stage(broker, fleet, spy)
        fleet.start()
        stage.published(0)
        yield stage
    for name, log in fleet.logs():
        assert "Traceback" not in log, f"something unforeseen happened to {name}"


@pytest.fixture
def stage(one_stage: Stage) -> Stage:
    """The fleet at work, also after a test that failed and left somebody frozen or dead."""
    one_stage.revive()
    return one_stage


# Each of these leads a round into a step and holds it there. They give the moment it began.


def between_rounds(stage: Stage) -> int:
    """No round is running, and none begins."""
    stage.pause()
    return stage.spy.now


def in_ready(stage: Stage) -> int:
    """All are ready but b03."""
    stage.pause()
    stage.fleet.freeze("b03")
    since = stage.resume()
    for name in ("b01", "b02", "b04"):
        stage.spy.status(name, since, state="ready")
    return since


def in_lap(stage: Stage) -> int:
    """The ring has formed, its token is going to wait for b04."""
    since = in_ready(stage)
    stage.fleet.freeze("b04")
    stage.fleet.thaw("b03")
    stage.spy.event("lap", since)
    return since


def in_call(stage: Stage) -> int:
    """The token is home, and b01, which is in it, does not say that it is still there."""
    since = in_lap(stage)
    stage.spy.letter("passed", since, sender="b02", receiver="b01")
    stage.fleet.freeze("b01")
    stage.fleet.thaw("b04")
    stage.spy.event("token round", since, contributors=len(ALL))
    return since


def in_list(stage: Stage) -> int:
    """All are asked for their release, and b02 does not answer."""
    since = in_call(stage)
    stage.spy.letter("here", since, sender="b02", receiver="coordinator")
    stage.fleet.freeze("b02")
    stage.fleet.thaw("b01")
    stage.spy.event("list", since, contributors=len(ALL))
    return since


def in_opening(stage: Stage) -> int:
    """All releases are here. Opening the sum takes a tenth of a second, and nothing can hold it."""
    since = in_list(stage)
    stage.fleet.thaw("b02")
    stage.spy.event("ring closed", since)
    return since


# The coordinator


@pytest.mark.parametrize(
    ("lead_into", "last_event"),
    [
        pytest.param(between_rounds, "model published", id="between rounds"),
        pytest.param(in_ready, "model published", id="ready"),
        pytest.param(in_lap, "lap", id="lap"),
        pytest.param(in_call, "token round", id="call"),
        pytest.param(in_list, "list", id="list"),
        pytest.param(in_opening, "ring closed", id="opening"),
    ],
)
def test_a_coordinator_killed_in_any_step_goes_on_with_the_next_round(
    stage: Stage, lead_into: Callable[[Stage], int], last_event: str
) -> None:
    pids = stage.pids()
    for _ in range(MOST_TRIES):
        lead_into(stage)
        killed_at, since = stage.kill_coordinator()
        before = stage.history()
        outcome = stage.outcome(killed_at)
        if outcome is None or lead_into is between_rounds:
            break
        assert lead_into is in_opening, "the round ended although it was held"
        stage.fleet.start_coordinator()
        stage.published(since)
    else:
        pytest.fail(f"the sum was opened within a moment, {MOST_TRIES} times")
    assert stage.last_event(since) == last_event

    stage.fleet.start_coordinator()
    stage.fleet.set_paused(False)
    told = stage.published(since)

    assert (told.facts["round"], told.facts["version"]) == (killed_at + 1, len(before))
    assert stage.history()[: len(before)] == before
    if lead_into is not between_rounds:
        outcome = stage.outcome(killed_at)
        assert outcome is not None
        assert outcome.reason == INTERRUPTED
    rounds = stage.announced_rounds()
    assert rounds == sorted(set(rounds))
    assert stage.pids() == pids


def test_a_model_stored_by_a_killed_coordinator_is_published_by_the_next(stage: Stage) -> None:
    before = stage.history()
    in_opening(stage)
    running = stage.last_round()
    deadline = time.monotonic() + WAIT_S
    while stage.outcome(running) is None:
        assert time.monotonic() < deadline
    _, since = stage.kill_coordinator()
    stored = next(version for version in stage.history() if version.round == running)

    stage.fleet.start_coordinator()
    line = stage.spy.first(
        lambda heard: heard.topic == f"history/{stored.version}", since, what="its history line"
    )
    assert (line.facts["round"], line.facts["created"]) == (stored.round, stored.created)
    stage.spy.first(
        lambda heard: heard.topic == f"model/{stored.digest.hex()}/0", since, what="its model"
    )
    stage.published(since)
    assert stage.history()[: len(before)] == before
    assert stage.history()[stored.version] == stored
    assert stage.history()[stored.version + 1].round > running


# A device


def test_a_killed_device_sits_out_its_round_and_takes_part_in_the_next(stage: Stage) -> None:
    since = in_ready(stage)
    running = stage.last_round()
    stage.fleet.devices["b01"].kill()
    stage.spy.status("b01", since, state="offline")
    stage.fleet.start_device("b01")
    # Its `ready` was sent, its keys are gone: it must not answer this round a second time.
    stage.spy.event("declined", since, device="b01", round=running)
    stage.spy.status("b01", since, reason="restarted in this round")
    stage.fleet.thaw("b03")
    told = stage.spy.event("model published", since, round=running)
    assert told.facts["contributors"] == len(ALL) - 1
    assert stage.published(since).facts["round"] == running + 1


# The broker


@pytest.mark.mosquitto
@pytest.mark.parametrize("what_it_held", ["is kept", "is lost"])
@pytest.mark.parametrize("lead_into", [between_rounds, in_lap], ids=lambda value: value.__name__)
def test_a_broker_that_comes_back_serves_the_next_round(
    stage: Stage, lead_into: Callable[[Stage], int], what_it_held: str
) -> None:
    pids = stage.pids()
    lead_into(stage)
    before, connects = stage.history(), stage.spy.connects
    if what_it_held == "is lost":
        stage.broker.child.kill()
        for file in (stage.fleet.folder / "broker").glob("*.db*"):
            file.unlink()
    stage.broker.restart()
    stage.spy.await_connection(connects)
    since = stage.spy.now
    stage.fleet.thaw()
    stage.fleet.set_paused(False)

    told = stage.published(since)
    assert told.facts["version"] >= len(before)
    assert stage.history()[: len(before)] == before
    rounds = stage.announced_rounds()
    assert rounds == sorted(set(rounds))
    assert stage.pids() == pids
