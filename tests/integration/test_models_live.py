"""The model is the product: the owner's commands beside a running coordinator, and what boards see.

One fleet serves all tests. Its coordinator is stopped and started; its devices never are.
"""

import csv
import json
import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from paho.mqtt import publish

from fedring.coordinator.records import Version
from fedring.lab.brokers import LocalBroker, start_broker
from fedring.lab.fleets import CLASSES, FEATURES, LocalFleet
from fedring.lab.spy import Heard, Spy
from fedring.shared.messages import Announce, Rest
from fedring.shared.models import load_npz
from fedring.shared.topics import HISTORY_PLACES

MISTAKE = 2
EXTRA_ROUNDS = 2


class Owner:
    """Who types the commands, and watches what comes of them."""

    def __init__(self, broker: LocalBroker, fleet: LocalFleet, spy: Spy) -> None:
        self.broker = broker
        self.fleet = fleet
        self.spy = spy

    def types(self, *arguments: str | Path, status: int = 0) -> str:
        """`fedring coordinator ...`; gives what it printed, errors when it is to fail."""
        command = self.fleet.command("coordinator", *arguments, *self._config)
        assert command.returncode == status, command.stderr
        assert "Traceback" not in command.stderr
        return command.stderr if status else command.stdout

    def pauses(self) -> None:
        """`pause`, and wait until the last round is over and told."""
        since = self.spy.now
        self.types("pause")
        self.spy.status("coordinator", since, state="paused")

    def resumes(self) -> int:
        """`resume`; gives the moment before."""
        since = self.spy.now
        self.types("resume")
        return since

    def starts(self) -> int:
        """Start the coordinator; gives the moment before."""
        since = self.spy.now
        self.fleet.start_coordinator()
        return since

    def stops(self) -> None:
        """End the coordinator as systemd does."""
        assert self.fleet.coordinator is not None
        assert self.fleet.coordinator.stop() == 0

    def published(self, since: int, **facts: object) -> Heard:
        """Wait for a model that all devices contributed to."""
        return self.spy.event("model published", since, contributors=4, **facts)

    def announced(self, since: int) -> Announce:
        """Wait for the next announce."""
        heard = self.spy.first(lambda one: isinstance(_round(one), Announce), since)
        message = heard.message
        assert isinstance(message, Announce)
        return message

    def rests_at(self, version: int, since: int) -> None:
        """Wait until the announce topic says that no round runs and this is the newest version."""

        def wanted(heard: Heard) -> bool:
            message = _round(heard)
            return isinstance(message, Rest) and message.model.version == version

        self.spy.first(wanted, since, what=f"that version {version} is the newest")

    def history(self) -> list[Version]:
        """All versions, oldest first."""
        with closing(self.fleet.store()) as store:
            return store.versions()[::-1]

    def boards(self) -> dict[str, int]:
        """Process of each device that runs."""
        return {name: one.pid for name, one in self.fleet.devices.items() if one.running}

    @property
    def _config(self) -> tuple[str, Path]:
        return "--config", self.fleet.coordinator_file


def _round(heard: Heard) -> object:
    return heard.message if heard.topic == "round" else None


@pytest.fixture(scope="module")
def owner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Owner]:
    folder = tmp_path_factory.mktemp("models")
    with (
        start_broker(folder / "broker") as broker,
        LocalFleet(folder, broker.address, coordinator={"training": WITH_STATISTICS}) as fleet,
        Spy(broker.address, fleet.topics, fleet.check) as spy,
    ):
        owner = Owner(broker, fleet, spy)
        fleet.start()
        owner.published(0, version=3)  # the statistics, and two rounds of training
        yield owner


WITH_STATISTICS: dict[str, Any] = {"statistics": True}


def test_models_and_export_tell_how_a_version_came_about(owner: Owner, tmp_path: Path) -> None:
    listed = json.loads(owner.types("models", "--json"))
    table = owner.types("models").splitlines()
    assert [line["version"] for line in listed] == list(range(len(listed)))[::-1]
    assert [line["task"] for line in listed[::-1]][:3] == ["initial", "statistics", "train"]
    assert len(table) >= len(listed) + 1

    file = tmp_path / "model.npz"
    owner.types("export", "3", file)
    model, note = load_npz(file)
    told = listed[-4]
    assert (told["version"], model.digest.hex()) == (3, told["digest"])
    assert note["contributions"] == 8
    assert [step["task"] for step in note["chain"]] == ["initial", "statistics", "train", "train"]
    with np.load(file) as arrays:  # as any program reads it
        assert np.all(arrays["normalisation.spread"] > 0)
        assert np.any(arrays["normalisation.mean"] != 0)
    assert "is there already" in owner.types("export", "3", file, status=MISTAKE)


