"""Copies of the coordinator's state, and what must hold when one comes back.

A backup is one private zip file (0600): the database as it stood at one moment, the Paillier key
of its epoch, and a manifest with their digests. It can be made while the coordinator runs.

A restored state is an old one. Devices may have joined rounds that it does not know, and refuse
them when they come again; worse, cohorts and rounds would part from what devices saw. So a restored
state begins no round until the fleet authority's revocation list carries a higher epoch than both
the backup and the state that it replaced (docs/protocol.md, sections 2 and 5). The model and its
history are there at once. Moving to another machine is the same: backup, restore, new epoch.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import tempfile
import zipfile
from hashlib import file_digest
from pathlib import Path
from typing import Any

from attrs import asdict, evolve, frozen

from fedring.coordinator.records import check_chain, now_text
from fedring.coordinator.store import CoordinatorStore
from fedring.coordinator.tables import STORE_FILE, key_file, open_database
from fedring.shared.errors import StateError
from fedring.shared.state import (
    lock_folder,
    prepare_folder,
    refuse_overwrite,
    sync_folder,
    write_file,
)

FORMAT = "fedring-coordinator-backup/1"
MANIFEST = "manifest.json"
MAX_MANIFEST_BYTES = 64 * 1024


@frozen
class Backup:
    """What a backup holds.

    Attributes:
        epoch: epoch of the state, 0 when no round was ever begun.
        round: last round of that epoch.
        version: newest version of the model; None when the history has not begun.
        created: when it was made, UTC, ISO 8601.
    """

    epoch: int
    round: int
    version: int | None
    created: str


def back_up(folder: Path, file: Path, *, force: bool = False) -> Backup:
    """Write a backup of a coordinator's state.

    Args:
        folder: the state folder, in use or not.
        file: the zip file to write; appears whole or not at all.
        force: overwrite an older file.

    Raises:
        StateError: no state there, or the file cannot be written.
    """
    refuse_overwrite(file, force=force)
    try:
        with (
            CoordinatorStore.open_beside(folder) as store,
            tempfile.TemporaryDirectory(dir=file.parent, prefix=".fedring-backup-") as temporary,
        ):
            copy = Path(temporary) / STORE_FILE
            store.database.copy_to(copy)
            with CoordinatorStore(open_database(copy, create=False), None) as copied:
                backup = _described(copied)
            parts = [copy]
            if (key := key_file(folder, backup.epoch)).exists():
                parts.append(key)
            archive = Path(temporary) / "backup.zip"
            _pack(archive, backup, parts)
            archive.replace(file)
            sync_folder(file.parent)
    except OSError as error:
        raise _cannot(file, error) from error
    return backup


def restore(folder: Path, file: Path, *, force: bool = False) -> Backup:
    """Bring a backup back.

    Args:
        folder: the state folder; must not be in use.
        file: what `back_up` wrote.
        force: replace a state that is already there; its rounds and models are lost.

    Raises:
        StateError: not a whole backup, the folder is in use or has a state; nothing was changed.
    """
    if not file.is_file():
        raise StateError(f"{file}: no such file", name="state.unusable")
    prepare_folder(folder)
    lock = lock_folder(folder)
    try:
        with tempfile.TemporaryDirectory(dir=folder, prefix=".restore-") as temporary:
            backup, copy, key = _unpack(file, Path(temporary))
            with CoordinatorStore(open_database(copy, create=False), None) as restored:
                _check_whole(restored, backup, file)
                _replace(folder, restored, force=force)
            if key is not None:
                write_file(key_file(folder, backup.epoch), key)
        sync_folder(folder)
    except OSError as error:
        raise _cannot(file, error) from error
    finally:
        lock.close()
    return backup


def _replace(folder: Path, restored: CoordinatorStore, *, force: bool) -> None:
    with CoordinatorStore(open_database(folder / STORE_FILE, create=True), None) as living:
        if not force and (living.epoch() > 0 or living.current_version() is not None):
            raise StateError(
                f"{folder} has a state already, up to round {living.last_round()} of epoch "
                f"{living.epoch()}",
                name="state.exists",
                hint="back it up, then insist with --force to replace it",
            )
        restored.mark_restored(max(restored.epoch(), living.epoch()))
        living.database.replace_by(restored.database)


def _described(store: CoordinatorStore) -> Backup:
    current = store.current_version()
    version = current.version if current else None
    return Backup(store.epoch(), store.last_round(), version, now_text())


def _pack(archive: Path, backup: Backup, parts: list[Path]) -> None:
    manifest = {
        "format": FORMAT,
        **asdict(backup),
        "sha256": {part.name: _sha256(part) for part in parts},
    }
    # Made private before the first byte of a key is in it.
    descriptor = os.open(archive, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w+b") as file:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as packed:
            packed.writestr(MANIFEST, json.dumps(manifest, indent=2))
            for part in parts:
                packed.write(part, part.name)
        file.flush()
        os.fsync(file.fileno())


def _unpack(file: Path, folder: Path) -> tuple[Backup, Path, bytes | None]:
    try:
        with zipfile.ZipFile(file) as packed:
            manifest = _manifest(packed)
            backup = Backup(*(manifest[name] for name in ("epoch", "round", "version", "created")))
            if not (isinstance(backup.created, str) and backup.created.isprintable()):
                raise ValueError("`created` does not print")
            key_name = key_file(folder, backup.epoch).name
            for name, digest in manifest["sha256"].items():
                if name not in {STORE_FILE, key_name}:
                    raise ValueError(f"it holds `{name}`")
                with packed.open(name) as source, (folder / name).open("wb") as target:
                    shutil.copyfileobj(source, target)
                if _sha256(folder / name) != digest:
                    raise ValueError(f"`{name}` was changed")
            if not (folder / STORE_FILE).exists():
                raise ValueError("it holds no database")
    except OSError:  # of the disk
        raise
    except Exception as error:  # of zlib, zipfile, json, by kind of damage
        raise _not_whole(file, str(error)) from error
    key = folder / key_name
    return backup, folder / STORE_FILE, key.read_bytes() if key.exists() else None


def _manifest(packed: zipfile.ZipFile) -> dict[str, Any]:
    if (size := packed.getinfo(MANIFEST).file_size) > MAX_MANIFEST_BYTES:
        raise ValueError(f"its manifest has {size} bytes")
    manifest: dict[str, Any] = json.loads(packed.read(MANIFEST))
    if manifest["format"] != FORMAT:
        raise ValueError(f"its format is not {FORMAT}")
    return manifest


def _check_whole(store: CoordinatorStore, backup: Backup, file: Path) -> None:
    verdicts = store.database.rows("PRAGMA integrity_check(1)")
    if verdicts != [("ok",)]:
        raise _not_whole(file, str(verdicts[0][0]))
    try:
        store.rounds()
        check_chain(reversed(store.versions()))
        holds = evolve(_described(store), created=backup.created)
    except sqlite3.OperationalError as error:  # tables or columns are missing
        raise _not_whole(file, str(error)) from error
    if holds != backup:
        raise _not_whole(file, "its manifest says something else than its database")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()


def _not_whole(file: Path, why: str) -> StateError:
    return StateError(
        f"{file} is not a whole backup of a coordinator: {why}",
        name="state.bad-backup",
        hint="take another backup; nothing was changed",
    )


def _cannot(file: Path, error: OSError) -> StateError:
    return StateError(f"{file}: {error.strerror}", name="state.unusable")
