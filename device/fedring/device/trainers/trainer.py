"""What every trainer does, whatever computes it."""

from __future__ import annotations

import threading
from typing import Protocol

import numpy as np
from attrs import frozen

from fedring.shared.messages import Plan
from fedring.shared.models import Model
from fedring.shared.numbers import FloatVector
from fedring.shared.samples import Dataset


@frozen(eq=False)
class Trained:
    """What a round of training gave.

    Attributes:
        update: float32, shape (d,): trained weights minus the incoming ones; may hold NaN or
            infinite values when training diverged.
        n_samples: how many samples there were to train on.
        correct: right answers of the *incoming* model on `plan.evaluation_samples` own samples.
        loss: its mean cross-entropy on them, in nats; 0 when none were asked for.
    """

    update: FloatVector
    n_samples: int
    correct: int
    loss: float


class TrainingStopped(Exception):  # noqa: N818 - no error: somebody asked for it
    """Nobody waits for the outcome any more."""


class Trainer(Protocol):
    """Model, data and plan in; update or statistics out. Nothing is remembered in between."""

    def check(self, model: Model) -> None:
        """Refuse a model that this trainer cannot compute.

        Raises:
            MessageError: with the reason.
        """
        ...

    def train(
        self,
        model: Model,
        dataset: Dataset,
        plan: Plan,
        rng: np.random.Generator,
        stop: threading.Event | None = None,
    ) -> Trained:
        """Train on the device's own samples.

        Args:
            model: the incoming one; not changed.
            dataset: in the model's features and classes.
            plan: of task `train`.
            rng: draws the order of samples, then those to evaluate on.
            stop: set from another thread when nobody waits for the outcome any more; looked at
                often, since neither the next round nor the end of the process can wait for it.

        Raises:
            MessageError: this trainer cannot compute the model.
            TrainingStopped: `stop` was set.
        """
        ...

    def statistics(
        self, model: Model, dataset: Dataset, plan: Plan, rng: np.random.Generator
    ) -> FloatVector:
        """What the device adds to the sums behind the normalisation: see `statistics`.

        Args:
            model: brings the public range of each feature.
            dataset: in the model's features and classes.
            plan: of task `statistics`.
            rng: draws the samples when there are more than `plan.max_samples`.

        Raises:
            MessageError: this trainer cannot compute the model.
        """
        ...
