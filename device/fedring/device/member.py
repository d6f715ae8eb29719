"""One device from round to round: announce, ready, roster, lap, list, release.

This is where the device's own promises are kept, whatever others send:

- one round key, one mask key, one body, one roster and at most one release in a round; `joined` is
  durable before `ready` leaves, the count of releases before the release leaves;
- a release leaves only for a list that holds this device and more than its own threshold of
  distinct certified members of its roster, after its body went into a token of that ring;
- every secret of a round lives in memory only and is dropped at release, at refusal, at the
  device's own deadline, and when a newer round begins.

Handing tokens on is `relay`'s part. The shell (`agent`) carries effects out, fetches models,
trains, and reports back through `worked` and `failed`. No method sleeps, reads a clock or touches
a socket; `receive` raises a `PeerError` for what a peer must not send, with nothing changed.

Source: docs/protocol.md, sections 4 to 6.
"""

from __future__ import annotations

from typing import Any

from attrs import define

from fedring.device.budgets import Budget
from fedring.device.consent import Consent
from fedring.device.effects import Abandon, Effects, Joined, Keep, Listed, Spent, State, Work
from fedring.device.relay import Relay
from fedring.device.releases import Secrets, make_release, objection
from fedring.shared.effects import Report, Send
from fedring.shared.encryption import OneTimeMask, Random, Suite
from fedring.shared.envelopes import Signed, Unverified, blaming, open_envelope, sign
from fedring.shared.errors import IdentityError, MessageError, PeerError, ProtocolError
from fedring.shared.identity import Authority, Identity, Peer, RevocationList, Role
from fedring.shared.membership import Membership, read_roster
from fedring.shared.messages import (
    COORDINATOR_NAME,
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
    Ready,
    Refused,
    Release,
    Rest,
    Roster,
    Taken,
    one_line,
    tag,
)
from fedring.shared.numbers import IntVector
from fedring.shared.pairwise import NewRoundKey, RoundKey, check_public_key

GRACE_S = 30.0
"""Added to the sum of a round's durations before a device gives a silent round up."""


@define(eq=False)
class _Round:
    """What a device holds of the round it is in; everything secret of it is dropped with it."""

    announce: Signed[Announce]
    coordinator: Peer
    deadline: float | None = None
    repeat_at: float | None = None
    ready: Signed[Ready] | None = None
    secrets: Secrets | None = None
    membership: Membership | None = None
    relay: Relay | None = None
    list: Signed[List] | None = None
    release: Signed[Release] | None = None


