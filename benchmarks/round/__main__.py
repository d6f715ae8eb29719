"""A secure round against plain FedAvg: time, and processor time of all processes.

Sixteen devices and a model of 100,000 weights, on one Mosquitto (or the embedded broker where there
is none) on loopback. The secure side is the product as it is: one coordinator, sixteen agents, one
ring, 16-bit values, a Paillier key of 3,072 bits; each device takes one step on ten samples, so
training costs next to nothing. The plain side sends the same model down and float32 vectors up with
the same MQTT client, and does nothing else: no signature, no file, no answer. Its processes are as
many and live as long.

Both run in turns, a few rounds each; figures are medians over the turns, for one round. Time is
from one published model to the next. All share the cores of this machine: what sixteen boards do
side by side happens here one after the other. `--quick`: four devices.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any, Final

from attrs import field, frozen
from benchmarks.round import plain
from benchmarks.round.fleets import Processes, Secure, cpu_s, start_plain, start_secure

from fedring.lab.benchmarks import Row, main
from fedring.lab.brokers import LocalBroker, start_broker
from fedring.lab.processes import stop_all
from fedring.shared.envelopes import open_envelope
from fedring.shared.messages import Announce
from fedring.shared.mqtt import Connection, Message
from fedring.shared.topics import History

GOAL: Final = 3.0
START_S: Final = 90.0
PATIENCE_S: Final = 60.0
"""A turn that takes longer has failed."""
SETTLE_S: Final = 1.0
"""Between turns: devices keep the newest model in a file."""

PHASES: Final = (
    ("announced", "announce (number durable, signed)"),
    ("ring formed", "model fetched, step, mask, ready"),
    ("token round", "roster and lap"),
    ("list", "call"),
    ("ring closed", "list and releases"),
    ("stored", "opening, new version stored"),
    ("model published", "model published"),
)
"""What ends a phase, and what happens in it."""

Phases = dict[str, float]


@frozen
class Extent:
    """How much is measured.

    Attributes:
        n_devices: of each fleet.
        n_blocks: turns of each fleet.
        n_rounds: measured rounds in a turn.
    """

    n_devices: int
    n_blocks: int
    n_rounds: int


@frozen
class Block:
    """A turn of one fleet; seconds for one round.

    Attributes:
        wall: time.
        centre: processor time of coordinator or collector.
        devices: processor time of all devices.
        broker: processor time of the broker.
        phases: time by phase.
    """

    wall: float
    centre: float
    devices: float
    broker: float
    phases: Phases = field(factory=dict)

    @property
    def parties(self) -> float:
        return self.centre + self.devices


class Meter:
    """Processor time since it was made.

    Args:
        processes: one fleet.
        broker: that carries its messages.
    """

    def __init__(self, processes: Processes, broker: LocalBroker) -> None:
        self._groups = ([processes.centre], processes.devices, [broker.child])
        self._before = self._now()
        self._began = time.monotonic()

    def block(self, n_rounds: int, phases: Phases | None = None) -> Block:
        """What a round took, of so many since then."""
        wall = time.monotonic() - self._began
        spent = (now - then for now, then in zip(self._now(), self._before, strict=True))
        centre, devices, broker = (seconds / n_rounds for seconds in spent)
        return Block(wall / n_rounds, centre, devices, broker, phases or {})

    def _now(self) -> list[float]:
        return [cpu_s(group) for group in self._groups]


class Secured:
    """Turns of the secure fleet, steered by pause and resume and watched on its public topics.

    Args:
        fleet: started; its first round may be running.
        connection: subscribed to its announce, events and history.
        broker: between them.
    """

    def __init__(self, fleet: Secure, connection: Connection, broker: LocalBroker) -> None:
        self._fleet = fleet
        self._events = connection.events()
        self._broker = broker

    async def start(self) -> None:
        """Let one round go by, in which tables are made."""
        await self._until("announced")
        self._fleet.pause(True)
        await self._until("coordinator paused")

    async def block(self, n_rounds: int) -> Block:
        """Run so many rounds after one that is not measured.

        Between turns devices fetch the newest model already; so the first round would be shorter.
        """
        self._fleet.pause(False)
        await self._until("model published")
        meter = Meter(self._fleet, self._broker)
        ends = [{"model published": time.monotonic()}]
        for place in range(n_rounds):
            await self._until("announced")
            ends.append({"announced": time.monotonic()})
            if place == n_rounds - 1:
                self._fleet.pause(True)
            what = ""
            while what != "model published":
                what, facts = await self._next()
                ends[-1][what] = time.monotonic()
                if what == "history":
                    ends[-1]["stored"] = ends[-1]["ring closed"] + facts["seconds"]["opening"]
        block = meter.block(n_rounds, _phases(ends))
        await self._until("coordinator paused")
        return block

    async def _until(self, wanted: str) -> None:
        what = ""
        while what != wanted:
            what, facts = await self._next()
            if what == "round void":
                raise RuntimeError(f"a round was void: {facts['reasons']}")

    async def _next(self) -> tuple[str, dict[str, Any]]:
        """What was published, in a word, and what it says."""
        async for event in self._events:
            match event:
                case Message(topic, payload, retained=False) if topic == self._fleet.topics.round:
                    if isinstance(open_envelope(payload).message, Announce):
                        return "announced", {}
                case Message(topic, payload, retained=False):
                    facts = json.loads(payload)
                    if topic == self._fleet.topics.coordinator_status:
                        return f"coordinator {facts['state']}", facts
                    return facts.get("event", "history"), facts
        raise RuntimeError("the connection is closed")


def _phases(ends: list[dict[str, float]]) -> Phases:
    """Mean seconds of each phase; the first round only gives the time at which the next begins."""
    n_rounds = len(ends) - 1
    phases = dict.fromkeys((end for end, _ in PHASES), 0.0)
    began = ends[0]["model published"]
    for marks in ends[1:]:
        for end in phases:
            phases[end] += (marks[end] - began) / n_rounds
            began = marks[end]
    return phases


class Unprotected:
    """Turns of the plain fleet.

    Args:
        fleet: started.
        connection: subscribed to what the collector says.
        broker: between them.
    """

    def __init__(self, fleet: Processes, connection: Connection, broker: LocalBroker) -> None:
        self._fleet = fleet
        self._connection = connection
        self._events = connection.events()
        self._broker = broker

    async def start(self) -> None:
        """Wait for all."""
        here: set[bytes] = set()
        while len(here) < len(self._fleet.all):
            here.add((await self._next(plain.HERE)).payload)

    async def block(self, n_rounds: int) -> Block:
        """Run so many rounds."""
        meter = Meter(self._fleet, self._broker)
        await self._connection.publish(plain.GO, str(n_rounds).encode())
        await self._next(plain.DONE)
        return meter.block(n_rounds)

    async def _next(self, topic: str) -> Message:
        async for event in self._events:
            if isinstance(event, Message) and event.topic == topic:
                return event
        raise RuntimeError("the connection is closed")


async def measured(folder: Path, extent: Extent) -> tuple[list[Block], list[Block]]:
    """Start both fleets and let them run in turns: secure, plain, secure, plain."""
    with start_broker(folder / "broker") as broker:
        fleet = start_secure(folder, broker.address, extent.n_devices)
        other = start_plain(folder, broker.address, extent.n_devices)
        topics = fleet.topics
        watched = [
            topics.round,
            topics.event,
            topics.coordinator_status,
            *topics.everywhere(History),
        ]
        watcher = Connection(broker.address, "watcher", subscriptions=watched)
        starter = Connection(broker.address, "starter", subscriptions=[plain.HERE, plain.DONE])
        try:
            async with watcher, starter:
                return await _in_turns(
                    Secured(fleet, watcher, broker), Unprotected(other, starter, broker), extent
                )
        except TimeoutError:
            fleet.check()
            other.check()
            raise
        finally:
            stop_all([*fleet.all, *other.all])


async def _in_turns(
    secured: Secured, unprotected: Unprotected, extent: Extent
) -> tuple[list[Block], list[Block]]:
    found: list[tuple[Block, Block]] = []
    async with asyncio.timeout(START_S):
        await unprotected.start()
        await secured.start()
    for _ in range(extent.n_blocks):
        async with asyncio.timeout(PATIENCE_S):
            secure = await secured.block(extent.n_rounds)
            await asyncio.sleep(SETTLE_S)
            found.append((secure, await unprotected.block(extent.n_rounds)))
    return [secure for secure, _ in found], [plain for _, plain in found]


def measure(quick: bool) -> Iterator[Row]:
    """Run both and compare."""
    extent = Extent(4, 2, 2) if quick else Extent(16, 10, 5)
    with tempfile.TemporaryDirectory(prefix="fedring-round-") as folder:
        secure, unprotected = asyncio.run(measured(Path(folder), extent))

    def row(name: str, take: Callable[[Block], float], goal: float | None = None) -> Row:
        return Row(
            name,
            median(map(take, secure)),
            "s",
            baseline=median(map(take, unprotected)),
            at_most=goal,
        )

    yield row("round, time", lambda block: block.wall, GOAL)
    yield row("round, processor time of all devices and the centre", lambda b: b.parties, GOAL)
    yield row("processor time of a device", lambda block: block.devices / extent.n_devices)
    yield row("processor time of the coordinator or collector", lambda block: block.centre)
    yield row("processor time of the broker", lambda block: block.broker)
    for end, what in PHASES:
        yield Row(f"time for: {what}", median(block.phases[end] for block in secure), "s")
    for name, blocks in (("secure", secure), ("plain", unprotected)):
        walls = [block.wall for block in blocks]
        yield Row(f"noise: slowest {name} turn over fastest", max(walls) / min(walls))


if __name__ == "__main__":
    main(measure, __doc__)
