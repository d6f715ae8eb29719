"""Boards whose samples come from a folder, a database, a function and a file, in one ring."""

import csv
import sqlite3
from contextlib import closing
from pathlib import Path

from fedring.lab.brokers import start_broker
from fedring.lab.fleets import LocalFleet
from fedring.lab.spy import Spy

FUNCTION = """
import csv

def samples():
    with open({file!r}) as lines:
        yield from csv.DictReader(lines)
"""


def change(fleet: LocalFleet, name: str, source: str) -> None:
    """Have the samples of a device come from elsewhere than from its file."""
    settings = fleet.device_file(name)
    before = f'file = "{fleet.data_file(name)}"'
    text = settings.read_text()
    assert before in text
    settings.write_text(text.replace(before, source))


def into_a_folder(fleet: LocalFleet, name: str) -> None:
    folder = fleet.folder / "recordings"
    folder.mkdir()
    fleet.data_file(name).rename(folder / "monday.csv")
    change(fleet, name, f'folder = "{folder}"')


def into_a_database(fleet: LocalFleet, name: str) -> None:
    file = fleet.folder / "own.db"
    with fleet.data_file(name).open() as lines, closing(sqlite3.connect(file)) as database:
        header, *rows = csv.reader(lines)
        database.execute(f"CREATE TABLE own ({', '.join(header)})")
        database.executemany("INSERT INTO own VALUES (?, ?, ?)", rows)
        database.commit()
    fleet.data_file(name).unlink()
    change(fleet, name, f'database = "{file}"\ntable = "own"')


def into_a_function(fleet: LocalFleet, name: str) -> None:
    module = fleet.device_file(name).parent / "sensor.py"
    module.write_text(FUNCTION.format(file=str(fleet.data_file(name))))
    change(fleet, name, 'function = "sensor:samples"')


def test_boards_with_different_sources_learn_in_one_ring(tmp_path: Path) -> None:
    with (
        start_broker(tmp_path / "broker") as broker,
        LocalFleet(tmp_path, broker.address, 4) as fleet,
        Spy(broker.address, fleet.topics) as spy,
    ):
        into_a_folder(fleet, "b01")
        into_a_database(fleet, "b02")
        into_a_function(fleet, "b03")
        fleet.start()
        spy.event("model published", 0, contributors=4)
