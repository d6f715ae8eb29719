"""Masks of rounds, and between rounds what their ciphertexts will need.

Nearly all the work of a release's ciphertexts depends on the coordinator's public key alone, so it
is done while the board is idle, for one round ahead: in one thread of the lowest priority, ended
as soon as a round begins. The mask itself needs the announce; it is begun when that comes, while
the model is still on its way.

Everything here is in memory only and serves once. What a cancelled round leaves behind is erased
as soon as its thread gives it back; what was made ahead goes with the public key.

Source: docs/protocol.md, section 4, step 2.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress

from fedring.shared.encryption import Obfuscators, OneTimeMask, Random, Suite

LOWEST_PRIORITY = 19


class Preparation:
    """Makes masks for one device.

    Args:
        random: source of secret bytes, for any thread.
    """

    def __init__(self, random: Random) -> None:
        self._random = random
        self._stock: Obfuscators | None = None
        self._wanted = 0
        self._idle = ThreadPoolExecutor(1, "idle", initializer=_lower_priority)

    @property
    def is_complete(self) -> bool:
        """Whether nothing more can be made ahead; so it is before the first mask."""
        return self._stock is None or len(self._stock) >= self._wanted

    @asynccontextmanager
    async def making(self, suite: Suite) -> AsyncIterator[asyncio.Task[OneTimeMask]]:
        """Make the mask of a round in a thread, from now on.

        Gives the task to wait for, through `asyncio.shield`: a thread cannot be cancelled, and its
        mask must come back here. Leaving by an exception erases it, now or when it is made.
        """
        if self._stock is None or self._stock.n != suite.n:
            if self._stock is not None:
                self._stock.erase()
            self._stock, self._wanted = Obfuscators(suite.n), 0
        work = asyncio.to_thread(suite.prepare, self._random, self._stock)
        making = asyncio.create_task(work, name="mask")
        try:
            yield making
        except BaseException:
            making.add_done_callback(_erase)
            raise
        self._wanted = suite.n_ciphertexts

    async def stock_up(self) -> None:
        """Make ahead what the next mask needs if it is like the last one.

        Cancelled, it ends after the ciphertext under way.
        """
        if self._stock is None:
            return
        stop = threading.Event()
        fill, loop = self._stock.fill, asyncio.get_running_loop()
        try:
            await loop.run_in_executor(self._idle, fill, self._wanted, self._random, stop)
        finally:
            stop.set()


def _erase(making: asyncio.Task[OneTimeMask]) -> None:
    if not making.cancelled() and making.exception() is None:
        making.result().erase()


def _lower_priority() -> None:
    if sys.platform == "linux":  # elsewhere threads have no priority of their own
        with suppress(PermissionError):  # a hardened service may not change any
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), LOWEST_PRIORITY)