def test_a_rollback_is_published_between_rounds_and_announced_next(owner: Owner) -> None:
    owner.pauses()
    since = owner.spy.now
    owner.types("rollback", "2")
    newest = owner.history()[-1]
    assert (newest.task, newest.source) == ("rollback", 2)
    line = owner.spy.first(
        lambda one: one.topic == f"history/{newest.version % HISTORY_PLACES}", since
    ).facts
    assert (line["task"], line["parent"]) == ("rollback", newest.parent)
    owner.rests_at(newest.version, since)

    announced = owner.announced(owner.resumes())
    assert announced.model.version == newest.version
    assert announced.model.digest == owner.history()[2].digest
    owner.published(since, version=newest.version + 1)


def test_nothing_is_announced_while_training_is_paused(owner: Owner) -> None:
    owner.pauses()
    with closing(owner.fleet.store()) as store:
        before = store.last_round()
    owner.stops()
    since = owner.starts()  # a restart does not end the pause
    owner.spy.status("coordinator", since, state="paused")
    owner.rests_at(owner.history()[-1].version, since)
    with closing(owner.fleet.store()) as store:
        assert store.last_round() == before
    since = owner.resumes()
    assert owner.announced(since).round == before + 1
    owner.published(since)


def test_training_ends_and_boards_predict_with_the_newest_model(
    owner: Owner, tmp_path: Path
) -> None:
    boards = owner.boards()
    owner.stops()
    done = sum(version.task == "train" for version in owner.history())
    rounds = done + EXTRA_ROUNDS
    owner.fleet.change_coordinator({"training": WITH_STATISTICS | {"rounds": rounds}})
    since = owner.starts()
    told = owner.spy.status("coordinator", since, state="finished")
    assert (told.facts["rounds_done"], told.facts["rounds_planned"]) == (rounds, rounds)
    newest = owner.history()[-1]
    owner.rests_at(newest.version, since)

    samples = tmp_path / "samples.csv"
    with samples.open("w", newline="") as file:
        csv.writer(file).writerows([FEATURES, (-2.0, -2.0), (2.0, 2.0)])
    for name in owner.fleet.names:
        owner.spy.status(name, since, model_version=newest.version)
        model, note = load_npz(owner.fleet.device_file(name).parent / "state" / "model.npz")
        assert model.digest == newest.digest
        assert note["version"] == newest.version
    predicted = owner.fleet.command(
        "device", "predict", "--config", owner.fleet.device_file("b01"), samples
    )
    assert predicted.returncode == 0, predicted.stderr
    assert [line.split("\t")[0] for line in predicted.stdout.splitlines()] == list(CLASSES)

    owner.stops()
    owner.fleet.change_coordinator({"training": WITH_STATISTICS})
    owner.published(owner.starts(), version=newest.version + 1)
    assert owner.boards() == boards


def test_a_restored_state_goes_on_in_a_new_epoch(owner: Owner, tmp_path: Path) -> None:
    boards = owner.boards()
    saved = tmp_path / "monday.zip"
    owner.types("backup", saved)
    epoch = owner.fleet.authority.epoch
    since = owner.spy.now
    version = owner.history()[-1].version + EXTRA_ROUNDS
    later = owner.published(since, version=version).facts["round"]
    owner.stops()
    before = owner.history()
    old_announce = next(
        heard
        for heard in reversed(owner.spy.heard)
        if isinstance(message := _round(heard), Announce) and message.round == later
    )

    assert "has a state already" in owner.types("restore", saved, status=MISTAKE)
    owner.types("restore", "--force", saved)
    in_backup = owner.history()
    assert in_backup == before[: len(in_backup)] != before
    refusal = owner.types("run", status=MISTAKE)
    assert "fedring: hint:" in refusal
    assert "fedring fleet epoch" in refusal

    raised = owner.fleet.command("fleet", "epoch", "--fleet", owner.fleet.authority.folder)
    assert raised.returncode == 0, raised.stderr
    since = owner.starts()
    told = owner.published(since, epoch=epoch + 1)
    assert told.facts["round"] == 1
    assert owner.history()[: len(in_backup)] == in_backup
    assert owner.boards() == boards

    # A broker, or whoever has a recording, sends what the fleet has left behind.
    owner.pauses()
    since = owner.spy.now
    publish.single(
        f"fedring/{owner.fleet.topics.fleet}/round",
        old_announce.payload,
        qos=1,
        retain=True,
        hostname=owner.broker.address.host,
        port=owner.broker.address.port,
    )
    for name in owner.fleet.names:
        reason = f"round {epoch}/{later} lies in the past"
        owner.spy.status(name, since, reason=reason)
    owner.published(owner.resumes(), epoch=epoch + 1)


def test_a_lost_state_is_noticed_by_the_announce_on_the_broker(owner: Owner) -> None:
    owner.pauses()
    owner.stops()
    state, aside = owner.fleet.coordinator_state, owner.fleet.folder / "aside"
    state.rename(aside)
    refusal = owner.types("run", status=MISTAKE)
    assert "lost or outdated" in refusal
    assert "fedring fleet epoch" in refusal
    shutil.rmtree(state)
    aside.rename(state)
    since = owner.starts()
    owner.resumes()
    owner.published(since)
