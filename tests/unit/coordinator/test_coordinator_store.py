"""The coordinator's store: numbers only grow, sums are applied once, crashes change nothing."""

import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pytest

from fedring.coordinator.records import Outcome, Version, VoidRing, check_chain
from fedring.coordinator.store import INTERRUPTED, OVERTAKEN, CoordinatorStore
from fedring.coordinator.tables import STORE_FILE, key_file
from fedring.shared.errors import ProtocolError, StateError
from fedring.shared.models import Model

ModelOf: TypeAlias = Callable[..., Model]
Train: TypeAlias = Callable[..., Version]


def value_of(model: Model) -> float:
    return float(model.weights()[0])


# -- rounds and epochs -----------------------------------------------------------------------


def test_no_round_before_an_epoch(folder: Path) -> None:
    with CoordinatorStore.open_to_run(folder, fleet="garden") as store:
        assert (store.epoch(), store.last_round()) == (0, 0)
        with pytest.raises(ProtocolError, match="no epoch was entered"):
            store.next_round()


def test_round_numbers_grow_over_restarts(folder: Path) -> None:
    numbers = []
    for _ in range(3):
        with CoordinatorStore.open_to_run(folder, fleet="garden") as store:
            store.enter_epoch(1)
            numbers += [store.next_round(), store.next_round()]
    assert numbers == [(1, number) for number in range(1, 7)]


def test_a_new_epoch_begins_with_round_one_and_new_cohorts(store: CoordinatorStore) -> None:
    store.next_round()
    store.devices.save_cohorts({7: 0, 9: 1})
    store.devices.save_bench({7: 2}, {7: 5})
    assert store.enter_epoch(1) is False
    assert store.devices.cohorts() == {7: 0, 9: 1}
    assert store.enter_epoch(3) is True
    assert (store.epoch(), store.last_round()) == (3, 0)
    assert store.devices.cohorts() == {}
    assert store.devices.bench() == ({}, {})
    assert store.next_round() == (3, 1)


def test_an_older_revocation_list_is_refused(store: CoordinatorStore) -> None:
    store.enter_epoch(3)
    with pytest.raises(StateError, match="carries epoch 2, this state is in epoch 3") as caught:
        store.enter_epoch(2)
    assert caught.value.name == "state.old-epoch"


def test_a_round_left_open_by_a_crash_is_void(store: CoordinatorStore) -> None:
    store.next_round()
    store.next_round()
    newest, interrupted = store.rounds()
    assert newest.outcome is None
    assert interrupted.outcome is not None
    assert interrupted.outcome.reason == INTERRUPTED
    with pytest.raises(ProtocolError, match="round 1 of epoch 1 is settled"):
        store.commit_void(Outcome(epoch=1, round=1, reason="too late"))


def test_a_lost_store_meets_its_own_announce(store: CoordinatorStore) -> None:
    store.next_round()
    store.check_announced(1, 1)
    for later in [(1, 2), (2, 1)]:
        with pytest.raises(StateError, match="lost or outdated") as caught:
            store.check_announced(*later)
        assert "fedring fleet epoch" in caught.value.hint


def test_a_void_round_is_kept_with_its_reasons(store: CoordinatorStore) -> None:
    epoch, number = store.next_round()
    outcome = Outcome(
        epoch=epoch,
        round=number,
        rings=2,
        late_rings=1,
        void_rings=(VoidRing(ring=1, reason="no release", members=(3, 5, 8), silent=(5,)),),
        seconds={"lap": 0.25},
        traffic={"inbox": 120_000},
        reason="every ring was void",
    )
    store.commit_void(outcome)
    (kept,) = store.rounds()
    assert kept.outcome == outcome
    assert kept.version is None
    assert kept.ended


# -- versions --------------------------------------------------------------------------------


def test_versions_form_a_chain(store: CoordinatorStore, model_of: ModelOf) -> None:
    first = store.commit_initial(model_of(0), note="seed 0")
    assert (first.version, first.parent, first.task) == (0, 0, "initial")
    epoch, number = store.next_round()
    outcome = Outcome(epoch=epoch, round=number, contributors=12, rings=1)
    second = store.commit_version(
        model_of(1), outcome, parent=0, metrics={"accuracy": 0.5}, plan={"epochs": 5}
    )
    assert second is not None
    assert (second.version, second.parent, second.contributors) == (1, 0, 12)
    assert (second.epoch, second.round, second.task) == (1, 1, "train")
    assert store.current_version() == second == store.version(1)
    assert store.versions() == [second, first]
    assert store.model(second) == model_of(1)
    assert store.chunks(first) == model_of(0).chunks()
    assert store.n_versions("train") == 1
    assert store.rounds()[0].version == 1
    check_chain([first, second])


