"""Training by a .tflite file: see `fedring.shared.litert` for what it holds."""

from __future__ import annotations

import threading

import numpy as np

from fedring.device.trainers.samples import batches, chosen
from fedring.device.trainers.statistics import statistics_vector
from fedring.device.trainers.trainer import Trained
from fedring.shared import networks
from fedring.shared.errors import MessageError
from fedring.shared.litert import Computation
from fedring.shared.messages import Plan
from fedring.shared.models import Model
from fedring.shared.numbers import FloatVector
from fedring.shared.samples import Dataset


class LitertTrainer:
    """Runs what the owner's .tflite file computes; see `Trainer`.

    Samples are drawn and standardised as by `NumpyTrainer`: where both compute the same network,
    their updates differ by the order of float32 additions only.

    Args:
        computation: of the file; its interpreter is used by this trainer alone.
    """

    def __init__(self, computation: Computation) -> None:
        self._computation = computation

    def check(self, model: Model) -> None:
        """See `Trainer.check`."""
        self._computation.check(model)

    def train(
        self,
        model: Model,
        dataset: Dataset,
        plan: Plan,
        rng: np.random.Generator,
        stop: threading.Event | None = None,
    ) -> Trained:
        """See `Trainer.train`."""
        self.check(model)
        most = self._computation.batch
        if most is not None and plan.batch > most:
            raise MessageError(
                f"{plan.batch} samples a step, {self._computation.path.name} on this device takes "
                f"{most} at most"
            )
        weights = {name: model.arrays[name] for name in model.trained}
        with np.errstate(all="ignore"):  # an overflow shows in the update
            inputs = networks.standardise(model, dataset.x)
            steps = self._computation.steps(weights)
            for batch in batches(len(dataset), plan, rng, stop):
                steps.step(inputs[batch], dataset.y[batch], plan.rate)
            after = steps.arrays
            parts = [(after[name] - weights[name]).ravel() for name in model.trained]
            correct, loss = self._evaluation(model, dataset, plan.evaluation_samples, rng)
        return Trained(np.concatenate(parts), len(dataset), correct, loss)

    def statistics(
        self, model: Model, dataset: Dataset, plan: Plan, rng: np.random.Generator
    ) -> FloatVector:
        """See `Trainer.statistics`."""
        self.check(model)
        return statistics_vector(model, dataset, plan.max_samples, rng)

    def _evaluation(
        self, model: Model, dataset: Dataset, n_samples: int, rng: np.random.Generator
    ) -> tuple[int, float]:
        if n_samples == 0:
            return 0, 0.0
        own = chosen(dataset, n_samples, rng)
        found = self._computation.evaluate(model, own.x, own.y)
        return found.correct, found.loss
