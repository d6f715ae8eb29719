"""What a device must know after a crash: the round it joined, what it released, what is revoked.

Two kinds of records (docs/protocol.md, sections 2, 4 and 6):

- **Durable before the call returns**: `persist_joined` before `ready` leaves, `persist_release` and
  `persist_evaluation` before what they count leaves, `persist_revocation` before anything is judged
  by the new list. They only grow; a step back or a repetition is refused and changes nothing.
- **Batched**: what the agent likes to `remember` for its status. It reaches the disk with the next
  durable record, by `flush` or at `close`: memory cards wear out by syncs, and losing it costs
  nothing.

No secret of a round comes here: keys, masks, bodies and updates live in memory only.

The newest verified model is kept beside it by `keep_model`, as a file for other programs.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from attrs import frozen

from fedring.device.budgets import Budget
from fedring.shared.errors import ProtocolError, StateError
from fedring.shared.models import Model, save_npz
from fedring.shared.state import Database, FolderLock, lock_folder, prepare_folder, sync_folder

STORE_FILE = "device.db"

_APPLICATION_ID = 0x66724476  # "frDv"
_SCHEMA = (
    (
        """
        CREATE TABLE device (
            row INTEGER PRIMARY KEY CHECK (row = 1),
            fleet TEXT NOT NULL,
            number INTEGER NOT NULL,
            epoch INTEGER NOT NULL DEFAULT 0,
            round INTEGER NOT NULL DEFAULT 0,
            releases INTEGER NOT NULL DEFAULT 0,
            release_level REAL,
            evaluations INTEGER NOT NULL DEFAULT 0,
            evaluation_level REAL
        ) STRICT
        """,
        """
        CREATE TABLE revocation (
            row INTEGER PRIMARY KEY CHECK (row = 1),
            number INTEGER NOT NULL,
            list BLOB NOT NULL
        ) STRICT
        """,
        "CREATE TABLE memory (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT",
    ),
)


@frozen
class StoredRevocation:
    """The newest revocation list seen, as it came: signed by the fleet authority.

    Attributes:
        number: grows with every list of the fleet.
        raw: the envelope's bytes; whoever reads them back verifies them again.
    """

    number: int
    raw: bytes


class DeviceStore:
    """The state of one device of one fleet, held by one process at a time.

    Methods may be called from any thread; each call is one transaction.
    """

    def __init__(self, database: Database, lock: FolderLock) -> None:
        self._database = database
        self._lock = lock
        self._unwritten: dict[str, str] = {}

    @classmethod
    def open(cls, folder: Path, *, fleet: str, number: int) -> DeviceStore:
        """Open the state of a device, or begin it in a new or empty folder.

        Args:
            folder: made when it is not there.
            fleet: name of the fleet, as in the device's certificate.
            number: the device's number in that fleet.

        Raises:
            StateError: in use by another process, of another device or fleet, or not readable.
        """
        prepare_folder(folder)
        lock = lock_folder(folder)
        try:
            database = Database(
                folder / STORE_FILE,
                kind="device store",
                application_id=_APPLICATION_ID,
                schema=_SCHEMA,
                create=True,
            )
        except BaseException:
            lock.close()
            raise
        store = cls(database, lock)
        try:
            store._claim(fleet, number)
        except BaseException:
            store.close()
            raise
        return store

    def _claim(self, fleet: str, number: int) -> None:
        with self._database.transaction() as connection:
            connection.execute(
                "INSERT OR IGNORE INTO device (row, fleet, number) VALUES (1, ?, ?)",
                (fleet, number),
            )
            owner = connection.execute("SELECT fleet, number FROM device").fetchone()
        if owner != (fleet, number):
            raise StateError(
                f"{self._database.path} belongs to device {owner[1]} of fleet '{owner[0]}', "
                f"not to device {number} of fleet '{fleet}'",
                name="state.foreign",
                hint="give each device its own state folder",
            )

    def joined(self) -> tuple[int, int]:
        """Epoch and round of the last `ready` that may have left; (0, 0) before the first."""
        ((epoch, round_number),) = self._database.rows("SELECT epoch, round FROM device")
        return epoch, round_number

    def persist_joined(self, epoch: int, round_number: int) -> None:
        """Note, durably, that this device is about to send `ready` for a round.

        Raises:
            ProtocolError: that round or a later one was joined before.
            StateError: it could not be written; `ready` must not leave.
        """
        with self._durably() as connection:
            before = connection.execute("SELECT epoch, round FROM device").fetchone()
            if (epoch, round_number) <= before:
                raise ProtocolError(
                    f"round {round_number} of epoch {epoch} is not above round {before[1]} "
                    f"of epoch {before[0]}, which this device joined"
                )
            connection.execute("UPDATE device SET epoch = ?, round = ?", (epoch, round_number))

    def release_budget(self, *, per_day: float, cap: float, now: float) -> Budget:
        """The release budget as it was left, or a full one before the first release.

        Args:
            per_day: releases that a day of uptime allows, from the device's own settings.
            cap: the greatest burst, from there too; a stored level above it is cut.
            now: monotonic seconds; uptime counts from here.
        """
        return self._budget("releases, release_level", per_day, cap, now)

    def evaluation_budget(self, *, per_day: float, cap: float, now: float) -> Budget:
        """The budget of rounds with evaluation values; see `release_budget`."""
        return self._budget("evaluations, evaluation_level", per_day, cap, now)

    def _budget(self, columns: str, per_day: float, cap: float, now: float) -> Budget:
        ((total, level),) = self._database.rows(f"SELECT {columns} FROM device")  # noqa: S608
        level = cap if level is None else min(level, cap)
        return Budget(level, per_day, cap, total=total, since=now)

    def persist_release(self, total: int, level: float) -> None:
        """Note, durably, that a release is about to leave.

        Args:
            total: count of releases with this one.
            level: what is left in the release budget.

        Raises:
            ProtocolError: the count does not grow.
            StateError: it could not be written; the release must not leave.
        """
        self._persist_spent("releases", "release_level", total, level)

    def persist_evaluation(self, total: int, level: float) -> None:
        """Note, durably, that evaluation values are about to enter a sum; see `persist_release`."""
        self._persist_spent("evaluations", "evaluation_level", total, level)

    def _persist_spent(self, count: str, level_column: str, total: int, level: float) -> None:
        with self._durably() as connection:
            (before,) = connection.execute(f"SELECT {count} FROM device").fetchone()  # noqa: S608
            if total <= before:
                raise ProtocolError(f"{total} {count} are not above {before}, already counted")
            connection.execute(
                f"UPDATE device SET {count} = ?, {level_column} = ?",  # noqa: S608
                (total, level),
            )

    def revocation(self) -> StoredRevocation | None:
        """The revocation list of the highest number seen."""
        with self._database.snapshot() as connection:
            return _stored_revocation(connection)

    def persist_revocation(self, number: int, raw: bytes) -> None:
        """Keep a verified revocation list, durably; the same one again changes nothing.

        Raises:
            ProtocolError: older than the one kept, or another one of its number.
            StateError: it could not be written.
        """
        new = StoredRevocation(number, raw)
        with self._durably() as connection:
            kept = _stored_revocation(connection)
            if new == kept:
                return
            if kept is not None and number <= kept.number:
                raise ProtocolError(
                    f"revocation list {number} is not above list {kept.number}, already here"
                )
            connection.execute(
                "INSERT OR REPLACE INTO revocation (row, number, list) VALUES (1, ?, ?)",
                (number, raw),
            )

    def remember(self, **facts: Any) -> None:
        """Keep values that JSON can hold, batched: see the module's text."""
        self._unwritten |= {key: json.dumps(value) for key, value in facts.items()}

    def memory(self) -> dict[str, Any]:
        """All that `remember` was told, the newest value of each name."""
        stored = dict(self._database.rows("SELECT key, value FROM memory"))
        return {key: json.loads(value) for key, value in (stored | self._unwritten).items()}

    def flush(self) -> None:
        """Write what is batched."""
        if self._unwritten:
            with self._durably():
                pass

    @contextmanager
    def _durably(self) -> Iterator[sqlite3.Connection]:
        batch = dict(self._unwritten)
        with self._database.transaction() as connection:
            yield connection
            connection.executemany(
                "INSERT OR REPLACE INTO memory (key, value) VALUES (?, ?)", batch.items()
            )
        # Only now is it written; another thread may have remembered something newer.
        for key, value in batch.items():
            if self._unwritten.get(key) == value:
                del self._unwritten[key]

    def close(self) -> None:
        """Write what is batched, and let the folder go."""
        try:
            self.flush()
        finally:
            self._database.close()
            self._lock.close()

    def __enter__(self) -> DeviceStore:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def keep_model(path: Path, model: Model, note: Mapping[str, object]) -> None:
    """Keep the newest verified model as a file that other programs can read.

    Readers see the old file or the new one, never a half; it survives a power cut.

    Args:
        path: the npz file, from the settings; its folder is made when it is not there.
        model: verified against the digest of a signed announce.
        note: where it comes from: fleet, epoch, round, version, digest.

    Raises:
        StateError: it cannot be written; the old file is still there.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_npz(path, model, note)
        sync_folder(path.parent)
    except OSError as error:
        raise StateError(
            f"{path}: the model cannot be kept here: {error.strerror}", name="state.unusable"
        ) from error


def _stored_revocation(connection: sqlite3.Connection) -> StoredRevocation | None:
    row = connection.execute("SELECT number, list FROM revocation").fetchone()
    return StoredRevocation(*row) if row else None
