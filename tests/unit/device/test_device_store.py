"""The device's durable records: they only grow, and they are on the disk when the call returns."""

import re
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedring.device.budgets import DAY_S, Budget
from fedring.device.store import STORE_FILE, DeviceStore, StoredRevocation, keep_model
from fedring.shared.errors import ProtocolError, StateError
from fedring.shared.models import Model, load_npz


def open_store(folder: Path, *, fleet: str = "garden", number: int = 7) -> DeviceStore:
    return DeviceStore.open(folder, fleet=fleet, number=number)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
def store(folder: Path) -> Iterator[DeviceStore]:
    with open_store(folder) as store:
        yield store


def test_a_new_store_has_joined_and_seen_nothing(store: DeviceStore) -> None:
    assert store.joined() == (0, 0)
    assert store.revocation() is None
    assert store.memory() == {}


def test_folder_and_files_are_private(store: DeviceStore, folder: Path) -> None:
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.name for path in folder.iterdir()} >= {STORE_FILE, f"{STORE_FILE}-wal", "lock"}
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}


def test_joined_grows_and_survives(folder: Path) -> None:
    with open_store(folder) as store:
        store.persist_joined(1, 4)
        store.persist_joined(1, 9)
        store.persist_joined(2, 1)
    with open_store(folder) as store:
        assert store.joined() == (2, 1)


@pytest.mark.parametrize("earlier", [(3, 5), (3, 4), (2, 9)])
def test_a_round_is_joined_once_and_never_an_earlier_one(
    store: DeviceStore, earlier: tuple[int, int]
) -> None:
    store.persist_joined(3, 5)
    with pytest.raises(ProtocolError, match="not above round 5 of epoch 3"):
        store.persist_joined(*earlier)
    assert store.joined() == (3, 5)


def test_a_release_is_counted_once(folder: Path) -> None:
    with open_store(folder) as store:
        store.persist_release(1, 9.0)
        store.persist_release(2, 8.5)
        store.persist_evaluation(1, 4.0)
        for total in (2, 1):
            with pytest.raises(ProtocolError, match="already counted"):
                store.persist_release(total, 5.0)
        with pytest.raises(ProtocolError, match="1 evaluations are not above 1"):
            store.persist_evaluation(1, 3.0)
    with open_store(folder) as store:
        release = store.release_budget(per_day=100, cap=10, now=0)
        evaluation = store.evaluation_budget(per_day=50, cap=5, now=0)
        assert (release.total, release.level) == (2, 8.5)
        assert (evaluation.total, evaluation.level) == (1, 4.0)


def test_budgets_start_full_and_are_cut_to_a_lower_cap(store: DeviceStore) -> None:
    assert store.release_budget(per_day=100, cap=10, now=0).level == 10
    store.persist_release(1, 9.0)
    assert store.release_budget(per_day=100, cap=4, now=0).level == 4


def test_the_highest_revocation_list_is_kept(folder: Path) -> None:
    with open_store(folder) as store:
        store.persist_revocation(4, b"list 4")
        store.persist_revocation(4, b"list 4")
        for number, raw in [(3, b"list 3"), (4, b"other")]:
            with pytest.raises(ProtocolError, match="not above list 4"):
                store.persist_revocation(number, raw)
    with open_store(folder) as store:
        assert store.revocation() == StoredRevocation(4, b"list 4")


def test_memories_reach_the_disk_with_the_next_durable_record(
    folder: Path, store: DeviceStore
) -> None:
    def on_disk() -> list[tuple[str, str]]:
        with closing(sqlite3.connect(folder / STORE_FILE)) as other:
            return other.execute("SELECT key, value FROM memory ORDER BY key").fetchall()

    store.remember(round=3, refusal="4 contributors, this device answers above 5")
    store.remember(round=4)
    assert store.memory()["round"] == 4
    assert on_disk() == []
    store.persist_joined(1, 4)
    assert on_disk() == [
        ("refusal", '"4 contributors, this device answers above 5"'),
        ("round", "4"),
    ]


def test_memories_are_written_at_close(folder: Path) -> None:
    with open_store(folder) as store:
        store.remember(version=12)
    with open_store(folder) as store:
        assert store.memory() == {"version": 12}


