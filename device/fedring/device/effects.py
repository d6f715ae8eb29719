"""What a device asks its shell to do, and the words for where it stands.

A record (`Joined`, `Spent`, `Listed`) that stands before a `Send` in one list of effects is durable
before the first byte leaves.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TypeAlias

from attrs import field, frozen

from fedring.shared.effects import Report, Send
from fedring.shared.envelopes import Signed
from fedring.shared.messages import Announce, ModelReference


@frozen
class Joined:
    """To be made durable: this device signs a `ready` for this round, its last up to here."""

    epoch: int
    round: int


@frozen
class Spent:
    """To be made durable: one more use of a budget.

    Attributes:
        budget: `release` or `evaluation`.
        total: uses since the device was set up.
        level: uses left at this moment.
    """

    budget: str
    total: int
    level: float


@frozen
class Listed:
    """To be made durable: the newest revocation list, as its envelope."""

    number: int
    raw: bytes = field(repr=False)


@frozen
class Work:
    """To be done beside the protocol: fetch the model, train, make key and mask.

    Attributes:
        announce: what is asked.
        evaluate: whether the incoming model may be evaluated on own data.
    """

    announce: Signed[Announce]
    evaluate: bool


@frozen
class Keep:
    """To be fetched and kept for other programs on this board: the newest model.

    Attributes:
        epoch: in which it is the newest.
        model: which one.
    """

    epoch: int
    model: ModelReference


@frozen
class Abandon:
    """The round is over for this device: stop its work and forget what it made."""

    epoch: int
    round: int


Effect: TypeAlias = Send | Report | Joined | Spent | Listed | Work | Keep | Abandon
Effects: TypeAlias = list[Effect]


class State(StrEnum):
    """Where a device stands; the words of its status topic."""

    IDLE = "idle"
    WAITING = "waiting for revocation list"
    WORKING = "training"
    READY = "ready"
    MEMBER = "in ring"
    RELEASED = "released"
    REFUSED = "refused"
