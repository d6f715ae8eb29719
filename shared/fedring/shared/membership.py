"""Who is in a ring: checking `ready` messages and the roster made of them.

Both sides check the same things with the same code: the coordinator before it forms a ring, every
member before it believes in one.

Source: docs/protocol.md, section 4, steps 2 and 3; section 5.
"""

from __future__ import annotations

from collections.abc import Mapping

from attrs import field, frozen

from fedring.shared.envelopes import Signed, open_envelope
from fedring.shared.errors import MessageError, ProtocolError
from fedring.shared.identity import Authority, Peer, Role
from fedring.shared.messages import MAX_READY_BYTES, Announce, Ready, Roster
from fedring.shared.pairwise import check_public_key


@frozen
class Joined:
    """One device that is ready, with what proves it.

    Attributes:
        peer: who it is.
        ready: its signed message.
    """

    peer: Peer
    ready: Signed[Ready]

    @property
    def number(self) -> int:
        return self.peer.number


@frozen
class Membership:
    """A checked roster.

    Attributes:
        roster: the signed message.
        members: by device number.
    """

    roster: Signed[Roster]
    members: Mapping[int, Joined] = field(repr=lambda members: str(sorted(members)))

    @property
    def digest(self) -> bytes:
        return self.roster.digest

    def round_keys(self, names: tuple[int, ...]) -> dict[int, bytes]:
        """The X25519 round keys of these members, by device number."""
        return {name: self.members[name].ready.message.round_key for name in names}


def read_ready(
    raw: bytes, announce: Signed[Announce], authority: Authority, revoked: frozenset[int]
) -> Joined:
    """Check one `ready` against the announce it must answer.

    Raises:
        MessageError: it is no `ready`, or its tag is another round's.
        IdentityError: its certificate or signature does not hold.
        ProtocolError: revoked, another announce, a round key that no honest device makes.
    """
    if len(raw) > MAX_READY_BYTES:
        raise MessageError(f"a ready of {len(raw)} bytes, more than {MAX_READY_BYTES}")
    unverified = open_envelope(raw)
    message = unverified.message
    if not isinstance(message, Ready):
        raise MessageError(f"a {message.kind} where a ready was expected", kind=message.kind)
    peer = authority.peer(message.certificate)
    ready = unverified.verified_by(peer, Ready)
    if peer.role is not Role.DEVICE:
        raise ProtocolError(f"{peer.name} is no device", sender=peer.name, kind=message.kind)
    if peer.number in revoked:
        raise ProtocolError(f"{peer.name} is revoked", sender=peer.name, kind=message.kind)
    expected = announce.message
    if (message.epoch, message.round) != (expected.epoch, expected.round):
        raise ProtocolError(
            f"{peer.name} is ready for round {message.epoch}/{message.round}, "
            f"this is {expected.epoch}/{expected.round}",
            sender=peer.name,
            kind=message.kind,
        )
    if message.announce != announce.digest:
        raise ProtocolError(
            f"{peer.name} answers another announce of this round",
            sender=peer.name,
            kind=message.kind,
        )
    try:
        check_public_key(message.round_key)
    except ProtocolError as fault:
        raise ProtocolError(
            f"{peer.name}'s {fault.reason}", sender=peer.name, kind=message.kind
        ) from fault
    return Joined(peer, ready)


def read_roster(
    roster: Signed[Roster],
    announce: Signed[Announce],
    authority: Authority,
    revoked: frozenset[int],
) -> Membership:
    """Check a roster: every member certified, not revoked, distinct, and of one announce.

    Raises:
        MessageError, IdentityError, ProtocolError: naming the member at fault.
    """
    if roster.message.announce != announce.digest:
        raise ProtocolError("roster is of another announce", kind="roster")
    members: dict[int, Joined] = {}
    keys: set[bytes] = set()
    names: set[str] = set()  # a board that was certified twice is one board
    for raw in roster.message.readies:
        joined = read_ready(raw, announce, authority, revoked)
        if joined.number in members:
            raise ProtocolError(f"roster holds number {joined.number} twice", kind="roster")
        if joined.peer.name in names:
            raise ProtocolError(f"roster holds the name {joined.peer.name} twice", kind="roster")
        key = joined.ready.message.round_key
        if key in keys:
            raise ProtocolError(f"{joined.peer.name} has the round key of another", kind="roster")
        members[joined.number] = joined
        keys.add(key)
        names.add(joined.peer.name)
    return Membership(roster, members)
