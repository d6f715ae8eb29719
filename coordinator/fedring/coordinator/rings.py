"""One ring as the coordinator runs it: roster, laps, call, list, releases.

The coordinator is no party to the secrets of a ring: it names the members, lets a token go round,
asks whether all in it are still there, and asks each once for its release. It may be slow, deaf or
restarted at any time; a ring then ends void and costs that round's contributions, nothing else.

A lap is repeated, up to three times, as long as nobody has been asked for a release. Where a token
got lost on its way, and in the last lap, each member hands in its own body. After the list there is
no way back: all releases come, or the ring is void.

Source: docs/protocol.md, section 4, steps 3 to 6.
"""

from __future__ import annotations

from enum import StrEnum
from functools import partial
from typing import TypeAlias

from attrs import frozen

from fedring.coordinator.gathering import Gathering, Token
from fedring.coordinator.rosters import without_company
from fedring.coordinator.sums import RingSum
from fedring.shared.effects import Fact, Report, Send
from fedring.shared.encryption import Suite
from fedring.shared.envelopes import Signed, Unverified, sign
from fedring.shared.errors import PeerError, ProtocolError
from fedring.shared.identity import Identity, Peer
from fedring.shared.membership import Joined, Membership
from fedring.shared.messages import (
    COORDINATOR_NUMBER,
    MAX_LAPS,
    Announce,
    Call,
    Chunk,
    Here,
    Hop,
    Lap,
    List,
    Message,
    Progress,
    Refused,
    Release,
    Roster,
    Taken,
    tag,
)
from fedring.shared.pairwise import RoundKey, unseal
from fedring.shared.tokens import Arrival

Effects: TypeAlias = list[Send | Report]

