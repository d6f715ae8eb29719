"""Who signs the inputs of the corpus: keys that are the same in every process, and in no fleet.

Certificates and signatures differ from run to run, but all verify under the one authority key: so
inputs that were signed once are good for ever, and a damaged one can be signed anew.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import cache

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from phe import PaillierPrivateKey, PaillierPublicKey

from fedring.fleet.issuing import Issuer
from fedring.shared.identity import Authority, Identity, sign

FLEET = "corpus"
PAILLIER = PaillierPrivateKey(
    PaillierPublicKey(0xCE5EE80016F66355CD1168C5A0657D23 * 0xDF4FC1BDC9211C7199ED3A8D3C9FA6B7),
    0xCE5EE80016F66355CD1168C5A0657D23,
    0xDF4FC1BDC9211C7199ED3A8D3C9FA6B7,
)
"""256 bits, that anybody could factor."""

_AUTHORITY, _COORDINATOR, _FIRST_DEVICE = 1, 2, 10


def key(secret: int) -> ec.EllipticCurvePrivateKey:
    """The private key that is this number: everybody knows it."""
    return ec.derive_private_key(secret, ec.SECP256R1())


def secret_of(number: int) -> int:
    """The number that is the private key of a device, or of the coordinator for 0."""
    return _FIRST_DEVICE + number if number else _COORDINATOR


@cache
def issuer() -> Issuer:
    """The fleet authority with its key."""
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, FLEET),
            x509.NameAttribute(NameOID.COMMON_NAME, FLEET),
        ]
    )
    now = datetime.now(UTC)
    own = key(_AUTHORITY)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(own.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(own, hashes.SHA256())
    )
    return Issuer(own, certificate)


@cache
def authority() -> Authority:
    """The fleet authority as others know it."""
    return Authority(issuer().certificate.public_bytes(Encoding.DER))


@cache
def device(number: int) -> Identity:
    """A device with its key."""
    own = key(secret_of(number))
    certificate = issuer().device(own.public_key(), f"b{number:02}", number)
    return Identity(own, certificate.public_bytes(Encoding.DER))


@cache
def coordinator() -> Identity:
    """The coordinator with its key."""
    own = key(secret_of(0))
    return Identity(own, issuer().coordinator(own.public_key()).public_bytes(Encoding.DER))


def issuer_signs(kind: str, payload: bytes) -> bytes:
    """The authority's signature under a payload."""
    return sign(issuer().key, kind, payload)


def certified(signed_part: bytes) -> bytes:
    """A certificate in DER around what it certifies, signed by the authority."""
    signature = issuer().key.sign(signed_part, ec.ECDSA(hashes.SHA256()))
    algorithm = bytes.fromhex("300a06082a8648ce3d040302")  # ecdsa-with-SHA256
    return _der(0x30, signed_part + algorithm + _der(0x03, b"\0" + signature))


def _der(kind: int, content: bytes) -> bytes:
    length = len(content)
    if length < 0x80:
        return bytes([kind, length]) + content
    size = (length.bit_length() + 7) // 8
    return bytes([kind, 0x80 | size]) + length.to_bytes(size, "big") + content
