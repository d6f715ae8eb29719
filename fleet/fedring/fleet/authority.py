"""The fleet folder on its owner's machine: the authority, and the folders it hands out.

    FOLDER/
        fleet.json      the register: names, numbers, who was revoked
        authority/      ca.crt, ca.key: never leaves this machine
        revoked         the newest signed revocation list
        coordinator/    ready folder for the coordinator's machine
        broker/         ready folder for the broker's machine
        devices/NAME/   ready folder for one board

Every file appears whole or not at all, 0600, and none is overwritten but those that a new
revocation list replaces. The register is durable before a certificate with a new number exists,
so no number is ever given twice; a folder that is lost on the way costs one number.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from fedring.fleet.folders import identity_files, pem, settings, write_folder
from fedring.fleet.issuing import Issuer, new_key
from fedring.fleet.passphrases import is_protected, protect, unprotect
from fedring.fleet.register import HOST_PATTERN, Device, Register
from fedring.shared.certificates import read_certificate, read_file
from fedring.shared.errors import CertificateError, StateError
from fedring.shared.identity import RESERVED_NAMES
from fedring.shared.messages import MAX_UINT32
from fedring.shared.state import lock_folder, write_file
from fedring.shared.topics import is_name

SMALL_FLEET: Final = 16
"""Up to here a threshold of 7 could leave rings without enough members."""


def usual_threshold(n_devices: int) -> int:
    """What a device's threshold is set to when its owner says nothing."""
    return 3 if n_devices < SMALL_FLEET else 7


class Fleet:
    """A fleet folder; the authority's key is in it, and opened only to sign.

    Args:
        folder: made by `create_fleet`.

    Raises:
        StateError: no fleet folder, or a damaged one.
    """

    def __init__(self, folder: Path) -> None:
        self.folder: Final = folder
        self._register = self._read_register()
        self._issuer: Issuer | None = None

    def __repr__(self) -> str:
        return f"Fleet({self.name!r}, {self.folder})"

    @property
    def name(self) -> str:
        """Name of the fleet."""
        return self._register.fleet

    @property
    def broker(self) -> tuple[str, ...]:
        """Host names and addresses of the broker."""
        return self._register.broker

    @property
    def devices(self) -> tuple[Device, ...]:
        """All devices that were ever added, by number."""
        return self._register.devices

    def find(self, name: str) -> Device:
        """Give the newest device of this name.

        Raises:
            StateError: there is none.
        """
        device = self._register.find(name)
        if device is None:
            raise StateError(
                f"fleet {self.name} has no device {name}",
                name="fleet.unknown-device",
                hint="`fedring fleet list` shows all",
            )
        return device

    @property
    def list_number(self) -> int:
        """Number of the newest revocation list."""
        return self._register.list_number

    @property
    def epoch(self) -> int:
        """Epoch that the newest revocation list tells."""
        return self._register.epoch

    @property
    def ca_file(self) -> Path:
        """The authority's certificate."""
        return self.folder / "authority" / "ca.crt"

    @property
    def revoked_file(self) -> Path:
        """The newest signed revocation list."""
        return self.folder / "revoked"

    @property
    def coordinator_folder(self) -> Path:
        """What goes to the coordinator's machine."""
        return self.folder / "coordinator"

    @property
    def broker_folder(self) -> Path:
        """What goes to the broker's machine."""
        return self.folder / "broker"

    def device_folder(self, name: str) -> Path:
        """What goes to this board."""
        return self.folder / "devices" / name

    @property
    def needs_passphrase(self) -> bool:
        """Whether the authority's key is protected, and not yet open."""
        return self._issuer is None and is_protected(self._key_pem())

    def unlock(self, passphrase: str | None) -> None:
        """Open the authority's key, so that this object may sign.

        Raises:
            CertificateError: wrong passphrase, or a damaged file.
        """
        key = unprotect(self._key_pem(), passphrase)
        self._issuer = Issuer(key, read_certificate(self.ca_file))

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
            for name in names:
                self._check_free(name, names)
            if self._register.next_number + len(names) - 1 > MAX_UINT32:
                raise StateError("no device number is left", name="fleet.full")
            register = self._register
            certified = {}
            for name in names:
                key = new_key()
                certificate = issuer.device(key.public_key(), name, register.next_number)
                register = register.adding(name, certificate.serial_number)
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

    def revoke(self, name: str) -> Device:
        """Take a device's place away, in the signed list and in the broker's CRL.

        Doing it again writes both files again.

        Returns:
            The device, with the date.

        Raises:
            StateError: there is no such device.
        """
        with self._changing() as issuer:
            device = self.find(name)
            if device.revoked is None:
                self._write_register(self._register.revoking(device))
            self._publish(issuer)
            return self.find(name)

    def next_epoch(self) -> int:
        """Begin the next epoch, for a coordinator whose store was lost or put back.

        Returns:
            Its number.
        """
        with self._changing() as issuer:
            self._write_register(self._register.next_epoch())
            self._publish(issuer)
            return self.epoch

    def _publish(self, issuer: Issuer) -> None:
        """Write the revocation list, and what follows from it, to where it is taken from."""
        revoked = issuer.revocation(self._register.revocation())
        crl = issuer.crl(self.list_number, self._register.revoked_serials())
        write_file(self.revoked_file, revoked)
        write_file(self.coordinator_folder / "revoked", revoked)
        write_file(self.broker_folder / "crl.pem", crl)

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
                hint=f"`fedring fleet revoke {name}` frees the name",
            )
        folder = self.device_folder(name)
        if folder.exists():
            raise StateError(
                f"{folder} exists and will not be overwritten",
                name="fleet.exists",
                hint="it was an earlier device's: move or remove it",
            )

    @contextmanager
    def _changing(self) -> Iterator[Issuer]:
        """Be the only one who changes the folder, on its newest register."""
        if self._issuer is None:
            raise CertificateError("the fleet authority's key is locked", name="fleet.passphrase")
        lock = lock_folder(self.folder)
        try:
            self._register = self._read_register()
            yield self._issuer
        finally:
            lock.close()

    def _key_pem(self) -> bytes:
        return read_file(self.folder / "authority" / "ca.key", "key", private=True)

    def _read_register(self) -> Register:
        path = self.folder / "fleet.json"
        try:
            return Register.from_json(path.read_bytes(), path)
        except OSError as error:
            raise StateError(
                f"{self.folder.resolve()} is no fleet folder: there is no fleet.json in it",
                name="fleet.missing",
                hint="make one with `fedring fleet init`, or say `--fleet FOLDER`",
            ) from error

    def _write_register(self, register: Register) -> None:
        write_file(self.folder / "fleet.json", register.to_json().encode())
        self._register = register


