"""The folder of a fleet: what lies where, who may change it, and what is written after a change.

    FOLDER/
        fleet.json         the register: names, numbers, who was revoked
        authority/         ca.crt, ca.key: never leaves this machine
        revoked            the newest signed revocation list
        server/            signed folder for the machines of broker and coordinator
        owner/             with it this machine enters the broker
        codes/NAME         one-time code of a board that has not enrolled yet
        certificates/NAME  the newest certificate that a board asked for
        devices/NAME/      ready folder for one board whose key was made here

Every file appears whole or not at all, 0600, and no key is overwritten but by a renewal. The
register is durable before a certificate with a new number exists, so no number is ever given
twice; a folder that is lost on the way costs one number.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from fedring.fleet.issuing import Issuer
from fedring.fleet.passphrases import is_protected, unprotect
from fedring.fleet.register import Device, Register
from fedring.fleet.server_folder import (
    CANARY_CERTIFICATE,
    IDENTITIES,
    new_identity,
    owner_files,
    read_identities,
    serial_of,
    server_files,
    write_server_files,
)
from fedring.shared.certificates import read_certificate, read_file
from fedring.shared.errors import CertificateError, StateError
from fedring.shared.identity import CANARY_NAME, sign
from fedring.shared.signed_folders import Manifest, sign_folder
from fedring.shared.state import lock_folder, prepare_folder, write_file


class FleetFolder:
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

    def refresh(self) -> None:
        """Read the register anew: another command may have changed it."""
        self._register = self._read_register()

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
    def server_folder(self) -> Path:
        """What goes to the machines of broker and coordinator: one signed folder."""
        return self.folder / "server"

    @property
    def coordinator_folder(self) -> Path:
        """The coordinator's part of it."""
        return self.server_folder / "coordinator"

    @property
    def broker_folder(self) -> Path:
        """The broker's part of it."""
        return self.server_folder / "broker"

    @property
    def owner_folder(self) -> Path:
        """Key and certificate with which this machine enters the broker."""
        return self.folder / "owner"

    def device_folder(self, name: str) -> Path:
        """What goes to a board whose key was made here."""
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

    def sign(self, kind: str, payload: bytes) -> bytes:
        """Sign `payload` as a message of this kind, as the authority."""
        return sign(self._unlocked().key, kind, payload)

    def sign_folder(
        self, folder: Path, *, purpose: str, number: int, facts: Mapping[str, str]
    ) -> Manifest:
        """Sign the files that lie in a folder, as `fedring.shared.signed_folders` tells."""
        return sign_folder(
            folder,
            self._unlocked().key,
            purpose=purpose,
            fleet=self.name,
            number=number,
            facts=facts,
        )

    @contextmanager
    def _changing(self) -> Iterator[Issuer]:
        """Be the only one who changes the folder, on its newest register, and able to sign."""
        issuer = self._unlocked()
        with self._writing():
            yield issuer

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Be the only one who changes the folder, on its newest register."""
        lock = lock_folder(self.folder)
        try:
            self._register = self._read_register()
            yield
        finally:
            lock.close()

    def _unlocked(self) -> Issuer:
        if self._issuer is None:
            raise CertificateError("the fleet authority's key is locked", name="fleet.passphrase")
        return self._issuer

    def _publish(self, issuer: Issuer) -> None:
        """Write the revocation list, and what follows from it, to where it is taken from."""
        identities = self._complete(issuer)
        files = server_files(issuer, self._register, identities)
        write_file(self.revoked_file, files["coordinator/revoked"])
        write_server_files(self.server_folder, files)

    def _complete(self, issuer: Issuer) -> dict[str, bytes]:
        """Give all identities of the servers; what is missing or retired is made anew.

        So is the owner's.
        """
        identities = read_identities(self.server_folder, self._register)
        for path in IDENTITIES:
            if f"{path}.key" not in identities:
                identities |= new_identity(issuer, path, self.broker)
        canary = serial_of(identities[CANARY_CERTIFICATE])
        if not self._register.is_retired(canary):
            self._write_register(self._register.retiring(CANARY_NAME, canary))
        owner = self.owner_folder / "owner.crt"
        if not owner.exists() or self._register.is_retired(serial_of(owner.read_bytes())):
            prepare_folder(self.owner_folder)
            for name, content in owner_files(issuer).items():
                write_file(self.owner_folder / name, content)
        return identities

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
