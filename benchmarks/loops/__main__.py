"""How long event loops are kept busy: coordinator and devices, at a million weights.

Real processes on one broker: three rounds, and a new Paillier key of 3,072 bits for the last one.
Every callback of every loop is timed. What counts is the processor time of the longest one: while
it runs, its connection is served by nobody. From begin to end it takes longer where others use the
same cores, and waits for them as well; here sixteen devices do. Such times are printed, and have no
goal.

Ends with status 1 when a row is missing or a goal is missed. `--quick`: three devices, a model of
100,000 weights, keys of 2,048 bits; it tells what is missed and does not fail for it.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import click
from attrs import frozen
from benchmarks.loops import probe

from fedring.lab.benchmarks import Row, main
from fedring.lab.brokers import start_broker
from fedring.lab.fleets import LocalFleet
from fedring.lab.programs import Tables
from fedring.lab.spy import Spy

ROUNDS: Final = 3

MOST_S: Final = 0.05
"""Processor time that a callback may take."""

PARTS: Final = ("coordinator", "device")
WAITING: Final = "it counts waiting for a core that other processes use; docs/performance.md"
"""Why wall time is not judged."""

_ROOT: Final = Path(__file__).parents[2]
_PROBE: Final = (
    f"import sys; sys.path.insert(0, sys.argv.pop(1)); from {probe.__name__} import main; main()"
)


@frozen
class Extent:
    """How much is measured.

    Attributes:
        n_devices: of the fleet, in one ring.
        hidden: widths of the model's hidden layers.
        key_bits: of the Paillier key.
    """

    n_devices: int
    hidden: tuple[int, ...]
    key_bits: int


QUICK: Final = Extent(3, (324, 300), 2048)
"""100,000 weights."""
FULL: Final = Extent(16, (1_000, 994), 3072)
"""A million."""


def watched(folder: Path, extent: Extent) -> dict[str, dict[str, Any]]:
    """What the probes of coordinator and devices say after the rounds and the new key."""
    settings: Tables = {
        "model": {"kind": "mlp", "hidden": extent.hidden},
        "training": {"rounds": ROUNDS, "statistics": False},
        "ring": {
            "size": extent.n_devices,
            "min_devices": extent.n_devices,
            "key_bits": extent.key_bits,
        },
    }
    with (
        start_broker(folder / "broker") as broker,
        LocalFleet(folder, broker.address, extent.n_devices, coordinator=settings) as fleet,
        Spy(broker.address, fleet.topics, fleet.check) as spy,
    ):
        names = ("coordinator", *fleet.names)
        files = {name: folder / f"{name}.json" for name in names}
        for name, file in files.items():
            fleet.under[name] = (sys.executable, "-P", "-c", _PROBE, str(_ROOT), file)
        fleet.start()
        spy.event("model published", 0)
        fleet.authority.next_epoch()
        spy.status("coordinator", 0, state="finished")
        fleet.stop()
        return {name: json.loads(file.read_text()) for name, file in files.items()}


def names(_quick: bool) -> Iterator[str]:
    """Of the rows that there must be."""
    for who in PARTS:
        yield f"{who}, longest callback, processor time"
        yield f"{who}, longest callback, time"
        yield f"{who}, callbacks of more than 50 ms"
        yield f"{who}, callbacks"


def measure(quick: bool) -> Iterator[Row]:
    """Run the fleet and read the probes."""
    with tempfile.TemporaryDirectory(prefix="fedring-loops-") as folder:
        found = watched(Path(folder), QUICK if quick else FULL)
    coordinator = [found.pop("coordinator")]
    for who, probes in zip(PARTS, (coordinator, list(found.values())), strict=True):
        busiest = max(probes, key=lambda one: one["longest"])
        longest, latest = busiest["longest"], max(one["latest"] for one in probes)
        yield Row(f"{who}, longest callback, processor time", longest, "s", at_most=MOST_S)
        yield Row(f"{who}, longest callback, time", latest, "s", no_goal=WAITING)
        late = sum(one["late"] for one in probes)
        yield Row(f"{who}, callbacks of more than 50 ms", late, no_goal=WAITING)
        yield Row(f"{who}, callbacks", sum(one["count"] for one in probes))
        for place, times in busiest["seen"].items():
            click.echo(f"  {who} was seen {times} times in {place}", err=True)


if __name__ == "__main__":
    main(measure, __doc__, names=names, strict=True)
