"""The coordinator's side of `fedring coordinator apply`: its files in /etc/fedring.

Settings are written once, to start from; from then on they are the person's who runs this machine.
The coordinator looks at its revocation list before every round, and at all else when it starts.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from attrs import Factory, field, frozen

from fedring.coordinator.apply.placing import place_file
from fedring.coordinator.apply.receiving import older
from fedring.shared.errors import IdentityError, StateError
from fedring.shared.identity import Authority
from fedring.shared.state import PRIVATE_FILE

PART: Final = "coordinator"
SETTINGS: Final = "coordinator.toml"
_IDENTITY: Final = ("coordinator.key", "coordinator.crt")
_LIST: Final = "revoked"
_READ_BY_ALL: Final = 0o644


def _service_owner(root: Path) -> tuple[int, int] | None:
    """Who must be able to read the files: the user that the coordinator runs as."""
    if os.geteuid() != 0 or root != Path("/"):
        return None
    try:
        user = pwd.getpwnam("fedring")
    except KeyError as error:
        raise StateError(
            "there is no user fedring on this machine",
            name="apply.no-user",
            hint="sudo adduser --system --group --no-create-home --home /nonexistent fedring",
        ) from error
    return user.pw_uid, user.pw_gid


@frozen
class CoordinatorMachine:
    """The machine that the coordinator runs on.

    Attributes:
        root: where its file system begins.
        owner: user and group that its files belong to; None for our own, as in every other root.
    """

    root: Path = Path("/")
    owner: tuple[int, int] | None = field(
        default=Factory(lambda self: _service_owner(self.root), takes_self=True)
    )

    @property
    def home(self) -> Path:
        """The folder of its files."""
        return self.root / "etc" / "fedring"


def apply_coordinator(
    files: Mapping[str, bytes],
    machine: CoordinatorMachine,
    authority: Authority,
    tell: Callable[[str], None],
) -> list[str]:
    """Put the coordinator's part of a signed folder into place.

    Args:
        files: contents by path in the folder, verified.
        machine: where.
        authority: of the fleet.
        tell: is told, for people, what was done.

    Returns:
        What is left for a person to do.

    Raises:
        SignedFolderError: the revocation list in place is newer; nothing was changed.
        StateError: a file could not be read or written.
    """
    new = {path.name: files[str(path)] for path in map(Path, files) if path.parts[0] == PART}
    there = {name: _there(machine.home / name) for name in (*_IDENTITY, _LIST)}
    _check_newer(new[_LIST], there[_LIST], authority)
    is_first = not (machine.home / SETTINGS).exists()
    changed = []
    for name in (*_IDENTITY, _LIST):
        if there[name] != new[name]:
            place_file(machine.home / name, new[name], PRIVATE_FILE, machine.owner)
            changed.append(name)
    if is_first:
        place_file(machine.home / SETTINGS, new[SETTINGS], _READ_BY_ALL, machine.owner)
        changed.append(SETTINGS)
    else:
        tell(f"{machine.home / SETTINGS} is yours, and stays as it is")
    tell(f"wrote into {machine.home}: {', '.join(changed) or 'nothing, all was there'}")
    if is_first:
        return [
            f"describe the model in {machine.home / SETTINGS}",
            "sudo systemctl enable --now fedring-coordinator",
        ]
    if set(changed) & set(_IDENTITY):
        return ["sudo systemctl restart fedring-coordinator"]
    return []


def _there(path: Path) -> bytes | None:
    try:
        return path.read_bytes() if path.exists() else None
    except OSError as error:
        raise StateError(f"{path}: {error.strerror}", name="state.unusable") from error


def _check_newer(new: bytes, there: bytes | None, authority: Authority) -> None:
    """See that nobody who was revoked gets his place back, by whichever folder."""
    if there is None:
        return
    try:
        newest = authority.revocation(there).number
    except IdentityError:  # damaged, or of a fleet that is gone for good
        return
    number = authority.revocation(new).number
    if number < newest:
        raise older(f"this revocation list is number {number}", newest)
