"""What the fleet authority signs: certificates, the revocation list, and the broker's CRL.

Nothing here touches a file. The form of the certificates is told in `fedring.shared.identity`.
Broker and members are kept apart by their extended key usage: a broker takes no `serverAuth`
certificate from a client, and no client takes a board's `clientAuth` certificate for the broker.

Everything is valid from one day back (a laptop and a broker disagree about the time) for ten
years, but the certificates of boards that renew theirs. A CRL past its `nextUpdate` would lock
everybody out of Mosquitto, so it lives as long.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from fedring.shared.envelopes import pack_envelope
from fedring.shared.identity import (
    BROKER_NAME,
    CANARY_NAME,
    OWNER_NAME,
    PROBE_NAME,
    RevocationList,
    sign,
)
from fedring.shared.messages import COORDINATOR_NAME, COORDINATOR_NUMBER

_BACKDATED: Final = timedelta(days=1)
LIFETIME: Final = timedelta(days=3650)
RENEWED_LIFETIME: Final = timedelta(days=365)
"""Of certificates that boards ask for, and renew by themselves."""


def new_key() -> ec.EllipticCurvePrivateKey:
    """Make a P-256 key."""
    return ec.generate_private_key(ec.SECP256R1())


class Issuer:
    """The fleet authority with its key: what may stay on the owner's machine only."""

    def __init__(self, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> None:
        self.key: Final = key
        self.certificate: Final = certificate
        (common_name,) = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        self.fleet: Final = str(common_name.value)

    def __repr__(self) -> str:
        return f"Issuer(fleet={self.fleet!r})"

    @classmethod
    def create(cls, fleet: str) -> Self:
        """Make the authority of a new fleet.

        Args:
            fleet: its name, `[a-z0-9-]{1,32}`.
        """
        key = new_key()
        subject = x509.Name(
            [
                x509.NameAttribute(NameOID.ORGANIZATION_NAME, fleet),
                x509.NameAttribute(NameOID.COMMON_NAME, fleet),
            ]
        )
        builder = (
            _builder(subject, subject, key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_key_usage(authority=True), critical=True)
        )
        return cls(key, builder.sign(key, hashes.SHA256()))

    def device(
        self,
        public_key: ec.EllipticCurvePublicKey,
        name: str,
        number: int,
        lifetime: timedelta = LIFETIME,
    ) -> x509.Certificate:
        """Certify a device's key."""
        return self._client(public_key, name, "device", number, lifetime)

    def coordinator(self, public_key: ec.EllipticCurvePublicKey) -> x509.Certificate:
        """Certify the coordinator's key."""
        return self._client(public_key, COORDINATOR_NAME, COORDINATOR_NAME, COORDINATOR_NUMBER)

    def owner(self, public_key: ec.EllipticCurvePublicKey) -> x509.Certificate:
        """Certify the key with which the owner's machine enters the broker; no protocol role."""
        return self._client(public_key, OWNER_NAME, OWNER_NAME, 0)

    def canary(self, public_key: ec.EllipticCurvePublicKey) -> x509.Certificate:
        """Certify a key that every CRL of this fleet revokes: whom no sound broker lets in."""
        return self._client(public_key, CANARY_NAME, CANARY_NAME, 0)

    def probe(self, public_key: ec.EllipticCurvePublicKey) -> x509.Certificate:
        """Certify the key with which the broker's machine tries its own broker."""
        return self._client(public_key, PROBE_NAME, PROBE_NAME, 0)

    def broker(
        self, public_key: ec.EllipticCurvePublicKey, addresses: Sequence[str]
    ) -> x509.Certificate:
        """Certify the broker's key.

        Args:
            public_key: the broker's.
            addresses: host names and IP addresses under which clients reach it, >= 1.
        """
        names = x509.SubjectAlternativeName([_general_name(address) for address in addresses])
        builder = self._leaf(
            public_key, BROKER_NAME, BROKER_NAME, ExtendedKeyUsageOID.SERVER_AUTH
        ).add_extension(names, critical=False)
        return builder.sign(self.key, hashes.SHA256())

    def revocation(self, revocation: RevocationList) -> bytes:
        """Sign a revocation list; gives the envelope as it is published."""
        payload = revocation.payload()
        return pack_envelope(payload, sign(self.key, revocation.KIND, payload))

    def crl(self, number: int, serials: Iterable[int]) -> bytes:
        """Make the list that the broker refuses connections by, as PEM.

        Args:
            number: of this list, growing.
            serials: serial numbers of the revoked certificates.
        """
        now = datetime.now(UTC)
        start = now - _BACKDATED
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self.certificate.subject)
            .last_update(start)
            .next_update(now + LIFETIME)
            .add_extension(x509.CRLNumber(number), critical=False)
            .add_extension(self._authority_key_identifier(), critical=False)
        )
        for serial in serials:
            entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(start)
            builder = builder.add_revoked_certificate(entry.build())
        return builder.sign(self.key, hashes.SHA256()).public_bytes(Encoding.PEM)

    def _client(
        self,
        public_key: ec.EllipticCurvePublicKey,
        name: str,
        unit: str,
        number: int,
        lifetime: timedelta = LIFETIME,
    ) -> x509.Certificate:
        serial_number = x509.NameAttribute(NameOID.SERIAL_NUMBER, str(number))
        usage = ExtendedKeyUsageOID.CLIENT_AUTH
        builder = self._leaf(public_key, name, unit, usage, serial_number, lifetime=lifetime)
        return builder.sign(self.key, hashes.SHA256())

    def _leaf(
        self,
        public_key: ec.EllipticCurvePublicKey,
        name: str,
        unit: str,
        usage: x509.ObjectIdentifier,
        *more: x509.NameAttribute[str],
        lifetime: timedelta = LIFETIME,
    ) -> x509.CertificateBuilder:
        subject = x509.Name(
            [
                x509.NameAttribute(NameOID.ORGANIZATION_NAME, self.fleet),
                x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, unit),
                *more,
                x509.NameAttribute(NameOID.COMMON_NAME, name),
            ]
        )
        return (
            _builder(subject, self.certificate.subject, public_key, lifetime)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(authority=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            .add_extension(self._authority_key_identifier(), critical=False)
        )

    def _authority_key_identifier(self) -> x509.AuthorityKeyIdentifier:
        return x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    public_key: ec.EllipticCurvePublicKey,
    lifetime: timedelta = LIFETIME,
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(now + lifetime)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
    )


def _key_usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,  # the authority signs revocation lists, too
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(address: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(address))
    except ValueError:
        return x509.DNSName(address)
