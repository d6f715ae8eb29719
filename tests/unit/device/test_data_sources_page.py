"""docs/data-sources.md: its settings load, and its programs make samples to learn from."""

import importlib
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from fedring.device.data import DatabaseSource, FunctionSource, source_of
from fedring.device.settings import DeviceSettings
from fedring.lab.hapt import features
from fedring.shared.config import FunctionName

PAGE = Path(__file__).parents[3] / "docs" / "data-sources.md"
SETTINGS = """
fleet = {ca = "ca.crt", key = "d.key", certificate = "d.crt"}
broker = {host = "localhost"}
state = {folder = "state"}
privacy = {threshold = 3}
"""
PLACES = ("file", "folder", "database", "function", "record.py")
RECORDED = Path(__file__).parents[2] / "data" / "iio"


def block(language: str, place: str) -> str:
    fenced = rf"^```{language} {place}\n(.*?)^```$"
    found = re.findall(fenced, PAGE.read_text(), re.MULTILINE | re.DOTALL)
    (text,) = found
    return str(text)


@pytest.mark.parametrize("place", PLACES)
def test_its_settings_load(tmp_path: Path, place: str) -> None:
    file = tmp_path / "device.toml"
    file.write_text(SETTINGS + block("toml", place))
    source_of(DeviceSettings.load(file).data)


def test_its_view_leaves_out_gaps_and_puts_the_newest_first(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "room.db")) as opened:
        opened.execute("CREATE TABLE readings (time, temperature, light, presence)")
        rows = [(n, None if n == 5 else n, 100 * n, "empty") for n in range(20)]
        opened.executemany("INSERT INTO readings VALUES (?, ?, ?, ?)", rows)
        opened.execute(block("sql", "database"))
        opened.commit()
    source = DatabaseSource(tmp_path / "room.db", "samples", 15)
    source.check()
    read = source.read(["light", "temperature"], ["empty"])
    assert read.x[:, 1].tolist() == [n for n in range(19, 3, -1) if n != 5]
    np.testing.assert_allclose(read.x[:, 0], read.x[:, 1] / 10, rtol=1e-6)


@pytest.fixture
def own_modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder from which modules are imported for the time of the test."""
    for name in ("room", "record", "features"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def test_its_function_gives_samples(own_modules: Path) -> None:
    (own_modules / "log").write_text("8.0 18.5 0\n9.5 21.0 2\n" * 5)
    text = block("python", "function").replace("/var/lib/room/log", str(own_modules / "log"))
    (own_modules / "room.py").write_text(text)
    source = FunctionSource(FunctionName(own_modules, "room", "samples"))
    source.check()
    read = source.read(["temperature", "hour"], ["empty", "occupied"])
    assert read.x.tolist() == [[18.5, 8.0], [21.0, 9.5]] * 5
    assert read.y.tolist() == [0, 1] * 5


# -- a real sensor ------------------------------------------------------------------------------


@pytest.fixture
def sensor(tmp_path: Path) -> Path:
    """A copy of the tree of files; see its README for where the values come from."""
    return Path(shutil.copytree(RECORDED / "device0", tmp_path / "iio:device0"))


def walk() -> NDArray[np.int64]:
    """What the tree's three raw files show in 128 readings, shape (128, 3)."""
    return np.loadtxt(RECORDED / "walking.csv", np.int64, delimiter=",", skiprows=1)


def features_of(counts: NDArray[np.int64]) -> NDArray[np.float32]:
    """Of readings with the scale that the tree says; nothing turns."""
    movement = np.zeros((features.WINDOW, 6))
    movement[:, :3] = counts * 0.000598 / 9.80665
    return features.window_features(movement)


class Playing:
    """A clock that plays the next reading into the files of a sensor at each sleep."""

    def __init__(self, sensor: Path, counts: NDArray[np.int64]) -> None:
        self._now = 1_000.001
        self._files = [sensor / f"in_accel_{axis}_raw" for axis in "xyz"]
        self._left = iter(counts.tolist())
        self._play()

    def monotonic(self) -> float:
        return self._now

    def sleep(self, pause: float) -> None:
        assert 0 < pause <= 1 / 50
        before = self._now
        self._now += pause + 0.001  # one never wakes up too early
        assert self._now - before == pytest.approx(1 / 50)
        self._play()

    def _play(self) -> None:
        for file, value in zip(self._files, next(self._left, ()), strict=False):
            file.write_text(f"{value}\n")


@pytest.fixture
def program(own_modules: Path) -> Path:
    """The page's program, with the copied features beside it."""
    program = own_modules / "record.py"
    program.write_text(block("python", r"record\.py"))
    shutil.copy(str(features.__file__), own_modules / "features.py")
    return program


def test_its_program_has_at_most_twenty_lines(program: Path) -> None:
    assert len([line for line in program.read_text().splitlines() if line.strip()]) <= 20


def test_the_recorded_tree_shows_somebody_who_walks(sensor: Path) -> None:
    first = [int((sensor / f"in_accel_{axis}_raw").read_text()) for axis in "xyz"]
    assert first == walk()[0].tolist()
    found = dict(zip(features.NAMES, features_of(walk()), strict=True))
    with np.load(Path(str(features.__file__)).with_name("hapt.npz")) as kept:
        names, rows, activity = (kept[key] for key in ("names", "features", "activity"))
    (number,) = re.findall(r"window (\d+)", (RECORDED / "README.md").read_text())
    assert activity[int(number)] == 0, "walking"
    for name, value in zip(names.tolist(), rows[int(number)], strict=True):
        if not name.startswith("gyro"):
            # Counts are rounded once more: 0.06 mg of steps of 1 mg.
            assert found[name] == pytest.approx(value, abs=0.002), name


def test_its_program_reads_a_window(
    program: Path, sensor: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = importlib.import_module(program.stem)
    monkeypatch.setattr(record, "time", Playing(sensor, walk()))
    found = next(record.windows(sensor))
    np.testing.assert_allclose(found, features_of(walk()), rtol=1e-5, atol=1e-6)


def test_its_program_fills_a_table_that_an_agent_reads(program: Path, sensor: Path) -> None:
    """As typed, on files that stand still, until it has stored something."""
    file = program.with_name("movements.db")
    command: list[str | Path] = [sys.executable, program, sensor, "walking"]
    with subprocess.Popen(command, cwd=program.parent, stderr=subprocess.PIPE) as running:
        until = time.monotonic() + 120
        while n_rows(file) < 1:
            assert time.monotonic() < until
            assert running.poll() is None
            time.sleep(0.1)
        running.send_signal(signal.SIGINT)
        _, said = running.communicate(timeout=60)
    assert b"KeyboardInterrupt" in said
    with closing(sqlite3.connect(file)) as opened:
        for _ in range(4):
            opened.execute("INSERT INTO movements SELECT * FROM movements ORDER BY rowid")
        opened.commit()
    source = DatabaseSource(file, "movements", 100)
    source.check()
    read = source.read(features.NAMES, ["lying", "walking"])
    assert set(read.y.tolist()) == {1}
    np.testing.assert_allclose(
        read.x[0], features_of(np.tile(walk()[0], (features.WINDOW, 1))), rtol=1e-5, atol=1e-6
    )


def n_rows(file: Path) -> int:
    try:
        with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as opened:
            return int(opened.execute("SELECT count(*) FROM movements").fetchone()[0])
    except sqlite3.OperationalError:  # not there yet
        return 0
