"""docs/data-sources.md: its settings load, and its programs make samples to learn from."""

import importlib
import re
import shutil
import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from types import ModuleType

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
SENSOR = {
    "name": "mpu6050\n",
    "sampling_frequency": "50\n",
    "in_accel_scale": "0.000598\n",
    "in_anglvel_scale": "0.001064724\n",
    **{f"in_{kind}_{axis}_raw": "0\n" for kind in ("accel", "anglvel") for axis in "xyz"},
}
"""Files of a motion sensor as the kernel shows them: 2 g and 2,000 degrees/s in 16 bits."""


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


class Playing:
    """A clock that plays one reading into the files of a sensor at each sleep, and then Ctrl-C."""

    def __init__(self, device: Path, readings: NDArray[np.int64]) -> None:
        self._now = 1_000.0
        self._files = [device / name for name in SENSOR if name.endswith("_raw")]
        self._left = iter(readings.tolist())
        self._play()

    def monotonic(self) -> float:
        return self._now

    def sleep(self, pause: float) -> None:
        assert pause == pytest.approx(1 / 50)
        self._now += pause
        self._play()

    def _play(self) -> None:
        reading = next(self._left, None)
        if reading is None:
            raise KeyboardInterrupt
        for file, value in zip(self._files, reading, strict=True):
            file.write_text(f"{value}\n")


@pytest.fixture
def record(own_modules: Path) -> ModuleType:
    """The page's program, with the copied features beside it."""
    (own_modules / "record.py").write_text(block("python", r"record\.py"))
    shutil.copy(str(features.__file__), own_modules / "features.py")
    return importlib.import_module("record")


@pytest.fixture
def device(tmp_path: Path) -> Path:
    """A folder as that of a sensor."""
    device = tmp_path / "iio:device0"
    device.mkdir()
    for name, content in SENSOR.items():
        (device / name).write_text(content)
    return device


def readings() -> NDArray[np.int64]:
    """Of one window."""
    return np.random.default_rng(1).integers(-32_768, 32_768, (features.WINDOW, 6))


def features_of(played: NDArray[np.int64]) -> NDArray[np.float32]:
    units = np.repeat([0.000598 / 9.80665, 0.001064724], 3)
    return features.window_features(played * units)


def test_its_program_records_a_sensor(
    record: ModuleType, device: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    played = readings()
    monkeypatch.setattr(record, "time", Playing(device, np.vstack([played, played[:1]])))
    with closing(sqlite3.connect(tmp_path / "movements.db")) as opened:
        with pytest.raises(KeyboardInterrupt):
            record.record(device, "walking", opened)
        for _ in range(4):
            opened.execute("INSERT INTO movements SELECT * FROM movements ORDER BY rowid")
        opened.commit()
    source = DatabaseSource(tmp_path / "movements.db", "movements", 100)
    source.check()
    read = source.read(features.NAMES, ["lying", "walking"])
    assert read.y.tolist() == [1] * 16
    np.testing.assert_allclose(read.x[0], features_of(played), rtol=1e-5)


def test_its_program_records_an_accelerometer_alone(
    record: ModuleType, device: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    played = readings()
    monkeypatch.setattr(record, "time", Playing(device, np.vstack([played, played[:1]])))
    monkeypatch.delitem(record.UNITS, "anglvel")
    (device / "in_anglvel_scale").unlink()
    found = next(record.windows(device))
    for name, here, there in zip(features.NAMES, found, features_of(played), strict=True):
        if not name.startswith("gyro"):
            assert here == pytest.approx(there, rel=1e-5), name


def test_its_program_refuses_a_slow_sensor(record: ModuleType, device: Path) -> None:
    (device / "sampling_frequency").write_text("12.5\n")
    with pytest.raises(SystemExit, match="sampling_frequency: write 50 or more"):
        next(record.windows(device))
