"""Files of a service, put where it reads them: whole, with the right owner, or not at all.

Root's hand is led nowhere: what is read back must be nobody else's, and no link is followed.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import Final

from fedring.shared.errors import StateError
from fedring.shared.state import PRIVATE_FILE, PRIVATE_FOLDER, sync_folder

_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_OPEN: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
_OTHERS_MAY_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH


def place_file(
    path: Path, content: bytes, mode: int = PRIVATE_FILE, owner: tuple[int, int] | None = None
) -> None:
    """Write a file that appears with content, mode and owner at once, also after a power cut.

    A service that reads it again at any moment never finds one that it may not read.

    Args:
        path: the file; folders above it are made, for the same owner alone.
        content: of the file.
        mode: permissions.
        owner: user and group, None for our own.

    Raises:
        StateError: it cannot be written; what was there before still is.
    """
    temporary = path.with_name(f".{path.name}.new")
    try:
        _make_folder(path.parent, owner)
        temporary.unlink(missing_ok=True)  # of a run that did not come to its end
        with os.fdopen(os.open(temporary, _NEW, PRIVATE_FILE), "wb") as file:
            file.write(content)
            file.flush()
            if owner is not None:
                os.fchown(file.fileno(), *owner)
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        temporary.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        raise StateError(f"{path}: {error.strerror}", name="state.unusable") from error


def read_own(path: Path) -> bytes | None:
    """Give the content of a file that nobody but root or ourselves can have written.

    None where there is no such file: nothing, a link of either kind, or a file that somebody else
    owns or may write to.

    Raises:
        StateError: it is there, and cannot be read.
    """
    try:
        with os.fdopen(os.open(path, _OPEN | os.O_NONBLOCK), "rb") as file:
            facts = os.fstat(file.fileno())
            is_file = stat.S_ISREG(facts.st_mode) and facts.st_nlink == 1
            return file.read() if is_file and _is_own(facts) else None
    except OSError as error:
        if error.errno in {errno.ENOENT, errno.ELOOP, errno.ENOTDIR, errno.EISDIR}:
            return None
        raise StateError(f"{path}: {error.strerror}", name="state.unusable") from error


def is_own(path: Path) -> bool:
    """Whether nobody but root or ourselves can change what lies here; a link is not followed."""
    facts = path.lstat()
    return _is_own(facts) and not stat.S_ISLNK(facts.st_mode)


def lies_right(path: Path, mode: int, owner: tuple[int, int] | None) -> bool:
    """Whether a file has these permissions, and this owner where one is told."""
    facts = path.lstat()
    return stat.S_IMODE(facts.st_mode) == mode and owner in {None, (facts.st_uid, facts.st_gid)}


def own_folder(folder: Path, mode: int, owner: tuple[int, int] | None = None) -> None:
    """Make a folder, or make one that is there belong to its owner, in one step.

    Args:
        folder: the one above it is there, and root's.
        mode: permissions.
        owner: user and group, None for our own.

    Raises:
        StateError: it cannot be made, or is a link or no folder.
    """
    try:
        if not os.path.lexists(folder):
            folder.mkdir(PRIVATE_FOLDER)
            sync_folder(folder.parent)
        descriptor = os.open(folder, _OPEN | os.O_DIRECTORY)
        try:
            os.fchown(descriptor, *(owner or (os.geteuid(), os.getegid())))
            os.fchmod(descriptor, mode)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise StateError(f"{folder}: {error.strerror}", name="state.unusable") from error


def _is_own(facts: os.stat_result) -> bool:
    return facts.st_uid in {0, os.geteuid()} and not facts.st_mode & _OTHERS_MAY_WRITE


def _make_folder(folder: Path, owner: tuple[int, int] | None) -> None:
    if folder.is_dir():
        return
    _make_folder(folder.parent, owner)
    folder.mkdir(PRIVATE_FOLDER)
    if owner is not None:
        os.chown(folder, *owner)
    sync_folder(folder.parent)
