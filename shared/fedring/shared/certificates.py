"""Keys and certificates: reading them from files and from strangers, with one kind of error each.

What a person gives us in a file raises `CertificateError` with a hint; what somebody sent raises
`IdentityError`. The rules for certificates of a fleet are told in `fedring.shared.identity`.
"""

from __future__ import annotations

import os
import stat
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from fedring.shared.errors import CertificateError, IdentityError
from fedring.shared.messages import MAX_CERTIFICATE_BYTES

_MAX_FILE_BYTES: Final = 64 * 1024


def parse_certificate(certificate: bytes) -> x509.Certificate:
    """Parse a DER certificate that anybody may have sent; nothing in it is checked yet.

    Raises:
        IdentityError: too long, or no X.509 certificate.
    """
    if len(certificate) > MAX_CERTIFICATE_BYTES:
        raise IdentityError(
            f"certificate has {len(certificate)} bytes, at most {MAX_CERTIFICATE_BYTES} are read"
        )
    try:
        parsed = x509.load_der_x509_certificate(certificate)
        # Names and extensions are parsed at first touch only: touch them here, in one net.
        # Parsers of other versions of the library raise other exceptions: catch them all.
        _ = parsed.subject, parsed.issuer, parsed.extensions, parsed.signature_algorithm_oid
    except Exception as error:
        raise IdentityError("certificate is damaged: no X.509 in DER") from error
    return parsed


def p256_key(certificate: x509.Certificate) -> ec.EllipticCurvePublicKey:
    """Give the certified key.

    Raises:
        IdentityError: it is not on the curve P-256.
    """
    try:
        key = certificate.public_key()
    except Exception as error:  # as above
        raise IdentityError("certificate holds no usable key") from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise IdentityError("certificate holds another key than P-256")
    return key


def is_authority(certificate: x509.Certificate) -> bool:
    """Tell CA:TRUE from CA:FALSE.

    Raises:
        IdentityError: the certificate does not say.
    """
    try:
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    except x509.ExtensionNotFound:
        raise IdentityError("certificate does not say whether it is a CA's") from None
    return constraints.value.ca


def subject_attribute(certificate: x509.Certificate, oid: x509.ObjectIdentifier, what: str) -> str:
    """Give the one value of an attribute of the subject.

    Raises:
        IdentityError: it is missing, or there are several.
    """
    values = certificate.subject.get_attributes_for_oid(oid)
    if len(values) != 1 or not isinstance(values[0].value, str):
        raise IdentityError(f"certificate has {len(values)} {what} in its subject, not one")
    return values[0].value


def validity(certificate: x509.Certificate) -> tuple[datetime, datetime]:
    """Give when a certificate begins and ends to be valid, UTC."""
    try:
        return certificate.not_valid_before_utc, certificate.not_valid_after_utc
    except AttributeError:  # versions of the library before 42
        begin, end = certificate.not_valid_before, certificate.not_valid_after
        return begin.replace(tzinfo=UTC), end.replace(tzinfo=UTC)


def read_certificate(path: Path) -> x509.Certificate:
    """Read the first certificate of a PEM file.

    Raises:
        CertificateError: missing, unreadable, or no certificate.
    """
    pem = read_file(path, "certificate")
    try:
        return x509.load_pem_x509_certificate(pem)
    except ValueError as error:
        raise CertificateError(
            f"{path}: not a certificate in PEM",
            name="certificate.damaged",
            hint="copy it again from the fleet folder; its first line is"
            " -----BEGIN CERTIFICATE-----",
        ) from error


def read_private_key(path: Path) -> ec.EllipticCurvePrivateKey:
    """Read an unencrypted P-256 key from a PEM file that its owner alone may read.

    Raises:
        CertificateError: missing, unreadable, readable by others, or no P-256 key.
    """
    pem = read_file(path, "key", private=True)
    hint = "copy it again from the fleet folder, or make a new one with `fedring fleet add`"
    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except TypeError as error:
        raise CertificateError(
            f"{path}: the key is encrypted, and nobody is there to type its passphrase",
            name="certificate.damaged",
            hint=hint,
        ) from error
    except Exception as error:  # ValueError, UnsupportedAlgorithm, ... by version of the library
        raise CertificateError(
            f"{path}: not a private key in PEM", name="certificate.damaged", hint=hint
        ) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise CertificateError(f"{path}: not a P-256 key", name="certificate.damaged", hint=hint)
    return key


def read_file(path: Path, what: str, *, private: bool = False) -> bytes:
    """Read a short file.

    Args:
        path: the file.
        what: it is, for messages: "key".
        private: refuse a file that others than its owner may read.

    Raises:
        CertificateError: missing, unreadable, too long, or readable by others.
    """
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            if private and mode & 0o077:
                raise CertificateError(
                    f"{path}: others may read this {what} file (mode {mode:04o})",
                    name="certificate.key-readable-by-others",
                    hint=f"chmod 600 {path}",
                )
            content = file.read(_MAX_FILE_BYTES + 1)
    except OSError as error:
        reason = error.strerror or "cannot be read"
        raise CertificateError(
            f"{path}: {what} file: {reason.lower()}",
            name="certificate.missing",
            hint="`fedring fleet init` and `fedring fleet add` make these files",
        ) from error
    if len(content) > _MAX_FILE_BYTES:
        raise CertificateError(
            f"{path}: too long for a {what} file (above {_MAX_FILE_BYTES} bytes)",
            name="certificate.damaged",
        )
    return content
