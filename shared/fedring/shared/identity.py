"""Who is who: certificates, roles, signatures, and the list of those who lost their place.

The fleet authority is a key that stays offline with the owner. It certifies the coordinator and
every device directly (X.509, P-256, one level) and signs the revocation list. This module is what
a board or coordinator knows of it; certificates are issued in `fedring.fleet.authority`.

In a certificate of the fleet:

    CN            the name, `[a-z0-9-]{1,32}`; those of `RESERVED_NAMES` are never a device's
    serialNumber  the device number, decimal, 1 to 2**32 - 1; 0 for the coordinator
    OU            the role: `device` or `coordinator` (the broker's, `broker`, signs no message)
    O             the fleet, which is also CN and O of the authority itself

Rules kept here: only a certificate that the authority itself signed, with CA:FALSE and a P-256
key, makes a `Peer`; a signature is bound to its kind of message; dates are *not* judged, because
a board's clock may be years back (who must go is revoked by number). Rules that live elsewhere:
whether a peer is revoked, alone with its number in a roster, or in the right role for what it sent.
"""

from __future__ import annotations

import re
from enum import StrEnum
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import ClassVar, Final, Self

import attrs
import msgpack
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID, SignatureAlgorithmOID

from fedring.shared.certificates import (
    is_authority,
    p256_key,
    parse_certificate,
    read_certificate,
    read_private_key,
    subject_attribute,
)
from fedring.shared.envelopes import unpack_envelope
from fedring.shared.errors import CertificateError, IdentityError, MessageError
from fedring.shared.messages import COORDINATOR_NAME, COORDINATOR_NUMBER, MAX_UINT32
from fedring.shared.unpacking import unpack

BROKER_NAME: Final = "broker"
OWNER_NAME: Final = "owner"
CANARY_NAME: Final = "canary"
"""Whose certificate is revoked from the beginning: a broker that lets it in lets in everybody."""
PROBE_NAME: Final = "probe"
"""Whose certificate is good: a broker that does not let it in lets in nobody."""
RESERVED_NAMES: Final = frozenset(
    {COORDINATOR_NAME, BROKER_NAME, OWNER_NAME, CANARY_NAME, PROBE_NAME}
)
NAME_PATTERN: Final = re.compile(r"[a-z0-9-]{1,32}")

MAX_SIGNATURE_BYTES: Final = 72
"""DER of two 256-bit integers, each with a sign byte: 2 + 2 * (2 + 33)."""

_CACHED_PEERS: Final = 1024  # about 3 MB; above that a certificate costs 0.2 ms each time
_NUMBER_PATTERN: Final = re.compile(r"0|[1-9][0-9]{0,9}")
_SIGNATURE_TAG: Final = b"fedring/1 signature "


class Role(StrEnum):
    """What the holder of a certificate may do in the fleet."""

    DEVICE = "device"
    COORDINATOR = "coordinator"


def signed_bytes(kind: str, payload: bytes) -> bytes:
    """Give the bytes that a signature is taken over, bound to protocol version and message kind.

    Fleet, epoch and round stand in the payload itself.
    """
    return _SIGNATURE_TAG + kind.encode() + b"\0" + payload


def sign(key: ec.EllipticCurvePrivateKey, kind: str, payload: bytes) -> bytes:
    """Sign `payload` as a message of this kind: ECDSA, SHA-256, DER."""
    return key.sign(signed_bytes(kind, payload), ec.ECDSA(hashes.SHA256()))


@attrs.frozen
class Peer:
    """Somebody whom the fleet authority certified.

    Attributes:
        name: common name, `[a-z0-9-]{1,32}`.
        number: device number, 0 for the coordinator.
        role: device or coordinator.
        fleet: name of the fleet.
        certificate: DER bytes exactly as received.
    """

    name: str
    number: int
    role: Role
    fleet: str
    certificate: bytes = attrs.field(repr=False)
    public_key: ec.EllipticCurvePublicKey = attrs.field(repr=False, eq=False)

    def verify(self, kind: str, payload: bytes, signature: bytes) -> None:
        """Return if this peer signed `payload` as a message of this kind.

        Raises:
            IdentityError: it did not, or the signature is no signature at all.
        """
        _verify(self.public_key, kind, payload, signature, signer=self.name)


