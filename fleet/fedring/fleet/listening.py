"""Listening to the public topics of a fleet, and finding out which fleets a broker serves."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Final, Self

from fedring.fleet.view import CoordinatorView, FleetView, News
from fedring.shared.broker import Broker
from fedring.shared.mqtt import Connected, Connection, Disconnected, Message
from fedring.shared.topics import LAYOUT, CoordinatorStatus, Topics, is_name

QUIET_S: Final = 0.5
"""Retained messages come at once: after such a pause all have come."""
PATIENCE_S: Final = 5.0
"""Longest wait for that pause; a busy fleet may never make one."""

_ROOT: Final = "fedring"
_MAX_FLEETS: Final = 100


class Listener:
    """A connection that only listens; entering it connects.

    Args:
        broker: where.
        filters: what to subscribe to.
        take: called with topic and payload of each message.

    Attributes:
        trouble: why there is no connection at the moment, "" while there is one.

    Raises:
        BrokerError: on entering, why the broker cannot be used.
    """

    def __init__(
        self, broker: Broker, filters: Iterable[str], take: Callable[[str, bytes], object]
    ) -> None:
        self.trouble = ""
        self._take = take
        self._quiet = asyncio.Event()
        self._pause: asyncio.TimerHandle | None = None
        self._listening: asyncio.Task[None] | None = None
        self._connection = Connection(
            broker,
            f"fedring-watch-{secrets.token_hex(4)}",
            subscriptions=filters,
            persistent=False,
            fail_fast=True,
        )

    async def __aenter__(self) -> Self:
        await self._connection.__aenter__()
        self._listening = asyncio.create_task(self._listen(), name="listener")
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._connection.__aexit__()
        if self._listening is not None:
            await self._listening  # ends with the connection

    @property
    def dropped(self) -> int:
        """Messages that came faster than we could take them."""
        return self._connection.traffic.dropped

    async def settled(self) -> None:
        """Wait until all that was retained has come."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._quiet.wait(), PATIENCE_S)

    async def _listen(self) -> None:
        async for event in self._connection.events():
            match event:
                case Connected():
                    self._await_pause()
                    self.trouble = ""
                case Disconnected(reason):
                    self.trouble = reason
                case Message(topic, payload, retained):
                    if retained:  # what is said live may go on for ever
                        self._await_pause()
                    self._take(topic, payload)

    def _await_pause(self) -> None:
        if self._pause is not None:
            self._pause.cancel()
        self._pause = asyncio.get_running_loop().call_later(QUIET_S, self._quiet.set)


def listen_to_fleet(
    broker: Broker, view: FleetView, on_news: Callable[[News], object] | None = None
) -> Listener:
    """Keep a view up to date.

    Args:
        broker: where.
        view: takes what is heard.
        on_news: called with each piece of news.
    """

    def take(topic: str, payload: bytes) -> None:
        news = view.receive(topic, payload)
        if news is not None and on_news is not None:
            on_news(news)

    return Listener(broker, FleetView.filters(view.topics), take)


async def find_fleets(broker: Broker) -> dict[str, CoordinatorView]:
    """Give the fleets whose coordinator has left a status on the broker, by name."""
    row = next(row for row in LAYOUT if row.make is CoordinatorStatus)
    found: dict[str, CoordinatorView] = {}

    def take(topic: str, payload: bytes) -> None:
        fleet = topic.removeprefix(f"{_ROOT}/").partition("/")[0]
        if is_name(fleet) and (fleet in found or len(found) < _MAX_FLEETS):
            told = FleetView(Topics(fleet)).receive(topic, payload)
            if isinstance(told, CoordinatorView):
                found[fleet] = told

    async with Listener(broker, [f"{_ROOT}/+/{row.filter}"], take) as listener:
        await listener.settled()
    return dict(sorted(found.items()))
