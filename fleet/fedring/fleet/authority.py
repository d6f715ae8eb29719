"""What the owner of a fleet does: makes it, adds and revokes devices, certifies keys of boards.

The folder in which all of it lies is told in `fedring.fleet.fleet_folder`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from fedring.fleet.codes import LIFETIME as CODE_LIFETIME
from fedring.fleet.codes import CodeFolder, Invitation
from fedring.fleet.fleet_folder import FleetFolder
from fedring.fleet.folders import identity_files, pem, settings, write_folder
from fedring.fleet.issuing import LIFETIME, RENEWED_LIFETIME, Issuer, new_key
from fedring.fleet.passphrases import protect
from fedring.fleet.register import Device, Register, Standing
from fedring.fleet.server_folder import (
    CANARY_CERTIFICATE,
    RENEWED,
    new_identities,
    owner_files,
    serial_of,
    server_files,
)
from fedring.shared.broker import HOST
from fedring.shared.certificates import read_certificate
from fedring.shared.errors import StateError
from fedring.shared.identity import CANARY_NAME, RESERVED_NAMES
from fedring.shared.messages import MAX_UINT32
from fedring.shared.state import prepare_folder, replace_file, write_file
from fedring.shared.topics import is_name

SMALL_FLEET: Final = 16
"""Up to here a threshold of 7 could leave rings without enough members."""


def usual_threshold(n_devices: int) -> int:
    """What a device's threshold is set to when its owner says nothing."""
    return 3 if n_devices < SMALL_FLEET else 7


