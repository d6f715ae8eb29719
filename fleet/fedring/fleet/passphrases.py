"""The fleet authority's key under a passphrase.

The file is an ordinary encrypted PKCS #8 key in PEM. Since its own key derivation is quick to try
(2,048 rounds of PBKDF2), the password that opens it is not the passphrase but 32 bytes that scrypt
makes of it; the line before the PEM tells how. Whoever has file and passphrase needs no fedring:

    password = hashlib.scrypt(passphrase, salt=salt, n=n, r=8, p=1, maxmem=2**28, dklen=32).hex()

Not protected: a short passphrase against somebody who has the file and patience.
"""

from __future__ import annotations

import os
import re
from typing import Final

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from fedring.shared.errors import CertificateError

MIN_PASSPHRASE: Final = 8

_SCRYPT_N: Final = 2**17  # 128 MiB and about half a second; r = 8, p = 1: OWASP's first choice
_MAX_SCRYPT_N: Final = 2**20
_SALT_BYTES: Final = 16
_HEADER: Final = re.compile(rb"fedring: password = scrypt\(n=(\d{1,7}), salt=([0-9a-f]{32})\)\n")


def protect(key: ec.EllipticCurvePrivateKey, passphrase: str | None) -> bytes:
    """Encode a key as PEM under a passphrase, or without any for a fleet to be thrown away.

    Raises:
        CertificateError: the passphrase is too short.
    """
    header = b""
    encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if passphrase is not None:
        if len(passphrase) < MIN_PASSPHRASE:
            raise CertificateError(
                f"the passphrase has {len(passphrase)} characters, at least {MIN_PASSPHRASE} are"
                " needed",
                name="fleet.passphrase",
                hint="whoever has this key and passphrase can add devices to the fleet:"
                " take several words",
            )
        salt = os.urandom(_SALT_BYTES)
        header = f"fedring: password = scrypt(n={_SCRYPT_N}, salt={salt.hex()})\n".encode()
        encryption = serialization.BestAvailableEncryption(_password(passphrase, salt, _SCRYPT_N))
    return header + key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption
    )


def is_protected(pem: bytes) -> bool:
    """Tell whether a passphrase is needed to open this key."""
    return _HEADER.match(pem) is not None


def unprotect(pem: bytes, passphrase: str | None) -> ec.EllipticCurvePrivateKey:
    """Decode what `protect` made.

    Raises:
        CertificateError: the passphrase is wrong, or the file damaged.
    """
    header = _HEADER.match(pem)
    try:
        password = None
        if header and passphrase is not None:
            n = min(int(header[1]), _MAX_SCRYPT_N)
            password = _password(passphrase, bytes.fromhex(header[2].decode()), n)
        key = serialization.load_pem_private_key(pem, password)
    except Exception as error:  # ValueError, TypeError, UnsupportedAlgorithm, ... by its version
        raise CertificateError(
            "the passphrase does not open the fleet authority's key",
            name="fleet.passphrase",
            hint="it is the one that was asked for by `fedring fleet init`",
        ) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise CertificateError("the fleet authority's key is no P-256 key", name="fleet.damaged")
    return key


def _password(passphrase: str, salt: bytes, n: int) -> bytes:
    derived = Scrypt(salt=salt, length=32, n=n, r=8, p=1).derive(passphrase.encode())
    return derived.hex().encode()