REPEAT_S = 1.0
"""How often an unanswered question is repeated within one patience."""
MAX_CALLS = 3
"""Patiences that a call waits for those without whom the ring is void."""


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
        gathering: tokens of the newest lap; None before the first.
        silent: who was called for a token that it had handed in itself, and did not answer.
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
        self.silent: set[int] = set()
        self._announce = announce
        self._terms = announce.message.ring
        where = announce.message.fleet, announce.message.epoch, announce.message.round
        # Gatherings have it too. A method of ours would tie us to them in a circle, and the keys of
        # a round that is over would stay until the next collection.
        self._tag = partial(tag, *where, COORDINATOR_NUMBER)
        self._exchange_key = exchange_key
        self._identity = identity
        self._suite = suite
        readies = tuple(joined.ready.raw for joined in members)
        roster = Roster(**self._tag(), announce=announce.digest, ring=number, readies=readies)
        self._membership = Membership(
            sign(roster, identity), {joined.number: joined for joined in members}
        )
        self._thresholds = {joined.number: joined.ready.message.threshold for joined in members}
        self._alive = set(self._thresholds)
        self.stage = Stage.LAP
        self.gathering: Gathering | None = None
        self._question: dict[int, bytes] = {}
        self._repeat_at = 0.0
        self._begun_at = self._alive_at = 0.0
        self._deadline = 0.0
        self._first_by = 0.0
        self._is_shared = True
        self._told_at: dict[int, float] = {}
        self._called: Signed[Call] | None = None
        self._n_calls = 0
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
        if self.gathering and self.gathering.deadline is not None:
            times.append(self.gathering.deadline)
        return min(times)

    def start(self, now: float) -> Effects:
        """Send the roster and begin the first lap."""
        note = Report("ring formed", {"ring": self.number, "members": list(self.members)})
        self._told_at = dict.fromkeys(self.members, now)
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
        gathering = self.gathering
        match message:
            case Chunk(hop=hop, sender=sender) if gathering and gathering.awaits(hop, sender):
                return self._chunk(gathering, unverified.verified_by(peer, Chunk).message, now)
            case Hop(sender=sender) if gathering:
                offered = unverified.verified_by(peer, Hop)
                return [self._answer(sender, gathering.hop(offered, now))]
            case Taken(about=about, sender=sender) if gathering and self.stage is Stage.LAP:
                unverified.verified_by(peer, Taken)
                gathering.begun(about, sender)
            case Here():
                return self._here(unverified.verified_by(peer, Here).message, now)
            case Release():
                return self._release(peer, unverified.verified_by(peer, Release).message)
            case Refused():
                return self._refused(peer, unverified.verified_by(peer, Refused).message, now)
        return []

    def ready_again(self, number: int, now: float) -> Effects:
        """A member repeats its `ready`: the roster has not come to it."""
        gathering = self.gathering
        if self.stage is not Stage.LAP or gathering is None:
            return []
        if now < self._told_at[number] + self._terms.patience_s / 2:
            return []
        self._told_at[number] = now
        return [
            self._send(number, raw)
            for raw in (self._membership.roster.raw, *gathering.laps_of(number))
        ]

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
            alive_at: when our own connection was last proven alive. Whoever was to speak by then
                and has not is silent; what came since may still be unread.
        """
        self._alive_at = max(self._alive_at, alive_at)
        if self.stage is Stage.ENDED:
            return []
        if (gathering := self.gathering) is not None:
            gathering.drop_neglected(alive_at)
            if gathering.choose_at is not None and now >= gathering.choose_at:
                return self._call(now)
        if self._first_is_awaited and alive_at >= self._first_by:
            return self._next_lap(now)
        late_s = now - self._repeat_at
        if self._question and late_s >= self._repeat_s:
            self._deadline += late_s  # we stood still: what was asked may not even have left
        if alive_at >= self._deadline:
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
        effects: Effects = []
        if (gathering := self.gathering) is not None:
            gathering.postpone(outage_s)
            others = [name for name in gathering.members if name not in gathering.awaited]
            if self.stage is Stage.LAP:
                effects += [self._send(n, raw) for n in others for raw in gathering.laps_of(n)]
        return effects + self._repeat(now)

    # -- laps ------------------------------------------------------------------------------

    def _next_lap(self, now: float) -> Effects:
        number = self.gathering.number + 1 if self.gathering else 1
        self._is_shared &= number < MAX_LAPS and not self._each_by_itself
        if number > MAX_LAPS:
            return self._void(f"no complete token in {MAX_LAPS} laps")
        left_out = without_company({name: self._thresholds[name] for name in self._alive})
        if left_out.keys() == self._alive:
            highest = max((self._thresholds[name] for name in self._alive), default=0)
            return self._void(
                f"{len(self._alive)} of {len(self.members)} members left, "
                f"one of them answers above {highest}"
            )
        self._alive -= left_out.keys()
        alive = sorted(self._alive)
        start = (number - 1) % len(alive)
        order = tuple(alive[start:] + alive[:start])
        laps = [
            sign(
                Lap(**self._tag(), roster=self._membership.digest, lap=number, order=one),
                self._identity,
            )
            for one in ([order] if self._is_shared else [(name,) for name in order])
        ]
        self.gathering = Gathering(
            laps,
            began=now,
            thresholds=self._thresholds,
            suite=self._suite,
            patience_s=self._terms.patience_s,
            tag=self._tag,
        )
        self.stage = Stage.LAP
        self._ask({}, self._terms.lap_s, now)
        self._first_by = now + self._terms.patience_s
        note = Report("lap", {"ring": self.number, "lap": number, "members": len(order)})
        sent = [self._send(name, raw) for name in order for raw in self.gathering.laps_of(name)]
        return [note, *sent]

    @property
    def _each_by_itself(self) -> bool:
        """Whether the next lap is one for each, since the token of this one led to nothing.

        It got lost, or whoever made it may have left out on purpose those whom it does not name.
        """
        gathering = self.gathering
        if gathering is None:
            return False
        return gathering.is_lost or (self.stage is Stage.CALL and not gathering.complete)

    def _chunk(self, gathering: Gathering, chunk: Chunk, now: float) -> Effects:
        answer = gathering.chunk(chunk, now)
        effects: Effects = [self._answer(chunk.sender, answer)] if answer else []
        return [*effects, *self._call(now)] if gathering.complete else effects

    # -- call, list, releases --------------------------------------------------------------

    def _call(self, now: float) -> Effects:
        """Ask all in the longest token whether they are still there."""
        gathering = self.gathering
        if gathering is None or gathering.best is None or not gathering.best.enough:
            return self._next_lap(now)
        gathering.close()
        names = gathering.best.names
        if gone := set(names) - self._alive:
            note = Report(
                "gone", {"ring": self.number, "devices": [*map(self._name, sorted(gone))]}
            )
            return [note, *self._next_lap(now)]
        self._n_calls = 1
        self.stage = Stage.CALL
        call = Call(**self._tag(), roster=self._membership.digest, lap=gathering.number)
        self._called = sign(call, self._identity)
        raw = self._called.raw
        self._ask(dict.fromkeys(names, raw), self._terms.patience_s, now)
        seconds = round(now - gathering.began, 3)
        facts: dict[str, Fact] = {"ring": self.number, "contributors": len(names)}
        facts["seconds"] = seconds
        if not gathering.is_shared:
            facts["median_s"] = round(gathering.median_s, 3)
        note = Report("token round", facts)
        return [note, *(self._send(name, raw) for name in names)]

    def _call_again(self, now: float) -> Effects:
        """Go on waiting for those without whom there is no sum."""
        self._n_calls += 1
        self._ask(self._question, self._terms.patience_s, now)
        return [self._send(name, raw) for name, raw in self._question.items()]

    def _is_enough(self, names: set[int]) -> bool:
        """Whether each of them would release for a list of them all."""
        return all(self._thresholds[name] < len(names) for name in names) and bool(names)

    def _here(self, here: Here, now: float) -> Effects:
        called = self._called
        if self.stage is not Stage.CALL or called is None:
            return []
        if (here.roster, here.lap) != (called.message.roster, called.message.lap):
            return []
        self._question.pop(here.sender, None)
        return [] if self._question else self._ask_for_sum(now)

    def _ask_for_sum(self, now: float) -> Effects:
        names = tuple(sorted(self._token.names))
        asked = List(**self._tag(), roster=self._membership.digest, names=names)
        self._list = sign(asked, self._identity)
        self.stage = Stage.LIST
        self._ask(dict.fromkeys(names, self._list.raw), self._terms.release_s, now)
        note = Report("list", {"ring": self.number, "contributors": len(names)})
        return [note, *(self._send(name, self._list.raw) for name in names)]

    def _release(self, peer: Peer, release: Release) -> Effects:
        asked = self._list
        if self.stage is not Stage.LIST or asked is None:
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
        token = self._token
        self.outcome = RingSum(
            label=str(self.number),
            names=tuple(sorted(token.names)),
            body=token.body,
            releases=tuple(self._releases[name] for name in sorted(token.names)),
        )
        facts = {"ring": self.number, "contributors": len(token.names)}
        return self._end([Report("ring closed", facts)])

    def _refused(self, peer: Peer, refused: Refused, now: float) -> Effects:
        note = Report(
            "refused", {"ring": self.number, "device": peer.name, "reason": refused.reason}
        )
        if self._list is not None and refused.about == self._list.digest:
            return [note, *self._void(f"{peer.name} refused the list: {refused.reason}")]
        if self._called is not None and refused.about == self._called.digest:
            return [note, *self._disowned(peer.number, now)]
        if refused.about in (self._membership.digest, self._announce.digest):
            return [note, *self.lost(peer.number, now)]
        if self.gathering is not None:
            self.gathering.taken_back(refused.about, peer.number)
        return [note]

    def _disowned(self, number: int, now: float) -> Effects:
        """A member named in the token says that it is in none.

        Whoever handed the token on may have put that name there: so each hands in its own, and
        only a member that disowns what it handed in itself is left out.
        """
        if self.stage is not Stage.CALL:
            return []
        if not self._is_shared:
            return self.lost(number, now)
        self._is_shared = False
        return self._next_lap(now)

    # -- silence and the end ---------------------------------------------------------------

    def _ask(self, question: dict[int, bytes], patience_s: float, now: float) -> None:
        self._question = question
        self._begun_at = now
        self._deadline = now + patience_s
        self._repeat_at = now + self._repeat_s

    @property
    def _gathered(self) -> Gathering:
        if self.gathering is None:
            raise RuntimeError("asked for a token before the first lap")
        return self.gathering

    @property
    def _token(self) -> Token:
        if self._gathered.best is None:
            raise RuntimeError("asked for a sum without a token")
        return self._gathered.best

    @property
    def _first_is_awaited(self) -> bool:
        gathering = self.gathering
        if self.stage is not Stage.LAP or gathering is None or not gathering.is_shared:
            return False
        return bool(gathering.awaited)

    @property
    def _repeat_s(self) -> float:
        return min(REPEAT_S, self._terms.patience_s / 3)

    def _repeat(self, now: float) -> Effects:
        """Ask again whoever has not answered; for a lap, whoever has not begun its token."""
        self._repeat_at = now + self._repeat_s
        if self.stage is not Stage.LAP or self.gathering is None:
            return [self._send(name, raw) for name, raw in self._question.items()]
        roster = [self._membership.roster.raw] if self.gathering.is_shared else []
        return [
            self._send(name, raw)
            for name in sorted(self.gathering.awaited)
            for raw in (*roster, *self.gathering.laps_of(name))
        ]

    def _too_late(self, now: float) -> Effects:
        missing = sorted(self._question)
        names = ", ".join(self._name(name) for name in missing)
        match self.stage:
            case Stage.LAP:
                return self._call(now)
            case Stage.CALL:
                here = {*self._token.names} - {*missing}
                if self._n_calls < MAX_CALLS and not self._is_enough(here):
                    return self._call_again(now)
                self._alive -= {*missing}
                self.silent |= {*missing} & self._gathered.handed_in
                note = Report("not there", {"ring": self.number, "devices": names.split(", ")})
                return [note, *self._next_lap(now)]
        return self._void(f"no release from {names}", unreleased=tuple(missing))

    def _void(self, reason: str, unreleased: tuple[int, ...] = ()) -> Effects:
        self.outcome = Void(self.number, reason, len(self.members), unreleased)
        return self._end([Report("ring void", {"ring": self.number, "reason": reason})])

    def _end(self, effects: Effects) -> Effects:
        self.stage = Stage.ENDED
        if self.gathering is not None:
            self.gathering.close()
        self._question = {}
        return effects

    # -- words -----------------------------------------------------------------------------

    def _progress(self, arrival: Arrival) -> Send:
        progress = Progress(**self._tag(), about=arrival.hop.digest, chunks=arrival.chunks)
        return self._answer(arrival.hop.message.sender, progress)

    def _answer(self, to: int, message: Message) -> Send:
        return self._send(to, sign(message, self._identity).raw)

    def _send(self, to: int, raw: bytes) -> Send:
        return Send(self._name(to), raw)

    def _name(self, number: int) -> str:
        return self._membership.members[number].peer.name
