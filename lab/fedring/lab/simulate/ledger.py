"""The coordinator's store, in memory: the production one, without a disk under it.

Each transaction is there as a whole or not at all. The power may go before one and in one.
"""

from __future__ import annotations

import sqlite3
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from fedring.coordinator.store import CoordinatorStore
from fedring.shared.state import Database

BEGIN, COMMIT = "transaction", "commit"
"""The steps of a transaction: before it begins, and with all of it said but the last word."""


class MemoryDatabase(Database):
    """A database that lives as long as this object, whoever opens and closes stores on it.

    Attributes:
        on_step: told before each step of a transaction; what it raises is what becomes of it.
    """

    def __init__(self, content: Database | None = None) -> None:
        self.path = Path("memory")
        self.on_step: Callable[[str], None] = lambda _: None
        self._kind = "store in memory"
        self._busy = threading.RLock()
        self._connection = sqlite3.connect(
            ":memory:", isolation_level=None, check_same_thread=False
        )
        weakref.finalize(self, self._connection.close)
        if content is not None:
            self.replace_by(content)
        self._connection.execute("PRAGMA foreign_keys = ON")

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        self.on_step(BEGIN)
        with super().transaction() as connection:
            yield connection
            self.on_step(COMMIT)


@cache
def _empty(fleet: str) -> MemoryDatabase:
    with (
        TemporaryDirectory() as folder,
        CoordinatorStore.open_to_run(Path(folder) / "state", fleet=fleet) as store,
    ):
        return MemoryDatabase(store.database)


def new_ledger(fleet: str) -> MemoryDatabase:
    """The database of a coordinator that has never run."""
    return MemoryDatabase(_empty(fleet))
