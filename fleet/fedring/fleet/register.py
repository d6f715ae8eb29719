"""The register of a fleet: who was ever added under which number, and who was revoked.

It is kept as `fleet.json` in the fleet folder, and is the owner's only record: device folders go
to the boards. Numbers come from a counter and names of revoked devices may be given again, so a
number always means one certificate, a name the newest one.
"""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import Any, Final

import attrs
import cattrs
from attrs.validators import deep_iterable, ge, le, matches_re

from fedring.shared.errors import StateError
from fedring.shared.identity import NAME_PATTERN, RevocationList
from fedring.shared.messages import MAX_UINT32

FORMAT: Final = 1
HOST_PATTERN: Final = re.compile(r"[A-Za-z0-9.:_-]{1,253}")

_UINT32: Final = [ge(1), le(MAX_UINT32)]
_DAMAGE: Final = (ValueError, TypeError, KeyError, RecursionError, cattrs.BaseValidationError)


@attrs.frozen
class Device:
    """A device that was added to the fleet.

    Attributes:
        name: `[a-z0-9-]{1,32}`.
        number: 1 to 2**32 - 1, never given twice.
        serial: serial number of its certificate, hexadecimal.
        added: date in ISO 8601, UTC.
        revoked: date in ISO 8601, UTC; None while it has its place.
    """

    name: str = attrs.field(validator=matches_re(NAME_PATTERN))
    number: int = attrs.field(validator=_UINT32)
    serial: str = attrs.field(validator=matches_re(r"[0-9a-f]{1,40}"))
    added: str
    revoked: str | None = None


@attrs.frozen
class Register:
    """What `fleet.json` holds; changes give a new register.

    Attributes:
        fleet: name of the fleet.
        broker: host names and addresses of the broker, the first is written into settings.
        next_number: what the next device is given.
        list_number: number of the newest revocation list.
        epoch: of the fleet.
        devices: all that were ever added, by number.
    """

    fleet: str = attrs.field(validator=matches_re(NAME_PATTERN))
    broker: tuple[str, ...] = attrs.field(validator=deep_iterable(matches_re(HOST_PATTERN)))
    next_number: int = attrs.field(default=1, validator=[ge(1), le(MAX_UINT32 + 1)])
    list_number: int = attrs.field(default=1, validator=_UINT32)
    epoch: int = attrs.field(default=1, validator=_UINT32)
    devices: tuple[Device, ...] = ()
    format: int = FORMAT

    @classmethod
    def from_json(cls, text: bytes, path: object) -> Register:
        """Read `fleet.json`.

        Raises:
            StateError: damaged, or written by a newer fedring; names `path`.
        """
        try:
            fields: Any = json.loads(text)
            if fields["format"] != FORMAT:
                raise StateError(
                    f"{path} was written by another fedring (format {fields['format']})",
                    name="fleet.format",
                    hint="use the newer one",
                )
            return cattrs.Converter(forbid_extra_keys=True).structure(fields, cls)
        except _DAMAGE as error:
            raise StateError(
                f"{path} is damaged",
                name="fleet.damaged",
                hint="bring it back from a backup; without it numbers could be given twice",
            ) from error

    def to_json(self) -> str:
        """Write what `from_json` reads, for people to look at as well."""
        return json.dumps(attrs.asdict(self), indent=1) + "\n"

    def find(self, name: str) -> Device | None:
        """Give the newest device of this name."""
        return next((device for device in reversed(self.devices) if device.name == name), None)

    def adding(self, name: str, serial: int) -> Register:
        """Give the register with one more device, number `next_number`."""
        device = Device(name, self.next_number, f"{serial:x}", _today())
        return attrs.evolve(self, next_number=self.next_number + 1, devices=(*self.devices, device))

    def revoking(self, revoked: Device) -> Register:
        """Give the register without this device's place, and with the next list number."""
        devices = tuple(
            attrs.evolve(device, revoked=_today()) if device == revoked else device
            for device in self.devices
        )
        return attrs.evolve(self, devices=devices, list_number=self.list_number + 1)

    def next_epoch(self) -> Register:
        """Give the register of the next epoch, and with the next list number."""
        return attrs.evolve(self, epoch=self.epoch + 1, list_number=self.list_number + 1)

    def revocation(self) -> RevocationList:
        """Give the revocation list as it stands."""
        numbers = frozenset(device.number for device in self.devices if device.revoked)
        return RevocationList(self.fleet, self.list_number, self.epoch, numbers)

    def revoked_serials(self) -> list[int]:
        """Give the serial numbers of all certificates that the broker must refuse."""
        return [int(device.serial, 16) for device in self.devices if device.revoked]

    @property
    def n_places(self) -> int:
        """Devices that have their place."""
        return sum(device.revoked is None for device in self.devices)


def _today() -> str:
    return datetime.now(UTC).date().isoformat()
