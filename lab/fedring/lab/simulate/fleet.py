"""A whole fleet on one simulated network: n devices, a coordinator, rounds one after the other."""

from __future__ import annotations

import random as seeded
from collections.abc import Callable, Sequence
from functools import cache

import phe
from attrs import define, field

from fedring.coordinator.announcing import Announcing, make_announce
from fedring.coordinator.records import Version
from fedring.coordinator.rounds import Effect as CoordinatorEffect
from fedring.device.consent import Consent
from fedring.device.effects import Effect as DeviceEffect
from fedring.lab.simulate.cast import cast, coordinator
from fedring.lab.simulate.cast import device as identity_of
from fedring.lab.simulate.coordinators import Concluded, SimulatedCoordinator
from fedring.lab.simulate.devices import Contribute, Setting, SimulatedDevice
from fedring.lab.simulate.network import CALM, Faults, Network
from fedring.lab.simulate.small_keys import SmallRoundKey
from fedring.shared.encryption import SUITES, Parameters, generate_key
from fedring.shared.envelopes import Signed
from fedring.shared.errors import PeerError
from fedring.shared.messages import Announce, Plan, RingTerms
from fedring.shared.models import Model
from fedring.shared.numbers import IntVector
from fedring.shared.pairwise import RoundKey

FLEET = "simulated"
SETTLE_S = 1.0
"""After the start: time for everybody to hear who is there."""

SMALL = Parameters(dimension=64)
"""Lattice dimension for schedules by the thousand; hides nothing."""
SMALL_KEY_BITS = 256

QUICK = RingTerms(size=8, ready_s=20.0, patience_s=2.0, release_s=6.0, lap_s=20.0)
TRAIN = Plan(
    task="train",
    epochs=1,
    batch=32,
    rate=0.1,
    clip=2.0,
    value_range=2.0,
    evaluation_samples=32,
    max_samples=512,
)


@cache
def paillier_key(bits: int) -> phe.PaillierPrivateKey:
    """A key for simulations, made from a seed once a process: never for a fleet."""
    return generate_key(bits, random=seeded.Random(bits).randbytes)  # noqa: S311  # a simulation repeats itself


@define
class Record:
    """All that was seen: what the observer of a simulation keeps.

    Attributes:
        contributions: (round, device) -> the vectors that it made; one, if all is well.
        device_effects: (time, device, effect) in order.
        coordinator_effects: (time, effect) in order.
        faults: who complained of what.
        conclusions: rounds that ended, in order.
    """

    contributions: dict[tuple[int, str], list[IntVector]] = field(factory=dict)
    device_effects: list[tuple[float, str, DeviceEffect]] = field(factory=list)
    coordinator_effects: list[tuple[float, CoordinatorEffect]] = field(factory=list)
    faults: list[tuple[str, PeerError]] = field(factory=list)
    conclusions: list[Concluded] = field(factory=list)

    def contributed(self, device: str, announce: Signed[Announce], values: IntVector) -> None:
        self.contributions.setdefault((announce.message.round, device), []).append(values.copy())

    def device_did(self, device: str, effect: DeviceEffect, now: float) -> None:
        self.device_effects.append((now, device, effect))

    def coordinator_did(self, effect: CoordinatorEffect, now: float) -> None:
        self.coordinator_effects.append((now, effect))

    def complained(self, who: str, fault: PeerError) -> None:
        self.faults.append((who, fault))

    def announcing(self, announcing: Announcing) -> None:
        """A round is about to be announced."""

    def ended(self, concluded: Concluded) -> None:
        """A round came to its end, and that is stored."""
        self.conclusions.append(concluded)

    def forget(self) -> None:
        """Drop what was seen so far: for runs of many rounds."""
        self.contributions.clear()
        self.device_effects.clear()
        self.coordinator_effects.clear()
        self.faults.clear()
        self.conclusions.clear()


