"""Room on a disk, asked for before it is taken."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from fedring.shared.errors import BundleError

RESERVE_BYTES: Final = 16 * 2**20
"""Stays free on the disk: logs, state and the model need room, too."""


def free_bytes(folder: Path) -> int:
    """What anybody may still write to the disk of this folder."""
    disk = os.statvfs(folder)
    return disk.f_bavail * disk.f_frsize


def require_room(folder: Path, n_bytes: int) -> None:
    """See that there is room for so many bytes of a bundle, and a reserve.

    Raises:
        BundleError: there is not.
    """
    free, needed = free_bytes(folder), n_bytes + RESERVE_BYTES
    if free < needed:
        raise BundleError(
            f"{needed / 2**20:.0f} MiB are needed in {folder}, {free / 2**20:.0f} MiB are free",
            name="bundle.no-room",
            hint="make room on that disk, then send the update again",
        )
