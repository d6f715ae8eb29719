"""Who is who in fleets that exist in tests only: authority, coordinator, devices.

Keys and certificates are made once a process, for they take their time. A *quick* cast remembers
the signatures that hold, made here or verified once, and verifies none of them again.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

from attrs import asdict, frozen
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from fedring.fleet.issuing import Issuer, new_key
from fedring.shared.identity import Authority, Identity, Peer, RevocationList, signed_bytes

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


_REPEATABLE = ec.ECDSA(hashes.SHA256(), deterministic_signing=True)
_MOST_HELD = 1 << 12
_held: set[tuple[bytes, str, bytes, bytes]] = set()
"""Signatures known to hold: certificate, kind, payload, signature."""


def forget() -> None:
    """Verify all signatures anew from now on."""
    _held.clear()


def _remember(certificate: bytes, kind: str, payload: bytes, signature: bytes) -> None:
    if len(_held) == _MOST_HELD:
        forget()
    _held.add((certificate, kind, payload, signature))


class QuickIdentity(Identity):
    """Signs as RFC 6979 says, with no randomness: a schedule repeats itself byte by byte."""

    @classmethod
    def of(cls, identity: Identity) -> QuickIdentity:
        return cls(identity._key, identity.certificate)  # noqa: SLF001

    def sign(self, kind: str, payload: bytes) -> bytes:
        signature = self._key.sign(signed_bytes(kind, payload), _REPEATABLE)
        _remember(self.certificate, kind, payload, signature)
        return signature


class QuickPeer(Peer):
    """Verifies what nobody here signed, and what it has not verified before."""

    def verify(self, kind: str, payload: bytes, signature: bytes) -> None:
        if (self.certificate, kind, payload, signature) not in _held:
            super().verify(kind, payload, signature)
            _remember(self.certificate, kind, payload, signature)


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
