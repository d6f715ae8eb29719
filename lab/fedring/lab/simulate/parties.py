"""Devices and a coordinator on a simulated network: the production state machines, thin shells.

What a real shell keeps on disk is a few fields here; a crash drops everything else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol, TypeAlias

import phe
from attrs import define, evolve, field, frozen

from fedring.coordinator.announcing import Announcing
from fedring.coordinator.rosters import Bench, Cohorts
from fedring.coordinator.rounds import Announced, Dealt, Ended, Round
from fedring.coordinator.rounds import Effect as CoordinatorEffect
from fedring.device.budgets import Budget
from fedring.device.consent import Consent
from fedring.device.effects import Effect as DeviceEffect
from fedring.device.effects import Joined, Listed, Spent, Work
from fedring.device.member import Member
from fedring.lab.simulate.network import Network
from fedring.shared.effects import Send
from fedring.shared.encryption import Parameters, Random, suite
from fedring.shared.envelopes import Signed
from fedring.shared.errors import PeerError
from fedring.shared.identity import Authority, Identity
from fedring.shared.messages import COORDINATOR_NAME, Announce
from fedring.shared.numbers import IntVector

LEAST_WAIT_S = 0.05
"""Between two ticks without news: a deadline that cannot be acted on yet must not stop time."""

ROUND_TOPIC = "round"
REVOKED_TOPIC = "revoked"

Contribute: TypeAlias = Callable[[str, Signed[Announce], bool], IntVector]
"""(device name, announce, whether to evaluate) -> the vector to contribute."""


def never(_: object) -> bool:
    """No power cut, whatever effect is to be carried out next."""
    return False


class Observer(Protocol):
    """Somebody who sees everything, to check what must hold."""

    def contributed(self, device: str, announce: Signed[Announce], values: IntVector) -> None: ...
    def device_did(self, device: str, effect: DeviceEffect, now: float) -> None: ...
    def coordinator_did(self, effect: CoordinatorEffect, now: float) -> None: ...
    def complained(self, who: str, fault: PeerError) -> None: ...


@define
class Disk:
    """What a device has made durable."""

    joined: tuple[int, int] = (0, 0)
    releases: int = 0
    evaluations: int = 0
    revocation: bytes = field(default=b"", repr=False)


@frozen(eq=False)
class Settings:
    """What all devices of a simulation share.

    Attributes:
        authority: the fleet's.
        consent: every device's limits, but for the threshold.
        parameters: of the lattice.
        contribute: what devices contribute.
        work_s: least and longest time of training.
        random: source of secret bytes.
    """

    authority: Authority
    consent: Consent
    parameters: Parameters
    contribute: Contribute
    work_s: tuple[float, float]
    random: Random


class SimulatedDevice:
    """A board: a member, its disk, its connection.

    Args:
        identity: own key and certificate.
        threshold: own threshold.
        network: where it hangs on.
        settings: what it shares with the others.
        observer: who looks on.

    Attributes:
        power_cut: asked before each effect: whether the power goes right now.
    """

    def __init__(
        self,
        identity: Identity,
        threshold: int,
        network: Network,
        settings: Settings,
        observer: Observer,
    ) -> None:
        self.identity = identity
        self.name = identity.name
        self.threshold = threshold
        self.disk = Disk()
        self.power_cut: Callable[[DeviceEffect], bool] = never
        self._consent = evolve(settings.consent, threshold=threshold)
        self._network = network
        self._settings = settings
        self._observer = observer
        self.member: Member | None = None

    def start(self) -> None:
        """Power on: whatever is not on the disk is gone."""
        listed = self.disk.revocation
        plenty = Budget(level=1e9, per_day=1e9, cap=1e9)
        self.member = Member(
            identity=self.identity,
            authority=self._settings.authority,
            consent=self._consent,
            joined=self.disk.joined,
            revocation=self._settings.authority.revocation(listed) if listed else None,
            releases=evolve(plenty, total=self.disk.releases),
            evaluations=evolve(plenty, total=self.disk.evaluations),
            random=self._settings.random,
        )
        self._network.join(self.name, self)

    def crash(self) -> None:
        """Power off in the middle of whatever it does."""
        self.member = None
        self._network.leave(self.name)

    def reconnect(self) -> None:
        """The link is back."""
        self._network.come_back(self.name)
        if self.member is not None:
            self._do(self.member.reconnected(self._network.now))

    def deliver(self, source: str, data: bytes) -> None:
        if self.member is None:
            return
        try:
            effects = self.member.receive(source, data, self._network.now)
        except PeerError as fault:
            self._observer.complained(self.name, fault)
            return
        self._do(effects)

    def retained(self, topic: str, data: bytes) -> None:
        if self.member is None:
            return
        step = self.member.announced if topic == ROUND_TOPIC else self.member.revocation
        try:
            effects = step(data, self._network.now)
        except PeerError as fault:
            self._observer.complained(self.name, fault)
            return
        self._do(effects)

    def _do(self, effects: list[DeviceEffect], *, not_before: float = 0.0) -> None:
        for effect in effects:
            if self.power_cut(effect):
                self.crash()
                return
            self._observer.device_did(self.name, effect, self._network.now)
            match effect:
                case Send(to, data):
                    self._network.send(self.name, to, data)
                case Joined(epoch, number):
                    self.disk.joined = (epoch, number)
                case Spent("release", total):
                    self.disk.releases = total
                case Spent(_, total):
                    self.disk.evaluations = total
                case Listed(_, raw):
                    self.disk.revocation = raw
                case Work(announce, evaluate):
                    self._work(announce, evaluate)
                case _:
                    pass
        self._arm(not_before)

    def _work(self, announce: Signed[Announce], evaluate: bool) -> None:
        member = self.member
        done_at = self._network.now + self._network.random.uniform(*self._settings.work_s)

        def done() -> None:
            if member is None or self.member is not member:
                return
            values = self._settings.contribute(self.name, announce, evaluate)
            message = announce.message
            made = suite(
                message.suite,
                public_key=phe.PaillierPublicKey(int.from_bytes(message.paillier_n, "big")),
                announce_digest=announce.digest,
                n_values=message.n_values,
                bits=message.bits,
                parameters=self._settings.parameters,
            )
            self._observer.contributed(self.name, announce, values)
            mask = made.prepare(self._settings.random)
            self._do(member.worked(announce.digest, values, mask, made, self._network.now))

        self._network.at(done_at, done)

    def _arm(self, not_before: float) -> None:
        member = self.member
        if member is None or member.deadline is None:
            return

        def tick() -> None:
            if self.member is not member or member.deadline is None:
                return
            if self._network.now >= member.deadline:
                effects = member.tick(self._network.now, self._network.alive_at(self.name))
                self._do(effects, not_before=self._network.now + LEAST_WAIT_S)

        self._network.at(max(member.deadline, not_before), tick)


class SimulatedCoordinator:
    """The coordinator's shell for one round after the other.

    Args:
        network: where it hangs on.
        observer: who looks on.
        authority: the fleet's.
        identity: the coordinator's.
        announce: makes the announce of a round of this number; the number is durable by then.
        ended: takes the outcome of a round.
        names: device number -> name, of all devices.
        revocation: the signed revocation list.
    """

    def __init__(
        self,
        network: Network,
        observer: Observer,
        *,
        authority: Authority,
        identity: Identity,
        announce: Callable[[int], Announcing],
        ended: Callable[[Announcing, Ended], None],
        names: Mapping[int, str],
        revocation: bytes,
    ) -> None:
        self._network = network
        self._observer = observer
        self._authority = authority
        self._identity = identity
        self._announce = announce
        self._ended = ended
        self._names = names
        self._revocation = revocation
        self.last_round = 0
        self.table: dict[int, int] = {}
        self.bench = Bench()
        self.round: Round | None = None
        self._announcing: Announcing | None = None
        self.power_cut: Callable[[CoordinatorEffect], bool] = never

    def start(self) -> None:
        """Power on."""
        self._network.join(COORDINATOR_NAME, self)
        self._network.publish(COORDINATOR_NAME, REVOKED_TOPIC, self._revocation)

    def crash(self) -> None:
        """Power off: the round in progress is lost, its number stays used."""
        self.round = None
        self._network.leave(COORDINATOR_NAME)

    def forget(self, revocation: bytes) -> None:
        """All that was stored is lost; the fleet authority has signed a new list and epoch."""
        self.last_round = 0
        self.table = {}
        self.bench = Bench()
        self._revocation = revocation

    def begin_round(self) -> None:
        self.last_round += 1
        self._announcing = self._announce(self.last_round)
        present = {n: name for n, name in self._names.items() if self._network.is_up(name)}
        self.round = Round(
            announce=self._announcing.announce,
            exchange_key=self._announcing.exchange_key,
            identity=self._identity,
            authority=self._authority,
            revoked=self._authority.revocation(self._revocation).revoked,
            suite=self._announcing.suite,
            cohorts=Cohorts(dict(self.table)),
            bench=self.bench,
            present=present,
        )
        self._do(self.round.start())

    def saw(self, number: int, *, online: bool) -> None:
        """A device came or went, as its status topic tells."""
        if self.round is not None:
            name = self._names[number]
            self._do(self.round.present(number, name, online=online, now=self._network.now))

    def deliver(self, source: str, data: bytes) -> None:
        if self.round is None:
            return
        try:
            effects = self.round.receive(source, data, self._network.now)
        except PeerError as fault:
            self._observer.complained(COORDINATOR_NAME, fault)
            return
        self._do(effects)

    def retained(self, topic: str, data: bytes) -> None:
        pass

    def reconnect(self) -> None:
        """The link is back."""
        self._network.come_back(COORDINATOR_NAME)
        if self.round is not None:
            self._do(self.round.reconnected(self._network.now))

    def _do(self, effects: list[CoordinatorEffect], *, not_before: float = 0.0) -> None:
        for effect in effects:
            if self.power_cut(effect):
                self.crash()
                return
            self._observer.coordinator_did(effect, self._network.now)
            match effect:
                case Send(to, data):
                    self._network.send(COORDINATOR_NAME, to, data)
                case Announced(data):
                    self._network.publish(COORDINATOR_NAME, ROUND_TOPIC, data)
                case Dealt(table):
                    self.table = dict(table)
                case Ended() if self._announcing is not None:
                    self._ended(self._announcing, effect)
                case _:
                    pass
        self._arm(not_before)

    def _arm(self, not_before: float) -> None:
        round_ = self.round
        if round_ is None or round_.deadline is None:
            return

        def tick() -> None:
            if self.round is not round_ or round_.deadline is None:
                return
            if self._network.now >= round_.deadline:
                alive_at = self._network.alive_at(COORDINATOR_NAME)
                effects = round_.tick(self._network.now, alive_at)
                self._do(effects, not_before=self._network.now + LEAST_WAIT_S)

        self._network.at(max(round_.deadline, not_before), tick)
