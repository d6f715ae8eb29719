"""Unpacking a bundle's archive into a slot: plain files and folders, and nothing else.

The archive is signed, and still trusted in nothing: a link or a `..` in it would write outside the
slot, with the rights of root. Two readings: the first sees that everything in it is harmless and
how much room it takes, the second writes. Owners, dates and modes do not count; a file is either a
program or not.
"""

from __future__ import annotations

import os
import shutil
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, BinaryIO, Final, cast

from attrs import frozen

from fedring.shared.bundles import LAUNCHER_FILE, SITE_FOLDER, Bundle
from fedring.shared.errors import BundleError

MAX_MEMBERS: Final = 20_000
MAX_UNPACKED_BYTES: Final = 512 * 2**20

_BLOCK: Final = 4096
_DAMAGE: Final = (tarfile.TarError, zlib.error, EOFError, ValueError, OverflowError)


@frozen
class Content:
    """What an archive holds.

    Attributes:
        n_members: files and folders.
        n_bytes: that they take on a disk, in whole blocks.
    """

    n_members: int
    n_bytes: int


def look_through(file: BinaryIO, bundle: Bundle) -> Content:
    """See that an archive may be unpacked.

    Args:
        file: the bundle, whose signature holds.
        bundle: what it is.

    Raises:
        BundleError: something in it is no plain file or folder below it, or there is too much.
    """
    n_members = n_bytes = 0
    names: set[str] = set()
    with _members(file, bundle) as members:
        for member in members:
            n_members += 1
            n_bytes += _on_disk(member.size)
            if n_members > MAX_MEMBERS or n_bytes > MAX_UNPACKED_BYTES:
                raise _hostile(f"more than {MAX_MEMBERS} files or {MAX_UNPACKED_BYTES} bytes")
            if not (member.isreg() or member.isdir()):
                raise _hostile(f"{member.name[:80]!a} is neither file nor folder")
            name = _path(member)
            if str(name) in names:
                raise _hostile(f"{member.name[:80]!a} stands in it twice")
            names.add(str(name))
    if LAUNCHER_FILE not in names or not any(n.startswith(f"{SITE_FOLDER}/") for n in names):
        raise _hostile(f"no {LAUNCHER_FILE} and {SITE_FOLDER} in it")
    return Content(n_members, n_bytes)


def unpack(file: BinaryIO, bundle: Bundle, folder: Path) -> None:
    """Unpack an archive that was looked through into a new folder; not synced yet.

    Args:
        file: the bundle.
        bundle: what it is.
        folder: what was there before is removed.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o755, parents=True)
    with _members(file, bundle) as members:
        for member in members:
            path = folder / _path(member)
            if member.isdir():
                path.mkdir(mode=0o755, parents=True, exist_ok=True)
                continue
            path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            mode = 0o755 if member.mode & 0o100 else 0o644
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            with os.fdopen(os.open(path, flags, mode), "wb") as target:
                shutil.copyfileobj(members.content(member), target)


class _Members:
    """The members of an archive, one after the other; nothing is kept of them."""

    def __init__(self, archive: tarfile.TarFile) -> None:
        self._archive = archive

    def __iter__(self) -> Iterator[tarfile.TarInfo]:
        while (member := self._archive.next()) is not None:
            self._archive.members.clear()  # type: ignore[attr-defined]  # else they pile up
            yield member

    def content(self, member: tarfile.TarInfo) -> IO[bytes]:
        return cast(IO[bytes], self._archive.extractfile(member))  # None for links only


@contextmanager
def _members(file: BinaryIO, bundle: Bundle) -> Iterator[_Members]:
    file.seek(bundle.offset)
    try:
        with tarfile.open(mode="r|gz", fileobj=file) as archive:
            yield _Members(archive)
    except _DAMAGE as error:
        raise _hostile(str(error)) from error


def _path(member: tarfile.TarInfo) -> PurePosixPath:
    path = PurePosixPath(member.name)
    harmless = path.parts and not path.is_absolute() and ".." not in path.parts
    if not harmless or not member.name.isprintable() or "\\" in member.name:
        raise _hostile(f"{member.name[:80]!a} is no place in a slot")
    return path


def _on_disk(n_bytes: int) -> int:
    return -(-max(n_bytes, 1) // _BLOCK) * _BLOCK


def _hostile(text: str) -> BundleError:
    return BundleError(
        f"the archive in the bundle cannot be unpacked: {text}",
        name="bundle.damaged",
        hint="make it anew with `fedring fleet bundle`",
    )
