"""A small fleet of real processes on a local broker, for tests: as small as a fleet can be.

FOLDER/
    broker/         of the broker
    coordinator/    the coordinator's settings and state, and links to what it got from its owner
    data/           the data files of all devices, side by side
    fleet/          what `fedring fleet init` and `add` make, with settings for this machine
    logs/           what each process says

The model has two features and two classes, so that a round takes a fraction of a second.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from fedring.coordinator.store import CoordinatorStore
from fedring.fleet.authority import Fleet, create_fleet
from fedring.lab.processes import Child, stop_all
from fedring.lab.programs import FEDRING, ONE_THREAD, Tables, start_part, write_toml
from fedring.shared.broker import Broker
from fedring.shared.topics import Topics

FEATURES: Final = ("warmth", "light")
CLASSES: Final = ("night", "day")
STOP_S: Final = 20.0

COORDINATOR: Final[Tables] = {
    "fleet": {
        "ca": "ca.crt",
        "key": "coordinator.key",
        "certificate": "coordinator.crt",
        "revoked": "revoked",
    },
    "state": {"folder": "state"},
    "model": {
        "kind": "softmax",
        "hidden": [],
        "features": list(FEATURES),
        "classes": list(CLASSES),
        "feature_ranges": [10.0],
    },
    "training": {"rounds": 1_000_000, "epochs": 1, "statistics": False},
    # Nothing waits so long but for a process that was stopped on purpose.
    "ring": {
        "size": 4,
        "min_devices": 4,
        "ready_s": 60,
        "patience_s": 15,
        "release_s": 30,
        "key_bits": 2048,
    },
}
DEVICE: Final[Tables] = {
    "fleet": {"ca": "ca.crt", "key": "device.key", "certificate": "device.crt"},
    "state": {"folder": "state"},
    "privacy": {"threshold": 2},
}


class LocalFleet:
    """A coordinator and devices with all their files; leaving its `with` block stops them.

    Args:
        folder: for everything; new.
        broker: on this machine, without certificates.
        n_devices: named b01, b02, ...
        coordinator: settings that differ from `COORDINATOR`, by table.
        device: settings that differ from `DEVICE`, by table.

    Attributes:
        authority: the fleet's folder on its owner's machine.
        coordinator: its process, or None while there is none.
        devices: process of each device that was started, by name.
        under: a program with its arguments that runs `coordinator` or a device, by name: a tracer,
            another clock, another network.
    """

    def __init__(
        self,
        folder: Path,
        broker: Broker,
        n_devices: int = 4,
        *,
        coordinator: Tables = MappingProxyType({}),
        device: Tables = MappingProxyType({}),
    ) -> None:
        self.folder = folder
        self.authority: Fleet = create_fleet(folder / "fleet", "tests", [broker.host])
        self.names = tuple(f"b{number:02d}" for number in range(1, n_devices + 1))
        self.authority.add_all(self.names)
        self.topics = Topics(self.authority.name)
        self.coordinator: Child | None = None
        self.devices: dict[str, Child] = {}
        self.under: dict[str, Sequence[str | Path]] = {}
        self._logs = folder / "logs"
        self._logs.mkdir()
        (folder / "data").mkdir()
        common = {"broker": {"host": broker.host, "port": broker.port, "tls": False}}
        self._common = common
        self.coordinator_file.parent.mkdir()
        for file in COORDINATOR["fleet"].values():  # the owner's folder is signed, and made anew
            link = self.coordinator_file.with_name(file)
            link.symlink_to(self.authority.coordinator_folder / file)
        write_toml(self.coordinator_file, _merged(COORDINATOR, common, coordinator))
        for name in self.names:
            write_samples(self.data_file(name), seed=name)
            data = {"data": {"file": str(self.data_file(name))}}
            write_toml(self.device_file(name), _merged(DEVICE, common, data, device))

    def __enter__(self) -> LocalFleet:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def coordinator_file(self) -> Path:
        """The coordinator's settings."""
        return self.folder / "coordinator" / "coordinator.toml"

    @property
    def coordinator_state(self) -> Path:
        """The coordinator's state folder."""
        return self.folder / "coordinator" / "state"

    def device_file(self, name: str) -> Path:
        """Settings of a device."""
        return self.authority.device_folder(name) / "device.toml"

    def data_file(self, name: str) -> Path:
        """The data that stays on a device."""
        return self.folder / "data" / f"{name}.csv"

    def change_coordinator(self, changes: Tables) -> None:
        """Write the coordinator's settings anew, for its next start."""
        write_toml(self.coordinator_file, _merged(COORDINATOR, self._common, changes))

    def start(self) -> None:
        """Start the coordinator and all devices."""
        self.start_coordinator()
        for name in self.names:
            self.start_device(name)

    def start_coordinator(self) -> Child:
        """Start the coordinator, or start it again."""
        under = self.under.get("coordinator", ())
        self.coordinator = start_part(
            "coordinator", "coordinator", self.coordinator_file, self._logs, under
        )
        return self.coordinator

    def start_device(self, name: str) -> Child:
        """Start a device, or start it again."""
        under = self.under.get(name, ())
        self.devices[name] = start_part("device", name, self.device_file(name), self._logs, under)
        return self.devices[name]

    def freeze(self, name: str) -> None:
        """Stop a device where it stands: its connection stays, but it does nothing."""
        self.devices[name].freeze()

    def thaw(self, *names: str) -> None:
        """Let devices go on; all of them when none is named."""
        for name in names or self.devices:
            self.devices[name].thaw()

    def check(self) -> None:
        """See that nobody has ended but those who were killed.

        Raises:
            RuntimeError: somebody has; with its last words.
        """
        for child in [*self.devices.values(), *([self.coordinator] if self.coordinator else [])]:
            if child.exit_status not in {None, -signal.SIGKILL}:
                raise RuntimeError(f"{child!r} {child.exit_status}:\n{child.last_words(20)}")

    def store(self) -> CoordinatorStore:
        """The coordinator's store, beside its process; to be closed."""
        return CoordinatorStore.open_beside(self.coordinator_state)

    def set_paused(self, paused: bool) -> None:
        """What `fedring coordinator pause` and `resume` do, without a process of their own."""
        with self.store() as store:
            store.set_paused(paused)

    def command(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        """Run `fedring` with these arguments to its end."""
        return subprocess.run(  # noqa: S603  # our own program
            [*FEDRING, *arguments],
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            env=os.environ | ONE_THREAD,
        )

    def stop(self) -> None:
        """End all processes."""
        self.thaw()
        children = [*self.devices.values()]
        if self.coordinator is not None:
            children.append(self.coordinator)
        stop_all(children, STOP_S)

    def logs(self) -> Iterator[tuple[str, str]]:
        """What each process said, by its name."""
        for file in sorted(self._logs.glob("*.log")):
            yield file.stem, file.read_text(errors="replace")


def write_samples(file: Path, seed: str, n_samples: int = 32) -> None:
    """Write a device's own data: days are warm and light, nights are not."""
    draw = random.Random(seed)  # noqa: S311  # data, no secret
    lines = [",".join((*FEATURES, "label"))]
    for index in range(n_samples):
        day = index % 2
        values = [f"{draw.gauss(2.0 if day else -2.0, 1.0):.4f}" for _ in FEATURES]
        lines.append(",".join((*values, CLASSES[day])))
    file.write_text("\n".join(lines) + "\n", "utf-8")


def _merged(*layers: Tables) -> dict[str, dict[str, Any]]:
    merged: dict[str, dict[str, Any]] = {}
    for layer in layers:
        for table, settings in layer.items():
            merged[table] = merged.get(table, {}) | dict(settings)
    return merged