class Fleet(FleetFolder):
    """A fleet, and all that its owner does with it.

    Args:
        folder: made by `create_fleet`.

    Raises:
        StateError: no fleet folder, or a damaged one.
    """

    def add(self, name: str, *, threshold: int | None = None) -> Path:
        """Add a device: a number, a key, a certificate, and a ready folder.

        Args:
            name: `[a-z0-9-]{1,32}`, not one that a device of the fleet has.
            threshold: written into its settings: it shares in sums of more contributors only;
                None for 3 in fleets below `SMALL_FLEET` devices, else 7.

        Returns:
            The folder.

        Raises:
            StateError: the name cannot be given.
        """
        (folder,) = self.add_all([name], threshold=threshold)
        return folder

    def add_all(self, names: Sequence[str], *, threshold: int | None = None) -> list[Path]:
        """Add several devices as `add` does; all of them, or none when a name cannot be given."""
        with self._changing() as issuer:
            self._check_all_free(names)
            for name in names:
                self._check_no_folder(name)
            register = self._register
            certified = {}
            for name in names:
                key = new_key()
                certificate = issuer.device(key.public_key(), name, register.next_number)
                register = register.adding(name, certificate.serial_number, _last_day(LIFETIME))
                certified[name] = key, certificate
            self._write_register(register)
            if threshold is None:
                threshold = usual_threshold(register.n_places)
            common = {
                "revoked": self.revoked_file.read_bytes(),
                "device.toml": settings(
                    "device",
                    {
                        'host = "localhost"': f'host = "{self.broker[0]}"',
                        "threshold = 7": f"threshold = {threshold}",
                    },
                ),
            }
            ca = pem(issuer.certificate)
            for name, (key, certificate) in certified.items():
                identity = identity_files("device", key, certificate, ca)
                write_folder(self.device_folder(name), identity | common)
            return [self.device_folder(name) for name in names]

    def invite(self, names: Sequence[str]) -> list[Invitation]:
        """Keep places for boards that make their own keys: a number and a one-time code each.

        Needs no passphrase: nothing is signed.

        Args:
            names: each `[a-z0-9-]{1,32}`, not one that a device of the fleet has.

        Raises:
            StateError: a name cannot be given; then none is.
        """
        with self._writing():
            self._check_all_free(names)
            register, ends = self._register, datetime.now(UTC) + CODE_LIFETIME
            for name in names:
                register = register.inviting(name, ends)
            self._write_register(register)
            return [self._write_code(name, ends) for name in names]

    def code(self, name: str) -> bytes:
        """Give the one-time code of a board that may still use it.

        Raises:
            StateError: no such device, or its code is missing, burnt or expired, by name.
        """
        return self._codes.read(self.find(name))

    def certify(self, name: str, public_key: ec.EllipticCurvePublicKey) -> x509.Certificate:
        """Certify the key of a board that proved to know its code.

        The same key again gives the same certificate; another key with the same code gives none.
        Whoever knows one code would else be given number after number, each good until all have
        heard that the one before was revoked: a crowd, for a coordinator that helps.

        Args:
            name: of the board.
            public_key: P-256; that the board holds the private one is for the caller to see.

        Raises:
            StateError: no such device, or its code is missing, burnt, expired, or was used for
                another key.
        """
        with self._changing() as issuer:
            device = self.find(name)
            self._codes.read(device)
            if device.standing is Standing.INVITED:
                return self._certify(issuer, device, public_key)
            known = self._certificate_of(device)
            if known is None or known.public_key() != public_key:
                raise StateError(
                    f"the code of {name} was used for another key",
                    name="fleet.code-used",
                    hint=f"make a new one: fedring fleet reset {name}",
                )
            return known

    def certificate(self, name: str) -> x509.Certificate | None:
        """Give the newest certificate that a board asked for; None when there is none.

        Raises:
            StateError: no such device.
        """
        device = self.find(name)
        return self._certificate_of(device) if device.certificates else None

    def renew(self, name: str, public_key: ec.EllipticCurvePublicKey) -> x509.Certificate:
        """Certify the next key of a board that signed for it with its present one.

        The number stays. The same key again gives the same certificate.

        Args:
            name: of the board.
            public_key: P-256; that the board holds both keys is for the caller to see.

        Raises:
            StateError: no such device, or one that is revoked or was never certified.
        """
        with self._changing() as issuer:
            device = self.find(name)
            if device.standing not in (Standing.CERTIFIED, Standing.ENROLLED):
                raise StateError(
                    f"{name} is {device.standing}: it has no certificate to renew",
                    name="fleet.not-enrolled",
                    hint=f"fedring fleet reset {name}",
                )
            known = self._certificate_of(device)
            if known is not None and known.public_key() == public_key:
                return known
            return self._certify(issuer, device, public_key)

    def seen(self, name: str, serial: int) -> bool:
        """Burn the code of a board that was seen on the broker with a certificate.

        Needs no passphrase.

        Args:
            name: of the board.
            serial: serial number of that certificate; only the newest one counts.

        Returns:
            Whether a code was burnt just now.

        Raises:
            StateError: no such device.
        """
        with self._writing():
            device = self.find(name)
            newest = device.certificates[-1].serial if device.certificates else None
            if not device.code_counts or newest != f"{serial:x}":
                return False
            self._write_register(self._register.enrolling(device))
            self._codes.burn(name)
            return True

    def reset(self, name: str) -> Invitation:
        """Give a board a new code; what it had before counts no more.

        A board that had a certificate gets another number, and its certificates go on the lists.
        One that was revoked is invited anew.

        Raises:
            StateError: no such device.
        """
        with self._changing() as issuer:
            device = self.find(name)
            ends = datetime.now(UTC) + CODE_LIFETIME
            if device.standing is Standing.INVITED:
                self._write_register(self._register.inviting_again(device, ends))
            else:
                self._check_numbers(1)
                register = self._register
                if device.revoked is None:
                    register = register.revoking(device)
                self._write_register(register.inviting(name, ends))
                self._publish(issuer)
            return self._write_code(name, ends)

    def revoke(self, name: str) -> Device:
        """Take a device's place away, in the signed list and in the broker's lists.

        Doing it again writes all files again.

        Returns:
            The device, with the date.

        Raises:
            StateError: there is no such device.
        """
        with self._changing() as issuer:
            device = self.find(name)
            if device.revoked is None:
                self._write_register(self._register.revoking(device))
            self._codes.burn(name)
            self._publish(issuer)
            return self.find(name)

    def renew_servers(self, broker: Sequence[str] | None = None) -> None:
        """Make keys and certificates of broker, coordinator and owner anew.

        What they had before goes on the broker's list.

        Args:
            broker: host names and addresses of the broker from now on; None for those so far.

        Raises:
            StateError: no host name or address.
        """
        if broker is not None:
            _check_addresses(broker)
        with self._changing() as issuer:
            register = self._register
            for certificate in (*RENEWED, self.owner_folder / "owner.crt"):
                path = self.server_folder / certificate
                if path.exists() and not register.is_retired(serial_of(path.read_bytes())):
                    register = register.retiring(path.stem, serial_of(path.read_bytes()))
            if broker is not None:
                register = register.moving(broker)
            self._write_register(register.next_list())
            self._publish(issuer)

    def next_epoch(self) -> int:
        """Begin the next epoch, for a coordinator whose store was lost or put back.

        Returns:
            Its number.
        """
        with self._changing() as issuer:
            self._write_register(self._register.next_epoch())
            self._publish(issuer)
            return self.epoch

    def _certify(
        self, issuer: Issuer, device: Device, public_key: ec.EllipticCurvePublicKey
    ) -> x509.Certificate:
        certificate = issuer.device(public_key, device.name, device.number, RENEWED_LIFETIME)
        serial, ends = certificate.serial_number, _last_day(RENEWED_LIFETIME)
        path, new = self._certificate_files(device.name)
        prepare_folder(path.parent)
        # A certificate that is in the register is never lost: another one for the same code could
        # not be given. One that is not in the register is nobody's.
        write_file(new, pem(certificate))
        self._write_register(self._register.certifying(device, serial, ends))
        replace_file(new, path)
        return certificate

    def _certificate_of(self, device: Device) -> x509.Certificate | None:
        """The newest certificate that a device asked for; None when it is not there."""
        newest = device.certificates[-1].serial
        for path in self._certificate_files(device.name):
            if path.exists():
                certificate = read_certificate(path)
                if f"{certificate.serial_number:x}" == newest:
                    return certificate
        return None

    def _certificate_files(self, name: str) -> tuple[Path, Path]:
        """The newest certificate, and the next one while the register is written."""
        folder = self.folder / "certificates"
        return folder / name, folder / f"{name}.new"

    @property
    def _codes(self) -> CodeFolder:
        return CodeFolder(self.folder / "codes")

    def _write_code(self, name: str, ends: datetime) -> Invitation:
        return Invitation(name, self.find(name).number, self._codes.write(name), ends)

    def _check_all_free(self, names: Sequence[str]) -> None:
        for name in names:
            self._check_free(name, names)
        self._check_numbers(len(names))

    def _check_numbers(self, n_wanted: int) -> None:
        if self._register.next_number + n_wanted - 1 > MAX_UINT32:
            raise StateError("no device number is left", name="fleet.full")

    def _check_free(self, name: str, names: Sequence[str]) -> None:
        _check_name(name, "a device")
        if name in RESERVED_NAMES:
            raise StateError(f"{name} is no name for a device: it is taken", name="fleet.name")
        known = self._register.find(name)
        if names.count(name) > 1:
            raise StateError(f"{name} is named twice", name="fleet.name")
        if known and known.revoked is None:
            raise StateError(
                f"fleet {self.name} has a device {name} already",
                name="fleet.name-taken",
                hint=f"`fedring fleet reset {name}` gives it a new code,"
                f" `fedring fleet revoke {name}` frees the name",
            )

    def _check_no_folder(self, name: str) -> None:
        folder = self.device_folder(name)
        if folder.exists():
            raise StateError(
                f"{folder} exists and will not be overwritten",
                name="fleet.exists",
                hint="it was an earlier device's: move or remove it",
            )