def test_a_round_is_applied_once(store: CoordinatorStore, model_of: ModelOf) -> None:
    store.commit_initial(model_of(0))
    epoch, number = store.next_round()
    outcome = Outcome(epoch=epoch, round=number, contributors=3)
    once = store.commit_version(model_of(1), outcome, parent=0)
    assert store.commit_version(model_of(1), outcome, parent=0) == once
    for again in (model_of(1), model_of(2)):
        with pytest.raises(ProtocolError, match="is settled"):
            store.commit_version(again, outcome, parent=1)
    assert [version.version for version in store.versions()] == [1, 0]


def test_a_void_or_unknown_round_is_not_applied(store: CoordinatorStore, model_of: ModelOf) -> None:
    store.commit_initial(model_of(0))
    epoch, number = store.next_round()
    store.commit_void(Outcome(epoch=epoch, round=number, reason="void"))
    for bad in (number, number + 1):
        with pytest.raises(ProtocolError, match="is settled, or was never announced"):
            store.commit_version(model_of(1), Outcome(epoch=epoch, round=bad), parent=0)
    assert len(store.versions()) == 1


def test_the_history_begins_anew_only_while_nothing_is_learned(
    store: CoordinatorStore, model_of: ModelOf, train: Train
) -> None:
    first = store.commit_initial(model_of(0))
    again = store.commit_initial(model_of(3, n_features=2))
    assert (again.version, again.parent, again.task) == (1, 0, "initial")
    assert store.current_version() == again
    check_chain([first, again])
    train(store, 2)
    with pytest.raises(ProtocolError, match="begun already"):
        store.commit_initial(model_of(1))


def test_a_metric_that_json_cannot_hold_changes_nothing(
    store: CoordinatorStore, model_of: ModelOf
) -> None:
    store.commit_initial(model_of(0))
    epoch, number = store.next_round()
    with pytest.raises(ValueError, match="JSON compliant"):
        store.commit_version(
            model_of(1),
            Outcome(epoch=epoch, round=number),
            parent=0,
            metrics={"accuracy": float("nan")},
        )
    assert len(store.versions()) == 1
    assert store.rounds()[0].outcome is None


def test_a_rollback_is_a_step_forward(
    store: CoordinatorStore, model_of: ModelOf, train: Train
) -> None:
    store.commit_initial(model_of(0))
    train(store, 1)
    train(store, 2)
    back = store.rollback(1)
    assert (back.version, back.parent, back.source, back.task) == (3, 2, 1, "rollback")
    assert value_of(store.model(back)) == 1
    assert train(store, 5).version == 4
    check_chain(reversed(store.versions()))


@pytest.mark.parametrize(("number", "words"), [(9, "no version 9"), (1, "current model already")])
def test_a_rollback_to_nowhere_is_refused(
    store: CoordinatorStore, number: int, words: str, model_of: ModelOf, train: Train
) -> None:
    store.commit_initial(model_of(0))
    train(store, 1)
    with pytest.raises(StateError, match=words):
        store.rollback(number)
    assert len(store.versions()) == 2


def test_a_round_that_a_rollback_overtook_is_void(
    store: CoordinatorStore, folder: Path, model_of: ModelOf, train: Train
) -> None:
    store.commit_initial(model_of(0))
    train(store, 1)
    epoch, number = store.next_round()
    with CoordinatorStore.open_beside(folder) as beside:
        beside.rollback(0)
    outcome = Outcome(epoch=epoch, round=number, contributors=12)
    assert store.commit_version(model_of(2), outcome, parent=1) is None
    current = store.current_version()
    assert current is not None
    assert value_of(store.model(current)) == 0
    settled = store.rounds()[0].outcome
    assert settled is not None
    assert (settled.reason, settled.contributors) == (OVERTAKEN, 0)


