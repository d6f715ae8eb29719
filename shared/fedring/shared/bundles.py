"""Bundles: the fedring of one kind of board, with all that it imports, signed by the authority.

A bundle is a tar file of exactly three members in this order:

    manifest        as of a signed folder of purpose "bundle", with one file: the archive
    manifest.sig    the authority's signature of it
    site.tar.gz     the archive: `fedring`, which starts the command, and the folder `site`

The manifest's facts are `version`, `python` ("cp311"), `arch` ("aarch64") and `floor`, the oldest
version that a board with this one may still be given. Its number is `version_number(version)`.

Nothing is believed before the signature holds: the tar is read here by its plain headers alone, of
which a program for all kinds of tar files would take more than is good for us.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO, Final

from attrs import field, frozen

from fedring.shared.errors import BundleError
from fedring.shared.identity import MAX_SIGNATURE_BYTES, Authority
from fedring.shared.signed_folders import (
    MANIFEST_FILE,
    MAX_MANIFEST_BYTES,
    SIGNATURE_FILE,
    Manifest,
    read_manifest,
)

PURPOSE: Final = "bundle"
SUFFIX: Final = ".fedring"
ARCHIVE_FILE: Final = "site.tar.gz"
LAUNCHER_FILE: Final = "fedring"
SITE_FOLDER: Final = "site"

MAX_BUNDLE_BYTES: Final = 128 * 2**20
"""A bundle with LiteRT has 40 MB."""

_VERSION: Final = re.compile(r"(0|[1-9]\d{0,3})\.(0|[1-9]\d{0,3})\.(0|[1-9]\d{0,3})", re.ASCII)
_PYTHON: Final = re.compile(r"cp3\d{1,2}", re.ASCII)
_ARCH: Final = re.compile(r"[a-z0-9_]{1,32}")
_BLOCK: Final = 512
_PIECE: Final = 2**20


def version_number(version: str) -> int:
    """Give the number under which this version is compared, 1 to 10**12.

    Args:
        version: three numbers of up to four digits: "0.12.3".

    Raises:
        ValueError: no such version.
    """
    match = _VERSION.fullmatch(version)
    if match is None:
        raise ValueError(f"{version!r} is no version of three numbers below 10000, such as 0.2.0")
    major, minor, patch = map(int, match.groups())
    return (major * 10_000 + minor) * 10_000 + patch + 1


@frozen
class Bundle:
    """What the authority says about a bundle.

    Attributes:
        version: of fedring in it, such as "0.2.0".
        python: tag of the Python that it runs with, such as "cp311".
        arch: processor that it runs on, as `uname -m` says it.
        floor: the oldest version that may come after it.
        size: of the archive, in bytes.
        sha256: of the archive, hexadecimal.
        offset: where in the file the archive begins.
    """

    version: str
    python: str
    arch: str
    floor: str
    size: int
    sha256: str
    offset: int = field(default=0, eq=False)

    @property
    def file_name(self) -> str:
        """The usual name of its file."""
        return f"fedring-{self.version}-{self.python}-{self.arch}{SUFFIX}"

    @classmethod
    def of(cls, manifest: Manifest, offset: int = 0) -> Bundle:
        """Read what a manifest of purpose "bundle" says.

        Raises:
            BundleError: not what the manifest of a bundle says.
        """
        facts = manifest.facts
        match facts:
            case {"version": version, "python": python, "arch": arch, "floor": floor}:
                whole = (
                    _VERSION.fullmatch(version)
                    and _VERSION.fullmatch(floor)
                    and _PYTHON.fullmatch(python)
                    and _ARCH.fullmatch(arch)
                    and set(manifest.files) == {ARCHIVE_FILE}
                    and manifest.number == version_number(version)
                    and version_number(floor) <= manifest.number
                )
                if whole:
                    archive = manifest.files[ARCHIVE_FILE]
                    return cls(version, python, arch, floor, archive.size, archive.sha256, offset)
        raise _damaged("its manifest is not that of a bundle")


def read_bundle(file: BinaryIO, authority: Authority) -> Bundle:
    """Read what a bundle is, and see that the authority signed every byte of it.

    Args:
        file: seekable; anybody may have written it. Nobody else may write to it any more.
        authority: the fleet's.

    Raises:
        BundleError: no bundle, or not complete, or changed.
        SignedFolderError: not signed by this authority.
    """
    found: dict[str, bytes] = {}
    for name, most in ((MANIFEST_FILE, MAX_MANIFEST_BYTES), (SIGNATURE_FILE, MAX_SIGNATURE_BYTES)):
        size = _header(file, name)
        if size > most:
            raise _damaged(f"{name} has {size} bytes, at most {most}")
        found[name] = file.read(size)
        file.seek(-size % _BLOCK, 1)
    manifest = read_manifest(found[MANIFEST_FILE], found[SIGNATURE_FILE], authority, PURPOSE)
    size = _header(file, ARCHIVE_FILE)
    bundle = Bundle.of(manifest, offset=file.tell())
    digest = sha256()
    n_bytes = 0
    for piece in _pieces(file, min(size, bundle.size)):
        digest.update(piece)
        n_bytes += len(piece)
    if n_bytes != bundle.size or size != bundle.size:
        raise _damaged(f"{ARCHIVE_FILE} is not complete")
    if digest.hexdigest() != bundle.sha256:
        raise _damaged(f"{ARCHIVE_FILE} is not what was signed")
    return bundle


def open_bundle(path: Path, authority: Authority) -> Bundle:
    """Read the bundle in a file; see `read_bundle`.

    Raises:
        BundleError: as there, or the file cannot be read; names it.
        SignedFolderError: as there.
    """
    try:
        with path.open("rb") as file:
            return read_bundle(file, authority)
    except OSError as error:
        raise BundleError(
            f"{path}: {(error.strerror or 'cannot be read').lower()}",
            name="bundle.damaged",
            hint="`fedring fleet bundle` makes bundles",
        ) from error
    except BundleError as error:
        raise BundleError(f"{path}: {error.text}", name=error.name, hint=error.hint) from error


def _header(file: BinaryIO, expected: str) -> int:
    """Read the header of the next member; gives its size. POSIX.1-1988, section 10.1.1 (ustar)."""
    block = file.read(_BLOCK)
    name, _, _ = block[:100].partition(b"\0")
    size = block[124:136].rstrip(b"\0 ")
    plain_file = block[156:157] in {b"0", b"\0"} and block[345:500].strip(b"\0") == b""
    if len(block) != _BLOCK or name != expected.encode() or not plain_file:
        raise _damaged(f"{expected} is not where it has to be")
    if not re.fullmatch(rb"[0-7]{1,11}", size):
        raise _damaged(f"the size of {expected} is none")
    return int(size, 8)


def _pieces(file: BinaryIO, n_bytes: int) -> Iterator[bytes]:
    while n_bytes and (piece := file.read(min(n_bytes, _PIECE))):
        n_bytes -= len(piece)
        yield piece


def _damaged(text: str) -> BundleError:
    return BundleError(
        f"no whole bundle: {text}",
        name="bundle.damaged",
        hint="copy it again, or make it anew with `fedring fleet bundle`",
    )
