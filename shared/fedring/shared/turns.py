"""Whose turn it is in a loop that takes what comes and keeps deadlines.

Coordinator and agent each run one such loop. What is waiting when a deadline passes goes first: it
may hold the very answer that the deadline is about, and it is we who were slow. But what comes may
never stop coming, anybody who may write to us can see to that. So at most one queue of it goes
first: whoever floods us delays what others send, and no deadline for long. For the same reason all
else on the event loop, such as the connection itself, runs between any two turns.
"""

from __future__ import annotations

import asyncio
import time
from typing import Generic, TypeVar

T = TypeVar("T")

_MOST_WAITING = 64


class Turns(Generic[T]):
    """A bounded queue, and when its one reader has to look at the clock instead.

    Args:
        least_wait_s: between two deadlines kept: one that cannot be acted on yet must neither
            spin nor keep all else waiting.
    """

    def __init__(self, least_wait_s: float) -> None:
        self._least_wait_s = least_wait_s
        self._not_before = 0.0
        self._first: int | None = None  # how many of those that waited are still to go first
        self._waiting: asyncio.Queue[T] = asyncio.Queue(maxsize=_MOST_WAITING)

    async def put(self, happening: T) -> None:
        """Queue what has happened, waiting for room."""
        await self._waiting.put(happening)

    async def next(self, deadline: float | None) -> T | None:
        """What comes next, or None when the deadline is there.

        Args:
            deadline: on the monotonic clock; None for none.
        """
        await asyncio.sleep(0)  # a queue that is never empty would let nobody else run
        if deadline is None:
            self._first = None
            return await self._waiting.get()
        wait_s = max(deadline, self._not_before) - time.monotonic()
        if wait_s > 0:
            self._first = None
            # Not `wait_for`: before Python 3.12 it can swallow the cancellation that ends us.
            try:
                async with asyncio.timeout(wait_s):
                    return await self._waiting.get()
            except TimeoutError:
                pass
        if self._first is None:
            self._first = self._waiting.qsize()
        if self._first > 0:
            self._first -= 1
            return self._waiting.get_nowait()
        self._first = None
        self._not_before = time.monotonic() + self._least_wait_s
        return None
