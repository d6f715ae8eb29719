"""From the owner's settings to what an announce asks of the devices."""

from __future__ import annotations

from fedring.coordinator.lap_times import lap_s
from fedring.coordinator.settings import Ring, Training
from fedring.coordinator.strategies import statistics_plan
from fedring.shared import networks
from fedring.shared.messages import Plan, RingTerms
from fedring.shared.models import Model

STATISTICS_SAMPLES = 512
"""Most samples of a device that enter the sums behind the normalisation."""


def plan_of(training: Training, model: Model) -> Plan:
    """What the next round is for: statistics until the model is normalised, then training."""
    plan = Plan(
        task="train",
        epochs=training.epochs,
        batch=training.batch,
        rate=training.rate,
        clip=training.clip,
        value_range=training.value_range,
        evaluation_samples=training.evaluation_samples,
        max_samples=STATISTICS_SAMPLES,
    )
    if training.statistics and not networks.is_normalised(model):
        return statistics_plan(plan)
    return plan


def terms_of(ring: Ring, n_values: int, *, members: int, rate: float) -> RingTerms:
    """Sizes and durations of the next round's rings.

    Args:
        ring: the settings.
        n_values: length of the vector that each device adds; some 4 bytes a value.
        members: of the largest ring that may be formed.
        rate: bytes a second that links are taken to carry.
    """
    body_bytes = 4 * n_values + 4096
    return RingTerms(
        size=ring.size,
        ready_s=ring.ready_s,
        patience_s=ring.patience_s,
        release_s=ring.release_s,
        lap_s=lap_s(members, body_bytes, rate),
    )
