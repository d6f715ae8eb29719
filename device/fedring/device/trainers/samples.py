"""In which order a device's samples are trained on, and which of them evaluate a model.

Every trainer draws by these functions, so that from one seed all see the same samples.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from fedring.device.trainers.trainer import TrainingStopped
from fedring.shared.messages import Plan
from fedring.shared.samples import Dataset


def batches(
    n_samples: int, plan: Plan, rng: np.random.Generator, stop: threading.Event | None
) -> Iterator[NDArray[np.int64]]:
    """Rows of each step of a training: every epoch all samples in a new order.

    Args:
        n_samples: of the device.
        plan: says epochs and batch; the last batch of an epoch may be smaller.
        rng: draws the orders.
        stop: looked at before each batch.

    Raises:
        TrainingStopped: `stop` was set.
    """
    for _ in range(plan.epochs):
        order = rng.permutation(n_samples)
        for start in range(0, n_samples, plan.batch):
            if stop is not None and stop.is_set():
                raise TrainingStopped
            yield order[start : start + plan.batch]


def chosen(dataset: Dataset, n_samples: int, rng: np.random.Generator) -> Dataset:
    """A fixed number of samples to evaluate on, whatever the device has.

    The number is the same for every device, so that it tells nothing about its data: who has
    fewer draws some of them twice.
    """
    return dataset.take(rng.choice(len(dataset), n_samples, replace=len(dataset) < n_samples))
