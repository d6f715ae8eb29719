"""What a check of an invariant sees, and how it says that a promise is broken."""

from __future__ import annotations

from typing import TypeAlias

from fedring.coordinator.announcing import Announcing
from fedring.coordinator.rounds import Effect as CoordinatorEffect
from fedring.device.effects import Effect as DeviceEffect
from fedring.lab.simulate.coordinators import Concluded
from fedring.lab.simulate.fleet import SimulatedFleet
from fedring.shared.envelopes import Signed
from fedring.shared.messages import Announce, Message
from fedring.shared.numbers import IntVector

RoundOf: TypeAlias = tuple[int, int]
"""(epoch, round)."""


class Broken(AssertionError):  # noqa: N818  # it is what a reader looks for: which promise broke
    """A promise of the protocol does not hold."""


def require(holds: bool, promise: str, *facts: object) -> None:
    """Raise `Broken` unless a promise holds."""
    if not holds:
        raise Broken(f"{promise}: {', '.join(map(repr, facts))}")


def round_of(message: Message) -> RoundOf:
    """The round that a message belongs to."""
    return message.epoch, message.round


class Check:
    """Sees every step, before it is carried out; raises `Broken`.

    Args:
        fleet: who is watched.
    """

    def __init__(self, fleet: SimulatedFleet) -> None:
        self.fleet = fleet

    def announcing(self, announcing: Announcing, /) -> None:
        """A round is about to be announced."""

    def contributed(self, device: str, announce: Signed[Announce], values: IntVector, /) -> None:
        """A device has made its vector, not masked yet."""

    def device_did(self, device: str, effect: DeviceEffect, /) -> None:
        """A device is about to do something."""

    def device_sent(self, device: str, message: Message, data: bytes, /) -> None:
        """It is a message."""

    def coordinator_did(self, effect: CoordinatorEffect, /) -> None:
        """The coordinator is about to do something."""

    def coordinator_sent(self, message: Message, data: bytes, /) -> None:
        """It is a message to one device."""

    def ended(self, concluded: Concluded, /) -> None:
        """A round has ended, and that is stored."""
