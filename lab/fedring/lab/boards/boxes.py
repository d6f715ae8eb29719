"""A board as a box with UEFI: it starts from an image of a whole system, as its disk.

`fedring fleet flash image` makes that. Loader, kernel and initrd are those of the image; nobody has
a login there but root.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from fedring.lab.boards.emulator import Emulator
from fedring.shared.errors import UserError

FIRMWARE: Final = Path("/usr/share/ovmf/OVMF.fd")
"""UEFI of an amd64 machine."""
_PACKAGE: Final = "ovmf"
_STARTED: Final = "login: "


class Box(Emulator):
    """An amd64 box with a disk; see `Emulator`."""

    user = "root"

    def __enter__(self) -> Box:
        return self

    @property
    def told_by_installer(self) -> str:
        """It had its say when the image was made: all that is left is that the system starts."""
        return " installed: with the image" if _STARTED in self.console else ""

    def _beginning(self) -> list[str]:
        return ["-bios", str(FIRMWARE)]


def demand_firmware() -> None:
    """Go on only where this machine has what such a box starts with.

    Raises:
        UserError: it has not; says which package has it.
    """
    if not FIRMWARE.exists():
        raise UserError(
            f"not on this machine: {FIRMWARE}",
            name="process.missing-program",
            hint=f"sudo apt-get install {_PACKAGE}",
        )
