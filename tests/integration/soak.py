"""Round after round in real processes: no wrong sum, and nobody grows.

Run as a program (`scripts/soak`) it goes on for as many rounds as it is told.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
from attrs import define, field
from tests.integration.sums import REPEATABLE, check_sum

from fedring.lab.brokers import LocalBroker, start_broker
from fedring.lab.fleets import LocalFleet
from fedring.lab.spy import Spy

ROUNDS = 1000
DEVICES = 48
SETTINGS = {
    "ring": {
        "size": 12,
        "min_devices": DEVICES,
        "ready_s": 120,
        "patience_s": 15,
        "release_s": 60,
        "key_bits": 2048,
    }
}
SETTLED = 200
"""Rounds after which every process has what it needs."""
MOST_GROWTH = 1.05
"""Of the memory of a process, from round 200 on."""
HISTORY_BYTES = 8 << 10
"""What a round may leave on the coordinator's disk for ever: two records and a small model."""
LOG_BYTES = 8 << 20
"""What the write-ahead log of a state folder, and all that does not grow, may take."""


@define
class Soak:
    """A fleet that learns on and on.

    Attributes:
        broker: that they meet on.
        fleet: all other processes.
        spy: hears what is needed to compute every sum once more.
        rounds: that were seen so far; the sum of each was computed once more.
        wrong_sums: what was wrong with those that were not right.
        contributors: of each round that gave a model.
        void_rings: seen so far.
    """

    broker: LocalBroker
    fleet: LocalFleet
    spy: Spy
    rounds: int = 0
    wrong_sums: list[str] = field(factory=list)
    contributors: list[int] = field(factory=list)
    void_rings: int = 0

    def run(self, rounds: int) -> None:
        """See so many more models published, and whether each of them is right."""
        for _ in range(rounds):
            told = self.spy.event("model published", 0)
            with self.fleet.store() as store:
                version = store.version(int(told.facts["version"]))
            heard = self.spy.heard
            try:
                check_sum(self.fleet, heard, version)
            except AssertionError as error:
                self.wrong_sums.append(f"round {version.round}: {error}")
            voids = {"event": "ring void", "round": version.round}
            self.void_rings += sum(one.facts.items() >= voids.items() for one in heard)
            self.contributors.append(version.contributors)
            self.spy.forget(told)
            self.rounds += 1

    def memory(self) -> dict[str, int]:
        """Resident bytes of every process."""
        children = dict(self.fleet.devices)
        assert self.fleet.coordinator is not None
        children["coordinator"] = self.fleet.coordinator
        children["broker"] = self.broker.child
        return {name: psutil.Process(one.pid).memory_info().rss for name, one in children.items()}

    def disk(self) -> dict[str, int]:
        """Bytes of every state folder, and of what the broker stores and logs."""
        folders = {name: self.fleet.device_file(name).parent / "state" for name in self.fleet.names}
        folders["coordinator"] = self.fleet.coordinator_state
        folders["broker"] = self.fleet.folder / "broker"
        return {name: _bytes_in(folder) for name, folder in folders.items()}


def _bytes_in(folder: Path) -> int:
    total = 0
    for file in folder.rglob("*"):
        with suppress(FileNotFoundError):  # it was renamed meanwhile: the broker saves so
            total += file.stat().st_size if file.is_file() else 0
    return total


@contextmanager
def soak(folder: Path) -> Iterator[Soak]:
    """Start a fleet."""
    with (
        start_broker(folder / "broker") as broker,
        LocalFleet(
            folder, broker.address, DEVICES, coordinator=SETTINGS, device=REPEATABLE
        ) as fleet,
        Spy(broker.address, fleet.topics, fleet.check) as spy,
    ):
        fleet.start_coordinator()
        for name in fleet.names:  # one after the other: a busy machine starts so many slowly
            fleet.start_device(name)
            spy.status(name, 0)
        yield Soak(broker, fleet, spy)


def check_disk(sizes: dict[str, int], rounds: int) -> None:
    """See that disks hold no more than a record for each round.

    Raises:
        AssertionError: one does.
    """
    for name, size in sizes.items():
        history = rounds * HISTORY_BYTES if name == "coordinator" else 0
        assert size <= LOG_BYTES + history, f"{name}: {size} bytes after {rounds} rounds"


def main(rounds: int) -> int:
    """Tell how memory, disk and sums do; 1 when a sum was wrong or a process has grown too much."""
    began = time.monotonic()

    def tell(line: str) -> None:
        print(f"{(time.monotonic() - began) / 60:.1f} min: {line}", flush=True)

    with tempfile.TemporaryDirectory() as folder, soak(Path(folder)) as running:
        tell("all processes have started")
        settled = {}
        while running.rounds < rounds:
            running.run(min(50, rounds - running.rounds))
            memory, disk = running.memory(), running.disk()
            if running.rounds == SETTLED:
                settled = memory
            whole = sum(one == DEVICES for one in running.contributors)
            tell(
                f"round {running.rounds}: {whole} with all {DEVICES} devices, "
                f"{running.void_rings} void rings, {len(running.wrong_sums)} wrong sums; "
                f"memory {_told(memory, 20)} MiB; disk {_told(disk, 10)} KiB"
            )
            for wrong in running.wrong_sums:
                tell(wrong)
            check_disk(disk, running.rounds)
        if not settled:
            return 1 if running.wrong_sums else 0
        growth = {name: memory[name] / settled[name] for name in memory}
        worst = max(growth, key=lambda name: growth[name])
        tell(
            f"memory since round {SETTLED}: at most x {growth[worst]:.3f} ({worst}), "
            f"coordinator x {growth['coordinator']:.3f}, broker x {growth['broker']:.3f}"
        )
        return 1 if running.wrong_sums or growth[worst] > MOST_GROWTH else 0


def _told(sizes: dict[str, int], shift: int) -> str:
    """Of the coordinator, the broker and the largest device, in units of 2**shift bytes."""
    largest = max(size for name, size in sizes.items() if name not in {"coordinator", "broker"})
    told = {
        "coordinator": sizes["coordinator"],
        "broker": sizes["broker"],
        "largest device": largest,
    }
    return ", ".join(f"{name} {size >> shift}" for name, size in told.items())


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS))
