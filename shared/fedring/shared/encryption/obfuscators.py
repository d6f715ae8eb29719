"""Paillier's randomness made ahead of need: a stock of obfuscators for one public key.

    stock = Obfuscators(n)
    stock.fill(15, os.urandom, stop)          while there is nothing better to do
    suite.prepare(os.urandom, stock)          takes what is there and makes the rest

An obfuscator (`FixedBase.obfuscator`) needs nothing but the public key, and is nearly all the work
of a ciphertext. The keys that it will hide are drawn later, by `prepare`: what waits here is
worth nothing to anybody until then.

Each serves once. Two ciphertexts under one obfuscator tell the difference of their plaintexts,
which are keys, to whoever sees both. So a process that was forked begins with none.

Not protected: obfuscators are Python integers, which cannot be overwritten; used and erased ones
linger in freed memory until that is used again.
"""

from __future__ import annotations

import os
import threading

from fedring.shared.encryption.paillier import fixed_base
from fedring.shared.encryption.streams import SEED_BYTES, Random, Stream


class Obfuscators:
    """A stock for one public key; any thread may call. In memory only; `repr` shows how many.

    Args:
        n: the modulus; what `check_public_key` lets through.
    """

    def __init__(self, n: int) -> None:
        self.n = n
        self._ready: list[int] = []
        self._erased = False
        self._process = os.getpid()
        self._changing = threading.Lock()

    def __len__(self) -> int:
        return len(self._ready) if self._process == os.getpid() else 0

    def __repr__(self) -> str:
        return f"<{len(self)} obfuscators>"

    def fill(self, count: int, random: Random, stop: threading.Event) -> None:
        """Make obfuscators, one by one, until so many wait here; the slow part.

        Leaves other threads running while it computes.

        Args:
            count: 15 for a release of suite `hybrid` at 3072 bits.
            random: `os.urandom`, asked for one seed.
            stop: set from another thread to end this after the obfuscator that is under way.
        """
        base = fixed_base(self.n)
        stream = Stream(random(SEED_BYTES))
        while len(self) < count and not self._erased and not stop.is_set():
            made = base.obfuscator(stream.read)
            with self._changing:
                self._leave_to_parent()
                if len(self) < count and not self._erased:
                    self._ready.append(made)

    def take(self, count: int, random: Random) -> list[int]:
        """So many obfuscators, the caller's alone; those that are missing are made now.

        Args:
            count: 0 or more.
            random: `os.urandom`, asked for one seed if some are missing.
        """
        with self._changing:
            self._leave_to_parent()
            taken = [self._ready.pop() for _ in range(min(count, len(self._ready)))]
        if len(taken) < count:
            base = fixed_base(self.n)
            stream = Stream(random(SEED_BYTES))
            taken += base.obfuscators(count - len(taken), stream.read)
        return taken

    def erase(self) -> None:
        """Drop all, for good: nothing comes in any more, not even what is being made."""
        with self._changing:
            self._erased = True
            self._ready.clear()

    def _leave_to_parent(self) -> None:
        if self._process != (process := os.getpid()):
            self._process = process
            self._ready.clear()
