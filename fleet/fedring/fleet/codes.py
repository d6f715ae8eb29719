"""One-time codes: what proves that a board which asks for a certificate is the one we mean.

A code is 128 random bits, kept in `codes/NAME` (0600) as 32 hexadecimal digits until the board
was seen with its certificate, at most for a week. It leaves this machine in the payload for that
one board, and nowhere else: the board proves that it knows it by HMAC. Whoever reads a payload
before its board has enrolled can take the board's place; the board then fails, and is seen to.

Whether a code still counts is told by the register.
"""

from __future__ import annotations

import secrets
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import attrs

from fedring.fleet.register import Device
from fedring.shared.certificates import read_file
from fedring.shared.errors import CertificateError, StateError
from fedring.shared.state import prepare_folder, write_file

CODE_BYTES: Final = 16
LIFETIME: Final = timedelta(days=7)


@attrs.frozen
class Invitation:
    """A place that was kept for a board.

    Attributes:
        name: of the board.
        number: reserved for it.
        code: `CODE_BYTES` random bytes.
        ends: when the code expires, UTC.
    """

    name: str
    number: int
    code: bytes = attrs.field(repr=False)
    ends: datetime


class CodeFolder:
    """The codes that are out, one file each.

    Args:
        folder: made when the first code is written.
    """

    def __init__(self, folder: Path) -> None:
        self._folder: Final = folder

    def write(self, name: str) -> bytes:
        """Make a code for a name; an earlier one is overwritten."""
        code = secrets.token_bytes(CODE_BYTES)
        prepare_folder(self._folder)
        write_file(self._folder / name, f"{code.hex()}\n".encode())
        return code

    def burn(self, name: str) -> None:
        """Remove a name's code; there may be none."""
        (self._folder / name).unlink(missing_ok=True)

    def read(self, device: Device) -> bytes:
        """Give the code of a device.

        Raises:
            StateError: it has none, or one that is burnt or expired.
            CertificateError: others may read the file.
        """
        hint = f"make a new one: fedring fleet reset {device.name}"
        if device.code_ends is None:
            raise StateError(f"{device.name} has no code", name="fleet.code-missing", hint=hint)
        if device.enrolled:
            raise StateError(
                f"the code of {device.name} was burnt on {device.enrolled}, when it had enrolled",
                name="fleet.code-burnt",
                hint=hint,
            )
        if device.code_expired(datetime.now(UTC)):
            raise StateError(
                f"the code of {device.name} expired on {device.code_ends}",
                name="fleet.code-expired",
                hint=hint,
            )
        path = self._folder / device.name
        try:
            code = bytes.fromhex(read_file(path, "code", private=True).decode("ascii").strip())
        except (ValueError, FileNotFoundError) as error:
            raise StateError(f"{path} is damaged", name="fleet.code-missing", hint=hint) from error
        except CertificateError as error:
            if not isinstance(error.__cause__, FileNotFoundError):
                raise
            raise StateError(
                f"the code of {device.name} is gone: there is no {path}",
                name="fleet.code-missing",
                hint=hint,
            ) from error
        if len(code) != CODE_BYTES:
            raise StateError(f"{path} is damaged", name="fleet.code-missing", hint=hint)
        return code
