"""How long a lap takes on slow links, against the time in which one board sends its body once.

Real agents, each in a network namespace behind a link with a rate (see `network`), and a
coordinator beside one Mosquitto; a model of one million weights, one ring, default suite. A lap is
what the coordinator reports: from its order until the token is home with everybody in it. One
transfer is the body's bits over the link's rate. Members that wait for whole tokens, as all did
once, are the same agents with `MAX_BROKEN` set to 0. `--quick`: four members, one rate. Needs root.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NoReturn

import phe
from benchmarks.links.network import Star

from fedring.lab.benchmarks import Row, main
from fedring.lab.brokers import start_broker
from fedring.lab.fleets import LocalFleet
from fedring.lab.processes import Child
from fedring.lab.programs import ONE_THREAD
from fedring.shared.encryption import SUITES, suite
from fedring.shared.mqtt import Connection, Message

HIDDEN: Final = (997, 997)
N_WEIGHTS: Final = 999_993
"""What an mlp of these widths has between two features and two classes."""
MEMBERS: Final = (4, 8, 16, 32)
RATES: Final = (50, 10)
"""Of a link, in Mbit/s."""
PATIENCE_S: Final = 900.0
"""What takes longer has failed."""

PYTHON: Final = (sys.executable, "-P", "-c")
PROGRAMS: Final = {
    "whole tokens": "from fedring.device import relay; relay.MAX_BROKEN = 0; "
    "from fedring.shared.cli import main; main()",
    "each chunk at once": "from fedring.shared.cli import main; main()",
}
"""What a device runs."""

MODEL: Final = {"kind": "mlp", "hidden": list(HIDDEN)}
KEY_BITS: Final = 2048
PLAIN: Final = {"allow_plain": True}
"""The broker's address is another machine's to look at; it is reached over our own cables."""


async def _measured(folder: Path, n_members: int, mbit_s: float, program: str) -> float:
    """Seconds of the first lap of a new fleet: nobody has seen other links yet."""
    with (
        Star(n_members) as star,
        start_broker(folder / "broker", host=star.host) as broker,
        LocalFleet(
            folder,
            broker.address,
            n_members,
            coordinator=_settings(n_members),
            device={"broker": PLAIN},
        ) as fleet,
    ):
        star.limit(mbit_s)
        events = [fleet.topics.event]
        async with Connection(broker.address, "watcher", subscriptions=events) as connection:
            fleet.start_coordinator()
            for place, name in enumerate(fleet.names):
                command = [*star.inside(place), *PYTHON, program, "device", "run", "--config"]
                fleet.devices[name] = Child.start(
                    [*command, fleet.device_file(name)],
                    name=name,
                    log=folder / f"{name}.log",
                    environment=os.environ | ONE_THREAD,
                )
            looking = asyncio.create_task(_look_after(fleet))
            measuring = asyncio.create_task(_lap_s(connection, n_members))
            await asyncio.wait({looking, measuring}, return_when=asyncio.FIRST_COMPLETED)
            looking.cancel()
            return await measuring if measuring.done() else await looking


async def _lap_s(connection: Connection, n_members: int) -> float:
    lap = 0
    async with asyncio.timeout(PATIENCE_S):
        async for event in connection.events():
            if not isinstance(event, Message):
                continue
            facts = json.loads(event.payload)
            lap = facts.get("lap", lap)
            if facts["event"] == "token round":
                break
    if (lap, facts["contributors"]) != (1, n_members):
        raise RuntimeError(f"somebody is missing in the first token: lap {lap}, {facts}")
    return float(facts["seconds"])


async def _look_after(fleet: LocalFleet) -> NoReturn:
    """Raise when somebody has ended."""
    while True:
        fleet.check()
        await asyncio.sleep(1.0)


def _settings(n_members: int) -> dict[str, dict[str, Any]]:
    ring = {"size": n_members, "min_devices": n_members, "ready_s": 300, "key_bits": KEY_BITS}
    return {"ring": ring, "model": MODEL, "broker": PLAIN}


def _transfer_s(mbit_s: float) -> float:
    """In which a link of this rate carries one body, and nothing else."""
    made = suite(
        SUITES[0],
        public_key=phe.PaillierPublicKey(1 << (KEY_BITS - 1) | 1),
        announce_digest=bytes(32),
        n_values=N_WEIGHTS + 7,
        bits=16,
    )
    return 8 * made.body_bytes / (mbit_s * 1e6)


def measure(quick: bool) -> Iterator[Row]:
    """Run rings of all sizes at all rates."""
    if os.geteuid():
        sys.exit("fedring: error: this benchmark makes network namespaces\nfedring: hint: as root")
    for n_members in MEMBERS[:1] if quick else MEMBERS:
        for rate in RATES[:1] if quick else RATES:
            for how, program in PROGRAMS.items():
                with tempfile.TemporaryDirectory(prefix="fedring-links-") as folder:
                    lap_s = asyncio.run(_measured(Path(folder), n_members, rate, program))
                name = f"{how}, {n_members} members, {rate} Mbit/s"
                yield Row(name, lap_s, "s", baseline=_transfer_s(rate))


if __name__ == "__main__":
    main(measure, __doc__)