class SimulatedFleet:
    """Devices, coordinator and network, ready to run rounds.

    Args:
        thresholds: one for each device; their count is the fleet's size.
        model: what rounds start from.
        contribute: what devices contribute.
        seed: of the network and all else that is drawn.
        faults: how bad the network is.
        terms: of the rings.
        plan: of the rounds.
        suite_name: of the encryption suite.
        bits: width of a value.
        parameters: of the lattice.
        key_bits: of the Paillier modulus.
        work_s: least and longest time of training.
        sync_s: how long a record takes to be synced.
        quick: with a quick cast (see `cast`) and small round keys.
        record: keeps, and may check, what is seen.
    """

    def __init__(
        self,
        thresholds: Sequence[int],
        model: Model,
        contribute: Contribute,
        *,
        seed: int = 0,
        faults: Faults = CALM,
        terms: RingTerms = QUICK,
        plan: Plan = TRAIN,
        suite_name: str = SUITES[0],
        bits: int = 16,
        parameters: Parameters = SMALL,
        key_bits: int = SMALL_KEY_BITS,
        work_s: tuple[float, float] = (0.5, 3.0),
        sync_s: float = 0.0,
        quick: bool = False,
        record: Record | None = None,
    ) -> None:
        self.network = Network(seed, faults)
        self.record = record or Record()
        self.plan = plan
        self.terms = terms
        self.random = seeded.Random(seed ^ 0x5EED).randbytes  # noqa: S311  # a simulation repeats itself
        self.bits = bits
        self._suite_name = suite_name
        self._parameters = parameters
        self._round_key = SmallRoundKey.generate if quick else RoundKey.generate
        self.private_key = paillier_key(key_bits)
        self.epoch = 1
        self._cast = cast(FLEET, quick=quick)
        authority = self._cast.authority
        setting = Setting(
            authority=authority,
            consent=Consent(threshold=1, minimum_key_bits=key_bits),
            parameters=parameters,
            contribute=contribute,
            work_s=work_s,
            sync_s=sync_s,
            random=self.random,
            round_key=self._round_key,
        )
        self.devices: dict[str, SimulatedDevice] = {}
        for number, threshold in enumerate(thresholds, start=1):
            identity = identity_of(number, FLEET, quick=quick)
            device = SimulatedDevice(identity, threshold, self.network, setting, self.record)
            self.devices[identity.name] = device
        self.identity = coordinator(FLEET, quick=quick)
        self.coordinator = SimulatedCoordinator(
            self.network,
            self.record,
            authority=authority,
            identity=self.identity,
            private_key=self.private_key,
            announce=self._announce,
            names={device.identity.number: name for name, device in self.devices.items()},
            model=model,
            revocation=self._cast.revocation(self.epoch, self.epoch),
            sync_s=sync_s,
        )
        self.coordinator.start()
        for device in self.devices.values():
            device.start()
        self.network.run(lambda: False, SETTLE_S)

    def run_round(self, limit_s: float = 600.0) -> Concluded | None:
        """Run one round to its end; None when it has none within `limit_s` of simulated time."""
        before = len(self.record.conclusions)
        self.coordinator.begin_round()
        ended = self.network.run(
            lambda: len(self.record.conclusions) > before, self.network.now + limit_s
        )
        return self.record.conclusions[-1] if ended else None

    def begin_epoch(self) -> None:
        """The coordinator's store is lost: the owner begins the next epoch, rounds count from 1."""
        self.epoch += 1
        self.coordinator.die()
        self.coordinator.lose_store(self._cast.revocation(self.epoch, self.epoch))
        self.coordinator.start()

    def when(self, condition: Callable[[], bool], action: Callable[[], None]) -> None:
        """Do something as soon as a condition holds, looking every millisecond."""

        def look() -> None:
            if condition():
                action()
            else:
                self.network.at(self.network.now + 0.001, look)

        look()

    def _announce(self, epoch: int, number: int, version: Version, model: Model) -> Announcing:
        return make_announce(
            identity=self.identity,
            epoch=epoch,
            round_number=number,
            model=model,
            version=version.version,
            parent=version.parent,
            plan=self.plan,
            ring=self.terms,
            suite_name=self._suite_name,
            bits=self.bits,
            public_key=self.private_key.public_key,
            revocation=self.epoch,
            random=self.random,
            parameters=self._parameters,
            round_key=self._round_key,
        )
