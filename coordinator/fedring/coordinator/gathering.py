"""The tokens of one lap as they reach the coordinator: received, answered, the best one kept.

Members that went round a silent one may hand in several tokens, which share contributors and can
therefore not be added. A token whose members would all release for it is better than any other,
and of two such the longer one. The first of that kind starts the wait for a better one.

Source: docs/protocol.md, section 4, step 4.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from attrs import field, frozen

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
        lap: as it was sent out.
        began: when; the clock.
        thresholds: of the members by device number, as their `ready` says.
        suite: decodes bodies.
        patience_s: how long an arrival may be silent, and how long a better token is waited for.
        tag: makes the fields that open every message of this ring.

    Attributes:
        taken: whether the first member of the lap has shown that it has it.
        best: the token to ask a sum for, or None.
        choose_at: when to stop waiting for a better one; None while none is enough.
    """

    def __init__(
        self,
        lap: Signed[Lap],
        *,
        began: float,
        thresholds: Mapping[int, int],
        suite: Suite,
        patience_s: float,
        tag: Callable[[], dict[str, Any]],
    ) -> None:
        self.lap = lap
        self.began = began
        self.taken = False
        self.best: Token | None = None
        self.choose_at: float | None = None
        self._thresholds = thresholds
        self._suite = suite
        self._patience_s = patience_s
        self._tag = tag
        self._is_open = True
        self._arrivals = Arrivals(MAX_ARRIVALS, patience_s)
        self._whole: dict[bytes, int] = {}

    @property
    def order(self) -> tuple[int, ...]:
        """Device numbers in the order of the lap."""
        return self.lap.message.order

    @property
    def complete(self) -> bool:
        """Whether everybody of this lap is in the best token."""
        return self.best is not None and len(self.best.names) == len(self.order)

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

    def hop(self, hop: Signed[Hop], now: float) -> Passed | Progress | Busy | Refused:
        """A member offers a token; what to answer."""
        message = hop.message
        if hop.digest in self._whole:
            return Passed(**self._tag(), about=hop.digest)
        if arrival := self._arrivals.get(hop.digest):
            return self._progress(arrival)
        try:
            if not self._is_open or not self._is_own(message.lap):
                raise ProtocolError("that lap is over")
            check_hop(message, self.lap.message, self._suite.body_bytes)
            if list(self._whole.values()).count(message.sender) >= MAX_TOKENS_BY_SENDER:
                raise ProtocolError("too many tokens from one member")
        except PeerError as fault:
            return self._refused(hop.digest, fault.reason)
        if (arrival := self._arrivals.open(hop, now)) is None:
            return Busy(**self._tag(), about=hop.digest)
        self.taken = True
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
            return self._progress(arrival) if worth_telling else None
        hop = arrival.hop
        self._arrivals.close(hop.digest)
        try:
            body = self._suite.decode_body(arrival.body())
        except BodyError as fault:
            return self._refused(hop.digest, fault.reason)
        self._whole[hop.digest] = hop.message.sender
        names = hop.message.names
        enough = all(self._thresholds[name] < len(names) for name in names)
        token = Token(names, body, enough)
        if token.beats(self.best):
            self.best = token
        if enough and self.choose_at is None:
            self.choose_at = now + self._patience_s
        return Passed(**self._tag(), about=hop.digest)

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

    def _is_own(self, raw: bytes) -> bool:
        """Whether this envelope holds the lap, under our signature or one that was made of it."""
        if raw == self.lap.raw:
            return True
        payload, _ = unpack_envelope(raw)
        return payload == self.lap.payload

    def _progress(self, arrival: Arrival) -> Progress:
        return Progress(**self._tag(), about=arrival.hop.digest, chunks=arrival.chunks)

    def _refused(self, about: bytes, reason: str) -> Refused:
        return Refused(**self._tag(), about=about, reason=one_line(reason))