def create_fleet(
    folder: Path, name: str, broker: Sequence[str], passphrase: str | None = None
) -> Fleet:
    """Make a fleet: its authority, and the folders of coordinator and broker.

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
    for address in broker:
        if not HOST_PATTERN.fullmatch(address):
            raise StateError(f"{address!r} is no host name or address", name="fleet.broker")
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise StateError(
            f"{folder} exists and will not be overwritten",
            name="fleet.exists",
            hint="choose another folder for the new fleet",
        )
    issuer = Issuer.create(name)
    register = Register(name, tuple(broker))
    ca = pem(issuer.certificate)
    revoked = issuer.revocation(register.revocation())
    host = f'host = "{broker[0]}"'
    coordinator_key, broker_key = new_key(), new_key()
    parts = {
        "": {"fleet.json": register.to_json().encode(), "revoked": revoked},
        "authority/": {"ca.crt": ca, "ca.key": protect(issuer.key, passphrase)},
        "coordinator/": {
            **identity_files(
                "coordinator",
                coordinator_key,
                issuer.coordinator(coordinator_key.public_key()),
                ca,
            ),
            "revoked": revoked,
            "coordinator.toml": settings("coordinator", {'host = "localhost"': host}),
        },
        "broker/": {
            **identity_files(
                "broker", broker_key, issuer.broker(broker_key.public_key(), broker), ca
            ),
            "crl.pem": issuer.crl(register.list_number, []),
        },
    }
    write_folder(
        folder,
        {part + file: content for part, files in parts.items() for file, content in files.items()},
    )
    fleet = Fleet(folder)
    fleet.unlock(passphrase)
    return fleet


def _check_name(name: str, whose: str) -> None:
    if not is_name(name):
        raise StateError(
            f"{name!r} is no name for {whose}",
            name="fleet.name",
            hint="1 to 32 of a-z, 0-9 and hyphen",
        )
