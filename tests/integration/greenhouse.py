"""A fleet whose boards update themselves: real broker, agents and updaters."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from attrs import frozen
from tests.integration.board_systemd import RunningBoard, Under, real_agent
from tests.integration.slots import Board, archive, bundle

from fedring.fleet.authority import Fleet, create_fleet
from fedring.fleet.issuing import Issuer
from fedring.fleet.rollout import Rollout
from fedring.fleet.updates import Sender, read_parcels
from fedring.lab.brokers import Program, start_broker
from fedring.lab.fleets import write_samples
from fedring.lab.spy import Spy
from fedring.shared.broker import Broker
from fedring.shared.identity import Authority
from fedring.shared.mqtt import Connection
from fedring.shared.topics import Topics

PASSPHRASE: Final = "correct horse"


@frozen
class Greenhouse:
    """A fleet with its broker and boards."""

    fleet: Fleet
    broker: Broker
    topics: Topics
    boards: dict[str, Board]
    spy: Spy

    @classmethod
    @contextmanager
    def of(
        cls, folder: Path, names: Sequence[str], under: Under = lambda _: ()
    ) -> Iterator[Greenhouse]:
        """Boards with real agents of version 0.1.0, idle; Mosquitto has to be there.

        Args:
            folder: for all of it.
            names: of the boards.
            under: see `RunningBoard`.
        """
        fleet = create_fleet(folder / "fleet", "greenhouse", ["127.0.0.1"], PASSPHRASE)
        fleet.unlock(PASSPHRASE)
        fleet.add_all(names)
        topics = Topics("greenhouse")
        with ExitStack() as running:
            broker = running.enter_context(
                start_broker(folder / "broker", program=Program.MOSQUITTO)
            )
            spy = running.enter_context(Spy(broker.address, topics))
            paused = b'{"state": "paused", "round": 0}'
            asyncio.run(_publish(broker.address, topics.coordinator_status, paused))
            boards: dict[str, Board] = {}
            greenhouse = cls(fleet, broker.address, topics, boards, spy)
            for name in names:
                board = boards[name] = Board(folder / name, greenhouse.issuer)
                board.install(real_agent("0.1.0"))
                data = folder / f"{name}.csv"
                write_samples(data, seed=name)
                files, port = fleet.device_folder(name), broker.address.port
                running.enter_context(RunningBoard(board, files, port, data, under))
            for name in names:
                spy.status(name, 0, state="idle")
            yield greenhouse

    def update(self, *files: Path) -> tuple[Rollout, list[str]]:
        """What `fedring fleet update` does; gives the rollout and what was told."""
        told: list[str] = []
        parcels = read_parcels(files, Authority.load(self.fleet.ca_file))
        sender = Sender(self.fleet, self.broker, parcels, told.append, lambda _: None, steady_s=1.0)
        asyncio.run(sender.send())
        return sender.rollout, told

    def bundle(self, folder: Path, version: str, *, broken: bool = False) -> Path:
        """Make a bundle of this fleet."""
        file = folder / f"{version}.fedring"
        packed = archive(real_agent(version, broken=broken) | {"site/filling": filling(version)})
        file.write_bytes(bundle(self.issuer, packed, version))
        return file

    @property
    def issuer(self) -> Issuer:
        assert self.fleet._issuer is not None
        return self.fleet._issuer

    def states(self, name: str) -> list[object]:
        """What a board told of its updates, in order."""
        topic = f"device/{name}/update"
        return [heard.facts["state"] for heard in self.spy.heard if heard.topic == topic]

    def chunks_on_broker(self) -> int:
        """How many chunks of bundles the broker holds."""
        return asyncio.run(_count_retained(self.broker, f"fedring/{self.fleet.name}/bundle/#"))


def filling(version: str) -> bytes:
    """Bytes that do not pack, so that the bundle has several chunks."""
    return random.Random(version).randbytes(300_000)


async def _count_retained(broker: Broker, topic_filter: str) -> int:
    found: set[object] = set()
    connection = Connection(broker, "counter", subscriptions=[topic_filter], persistent=False)
    async with connection:
        events = connection.events()
        while True:
            try:
                async with asyncio.timeout(1):
                    event = await anext(events)
            except TimeoutError:
                return len(found)
            found.add(getattr(event, "topic", None))
            found.discard(None)


async def _publish(broker: Broker, topic: str, payload: bytes) -> None:
    async with Connection(broker, "story", persistent=False, fail_fast=True) as connection:
        while True:
            if await connection.publish(topic, payload, retain=True):
                return
            await asyncio.sleep(0.05)