def test_old_arrays_make_room_but_their_records_stay(
    folder: Path, model_of: ModelOf, train: Train
) -> None:
    size = sum(map(len, model_of(0).chunks()))
    with CoordinatorStore.open_to_run(folder, fleet="garden", kept_model_bytes=3 * size) as store:
        store.enter_epoch(1)
        store.commit_initial(model_of(0))
        for value in (1, 2):
            train(store, value)
        store.rollback(0)
        for value in (3, 4):
            train(store, value)
        assert len(store.versions()) == 6
        kept = [version.version for version in store.versions() if store.has_arrays(version)]
        assert kept == [5, 4, 3, 0], "0 and 3 are one model, used last by version 3"
        with pytest.raises(StateError, match="arrays of version 1 were dropped"):
            store.rollback(1)


def test_the_current_model_is_kept_however_large(
    folder: Path, model_of: ModelOf, train: Train
) -> None:
    with CoordinatorStore.open_to_run(folder, fleet="garden", kept_model_bytes=1) as store:
        store.enter_epoch(1)
        store.commit_initial(model_of(0))
        train(store, 1)
        current = store.current_version()
        assert current is not None
        assert store.model(current) == model_of(1)


def test_a_large_model_comes_back_bit_by_bit(store: CoordinatorStore, model_of: ModelOf) -> None:
    big = model_of(0, n_features=100).with_arrays(
        **{"more.weight": np.random.default_rng(1).normal(size=(50_000,)).astype(np.float32)}
    )
    assert store.model(store.commit_initial(big)) == big
    assert len(big.chunks()) > 3


# -- damage ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "broken"),
    [
        ("UPDATE version SET record = replace(record, '12', '13') WHERE version = 2", 2),
        ("PRAGMA foreign_keys = OFF; DELETE FROM version WHERE version = 1", 1),
        ("UPDATE version SET link = zeroblob(32) WHERE version = 0", 0),
    ],
)
def test_a_changed_history_is_found_at_the_next_start(
    folder: Path, change: str, broken: int, model_of: ModelOf, train: Train
) -> None:
    with CoordinatorStore.open_to_run(folder, fleet="garden") as store:
        store.enter_epoch(1)
        store.commit_initial(model_of(0))
        for value in (1, 2, 3):
            train(store, value)
    with closing(sqlite3.connect(folder / STORE_FILE)) as connection:
        connection.executescript(change)
    with pytest.raises(StateError, match=f"broken at version {broken}") as caught:
        CoordinatorStore.open_to_run(folder, fleet="garden")
    assert caught.value.name == "state.damaged"


@pytest.mark.parametrize("position", [0, 1])
def test_changed_arrays_are_never_handed_out(
    store: CoordinatorStore, folder: Path, position: int, model_of: ModelOf
) -> None:
    version = store.commit_initial(model_of(0))
    with closing(sqlite3.connect(folder / STORE_FILE)) as connection:
        connection.execute("UPDATE chunk SET data = x'00' WHERE position = ?", (position,))
        connection.commit()
    with pytest.raises(StateError, match="arrays of version 0 are damaged"):
        store.model(version)


# -- processes -------------------------------------------------------------------------------


def test_one_process_runs_others_look_and_steer(
    store: CoordinatorStore, folder: Path, model_of: ModelOf
) -> None:
    store.commit_initial(model_of(0))
    with pytest.raises(StateError, match=f"in use by process {os.getpid()}"):
        CoordinatorStore.open_to_run(folder, fleet="garden")
    assert store.paused() is False
    with CoordinatorStore.open_beside(folder) as beside:
        assert beside.current_version() == store.current_version()
        beside.set_paused(True)
        assert store.paused() is True
        beside.set_paused(False)
    assert store.paused() is False


def test_there_is_nothing_to_look_at_before_the_first_run(folder: Path) -> None:
    with pytest.raises(StateError, match="no coordinator store") as caught:
        CoordinatorStore.open_beside(folder)
    assert caught.value.name == "state.missing"
    assert not folder.exists()


def test_another_fleet_may_not_use_the_folder(store: CoordinatorStore, folder: Path) -> None:
    store.close()
    with pytest.raises(StateError, match="belongs to fleet 'garden', not to 'shed'"):
        CoordinatorStore.open_to_run(folder, fleet="shed")
    CoordinatorStore.open_to_run(folder, fleet="garden").close()


