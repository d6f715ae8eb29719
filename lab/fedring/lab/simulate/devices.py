"""Devices on a simulated network: the production state machine, its disk, its connection."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeAlias

import phe
from attrs import evolve, frozen

from fedring.device.budgets import Budget
from fedring.device.consent import Consent
from fedring.device.effects import Effect, Effects, Joined, Listed, Spent, Work
from fedring.device.member import Member
from fedring.lab.simulate.disk import Disk
from fedring.lab.simulate.network import Network
from fedring.lab.simulate.shells import Shell
from fedring.shared.effects import Send
from fedring.shared.encryption import Parameters, Random, suite
from fedring.shared.envelopes import Signed
from fedring.shared.errors import PeerError
from fedring.shared.identity import Authority, Identity
from fedring.shared.messages import Announce
from fedring.shared.numbers import IntVector
from fedring.shared.pairwise import NewRoundKey

REVOKED_TOPIC = "revoked"
ROUND_TOPIC = "round"

Contribute: TypeAlias = Callable[[str, Signed[Announce], bool], IntVector]
"""(device name, announce, whether to evaluate) -> the vector to contribute."""

PLENTY = Budget(level=1e9, per_day=1e9, cap=1e9)
"""A budget that no simulation uses up."""


class Observer(Protocol):
    """Somebody who sees all that devices do, plaintexts included."""

    def contributed(self, device: str, announce: Signed[Announce], values: IntVector) -> None: ...
    def device_did(self, device: str, effect: Effect, now: float) -> None: ...
    def complained(self, who: str, fault: PeerError) -> None: ...


@frozen(eq=False)
class Setting:
    """What all devices of a simulation share.

    Attributes:
        authority: the fleet's.
        consent: every device's limits, but for the threshold.
        parameters: of the lattice.
        contribute: what devices contribute.
        work_s: least and longest time of training.
        sync_s: how long a record takes to be synced.
        random: source of secret bytes.
        round_key: makes round keys.
    """

    authority: Authority
    consent: Consent
    parameters: Parameters
    contribute: Contribute
    work_s: tuple[float, float]
    sync_s: float
    random: Random
    round_key: NewRoundKey


class SimulatedDevice(Shell[Effect]):
    """A board: a member, its disk, its connection.

    Args:
        identity: own key and certificate.
        threshold: own threshold.
        network: where it hangs on.
        setting: what it shares with the others.
        observer: who looks on.

    Attributes:
        disk: survives its deaths.
        member: the state machine, while the power is on.
    """

    def __init__(
        self,
        identity: Identity,
        threshold: int,
        network: Network,
        setting: Setting,
        observer: Observer,
    ) -> None:
        super().__init__(identity.name, network, setting.sync_s)
        self.identity = identity
        self.threshold = threshold
        self.disk = Disk()
        self.member: Member | None = None
        self._setting = setting
        self._observer = observer

    def start(self) -> None:
        """Power on: what is not on the disk is gone."""
        kept = self.disk.written
        authority = self._setting.authority
        self.member = Member(
            identity=self.identity,
            authority=authority,
            consent=evolve(self._setting.consent, threshold=self.threshold),
            joined=kept.joined,
            revocation=authority.revocation(kept.revocation) if kept.revocation else None,
            releases=evolve(PLENTY, total=kept.releases),
            evaluations=evolve(PLENTY, total=kept.evaluations),
            random=self._setting.random,
            round_key=self._setting.round_key,
        )
        self.alive = True
        self.network.join(self.name, self)

    def die(self, *, power_cut: bool = False) -> None:
        """Stop in the middle of whatever it does; a power cut takes what is not synced along."""
        if self.member is None:
            return
        self.stop()
        self.member = None
        if power_cut:
            self.disk.lose_power()
        else:
            self.disk.sync()  # the kernel lives on, and writes what a dead process has written
        self.network.leave(self.name)

    # -- what the network brings -------------------------------------------------------------

    def connected(self) -> None:
        if (member := self.member) is not None:
            self.take(lambda: member.reconnected(self.network.now))

    def deliver(self, source: str, data: bytes) -> None:
        if (member := self.member) is not None:
            self.take(lambda: member.receive(source, data, self.network.now))

    def retained(self, topic: str, data: bytes) -> None:
        if (member := self.member) is not None:
            step = member.announced if topic == ROUND_TOPIC else member.revocation
            self.take(lambda: step(data, self.network.now))

    def seen(self, name: str, *, online: bool) -> None:
        pass

    # -- what the member asks for ------------------------------------------------------------

    @property
    def machine(self) -> Member | None:
        return self.member

    def tick(self) -> Effects:
        assert self.member is not None  # noqa: S101
        return self.member.tick(self.network.now, self.network.alive_at(self.name))

    def did(self, effect: Effect) -> None:
        self._observer.device_did(self.name, effect, self.network.now)

    def complained(self, fault: PeerError) -> None:
        self._observer.complained(self.name, fault)

    def write(self, effect: Effect) -> bool:
        match effect:
            case Joined(epoch, number):
                self.disk.write(joined=(epoch, number))
            case Spent("release", total):
                self.disk.write(releases=total)
            case Spent(_, total):
                self.disk.write(evaluations=total)
            case Listed(_, raw):
                self.disk.write(revocation=raw)
            case _:
                return False
        return True

    def sync(self) -> None:
        self.disk.sync()

    def carry_out(self, effect: Effect) -> None:
        match effect:
            case Send(to, data):
                self.network.send(self.name, to, data)
            case Work(announce, evaluate):
                self._work(announce, evaluate)

    def _work(self, announce: Signed[Announce], evaluate: bool) -> None:
        member = self.member
        assert member is not None  # noqa: S101
        work_s = self.network.random.uniform(*self._setting.work_s)

        def done() -> Effects:
            values = self._setting.contribute(self.name, announce, evaluate)
            message = announce.message
            made = suite(
                message.suite,
                public_key=phe.PaillierPublicKey(int.from_bytes(message.paillier_n, "big")),
                announce_digest=announce.digest,
                n_values=message.n_values,
                bits=message.bits,
                parameters=self._setting.parameters,
            )
            self._observer.contributed(self.name, announce, values)
            mask = made.prepare(self._setting.random)
            return member.worked(announce.digest, values, mask, made, self.network.now)

        slower_s = 10 * self.network.lag_of(self.name)
        self.later(self.network.now + work_s + slower_s, lambda: self.take(done))
