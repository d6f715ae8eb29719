"""Real members and a coordinator's pen, with messages handed over one by one.

Where `fleet` lets a network and a clock run, a rehearsal does nothing by itself: a test says who
hears what and when, loses what it likes, and signs in the coordinator's name whatever a lying
coordinator might. Members are the production state machines; the coordinator is either the
production `Round` (`direct`) or the test itself, which then finds what came for it in `inbox`.

Parameters are small and hide nothing.
"""

from __future__ import annotations

import random as seeded
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias, TypeVar

import numpy as np
import phe
from attrs import define, evolve, field, frozen

from fedring.coordinator.announcing import Announcing, make_announce
from fedring.coordinator.rosters import Bench, Cohorts
from fedring.coordinator.rounds import Effect as CoordinatorEffect
from fedring.coordinator.rounds import Ended, Round
from fedring.coordinator.sums import Opened, open_rings
from fedring.device.budgets import Budget
from fedring.device.consent import Consent
from fedring.device.effects import Effect as DeviceEffect
from fedring.device.effects import Work
from fedring.device.member import Member
from fedring.lab.simulate.cast import cast, coordinator, device
from fedring.lab.simulate.fleet import QUICK, SMALL, SMALL_KEY_BITS, TRAIN, paillier_key
from fedring.shared import contributions
from fedring.shared.effects import Send
from fedring.shared.encryption import SUITES, OneTimeMask, Random, Suite, suite
from fedring.shared.envelopes import Signed, Unverified, open_envelope, sign
from fedring.shared.errors import PeerError
from fedring.shared.identity import Identity
from fedring.shared.messages import (
    COORDINATOR_NAME,
    COORDINATOR_NUMBER,
    Announce,
    Call,
    Lap,
    List,
    Message,
    Plan,
    Ready,
    Refused,
    RingTerms,
    Roster,
    tag,
)
from fedring.shared.models import Model
from fedring.shared.numbers import IntVector, largest_value

PLENTY = Budget(level=1e6, per_day=1e6, cap=1e6)
"""A budget that no story uses up."""

M = TypeVar("M", bound=Message)


def small_model(n_weights: int) -> Model:
    """A model of so many weights, all 0."""
    return Model(
        kind="softmax",
        features=("a",),
        classes=("x", "y"),
        arrays={"layer1.weight": np.zeros(n_weights, np.float32)},
        trained=("layer1.weight",),
    )


@define(eq=False)
class Actor:
    """A member with what a test wants to look at.

    Attributes:
        member: the state machine.
        identity: its key and certificate.
        values: what it contributed last.
        mask: the mask it made last.
        did: all its effects, in order.
        complaints: what it raised.
    """

    member: Member
    identity: Identity
    values: IntVector | None = None
    mask: OneTimeMask | None = None
    did: list[DeviceEffect] = field(factory=list)
    complaints: list[PeerError] = field(factory=list)

    @property
    def name(self) -> str:
        return self.identity.name

    @property
    def number(self) -> int:
        return self.identity.number


@frozen
class Post:
    """A message that somebody sent and nobody has got yet."""

    source: str
    to: str
    data: bytes

    @property
    def message(self) -> Message:
        return open_envelope(self.data).message


Drop: TypeAlias = Callable[[Post], bool]


def keep_all(_: Post) -> bool:
    """Loses nothing."""
    return False


