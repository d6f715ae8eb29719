"""A board as a box with UEFI: it starts from an image of a whole system, as its disk.

`fedring fleet flash image` makes that. Loader, kernel and initrd are those of the image; nobody has
a login there but root.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from fedring.lab.boards.emulator import Emulator
from fedring.lab.boards.system import run
from fedring.shared.errors import UserError

FIRMWARE: Final = Path("/usr/share/ovmf/OVMF.fd")
"""UEFI of an amd64 machine."""
_PACKAGE: Final = "ovmf"
_UNCHECKED: Final = "fsck not present"
_BOOT_START: Final = 1 << 20
_ENTRY: Final = "::/loader/entries/fedring.conf"
_UNHURRIED: Final = " mitigations=off systemd.default_timeout_start_sec=1800\n"
"""What one would type at the loader's menu, were it for a machine that interprets."""


class Box(Emulator):
    """An amd64 box with a disk; see `Emulator`."""

    user = "root"

    def __enter__(self) -> Box:
        return self

    @property
    def told_by_installer(self) -> str:
        """It had its say when the image was made: all that is left is that the system starts."""
        if _UNCHECKED in self.console:
            return " failed: its file system is not checked"
        try:
            self.run("true", timeout_s=20)
        except (RuntimeError, TimeoutError):
            return ""
        return " installed: with the image"

    def insert(self, card: Path) -> None:
        """Use an image as its disk."""
        if not self._processor.native:
            place = ("-i", f"{card}@@{_BOOT_START}")
            entry = run("mcopy", *place, _ENTRY, "-")
            file = self.folder / "entry.conf"
            file.write_text(entry.rstrip() + _UNHURRIED)
            run("mcopy", "-o", *place, file, _ENTRY)
        super().insert(card)

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
