"""What comes from the owner's machine: whose it is, and whether it is newer than what is in place.

A machine trusts the authority of the first folder that it is given, and says so; afterwards no
other one. It keeps `ca.crt`, and the manifest of the newest folder that it was given, before any of
it is put into place: a folder with a smaller number is refused, whoever brings it, since its lists
would let revoked boards in again.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Final

from attrs import field, frozen

from fedring.coordinator.apply.placing import place_file
from fedring.shared.certificates import read_file
from fedring.shared.errors import SignedFolderError, StateError
from fedring.shared.identity import Authority
from fedring.shared.signed_folders import Manifest, parse_manifest, read_folder

PURPOSE: Final = "server"
AUTHORITY: Final = "ca.crt"
APPLIED: Final = "applied"

_READ_BY_ALL: Final = 0o644


@frozen
class Received:
    """A folder that may be applied.

    Attributes:
        manifest: of the folder.
        contents: of its files by path, verified.
        authority: whose it is.
        is_first: whether this machine trusts that authority only since this folder.
    """

    manifest: Manifest
    contents: Mapping[str, bytes] = field(repr=False)
    authority: Authority
    is_first: bool


def receive(folder: Path, home: Path, parts: Collection[str] | None = None) -> Received:
    """Read a folder that the owner made for this machine; changes nothing.

    Args:
        folder: anybody may have filled it.
        home: /etc/fedring, where the authority and the last manifest are kept.
        parts: folders in it that are needed here; None for all.

    Raises:
        SignedFolderError: damaged, of another authority than the one that is trusted here, or
            older than one that was given before.
        CertificateError: a ca.crt that is none.
    """
    is_first = not (home / AUTHORITY).exists()
    authority = Authority.load((folder if is_first else home) / AUTHORITY)
    try:
        manifest, contents = read_folder(folder, authority, PURPOSE, parts)
    except SignedFolderError as error:
        if error.name == "signed-folder.foreign" and not is_first:
            error.hint = (
                f"this machine trusts fleet {authority.fleet}, {authority.fingerprint};"
                f" if that fleet is gone for good: sudo rm {home / AUTHORITY} {home / APPLIED}"
            )
        raise
    newest = _newest_number(home)
    if manifest.number < newest:
        raise older(f"{folder} is number {manifest.number}", newest)
    return Received(manifest, contents, authority, is_first)


def older(what: str, newest: int) -> SignedFolderError:
    """Give the error for something that the owner has replaced since."""
    return SignedFolderError(
        f"{what}, and this machine was given number {newest} already",
        name="signed-folder.older",
        hint="copy the newest one from the owner's machine: FLEET/server",
    )


def make_home(home: Path) -> None:
    """Make the folder in which files of several users lie; it may be there.

    Raises:
        StateError: it cannot be made.
    """
    try:
        if not home.is_dir():
            home.mkdir(parents=True)
            home.chmod(0o755)  # whatever the umask: the coordinator's user must get in
    except OSError as error:
        raise StateError(f"{home}: {error.strerror}", name="state.unusable") from error


def keep_authority(received: Received, home: Path) -> None:
    """Trust the authority of this folder from now on, and no other."""
    ca = received.contents[AUTHORITY]
    if not (home / AUTHORITY).exists() or (home / AUTHORITY).read_bytes() != ca:
        place_file(home / AUTHORITY, ca, _READ_BY_ALL)


def keep_number(received: Received, home: Path) -> None:
    """Take no older folder from now on, also after a power cut."""
    place_file(home / APPLIED, received.manifest.encode(), _READ_BY_ALL)


def _newest_number(home: Path) -> int:
    if not (home / APPLIED).exists():
        return 0
    # Not signed: who may write here may write everything else, too.
    return parse_manifest(read_file(home / APPLIED, APPLIED)).number