class Rehearsal:
    """A cast on an empty stage.

    Args:
        thresholds: one for each device; device numbers are 1, 2, 3 ...
        n_weights: of the model.
        seed: of all that is drawn.
        terms: of the rings.
        suite_name: of the encryption suite.
        budgets: of releases; the same for all devices.

    Attributes:
        actors: by device number.
        round: the production coordinator, once it directs.
        inbox: what came for the coordinator while the test plays it, with its writer.
        staged: everything that the coordinator asked of its shell.
        complaints: what the coordinator raised.
        overheard: everything that was sent or shown, as a recorder on the broker has it.
        draws: all that each party drew at random, by device number; 0 for the coordinator.
        now: the clock, moved by the test.
    """

    def __init__(
        self,
        thresholds: Sequence[int] = (2, 2, 2, 2),
        *,
        n_weights: int = 5,
        seed: int = 0,
        terms: RingTerms = QUICK,
        plan: Plan = TRAIN,
        suite_name: str = SUITES[0],
        releases: Budget = PLENTY,
        evaluations: Budget = PLENTY,
    ) -> None:
        self.random = seeded.Random(seed)  # noqa: S311  # a rehearsal repeats itself
        self.model = small_model(n_weights)
        self.terms = terms
        self.plan = plan
        self.suite_name = suite_name
        self.coordinator = coordinator()
        self.key = paillier_key(SMALL_KEY_BITS)
        self.revocation = cast().revocation()
        self.now = 0.0
        self.actors: dict[int, Actor] = {}
        self._budgets = (releases, evaluations)
        self._thresholds = dict(enumerate(thresholds, start=1))
        self.cohorts = Cohorts()
        self.bench = Bench()
        self.round: Round | None = None
        self.inbox: list[tuple[str, Unverified]] = []
        self.staged: list[CoordinatorEffect] = []
        self.complaints: list[PeerError] = []
        self.overheard: list[bytes] = []
        self.draws: dict[int, list[bytes]] = {}
        self.on_its_way: deque[Post] = deque()
        self.asleep: set[str] = set()
        self._announcing: dict[bytes, Announcing] = {}
        for number in self._thresholds:
            self.power_on(number)

    # -- devices ---------------------------------------------------------------------------

    def power_on(self, number: int, *, joined: tuple[int, int] = (0, 0), **consent: Any) -> Actor:
        """Start a device, for the first time or again; of what it knew only `joined` is left."""
        limits = Consent(threshold=self._thresholds[number], minimum_key_bits=SMALL_KEY_BITS)
        releases, evaluations = self._budgets
        identity = device(number)
        member = Member(
            identity=identity,
            authority=cast().authority,
            consent=evolve(limits, **consent),
            joined=joined,
            revocation=cast().authority.revocation(self.revocation),
            releases=releases,
            evaluations=evaluations,
            random=self._drawing(number),
        )
        actor = self.actors[number] = Actor(member, identity)
        return actor

    def reboot(self, number: int) -> Actor:
        """A power cut: what is in memory is gone."""
        return self.power_on(number, joined=self.actors[number].member.joined)

    def contribution(self, announce: Announce) -> IntVector:
        """A random update in the form of a contribution."""
        largest = largest_value(announce.bits)
        length = announce.n_values - len(contributions.Check)
        drawn = [self.random.randint(-largest, largest) for _ in range(length)]
        return contributions.contribution(np.array(drawn, np.int32))

    def suite_of(self, announce: Signed[Announce]) -> Suite:
        """The encryption suite of an announce."""
        return suite(
            announce.message.suite,
            public_key=phe.PaillierPublicKey(int.from_bytes(announce.message.paillier_n, "big")),
            announce_digest=announce.digest,
            n_values=announce.message.n_values,
            bits=announce.message.bits,
            parameters=SMALL,
        )

    def work(self, number: int, announce: Signed[Announce]) -> list[DeviceEffect]:
        """A device does what `Work` asked for, and says so."""
        actor = self.actors[number]
        made = self.suite_of(announce)
        actor.values = self.contribution(announce.message)
        actor.mask = made.prepare(self._drawing(number))
        return self._carry(
            actor,
            actor.member.worked(announce.digest, actor.values, actor.mask, made, self.now),
        )

    def shows(self, raw: bytes, number: int) -> list[DeviceEffect]:
        """A device sees this on the round topic, and works at once if it is to."""
        actor = self.actors[number]
        self.overheard.append(raw)
        effects = self._carry(actor, actor.member.announced(raw, self.now))
        for effect in list(effects):
            if isinstance(effect, Work):
                effects += self.work(number, effect.announce)
        return effects

    def says(
        self, number: int, message: Signed[Any] | bytes, source: str = COORDINATOR_NAME
    ) -> list[DeviceEffect]:
        """A device hears a message.

        Raises:
            PeerError: as the member does.
        """
        raw = message if isinstance(message, bytes) else message.raw
        actor = self.actors[number]
        self.overheard.append(raw)
        return self._carry(actor, actor.member.receive(source, raw, self.now))

    def _carry(self, actor: Actor, effects: Iterable[DeviceEffect]) -> list[DeviceEffect]:
        done = list(effects)
        actor.did += done
        for effect in done:
            if isinstance(effect, Send):
                self.overheard.append(effect.data)
                self.on_its_way.append(Post(actor.name, effect.to, effect.data))
        return done

    def _drawing(self, number: int) -> Random:
        """A source of random bytes that remembers what it gave to whom."""

        def draw(n_bytes: int) -> bytes:
            drawn = self.random.randbytes(n_bytes)
            self.draws.setdefault(number, []).append(drawn)
            return drawn

        return draw

    # -- the coordinator's pen ---------------------------------------------------------------

    def announcing(self, number: int = 1, *, epoch: int = 1, **changes: Any) -> Announcing:
        """The coordinator's announce of a round, with fields as a test likes them."""
        made = make_announce(
            identity=self.coordinator,
            epoch=epoch,
            round_number=number,
            model=self.model,
            version=0,
            parent=0,
            plan=self.plan,
            ring=self.terms,
            suite_name=self.suite_name,
            bits=16,
            public_key=self.key.public_key,
            revocation=1,
            random=self._drawing(COORDINATOR_NUMBER),
            parameters=SMALL,
        )
        if changes:
            made = evolve(made, announce=self.pen(evolve(made.announce.message, **changes)))
        self._announcing[made.announce.digest] = made
        return made

    def pen(self, message: M) -> Signed[M]:
        """The coordinator's signature under whatever a test writes."""
        return sign(message, self.coordinator)

    def tag(self, announce: Signed[Announce]) -> dict[str, Any]:
        """How every message of the coordinator begins in that round."""
        message = announce.message
        return tag(message.fleet, message.epoch, message.round, COORDINATOR_NUMBER)

    def roster(
        self, announce: Signed[Announce], readies: Iterable[Signed[Ready] | bytes], ring: int = 1
    ) -> Signed[Roster]:
        """A roster of these `ready` messages."""
        raws = tuple(one if isinstance(one, bytes) else one.raw for one in readies)
        return self.pen(
            Roster(**self.tag(announce), announce=announce.digest, ring=ring, readies=raws)
        )

    def lap(self, roster: Signed[Roster], *order: int, lap: int = 1) -> Signed[Lap]:
        """A lap in this order."""
        return self.pen(Lap(**self._same_round(roster), roster=roster.digest, lap=lap, order=order))

    def call(self, roster: Signed[Roster], lap: int = 1) -> Signed[Call]:
        """Still there?"""
        return self.pen(Call(**self._same_round(roster), roster=roster.digest, lap=lap))

    def request(self, roster: Signed[Roster], *names: int) -> Signed[List]:
        """The request for the sum over these names."""
        return self.pen(List(**self._same_round(roster), roster=roster.digest, names=names))

    def refusal(self, announce: Signed[Announce], about: bytes, reason: str) -> Signed[Refused]:
        """The coordinator refuses a message."""
        return self.pen(Refused(**self.tag(announce), about=about, reason=reason))

    @staticmethod
    def _same_round(roster: Signed[Roster]) -> dict[str, Any]:
        message = roster.message
        return tag(message.fleet, message.epoch, message.round, COORDINATOR_NUMBER)

    # -- the coordinator itself --------------------------------------------------------------

    def direct(
        self, made: Announcing, *, present: Mapping[int, str] | None = None
    ) -> list[CoordinatorEffect]:
        """The production coordinator takes the round over."""
        if present is None:
            present = {number: actor.name for number, actor in self.actors.items()}
        self.round = Round(
            announce=made.announce,
            exchange_key=made.exchange_key,
            identity=self.coordinator,
            authority=cast().authority,
            revoked=cast().authority.revocation(self.revocation).revoked,
            suite=made.suite,
            cohorts=self.cohorts,
            bench=self.bench,
            present=present,
        )
        return self.stage(self.round.start())

    def stage(self, effects: Iterable[CoordinatorEffect]) -> list[CoordinatorEffect]:
        """Carry out what the coordinator asks of its shell."""
        done = list(effects)
        self.staged += done
        for effect in done:
            if isinstance(effect, Send):
                self.overheard.append(effect.data)
                self.on_its_way.append(Post(COORDINATOR_NAME, effect.to, effect.data))
        return done

    @property
    def ended(self) -> Ended | None:
        """How the present round ended."""
        return next((e for e in reversed(self.staged) if isinstance(e, Ended)), None)

    def opened(self, made: Announcing) -> Opened:
        """The sum over all rings that ended in one."""
        assert self.ended is not None, "the round has not ended"  # noqa: S101
        return open_rings(made.suite, self.key, self.ended.sums)

    def total(self, *numbers: int) -> list[int]:
        """What these devices contributed last, summed in plain Python integers."""
        vectors = [self.actors[number].values for number in numbers]
        rows = [vector.tolist() for vector in vectors if vector is not None]
        return [sum(column) for column in zip(*rows, strict=True)]

    # -- the post and the clock --------------------------------------------------------------

    def deliver(self, drop: Drop = keep_all) -> None:
        """Deliver everything in order, and what comes of it, until nothing is on its way."""
        while self.on_its_way:
            post = self.on_its_way.popleft()
            if post.to not in self.asleep and post.source not in self.asleep and not drop(post):
                self.hand_over(post)

    def hand_over(self, post: Post) -> None:
        """Deliver one message; a `PeerError` becomes a complaint."""
        if post.to == COORDINATOR_NAME:
            if self.round is None:
                self.inbox.append((post.source, open_envelope(post.data)))
                return
            try:
                self.stage(self.round.receive(post.source, post.data, self.now))
            except PeerError as fault:
                self.complaints.append(fault)
            return
        actor = next(actor for actor in self.actors.values() if actor.name == post.to)
        try:
            self._carry(actor, actor.member.receive(post.source, post.data, self.now))
        except PeerError as fault:
            actor.complaints.append(fault)

    def wait(self, seconds: float, drop: Drop = keep_all, step: float = 0.25) -> None:
        """Let time pass for everybody who is awake, delivering what comes of it."""
        end = self.now + seconds
        while self.now < end:
            self.now = min(end, self.now + step)
            for actor in self.actors.values():
                if actor.name not in self.asleep:
                    self._carry(actor, actor.member.tick(self.now, self.now))
            if self.round is not None and COORDINATOR_NAME not in self.asleep:
                self.stage(self.round.tick(self.now, self.now))
            self.deliver(drop)

    def all_ready(self, made: Announcing, *numbers: int) -> list[Signed[Ready]]:
        """These devices, or all, see the announce, work and say `ready`; gives what they said."""
        readies = []
        for number in numbers or tuple(self.actors):
            self.shows(made.announce.raw, number)
            readies.append(self.sent(number, Ready)[-1])
        return readies

    def sent(self, number: int, kind: type[M]) -> list[Signed[M]]:
        """All messages of a kind that a device ever sent."""
        return said(self.actors[number].did, kind, self.actors[number].identity)


def said(effects: Iterable[object], kind: type[M], by: Identity) -> list[Signed[M]]:
    """The messages of a kind among effects, each one verified as its writer's own."""
    opened = [open_envelope(effect.data) for effect in effects if isinstance(effect, Send)]
    return [one.verified_by(by.peer, kind) for one in opened if isinstance(one.message, kind)]