class Identity:
    """Our own key and certificate: what this process signs with."""

    def __init__(self, key: ec.EllipticCurvePrivateKey, certificate: bytes) -> None:
        """Hold `key` together with the DER `certificate` issued for it.

        Raises:
            IdentityError: the certificate is damaged, or was issued for another key.
        """
        self.peer: Final = _peer(parse_certificate(certificate), certificate)
        self._key: Final = key
        if key.public_key().public_numbers() != self.peer.public_key.public_numbers():
            raise IdentityError("certificate was issued for another key", sender=self.peer.name)

    def __repr__(self) -> str:
        return f"Identity({self.peer!r})"

    @property
    def name(self) -> str:
        """Common name."""
        return self.peer.name

    @property
    def number(self) -> int:
        """Device number, 0 for the coordinator."""
        return self.peer.number

    @property
    def role(self) -> Role:
        """Device or coordinator."""
        return self.peer.role

    @property
    def fleet(self) -> str:
        """Name of the fleet."""
        return self.peer.fleet

    @property
    def certificate(self) -> bytes:
        """DER bytes of the certificate."""
        return self.peer.certificate

    @classmethod
    def load(cls, key_file: Path, certificate_file: Path) -> Self:
        """Read key and certificate from PEM files.

        Raises:
            CertificateError: a file is missing or damaged, the key may be read by others than its
                owner, or the two do not belong together.
        """
        key = read_private_key(key_file)
        certificate = read_certificate(certificate_file).public_bytes(Encoding.DER)
        try:
            return cls(key, certificate)
        except IdentityError as error:
            raise CertificateError(
                f"{certificate_file}: {error.reason} (the key is {key_file})",
                name="certificate.unusable",
                hint="take key and certificate from one folder made by `fedring fleet`",
            ) from error

    def sign(self, kind: str, payload: bytes) -> bytes:
        """Sign `payload` as a message of this kind; DER, at most `MAX_SIGNATURE_BYTES`."""
        return sign(self._key, kind, payload)


@attrs.frozen
class RevocationList:
    """Device numbers that lost their place, and the epoch that the fleet is in.

    One envelope has room for about 19,000 numbers.

    Attributes:
        fleet: name of the fleet.
        number: of this list, 1 to 2**32 - 1; grows with each list, the highest seen is kept.
        epoch: 1 to 2**32 - 1; grows when the coordinator's store was lost.
        revoked: device numbers, never the coordinator's.
    """

    KIND: ClassVar[str] = "revocation"

    fleet: str
    number: int
    epoch: int
    revoked: frozenset[int]

    def payload(self) -> bytes:
        """Encode for the authority's signature: a msgpack map, numbers ascending."""
        fields = {
            "kind": self.KIND,
            "fleet": self.fleet,
            "number": self.number,
            "epoch": self.epoch,
            "revoked": sorted(self.revoked),
        }
        return bytes(msgpack.packb(fields))

    @classmethod
    def from_payload(cls, payload: bytes) -> Self:
        """Decode what `payload` gives, and no other bytes.

        Raises:
            IdentityError: anything else.
        """
        try:
            fields = unpack(payload, strict_map_key=True)
        except ValueError as error:
            raise IdentityError("damaged: no msgpack", kind=cls.KIND) from error
        match fields:
            case {"fleet": str(fleet), "number": number, "epoch": epoch, "revoked": list(revoked)}:
                numbers = [number, epoch, *revoked]
                if all(type(item) is int and 1 <= item <= MAX_UINT32 for item in numbers):
                    revocation = cls(fleet, number, epoch, frozenset(revoked))
                    # Encoding again settles order, doubles, further keys and other spellings.
                    if revocation.payload() == payload:
                        return revocation
        raise IdentityError("not a revocation list in its one form", kind=cls.KIND)


