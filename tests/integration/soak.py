"""Round after round in real processes: no wrong sum, and nobody grows.

Run as a program (`scripts/soak`) it goes on for as many rounds as it is told.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
from attrs import define, field
from tests.integration.sums import REPEATABLE, check_sum

from fedring.lab.brokers import start_broker
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
        fleet: all its processes.
        spy: hears what is needed to compute every sum once more.
        rounds: that were seen so far.
        contributors: of each round that gave a model.
        void_rings: seen so far.
    """

    fleet: LocalFleet
    spy: Spy
    rounds: int = 0
    contributors: list[int] = field(factory=list)
    void_rings: int = 0

    def run(self, rounds: int) -> None:
        """See so many more models published, each of them right.

        Raises:
            AssertionError: a sum is wrong.
        """
        for _ in range(rounds):
            told = self.spy.event("model published", 0)
            with self.fleet.store() as store:
                version = store.version(int(told.facts["version"]))
            heard = self.spy.heard
            check_sum(self.fleet, heard, version)
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
        return {name: psutil.Process(one.pid).memory_info().rss for name, one in children.items()}

    def disk(self) -> dict[str, int]:
        """Bytes of every state folder."""
        folders = {name: self.fleet.device_file(name).parent / "state" for name in self.fleet.names}
        folders["coordinator"] = self.fleet.coordinator_state
        return {
            name: sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
            for name, folder in folders.items()
        }


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
        fleet.start()
        for name in fleet.names:  # so many programs take their time to start
            spy.status(name, 0)
        yield Soak(fleet, spy)


def check_disk(sizes: dict[str, int], rounds: int) -> None:
    """See that disks hold no more than a record for each round.

    Raises:
        AssertionError: one does.
    """
    for name, size in sizes.items():
        history = rounds * HISTORY_BYTES if name == "coordinator" else 0
        assert size <= LOG_BYTES + history, f"{name}: {size} bytes after {rounds} rounds"


def main(rounds: int) -> int:
    """Tell how memory, disk and sums do; 1 when a process has grown too much."""
    with tempfile.TemporaryDirectory() as folder, soak(Path(folder)) as running:
        settled = {}
        while running.rounds < rounds:
            running.run(min(50, rounds - running.rounds))
            memory = running.memory()
            if running.rounds == SETTLED:
                settled = memory
            whole = sum(one == DEVICES for one in running.contributors)
            print(
                f"round {running.rounds}: {whole} with all {DEVICES} devices, "
                f"{running.void_rings} void rings, 0 wrong sums; "
                f"coordinator {memory['coordinator'] >> 20} MiB, "
                f"largest device {max(memory[n] for n in running.fleet.names) >> 20} MiB, "
                f"coordinator's disk {running.disk()['coordinator'] >> 10} KiB",
                flush=True,
            )
            check_disk(running.disk(), running.rounds)
        if not settled:
            return 0
        growth = {name: memory[name] / settled[name] for name in memory}
        worst = max(growth, key=lambda name: growth[name])
        print(f"memory since round {SETTLED}: at most x {growth[worst]:.3f} ({worst})")
        return 0 if growth[worst] <= MOST_GROWTH else 1


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS))