def create_fleet(
    folder: Path, name: str, broker: Sequence[str], passphrase: str | None = None
) -> Fleet:
    """Make a fleet: its authority, and the folders of its servers and of its owner.

    Args:
        folder: does not exist yet, or is empty.
        name: `[a-z0-9-]{1,32}`.
        broker: host names and IP addresses under which the broker is reached, >= 1; the first is
            written into settings.
        passphrase: protects the authority's key; None only for a fleet to be thrown away.

    Returns:
        The fleet, unlocked.

    Raises:
        StateError: the folder exists, a name is none, or nothing can be written there.
        CertificateError: the passphrase is too short.
    """
    _check_name(name, "a fleet")
    _check_addresses(broker)
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise StateError(
            f"{folder} exists and will not be overwritten",
            name="fleet.exists",
            hint="choose another folder for the new fleet",
        )
    issuer = Issuer.create(name)
    identities = new_identities(issuer, broker)
    canary = serial_of(identities[CANARY_CERTIFICATE])
    register = Register(name, tuple(broker)).retiring(CANARY_NAME, canary)
    server = server_files(issuer, register, identities)
    parts = {
        "": {"fleet.json": register.to_json().encode(), "revoked": server["coordinator/revoked"]},
        "authority/": {
            "ca.crt": pem(issuer.certificate),
            "ca.key": protect(issuer.key, passphrase),
        },
        "owner/": owner_files(issuer),
        "server/": server,
    }
    write_folder(
        folder,
        {part + file: content for part, files in parts.items() for file, content in files.items()},
    )
    fleet = Fleet(folder)
    fleet.unlock(passphrase)
    return fleet


def _last_day(lifetime: timedelta) -> date:
    return (datetime.now(UTC) + lifetime).date()


def _check_addresses(broker: Sequence[str]) -> None:
    for address in broker:
        if not re.fullmatch(HOST, address):
            raise StateError(f"{address!r} is no host name or address", name="fleet.broker")


def _check_name(name: str, whose: str) -> None:
    if not is_name(name):
        raise StateError(
            f"{name!r} is no name for {whose}",
            name="fleet.name",
            hint="1 to 32 of a-z, 0-9 and hyphen",
        )
