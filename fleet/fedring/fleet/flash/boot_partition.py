"""The boot partition of a card, as files: of an image, of a card in its slot, or mounted.

Images and cards are read and written with mtools, which needs neither root nor a mount. What was
written is read back from where it lies, not from memory.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import stat
import subprocess
import tempfile
from pathlib import Path
from typing import Any, Final, Protocol

from fedring.fleet.flash.mounts import users_of
from fedring.shared.errors import FlashError

PROGRAMS: Final = {"mcopy": "mtools", "sfdisk": "fdisk"}
"""What is needed for images and cards, by the Debian package that brings it."""

_WRITE: Final = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
_SYSTEM_PROGRAMS: Final = "/usr/sbin:/sbin"  # where Debian keeps sfdisk, out of users' sight


class BootPartition(Protocol):
    """Files of a boot partition, and folders one level deep."""

    @property
    def title(self) -> str:
        """What and where it is, for people."""

    @property
    def free_bytes(self) -> int:
        """Room for further files."""

    def names(self, folder: str = "") -> set[str]:
        """Give the names of what lies in a folder of it; none when there is no such folder."""

    def size(self, path: str) -> int:
        """Give the bytes of a file, 0 when there is none."""

    def read(self, path: str) -> bytes:
        """Give the content of a file, from where it lies."""

    def write(self, path: str, content: bytes) -> None:
        """Write a file anew, in a folder that is made when missing; returns when it lies there."""

    def remove(self, path: str) -> None:
        """Remove a file."""


class MountedPartition:
    """A boot partition that the desktop mounted, or an empty folder that stands for one.

    Args:
        folder: made when something is written, if its parent exists.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @property
    def title(self) -> str:
        return str(self._folder)

    @property
    def free_bytes(self) -> int:
        there = self._folder if self._folder.exists() else self._folder.absolute().parent
        try:
            return shutil.disk_usage(there).free
        except OSError as error:
            raise _unusable(there, error) from error

    def names(self, folder: str = "") -> set[str]:
        path = self._folder / folder
        try:
            return {entry.name for entry in path.iterdir()} if path.is_dir() else set()
        except OSError as error:
            raise _unusable(path, error) from error

    def size(self, path: str) -> int:
        file = self._folder / path
        return file.stat().st_size if file.is_file() else 0

    def read(self, path: str) -> bytes:
        try:
            with (self._folder / path).open("rb") as file:
                _forget(file.fileno())
                return file.read()
        except OSError as error:
            raise _unusable(self._folder / path, error) from error

    def write(self, path: str, content: bytes) -> None:
        target = self._folder / path
        try:
            self._folder.mkdir(mode=0o700, exist_ok=True)
            target.parent.mkdir(mode=0o700, exist_ok=True)
            with os.fdopen(os.open(target, _WRITE, 0o600), "wb") as file:
                # One of these holds the code, and the folder may be open to others. A file system
                # of cards keeps no permissions: its mount decides.
                with contextlib.suppress(OSError):
                    os.fchmod(file.fileno(), 0o600)
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise _unusable(target, error) from error

    def remove(self, path: str) -> None:
        (self._folder / path).unlink()


