"""Messages of a recording, put together: who took part, tokens with their bodies, lists, releases.

Whoever reads along believes nothing: messages are taken as they are, signed or not, and whatever
does not fit together is left out.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Self

from attrs import field, frozen

from fedring.shared.envelopes import Unverified, open_envelope
from fedring.shared.errors import MessageError
from fedring.shared.messages import Announce, Chunk, Hop, Lap, List, Ready, Release, Roster


@frozen
class Participant:
    """One device in one round: one round key, one mask key, one body.

    Attributes:
        ready: digest of its `ready`.
        announce: digest of the announce that this answers.
        number: its device number.
        round: (epoch, round).
        threshold: its own.
        round_key: the public X25519 key.
    """

    ready: bytes = field(repr=False)
    announce: bytes = field(repr=False)
    number: int
    round: tuple[int, int]
    threshold: int
    round_key: bytes = field(repr=False)


Members = Mapping[int, Participant]
"""A roster: by device number."""


@frozen
class Token:
    """A sum of bodies that went over the broker.

    Attributes:
        participants: whose bodies are in it, as its header says.
        body: the wire form.
    """

    participants: frozenset[Participant]
    body: bytes = field(repr=False)


@frozen
class Asked:
    """A list.

    Attributes:
        digest: of the list.
        roster: digest of the roster.
        participants: those on it, as that roster names them.
    """

    digest: bytes = field(repr=False)
    roster: bytes = field(repr=False)
    participants: frozenset[Participant]


@frozen
class Given:
    """A release.

    Attributes:
        by: whose.
        asked: what for.
        sealed: as it travelled.
    """

    by: Participant
    asked: Asked
    sealed: bytes = field(repr=False)


@frozen
class Evidence:
    """What a recording holds.

    Attributes:
        announces: by digest.
        participants: everybody who was ever ready.
        tokens: those whose chunks are all there.
        lists: by digest.
        releases: each once.
    """

    announces: Mapping[bytes, Announce]
    participants: frozenset[Participant]
    tokens: frozenset[Token]
    lists: Mapping[bytes, Asked]
    releases: frozenset[Given]

    @classmethod
    def of(cls, payloads: Iterable[bytes]) -> Self:
        """Put a recording together.

        Args:
            payloads: everything that was published, in any order; what is no message is left out.
        """
        opened = [one for raw in dict.fromkeys(payloads) if (one := _opened(raw)) is not None]
        announces = {one.digest: one.message for one in opened if isinstance(one.message, Announce)}
        rosters = {
            one.digest: _members(one.message) for one in opened if isinstance(one.message, Roster)
        }
        lists = {
            one.digest: _asked(one.digest, one.message, rosters)
            for one in opened
            if isinstance(one.message, List)
        }
        participants = {
            _participant(one.digest, one.message)
            for one in opened
            if isinstance(one.message, Ready)
        }
        return cls(
            announces,
            frozenset(participants.union(*(members.values() for members in rosters.values()))),
            frozenset(_tokens(opened, rosters)),
            lists,
            frozenset(_given(opened, rosters, lists)),
        )


def _opened(raw: bytes) -> Unverified | None:
    try:
        return open_envelope(raw)
    except MessageError:
        return None


def _participant(digest: bytes, ready: Ready) -> Participant:
    return Participant(
        ready=digest,
        announce=ready.announce,
        number=ready.sender,
        round=(ready.epoch, ready.round),
        threshold=ready.threshold,
        round_key=ready.round_key,
    )


def _members(roster: Roster) -> Members:
    opened = [one for raw in roster.readies if (one := _opened(raw)) is not None]
    return {
        one.message.sender: _participant(one.digest, one.message)
        for one in opened
        if isinstance(one.message, Ready)
    }


def _asked(digest: bytes, message: List, rosters: Mapping[bytes, Members]) -> Asked:
    members = rosters.get(message.roster, {})
    named = frozenset(members[name] for name in message.names if name in members)
    return Asked(digest, message.roster, named)


def _given(
    opened: Iterable[Unverified],
    rosters: Mapping[bytes, Members],
    lists: Mapping[bytes, Asked],
) -> Iterable[Given]:
    for one in opened:
        message = one.message
        if isinstance(message, Release) and (asked := lists.get(message.list)) is not None:
            by = rosters.get(message.roster, {}).get(message.sender)
            if by is not None:
                yield Given(by, asked, message.sealed)


def _tokens(opened: Iterable[Unverified], rosters: Mapping[bytes, Members]) -> Iterable[Token]:
    pieces: dict[bytes, dict[int, bytes]] = defaultdict(dict)
    hops: dict[bytes, Hop] = {}
    for one in opened:
        if isinstance(one.message, Chunk):
            pieces[one.message.hop][one.message.index] = one.message.data
        elif isinstance(one.message, Hop):
            hops[one.digest] = one.message
    for digest, hop in hops.items():
        lap = _opened(hop.lap)
        if lap is None or not isinstance(lap.message, Lap):
            continue
        members = rosters.get(lap.message.roster, {})
        body = b"".join(pieces[digest].get(index, b"") for index in range(hop.n_chunks))
        if len(body) == hop.size and members.keys() >= set(hop.names):
            yield Token(frozenset(members[name] for name in hop.names), body)
