"""Samples in a table of an SQLite database, which is opened for reading only."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from attrs import frozen

from fedring.shared.errors import DataError
from fedring.shared.samples import Dataset, Rows
from fedring.shared.samples.dataset import (
    MAX_DATA_BYTES,
    check_first,
    check_size,
    columns_of,
    missing,
    unreadable,
)
from fedring.shared.texts import nearest

PATIENCE_S = 10.0
"""How long another program may keep the database locked."""
MAX_CELL_BYTES = 1 << 20
BYTES_OF_A_FEATURE = 4


@frozen
class DatabaseSource:
    """A table or view of an SQLite database, of which the newest rows count.

    The newest rows of a table are those with the highest rowid, which is the order in which they
    were inserted. A view, and a table without rowids, is read from its beginning.

    Attributes:
        path: the database file.
        table: a table or view of it.
        newest: most samples.
        label: name of the label column.
        max_bytes: most memory for the features; of more rows, the newest are taken.
    """

    path: Path
    table: str
    newest: int
    label: str = "label"
    max_bytes: int = MAX_DATA_BYTES

    def check(self) -> None:
        """See that the table has a label column, and numbers in its newest row."""
        with self._opened() as database:
            columns = self._columns(database)
            first = self._rows(database, columns, limit=1).fetchone()
            check_first(self.origin, columns, first or (), self.label)

    def read(self, features: Sequence[str], classes: Sequence[str]) -> Dataset:
        """The newest samples, the newest first; see `Source.read`."""
        limit = min(self.newest, self.max_bytes // (BYTES_OF_A_FEATURE * max(1, len(features))))
        rows = Rows(self.origin, features, classes, self.max_bytes)
        with self._opened() as database:
            wanted = [*features, self.label]
            columns_of(self.origin, wanted, self._columns(database))
            for number, (*cells, label) in enumerate(self._rows(database, wanted, limit), 1):
                rows.add(f"row {number} from the newest", cells, str(label))
        check_size(self.origin, len(rows))
        return rows.dataset()

    @property
    def origin(self) -> str:
        """What messages call it."""
        return f"{self.path}, table `{self.table}`"

    def _columns(self, database: sqlite3.Connection) -> list[str]:
        # SQLite takes an unknown name in quotes for a text: only what is listed here is asked for.
        cursor = database.execute(f"SELECT * FROM {_quoted(self.table)} LIMIT 0")  # noqa: S608
        return [str(name) for name, *_ in cursor.description]

    def _rows(
        self, database: sqlite3.Connection, columns: Sequence[str], limit: int
    ) -> sqlite3.Cursor:
        listed = ", ".join(map(_quoted, columns))
        order = "ORDER BY rowid DESC" if self._has_rowids(database) else ""
        return database.execute(
            f"SELECT {listed} FROM {_quoted(self.table)} {order} LIMIT ?",  # noqa: S608
            [limit],
        )

    def _has_rowids(self, database: sqlite3.Connection) -> bool:
        if self._tables(database)[self.table] == "view":
            return False
        try:
            database.execute(f"SELECT rowid FROM {_quoted(self.table)} LIMIT 0")  # noqa: S608
        except sqlite3.OperationalError:  # a table made WITHOUT ROWID
            return False
        return True

    def _tables(self, database: sqlite3.Connection) -> dict[str, str]:
        """Table or view, by name."""
        found = database.execute(
            "SELECT name, type FROM sqlite_master WHERE type IN ('table', 'view')"
        )
        return dict(found.fetchall())

    @contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        if not self.path.is_file():
            raise missing(self.path, "database")
        address = f"{self.path.absolute().as_uri()}?mode=ro"
        try:
            with closing(sqlite3.connect(address, uri=True, timeout=PATIENCE_S)) as database:
                database.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_CELL_BYTES)
                tables = self._tables(database)
                if self.table not in tables:
                    raise self._no_table(list(tables))
                yield database
        except (sqlite3.Error, UnicodeDecodeError) as error:  # the latter: it quotes from the file
            # Errors of the sqlite3 module itself have no code; the lowest byte tells the kind.
            kind = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
            if kind in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                raise DataError(
                    f"{self.path}: another program kept it locked for {PATIENCE_S:g} s",
                    name="data.locked",
                    hint="commit often there, or set PRAGMA journal_mode = WAL",
                ) from error
            if kind in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN):
                raise DataError(
                    f"{self.path}: SQLite cannot read it without writing ({error})",
                    name="data.unfinished",
                    hint="was the program that fills it cut off? Start it once: it repairs the"
                    " database. In WAL mode this user needs the right to write in the folder",
                ) from error
            raise unreadable(self.path, error, "an SQLite database that can be read") from error

    def _no_table(self, tables: Sequence[str]) -> DataError:
        near = nearest(self.table, tables)
        listed = ", ".join(f"`{name}`" for name in tables[:8]) or "none"
        return DataError(
            f"{self.path}: no table or view `{self.table}`",
            name="data.missing-table",
            hint=f"did you mean `{near}`?" if near else f"those of the database: {listed}",
        )


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
