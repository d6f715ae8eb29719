"""One round from its announce to the sums of its rings.

Devices say `ready`; each cohort that has answered forms a ring; late ones of all cohorts form one
later ring; the rings run side by side. When all have ended, the shell gets their sums to open
together. A ring that ends void costs its own contributions only.

Source: docs/protocol.md, section 4.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, TypeAlias

from attrs import field, frozen

from fedring.coordinator.doors import ClosedDoor
from fedring.coordinator.rings import Ring, Void
from fedring.coordinator.rosters import Bench, Cohorts, choose
from fedring.coordinator.sums import RingSum
from fedring.shared.effects import Report, Send
from fedring.shared.encryption import Suite
from fedring.shared.envelopes import Signed, Unverified, blaming, open_envelope, sign
from fedring.shared.errors import PeerError, ProtocolError
from fedring.shared.identity import Authority, Identity
from fedring.shared.membership import Joined, read_ready
from fedring.shared.messages import (
    COORDINATOR_NUMBER,
    Announce,
    Ready,
    Refused,
    one_line,
    tag,
)
from fedring.shared.pairwise import RoundKey


@frozen
class Announced:
    """To be published, retained: the round's announce."""

    data: bytes = field(repr=False)


@frozen
class Dealt:
    """To be made durable: the cohort table of this epoch.

    Attributes:
        table: device number -> cohort.
    """

    table: dict[int, int]


@frozen
class Ended:
    """All rings of the round have ended.

    Attributes:
        sums: of the rings that came to a sum.
        voids: the others.
    """

    sums: tuple[RingSum, ...]
    voids: tuple[Void, ...]


STOOD_STILL_S = 1.0
"""Who looks at the clock so long after the ready deadline stood still when it came."""

Effect: TypeAlias = Send | Report | Announced | Dealt | Ended
Effects: TypeAlias = list[Effect]


