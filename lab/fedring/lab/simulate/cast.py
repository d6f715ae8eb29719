"""Who is who in fleets that exist in tests only: authority, coordinator, devices.

Keys and certificates are made once a process, for they take their time.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

from attrs import frozen
from cryptography.hazmat.primitives.serialization import Encoding

from fedring.fleet.issuing import Issuer, new_key
from fedring.shared.identity import Authority, Identity, RevocationList

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


def cast(fleet: str = FLEET) -> Cast:
    """The one cast of a fleet in this process."""
    return _cast(fleet)


def device(number: int, fleet: str = FLEET) -> Identity:
    """The one identity of a device in this process."""
    return _device(number, fleet)


def coordinator(fleet: str = FLEET) -> Identity:
    """The one identity of the coordinator in this process."""
    return _coordinator(fleet)


_cast = cache(Cast.of)


@cache
def _device(number: int, fleet: str) -> Identity:
    return _cast(fleet).device(number, f"b{number:02}")


@cache
def _coordinator(fleet: str) -> Identity:
    return _cast(fleet).coordinator()
