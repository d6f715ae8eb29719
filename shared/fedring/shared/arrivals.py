"""What a connection tells its owner, and the bounded queue in which that waits."""

from __future__ import annotations

import asyncio
from typing import Final

from attrs import define, field, frozen

MAX_WAITING_BYTES: Final = 32 * 1024 * 1024
"""Most that waits for a slow owner, on a board with 512 MB."""

_MESSAGE_COST: Final = 1024  # bytes of memory of a message beside its payload


@frozen
class Connected:
    """The broker let us in and all subscriptions stand."""


@frozen
class Disconnected:
    """The connection is lost; the next one is being tried."""

    reason: str


@frozen
class Message:
    """A message from the broker; `retained` says that it was published before we subscribed."""

    topic: str
    payload: bytes = field(repr=lambda payload: f"<{len(payload)} bytes>")
    retained: bool = False


Event = Connected | Disconnected | Message


@define
class Arrivals:
    """Events on their way to the owner; messages are bounded, news of the connection is not."""

    _events: asyncio.Queue[Event | None] = field(factory=asyncio.Queue)
    _waiting_bytes: int = 0

    def put(self, event: Event) -> bool:
        """Whether there was room."""
        cost = _cost(event)
        if cost and self._waiting_bytes + cost > MAX_WAITING_BYTES:
            return False
        self._waiting_bytes += cost
        self._events.put_nowait(event)
        return True

    async def take(self) -> Event | None:
        """The next event; None after the last one."""
        event = await self._events.get()
        if event is None:
            self._events.put_nowait(None)
        else:
            self._waiting_bytes -= _cost(event)
        return event

    def close(self, _: object) -> None:
        self._events.put_nowait(None)


def _cost(event: Event) -> int:
    return len(event.payload) + _MESSAGE_COST if isinstance(event, Message) else 0
