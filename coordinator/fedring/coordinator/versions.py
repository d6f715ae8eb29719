"""The model history in the coordinator's SQLite file: records in `version`, arrays in `chunk`.

Functions here work inside a transaction of their caller; `store` has the transactions. Versions
with the same model share their arrays.
"""

from __future__ import annotations

import sqlite3
from hashlib import sha256
from typing import Any

from fedring.coordinator.records import FIRST_VERSION, NO_LINK, Outcome, Task, Version, now_text
from fedring.coordinator.tables import last_round
from fedring.shared.errors import StateError
from fedring.shared.models import Model


def current(connection: sqlite3.Connection) -> Version | None:
    """The newest version."""
    row = connection.execute(
        "SELECT record, link FROM version ORDER BY version DESC LIMIT 1"
    ).fetchone()
    return Version.from_record(*row) if row else None


def version_of(connection: sqlite3.Connection, number: int) -> Version:
    """One version; raises StateError when there is none of that number."""
    row = connection.execute(
        "SELECT record, link FROM version WHERE version = ?", (number,)
    ).fetchone()
    if row is None:
        raise StateError(
            f"there is no version {number} in the model history",
            name="state.no-such-version",
            hint="see the list: fedring coordinator models",
        )
    return Version.from_record(*row)


def made_by(connection: sqlite3.Connection, outcome: Outcome) -> Version | None:
    """The version that the round of an outcome has made already."""
    row = connection.execute(
        "SELECT version FROM round WHERE epoch = ? AND round = ? AND version IS NOT NULL",
        (outcome.epoch, outcome.round),
    ).fetchone()
    return version_of(connection, *row) if row else None


def chunks_of(connection: sqlite3.Connection, version: Version) -> tuple[bytes, ...]:
    """The arrays of a version as they travel; raises StateError when they were dropped."""
    rows = connection.execute(
        "SELECT data FROM chunk WHERE digest = ? ORDER BY position", (version.digest.hex(),)
    ).fetchall()
    if not rows:
        raise StateError(
            f"the arrays of version {version.version} were dropped to make room",
            name="state.no-such-version",
            hint="see which versions are kept: fedring coordinator models",
        )
    if sha256(rows[0][0]).digest() != version.digest:
        raise damaged(version)
    return tuple(data for (data,) in rows)


def damaged(version: Version) -> StateError:
    """The error that a version's arrays are not those of its record."""
    return StateError(
        f"the arrays of version {version.version} are damaged",
        name="state.damaged",
        hint="restore the newest backup: fedring coordinator restore FILE",
    )


def append(
    connection: sqlite3.Connection,
    digest: bytes,
    task: Task,
    *,
    model: Model | None = None,
    at: tuple[int, int] | None = None,
    **facts: Any,
) -> Version:
    """Add the next link of the chain.

    Args:
        connection: inside a transaction.
        digest: of the model.
        task: how it came about.
        model: the model itself, unless its arrays are here already.
        at: epoch and round that made it; the last ones when none did.
        facts: further attributes of `Version`.
    """
    parent = current(connection)
    epoch, round_number = at or last_round(connection)
    version = Version(
        version=parent.version + 1 if parent else FIRST_VERSION,
        parent=parent.version if parent else FIRST_VERSION,
        task=task,
        epoch=epoch,
        round=round_number,
        digest=digest,
        created=now_text(),
        **facts,
    ).linked(parent.link if parent else NO_LINK)
    connection.execute(
        "INSERT INTO version (version, record, link) VALUES (?, ?, ?)",
        (version.version, version.record(), version.link),
    )
    if model is not None:
        _keep(connection, model)
    connection.execute(
        "UPDATE model SET last_version = ? WHERE digest = ?", (version.version, digest.hex())
    )
    return version


def _keep(connection: sqlite3.Connection, model: Model) -> None:
    digest, chunks = model.digest.hex(), model.chunks()
    new = connection.execute(
        "INSERT OR IGNORE INTO model (digest, size, last_version) VALUES (?, ?, 0)",
        (digest, sum(map(len, chunks))),
    )
    if new.rowcount:
        connection.executemany(
            "INSERT INTO chunk (digest, position, data) VALUES (?, ?, ?)",
            [(digest, position, data) for position, data in enumerate(chunks)],
        )


def drop_oldest(connection: sqlite3.Connection, most_bytes: int) -> None:
    """Drop arrays, those first whose last version is the oldest, until the rest fits.

    Those of the current version stay, whatever their size.
    """
    (kept,) = connection.execute("SELECT total(size) FROM model").fetchone()
    oldest_first = connection.execute(
        "SELECT digest, size FROM model "
        "WHERE last_version < (SELECT max(version) FROM version) ORDER BY last_version"
    )
    dropped = []
    for digest, size in oldest_first:
        if kept <= most_bytes:
            break
        dropped.append((digest,))
        kept -= size
    connection.executemany("DELETE FROM model WHERE digest = ?", dropped)
