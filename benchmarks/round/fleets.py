"""The two fleets: as many processes each, over one broker, with models of the same length."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
import psutil
from attrs import frozen
from benchmarks.round import plain

from fedring.coordinator.store import CoordinatorStore
from fedring.fleet.authority import create_fleet
from fedring.lab.processes import Child
from fedring.shared.broker import Broker
from fedring.shared.samples import Dataset
from fedring.shared.samples.dataset import MIN_SAMPLES
from fedring.shared.samples.npz_file import write_npz
from fedring.shared.topics import Topics

FEATURES: Final = ("x", "y", "z")
CLASSES: Final = ("a", "b", "c", "d")
HIDDEN: Final = (324, 300)
N_WEIGHTS: Final = 100_000
"""What an mlp of these widths has, with its biases."""

_Tables: TypeAlias = dict[str, dict[str, Any]]

_ROOT: Final = Path(__file__).parents[2]
_PYTHON: Final = (sys.executable, "-P", "-c")
_ONE_THREAD: Final = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


@frozen
class Processes:
    """One side of the comparison.

    Attributes:
        centre: coordinator or collector.
        devices: the others.
    """

    centre: Child
    devices: Sequence[Child]

    @property
    def all(self) -> tuple[Child, ...]:
        return (self.centre, *self.devices)

    def check(self) -> None:
        """Raise when one has ended, with its last words."""
        for child in self.all:
            if not child.running:
                raise RuntimeError(f"{child!r}:\n{child.last_words()}")


def cpu_s(children: Sequence[Child]) -> float:
    """Seconds of processor time that these have used so far, user and system."""
    times = [psutil.Process(child.pid).cpu_times() for child in children]
    return sum(spent.user + spent.system for spent in times)


def start_plain(folder: Path, broker: Broker, n_devices: int) -> Processes:
    """Start the collector and its clients."""

    def start(name: str, *numbers: int) -> Child:
        program = "import runpy, sys; sys.path.insert(0, sys.argv.pop(1)); "
        program += f"runpy.run_module('{plain.__name__}', run_name='__main__', alter_sys=True)"
        command = [*_PYTHON, program, str(_ROOT), broker.host, str(broker.port), name]
        return _start([*command, *map(str, numbers)], name, folder)

    clients = [start(f"client-{place}", N_WEIGHTS) for place in range(n_devices)]
    return Processes(start("collector", n_devices, N_WEIGHTS), clients)


@frozen
class Secure(Processes):
    """Coordinator and devices as an owner runs them.

    Attributes:
        topics: of the fleet.
        state: folder of the coordinator.
    """

    topics: Topics
    state: Path

    def pause(self, paused: bool) -> None:
        """What `fedring coordinator pause` and `resume` do."""
        with CoordinatorStore.open_beside(self.state) as store:
            store.set_paused(paused)


def start_secure(folder: Path, broker: Broker, n_devices: int) -> Secure:
    """Make a fleet and start its processes; they begin with rounds at once."""
    fleet = create_fleet(folder / "fleet", "bench", [broker.host])
    names = [f"device-{place}" for place in range(n_devices)]
    threshold = n_devices // 2 - 1
    fleet.add_all(names, threshold=threshold)
    data = folder / "data.npz"
    labels = np.arange(MIN_SAMPLES) % len(CLASSES)
    samples = np.zeros((MIN_SAMPLES, len(FEATURES)), np.float32)
    write_npz(data, Dataset(samples, labels, FEATURES, CLASSES))
    common: _Tables = {
        "broker": {"host": broker.host, "port": broker.port, "tls": False},
        "state": {"folder": "state"},
    }

    def start(part: str, name: str, home: Path, tables: _Tables) -> Child:
        settings = home / "bench.toml"
        identity = {"ca": "ca.crt", "key": f"{part}.key", "certificate": f"{part}.crt"}
        tables = {**tables, **common, "fleet": {**identity, **tables.get("fleet", {})}}
        _write_toml(settings, tables)
        program = "from fedring.shared.cli import main; main()"
        return _start([*_PYTHON, program, part, "run", "--config", str(settings)], name, folder)

    home = fleet.coordinator_folder
    coordinator = start(
        "coordinator",
        "coordinator",
        home,
        {
            "fleet": {"revoked": "revoked"},
            "model": {"features": FEATURES, "classes": CLASSES, "hidden": HIDDEN},
            # One step on ten samples: training is not what is measured.
            "training": {
                "rounds": 1_000_000,
                "epochs": 1,
                "evaluation_samples": 0,
                "statistics": False,
            },
            "ring": {"size": n_devices, "min_devices": n_devices},
        },
    )
    tables: _Tables = {"privacy": {"threshold": threshold}, "data": {"file": str(data)}}
    devices = [start("device", name, fleet.device_folder(name), tables) for name in names]
    return Secure(coordinator, devices, Topics(fleet.name), home / "state")


def _start(command: Sequence[str], name: str, folder: Path) -> Child:
    environment = os.environ | _ONE_THREAD | {"FEDRING_LOG": "warning"}
    return Child.start(command, name=name, log=folder / f"{name}.log", environment=environment)


def _write_toml(file: Path, tables: _Tables) -> None:
    """Write settings; JSON's spelling of texts, numbers, truth and lists is TOML's as well."""
    lines = []
    for table, settings in tables.items():
        lines.append(f"[{table}]")
        lines += [f"{key} = {json.dumps(value)}" for key, value in settings.items()]
    file.write_text("\n".join(lines), "utf-8")
