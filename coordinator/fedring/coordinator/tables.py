"""The coordinator's SQLite file: its tables, and what rounds and settings look like in them.

Functions here work inside a transaction of their caller; `store` has the transactions.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

from fedring.coordinator.records import Outcome, now_text
from fedring.shared.errors import ProtocolError, StateError
from fedring.shared.state import Database

STORE_FILE = "coordinator.db"
NEW_EPOCH = "fedring fleet epoch, then start again with the new revocation list"

_APPLICATION_ID = 0x66724373  # "frCs"
_SCHEMA = (
    (
        "CREATE TABLE setting (key TEXT PRIMARY KEY, value ANY) STRICT",
        "CREATE TABLE epoch (epoch INTEGER PRIMARY KEY, begun TEXT NOT NULL) STRICT",
        """
        CREATE TABLE version (
            version INTEGER PRIMARY KEY,
            record TEXT NOT NULL,
            link BLOB NOT NULL,
            task TEXT NOT NULL AS (json_extract(record, '$.task')) STORED
        ) STRICT
        """,
        """
        CREATE TABLE model (
            digest TEXT PRIMARY KEY,
            size INTEGER NOT NULL,
            last_version INTEGER NOT NULL
        ) STRICT
        """,
        """
        CREATE TABLE chunk (
            digest TEXT NOT NULL REFERENCES model ON DELETE CASCADE,
            position INTEGER NOT NULL,
            data BLOB NOT NULL,
            PRIMARY KEY (digest, position)
        ) STRICT
        """,
        """
        CREATE TABLE round (
            epoch INTEGER NOT NULL REFERENCES epoch,
            round INTEGER NOT NULL,
            announced TEXT NOT NULL,
            ended TEXT NOT NULL DEFAULT '',
            outcome TEXT,
            version INTEGER UNIQUE REFERENCES version,
            PRIMARY KEY (epoch, round)
        ) STRICT
        """,
        "CREATE INDEX version_by_task ON version (task)",
        "CREATE INDEX model_by_age ON model (last_version)",
        "CREATE INDEX open_round ON round (epoch) WHERE outcome IS NULL",
        """
        CREATE TABLE cohort (
            epoch INTEGER NOT NULL REFERENCES epoch,
            device INTEGER NOT NULL,
            cohort INTEGER NOT NULL,
            PRIMARY KEY (epoch, device)
        ) STRICT
        """,
        """
        CREATE TABLE device (
            number INTEGER PRIMARY KEY, name TEXT NOT NULL, seen TEXT NOT NULL
        ) STRICT
        """,
        """
        CREATE TABLE bench (
            device INTEGER PRIMARY KEY, strikes INTEGER NOT NULL, until INTEGER NOT NULL
        ) STRICT
        """,
    ),
)


def key_file(folder: Path, epoch: int) -> Path:
    """Where the Paillier key of an epoch lives in the state folder."""
    return folder / f"paillier-{epoch}.key"


def open_database(path: Path, *, create: bool) -> Database:
    """Open a coordinator's database file, wherever it lies."""
    return Database(
        path,
        kind="coordinator store",
        application_id=_APPLICATION_ID,
        schema=_SCHEMA,
        create=create,
    )


def last_round(connection: sqlite3.Connection) -> tuple[int, int]:
    """The epoch and the last round announced in it; (0, 0) in a new store."""
    (epoch,) = connection.execute("SELECT coalesce(max(epoch), 0) FROM epoch").fetchone()
    (last,) = connection.execute(
        "SELECT coalesce(max(round), 0) FROM round WHERE epoch = ?", (epoch,)
    ).fetchone()
    return epoch, last


def check_epoch(connection: sqlite3.Connection, epoch: int) -> None:
    """Refuse to go on in an epoch that a restored state may not use, or in none."""
    restored = setting(connection, "restored")
    if restored is not None and epoch <= restored:
        raise StateError(
            f"this state was restored from a backup: it needs an epoch above {restored}, since "
            "devices may have joined rounds that it does not know",
            name="state.restored",
            hint=NEW_EPOCH,
        )
    if epoch < 1:
        raise ProtocolError("no epoch was entered")


def settle(connection: sqlite3.Connection, outcome: Outcome, version: int | None = None) -> None:
    """Store how a round ended; raises ProtocolError when it is settled or unknown."""
    changed = connection.execute(
        "UPDATE round SET outcome = ?, version = ?, ended = ? "
        "WHERE epoch = ? AND round = ? AND outcome IS NULL",
        (outcome.record(), version, now_text(), outcome.epoch, outcome.round),
    )
    if changed.rowcount != 1:
        raise ProtocolError(
            f"round {outcome.round} of epoch {outcome.epoch} is settled, or was never announced"
        )


def setting(connection: sqlite3.Connection, key: str) -> Any:
    """A setting's value, or None."""
    row = connection.execute("SELECT value FROM setting WHERE key = ?", (key,)).fetchone()
    return row[0] if row else None


def set_setting(connection: sqlite3.Connection, key: str, value: str | int) -> None:
    """Store a setting in place of its older value."""
    connection.execute("INSERT OR REPLACE INTO setting (key, value) VALUES (?, ?)", (key, value))
