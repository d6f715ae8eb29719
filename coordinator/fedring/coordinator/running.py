"""A round under way as the service sees it: what it began with, and how long its parts take."""

from __future__ import annotations

from collections.abc import Mapping

from attrs import define

from fedring.coordinator.announcing import Announcing
from fedring.coordinator.conclusion import Conclusion
from fedring.coordinator.records import Outcome, Version, VoidRing
from fedring.coordinator.rounds import Round
from fedring.shared.effects import Fact
from fedring.shared.models import Model

NO_RING = "no ring could be formed"


@define(eq=False)
class Running:
    """A round under way.

    Attributes:
        announcing: its announce, and the secret behind it.
        round: its state machine.
        model: what it starts from.
        version: the same in the history.
        began: when it was announced, on the monotonic clock.
        bytes_before: payload bytes by topic class until then.
        formed: when its last ring was formed.
        ended: when its last ring ended.
        rings: how many were formed.
    """

    announcing: Announcing
    round: Round
    model: Model
    version: Version
    began: float
    bytes_before: Mapping[str, int]
    formed: float | None = None
    ended: float | None = None
    rings: int = 0

    @property
    def where(self) -> dict[str, Fact]:
        """Epoch and round, for reports."""
        message = self.announcing.announce.message
        return {"epoch": message.epoch, "round": message.round}

    @property
    def task(self) -> str:
        """What the devices were asked to do."""
        return self.announcing.announce.message.plan.task

    @property
    def body_bytes(self) -> int:
        """Size of this round's bodies."""
        return self.announcing.suite.body_bytes

    def outcome(self, conclusion: Conclusion, now: float, bytes_now: Mapping[str, int]) -> Outcome:
        """How the round ended, for the history."""
        message = self.announcing.announce.message
        ended = self.ended or now
        formed = self.formed or ended
        reasons = [void.reason for void in conclusion.voids] or [NO_RING]
        return Outcome(
            epoch=message.epoch,
            round=message.round,
            task="statistics" if self.task == "statistics" else "train",
            contributors=len(conclusion.contributors),
            rings=self.rings,
            late_rings=self.round.n_late_rings,
            void_rings=tuple(
                VoidRing(ring=void.ring, reason=void.reason, silent=void.unreleased)
                for void in conclusion.voids
            ),
            seconds={
                "ready": round(formed - self.began, 3),
                "rings": round(ended - formed, 3),
                "opening": round(now - ended, 3),
                "total": round(now - self.began, 3),
            },
            traffic={
                name: count - self.bytes_before.get(name, 0) for name, count in bytes_now.items()
            },
            reason="" if conclusion.model is not None else "; ".join(reasons),
        )
