"""One ring as the coordinator runs it: roster, laps, call, list, releases.

The coordinator is no party to the secrets of a ring: it names the members, lets a token go round,
asks whether all in it are still there, and asks each once for its release. It may be slow, deaf or
restarted at any time; a ring then ends void and costs that round's contributions, nothing else.

A lap is repeated, up to three times, as long as nobody has been asked for a release. After the
list there is no way back: all releases come, or the ring is void.

Source: docs/protocol.md, section 4, steps 3 to 6.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, TypeAlias

from attrs import frozen

from fedring.coordinator.sums import RingSum
from fedring.shared.effects import Report, Send
from fedring.shared.encryption import Body, Suite
from fedring.shared.envelopes import Signed, Unverified, sign, unpack_envelope
from fedring.shared.errors import BodyError, PeerError, ProtocolError
from fedring.shared.identity import Identity, Peer
from fedring.shared.membership import Joined, Membership
from fedring.shared.messages import (
    COORDINATOR_NUMBER,
    MAX_LAPS,
    Announce,
    Busy,
    Call,
    Chunk,
    Here,
    Hop,
    Lap,
    List,
    Message,
    Passed,
    Progress,
    Refused,
    Release,
    Roster,
    Taken,
    one_line,
    tag,
)
from fedring.shared.pairwise import RoundKey, unseal
from fedring.shared.tokens import Arrival, Arrivals, check_hop

Effects: TypeAlias = list[Send | Report]

MAX_ARRIVALS = 4
"""Half-received tokens of one ring at a time: a bound on memory, whatever members send."""
MAX_TOKENS_BY_SENDER = 3
"""Whole tokens of one lap taken from one member."""
REPEAT_S = 1.0
"""How often an unanswered question is repeated within one patience."""


def _is(raw: bytes, lap: Signed[Lap]) -> bool:
    """Whether this envelope holds the lap, under our signature or one that was made of it."""
    if raw == lap.raw:
        return True
    payload, _ = unpack_envelope(raw)
    return payload == lap.payload


class Stage(StrEnum):
    """Where a ring stands."""

    LAP = "lap"
    CALL = "call"
    LIST = "list"
    ENDED = "ended"


@frozen
class Void:
    """A ring that ended without a sum.

    Attributes:
        ring: its number in the round.
        reason: one line for people.
        members: how many it had.
        unreleased: who owed a release and gave none, or a bad one, as the coordinator itself saw
            it; whoever refused it openly is not counted.
    """

    ring: int
    reason: str
    members: int
    unreleased: tuple[int, ...] = ()


class Ring:
    """The state machine of one ring.

    Args:
        number: of the ring within its round, >= 1.
        members: who is in it; each `ready` is verified.
        announce: what they answered.
        exchange_key: the coordinator's key of this announce.
        identity: the coordinator.
        suite: adds and checks bodies and releases.

    Attributes:
        outcome: how the ring ended, or None while it runs.
    """

    def __init__(
        self,
        *,
        number: int,
        members: tuple[Joined, ...],
        announce: Signed[Announce],
        exchange_key: RoundKey,
        identity: Identity,
        suite: Suite,
    ) -> None:
        self.number = number
        self.outcome: RingSum | Void | None = None
        self._announce = announce
        self._terms = announce.message.ring
        self._exchange_key = exchange_key
        self._identity = identity
        self._suite = suite
        readies = tuple(joined.ready.raw for joined in members)
        roster = Roster(**self._tag(), announce=announce.digest, ring=number, readies=readies)
        self._membership = Membership(
            sign(roster, identity), {joined.number: joined for joined in members}
        )
        self._alive = {joined.number for joined in members}
        self.stage = Stage.LAP
        self._lap: Signed[Lap] | None = None
        self._lap_taken = False
        self._arrivals = Arrivals(MAX_ARRIVALS, self._terms.patience_s)
        self._whole: dict[bytes, int] = {}
        self._best: tuple[tuple[int, ...], Body] | None = None
        self._choose_at: float | None = None
        self._question: dict[int, bytes] = {}
        self._repeat_at = 0.0
        self._begun_at = self._asked_at = self._alive_at = 0.0
        self._deadline = 0.0
        self._first_by = 0.0
        self._lap_began = 0.0
        self._called: Signed[Call] | None = None
        self._list: Signed[List] | None = None
        self._releases: dict[int, bytes] = {}

    @property
    def members(self) -> tuple[int, ...]:
        """Device numbers of all members, ascending."""
        return tuple(sorted(self._membership.members))

    @property
    def deadline(self) -> float | None:
        """When `tick` has something to do, if nothing comes before."""
        if self.stage is Stage.ENDED:
            return None
        times = [self._deadline, self._repeat_at]
        if self._first_is_awaited:
            times.append(self._first_by)
        if self._choose_at is not None:
            times.append(self._choose_at)
        if self._arrivals.deadline is not None:
            times.append(self._arrivals.deadline)
        return min(times)

    def start(self, now: float) -> Effects:
        """Send the roster and begin the first lap."""
        note = Report("ring formed", {"ring": self.number, "members": list(self.members)})
        roster = self._membership.roster.raw
        return [note, *(self._send(name, roster) for name in self.members), *self._next_lap(now)]

    def speaks_for(self, number: int, source: str) -> Peer:
        """The member that a message claims to come from.

        Raises:
            ProtocolError: the topic's writer is somebody else.
        """
        peer = self._membership.members[number].peer
        if peer.name != source:
            raise ProtocolError(f"speaks as {peer.name}", sender=source)
        return peer

    def receive(self, peer: Peer, unverified: Unverified, now: float) -> Effects:
        """A member of this ring writes.

        Raises:
            PeerError: what a member must not send; nothing has changed.
        """
        message = unverified.message
        if self.stage is Stage.ENDED and not isinstance(message, Hop):
            return []
        match message:
            case Chunk(hop=hop, sender=sender):
                arrival = self._arrivals.get(hop)
                if arrival is None or arrival.hop.message.sender != sender:
                    return []
                return self._chunk(arrival, unverified.verified_by(peer, Chunk).message, now)
            case Hop():
                return self._hop(unverified.verified_by(peer, Hop), now)
            case Taken():
                taken = unverified.verified_by(peer, Taken).message
                if self._lap and taken.about == self._lap.digest:
                    self._lap_taken |= taken.sender == self._lap.message.order[0]
            case Here():
                return self._here(unverified.verified_by(peer, Here).message, now)
            case Release():
                return self._release(peer, unverified.verified_by(peer, Release).message)
            case Refused():
                return self._refused(peer, unverified.verified_by(peer, Refused).message, now)
        return []

    def lost(self, number: int, now: float) -> Effects:
        """A member is gone for this round and has said so, or restarted."""
        self._alive.discard(number)
        if number not in self._question:
            return []
        if self.stage is Stage.CALL:
            return self._next_lap(now)
        if self.stage is Stage.LIST:
            name = self._membership.members[number].peer.name
            return self._void(f"{name} left between list and release")
        return []

    def tick(self, now: float, alive_at: float) -> Effects:
        """Time has passed.

        Args:
            now: the clock.
            alive_at: when our own connection was last proven alive; silence counts only then.
        """
        self._alive_at = max(self._alive_at, alive_at)
        self._arrivals.drop_neglected(now)
        if self.stage is Stage.ENDED:
            return []
        if self._choose_at is not None and now >= self._choose_at:
            return self._call(now)
        if alive_at > self._asked_at:
            if self._first_is_awaited and now >= self._first_by:
                return self._next_lap(now)
            if now >= self._deadline:
                return self._too_late(now)
        if now >= self._repeat_at:
            return self._repeat(now)
        return []

    def reconnected(self, now: float) -> Effects:
        """Our connection is back: ask again; the time without it counts for nobody."""
        if self.stage is Stage.ENDED:
            return []
        outage_s = max(0.0, now - max(self._alive_at, self._begun_at))
        self._alive_at = now
        self._deadline += outage_s
        self._first_by = now + self._terms.patience_s
        if self._choose_at is not None:
            self._choose_at += outage_s
        return self._repeat(now)

    # -- laps ------------------------------------------------------------------------------

    def _next_lap(self, now: float) -> Effects:
        number = self._lap.message.lap + 1 if self._lap else 1
        highest = max(
            (self._membership.members[name].ready.message.threshold for name in self._alive),
            default=0,
        )
        if number > MAX_LAPS:
            return self._void(f"no complete token in {MAX_LAPS} laps")
        if len(self._alive) <= highest:
            return self._void(
                f"{len(self._alive)} of {len(self.members)} members left, "
                f"one of them answers above {highest}"
            )
        alive = sorted(self._alive)
        start = (number - 1) % len(alive)
        order = tuple(alive[start:] + alive[:start])
        lap = Lap(**self._tag(), roster=self._membership.digest, lap=number, order=order)
        self._lap = sign(lap, self._identity)
        self._lap_taken = False
        self._arrivals.clear()
        self._whole.clear()
        self._best = self._choose_at = None
        self.stage = Stage.LAP
        self._ask(dict.fromkeys(order, self._lap.raw), self._terms.lap_s, now)
        self._first_by = now + self._terms.patience_s
        self._lap_began = now
        note = Report("lap", {"ring": self.number, "lap": number, "members": len(order)})
        return [note, *(self._send(name, self._lap.raw) for name in order)]

    def _hop(self, hop: Signed[Hop], now: float) -> Effects:
        message = hop.message
        if hop.digest in self._whole:
            return [self._answer(message.sender, Passed(**self._tag(), about=hop.digest))]
        if arrival := self._arrivals.get(hop.digest):
            return [self._progress(arrival)]
        try:
            if self.stage is not Stage.LAP or not self._lap or not _is(message.lap, self._lap):
                raise ProtocolError("that lap is over")
            check_hop(message, self._lap.message, self._suite.body_bytes)
            if list(self._whole.values()).count(message.sender) >= MAX_TOKENS_BY_SENDER:
                raise ProtocolError("too many tokens from one member")
        except PeerError as fault:
            refused = Refused(**self._tag(), about=hop.digest, reason=one_line(fault.reason))
            return [self._answer(message.sender, refused)]
        if (arrival := self._arrivals.open(hop, now)) is None:
            return [self._answer(message.sender, Busy(**self._tag(), about=hop.digest))]
        self._lap_taken = True
        return [self._progress(arrival)]

    def _chunk(self, arrival: Arrival, chunk: Chunk, now: float) -> Effects:
        worth_telling = arrival.add(chunk, now)
        if not arrival.whole:
            return [self._progress(arrival)] if worth_telling else []
        hop = arrival.hop
        self._arrivals.close(hop.digest)
        try:
            body = self._suite.decode_body(arrival.body())
        except BodyError as fault:
            refused = Refused(**self._tag(), about=hop.digest, reason=one_line(fault.reason))
            return [self._answer(hop.message.sender, refused)]
        self._whole[hop.digest] = hop.message.sender
        names = hop.message.names
        if self._best is None or len(names) > len(self._best[0]):
            self._best = (names, body)
        passed = self._answer(hop.message.sender, Passed(**self._tag(), about=hop.digest))
        if self._lap and len(names) == len(self._lap.message.order):
            return [passed, *self._call(now)]
        if self._choose_at is None and self._is_enough(names):
            self._choose_at = now + self._terms.patience_s
        return [passed]

    def _is_enough(self, names: tuple[int, ...]) -> bool:
        """Whether each of these members would release for a list of them all."""
        members = self._membership.members
        return all(members[name].ready.message.threshold < len(names) for name in names)

    # -- call, list, releases --------------------------------------------------------------

    def _call(self, now: float) -> Effects:
        """Ask all in the longest token whether they are still there."""
        self._choose_at = None
        self._arrivals.clear()
        if self._best is None or self._lap is None:
            return self._next_lap(now)
        names = self._best[0]
        if not self._is_enough(names):
            return self._next_lap(now)
        self._alive &= set(names)
        self.stage = Stage.CALL
        call = Call(**self._tag(), roster=self._membership.digest, lap=self._lap.message.lap)
        self._called = sign(call, self._identity)
        raw = self._called.raw
        self._ask(dict.fromkeys(names, raw), self._terms.patience_s, now)
        seconds = round(now - self._lap_began, 3)
        facts = {"ring": self.number, "contributors": len(names), "seconds": seconds}
        note = Report("token round", facts)
        return [note, *(self._send(name, raw) for name in names)]

    def _here(self, here: Here, now: float) -> Effects:
        if (
            self.stage is not Stage.CALL
            or not self._lap
            or (here.roster, here.lap) != (self._membership.digest, self._lap.message.lap)
        ):
            return []
        self._question.pop(here.sender, None)
        return [] if self._question else self._ask_for_sum(now)

    def _ask_for_sum(self, now: float) -> Effects:
        if self._best is None:
            raise RuntimeError("asked for a sum without a token")
        names = tuple(sorted(self._best[0]))
        asked = List(**self._tag(), roster=self._membership.digest, names=names)
        self._list = sign(asked, self._identity)
        self.stage = Stage.LIST
        self._ask(dict.fromkeys(names, self._list.raw), self._terms.release_s, now)
        note = Report("list", {"ring": self.number, "contributors": len(names)})
        return [note, *(self._send(name, self._list.raw) for name in names)]

    def _release(self, peer: Peer, release: Release) -> Effects:
        asked = self._list
        if self.stage is not Stage.LIST or asked is None or self._best is None:
            return []
        if release.sender not in self._question:
            return []
        if (release.roster, release.list) != (self._membership.digest, asked.digest):
            raise ProtocolError("a release for another list", sender=peer.name)
        joined = self._membership.members[release.sender]
        try:
            plaintext = unseal(
                self._exchange_key,
                joined.ready.message.round_key,
                release.sealed,
                roster_digest=self._membership.digest,
                list_digest=asked.digest,
                sender=release.sender,
            )
            self._suite.check_release(plaintext)
        except PeerError as fault:
            reason = f"{peer.name} sent a bad release: {fault.reason}"
            return self._void(reason, unreleased=(release.sender,))
        self._releases[release.sender] = plaintext
        del self._question[release.sender]
        if self._question:
            return []
        names, body = self._best
        self.outcome = RingSum(
            label=str(self.number),
            names=tuple(sorted(names)),
            body=body,
            releases=tuple(self._releases[name] for name in sorted(names)),
        )
        return self._end([Report("ring closed", {"ring": self.number, "contributors": len(names)})])

    def _refused(self, peer: Peer, refused: Refused, now: float) -> Effects:
        note = Report(
            "refused", {"ring": self.number, "device": peer.name, "reason": refused.reason}
        )
        if self._list is not None and refused.about == self._list.digest:
            return [note, *self._void(f"{peer.name} refused the list: {refused.reason}")]
        own = {self._membership.digest, self._announce.digest}
        if self._called is not None and self.stage is Stage.CALL:
            own.add(self._called.digest)
        if refused.about in own:
            return [note, *self.lost(peer.number, now)]
        return [note]

    # -- silence and the end ---------------------------------------------------------------

    def _ask(self, question: dict[int, bytes], patience_s: float, now: float) -> None:
        self._question = question
        self._begun_at = self._asked_at = now
        self._deadline = now + patience_s
        self._repeat_at = now + self._repeat_s

    @property
    def _first_is_awaited(self) -> bool:
        return self.stage is Stage.LAP and not self._lap_taken

    @property
    def _repeat_s(self) -> float:
        return min(REPEAT_S, self._terms.patience_s / 3)

    def _repeat(self, now: float) -> Effects:
        """Ask again whoever has not answered; in a lap, with the roster before it."""
        self._asked_at = now
        self._repeat_at = now + self._repeat_s
        if self.stage is not Stage.LAP or self._lap is None:
            return [self._send(name, raw) for name, raw in self._question.items()]
        whom = self._question
        if not self._lap_taken:
            whom = {self._lap.message.order[0]: self._lap.raw}
        else:
            self._repeat_at = now + self._terms.patience_s
        roster = self._membership.roster.raw
        return [self._send(name, raw) for name, lap in whom.items() for raw in (roster, lap)]

    def _too_late(self, now: float) -> Effects:
        missing = sorted(self._question)
        names = ", ".join(self._name(name) for name in missing)
        match self.stage:
            case Stage.LAP:
                return self._call(now)
            case Stage.CALL:
                self._alive -= set(missing)
                note = Report("not there", {"ring": self.number, "devices": names.split(", ")})
                return [note, *self._next_lap(now)]
        return self._void(f"no release from {names}", unreleased=tuple(missing))

    def _void(self, reason: str, unreleased: tuple[int, ...] = ()) -> Effects:
        self.outcome = Void(self.number, reason, len(self.members), unreleased)
        return self._end([Report("ring void", {"ring": self.number, "reason": reason})])

    def _end(self, effects: Effects) -> Effects:
        self.stage = Stage.ENDED
        self._arrivals.clear()
        self._question = {}
        return effects

    # -- words -----------------------------------------------------------------------------

    def _tag(self) -> dict[str, Any]:
        announce = self._announce.message
        return tag(announce.fleet, announce.epoch, announce.round, COORDINATOR_NUMBER)

    def _progress(self, arrival: Arrival) -> Send:
        progress = Progress(**self._tag(), about=arrival.hop.digest, chunks=arrival.chunks)
        return self._answer(arrival.hop.message.sender, progress)

    def _answer(self, to: int, message: Message) -> Send:
        return self._send(to, sign(message, self._identity).raw)

    def _send(self, to: int, raw: bytes) -> Send:
        return Send(self._name(to), raw)

    def _name(self, number: int) -> str:
        return self._membership.members[number].peer.name
