"""Invariant 10: secrets of a round stay in memory, and not for longer than they serve."""

from __future__ import annotations

from collections.abc import Mapping

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from fedring.coordinator.announcing import Announcing
from fedring.coordinator.rounds import Announced
from fedring.coordinator.rounds import Effect as CoordinatorEffect
from fedring.device.effects import Abandon, Effect
from fedring.lab.simulate.fleet import SimulatedFleet
from fedring.lab.simulate.small_keys import SmallRoundKey
from fedring.lab.simulate.watch.bodies import Bodies
from fedring.lab.simulate.watch.checks import Check, RoundOf, require, round_of
from fedring.shared.effects import Fact, Report
from fedring.shared.messages import Message, Release
from fedring.shared.pairwise import RoundKey

LEAST_BYTES, MOST_BYTES = 32, 64
"""Shorter vectors may stand in a message by chance; so much of a longer one is looked for."""


class Secrecy(Check):
    def __init__(self, fleet: SimulatedFleet, bodies: Bodies) -> None:
        super().__init__(fleet)
        self._bodies = bodies
        self._exchange_key = b""

    def announcing(self, announcing: Announcing, /) -> None:
        self._exchange_key = _private(announcing.exchange_key)

    def coordinator_did(self, effect: CoordinatorEffect, /) -> None:
        match effect:
            case Announced(data):
                hidden = self._exchange_key not in data
                require(hidden, "the coordinator's round secret stays in memory")
            case Report(event, facts):
                _for_people(event, facts)

    def device_did(self, device: str, effect: Effect, /) -> None:
        match effect:
            case Report(event, facts):
                _for_people(event, facts)
            case Abandon(epoch, number):
                self._dropped(device, (epoch, number))

    def device_sent(self, device: str, message: Message, data: bytes, /) -> None:
        where = round_of(message)
        number = self.fleet.devices[device].identity.number
        own = self._bodies.joined.get(where, {}).get(number)
        if own is None:
            return
        require(_private(own.secrets.round_key) not in data, "round keys stay", device, message)
        values = own.values[: MOST_BYTES // own.values.itemsize].tobytes()
        hidden = len(values) < LEAST_BYTES or values not in data
        require(hidden, "updates leave masked only", device, message)
        if isinstance(message, Release):
            self._dropped(device, where)

    def _dropped(self, device: str, where: RoundOf) -> None:
        """Whatever the device made for a round is used up or erased, and out of its reach."""
        number = self.fleet.devices[device].identity.number
        own = self._bodies.joined.get(where, {}).get(number)
        member = self.fleet.devices[device].member
        if own is None or member is None:
            return
        mask = own.secrets.mask
        left = mask._mask.drop() is not None or mask._ciphertexts.drop() is not None  # noqa: SLF001
        require(not left, "keys are erased with the release or the refusal", device, where)
        held = member._round  # noqa: SLF001
        gone = held is None or held.secrets is not own.secrets
        require(gone, "secrets are dropped with the release or the refusal", device, where)


def _private(key: RoundKey) -> bytes:
    if isinstance(key, SmallRoundKey):
        return key.exponent.to_bytes(8, "little")
    return key._key.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())  # noqa: SLF001


def _for_people(event: str, facts: Mapping[str, Fact]) -> None:
    readable = all(isinstance(fact, str | int | float | list) for fact in facts.values())
    require(readable, "reports hold nothing but words and numbers", event)
