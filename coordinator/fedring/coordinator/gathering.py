"""The tokens of one lap as they reach the coordinator: received, answered, the best one kept.

Members that went round a silent one may hand in several tokens, which share contributors and can
therefore not be added. A token whose members would all release for it is better than any other,
and of two such the longer one. The first of that kind starts the wait for a better one.

When a token got lost, each member is given a lap of its own and hands in its own body. Those share
nobody: they are added up, as many as would all release for the sum, and no member can lose what
others have given it.

Source: docs/protocol.md, section 4, step 4.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from attrs import field, frozen

from fedring.coordinator.own_bodies import OwnBodies
from fedring.shared.encryption import Body, Suite
from fedring.shared.envelopes import Signed, unpack_envelope
from fedring.shared.errors import BodyError, PeerError, ProtocolError
from fedring.shared.messages import Busy, Chunk, Hop, Lap, Passed, Progress, Refused, one_line
from fedring.shared.tokens import Arrival, Arrivals, check_hop

MAX_ARRIVALS = 4
"""Half-received tokens of one ring at a time: a bound on memory, whatever members send."""
MAX_TOKENS_BY_SENDER = 3
"""Whole tokens of one lap taken from one member."""


@frozen
class Token:
    """A token that came in whole.

    Attributes:
        names: device numbers of its contributors, in the order of the lap.
        body: sum of their bodies.
        enough: whether each of them would release for a list of them all.
    """

    names: tuple[int, ...]
    body: Body = field(repr=False)
    enough: bool

    def beats(self, other: Token | None) -> bool:
        """Whether this is the one to keep."""
        return other is None or (self.enough, len(self.names)) > (other.enough, len(other.names))


class Gathering:
    """What comes in during one lap of one ring.

    Args:
        laps: as they were sent out: one through all members, or one for each of them.
        began: when; the clock.
        thresholds: of the members by device number, as their `ready` says.
        suite: decodes bodies.
        patience_s: how long an arrival may be silent, and how long a better token is waited for.
        tag: makes the fields that open every message of this ring.

    Attributes:
        awaited: members that were to begin a token and have not shown that they did.
        best: the token to ask a sum for, or None.
        choose_at: when to stop waiting for a better one; None while none is enough.
    """

    def __init__(
        self,
        laps: Sequence[Signed[Lap]],
        *,
        began: float,
        thresholds: Mapping[int, int],
        suite: Suite,
        patience_s: float,
        tag: Callable[[], dict[str, Any]],
    ) -> None:
        self.began = began
        self.awaited = {lap.message.order[0] for lap in laps}
        self.best: Token | None = None
        self.choose_at: float | None = None
        self._laps = {lap.payload: lap for lap in laps}
        self._thresholds = thresholds
        self._suite = suite
        self._patience_s = patience_s
        self._tag = tag
        self._is_open = True
        self._arrivals = Arrivals(MAX_ARRIVALS, patience_s)
        self._whole: dict[bytes, int] = {}
        self._own = OwnBodies(thresholds, suite)

    @property
    def number(self) -> int:
        """Of the lap, 1 to 3."""
        return next(iter(self._laps.values())).message.lap

    @property
    def is_shared(self) -> bool:
        """Whether there is one lap for all, and not one for each."""
        return len(self._laps) == 1

    @property
    def members(self) -> tuple[int, ...]:
        """Device numbers of all that take part."""
        return tuple(name for lap in self._laps.values() for name in lap.message.order)

    @property
    def complete(self) -> bool:
        """Whether everybody of this lap is in the best token."""
        return self.best is not None and len(self.best.names) == len(self.members)

    @property
    def is_lost(self) -> bool:
        """Whether a token was begun, and none has come that may be opened."""
        return not self.awaited and (self.best is None or not self.best.enough)

    def laps_of(self, number: int) -> list[bytes]:
        """The laps in which a member takes part, as envelopes."""
        return [lap.raw for lap in self._laps.values() if number in lap.message.order]

    @property
    def deadline(self) -> float | None:
        """When an arrival or the wait for a better token ends, if nothing comes before."""
        times = (self.choose_at, self._arrivals.deadline)
        return min((time for time in times if time is not None), default=None)

    @property
    def arriving(self) -> int:
        """How many tokens are half received."""
        return len(self._arrivals)

    @property
    def received(self) -> int:
        """How many tokens came in whole."""
        return len(self._whole)

    @property
    def handed_in(self) -> frozenset[int]:
        """Who gave us the best token: its last name, or each of those that came by themselves."""
        if self.best is None:
            return frozenset()
        return frozenset(self.best.names[-1:] if self.is_shared else self.best.names)

    @property
    def median_s(self) -> float:
        """How long the quicker half of those took who handed in their own bodies."""
        came_at = [*self._own.came_at.values()]
        return came_at[(len(came_at) - 1) // 2] - self.began

    def begun(self, about: bytes, by: int) -> None:
        """A member says that it has taken what has this digest."""
        if any(lap.digest == about and lap.message.order[0] == by for lap in self._laps.values()):
            self.awaited.discard(by)

    def hop(self, hop: Signed[Hop], now: float) -> Passed | Progress | Busy | Refused:
        """A member offers a token; what to answer."""
        message = hop.message
        if hop.digest in self._whole:
            return Passed(**self._tag(), about=hop.digest)
        if arrival := self._arrivals.get(hop.digest):
            return self._progress(arrival)
        try:
            lap = self._own_lap(message.lap) if self._is_open else None
            if lap is None:
                raise ProtocolError("that lap is over")
            check_hop(message, lap.message, self._suite.body_bytes)
            if list(self._whole.values()).count(message.sender) >= MAX_TOKENS_BY_SENDER:
                raise ProtocolError("too many tokens from one member")
        except PeerError as fault:
            return self._refused(hop.digest, fault.reason)
        if (arrival := self._arrivals.open(hop, now)) is None:
            return Busy(**self._tag(), about=hop.digest)
        self.awaited -= {lap.message.order[0]} & {*message.names}
        return self._progress(arrival)

    def awaits(self, hop_digest: bytes, sender: int) -> bool:
        """Whether a chunk of this hop is of any use; before its signature is looked at."""
        arrival = self._arrivals.get(hop_digest)
        return arrival is not None and arrival.hop.message.sender == sender

    def chunk(self, chunk: Chunk, now: float) -> Passed | Progress | Refused | None:
        """A part of a token that `awaits`; what to answer, if anything.

        Raises:
            PeerError: no chunk of this hop; nothing has changed.
        """
        arrival = self._arrivals.get(chunk.hop)
        if arrival is None:
            return None
        worth_telling = arrival.add(chunk, now)
        if not arrival.whole:
            if not self.is_shared and self.choose_at is not None:
                self.choose_at = now + self._patience_s
            return self._progress(arrival) if worth_telling else None
        hop = arrival.hop
        self._arrivals.close(hop.digest)
        try:
            body = self._suite.decode_body(arrival.body())
        except BodyError as fault:
            return self._refused(hop.digest, fault.reason)
        self._whole[hop.digest] = hop.message.sender
        token = self._token(hop.message.names, body, now)
        if token is not None and token.beats(self.best):
            self.best = token
        if token is not None and token.enough and (self.choose_at is None or not self.is_shared):
            self.choose_at = now + self._patience_s
        return Passed(**self._tag(), about=hop.digest)

    def taken_back(self, hop_digest: bytes, by: int) -> None:
        """The sender of a token says that it has not got the rest, and never will."""
        if self.awaits(hop_digest, by):
            self._arrivals.close(hop_digest)

    def drop_neglected(self, now: float) -> None:
        """Give up arrivals that have been silent for too long."""
        self._arrivals.drop_neglected(now)

    def postpone(self, outage_s: float) -> None:
        """The time without our connection counts for nobody."""
        if self.choose_at is not None:
            self.choose_at += outage_s

    def close(self) -> None:
        """Take no more tokens; those that came in whole are still answered."""
        self._is_open = False
        self.choose_at = None
        self._arrivals.clear()

    def _token(self, names: tuple[int, ...], body: Body, now: float) -> Token | None:
        """What came in; of bodies that came one by one, what can be opened of all so far."""
        if self.is_shared:
            enough = all(self._thresholds[name] < len(names) for name in names)
            return Token(names, body, enough)
        self._own.add(names[0], body, now)
        names = self._own.names
        return Token(names, self._own.total(), enough=True) if names else None

    def _own_lap(self, raw: bytes) -> Signed[Lap] | None:
        """The lap in this envelope, under our signature or one that was made of it."""
        payload, _ = unpack_envelope(raw)
        return self._laps.get(payload)

    def _progress(self, arrival: Arrival) -> Progress:
        return Progress(**self._tag(), about=arrival.hop.digest, chunks=arrival.chunks)

    def _refused(self, about: bytes, reason: str) -> Refused:
        return Refused(**self._tag(), about=about, reason=one_line(reason))
