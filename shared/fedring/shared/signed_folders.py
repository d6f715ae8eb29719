"""Signed folders: what the fleet authority hands out as files, whole and unchanged or not at all.

    FOLDER/manifest         purpose, fleet, number, facts, and size and SHA-256 of every file
    FOLDER/manifest.sig     the authority's signature of it, DER
    FOLDER/...              exactly the files of the manifest, at most `MAX_FILES`

The manifest is JSON for people, with one spelling: bytes that `Manifest.encode` would not have
written are refused. `number` grows with every folder of one purpose, so that whoever keeps the
highest one seen cannot be given an older folder; keeping it is the caller's.

Not protected: whoever may write to a folder may change it *after* it was verified. Where that is
somebody else, take the contents with `Manifest.check`, in one reading.

Modes of files say nothing here (a FAT partition has none); `executable` tells an installer.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Collection, Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import attrs
from cryptography.hazmat.primitives.asymmetric import ec

from fedring.shared.errors import IdentityError, SignedFolderError
from fedring.shared.identity import MAX_SIGNATURE_BYTES, NAME_PATTERN, Authority, sign
from fedring.shared.state import write_file

KIND: Final = "folder"
FORMAT: Final = "fedring-folder/1"
MANIFEST_FILE: Final = "manifest"
SIGNATURE_FILE: Final = "manifest.sig"

MAX_MANIFEST_BYTES: Final = 64 * 1024
MAX_FILES: Final = 256
MAX_FACTS: Final = 32
MAX_FACT_CHARACTERS: Final = 1024
MAX_FILE_BYTES: Final = 512 * 2**20
"""A bundle with LiteRT has 40 MB."""
MAX_READ_BYTES: Final = 16 * 2**20
"""Of all files that `read_folder` takes into memory: 200,000 revoked certificates."""
MAX_NUMBER: Final = 2**53 - 1
"""Above, other readers of JSON round."""

_LEVEL: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+@-]{0,127}")  # neither hidden, nor . or ..
_MAX_LEVELS: Final = 8
_FACT: Final = re.compile(r"[a-z0-9_]{1,32}")
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_READ_BYTES: Final = 2**20


@attrs.frozen
class File:
    """What a manifest says of a file.

    Attributes:
        size: bytes, 0 to `MAX_FILE_BYTES`.
        sha256: 64 hexadecimal digits.
        executable: whether it is a program.
    """

    size: int
    sha256: str
    executable: bool = False

    def __attrs_post_init__(self) -> None:
        _require(type(self.size) is int and 0 <= self.size <= MAX_FILE_BYTES, "size of a file")
        _require(_is_text(self.sha256, _DIGEST), "digest of a file")
        _require(type(self.executable) is bool, "mark of a program")

    @classmethod
    def of(cls, content: bytes, *, executable: bool = False) -> File:
        """Describe this content."""
        return cls(len(content), sha256(content).hexdigest(), executable)


def _frozen_texts(facts: Mapping[str, str]) -> Mapping[str, str]:
    return MappingProxyType(dict(facts))


def _frozen_files(files: Mapping[str, File]) -> Mapping[str, File]:
    return MappingProxyType(dict(files))


@attrs.frozen
class Manifest:
    """What the authority signs.

    Attributes:
        purpose: what the folder is for, `[a-z0-9-]{1,32}`, such as "server".
        fleet: name of the fleet.
        number: 1 to `MAX_NUMBER`; grows with each folder of one purpose.
        facts: whatever else the reader must know, such as {"python": "cp311"}; at most
            `MAX_FACTS` printable texts of `MAX_FACT_CHARACTERS`, keys `[a-z0-9_]{1,32}`.
        files: by path in the folder, levels divided by `/`.

    Raises:
        ValueError: a part is out of its range.
    """

    purpose: str
    fleet: str
    number: int
    facts: Mapping[str, str] = attrs.field(converter=_frozen_texts)
    files: Mapping[str, File] = attrs.field(converter=_frozen_files)

    def __attrs_post_init__(self) -> None:
        _require(_is_text(self.purpose, NAME_PATTERN), "purpose")
        _require(_is_text(self.fleet, NAME_PATTERN), "fleet")
        _require(type(self.number) is int and 1 <= self.number <= MAX_NUMBER, "number")
        _require(len(self.facts) <= MAX_FACTS, "count of facts")
        for name, fact in self.facts.items():
            _require(_is_text(name, _FACT), "name of a fact")
            _require(isinstance(fact, str) and fact.isascii() and fact.isprintable(), "fact")
            _require(len(fact) <= MAX_FACT_CHARACTERS, "length of a fact")
        _require(len(self.files) <= MAX_FILES, "count of files")
        for path in self.files:
            _require(_is_path(path), "path of a file")
            above = path.split("/")[:-1]
            for depth in range(1, len(above) + 1):
                _require("/".join(above[:depth]) not in self.files, "file that is a folder, too")

    def encode(self) -> bytes:
        """Give the one spelling of this manifest.

        Raises:
            ValueError: longer than `MAX_MANIFEST_BYTES`.
        """
        fields = {
            "format": FORMAT,
            "purpose": self.purpose,
            "fleet": self.fleet,
            "number": self.number,
            "facts": dict(self.facts),
            "files": {path: attrs.asdict(file) for path, file in self.files.items()},
        }
        data = (json.dumps(fields, indent=1, sort_keys=True) + "\n").encode()
        _require(len(data) <= MAX_MANIFEST_BYTES, "length of the manifest")
        return data

    def check(self, path: str, content: bytes) -> None:
        """Return if this is the content of that file.

        Raises:
            SignedFolderError: it is not, or the manifest has no such file.
        """
        file = self.files.get(path)
        if file is None:
            raise _damaged(f"{path} is not in the manifest")
        if len(content) != file.size or sha256(content).hexdigest() != file.sha256:
            raise _changed(path)


def sign_folder(
    folder: Path,
    key: ec.EllipticCurvePrivateKey,
    *,
    purpose: str,
    fleet: str,
    number: int,
    facts: Mapping[str, str] = MappingProxyType({}),
) -> Manifest:
    """Write manifest and signature for the files that lie in a folder.

    Args:
        folder: of regular files and folders; an older manifest and signature are replaced.
        key: the fleet authority's.
        purpose: see `Manifest`; so are the others.

    Returns:
        What was signed.

    Raises:
        SignedFolderError: a link or something else that is no file lies there.
        ValueError: a file, name, number or fact that no manifest may have.
        StateError: nothing can be written there.
    """
    files = {}
    for path, status in _files(folder):
        digest = _digest(folder, path, status.st_size)
        files[path] = File(status.st_size, digest, bool(status.st_mode & stat.S_IXUSR))
    manifest = Manifest(purpose, fleet, number, facts, files)
    encoded, signature = sign_manifest(manifest, key)
    # A crash in between leaves a signature that does not hold: told, and mended by signing again.
    write_file(folder / MANIFEST_FILE, encoded)
    write_file(folder / SIGNATURE_FILE, signature)
    return manifest


def sign_manifest(manifest: Manifest, key: ec.EllipticCurvePrivateKey) -> tuple[bytes, bytes]:
    """Give manifest and signature as bytes, for what does not lie in a folder."""
    encoded = manifest.encode()
    return encoded, sign(key, KIND, encoded)


def read_manifest(encoded: bytes, signature: bytes, authority: Authority, purpose: str) -> Manifest:
    """Read a manifest that anybody may have sent; says nothing about the files.

    Raises:
        SignedFolderError: not signed by this authority, for another purpose or fleet, or not in
            the one spelling.
    """
    if len(encoded) > MAX_MANIFEST_BYTES:
        raise _damaged(f"the manifest is longer than {MAX_MANIFEST_BYTES} bytes")
    try:
        authority.verify(KIND, encoded, signature)
    except IdentityError as error:
        raise SignedFolderError(
            f"the manifest was not signed by the authority of fleet {authority.fleet}",
            name="signed-folder.foreign",
            hint="take the folder as `fedring fleet` made it, and the ca.crt of the same fleet",
        ) from error
    manifest = parse_manifest(encoded)
    for what, found, expected in (
        ("fleet", manifest.fleet, authority.fleet),
        ("purpose", manifest.purpose, purpose),
    ):
        if found != expected:
            raise SignedFolderError(
                f"the manifest's {what} is {found}, not {expected}", name="signed-folder.foreign"
            )
    return manifest


def parse_manifest(encoded: bytes) -> Manifest:
    """Read a manifest; says nothing about who signed it.

    Raises:
        SignedFolderError: not in the one spelling.
    """
    if len(encoded) > MAX_MANIFEST_BYTES:
        raise _damaged(f"the manifest is longer than {MAX_MANIFEST_BYTES} bytes")
    try:
        fields: Any = json.loads(encoded)
        match fields:
            case {
                "format": "fedring-folder/1",
                "purpose": purpose,
                "fleet": fleet,
                "number": number,
                "facts": dict(facts),
                "files": dict(files),
            }:
                manifest = Manifest(
                    purpose, fleet, number, facts, {path: File(**files[path]) for path in files}
                )
                canonical = manifest.encode()
            case _:
                raise _damaged("the manifest is of another format")
    except (ValueError, TypeError, RecursionError) as error:
        raise _damaged("the manifest is damaged") from error
    # Encoding again settles order, doubles, further keys and other spellings.
    if canonical != encoded:
        raise _damaged("the manifest is not in its one spelling")
    return manifest


def verify_folder(folder: Path, authority: Authority, purpose: str) -> Manifest:
    """See that a folder holds what the authority signed, every file of it and no other.

    Args:
        folder: anybody may have filled it.
        authority: the fleet's.
        purpose: that the folder must have been signed for.

    Returns:
        Its manifest.

    Raises:
        SignedFolderError: manifest or signature are missing or do not hold, or a file is missing,
            changed, or not in the manifest, or is no regular file; names the file.
    """
    encoded = _small_file(folder, MANIFEST_FILE, MAX_MANIFEST_BYTES)
    signature = _small_file(folder, SIGNATURE_FILE, MAX_SIGNATURE_BYTES)
    manifest = read_manifest(encoded, signature, authority, purpose)
    missing = set(manifest.files)
    for path, status in _files(folder):
        file = manifest.files.get(path)
        if file is None:
            raise _damaged(f"{folder / path} is not in the manifest")
        if status.st_size != file.size or _digest(folder, path, file.size) != file.sha256:
            raise _changed(folder / path)
        missing.discard(path)
    if missing:
        raise _damaged(f"{folder / min(missing)} is missing")
    return manifest


def read_folder(
    folder: Path, authority: Authority, purpose: str, parts: Collection[str] | None = None
) -> tuple[Manifest, dict[str, bytes]]:
    """Give the contents of a folder of small files, as they were signed and read once.

    Args:
        folder: anybody may have filled it, and may change it meanwhile.
        authority: the fleet's.
        purpose: that the folder must have been signed for.
        parts: folders in it whose files must be there; others may have been left out. None for
            all.

    Returns:
        Its manifest, and contents by path.

    Raises:
        SignedFolderError: as `verify_folder`; or the files are together above `MAX_READ_BYTES`.
    """
    encoded = _small_file(folder, MANIFEST_FILE, MAX_MANIFEST_BYTES)
    signature = _small_file(folder, SIGNATURE_FILE, MAX_SIGNATURE_BYTES)
    manifest = read_manifest(encoded, signature, authority, purpose)
    if sum(file.size for file in manifest.files.values()) > MAX_READ_BYTES:
        raise _damaged(f"{folder} is larger than {MAX_READ_BYTES} bytes")
    contents = {}
    for path, _ in _files(folder):
        file = manifest.files.get(path)
        if file is None:
            raise _damaged(f"{folder / path} is not in the manifest")
        contents[path] = _small_file(folder, path, file.size)
        manifest.check(path, contents[path])
    needed = {
        path
        for path in manifest.files
        if parts is None or "/" not in path or path.split("/")[0] in parts
    } - set(contents)
    if needed:
        raise _damaged(f"{folder / min(needed)} is missing")
    return manifest, contents


def _files(folder: Path) -> Iterator[tuple[str, os.stat_result]]:
    """Give all files below a folder but manifest and signature; no link is followed.

    Raises:
        SignedFolderError: something else than files and folders lies there, or too many.
    """
    n_entries = 0
    waiting = [""]
    while waiting:
        prefix = waiting.pop()
        try:
            with os.scandir(folder / prefix) as entries:
                for entry in entries:
                    n_entries += 1
                    if n_entries > MAX_FILES * _MAX_LEVELS:
                        raise _damaged(f"{folder} holds too many files")
                    path = prefix + entry.name
                    if entry.is_dir(follow_symlinks=False):
                        if not _is_path(path):
                            raise _damaged(f"{folder / path} is not in the manifest")
                        waiting.append(path + "/")
                    elif not entry.is_file(follow_symlinks=False):
                        raise _damaged(f"{folder / path} is neither file nor folder")
                    elif path not in (MANIFEST_FILE, SIGNATURE_FILE):
                        yield path, entry.stat(follow_symlinks=False)
        except OSError as error:
            raise _unreadable(folder / prefix, error) from error


def _small_file(folder: Path, name: str, most: int) -> bytes:
    path = folder / name
    try:
        with os.fdopen(_open(path), "rb") as file:
            content = file.read(most + 1)
    except OSError as error:
        raise SignedFolderError(
            f"{path}: {(error.strerror or 'cannot be read').lower()}",
            name="signed-folder.missing",
            hint="name a folder that `fedring fleet` made and signed",
        ) from error
    if len(content) > most:
        raise _damaged(f"{path} is too long")
    return content


def _digest(folder: Path, path: str, size: int) -> str:
    """SHA-256 of a file, of which at most `size` bytes and one more are read."""
    digest = sha256()
    left = size + 1
    try:
        with os.fdopen(_open(folder / path), "rb") as file:
            while left and (piece := file.read(min(left, _READ_BYTES))):
                digest.update(piece)
                left -= len(piece)
    except OSError as error:
        raise _unreadable(folder / path, error) from error
    return digest.hexdigest()


def _open(path: Path) -> int:
    # Not blocking: what was a file a moment ago may be a pipe.
    return os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)


def _is_text(value: object, pattern: re.Pattern[str]) -> bool:
    return isinstance(value, str) and pattern.fullmatch(value) is not None


def _is_path(path: object) -> bool:
    if not isinstance(path, str) or path in (MANIFEST_FILE, SIGNATURE_FILE):
        return False
    levels = path.split("/")
    return len(levels) <= _MAX_LEVELS and all(_LEVEL.fullmatch(level) for level in levels)


def _require(holds: bool, what: str) -> None:
    if not holds:
        raise ValueError(f"a manifest may not have this {what}")


def _damaged(text: str) -> SignedFolderError:
    return SignedFolderError(
        text,
        name="signed-folder.damaged",
        hint="copy the whole folder again from the machine that made it, to an empty place",
    )


def _changed(path: str | Path) -> SignedFolderError:
    return _damaged(f"{path} is not what was signed")


def _unreadable(path: Path, error: OSError) -> SignedFolderError:
    return _damaged(f"{path}: {(error.strerror or 'cannot be read').lower()}")
