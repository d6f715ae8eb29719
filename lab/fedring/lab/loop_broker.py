"""A broker inside one event loop: for tests of the shells, which then all run in one process.

Retained messages and filters are those of MQTT; nothing is ever lost, late or refused.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable

from fedring.shared.broker import Broker
from fedring.shared.mqtt import Connected, Connection, Event, Message


class LoopBroker:
    """Hands messages from each of its connections to those that subscribed to their topic."""

    def __init__(self) -> None:
        self._retained: dict[str, bytes] = {}
        self._connections: list[LoopConnection] = []

    def connect(self, name: str, subscriptions: Iterable[str]) -> LoopConnection:
        """A connection that is there at once."""
        connection = LoopConnection(self, name, subscriptions)
        self._connections.append(connection)
        connection.arrive(Connected())
        for topic_filter in connection.filters:
            self.repeat(connection, topic_filter)
        return connection

    def publish(self, topic: str, payload: bytes, *, retain: bool) -> None:
        """Hand a message on."""
        if retain and payload:
            self._retained[topic] = payload
        elif retain:
            self._retained.pop(topic, None)
        for connection in self._connections:
            if any(_fits(topic_filter, topic) for topic_filter in connection.filters):
                connection.arrive(Message(topic, payload))

    def repeat(self, connection: LoopConnection, topic_filter: str) -> None:
        """Hand over what is retained, as at a new subscription."""
        for topic, payload in list(self._retained.items()):
            if _fits(topic_filter, topic):
                connection.arrive(Message(topic, payload, retained=True))


class LoopConnection(Connection):
    """A connection to a `LoopBroker`; made by it."""

    def __init__(self, broker: LoopBroker, name: str, subscriptions: Iterable[str]) -> None:
        super().__init__(Broker("localhost", 1), name)
        self.filters = dict.fromkeys(subscriptions)
        self._loop_broker = broker
        self._events: asyncio.Queue[Event] = asyncio.Queue()

    @property
    def connected(self) -> bool:
        return True

    @property
    def proven_alive(self) -> float:
        return time.monotonic()

    def arrive(self, event: Event) -> None:
        """Queue what happened for the owner."""
        self._events.put_nowait(event)

    async def events(self) -> AsyncIterator[Event]:
        while True:
            yield await self._events.get()

    async def send(
        self, topic: str, payload: bytes, *, retain: bool = False
    ) -> asyncio.Future[bool]:
        self.traffic.count_sent(topic, len(payload))
        self._loop_broker.publish(topic, payload, retain=retain)
        answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        answer.set_result(True)
        return answer

    async def subscribe(self, topic_filter: str) -> None:
        self.filters[topic_filter] = None
        self._loop_broker.repeat(self, topic_filter)

    def unsubscribe(self, topic_filter: str) -> None:
        self.filters.pop(topic_filter, None)


def _fits(topic_filter: str, topic: str) -> bool:
    """Whether a filter without `#` takes a topic: MQTT 3.1.1, section 4.7."""
    wanted, levels = topic_filter.split("/"), topic.split("/")
    return len(wanted) == len(levels) and all(
        one in {"+", level} for one, level in zip(wanted, levels, strict=True)
    )