class Round:
    """The state machine of one round.

    Args:
        announce: signed; its round number is durable already.
        exchange_key: the X25519 key named in the announce.
        identity: the coordinator.
        authority: the fleet authority.
        revoked: device numbers on the revocation list that the announce names.
        suite: of this announce.
        cohorts: the table of this epoch; empty at its first round.
        bench: who sits out; changed when the round ends.
        present: devices seen alive: number -> name, from their status topics.
    """

    def __init__(
        self,
        *,
        announce: Signed[Announce],
        exchange_key: RoundKey,
        identity: Identity,
        authority: Authority,
        revoked: frozenset[int],
        suite: Suite,
        cohorts: Cohorts,
        bench: Bench,
        present: Mapping[int, str],
    ) -> None:
        self._announce = announce
        self._exchange_key = exchange_key
        self._identity = identity
        self._authority = authority
        self._door = ClosedDoor(identity, authority)
        self._revoked = revoked
        self._suite = suite
        self._cohorts = cohorts
        self.bench = bench
        self._present = dict(present)
        self._waiting: dict[int, Joined] = {}
        self._late: dict[int, Joined] = {}
        self._answered: set[int] = set()
        self._formed: set[int] = set()
        self._rings: list[Ring] = []
        self._ring_of: dict[int, Ring] = {}
        self._out: set[int] = set()
        self._ready_deadline: float | None = None
        self._ticked_at = -math.inf
        self._stood_still = False
        self._closed = False
        self._late_ring_formed = False
        self._n_late_rings = 0
        self._ended = False

    @property
    def number(self) -> int:
        return self._announce.message.round

    @property
    def n_late_rings(self) -> int:
        """Rings made of latecomers, outside their cohorts: 0 or 1."""
        return self._n_late_rings

    @property
    def ended(self) -> bool:
        return self._ended

    @property
    def stages(self) -> dict[int, str]:
        """Where each ring stands, by its number."""
        return {ring.number: str(ring.stage) for ring in self._rings}

    @property
    def n_ready(self) -> int:
        """Devices that are ready and in no ring yet."""
        return len(self._waiting) + len(self._late)

    @property
    def deadline(self) -> float | None:
        """When `tick` has something to do, if nothing comes before."""
        if self._ended:
            return None
        times = [ring.deadline for ring in self._rings]
        if not self._closed:
            times.append(self._ready_deadline)
        return min((time for time in times if time is not None), default=None)

    def start(self) -> Effects:
        """Announce the round; deal cohorts when this is the first of its epoch."""
        effects: Effects = []
        if not self._cohorts.table:
            self._cohorts.deal(self._present.keys(), self._announce.message.ring.size)
            effects.append(Dealt(dict(self._cohorts.table)))
        return [*effects, Announced(self._announce.raw)]

    def receive(self, source: str, raw: bytes, now: float) -> Effects:
        """A device writes to the coordinator's inbox.

        Raises:
            PeerError: what a device must not send; nothing has changed.
        """
        with blaming(source):
            unverified = open_envelope(raw)
        message = unverified.message
        try:
            if isinstance(message, Ready):
                return self._ready(source, unverified, raw, now)
            announce = self._announce.message
            if (message.epoch, message.round) != (announce.epoch, announce.round):
                return []
            if isinstance(message, Refused) and message.about == self._announce.digest:
                return self._declined(source, unverified, now)
            ring = self._ring_of.get(message.sender)
            if ring is None:
                return []
            peer = ring.speaks_for(message.sender, source)
            return [*ring.receive(peer, unverified, now), *self._progress(now)]
        except PeerError as fault:
            fault.sender = fault.sender or source
            fault.kind = fault.kind or message.kind
            raise

    def present(self, number: int, name: str, *, online: bool, now: float) -> Effects:
        """A device was seen to come or go; a hint, from its status topic or last will."""
        if online:
            self._present[number] = name
            return []
        self._present.pop(number, None)
        return self._progress(now)

    def tick(self, now: float, alive_at: float) -> Effects:
        """Time has passed; see `Ring.tick` for `alive_at`."""
        effects: Effects = []
        for ring in self._rings:
            effects += ring.tick(now, alive_at)
        self._close_in_time(now, alive_at)
        return effects + self._progress(now)

    def reconnected(self, now: float) -> Effects:
        """Our connection is back: what is retained or unanswered goes out again."""
        effects: Effects = [] if self._ended else [Announced(self._announce.raw)]
        if self._ready_deadline is not None:
            patience_s = self._announce.message.ring.patience_s
            self._ready_deadline = max(self._ready_deadline, now + patience_s)
        for ring in self._rings:
            effects += ring.reconnected(now)
        return effects

    # -- ready ------------------------------------------------------------------------------

    def _ready(self, source: str, unverified: Unverified, raw: bytes, now: float) -> Effects:
        message = unverified.message
        announce = self._announce.message
        if (message.epoch, message.round) < (announce.epoch, announce.round):
            return [self._door.refuse(source, unverified)]
        joined = read_ready(raw, self._announce, self._authority, self._revoked)
        if joined.peer.name != source:
            raise ProtocolError(f"speaks as {joined.peer.name}", sender=source)
        number = joined.number
        if (ring := self._ring_of.get(number)) is not None:
            return [*ring.ready_again(number, now)]
        if number in self._waiting or number in self._late:
            return []
        if number in self._out:
            return []
        if rounds := self.bench.rounds_left(number, self.number):
            self._has_answered(number, now)
            no = self._refuse(joined, f"benched for {rounds} more rounds: broke rings")
            return [no, *self._progress(now)]
        if self._ended or self._late_ring_formed:
            return [self._refuse(joined, "round closed")]
        effects: Effects = []
        if number not in self._cohorts.table:
            self._cohorts.of(number)
            effects.append(Dealt(dict(self._cohorts.table)))
        self._present[number] = source
        self._has_answered(number, now)
        late = self._cohorts.of(number) in self._formed
        (self._late if late else self._waiting)[number] = joined
        return effects + self._progress(now)

    def _declined(self, source: str, unverified: Unverified, now: float) -> Effects:
        """A device takes no part in this round, or restarted in it.

        Its certificate is at hand only after a `ready`; before, the broker's word for the topic has
        to do, and all it can change is how long others wait for this device.
        """
        number = unverified.message.sender
        if self._present.get(number, source) != source:
            raise ProtocolError(f"speaks as {self._present[number]}", sender=source)
        known = self._waiting.get(number) or self._late.get(number)
        if (ring := self._ring_of.get(number)) is not None:
            peer = ring.speaks_for(number, source)
            return [*ring.receive(peer, unverified, now), *self._progress(now)]
        if known is not None:
            unverified.verified_by(known.peer, Refused)
            self._out.add(number)  # whatever `ready` of it is still on its way
        elif number not in self._present:
            return []
        refused = unverified.message
        reason = refused.reason if isinstance(refused, Refused) else ""
        self._has_answered(number, now)
        self._waiting.pop(number, None)
        self._late.pop(number, None)
        return [Report("declined", {"device": source, "reason": reason}), *self._progress(now)]

    # -- rings ------------------------------------------------------------------------------

    def _has_answered(self, number: int, now: float) -> None:
        self._answered.add(number)
        if self._ready_deadline is None:
            self._ready_deadline = now + self._announce.message.ring.ready_s

    def _close_in_time(self, now: float, alive_at: float) -> None:
        """Wait no longer for whoever was to be ready by the deadline.

        Not so when we stood still at that time: what was said meanwhile is still unread. Once, for
        whoever keeps us busy must not keep a round open.
        """
        deadline, ticked_at = self._ready_deadline, self._ticked_at
        self._ticked_at = now
        if deadline is None:
            return
        if not self._stood_still and now >= max(deadline, ticked_at) + STOOD_STILL_S:
            self._stood_still = True
            self._ready_deadline = now + self._announce.message.ring.patience_s
        elif alive_at >= deadline:
            self._closed = True

    def _progress(self, now: float) -> Effects:
        """Form the rings that can be formed, and end the round when nothing is left to do."""
        if self._ended:
            return []
        effects: Effects = []
        cohorts = {self._cohorts.of(number) for number in self._waiting}
        silent = self._present.keys() - self._answered
        awaiting = {self._cohorts.table.get(number) for number in silent}
        for cohort in sorted(cohorts - self._formed):
            if self._closed or cohort not in awaiting:
                effects += self._form_cohort(cohort, now)
        rings_ended = bool(self._rings) and all(ring.outcome for ring in self._rings)
        if not self._waiting and (self._closed or rings_ended or not self._awaits_anybody()):
            effects += self._form_late_ring(now)
        return self._and_end(effects)

    def _awaits_anybody(self) -> bool:
        return not self._answered or not self._present.keys() <= self._answered

    def _awaits_a_cohort(self) -> bool:
        """Whether another ring may form in time, besides that of the late ones."""
        if self._closed:
            return False
        unformed = (n for n, cohort in self._cohorts.table.items() if cohort not in self._formed)
        return any(n in self._present and n not in self._answered for n in unformed)

    def _form_cohort(self, cohort: int, now: float) -> Effects:
        self._formed.add(cohort)
        candidates = [j for n, j in self._waiting.items() if self._cohorts.table[n] == cohort]
        choice = choose(candidates)
        for joined in candidates:
            del self._waiting[joined.number]
            if joined.number in choice.turned_away:
                self._late[joined.number] = joined
        return self._run(choice.members, now) if choice.members else []

    def _form_late_ring(self, now: float) -> Effects:
        """Form the one later ring; when it is too small, wait for more as long as others run."""
        if self._late_ring_formed or not self._late:
            return []
        choice = choose(list(self._late.values()))
        others_run = any(ring.outcome is None for ring in self._rings)
        if not choice.members and (others_run or self._awaits_a_cohort()):
            return []
        self._late_ring_formed = True
        late, self._late = self._late, {}
        effects: Effects = [
            self._refuse(late[number], reason) for number, reason in choice.turned_away.items()
        ]
        if choice.members:
            self._n_late_rings = 1
            effects += self._run(choice.members, now)
        return effects

    def _run(self, members: tuple[Joined, ...], now: float) -> Effects:
        ring = Ring(
            number=len(self._rings) + 1,
            members=members,
            announce=self._announce,
            exchange_key=self._exchange_key,
            identity=self._identity,
            suite=self._suite,
        )
        self._rings.append(ring)
        self._ring_of |= {joined.number: ring for joined in members}
        return [*ring.start(now)]

    def _and_end(self, effects: Effects) -> Effects:
        """Add the end of the round when every ring has come to its own."""
        if self._ended or self._waiting or self._late:
            return effects
        outcomes = [ring.outcome for ring in self._rings]
        if any(outcome is None for outcome in outcomes):
            return effects
        if not self._answered or self._awaits_a_cohort():
            return effects
        self._ended = True
        sums = tuple(one for one in outcomes if isinstance(one, RingSum))
        voids = tuple(one for one in outcomes if isinstance(one, Void))
        for one in sums:
            for number in one.names:
                self.bench.contributed(number)
        silent = [number for void in voids for number in void.unreleased]
        silent += [number for ring in self._rings for number in ring.silent]
        for number in silent:
            self.bench.silent(number, self.number)
        return [*effects, Ended(sums, voids)]

    def _refuse(self, joined: Joined, reason: str) -> Send:
        refused = Refused(**self._tag(), about=joined.ready.digest, reason=one_line(reason))
        return Send(joined.peer.name, sign(refused, self._identity).raw)

    def _tag(self) -> dict[str, Any]:
        announce = self._announce.message
        return tag(announce.fleet, announce.epoch, announce.round, COORDINATOR_NUMBER)
