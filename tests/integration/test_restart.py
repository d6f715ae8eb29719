"""Whoever is killed comes back, and training goes on: coordinator, device, broker."""

import time
from collections.abc import Callable, Iterator
from hashlib import sha256

import pytest
from tests.integration.stage import ALL, STEPS, Stage, between_rounds, in_lap, in_opening, in_ready

from fedring.coordinator.store import INTERRUPTED
from fedring.lab.brokers import start_broker
from fedring.lab.fleets import LocalFleet
from fedring.lab.spy import WAIT_S, Spy
from fedring.shared.broker import probe

MOST_TRIES = 8
"""Opening a sum cannot be held up: on a busy machine it may be over before we strike."""


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


# The coordinator


@pytest.mark.parametrize(
    ("lead_into", "last_event"),
    [
        pytest.param(STEPS["between rounds"], "model published", id="between rounds"),
        pytest.param(STEPS["ready"], "model published", id="ready"),
        pytest.param(STEPS["lap"], "lap", id="lap"),
        pytest.param(STEPS["call"], "token round", id="call"),
        pytest.param(STEPS["list"], "list", id="list"),
        pytest.param(STEPS["opening"], "ring closed", id="opening"),
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
        lambda heard: (
            heard.topic.startswith("history/") and heard.facts["version"] == stored.version
        ),
        since,
        what="its history line",
    )
    assert (line.facts["round"], line.facts["created"]) == (stored.round, stored.created)
    stage.spy.first(
        lambda heard: sha256(heard.payload).digest() == stored.digest, since, what="its model"
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


@pytest.mark.mosquitto
def test_a_device_that_sleeps_comes_back_to_its_session_and_finishes_its_hop(stage: Stage) -> None:
    since = in_ready(stage)
    running = stage.last_round()
    log = stage.fleet.devices["b02"].log
    connects = log.read_text().count("connected to the broker")
    stage.fleet.freeze("b02")
    probe(stage.broker.address, "b02")  # the broker lets its connection go, and keeps its session
    stage.fleet.thaw("b03")
    stage.spy.letter("chunk", since, sender="b01", receiver="b02")
    stage.fleet.thaw("b02")
    told = stage.spy.event("token round", since)
    assert told.facts["contributors"] == len(ALL)
    assert stage.spy.event("model published", since, round=running).facts["contributors"] == 4
    assert log.read_text().count("connected to the broker") == connects + 1
    laps = [heard.facts for heard in stage.spy.heard[since:] if heard.facts.get("event") == "lap"]
    assert laps[0]["lap"] == 1
    assert all(lap["lap"] == 1 for lap in laps)


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
