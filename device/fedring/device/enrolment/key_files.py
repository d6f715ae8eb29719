"""Key and certificate of this board on its disk, and how the next pair takes their place.

    device.key      device.crt          what the board is now
    device.key.new  device.crt.new      what it asks for, or is about to become

A pair of new files is tried in a real connection, then promoted: first the key, then the
certificate. Files appear whole and in this order on the disk, so whenever the power goes, what is
found tells how far it had come, and `settle` goes on from there:

    key.new alone       a certificate is being asked for
    both .new           the pair is to be tried
    crt.new alone       the key was promoted already: the certificate belongs to it
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from attrs import frozen
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from fedring.shared.certificates import read_private_key
from fedring.shared.errors import CertificateError, StateError
from fedring.shared.identity import Identity
from fedring.shared.state import prepare_folder, sync_folder, write_file

_NEW: Final = ".new"


@frozen
class KeyFiles:
    """Where a key and its certificate are.

    Attributes:
        key: PEM, readable by its owner only.
        certificate: PEM.
    """

    key: Path
    certificate: Path

    @property
    def new(self) -> KeyFiles:
        """The pair that is to take the place of this one."""
        return KeyFiles(
            self.key.with_name(self.key.name + _NEW),
            self.certificate.with_name(self.certificate.name + _NEW),
        )

    @property
    def is_complete(self) -> bool:
        """Whether both are there."""
        return self.key.exists() and self.certificate.exists()

    def own_key(self) -> ec.EllipticCurvePrivateKey:
        """Give the key; the first time it is made, and on the disk before it is given.

        Raises:
            CertificateError: there is one that cannot be used.
            StateError: it cannot be written.
        """
        if self.key.exists():
            return read_private_key(self.key)
        prepare_folder(self.key.parent)
        key = ec.generate_private_key(ec.SECP256R1())
        write_file(
            self.key,
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            ),
        )
        return key

    def keep(self, certificate: bytes) -> None:
        """Write the certificate of our key, DER, as PEM.

        Raises:
            StateError: it cannot be written.
        """
        parsed = x509.load_der_x509_certificate(certificate)
        write_file(self.certificate, parsed.public_bytes(serialization.Encoding.PEM))

    def settle(self) -> None:
        """End what a power cut interrupted; at every start, before anything is read.

        Raises:
            StateError: the files cannot be moved.
        """
        new = self.new
        if new.certificate.exists() and not new.key.exists():
            if _belong_together(self.key, new.certificate):
                self._move(new.certificate, self.certificate)
            else:
                self.drop_new()

    def promote(self) -> None:
        """Let the new pair take the place of this one.

        Raises:
            StateError: the files cannot be moved; `settle` is to be called before anything else.
        """
        self._move(self.new.key, self.key)
        self._move(self.new.certificate, self.certificate)

    def drop_new(self) -> None:
        """Forget the new pair, which is good for nothing."""
        self.new.key.unlink(missing_ok=True)
        self.new.certificate.unlink(missing_ok=True)

    @staticmethod
    def _move(source: Path, target: Path) -> None:
        try:
            source.replace(target)
            sync_folder(target.parent)
        except OSError as error:
            raise StateError(f"{target}: {error.strerror}", name="state.unusable") from error


def _belong_together(key: Path, certificate: Path) -> bool:
    try:
        Identity.load(key, certificate)
    except CertificateError:
        return False
    return True
