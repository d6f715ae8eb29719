"""From the incoming model and the device's own data to the integer vector that it contributes.

The plan's task decides: `train` gives a clipped update of the weights, `statistics` the sums behind
the federated normalisation. What leaves here is still in the clear: `member` masks it at once and
nothing else ever sees it.

Source: design of the learning task in docs/learning.md; docs/protocol.md, section 4, step 2.
"""

from __future__ import annotations

import threading

import numpy as np

from fedring.device.data import Dataset
from fedring.device.trainers import Trainer
from fedring.shared import contributions
from fedring.shared.errors import ProtocolError
from fedring.shared.messages import Announce
from fedring.shared.models import Model
from fedring.shared.numbers import IntVector, clip_norm, quantise
from fedring.shared.tasks import n_values


def contribute(
    trainer: Trainer,
    model: Model,
    dataset: Dataset,
    announce: Announce,
    *,
    evaluate: bool,
    rng: np.random.Generator,
    stop: threading.Event | None = None,
) -> IntVector:
    """Do what the plan asks and code the outcome as integers.

    Args:
        trainer: learns from the data.
        model: the announced one.
        dataset: this device's own.
        announce: plan and width of a value.
        evaluate: whether values of the incoming model's evaluation go along.
        rng: draws shuffles, then the direction of each rounding.
        stop: set from another thread to end a training whose outcome nobody waits for.

    Returns:
        int32, shape (announce.n_values,).

    Raises:
        ProtocolError: the announced length does not fit the announced model.
        UpdateError: training ended in a NaN or infinity.
        TrainingStopped: `stop` was set.
    """
    plan = announce.plan
    expected = n_values(model, plan.task)
    if announce.n_values != expected:
        raise ProtocolError(
            f"{announce.n_values} values announced, this model gives {expected}", kind="announce"
        )
    if plan.task == "statistics":
        statistics = trainer.statistics(model, dataset, plan, rng)
        return contributions.contribution(
            quantise(statistics, plan.value_range, announce.bits, rng)
        )
    trained = trainer.train(model, dataset, plan, rng, stop)
    update, clipped = (
        clip_norm(trained.update, plan.clip) if plan.clip > 0 else (trained.update, False)
    )
    return contributions.contribution(
        quantise(update, plan.value_range, announce.bits, rng),
        clipped=clipped,
        evaluated=evaluate,
        correct=trained.correct if evaluate else 0,
        loss=trained.loss if evaluate else 0.0,
    )
