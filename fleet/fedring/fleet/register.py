"""The register of a fleet: who was ever added under which number, and who was revoked.

It is kept as `fleet.json` in the fleet folder, and is the owner's only record: device folders go
to the boards. Numbers come from a counter and names of revoked devices may be given again, so a
number always means one key or its successor at a renewal, a name the newest number.

Format 1, without codes and with one certificate for each device, is still read.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from typing import Any, Final

import attrs
import cattrs
from attrs.validators import deep_iterable, ge, le, matches_re, optional

from fedring.shared.broker import HOST
from fedring.shared.errors import StateError
from fedring.shared.identity import NAME_PATTERN, OWNER_NAME, RevocationList
from fedring.shared.messages import COORDINATOR_NAME, MAX_UINT32

FORMAT: Final = 2

_UINT32: Final = [ge(1), le(MAX_UINT32)]
_SERIAL: Final = matches_re(r"[0-9a-f]{1,40}")
_DATE: Final = re.compile(r"\d{4}-\d\d-\d\d")
_TIME: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\dZ")
_LIFETIME_FORMAT_1: Final = timedelta(days=3650)
_DAMAGE: Final = (
    *(ValueError, TypeError, KeyError, RecursionError, OverflowError),
    cattrs.BaseValidationError,
)


def _is_date(_: object, attribute: attrs.Attribute[Any], value: Any) -> None:
    if not _DATE.fullmatch(value):
        raise ValueError(f"{attribute.name} is no date")
    date.fromisoformat(value)


def _is_time(_: object, attribute: attrs.Attribute[Any], value: Any) -> None:
    if not _TIME.fullmatch(value):
        raise ValueError(f"{attribute.name} is no time")
    datetime.fromisoformat(value)


class Standing(StrEnum):
    """How far a device has come."""

    INVITED = "invited"
    """It has a number and a one-time code, and no certificate yet."""
    CERTIFIED = "certified"
    """It was given a certificate, and was not seen with it yet: its code still counts."""
    ENROLLED = "enrolled"
    """It has its certificate, and no code counts."""
    REVOKED = "revoked"
    """It lost its place."""


@attrs.frozen
class Issued:
    """A certificate that was given to a device.

    Attributes:
        serial: serial number, hexadecimal.
        ends: its last day in ISO 8601, UTC.
    """

    serial: str = attrs.field(validator=_SERIAL)
    ends: str = attrs.field(validator=_is_date)


@attrs.frozen
class Retired:
    """A certificate of no device that the broker must refuse.

    Attributes:
        name: its common name.
        serial: serial number, hexadecimal.
    """

    name: str = attrs.field(validator=matches_re(NAME_PATTERN))
    serial: str = attrs.field(validator=_SERIAL)


@attrs.frozen
class Device:
    """A device that was added to the fleet.

    Attributes:
        name: `[a-z0-9-]{1,32}`.
        number: 1 to 2**32 - 1, never given twice.
        added: date in ISO 8601, UTC.
        certificates: all that it was given, the newest last; none while it is only invited.
        code_ends: minute in ISO 8601, UTC, at which its one-time code ends; None when it has none.
        enrolled: date on which it was seen with its certificate, which burnt the code.
        revoked: date in ISO 8601, UTC; None while it has its place.
    """

    name: str = attrs.field(validator=matches_re(NAME_PATTERN))
    number: int = attrs.field(validator=_UINT32)
    added: str = attrs.field(validator=_is_date)
    certificates: tuple[Issued, ...] = ()
    code_ends: str | None = attrs.field(default=None, validator=optional(_is_time))
    enrolled: str | None = attrs.field(default=None, validator=optional(_is_date))
    revoked: str | None = attrs.field(default=None, validator=optional(_is_date))

    @property
    def standing(self) -> Standing:
        """How far it has come."""
        if self.revoked:
            return Standing.REVOKED
        if not self.certificates:
            return Standing.INVITED
        return Standing.CERTIFIED if self.code_counts else Standing.ENROLLED

    @property
    def code_counts(self) -> bool:
        """Whether it has a code that is not burnt; it may have expired."""
        return not (self.code_ends is None or self.enrolled or self.revoked)

    def code_expired(self, now: datetime) -> bool:
        """Whether its code, burnt or not, has come to its end."""
        return self.code_ends is not None and now >= datetime.fromisoformat(self.code_ends)


@attrs.frozen
class Register:
    """What `fleet.json` holds; changes give a new register.

    Attributes:
        fleet: name of the fleet.
        broker: host names and addresses of the broker, the first is written into settings.
        next_number: what the next device is given.
        list_number: number of the newest revocation list, and of the folder for the servers.
        epoch: of the fleet.
        devices: all that were ever added, by number.
        retired: the canary's certificate, and those of servers and owner that were replaced.
    """

    fleet: str = attrs.field(validator=matches_re(NAME_PATTERN))
    broker: tuple[str, ...] = attrs.field(validator=deep_iterable(matches_re(HOST)))
    next_number: int = attrs.field(default=1, validator=[ge(1), le(MAX_UINT32 + 1)])
    list_number: int = attrs.field(default=1, validator=_UINT32)
    epoch: int = attrs.field(default=1, validator=_UINT32)
    devices: tuple[Device, ...] = ()
    retired: tuple[Retired, ...] = ()
    format: int = FORMAT

    @classmethod
    def from_json(cls, text: bytes, path: object) -> Register:
        """Read `fleet.json`.

        Raises:
            StateError: damaged, or written by a newer fedring; names `path`.
        """
        try:
            fields: Any = json.loads(text)
            if fields["format"] == 1:
                fields = _from_format_1(fields)
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

    def adding(self, name: str, serial: int, ends: date) -> Register:
        """Give the register with one more device, number `next_number`, that has a certificate."""
        return self._with(name, certificates=(Issued(f"{serial:x}", ends.isoformat()),))

    def inviting(self, name: str, code_ends: datetime) -> Register:
        """Give the register with one more device, number `next_number`, that has a code."""
        return self._with(name, code_ends=_minute(code_ends))

    def inviting_again(self, device: Device, code_ends: datetime) -> Register:
        """Give the register in which a device that has no certificate has another code."""
        return self._replacing(device, attrs.evolve(device, code_ends=_minute(code_ends)))

    def certifying(self, device: Device, serial: int, ends: date) -> Register:
        """Give the register in which this device has one certificate more."""
        certificates = (*device.certificates, Issued(f"{serial:x}", ends.isoformat()))
        return self._replacing(device, attrs.evolve(device, certificates=certificates))

    def enrolling(self, device: Device) -> Register:
        """Give the register in which this device's code is burnt."""
        return self._replacing(device, attrs.evolve(device, enrolled=_today()))

    def revoking(self, device: Device) -> Register:
        """Give the register without this device's place, and with the next list number."""
        register = self._replacing(device, attrs.evolve(device, revoked=_today()))
        return register.next_list()

    def retiring(self, name: str, serial: int) -> Register:
        """Give the register in which this certificate of no device is refused."""
        return attrs.evolve(self, retired=(*self.retired, Retired(name, f"{serial:x}")))

    def is_retired(self, serial: int) -> bool:
        """Whether this certificate of no device is refused."""
        return any(one.serial == f"{serial:x}" for one in self.retired)

    def moving(self, broker: Sequence[str]) -> Register:
        """Give the register in which the broker has these host names and addresses."""
        return attrs.evolve(self, broker=tuple(broker))

    def next_list(self) -> Register:
        """Give the register with the next list number."""
        return attrs.evolve(self, list_number=self.list_number + 1)

    def next_epoch(self) -> Register:
        """Give the register of the next epoch, and with the next list number."""
        return attrs.evolve(self, epoch=self.epoch + 1).next_list()

    def revocation(self) -> RevocationList:
        """Give the revocation list as it stands."""
        numbers = frozenset(device.number for device in self.devices if device.revoked)
        return RevocationList(self.fleet, self.list_number, self.epoch, numbers)

    def lost(self) -> Iterator[tuple[str, int]]:
        """Give names and serial numbers of all certificates that must not stay connected.

        Those of revoked devices, and those that coordinator and owner had before.
        """
        for device in self.devices:
            if device.revoked:
                yield from ((device.name, int(one.serial, 16)) for one in device.certificates)
        for one in self.retired:
            if one.name in (COORDINATOR_NAME, OWNER_NAME):
                yield one.name, int(one.serial, 16)

    def revoked_serials(self) -> list[int]:
        """Give the serial numbers of all certificates that the broker must refuse."""
        retired = [int(one.serial, 16) for one in self.retired]
        of_devices = [
            int(one.serial, 16)
            for device in self.devices
            if device.revoked
            for one in device.certificates
        ]
        return retired + of_devices

    def denied_names(self) -> set[str]:
        """Give the names that nobody holds any more."""
        newest = {device.name: device for device in self.devices}
        return {name for name, device in newest.items() if device.revoked}

    @property
    def n_places(self) -> int:
        """Devices that have their place."""
        return sum(device.revoked is None for device in self.devices)

    def _with(self, name: str, **facts: Any) -> Register:
        device = Device(name, self.next_number, _today(), **facts)
        return attrs.evolve(self, next_number=self.next_number + 1, devices=(*self.devices, device))

    def _replacing(self, before: Device, after: Device) -> Register:
        devices = tuple(after if device == before else device for device in self.devices)
        return attrs.evolve(self, devices=devices)


def _from_format_1(fields: dict[str, Any]) -> dict[str, Any]:
    """Tell in today's words what an older fedring wrote: one certificate of ten years a device."""
    devices = []
    for device in fields["devices"]:
        kept = {name: device[name] for name in device if name != "serial"}
        ends = date.fromisoformat(device["added"]) + _LIFETIME_FORMAT_1
        issued = {"serial": device["serial"], "ends": ends.isoformat()}
        devices.append(kept | {"certificates": [issued]})
    return fields | {"format": FORMAT, "devices": devices}


def _minute(time: datetime) -> str:
    return time.strftime("%Y-%m-%dT%H:%MZ")


def _today() -> str:
    return datetime.now(UTC).date().isoformat()
