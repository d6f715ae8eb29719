"""The owner's order to run another fedring: which bundle, and which boards.

It is an envelope signed by the fleet authority, retained on the topic `update`. What it names by
digest are listings of bundles (`bundle_chunks`): so a board that holds the order believes nobody
else what its next agent is. The bundle is signed, too, and root on the board believes only that.
"""

from __future__ import annotations

import re
from typing import ClassVar, Final, Self

import msgpack
from attrs import frozen

from fedring.shared.bundles import version_number
from fedring.shared.envelopes import pack_envelope, unpack_envelope
from fedring.shared.errors import IdentityError, MessageError
from fedring.shared.identity import Authority
from fedring.shared.messages import MAX_UINT32
from fedring.shared.topics import is_name
from fedring.shared.unpacking import unpack

MAX_NAMES: Final = 1_500
"""Of 32 characters, they fit an envelope."""
MAX_BUNDLES: Final = 32

_TAG: Final = re.compile(r"[a-z0-9_]{1,32}")
_DIGEST_BYTES: Final = 32


@frozen
class Offer:
    """A bundle for one kind of board.

    Attributes:
        python: tag of its Python, such as "cp311".
        arch: its processor, such as "aarch64".
        digest: SHA-256 of the listing of its chunks, 32 bytes.
    """

    python: str
    arch: str
    digest: bytes


@frozen
class UpdateOrder:
    """What the owner wants boards to run.

    Attributes:
        fleet: name of the fleet.
        number: 1 to 2**32 - 1; grows with each order, and only the highest counts.
        version: of fedring in all its bundles.
        offers: one for each kind of board.
        names: boards that are meant, at most `MAX_NAMES`; None for all.
    """

    KIND: ClassVar[str] = "update"

    fleet: str
    number: int
    version: str
    offers: tuple[Offer, ...]
    names: frozenset[str] | None

    def payload(self) -> bytes:
        """Encode for the authority's signature: a msgpack map, names in order."""
        fields = {
            "kind": self.KIND,
            "fleet": self.fleet,
            "number": self.number,
            "version": self.version,
            "offers": [[offer.python, offer.arch, offer.digest] for offer in self.offers],
            "names": None if self.names is None else sorted(self.names),
        }
        return bytes(msgpack.packb(fields))

    def meant_for(self, name: str) -> bool:
        """Whether this board is meant."""
        return self.names is None or name in self.names

    def offer(self, python: str, arch: str) -> Offer | None:
        """The bundle for such a board, if there is one."""
        fitting = (one for one in self.offers if (one.python, one.arch) == (python, arch))
        return next(fitting, None)

    @classmethod
    def from_payload(cls, payload: bytes) -> Self:
        """Decode what `payload` gives, and no other bytes.

        Raises:
            IdentityError: anything else.
        """
        try:
            match unpack(payload, strict_map_key=True):
                case {
                    "fleet": str(fleet),
                    "number": int(number),
                    "version": str(version),
                    "offers": list(offers),
                    "names": names,
                }:
                    version_number(version)
                    order = cls(fleet, number, version, _offers(offers), _names(names))
                    # Encoding again settles order, doubles, further keys and other spellings.
                    if 1 <= number <= MAX_UINT32 and order.payload() == payload:
                        return order
        except ValueError as error:
            raise IdentityError(f"damaged: {error}", kind=cls.KIND) from error
        raise IdentityError("not an order in its one form", kind=cls.KIND)


def sealed(payload: bytes, signature: bytes) -> bytes:
    """The envelope of an order, as it goes onto its topic."""
    return pack_envelope(payload, signature)


def read_order(envelope: bytes, authority: Authority) -> UpdateOrder:
    """Read an order that anybody may have written.

    Raises:
        IdentityError: not signed by this authority, of another fleet, or no order.
    """
    try:
        payload, signature = unpack_envelope(envelope)
    except MessageError as error:
        raise IdentityError(error.reason, kind=UpdateOrder.KIND) from error
    authority.verify(UpdateOrder.KIND, payload, signature)
    order = UpdateOrder.from_payload(payload)
    if order.fleet != authority.fleet:
        raise IdentityError(f"of another fleet: {order.fleet}", kind=UpdateOrder.KIND)
    return order


def _offers(entries: list[object]) -> tuple[Offer, ...]:
    offers = []
    for entry in entries:
        match entry:
            case [str(python), str(arch), bytes(digest)] if len(digest) == _DIGEST_BYTES:
                if not (_TAG.fullmatch(python) and _TAG.fullmatch(arch)):
                    raise ValueError("no name of a Python or processor")
                offers.append(Offer(python, arch, digest))
            case _:
                raise ValueError("an offer is none")
    if len(offers) > MAX_BUNDLES:
        raise ValueError(f"{len(offers)} offers")
    return tuple(offers)


def _names(names: object) -> frozenset[str] | None:
    if names is None:
        return None
    if not isinstance(names, list) or len(names) > MAX_NAMES:
        raise ValueError("no names")
    if not all(isinstance(name, str) and is_name(name) for name in names):
        raise ValueError("a name is none")
    return frozenset(names)
