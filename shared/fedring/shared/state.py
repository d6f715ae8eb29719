"""A state folder: its lock, its one SQLite file, and files that appear whole or not at all.

Devices and the coordinator keep what must survive a crash in a folder of their own. Rules kept
here for both:

- **Private.** A new folder is 0700, a new file 0600. A folder that others may write to is refused.
- **One owner.** Whoever runs on a folder holds its lock (`lock_folder`); a second is refused.
- **Durable means durable.** `Database.transaction` returns after its records are on the disk:
  write-ahead log, synced at every commit. What is not worth a sync is for the caller to batch.
- **Whole or nothing.** A transaction that ends by an exception, or by a crash, changed nothing.

The meaning of the records is told by the two stores. Source: docs/protocol.md, section 6.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn

from fedring.shared.errors import StateError

PRIVATE_FOLDER = 0o700
PRIVATE_FILE = 0o600
LOCK_FILE = "lock"

BUSY_S = 5.0
"""How long one process waits for the other's transaction; ours take milliseconds."""
LOG_BYTES = 4 * 2**20
"""The write-ahead log is cut back to this after a checkpoint: memory cards are small."""

Schema = Sequence[Sequence[str]]
"""The statements that lead from version i of a database to version i + 1, for each i from 0."""


def prepare_folder(folder: Path) -> None:
    """Make a state folder, or see that an existing one is fit to be one.

    Raises:
        StateError: it cannot be made, is no folder, or others may write to it.
    """
    try:
        if not folder.exists():
            new = [one for one in (folder, *folder.parents) if not one.exists()]
            folder.mkdir(mode=PRIVATE_FOLDER, parents=True)
            for one in reversed(new):  # each name is kept by the folder above it
                sync_folder(one.parent)
        mode = folder.stat().st_mode
    except OSError as error:
        raise _unusable(folder, error) from error
    if not folder.is_dir():
        raise StateError(f"{folder} is not a folder", name="state.unusable")
    if mode & 0o022:
        raise StateError(
            f"state folder {folder} can be written to by other users",
            name="state.open-to-others",
            hint=f"chmod 700 {folder}",
        )


class FolderLock:
    """The right to run on a folder; given back by `close`, or by the end of the process."""

    def __init__(self, file: FileIO) -> None:
        self._file = file

    def close(self) -> None:
        """Give the right back; once more does nothing."""
        self._file.close()


def lock_folder(folder: Path, *, wait: bool = False) -> FolderLock:
    """Take the right to run on a state folder.

    The lock is the kernel's (flock), so that no crash leaves one behind. Programs that the holder
    starts do not inherit it; a bare `os.fork` would.

    Args:
        folder: there already.
        wait: until nobody else holds it, however long that is.

    Raises:
        StateError: another process holds it; the message says which.
    """
    path = folder / LOCK_FILE
    try:
        file = FileIO(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, PRIVATE_FILE), "r+")
    except OSError as error:
        raise _unusable(path, error) from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        file.truncate(0)
        file.write(f"{os.getpid()}\n".encode())
    except BlockingIOError as error:
        holder = file.read(32).decode(errors="replace").strip() or "?"
        file.close()
        raise StateError(
            f"state folder {folder} is in use by process {holder}",
            name="state.in-use",
            hint="stop that process first; two on one folder would undo each other's work",
        ) from error
    except OSError as error:
        file.close()
        raise _unusable(path, error) from error
    return FolderLock(file)


