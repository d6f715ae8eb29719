"""From the sums of a round's rings to the next version of the model.

Pure functions, slow ones: `open_rings` decrypts. The service runs them in a thread, the
simulator at once.

Source: docs/protocol.md, section 4, step 6.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from attrs import frozen
from phe import PaillierPrivateKey

from fedring.coordinator.announcing import Announcing
from fedring.coordinator.rings import Void
from fedring.coordinator.rounds import Ended
from fedring.coordinator.strategies import Strategy, mean_update, normalise
from fedring.coordinator.sums import Opened, open_rings
from fedring.shared import networks
from fedring.shared.contributions import read_sum
from fedring.shared.models import Floats, Model
from fedring.shared.networks import Classes
from fedring.shared.numbers import MeanVector, SumVector
from fedring.shared.samples import Dataset

Evaluate: TypeAlias = Callable[[Model, Floats, Classes], networks.Evaluation]
"""Compares a model's answers on raw features with the truth."""


@frozen
class Conclusion:
    """What a round came to.

    Attributes:
        model: the next one; None when no ring holds.
        contributors: device numbers in the sum.
        voids: rings that gave nothing, those that failed a sum check among them.
        metrics: of the incoming model over the fleet (`fleet_accuracy`, `fleet_loss`, `clipped`)
            and, where the coordinator has its own data, of the new model (`accuracy`, `macro_f1`,
            `loss`).
        opened: what was opened, or None when there was nothing to open.
    """

    model: Model | None
    contributors: tuple[int, ...]
    voids: tuple[Void, ...]
    metrics: Mapping[str, Any]
    opened: Opened | None = None


def conclude(
    announcing: Announcing,
    ended: Ended,
    *,
    private_key: PaillierPrivateKey,
    model: Model,
    strategy: Strategy,
    evaluation: Dataset | None,
    evaluate: Evaluate = networks.evaluate,
) -> Conclusion:
    """Open the sums, step the model, evaluate it.

    Args:
        announcing: of the round.
        ended: its rings.
        private_key: belongs to the announced public key.
        model: the announced one.
        strategy: makes the next model from the mean update.
        evaluation: the coordinator's own data, if it has any.
        evaluate: computes the model on it.
    """
    announce = announcing.announce.message
    if not ended.sums:
        return Conclusion(None, (), ended.voids, {})

    def update_of(total: SumVector, n_contributors: int) -> MeanVector:
        read = read_sum(total, n_contributors, announce.bits)
        return mean_update(read.update, read.weight, announce.plan, announce.bits)

    def accept(total: SumVector, n_contributors: int) -> None:
        # Each value is in its range: any one contributor can take the samples of all others away.
        if announce.plan.task == "statistics":
            normalise(model, update_of(total, n_contributors))

    opened = open_rings(announcing.suite, private_key, ended.sums, accept)
    members = {ring.label: len(ring.names) for ring in ended.sums}
    bad = tuple(
        Void(int(label), reason, members[label]) for label, reason in opened.bad_rings.items()
    )
    voids = (*ended.voids, *bad)
    if not opened.names:
        return Conclusion(None, (), voids, {}, opened)
    total = read_sum(opened.total, len(opened.names), announce.bits)
    update = update_of(opened.total, len(opened.names))
    metrics: dict[str, Any] = {"clipped": total.clipped}
    if announce.plan.task == "statistics":
        following = normalise(model, update)
    else:
        following = strategy.step(model, update)
        if total.evaluated and announce.plan.evaluation_samples:
            asked = total.evaluated * announce.plan.evaluation_samples
            metrics |= {"fleet_accuracy": total.correct / asked, "fleet_loss": total.loss}
    if evaluation is not None:
        found = evaluate(following, evaluation.x, evaluation.y)
        metrics |= {"accuracy": found.accuracy, "macro_f1": found.macro_f1, "loss": found.loss}
    return Conclusion(following, opened.names, voids, metrics, opened)
