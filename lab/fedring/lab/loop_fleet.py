"""The shells of a small fleet on one event loop, around a broker inside it: for tests.

Files and settings are those of a `LocalFleet` whose processes are not started.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from typing import Any

from attrs import frozen

from fedring.coordinator.position import Position
from fedring.coordinator.service import Coordinator
from fedring.coordinator.settings import CoordinatorSettings
from fedring.coordinator.standing import prepare
from fedring.device.agent import Agent
from fedring.device.settings import DeviceSettings
from fedring.device.store import DeviceStore
from fedring.device.trainers import trainer_of
from fedring.lab.fleets import LocalFleet
from fedring.lab.loop_broker import LoopBroker, LoopConnection
from fedring.shared.credentials import Credentials
from fedring.shared.envelopes import open_envelope
from fedring.shared.identity import Role
from fedring.shared.messages import COORDINATOR_NAME, Rest
from fedring.shared.mqtt import Message
from fedring.shared.topics import COORDINATOR, DeviceStatus

WAIT_S = 120.0
"""Far longer than a few rounds take on a busy machine."""


@frozen(eq=False)
class LoopFleet:
    """What is made, and still to be served.

    Attributes:
        coordinator: on its connection.
        agents: of all devices, in the order of their numbers.
        spy: hears events, and what is said of rounds.
    """

    coordinator: Coordinator
    agents: tuple[Agent, ...]
    spy: LoopConnection

    @asynccontextmanager
    async def serving(self, longest_s: float = WAIT_S) -> AsyncIterator[None]:
        """Let all of them serve, until the block is left or this time is over."""
        async with asyncio.timeout(longest_s), asyncio.TaskGroup() as tasks:
            serving = [tasks.create_task(self.coordinator.serve())]
            serving += [tasks.create_task(agent.serve()) for agent in self.agents]
            yield
            for task in serving:
                task.cancel()

    async def heard(self, wanted: Callable[[Message], bool]) -> None:
        """Wait for a message that the spy has not heard yet."""
        async for event in self.spy.events():
            if isinstance(event, Message) and wanted(event):
                return

    async def rest(self) -> None:
        """Wait until the coordinator says that no round is running."""

        def fits(message: Message) -> bool:
            return not message.topic.endswith("/event") and isinstance(
                open_envelope(message.payload).message, Rest
            )

        await self.heard(fits)

    async def published(self, **facts: Any) -> None:
        """Wait for a round with these facts that published a model."""
        wanted = {"event": "model published", **facts}

        def fits(message: Message) -> bool:
            told = json.loads(message.payload) if message.topic.endswith("/event") else {}
            return told.items() >= wanted.items()

        await self.heard(fits)


@contextmanager
def loop_fleet(files: LocalFleet) -> Iterator[LoopFleet]:
    """Make the shells of a fleet; to be called in the event loop that serves them.

    Args:
        files: of the fleet; none of its processes may be running.
    """
    broker, topics = LoopBroker(), files.topics
    with ExitStack() as open_files:
        settings = CoordinatorSettings.load(files.coordinator_file)
        standing = open_files.enter_context(prepare(settings))
        position = Position.read(standing.store)
        wanted = [topics.round, topics.inbox_of(COORDINATOR), *topics.everywhere(DeviceStatus)]
        connection = broker.connect(COORDINATOR_NAME, wanted)
        coordinator = Coordinator(settings, standing, position, topics, connection)
        agents = []
        for name in files.names:
            own = DeviceSettings.load(files.device_file(name))
            credentials = Credentials.load(own.fleet, Role.DEVICE)
            number = credentials.identity.number
            store = open_files.enter_context(
                DeviceStore.open(own.state.folder, fleet=topics.fleet, number=number)
            )
            connection = broker.connect(name, [topics.revoked, topics.round, topics.inbox_of(name)])
            agent = Agent(
                settings=own,
                credentials=credentials,
                store=store,
                topics=topics,
                connection=connection,
                trainer=trainer_of(own.training),
                places=None,
            )
            agents.append(agent)
        spy = broker.connect("spy", [topics.event, topics.round])
        yield LoopFleet(coordinator, tuple(agents), spy)
