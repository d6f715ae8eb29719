"""One member's part in handing tokens round its ring.

A member adds its own body (always the same stored one) and its name to a token that does not name
it, and hands on to the next member of the lap that the token does not name; the last hands to the
coordinator. It does so chunk by chunk, as they come. When all have come the token is taken, and
kept until the one after its next has it (`passed`), so that the death of a single holder costs a
detour and not the lap. Who is silent for one patience or refuses is gone round; nobody is gone
back to. A token whose source breaks off is taken back from the next as well.

Bodies are masked: whatever the order, the copies and the detours, a token tells nothing to anybody.
The rules here are about speed, memory and good order; secrecy rests on `member` alone.

Source: docs/protocol.md, section 4, step 4.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, TypeAlias

from attrs import define, field

from fedring.shared.effects import Report, Send
from fedring.shared.encryption import Body, Suite
from fedring.shared.envelopes import Signed, Signer, open_envelope, sign
from fedring.shared.errors import BodyError, PeerError, ProtocolError
from fedring.shared.identity import Peer
from fedring.shared.membership import Membership
from fedring.shared.messages import (
    COORDINATOR_NAME,
    COORDINATOR_NUMBER,
    Busy,
    Chunk,
    Hop,
    Lap,
    Message,
    Passed,
    Progress,
    Refused,
    Taken,
    one_line,
    tag,
)
from fedring.shared.tokens import Arrival, Arrivals, Departure, check_hop

Effects: TypeAlias = list[Send | Report]

MAX_ADDITIONS = 3
"""Tokens of one lap that a member adds itself to: room for competing ones, a bound on its work."""
MAX_ARRIVALS = 2
"""Half-received tokens kept at a time: a bound on memory, whatever others send."""
MAX_BROKEN = 3
"""Tokens of one lap that may break off half handed on; after them none leaves that is not whole."""
FULL = f"already added itself to {MAX_ADDITIONS} tokens of this lap"
REPEAT_S = 1.0
"""How often a header is repeated to a receiver without news."""
STALLED_REPEATS = 2
"""Repeats without an advance after which chunks count as lost and go out again."""


@define
class _Holding:
    """A token that this member adds itself to and hands on.

    Attributes:
        about: digest under which whoever gave it is answered (a hop, or the lap itself).
        source: who gave it: a member's number, or the coordinator's for a token begun here.
        departure: its signed bytes; whole when the token is taken.
        targets: who was tried, once each; the last is being waited for.
        taken: a target has said so; now its `passed` is awaited.
        heard_at: last news from the present target.
        advanced_at: when the present target last had more of it than before.
        sent_at: when the header last left.
        busy_since: since when the present target has had no room.
    """

    about: bytes
    source: int
    departure: Departure
    targets: list[int]
    heard_at: float
    sent_at: float
    advanced_at: float
    taken: bool = False
    busy_since: float | None = None


@define(eq=False)
class Relay:
    """Tokens of one ring as one member sees them.

    Attributes:
        membership: the ring.
        coordinator: whose laps count.
        me: own device number.
        body: own masked body; the same for every token.
        suite: adds bodies.
        signer: own identity.
        patience_s: how long a silent neighbour is waited for.
        added: own body went into at least one token, all of it.
    """

    membership: Membership
    coordinator: Peer
    me: int
    body: Body = field(repr=False)
    suite: Suite = field(repr=False)
    signer: Signer
    patience_s: float
    added: bool = False
    _lap: Signed[Lap] | None = None
    _additions: int = 0
    _broken: int = 0
    _arrivals: Arrivals = field(init=False, repr=False)
    _holdings: list[_Holding] = field(factory=list, repr=False)
    _gone: set[bytes] = field(factory=set, repr=False)
    _begun: dict[tuple[int, ...], bytes] = field(factory=dict, repr=False)

    def __attrs_post_init__(self) -> None:
        self._arrivals = Arrivals(MAX_ARRIVALS, self.patience_s)

    @property
    def repeat_s(self) -> float:
        return min(REPEAT_S, self.patience_s / 3)

    @property
    def deadline(self) -> float | None:
        """When `tick` has something to do, if nothing comes before."""
        times = [max(h.sent_at, h.heard_at) + self.repeat_s for h in self._holdings]
        if self._arrivals.deadline is not None:
            times.append(self._arrivals.deadline)
        return min(times, default=None)

    def lap(self, lap: Signed[Lap], now: float) -> Effects:
        """A lap begins; its first member starts the token."""
        self._enter(lap)
        if lap.digest != self._present_lap().digest or lap.message.order[0] != self.me:
            return []
        if self._state_of(lap.digest) is not None:
            return [self._answer(lap.digest, COORDINATOR_NUMBER)]
        body = self.suite.encode_body(self.body)
        holding = self._hold(lap.digest, COORDINATOR_NUMBER, (self.me,), body, now)
        self.added = True
        begun = self._to(holding, holding.departure.begin())
        return [self._answer(lap.digest, COORDINATOR_NUMBER), *begun]

    def hop(self, hop: Signed[Hop], now: float) -> Effects:
        """A member offers a token."""
        message = hop.message
        if self._state_of(hop.digest) is not None:
            return [self._answer(hop.digest, message.sender)]
        if arrival := self._arrivals.get(hop.digest):
            return [self._progress(arrival)]
        try:
            lap = self._check(hop)
        except PeerError as fault:
            return self._refuse(hop.digest, message.sender, fault.reason)
        self._enter(lap)
        if self._additions >= MAX_ADDITIONS:
            return self._refuse(hop.digest, message.sender, FULL)
        if (arrival := self._arrivals.open(hop, now)) is None:
            return [self._say(Busy(**self._tag(), about=hop.digest), message.sender)]
        return [*self._take_back(), self._progress(arrival)]

    def awaits(self, hop_digest: bytes, sender: int) -> bool:
        """Whether a chunk of this hop from this sender would be of use: asked before verifying."""
        arrival = self._arrivals.get(hop_digest)
        return arrival is not None and arrival.hop.message.sender == sender

    def chunk(self, chunk: Signed[Chunk], now: float) -> Effects:
        """A piece of a token.

        Raises:
            ProtocolError: a piece that its hop cannot have.
        """
        arrival = self._arrivals.get(chunk.message.hop)
        if arrival is None or arrival.hop.message.sender != chunk.message.sender:
            return []
        worth_telling = arrival.add(chunk.message, now)
        if arrival.whole:
            return self._take(arrival, now)
        effects: Effects = [self._progress(arrival)] if worth_telling else []
        if arrival.has_more and self._leaves_at_once(chunk.message.hop):
            effects += self._hand_on(arrival, now)
        return effects

    def answered(self, answer: Message, now: float) -> Effects:
        """A target of one of our tokens says how it stands, or the sender of one takes it back."""
        about = getattr(answer, "about", b"")
        if isinstance(answer, Refused) and self.awaits(about, answer.sender):
            self._arrivals.close(about)
            return self._take_back("took it back")
        holding = next((h for h in self._holdings if h.departure.hop.digest == about), None)
        if holding is None or answer.sender not in holding.targets:
            return []
        present = answer.sender == holding.targets[-1]
        match answer:
            case Taken() | Passed() if not holding.departure.whole:
                return []  # nobody can have what is not even here
            case Taken():
                return self._taken_over(holding, answer.sender, now)
            case Passed():
                return self._forget(holding)
            case Progress(chunks=chunks) if present and not holding.taken:
                holding.heard_at = now
                holding.busy_since = None
                advanced = chunks > holding.departure.acknowledged
                stalled = now >= holding.advanced_at + STALLED_REPEATS * self.repeat_s
                if advanced or stalled:
                    holding.advanced_at = now
                return self._to(holding, holding.departure.progressed(chunks, stalled=stalled))
            case Busy() if present:
                holding.heard_at = now
                holding.busy_since = now if holding.busy_since is None else holding.busy_since
            case Refused() if answer.sender == COORDINATOR_NUMBER:
                return self._forget(holding)  # whoever is last has no use for it, so nobody has
            case Refused() if present:
                return self._go_round(holding, now)
        return []

    def tick(self, now: float, alive_at: float) -> Effects:
        """Time has passed.

        Args:
            now: the clock.
            alive_at: when our own connection was last proven alive. Whoever was to speak by then
                and has not is silent; what came since may still be unread.
        """
        self._arrivals.drop_neglected(alive_at)
        effects = self._take_back()
        for holding in list(self._holdings):
            silent = alive_at >= holding.heard_at + self.patience_s
            busy = holding.busy_since is not None and now >= holding.busy_since + self.patience_s
            if (silent or busy) and holding.targets[-1] != COORDINATOR_NUMBER:
                effects += self._go_round(holding, now)
            elif now >= max(holding.sent_at, holding.heard_at) + self.repeat_s:
                holding.sent_at = now
                effects += self._to(holding, [holding.departure.hop.raw])
        return effects

    def reconnected(self, now: float) -> Effects:
        """Our connection is back: silence counts anew, headers go out again."""
        effects: Effects = []
        for holding in self._holdings:
            holding.heard_at = holding.sent_at = now
            holding.advanced_at = -math.inf  # what was under way may be lost: go by the answer
            effects += self._to(holding, [holding.departure.hop.raw])
        return effects

    def _present_lap(self) -> Signed[Lap]:
        if self._lap is None:
            raise RuntimeError("no lap has begun")
        return self._lap

    def _is_later(self, lap: Signed[Lap]) -> bool:
        return self._lap is None or lap.message.lap > self._lap.message.lap

    def _enter(self, lap: Signed[Lap]) -> None:
        """Go over to a later lap; tokens of the one before are of no use any more."""
        if not self._is_later(lap):
            return
        self._lap = lap
        self._additions = self._broken = 0
        self._arrivals.clear()
        self._holdings.clear()
        self._gone.clear()
        self._begun.clear()

    def _check(self, hop: Signed[Hop]) -> Signed[Lap]:
        """Check that a token can be taken; gives its lap, which may be a later one."""
        message = hop.message
        lap = self._lap
        if lap is None or message.lap != lap.raw:
            lap = open_envelope(message.lap).verified_by(self.coordinator, Lap)
            self.check_lap(lap)
            # By digest: whoever has one signature of ECDSA can make another of it.
            if not self._is_later(lap) and lap.digest != self._present_lap().digest:
                raise ProtocolError("token of an earlier lap")
        check_hop(message, lap.message, self.suite.body_bytes)
        order = lap.message.order
        if self.me in message.names:
            raise ProtocolError("this device is in the token already")
        if order.index(self.me) < order.index(message.sender):
            raise ProtocolError("this device is not after the sender in the lap")
        if not self._is_later(lap) and self._has_another(hop):
            raise ProtocolError("another token of the same names in this lap")
        return lap

    def _has_another(self, hop: Signed[Hop]) -> bool:
        """Whether there is a token of these names that is not this one.

        An honest member makes one. Two would leave here under one header, with bytes that do not
        fit together; a sender can make them by two signatures of the lap.
        """
        begun = self._begun.get(hop.message.names, hop.digest)
        arriving = self._arrivals.of(hop.message.names)
        return begun != hop.digest or arriving is not None

    def check_lap(self, lap: Signed[Lap]) -> None:
        """Check that a verified lap is one of this ring, and of this device.

        Laps of one share a number: a member that shows its own to others must not keep them from
        theirs.

        Raises:
            ProtocolError: another roster, doubled or foreign names, or without this device.
        """
        message = lap.message
        if message.roster != self.membership.digest:
            raise ProtocolError("lap of another roster", kind="lap")
        if len(set(message.order)) != len(message.order):
            raise ProtocolError("lap with doubled names", kind="lap")
        if foreign := set(message.order) - set(self.membership.members):
            raise ProtocolError(f"lap with foreign name {min(foreign)}", kind="lap")
        if self.me not in message.order:
            raise ProtocolError("lap without this device", kind="lap")

    def _leaves_at_once(self, about: bytes) -> bool:
        """Whether pieces of a token that is not whole yet go out."""
        if not self.suite.in_pieces or self._broken >= MAX_BROKEN:
            return False
        return self._additions < MAX_ADDITIONS or self._holding(about) is not None

    def _take(self, arrival: Arrival, now: float) -> Effects:
        """A token is whole: what is left of it goes out."""
        hop = arrival.hop
        self._arrivals.close(hop.digest)
        if self._additions >= MAX_ADDITIONS and self._holding(hop.digest) is None:
            return self._refuse(hop.digest, hop.message.sender, FULL)
        try:
            handed_on = self._hand_on(arrival, now)
        except BodyError as fault:
            return self._refuse(hop.digest, hop.message.sender, fault.reason)
        self.added = True
        return [self._answer(hop.digest, hop.message.sender), *handed_on]

    def _hand_on(self, arrival: Arrival, now: float) -> Effects:
        """Add the own body to what has come of a token, and send it."""
        start, piece = arrival.take()
        piece = self.suite.add_piece(piece, self.body, start)
        hop = arrival.hop
        holding = self._holding(hop.digest)
        if holding is None:
            names = (*hop.message.names, self.me)
            holding = self._hold(hop.digest, hop.message.sender, names, piece, now)
            return self._to(holding, holding.departure.begin())
        if holding.departure.is_idle:
            holding.advanced_at = now  # there was nothing that the receiver could have told of
        holding.departure.add(piece)
        return self._to(holding, holding.departure.onward())

    def _hold(
        self, about: bytes, source: int, names: tuple[int, ...], piece: bytes, now: float
    ) -> _Holding:
        """Begin a token of which this piece is here."""
        self._additions += 1
        self._begun[names[:-1]] = about
        header = Hop(
            **self._tag(), lap=self._present_lap().raw, names=names, size=self.suite.body_bytes
        )
        departure = Departure(sign(header, self.signer), piece, self.signer)
        holding = _Holding(about, source, departure, [self._after(self.me)], now, now, now)
        self._holdings.append(holding)
        return holding

    def _take_back(self, why: str = "broke off") -> Effects:
        """Give up the tokens whose rest nobody sends any more, and tell the next.

        Args:
            why: what the source did; one that took it back itself may only have passed that on.
        """
        effects: Effects = []
        for holding in list(self._holdings):
            if holding.departure.whole or self._arrivals.get(holding.about) is not None:
                continue
            self._holdings.remove(holding)
            self._additions -= 1
            self._broken += 1
            reason = f"{self._name(holding.source)} {why}"
            digest = holding.departure.hop.digest
            taken_back = Refused(**self._tag(), about=digest, reason=reason)
            effects.append(self._say(taken_back, holding.targets[-1]))
            effects.append(Report("token taken back", {"reason": reason}))
        return effects

    def _holding(self, about: bytes) -> _Holding | None:
        return next((one for one in self._holdings if one.about == about), None)

    def _after(self, number: int) -> int:
        """The next of the lap after this one; after the last the coordinator."""
        order = self._present_lap().message.order
        place = order.index(number) + 1
        return order[place] if place < len(order) else COORDINATOR_NUMBER

    def _go_round(self, holding: _Holding, now: float) -> Effects:
        passed_over = holding.targets[-1]
        if passed_over == COORDINATOR_NUMBER:
            return []
        target = self._after(passed_over)
        if target in holding.targets:
            holding.targets.remove(target)
        holding.targets.append(target)
        holding.taken = False
        holding.busy_since = None
        holding.heard_at = holding.sent_at = holding.advanced_at = now
        note = Report("went round", {"member": passed_over, "next": target})
        return [note, *self._to(holding, holding.departure.begin())]

    def _taken_over(self, holding: _Holding, by: int, now: float) -> Effects:
        """`by` has the token now; what was tried after it need not be waited for."""
        holding.heard_at = now
        holding.busy_since = None
        if holding.taken and holding.targets[-1] == by:
            return []
        holding.targets.remove(by)
        holding.targets.append(by)
        holding.taken = True
        return self._tell_source(holding)

    def _forget(self, holding: _Holding) -> Effects:
        self._holdings.remove(holding)
        self._gone.add(holding.about)
        self._arrivals.close(holding.about)
        return [] if holding.taken else self._tell_source(holding)

    def _tell_source(self, holding: _Holding) -> Effects:
        if holding.source == COORDINATOR_NUMBER:
            return []
        return [self._say(Passed(**self._tag(), about=holding.about), holding.source)]

    def _state_of(self, about: bytes) -> type[Taken] | type[Passed] | None:
        if about in self._gone:
            return Passed
        holding = self._holding(about)
        if holding is None or not holding.departure.whole:
            return None
        return Passed if holding.taken else Taken

    def _answer(self, about: bytes, to: int) -> Send:
        state = self._state_of(about) or Taken
        if to == COORDINATOR_NUMBER:
            state = Taken
        return self._say(state(**self._tag(), about=about), to)

    def _progress(self, arrival: Arrival) -> Send:
        about = arrival.hop.digest
        answer = Progress(**self._tag(), about=about, chunks=arrival.chunks)
        return self._say(answer, arrival.hop.message.sender)

    def _refuse(self, about: bytes, to: int, reason: str) -> Effects:
        note = Report("token refused", {"from": self._name(to), "reason": reason})
        return [self._say(Refused(**self._tag(), about=about, reason=one_line(reason)), to), note]

    def _say(self, message: Message, to: int) -> Send:
        return Send(self._name(to), sign(message, self.signer).raw)

    def _to(self, holding: _Holding, pieces: Iterator[bytes] | list[bytes]) -> Effects:
        name = self._name(holding.targets[-1])
        return [Send(name, piece) for piece in pieces]

    def _name(self, number: int) -> str:
        if number == COORDINATOR_NUMBER:
            return COORDINATOR_NAME
        return self.membership.members[number].peer.name

    def _tag(self) -> dict[str, Any]:
        roster = self.membership.roster.message
        return tag(roster.fleet, roster.epoch, roster.round, self.me)