class Authority:
    """The fleet authority as a board or coordinator knows it: its certificate, nothing secret."""

    def __init__(self, certificate: bytes) -> None:
        """Trust the holder of this DER certificate.

        Raises:
            IdentityError: damaged, not CA:TRUE, not signed by itself, or no P-256 key.
        """
        authority = parse_certificate(certificate)
        if not is_authority(authority):
            raise IdentityError("not an authority's certificate: CA:FALSE")
        self.certificate: Final = certificate
        self.fleet: Final = _name(authority, NameOID.COMMON_NAME, "CN")
        self._subject: Final = authority.subject
        self._key: Final = p256_key(authority)
        self._check_issued(authority)
        self._peers: Final = lru_cache(maxsize=_CACHED_PEERS)(self._read_peer)

    def __repr__(self) -> str:
        return f"Authority(fleet={self.fleet!r})"

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the certificate, for people to compare: 64 hexadecimal digits, in eights."""
        digits = sha256(self.certificate).hexdigest()
        return " ".join(digits[place : place + 8] for place in range(0, 64, 8))

    @classmethod
    def load(cls, ca_file: Path) -> Self:
        """Read the authority's certificate from a PEM file.

        Raises:
            CertificateError: the file is missing, damaged, or no authority's certificate.
        """
        certificate = read_certificate(ca_file).public_bytes(Encoding.DER)
        try:
            return cls(certificate)
        except IdentityError as error:
            raise CertificateError(
                f"{ca_file}: {error.reason}",
                name="certificate.unusable",
                hint="use the ca.crt that `fedring fleet` put beside the key",
            ) from error

    def peer(self, certificate: bytes) -> Peer:
        """Give the holder of a certificate that this authority issued; answers are remembered.

        Args:
            certificate: DER bytes as received; anybody may have sent them.

        Raises:
            IdentityError: not issued by this authority, CA:TRUE, or a name, number, role, fleet
                or key that it does not give out. Dates are not judged.
        """
        return self._peers(certificate)

    def verify(self, kind: str, payload: bytes, signature: bytes) -> None:
        """Return if the authority itself signed `payload` as a message of this kind.

        Raises:
            IdentityError: it did not, or the signature is no signature at all.
        """
        _verify(self._key, kind, payload, signature, signer="fleet authority")

    def revocation(self, envelope: bytes) -> RevocationList:
        """Read a revocation list signed by this authority.

        Args:
            envelope: the bytes on the topic or in the file; anybody may have written them.

        Raises:
            IdentityError: not signed by this authority, of another fleet, or not in the one
                form in which lists are written.
        """
        try:
            payload, signature = unpack_envelope(envelope)
        except MessageError as error:
            raise IdentityError(error.reason, kind=RevocationList.KIND) from error
        self.verify(RevocationList.KIND, payload, signature)
        revocation = RevocationList.from_payload(payload)
        if revocation.fleet != self.fleet:
            raise IdentityError(f"of another fleet: {revocation.fleet}", kind=RevocationList.KIND)
        return revocation

    def _read_peer(self, certificate: bytes) -> Peer:
        parsed = parse_certificate(certificate)
        self._check_issued(parsed)
        peer = _peer(parsed, certificate)
        if peer.fleet != self.fleet:
            raise IdentityError(f"certificate is of another fleet: {peer.fleet}", sender=peer.name)
        return peer

    def _check_issued(self, certificate: x509.Certificate) -> None:
        algorithm = certificate.signature_algorithm_oid
        if certificate.issuer != self._subject:
            raise IdentityError("certificate names another issuer than the fleet's authority")
        if algorithm != SignatureAlgorithmOID.ECDSA_WITH_SHA256:
            raise IdentityError("certificate is not signed with ECDSA and SHA-256")
        try:
            self._key.verify(
                certificate.signature, certificate.tbs_certificate_bytes, ec.ECDSA(hashes.SHA256())
            )
        except InvalidSignature:
            raise IdentityError("certificate was not issued by this fleet's authority") from None


def _verify(
    key: ec.EllipticCurvePublicKey, kind: str, payload: bytes, signature: bytes, *, signer: str
) -> None:
    try:
        if len(signature) > MAX_SIGNATURE_BYTES:
            raise InvalidSignature
        key.verify(signature, signed_bytes(kind, payload), ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        raise IdentityError("signature does not hold", sender=signer, kind=kind) from None


def _peer(certificate: x509.Certificate, der: bytes) -> Peer:
    """Read the subject of a certificate; says nothing about who issued it."""
    if is_authority(certificate):
        raise IdentityError("certificate is an authority's own (CA:TRUE)")
    name = _name(certificate, NameOID.COMMON_NAME, "CN")
    fleet = _name(certificate, NameOID.ORGANIZATION_NAME, "O")
    unit = subject_attribute(certificate, NameOID.ORGANIZATIONAL_UNIT_NAME, "OU")
    if unit not in tuple(Role):
        raise IdentityError(f"certificate is for no role of the protocol: OU={unit!a}", sender=name)
    role = Role(unit)
    digits = subject_attribute(certificate, NameOID.SERIAL_NUMBER, "serialNumber")
    if not _NUMBER_PATTERN.fullmatch(digits) or int(digits) > MAX_UINT32:
        raise IdentityError(f"certificate has no device number: {digits!a}", sender=name)
    number = int(digits)
    if role is Role.COORDINATOR:
        fits = (name, number) == (COORDINATOR_NAME, COORDINATOR_NUMBER)
    else:
        fits = name not in RESERVED_NAMES and number != COORDINATOR_NUMBER
    if not fits:
        raise IdentityError(f"no {role} has name {name} and number {number}", sender=name)
    return Peer(name, number, role, fleet, der, p256_key(certificate))


def _name(certificate: x509.Certificate, oid: x509.ObjectIdentifier, what: str) -> str:
    name = subject_attribute(certificate, oid, what)
    if not NAME_PATTERN.fullmatch(name):
        raise IdentityError(f"certificate has {what}={name[:40]!a}, not {NAME_PATTERN.pattern}")
    return name