def test_devices_and_bench_survive(folder: Path) -> None:
    with CoordinatorStore.open_to_run(folder, fleet="garden") as store:
        store.enter_epoch(1)
        store.devices.note({9: "shed", 7: "porch"})
        store.devices.note({9: "barn"})
        store.devices.save_cohorts({7: 0})
        store.devices.save_cohorts({7: 0, 9: 0})
        store.devices.save_bench({7: 1, 9: 2}, {9: 6})
        with pytest.raises(ProtocolError, match="fixed for an epoch"):
            store.devices.save_cohorts({7: 1, 11: 0})
    with CoordinatorStore.open_to_run(folder, fleet="garden") as store:
        assert [(d.number, d.name) for d in store.devices.all()] == [(7, "porch"), (9, "barn")]
        assert store.devices.cohorts() == {7: 0, 9: 0}
        assert store.devices.bench() == ({7: 1, 9: 2}, {9: 6})


def test_the_key_of_an_epoch_has_a_file_of_its_own(folder: Path) -> None:
    assert key_file(folder, 3) == folder / "paillier-3.key"


# -- crashes ---------------------------------------------------------------------------------

_COMMIT_FOREVER = '''
"""Forks a child for each line of stdin; a child runs rounds until it is killed.

A version holds how many sums are in it, so that one applied twice, or lost, shows in its value.
Children say what they *know* to be durable, in single writes: round numbers and versions.
"""
import os, sys
from pathlib import Path
import numpy as np
from fedring.coordinator.records import Outcome
from fedring.coordinator.store import CoordinatorStore
from fedring.shared.networks import initialise

def model_of(value):
    model = initialise("softmax", ["x", "y"], ["still", "moving"])
    return model.with_weights(np.full(model.n_weights, value))

def run(folder):
    with CoordinatorStore.open_to_run(folder, fleet="garden") as store:
        store.enter_epoch(1)
        version = store.current_version() or store.commit_initial(model_of(0))
        while True:
            epoch, number = store.next_round()
            os.write(1, f"round {number}\\n".encode())
            value = store.model(version).weights()[0]
            if number % 5 == 0:
                store.commit_void(Outcome(epoch=epoch, round=number, reason="void"))
                continue
            outcome = Outcome(epoch=epoch, round=number, contributors=12)
            version = store.commit_version(model_of(value + 1), outcome, parent=version.version)
            os.write(1, f"version {version.version}\\n".encode())

for _ in sys.stdin:
    if (child := os.fork()) == 0:
        run(Path(sys.argv[1]))
    os.write(1, f"child {child}\\n".encode())
    os.waitpid(child, 0)
    os.write(1, b"dead\\n")
'''

KILLS = 20


def test_twenty_kills_leave_the_chain_whole_and_apply_nothing_twice(folder: Path) -> None:
    chance = random.Random(3)
    heard: list[tuple[str, int]] = []
    with subprocess.Popen(
        [sys.executable, "-c", _COMMIT_FOREVER, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
        text=True,
        bufsize=1,
    ) as parent:
        assert parent.stdin is not None
        assert parent.stdout is not None
        for _ in range(KILLS):
            parent.stdin.write("next\n")
            child = 0
            more = chance.randrange(4)  # words: a slow machine commits a version now and then, too
            for line in parent.stdout:
                if line == "dead\n":
                    break
                word, number = line.split()
                heard.append((word, int(number)))
                if word == "child":
                    child = int(number)
                elif more:
                    more -= 1
                elif child:  # it is past its start: any moment may be the last
                    time.sleep(chance.uniform(0, 0.03))
                    os.kill(child, signal.SIGKILL)
                    child = 0
        parent.stdin.close()

    rounds = [number for word, number in heard if word == "round"]
    versions = [number for word, number in heard if word == "version"]
    assert rounds == sorted(set(rounds)), "a round number was taken twice, or went back"
    assert versions == sorted(set(versions))
    with CoordinatorStore.open_to_run(folder, fleet="garden") as store:  # checks the chain
        assert store.database.rows("PRAGMA integrity_check") == [("ok",)]
        history = store.versions()
        assert history[0].version >= versions[-1], "a version that was there is gone"
        assert store.last_round() >= rounds[-1]
        for version in history:
            assert value_of(store.model(version)) == version.version, "one sum for each version"
        made = [(kept.round, kept.version) for kept in store.rounds() if kept.version is not None]
        assert len({number for number, _ in made}) == len(made) == len(history) - 1
        assert {(version.round, version.version) for version in history[:-1]} == set(made)
        reasons = {kept.outcome.reason for kept in store.rounds() if kept.outcome is not None}
        assert reasons <= {"", "void", INTERRUPTED}
        store.enter_epoch(1)
        assert store.next_round() == (1, store.last_round())
