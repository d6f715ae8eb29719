"""Bundles in the fleet's folder: made and signed, found again."""

from __future__ import annotations

import tempfile
from importlib import metadata
from pathlib import Path
from typing import Final

from attrs import frozen

from fedring.fleet.authority import Fleet
from fedring.fleet.bundles.archives import pack_files, pack_folder
from fedring.fleet.bundles.slots import fill_slot
from fedring.fleet.bundles.targets import Target
from fedring.shared.bundles import ARCHIVE_FILE, PURPOSE, SUFFIX, version_number
from fedring.shared.signed_folders import MANIFEST_FILE, SIGNATURE_FILE
from fedring.shared.state import prepare_folder, write_file

FLOOR: Final = "0.1.0"
"""The oldest version that a board may go back to from this one."""


@frozen
class BuiltBundle:
    """A bundle that was just made.

    Attributes:
        path: its file.
        packed_bytes: length of the file.
        slot_bytes: length of all files in it, unpacked.
    """

    path: Path
    packed_bytes: int
    slot_bytes: int


def bundle_file(fleet: Fleet, target: Target, *, litert: bool = False) -> Path:
    """Give the place of this fedring's bundle, whether it was made or not."""
    extra = "-litert" if litert else ""
    return fleet.folder / "bundles" / f"fedring-{running_version()}-{target}{extra}{SUFFIX}"


def running_version() -> str:
    """Give the version of the fedring that is running, and that bundles are made from."""
    return metadata.version("fedring")


def build_bundle(fleet: Fleet, target: Target, *, litert: bool = False) -> BuiltBundle:
    """Make the bundle of the fedring that is running, at `bundle_file`.

    Args:
        fleet: unlocked; signs it.
        target: boards that it is for.
        litert: whether they can train `.tflite` models with it.

    Raises:
        BundleError: packages could not be had.
        StateError: nothing can be written there.
    """
    path = bundle_file(fleet, target, litert=litert)
    prepare_folder(path.parent)
    with tempfile.TemporaryDirectory(prefix="fedring-bundle-") as folder:
        slot = Path(folder) / "slot"
        fill_slot(target, slot, version=running_version(), litert=litert)
        content = pack_bundle(fleet, target, slot, version=running_version())
        slot_bytes = sum(file.stat().st_size for file in slot.rglob("*") if file.is_file())
    write_file(path, content)
    return BuiltBundle(path, len(content), slot_bytes)


def pack_bundle(
    fleet: Fleet, target: Target, slot: Path, *, version: str, floor: str = FLOOR
) -> bytes:
    """Pack and sign a folder that `fill_slot` made.

    Args:
        fleet: unlocked.
        target: as the folder was made for.
        slot: the folder.
        version: as the folder says of itself.
        floor: the oldest version that a board may be given after this one.
    """
    with tempfile.TemporaryDirectory(prefix="fedring-bundle-") as name:
        folder = Path(name)
        folder.joinpath(ARCHIVE_FILE).write_bytes(pack_folder(slot))
        fleet.sign_folder(
            folder,
            purpose=PURPOSE,
            number=version_number(version),
            facts={
                "version": version,
                "python": target.tag,
                "arch": target.arch,
                "floor": floor,
            },
        )
        members = (MANIFEST_FILE, SIGNATURE_FILE, ARCHIVE_FILE)
        return pack_files({member: folder.joinpath(member).read_bytes() for member in members})
