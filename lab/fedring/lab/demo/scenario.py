"""The demo's stage: a folder of files as an owner would make them, and the processes that use them.

FOLDER/
    broker/         of the broker that we start, if we do
    fleet/          what `fedring fleet init` and `add` make, with settings for this machine
    held-out/       windows of the people that no device knows, for the coordinator
    logs/           what each process says
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal, Self

from attrs import frozen

from fedring.fleet.authority import create_fleet
from fedring.lab.demo.wishes import PEOPLE, Wishes
from fedring.lab.hapt.features import NAMES, RANGES
from fedring.lab.hapt.people import ACTIVITIES, write_device_files
from fedring.lab.processes import Child, stop_all
from fedring.lab.programs import Tables, start_part, write_toml
from fedring.shared.broker import Broker
from fedring.shared.errors import UserError
from fedring.shared.topics import Topics

HIDDEN: Final = 64
"""Width of the hidden layer of the mlp."""
READY_S: Final = 30.0
"""A device trains for a fraction of a second; 24 on two cores share."""
STOP_S: Final = 3.0


@frozen
class Files:
    """What the processes are started with.

    Attributes:
        topics: of the throw-away fleet.
        coordinator: its settings file.
        devices: settings file of each device by name.
    """

    topics: Topics
    coordinator: Path
    devices: Mapping[str, Path]


def write_files(folder: Path, wishes: Wishes, broker: Broker) -> Files:
    """Make a fleet with certificates, data and settings.

    Names are new each time: on a broker that others use as well, they are in nobody's way.
    """
    label = secrets.token_hex(3)
    fleet = create_fleet(folder / "fleet", f"demo-{label}", [broker.host])
    names = {person: f"person-{person:02d}-{label}" for person in PEOPLE[: wishes.devices]}
    fleet.add_all(list(names.values()), threshold=wishes.effective_threshold)
    data, held_out = write_device_files(folder / "held-out")
    for person, file in data.items():
        if person in names:
            file.rename(fleet.device_folder(names[person]) / "data.npz")
        else:
            file.unlink()
    common: Tables = {
        "broker": {
            "host": broker.host,
            "port": broker.port,
            "tls": False,
            "allow_plain": True,  # a throw-away fleet and published data
        },
        "state": {"folder": "state"},
    }
    coordinator = fleet.coordinator_folder / "coordinator.toml"
    write_toml(coordinator, {**_coordinator(wishes, held_out), **common})
    devices = {name: fleet.device_folder(name) / "device.toml" for name in names.values()}
    for turn, file in enumerate(devices.values()):
        write_toml(file, {**_device(wishes, turn), **common})
    return Files(Topics(fleet.name), coordinator, devices)


class Company:
    """The processes of a demo; entering it starts them, leaving it stops them.

    Args:
        files: from `write_files`.
        logs: folder for what they say; made when missing.

    Attributes:
        coordinator: its process, once entered.
        devices: process of each device by name.
    """

    coordinator: Child

    def __init__(self, files: Files, logs: Path) -> None:
        self.devices: Final[dict[str, Child]] = {}
        self._files = files
        self._logs = logs
        self._running: list[Child] = []

    def __enter__(self) -> Self:
        self._logs.mkdir(exist_ok=True)
        try:
            self.coordinator = self._start("coordinator", "coordinator", self._files.coordinator)
            for name, file in self._files.devices.items():
                self.devices[name] = self._start("device", name, file)
        except BaseException:  # told to stop in the middle
            stop_all(self._running, STOP_S)
            raise
        return self

    def __exit__(self, *_: object) -> None:
        stop_all(self._running, STOP_S)

    def ended_devices(self) -> dict[str, Child]:
        """The devices that run no more."""
        return {name: child for name, child in self.devices.items() if not child.running}

    def _start(self, part: Literal["coordinator", "device"], name: str, settings: Path) -> Child:
        child = start_part(part, name, settings, self._logs)
        self._running.append(child)
        return child


def check_running(child: Child) -> None:
    """Make sure that a process runs without which there is no demo.

    Raises:
        UserError: it has ended; with its last words.
    """
    if not child.running:
        raise UserError(
            f"the {child.name} of the demo has {ending(child)}:\n{child.last_words()}",
            name="process.ended",
        )


def ending(child: Child) -> str:
    """Say how a process came to its end."""
    status = child.exit_status
    if status is None:
        return "not ended"
    return f"been ended by signal {-status}" if status < 0 else f"ended with status {status}"


def _coordinator(wishes: Wishes, held_out: Path) -> Tables:
    return {
        "fleet": {
            "ca": "ca.crt",
            "key": "coordinator.key",
            "certificate": "coordinator.crt",
            "revoked": "revoked",
        },
        "model": {
            "kind": wishes.model,
            "hidden": [HIDDEN] if wishes.model == "mlp" else [],
            "features": list(NAMES),
            "classes": list(ACTIVITIES),
            "feature_ranges": list(RANGES.values()),
            "seed": wishes.seed,
        },
        "training": {"rounds": wishes.rounds},
        "ring": {
            "size": wishes.ring_size,
            "min_devices": wishes.devices,  # so that the first round has all
            "ready_s": READY_S,
            "suite": wishes.suite,
        },
        "evaluation": {"file": str(held_out)},
    }


def _device(wishes: Wishes, turn: int) -> Tables:
    litert = {"litert": "hapt-dense"} if wishes.litert and turn % 2 else {}
    return {
        "fleet": {"ca": "ca.crt", "key": "device.key", "certificate": "device.crt"},
        "privacy": {"threshold": wishes.effective_threshold},
        "data": {"file": "data.npz"},
        "training": {"seed": wishes.seed, **litert},
    }
