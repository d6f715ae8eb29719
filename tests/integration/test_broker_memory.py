"""One board that fills the broker: how much memory of the machine it gets, with shipped files.

A board may write into the inbox of a board that there is not, and Mosquitto keeps what is retained.
It cannot be told to keep retained messages of some topics only.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.integration.test_broker_config import BROKER_CONFIG, V5, Client

from fedring.fleet.authority import Fleet, create_fleet
from fedring.lab.processes import Child
from fedring.shared.tls import tls_context

Start = Callable[..., tuple[Child, int]]
DENIED = 135
NOBODY_LISTENS = 16
PAYLOAD = bytes(120_000)
N_MESSAGES = 400
LIMIT = 20_000_000
BESIDE = 24_000_000
"""What Mosquitto needs beside what it counts: itself, its libraries, buffers."""


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    fleet = create_fleet(tmp_path / "fleet", "greenhouse", ["localhost"])
    fleet.add_all(["b01", "b02"])
    return fleet


@pytest.fixture
def machine(shipped_mosquitto: Start, fleet: Fleet, tmp_path: Path) -> Iterator["Machine"]:
    machine = Machine(shipped_mosquitto, fleet, tmp_path / "machine")
    yield machine
    machine.child.stop()


class Machine:
    """Mosquitto with the files that its fleet's owner makes."""

    def __init__(self, start: Start, fleet: Fleet, root: Path) -> None:
        self._start, self._fleet, self._root = start, fleet, root
        self._settings = root / "etc" / "mosquitto"
        self.child, self._port = start(root, fleet.broker_folder)
        self.restart()

    def restart(self, site: str = "") -> None:
        """Start it anew, with further settings of this one machine."""
        self.child.stop()
        (self._settings / "acl").write_bytes((self._fleet.broker_folder / "acl").read_bytes())
        (self._settings / "site" / "memory.conf").write_text(site)
        self.child, self._port = self._start(self._root, self._fleet.broker_folder)

    def forget(self) -> None:
        """Do what docs/threat-model.md says: without its database it has no retained message."""
        self.child.stop()
        (self._root / "var" / "lib" / "mosquitto" / "mosquitto.db").unlink()

    def client(self, name: str) -> Client:
        folder = self._fleet.device_folder(name)
        files = (folder / file for file in ("ca.crt", "device.crt", "device.key"))
        return Client(self._port, tls_context(*files, judge_dates=True), name, V5)

    @property
    def memory(self) -> int:
        """Resident, in bytes."""
        status = Path(f"/proc/{self.child.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0]) * 1024


def fill(client: Client) -> int:
    """Leave retained messages to boards that there are not, until the broker has enough of it."""
    for number in range(N_MESSAGES):
        topic = f"fedring/greenhouse/device/y{number}/inbox/b01"
        if client.publish(topic, PAYLOAD, retain=True) == -1:
            return number
    return N_MESSAGES


def test_one_board_takes_no_more_memory_than_the_broker_may_have(machine: Machine) -> None:
    with machine.client("b01") as hostile:
        assert fill(hostile) == N_MESSAGES  # they are fewer than the shipped limit holds
        assert machine.memory > N_MESSAGES * len(PAYLOAD)
    machine.forget()
    machine.restart(f"memory_limit {LIMIT}\n")
    with machine.client("b02") as other, machine.client("b01") as hostile:
        other.subscribe("fedring/greenhouse/device/b02/inbox/+")
        kept = fill(hostile)
        assert LIMIT // 2 < kept * len(PAYLOAD) < LIMIT
        assert hostile.losses > 0
        assert machine.memory < LIMIT + BESIDE
        # What is small still passes between others.
        topic = "fedring/greenhouse/device/b02/inbox/b02"
        assert other.publish(topic, b"small") == 0
        other.take(until=b"small")
        assert other.losses == 0
    assert machine.child.running


def test_there_is_a_limit_and_a_file_of_the_machine_can_say_another() -> None:
    """Of two lines the later one holds, as the test above sees."""
    shipped = (BROKER_CONFIG / "mosquitto.conf").read_text()
    limit, include = shipped.index("\nmemory_limit 536870912\n"), shipped.index("\ninclude_dir ")
    assert limit < include


def test_no_board_writes_into_a_fleet_that_there_is_not(machine: Machine) -> None:
    with machine.client("b01") as hostile:
        own = "device/b01/status"
        assert hostile.publish(f"fedring/x1/{own}", b"", retain=True) == DENIED
        assert hostile.publish(f"fedring/greenhouse/{own}", b"") in {0, NOBODY_LISTENS}