class FatPartition:
    """The first partition of an image, or of a card in its slot.

    Args:
        path: a file, or the block device of the whole card.

    Raises:
        FlashError: a program is missing, the card is in use or not ours to write, or its first
            partition has no FAT file system.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        for program, package in PROGRAMS.items():
            if find_program(program) is None:
                raise FlashError(
                    f"cards and images are written with {program}, which is not installed",
                    name="flash.missing-program",
                    hint=f"sudo apt-get install {package}; or mount the card and use --out FOLDER",
                )
        _check_usable(path)
        start = _first_partition(path)
        self._place = f"{path}@@{start}"
        self._n_bytes_free = 0
        self._look()

    @property
    def title(self) -> str:
        return f"boot partition of {self._path}"

    @property
    def free_bytes(self) -> int:
        self._look()
        return self._n_bytes_free

    def names(self, folder: str = "") -> set[str]:
        done = self._run("mdir", "-b", f"::/{folder}", may_fail=bool(folder))
        lines = done.decode(errors="replace").splitlines()
        return {line.rstrip("/").rsplit("/", 1)[-1] for line in lines}

    def size(self, path: str) -> int:
        folder, _, name = path.rpartition("/")
        return len(self.read(path)) if name in self.names(folder) else 0

    def read(self, path: str) -> bytes:
        self._settle()
        return self._run("mcopy", f"::/{path}", "-")

    def write(self, path: str, content: bytes) -> None:
        folder, _, name = path.rpartition("/")
        if folder and not self.names(folder) and folder not in self.names():
            self._run("mmd", f"::/{folder}")
        with tempfile.TemporaryDirectory(prefix="fedring-card-") as temporary:
            source = Path(temporary) / name
            source.write_bytes(content)
            self._run("mcopy", "-o", str(source), f"::/{path}")
        self._settle()

    def remove(self, path: str) -> None:
        self._run("mdel", f"::/{path}")

    def _look(self) -> None:
        """See that there is a FAT file system, and what room it has."""
        try:
            listing = self._run("mdir", "::/").decode(errors="replace")
        except FlashError as error:
            raise no_card(self._path, "its first partition has no FAT file system") from error
        last = listing.strip().splitlines()[-1]
        self._n_bytes_free = int("".join(filter(str.isdigit, last)))

    def _settle(self) -> None:
        """Have everything on the card, and nothing of it in memory."""
        with self._path.open("rb") as file:
            os.fsync(file.fileno())
            _forget(file.fileno())

    def _run(self, program: str, *arguments: str, may_fail: bool = False) -> bytes:
        done = subprocess.run(  # noqa: S603 - no shell; paths of a card of ours
            [find_program(program) or program, "-i", self._place, *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            env=os.environ | {"MTOOLS_SKIP_CHECK": "1", "MTOOLSRC": os.devnull, "LC_ALL": "C"},
        )
        if done.returncode != 0 and not may_fail:
            said = done.stderr.decode(errors="replace").strip().splitlines()
            raise FlashError(
                f"{self._path}: {program} failed: {said[-1] if said else done.returncode}",
                name="flash.unusable",
                hint="try another card: this one may be full, worn out or write-protected",
            )
        return done.stdout if done.returncode == 0 else b""


def no_card(path: Path | str, why: str) -> FlashError:
    """Say that something is no card of a board."""
    return FlashError(
        f"{path} is no card with Raspberry Pi OS: {why}",
        name="flash.no-card",
        hint="write the image of the system to the card first, then flash",
    )


def _first_partition(path: Path) -> int:
    """Give the byte at which the first partition begins."""
    done = subprocess.run(  # noqa: S603 - as above
        [find_program("sfdisk") or "sfdisk", "--json", str(path)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    try:
        table: Any = json.loads(done.stdout)["partitiontable"]
        return int(table["partitions"][0]["start"]) * int(table.get("sectorsize", 512))
    except (ValueError, KeyError, IndexError) as error:
        raise no_card(path, "there are no partitions on it") from error


def _check_usable(path: Path) -> None:
    try:
        mode = path.stat().st_mode
        with path.open("r+b"):
            pass
    except OSError as error:
        raise _unusable(path, error) from error
    if not (stat.S_ISREG(mode) or stat.S_ISBLK(mode)):
        raise no_card(path, "neither an image file nor a block device")
    if users := users_of(path):
        raise FlashError(
            f"{path} is in use: {', '.join(users)}",
            name="flash.mounted",
            hint="unmount it first, or give the mounted boot partition: --out FOLDER",
        )


def find_program(program: str) -> str | None:
    """Give the path of a program, also of one for administrators."""
    return shutil.which(program) or shutil.which(program, path=_SYSTEM_PROGRAMS)


def _forget(descriptor: int) -> None:
    """Make the kernel read again from the medium; macOS has no such call."""
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)


def _unusable(path: Path, error: OSError) -> FlashError:
    hint = ""
    if isinstance(error, PermissionError):
        hint = f'sudo chown "$USER" {path}' if str(path).startswith("/dev/") else "check its owner"
    return FlashError(
        f"{path}: {(error.strerror or 'cannot be used').lower()}",
        name="flash.unusable",
        hint=hint,
    )
