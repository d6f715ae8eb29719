"""What the owner put onto the card: where to ask for a certificate, and the one-time code.

`bootstrap.json` is written when the card is flashed. The one-time code is taken out of it as soon
as the board has been let in with its certificate; the rest stays.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Self

from attrs import field, frozen

from fedring.shared.broker import HOST
from fedring.shared.enrolment import CODE_BYTES
from fedring.shared.errors import StateError
from fedring.shared.state import write_file
from fedring.shared.topics import is_name

_MAX_BYTES: Final = 16 * 1024


@frozen(kw_only=True)
class Bootstrap:
    """The content of `bootstrap.json`; keys that are not known here are left alone.

    Attributes:
        fleet: name of the fleet.
        name: of this board.
        hosts: names or addresses of the broker's machine, tried in turn.
        port: of the enrolment listener.
        code: one-time code; None when it was used.
        flashed_at: when the card was written: the clock of the desk, so no earlier than this.
    """

    fleet: str
    name: str
    hosts: tuple[str, ...]
    port: int
    code: bytes | None = field(repr=lambda code: "None" if code is None else "...")
    flashed_at: datetime

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read the file.

        Raises:
            StateError: missing, or not what the owner's tools write.
        """
        fields = _fields(path)
        try:
            return cls._from_fields(fields)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            what = f"{error} is missing" if isinstance(error, KeyError) else str(error)
            raise _damaged(path, what) from error

    @classmethod
    def _from_fields(cls, fields: Mapping[str, Any]) -> Self:
        fleet, name, hosts = fields["fleet"], fields["name"], fields["broker"]
        port, code = fields["enrol_port"], fields.get("code")
        if not all(type(one) is str and is_name(one) for one in (fleet, name)):
            raise ValueError("`fleet` and `name` are no names")
        if type(hosts) is not list or not hosts or not all(_is_host(host) for host in hosts):
            raise ValueError("`broker` is no list of host names and addresses")
        if type(port) is not int or not 1 <= port <= 65_535:
            raise ValueError("`enrol_port` is no port")
        if code is not None and (type(code) is not str or len(bytes.fromhex(code)) != CODE_BYTES):
            raise ValueError(f"`code` has not {CODE_BYTES} bytes in hexadecimal")
        flashed_at = datetime.fromisoformat(fields["flashed_at"])
        if flashed_at.tzinfo is None:
            raise ValueError("`flashed_at` does not say its time zone")
        return cls(
            fleet=fleet,
            name=name,
            hosts=tuple(hosts),
            port=port,
            code=None if code is None else bytes.fromhex(code),
            flashed_at=flashed_at.astimezone(UTC),
        )


def forget_code(path: Path) -> bool:
    """Take the one-time code out of the file; tells whether it was there.

    Raises:
        StateError: the file cannot be read or written.
    """
    fields = _fields(path)
    if fields.pop("code", None) is None:
        return False
    write_file(path, (json.dumps(fields, indent=1) + "\n").encode())
    return True


def _is_host(host: object) -> bool:
    return isinstance(host, str) and re.fullmatch(HOST, host) is not None


def _fields(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            raw = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise StateError(
            f"{path}: {(error.strerror or 'cannot be read').lower()}",
            name="enrolment.bootstrap",
            hint="it comes with what `fedring fleet flash` puts onto the card",
        ) from error
    try:
        fields = json.loads(raw[: _MAX_BYTES + 1]) if len(raw) <= _MAX_BYTES else None
    except (ValueError, RecursionError) as error:
        raise _damaged(path, "no JSON") from error
    if type(fields) is not dict:
        raise _damaged(path, "no JSON object")
    return fields


def _damaged(path: Path, what: str) -> StateError:
    return StateError(
        f"{path} cannot be used: {what}",
        name="enrolment.bootstrap",
        hint="flash the card again",
    )
