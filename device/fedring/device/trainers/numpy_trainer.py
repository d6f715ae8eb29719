"""Training in numpy: plain SGD on the dense networks of `fedring.shared.networks`."""

from __future__ import annotations

import threading
from itertools import chain

import numpy as np

from fedring.device.trainers.samples import batches, chosen
from fedring.device.trainers.statistics import statistics_vector
from fedring.device.trainers.trainer import Trained
from fedring.shared import networks
from fedring.shared.messages import Plan
from fedring.shared.models import Floats, Model
from fedring.shared.numbers import FloatVector
from fedring.shared.samples import Dataset


class NumpyTrainer:
    """Runs wherever numpy does; see `Trainer`."""

    def check(self, model: Model) -> None:
        """See `Trainer.check`."""
        networks.check(model)

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
        # An overflow shows in the update, where it is looked for; here it would only be noise.
        with np.errstate(all="ignore"):
            update = self._weights_after(model, dataset, plan, rng, stop) - model.weights()
            correct, loss = self._evaluation(model, dataset, plan.evaluation_samples, rng)
        return Trained(update, len(dataset), correct, loss)

    def statistics(
        self, model: Model, dataset: Dataset, plan: Plan, rng: np.random.Generator
    ) -> FloatVector:
        """See `Trainer.statistics`."""
        self.check(model)
        return statistics_vector(model, dataset, plan.max_samples, rng)

    @staticmethod
    def _weights_after(
        model: Model,
        dataset: Dataset,
        plan: Plan,
        rng: np.random.Generator,
        stop: threading.Event | None,
    ) -> Floats:
        inputs, rate = networks.standardise(model, dataset.x), np.float32(plan.rate)
        network = [(weight.copy(), bias.copy()) for weight, bias in networks.layers(model)]
        for batch in batches(len(dataset), plan, rng, stop):
            slopes = networks.gradients(network, inputs[batch], dataset.y[batch])
            for array, slope in zip(chain(*network), chain(*slopes), strict=True):
                np.subtract(array, rate * slope, out=array)
        return np.concatenate([array.ravel() for array in chain(*network)])

    @staticmethod
    def _evaluation(
        model: Model, dataset: Dataset, n_samples: int, rng: np.random.Generator
    ) -> tuple[int, float]:
        if n_samples == 0:
            return 0, 0.0
        own = chosen(dataset, n_samples, rng)
        found = networks.evaluate(model, own.x, own.y)
        return found.correct, found.loss