def test_a_second_process_is_refused_until_the_first_ends(folder: Path) -> None:
    script = (
        "import sys\n"
        "from pathlib import Path\n"
        "from fedring.device.store import DeviceStore\n"
        "store = DeviceStore.open(Path(sys.argv[1]), fleet='garden', number=7)\n"
        "print('open', flush=True)\n"
        "sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "open\n"
        with pytest.raises(StateError, match=f"in use by process {first.pid}") as caught:
            open_store(folder)
        assert caught.value.name == "state.in-use"
        first.send_signal(signal.SIGKILL)
    open_store(folder).close()


def test_another_device_may_not_use_the_folder(folder: Path) -> None:
    open_store(folder).close()
    with pytest.raises(StateError, match="belongs to device 7 of fleet 'garden'"):
        open_store(folder, number=8)
    with pytest.raises(StateError, match="not to device 7 of fleet 'shed'"):
        open_store(folder, fleet="shed")
    open_store(folder).close()


def test_a_refused_release_leaves_memories_to_be_written_later(store: DeviceStore) -> None:
    store.persist_release(1, 1.0)
    store.remember(round=1)
    with pytest.raises(ProtocolError):
        store.persist_release(1, 1.0)
    store.flush()
    assert store.memory() == {"round": 1}


_JOIN = """
import os, sys
from pathlib import Path
from fedring.device.store import DeviceStore
with DeviceStore.open(Path(sys.argv[1]), fleet="garden", number=7) as store:
    os.write(1, b"begin joined\\n")
    store.persist_joined(1, 1)
    os.write(1, b"begin release\\n")
    store.persist_release(1, 3.0)
    os.write(1, b"begin revocation\\n")
    store.persist_revocation(1, b"list")
    os.write(1, b"begin nothing\\n")
    os.kill(os.getpid(), 9)
"""


def test_records_are_synced_before_the_call_returns(folder: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", _JOIN, str(folder)]
    strace = shutil.which("strace")
    trace = tmp_path / "trace"
    if strace is not None:
        calls = "trace=write,pwrite64,fsync,fdatasync"
        command = [strace, "-f", "-y", "-e", calls, "-o", str(trace), *command]
    subprocess.run(command, stdout=subprocess.DEVNULL, check=False)

    # Whatever the disk does: no close, no exit handler was needed for the records to be there.
    with open_store(folder) as store:
        assert store.joined() == (1, 1)
        assert store.release_budget(per_day=1, cap=5, now=0).total == 1
        assert store.revocation() == StoredRevocation(1, b"list")
        if strace is None:
            # Without a trace: the setting that makes SQLite sync its log at every commit.
            assert store._database.rows("PRAGMA journal_mode") == [("wal",)]
            assert store._database.rows("PRAGMA synchronous")[0][0] >= 2
            return

    log = re.escape(f"{folder / STORE_FILE}-wal")
    _, *spans = re.split(r'write\(1<.*"begin (\w+)', trace.read_text())
    spans_by_record = dict(zip(spans[::2], spans[1::2], strict=True))
    assert set(spans_by_record) == {"joined", "release", "revocation", "nothing"}
    for record in ("joined", "release", "revocation"):
        written = [
            m.start() for m in re.finditer(rf"pwrite64\(\d+<{log}>", spans_by_record[record])
        ]
        synced = [
            m.start()
            for m in re.finditer(rf"f(?:data)?sync\(\d+<{log}>\) += 0", spans_by_record[record])
        ]
        assert written, record
        assert synced, record
        assert synced[-1] > written[-1], record


def small_model(value: float) -> Model:
    arrays = {"layer1.weight": np.full((1, 2), value, np.float32)}
    return Model("softmax", ("x",), ("a", "b"), arrays, ("layer1.weight",))


def test_the_kept_model_replaces_the_older_one_whole(tmp_path: Path) -> None:
    path = tmp_path / "public" / "model.npz"
    for version in (1, 2):
        model = small_model(version)
        keep_model(path, model, {"version": version})
        assert load_npz(path) == (model, {"version": version})
    assert [entry.name for entry in path.parent.iterdir()] == ["model.npz"]


def test_a_model_that_cannot_be_kept_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StateError, match=r"model\.npz: the model cannot be kept here"):
        keep_model(tmp_path / "file" / "model.npz", small_model(1), {})


def test_a_budget_runs_out_and_fills_by_uptime() -> None:
    budget = Budget(2, per_day=10, cap=2)
    budget = budget.spent(0).spent(0)
    assert (budget.level, budget.total) == (0, 2)
    assert budget.wait_s(0) == DAY_S / 10
    with pytest.raises(ProtocolError, match="the next is free in 8640 s"):
        budget.spent(0)
    assert budget.spent(DAY_S / 10).total == 3
    assert budget.at(DAY_S).level == 2


@given(
    cap=st.integers(1, 20),
    per_day=st.floats(0.1, 1e4),
    times=st.lists(st.floats(0, 10 * DAY_S), max_size=60),
)
def test_no_schedule_gets_more_than_the_burst_and_the_rate(
    cap: int, per_day: float, times: list[float]
) -> None:
    """Also when the times handed in jump back: time passes once."""
    budget = Budget(cap, per_day, cap)
    for now in times:
        if budget.wait_s(now) == 0:
            budget = budget.spent(now)
        assert 0 <= budget.level <= cap
    passed = max(times, default=0.0)
    assert budget.total <= cap + passed * per_day / DAY_S + 1e-6
