"""The Paillier key pair in a file: JSON, readable by its owner alone.

The only I/O of this package. Not protected: the key from whoever reads the owner's files; it is
not encrypted, since a coordinator starts without anybody to type a passphrase.
"""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

from phe import PaillierPrivateKey, PaillierPublicKey

from fedring.shared.encryption.paillier import is_admissible
from fedring.shared.errors import KeyFileError

FORMAT = "fedring paillier key 1"
MAX_FILE_BYTES = 2048
"""A key of 4096 bits takes 1,100; more would only be work for the test of primes."""
RESTORE = "restore it from the backup, or remove it to have a new one made in a new epoch"


def save_key(private_key: PaillierPrivateKey, path: Path) -> None:
    """Write a key pair durably: after a crash the file is whole or not there.

    Raises:
        KeyFileError: the file exists (it is never overwritten), or cannot be written.
    """
    if path.exists():
        raise KeyFileError(
            f"{path}: exists; a Paillier key is never overwritten", name="paillier-key.exists"
        )
    content = json.dumps(
        {"format": FORMAT, "p": f"{private_key.p:x}", "q": f"{private_key.q:x}"}, indent=1
    )
    partial = path.with_name(path.name + ".partial")
    try:
        partial.unlink(missing_ok=True)
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise KeyFileError(
            f"{path}: cannot be written: {error.strerror}", name="paillier-key.unwritable"
        ) from error


def load_key(path: Path) -> PaillierPrivateKey:
    """Read what `save_key` wrote.

    Raises:
        KeyFileError: missing, readable by others, or no key that `generate_key` could make.
    """
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise KeyFileError(
            f"{path}: cannot be read: {error.strerror}", name="paillier-key.missing"
        ) from error
    if mode & 0o077:
        raise KeyFileError(
            f"{path}: others may read this key file (mode {mode:04o})",
            name="paillier-key.readable-by-others",
            hint=f"chmod 600 {path}",
        )
    primes = _primes(content)
    if primes is None:
        raise KeyFileError(
            f"{path}: not a Paillier key of fedring", name="paillier-key.damaged", hint=RESTORE
        )
    p, q = primes
    return PaillierPrivateKey(PaillierPublicKey(p * q), p, q)


def _primes(content: bytes) -> tuple[int, int] | None:
    try:
        fields = json.loads(content)
        if set(fields) != {"format", "p", "q"} or fields["format"] != FORMAT:
            return None
        p, q = int(fields["p"], 16), int(fields["q"], 16)
        if (f"{p:x}", f"{q:x}") != (fields["p"], fields["q"]):
            return None
    except (ValueError, TypeError, RecursionError):
        return None
    return (p, q) if is_admissible(p, q) else None
