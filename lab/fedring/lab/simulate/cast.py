"""Who is who in fleets that exist in tests only: authority, coordinator, devices.

Keys and certificates are made once a process, for they take their time. A *quick* cast signs and
verifies messages by keyed hashes instead of ECDSA, which is half the time of a schedule of faults;
its certificates and revocation lists are signed as ever.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from hashlib import blake2b

from attrs import asdict, frozen
from cryptography.hazmat.primitives.serialization import Encoding

from fedring.fleet.issuing import Issuer, new_key
from fedring.shared.errors import IdentityError
from fedring.shared.identity import Authority, Identity, Peer, RevocationList

FLEET = "rehearsal"


@frozen
class Cast:
    """The fleet authority with its key, and what others know of it."""

    issuer: Issuer
    authority: Authority

    @classmethod
    def of(cls, fleet: str) -> Cast:
        issuer = Issuer.create(fleet)
        return cls(issuer, Authority(issuer.certificate.public_bytes(Encoding.DER)))

    def device(self, number: int, name: str) -> Identity:
        key = new_key()
        certificate = self.issuer.device(key.public_key(), name, number)
        return Identity(key, certificate.public_bytes(Encoding.DER))

    def coordinator(self) -> Identity:
        key = new_key()
        certificate = self.issuer.coordinator(key.public_key())
        return Identity(key, certificate.public_bytes(Encoding.DER))

    def revocation(self, number: int = 1, epoch: int = 1, revoked: Iterable[int] = ()) -> bytes:
        """A signed revocation list, as its envelope."""
        return self.issuer.revocation(
            RevocationList(self.issuer.fleet, number, epoch, frozenset(revoked))
        )


@cache
def _key(certificate: bytes) -> bytes:
    """As hard to guess as the certificate is to know: for parties that do not try."""
    return blake2b(certificate, digest_size=32).digest()


def _hash(certificate: bytes, kind: str, payload: bytes) -> bytes:
    key = _key(certificate)
    return blake2b(payload, key=key, person=kind.encode(), digest_size=32).digest()


class QuickIdentity(Identity):
    """Signs by a keyed hash."""

    @classmethod
    def of(cls, identity: Identity) -> QuickIdentity:
        return cls(identity._key, identity.certificate)  # noqa: SLF001

    def sign(self, kind: str, payload: bytes) -> bytes:
        return _hash(self.certificate, kind, payload)


class QuickPeer(Peer):
    """Verifies what a `QuickIdentity` signed."""

    def verify(self, kind: str, payload: bytes, signature: bytes) -> None:
        if signature != _hash(self.certificate, kind, payload):
            raise IdentityError("signature does not hold", sender=self.name, kind=kind)


class QuickAuthority(Authority):
    """Tells peers that verify quickly; looks at certificates and lists as ever, but once."""

    def __init__(self, certificate: bytes) -> None:
        super().__init__(certificate)
        self._quick: dict[bytes, Peer] = {}
        self._lists: dict[bytes, RevocationList] = {}

    def peer(self, certificate: bytes) -> Peer:
        if certificate not in self._quick:
            self._quick[certificate] = QuickPeer(**asdict(super().peer(certificate), recurse=False))
        return self._quick[certificate]

    def revocation(self, envelope: bytes) -> RevocationList:
        if envelope not in self._lists:
            self._lists[envelope] = super().revocation(envelope)
        return self._lists[envelope]


def cast(fleet: str = FLEET, *, quick: bool = False) -> Cast:
    """The one cast of a fleet in this process; a quick one has the same people."""
    return _quick_cast(fleet) if quick else _cast(fleet)


def device(number: int, fleet: str = FLEET, *, quick: bool = False) -> Identity:
    """The one identity of a device in this process."""
    return _quick_device(number, fleet) if quick else _device(number, fleet)


def coordinator(fleet: str = FLEET, *, quick: bool = False) -> Identity:
    """The one identity of the coordinator in this process."""
    return _quick_coordinator(fleet) if quick else _coordinator(fleet)


_cast = cache(Cast.of)


@cache
def _device(number: int, fleet: str) -> Identity:
    return _cast(fleet).device(number, f"b{number:02}")


@cache
def _coordinator(fleet: str) -> Identity:
    return _cast(fleet).coordinator()


@cache
def _quick_cast(fleet: str) -> Cast:
    known = _cast(fleet)
    return Cast(known.issuer, QuickAuthority(known.authority.certificate))


@cache
def _quick_device(number: int, fleet: str) -> Identity:
    return QuickIdentity.of(_device(number, fleet))


@cache
def _quick_coordinator(fleet: str) -> Identity:
    return QuickIdentity.of(_coordinator(fleet))