class Member:
    """The state machine of one device.

    Args:
        identity: own key and certificate.
        authority: the fleet authority.
        consent: the owner's limits.
        joined: (epoch, round) of the last `ready` signed; (0, 0) for a new device.
        revocation: the newest revocation list known, if any.
        releases: budget of releases.
        evaluations: budget of evaluations.
        random: source of secret bytes.
        round_key: makes round keys; simulations have smaller ones.
    """

    def __init__(
        self,
        *,
        identity: Identity,
        authority: Authority,
        consent: Consent,
        joined: tuple[int, int],
        revocation: RevocationList | None,
        releases: Budget,
        evaluations: Budget,
        random: Random,
        round_key: NewRoundKey = RoundKey.generate,
    ) -> None:
        self._identity = identity
        self._authority = authority
        self._consent = consent
        self._joined = joined
        self._revocation = revocation
        self._releases = releases
        self._evaluations = evaluations
        self._random = random
        self._new_round_key = round_key
        self._round: _Round | None = None
        self._last_announce = b""
        self._rest: Signed[Rest] | None = None
        self._refusal: tuple[bytes, Send] | None = None
        self.state = State.IDLE

    @property
    def joined(self) -> tuple[int, int]:
        """(epoch, round) of the last `ready` signed."""
        return self._joined

    @property
    def round(self) -> tuple[int, int] | None:
        """(epoch, round) that the device is in, or None."""
        if self._round is None:
            return None
        announce = self._round.announce.message
        return announce.epoch, announce.round

    @property
    def deadline(self) -> float | None:
        """When `tick` has something to do, if nothing comes before."""
        if (held := self._round) is None:
            return None
        times = [held.deadline, held.repeat_at, held.relay.deadline if held.relay else None]
        return min((time for time in times if time is not None), default=None)

    @property
    def ends_at(self) -> float | None:
        """When the round ends here, whatever others do; None without one that holds secrets."""
        return self._round.deadline if self._round is not None else None

    @property
    def body_bytes(self) -> int:
        """Size of this round's bodies; 0 while the device holds none."""
        held = self._round
        return held.secrets.suite.body_bytes if held and held.secrets else 0

    # -- what comes in ---------------------------------------------------------------------

    def announced(self, raw: bytes, now: float) -> Effects:
        """The announce topic holds this envelope: a round begins, or none is running.

        Raises:
            PeerError: it is neither, or not of this fleet's coordinator.
        """
        if raw == self._last_announce:
            return []
        with blaming(COORDINATOR_NAME):
            unverified = open_envelope(raw)
            message = unverified.message
            if not isinstance(message, Announce | Rest):
                raise MessageError(f"a {message.kind} on the announce topic", kind=message.kind)
            coordinator = self._authority.peer(message.certificate)
            if coordinator.role is not Role.COORDINATOR:
                reason = f"{coordinator.name} is no coordinator"
                raise IdentityError(reason, sender=coordinator.name)
            if isinstance(message, Rest):
                return self._rested(unverified.verified_by(coordinator, Rest))
            announce = unverified.verified_by(coordinator, Announce)
        return self._round_announced(announce, coordinator, now)

    def _rested(self, rest: Signed[Rest]) -> Effects:
        """No round is running; believed, like an announce, in the fleet authority's epoch only."""
        here = (rest.message.epoch, rest.message.round)
        if here < max(self._joined, self.round or (0, 0)):
            return []
        known = self._revocation
        if known is None or known.epoch < rest.message.epoch:
            self._rest = rest
            return []
        self._rest = None
        if known.epoch > rest.message.epoch or self._consent.too_large(rest.message.model):
            return []
        self._last_announce = rest.raw
        return [*self._leave(), Keep(rest.message.epoch, rest.message.model)]

    def _round_announced(
        self, announce: Signed[Announce], coordinator: Peer, now: float
    ) -> Effects:
        if self._round is not None and announce.digest == self._round.announce.digest:
            return []
        here = (announce.message.epoch, announce.message.round)
        if here < max(self._joined, self.round or (0, 0)):
            return self._turn_down(announce, f"round {here[0]}/{here[1]} lies in the past")
        self._last_announce = announce.raw
        if here in (self._joined, self.round):
            # Another announce of a round that this device is in, or was in before it restarted.
            reason = "already in this round" if self.round == here else "restarted in this round"
            return self._turn_down(announce, reason)
        effects = self._leave()
        self._refusal = self._rest = None
        self._round = _Round(announce, coordinator)
        return effects + self._consider(self._round, now)

    def revocation(self, raw: bytes, now: float) -> Effects:
        """The revocation topic holds this envelope.

        Raises:
            IdentityError: not signed by the fleet authority.
        """
        with blaming(COORDINATOR_NAME):
            listed = self._authority.revocation(raw)
        if self._revocation is not None and listed.number <= self._revocation.number:
            return []
        self._revocation = listed
        effects: Effects = [
            Listed(listed.number, raw),
            Report("revocation list", {"number": listed.number, "epoch": listed.epoch}),
        ]
        if self._round is not None and self.state is State.WAITING:
            effects += self._consider(self._round, now)
        if self._rest is not None:
            effects += self._rested(self._rest)
        return effects

    def worked(
        self,
        announce_digest: bytes,
        contribution: IntVector,
        mask: OneTimeMask,
        suite: Suite,
        now: float,
    ) -> Effects:
        """The work asked for by `Work` is done: mask it and say `ready`."""
        held = self._round
        if held is None or held.announce.digest != announce_digest or held.ready is not None:
            mask.erase()
            return []
        announce = held.announce.message
        round_key = self._new_round_key(self._random)
        held.secrets = Secrets(suite, mask, mask.body(contribution), round_key)
        held.ready = sign(
            Ready(
                **self._tag(held),
                announce=announce_digest,
                certificate=self._identity.certificate,
                threshold=self._consent.threshold,
                round_key=round_key.public,
            ),
            self._identity,
        )
        self._joined = (announce.epoch, announce.round)
        ring = announce.ring
        lap_s = ring.lap_s + 2 * ring.patience_s  # with the choice of a token and the call
        held.deadline = now + ring.ready_s + MAX_LAPS * lap_s + ring.release_s + GRACE_S
        held.repeat_at = now + ring.patience_s
        self.state = State.READY
        return [
            Joined(announce.epoch, announce.round),
            Send(COORDINATOR_NAME, held.ready.raw),
            Report("ready", self._where(held)),
        ]

    def failed(self, announce_digest: bytes, reason: str) -> Effects:
        """The work asked for by `Work` cannot be done."""
        held = self._round
        if held is None or held.announce.digest != announce_digest:
            return []
        return self._refuse(held, announce_digest, reason)

    def abandon(self, reason: str) -> Effects:
        """The shell cannot keep a record durable: the round is over before anything leaves."""
        if self._round is None:
            return []
        return [*self._leave(), Report("round abandoned", {"reason": reason})]

    def receive(self, source: str, raw: bytes, now: float) -> Effects:
        """A message came into this device's inbox.

        Args:
            source: name of the writer, from the topic.
            raw: the envelope.
            now: the clock.

        Raises:
            PeerError: what a peer must not send; nothing has changed.
        """
        held = self._round
        with blaming(source):
            unverified = open_envelope(raw)
        message = unverified.message
        if held is None:
            return self._refused_before(unverified)
        if (message.epoch, message.round) != self.round:
            return []
        if held.deadline is not None and now >= held.deadline:
            return self._end_by_deadline(held)  # whoever wakes us: the tick may come later
        try:
            if source == COORDINATOR_NAME:
                return self._from_coordinator(held, unverified, now)
            return self._from_member(held, source, unverified, now)
        except PeerError as fault:
            fault.sender = fault.sender or source
            fault.kind = fault.kind or message.kind
            raise

    def tick(self, now: float, alive_at: float) -> Effects:
        """Time has passed.

        Args:
            now: the clock.
            alive_at: when the own connection was last proven alive.
        """
        held = self._round
        if held is None:
            return []
        if held.deadline is not None and now >= held.deadline:
            return self._end_by_deadline(held)
        effects: Effects = []
        if held.repeat_at is not None and held.ready is not None and now >= held.repeat_at:
            held.repeat_at = now + held.announce.message.ring.patience_s
            effects.append(Send(COORDINATOR_NAME, held.ready.raw))
        if held.relay is not None:
            effects += held.relay.tick(now, alive_at)
        return effects

    def reconnected(self, now: float) -> Effects:
        """The connection is back: what is unanswered goes out again."""
        held = self._round
        if held is None:
            return []
        effects: Effects = []
        if held.repeat_at is not None and held.ready is not None:
            held.repeat_at = now + held.announce.message.ring.patience_s
            effects.append(Send(COORDINATOR_NAME, held.ready.raw))
        if held.relay is not None:
            effects += held.relay.reconnected(now)
        return effects

    # -- a round begins --------------------------------------------------------------------

    def _consider(self, held: _Round, now: float) -> Effects:
        """Take part in the announced round, wait for its revocation list, or refuse."""
        announce = held.announce.message
        known = self._revocation
        if known is None or known.number < announce.revocation:
            self.state = State.WAITING
            return [Report("waiting for revocation list", {"number": announce.revocation})]
        objection = self._objection(announce, known, now)
        if objection is not None:
            return self._refuse(held, held.announce.digest, objection)
        effects: Effects = []
        evaluate = announce.plan.evaluation_samples > 0 and not self._evaluations.wait_s(now)
        if evaluate or announce.plan.task == "statistics":
            self._evaluations = spent = self._evaluations.spent(now)
            effects.append(Spent("evaluation", spent.total, spent.level))
        self.state = State.WORKING
        return [*effects, Work(held.announce, evaluate), Report("training", self._where(held))]

    def _objection(self, announce: Announce, known: RevocationList, now: float) -> str | None:
        if announce.epoch != known.epoch:
            return f"epoch {announce.epoch}, the fleet authority is at epoch {known.epoch}"
        if self._identity.number in known.revoked:
            return "this device is revoked"
        if wait_s := self._releases.wait_s(now):
            return f"this device's release budget is used up for the next {wait_s:.0f} s"
        # Statistics are the same each time: sums over lists that differ would give them away.
        if announce.plan.task == "statistics" and (wait_s := self._evaluations.wait_s(now)):
            return f"this device's evaluation budget is used up for the next {wait_s:.0f} s"
        try:
            check_public_key(announce.exchange_key)
        except ProtocolError as fault:
            return f"the coordinator's {fault.reason}"
        return self._consent.objection(announce)

    # -- from the coordinator --------------------------------------------------------------

    def _from_coordinator(self, held: _Round, unverified: Unverified, now: float) -> Effects:
        def verified(kind: type[Any]) -> Signed[Any]:
            return unverified.verified_by(held.coordinator, kind)

        match unverified.message:
            case Roster():
                return self._enter(held, verified(Roster))
            case Lap(roster=roster) if held.relay and roster == held.relay.membership.digest:
                lap = verified(Lap)
                held.relay.check_lap(lap)
                return list(held.relay.lap(lap, now))
            case Call():
                return self._still_here(held, verified(Call))
            case List():
                return self._asked_for_release(held, verified(List), now)
            case Refused(about=about) if held.ready and about == held.ready.digest:
                refused = verified(Refused).message
                facts = {**self._where(held), "reason": refused.reason}
                return [*self._leave(), Report("turned away", facts)]
            case Progress() | Taken() | Passed() | Busy() | Refused() as answer if held.relay:
                return list(held.relay.answered(verified(type(answer)).message, now))
        return []

    def _enter(self, held: _Round, roster: Signed[Roster]) -> Effects:
        """The first roster of a round makes this device a member; there is no second."""
        if held.membership is not None:
            if roster.digest == held.membership.digest:
                return []
            return self._say_no(held, roster.digest, "a second roster in one round")
        if held.ready is None or held.secrets is None:
            return []
        try:
            known = self._revocation
            revoked = known.revoked if known else frozenset()
            membership = read_roster(roster, held.announce, self._authority, revoked)
            mine = membership.members.get(self._identity.number)
            if mine is None or mine.ready.raw != held.ready.raw:
                raise ProtocolError("roster without this device as it said ready")
            if len(membership.members) <= self._consent.threshold:
                raise ProtocolError(
                    f"ring of {len(membership.members)}, "
                    f"this device answers above {self._consent.threshold}"
                )
        except PeerError as fault:
            return self._refuse(held, roster.digest, fault.reason)
        held.membership = membership
        held.repeat_at = None
        held.relay = Relay(
            membership=membership,
            coordinator=held.coordinator,
            me=self._identity.number,
            body=held.secrets.body,
            suite=held.secrets.suite,
            signer=self._identity,
            patience_s=held.announce.message.ring.patience_s,
        )
        self.state = State.MEMBER
        facts = {
            **self._where(held),
            "ring": roster.message.ring,
            "members": len(membership.members),
        }
        return [Report("in ring", facts)]

    def _still_here(self, held: _Round, call: Signed[Call]) -> Effects:
        if held.membership is None or call.message.roster != held.membership.digest:
            return []
        if held.release is not None:
            return []  # delayed: the list that follows a call has been answered
        if held.relay is None or not held.relay.added:
            return self._say_no(held, call.digest, "this device is in no token of this ring")
        here = Here(**self._tag(held), roster=held.membership.digest, lap=call.message.lap)
        return [Send(COORDINATOR_NAME, sign(here, self._identity).raw)]

    def _asked_for_release(self, held: _Round, asked: Signed[List], now: float) -> Effects:
        """Answer the one list of this round, or refuse it and drop every secret."""
        if held.list is not None:
            if asked.digest == held.list.digest and held.release is not None:
                return [Send(COORDINATOR_NAME, held.release.raw)]
            return self._say_no(held, asked.digest, "a second list in one round")
        if held.membership is None or asked.message.roster != held.membership.digest:
            return self._say_no(held, asked.digest, "a list of another roster")
        reason = objection(
            asked.message, held.membership, self._identity.number, self._consent.threshold
        )
        if reason is None and not (held.relay and held.relay.added):
            reason = "this device is in no token of this ring"
        if reason is None and (wait_s := self._releases.wait_s(now)):
            reason = f"this device's release budget is used up for the next {wait_s:.0f} s"
        if reason is not None or held.secrets is None:
            return self._refuse(held, asked.digest, reason or "this round is over here")
        held.list = asked
        held.release = make_release(
            held.secrets,
            held.membership,
            asked,
            held.announce.message,
            identity=self._identity,
            tag=self._tag(held),
        )
        self._drop_secrets(held)
        self._releases = spent = self._releases.spent(now)
        self.state = State.RELEASED
        return [
            Spent("release", spent.total, spent.level),
            Send(COORDINATOR_NAME, held.release.raw),
            Report("released", {**self._where(held), "contributors": len(asked.message.names)}),
        ]

    # -- from members ----------------------------------------------------------------------

    def _from_member(
        self, held: _Round, source: str, unverified: Unverified, now: float
    ) -> Effects:
        message = unverified.message
        if held.membership is None or held.relay is None:
            return []
        joined = held.membership.members.get(message.sender)
        if joined is None or joined.peer.name != source:
            raise ProtocolError("the writer is no member of this ring", sender=source)
        match message:
            case Chunk(hop=hop, sender=sender):
                if not held.relay.awaits(hop, sender):
                    return []
                return list(held.relay.chunk(unverified.verified_by(joined.peer, Chunk), now))
            case Hop():
                return list(held.relay.hop(unverified.verified_by(joined.peer, Hop), now))
            case Progress() | Taken() | Passed() | Busy() | Refused():
                answer: Signed[Message] = unverified.verified_by(joined.peer, type(message))
                return list(held.relay.answered(answer.message, now))
        raise ProtocolError("a message that no member sends to another", sender=source)

    # -- a round ends ----------------------------------------------------------------------

    def _end_by_deadline(self, held: _Round) -> Effects:
        return [*self._leave(), Report("round ended by deadline", self._where(held))]

    def _refuse(self, held: _Round, about: bytes, reason: str) -> Effects:
        """Refuse, and be out of this round."""
        effects = self._say_no(held, about, reason)
        self._refusal = next((about, effect) for effect in effects if isinstance(effect, Send))
        self._leave()
        self.state = State.REFUSED
        return [Abandon(held.announce.message.epoch, held.announce.message.round), *effects]

    def _refused_before(self, unverified: Unverified) -> Effects:
        """The very message whose refusal ended the round again: so is its answer."""
        if self._refusal is None:
            return []
        about, answer = self._refusal
        return [answer] if unverified.digest == about else []

    def _say_no(self, held: _Round, about: bytes, reason: str) -> Effects:
        refused = Refused(**self._tag(held), about=about, reason=one_line(reason))
        return [
            Send(COORDINATOR_NAME, sign(refused, self._identity).raw),
            Report("refused", {**self._where(held), "reason": reason}),
        ]

    def _turn_down(self, announce: Signed[Announce], reason: str) -> Effects:
        return self._say_no(_Round(announce, self._identity.peer), announce.digest, reason)

    def _leave(self) -> Effects:
        """Drop the round and all its secrets; the stored release bytes as well."""
        held = self._round
        if held is None:
            return []
        self._drop_secrets(held)
        self._round = None
        self.state = State.IDLE
        return [Abandon(held.announce.message.epoch, held.announce.message.round)]

    @staticmethod
    def _drop_secrets(held: _Round) -> None:
        if held.secrets is not None:
            held.secrets.erase()
        held.secrets = held.relay = held.repeat_at = None

    def _tag(self, held: _Round) -> dict[str, Any]:
        announce = held.announce.message
        return tag(announce.fleet, announce.epoch, announce.round, self._identity.number)

    @staticmethod
    def _where(held: _Round) -> dict[str, int]:
        return {"epoch": held.announce.message.epoch, "round": held.announce.message.round}