class Database:
    """One SQLite file, opened for durable and explicit transactions, usable from any thread.

    Args:
        path: the file; a new one is made only when `create` says so.
        kind: what the file is, for messages: "coordinator store".
        application_id: marks the file as one of this kind.
        schema: how to bring an empty or older file to the newest version.
        create: whether to make the file when it is not there.

    Raises:
        StateError: missing, unreadable, of another kind, or written by a newer fedring.
    """

    def __init__(
        self, path: Path, *, kind: str, application_id: int, schema: Schema, create: bool
    ) -> None:
        self.path = path
        self._kind = kind
        self._busy = threading.RLock()
        if create:
            _create_file(path)
        elif not path.exists():
            raise StateError(
                f"no {kind} at {path}",
                name="state.missing",
                hint="check the state folder in the configuration, or start it once with `run`",
            )
        with self._telling():
            self._connection = sqlite3.connect(
                f"{path.absolute().as_uri()}?mode=rw",
                uri=True,
                isolation_level=None,
                timeout=BUSY_S,
                check_same_thread=False,
            )
        try:
            with self._telling():
                self._set_up(application_id, schema)
        except BaseException:
            self._connection.close()
            raise

    def _set_up(self, application_id: int, schema: Schema) -> None:
        # Judged before the first write: a file of another program must stay as it is.
        (found,) = self._connection.execute("PRAGMA application_id").fetchone()
        (version,) = self._connection.execute("PRAGMA user_version").fetchone()
        (tables,) = self._connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        if found != application_id and (found or version or tables):
            raise StateError(f"{self.path} is not a {self._kind}", name="state.foreign")
        if version > len(schema):
            raise StateError(
                f"{self.path} has format {version}, this fedring knows up to {len(schema)}",
                name="state.newer",
                hint="install the newer fedring that wrote it",
            )
        self._connection.execute("PRAGMA journal_mode = WAL")
        # With a write-ahead log EXTRA is FULL; where a file system offers none, FULL alone would
        # leave a commit to the last sync of the folder.
        self._connection.execute("PRAGMA synchronous = EXTRA")
        self._connection.execute(f"PRAGMA journal_size_limit = {LOG_BYTES}")
        self._connection.execute("PRAGMA foreign_keys = ON")
        if version == len(schema):
            return
        with self.transaction() as connection:
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            for statements in schema[version:]:
                for statement in statements:
                    connection.execute(statement)
            connection.execute(f"PRAGMA application_id = {application_id}")
            connection.execute(f"PRAGMA user_version = {len(schema)}")

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Change several records as one; what was written is on the disk when this ends.

        Raises:
            StateError: the disk is full, the file damaged, or another process too slow; nothing
                was changed.
        """
        with self._busy, self._telling():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:  # a full disk has rolled back already
                    self._connection.execute("ROLLBACK")
                raise

    @contextmanager
    def snapshot(self) -> Iterator[sqlite3.Connection]:
        """Read several records as they stood at one moment, whatever others write meanwhile."""
        with self._busy, self._telling():
            self._connection.execute("BEGIN")
            try:
                yield self._connection
            finally:
                self._connection.execute("ROLLBACK")

    def rows(
        self, statement: str, values: Sequence[object] | Mapping[str, object] = ()
    ) -> list[tuple[Any, ...]]:
        """All rows that a SELECT gives."""
        with self._busy, self._telling():
            return self._connection.execute(statement, values).fetchall()

    def copy_to(self, path: Path) -> None:
        """Write a consistent copy of the whole database as one private file.

        Others may go on writing meanwhile.

        Args:
            path: a file that does not exist yet.
        """
        _create_file(path)
        target = sqlite3.connect(path, isolation_level=None)
        try:
            with self._busy, self._telling(path):
                self._connection.backup(target)
                # One file, without a log beside it.
                target.execute("PRAGMA journal_mode = DELETE")
        finally:
            target.close()

    def replace_by(self, other: Database) -> None:
        """Take over the whole content of another database, in one transaction."""
        with self._busy, other._busy, self._telling():
            other._connection.backup(self._connection)

    def close(self) -> None:
        """Close the file; the database cannot be used any more."""
        with self._busy:
            self._connection.close()

    def __enter__(self) -> Database:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @contextmanager
    def _telling(self, path: Path | None = None) -> Iterator[None]:
        """Turn what SQLite says about disk and file into words for the user.

        Misuse of SQL is a bug of ours and stays what it is.
        """
        try:
            yield
        except (sqlite3.IntegrityError, sqlite3.ProgrammingError):
            raise
        except sqlite3.DatabaseError as error:
            _raise(error, f"{self._kind} {path or self.path}")
        except UnicodeDecodeError as error:  # what SQLite says quotes from the file
            raise _damaged(f"{self._kind} {path or self.path}", error) from error


def write_file(path: Path, data: bytes) -> None:
    """Write a private file (0600) that appears whole or not at all, also after a power cut.

    Raises:
        StateError: the file cannot be written; what was there before still is.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, PRIVATE_FILE)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)
    except OSError as error:
        raise _unusable(path, error) from error


def replace_file(new: Path, path: Path) -> None:
    """Give a file that is written the place of another one, also after a power cut.

    Raises:
        StateError: it cannot; what was there before still is.
    """
    try:
        new.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        raise _unusable(path, error) from error


def refuse_overwrite(path: Path, *, force: bool) -> None:
    """See that a file that a user wants written takes nothing away.

    Raises:
        StateError: it is there already, and the user does not insist.
    """
    if path.exists() and not force:
        raise StateError(
            f"{path} is there already",
            name="state.file-exists",
            hint="choose another name, or overwrite it with --force",
        )


def sync_folder(folder: Path) -> None:
    """Make names that were just made or replaced in a folder survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _create_file(path: Path) -> None:
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, PRIVATE_FILE))
        sync_folder(path.parent)
    except OSError as error:
        raise _unusable(path, error) from error


def _unusable(path: Path, error: OSError) -> StateError:
    return StateError(f"{path}: {error.strerror}", name="state.unusable")


def _damaged(what: str, error: Exception) -> StateError:
    return StateError(
        f"the {what} is damaged: {error}",
        name="state.damaged",
        hint="move the file away; a coordinator then restores its newest backup",
    )


def _raise(error: sqlite3.DatabaseError, what: str) -> NoReturn:
    # Names may be longer and tell more, such as SQLITE_BUSY_SNAPSHOT.
    name: str = getattr(error, "sqlite_errorname", "SQLITE_ERROR")
    if name.startswith("SQLITE_ERROR"):
        raise error
    if name == "SQLITE_FULL":
        raise StateError(
            f"no space left for the {what}; nothing was changed",
            name="state.disk-full",
            hint="make room on that disk, then start again",
        ) from error
    if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
        raise _damaged(what, error) from error
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        raise StateError(
            f"another process kept the {what} busy for {BUSY_S:g} s", name="state.in-use"
        ) from error
    raise StateError(f"the {what} cannot be used: {error}", name="state.unusable") from error
