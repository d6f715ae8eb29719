"""A device's share in the sums from which the coordinator gets mean and spread of each feature.

With m = `plan.max_samples` and x a feature in units of its public range, cut at +-1, the values are

    n / m | sum of x / m, for each feature | sum of x^2 / m, for each feature

all within [-1, 1]. Cutting keeps one broken sample from owning the sum. Only the sum over a ring is
ever readable; `fedring.coordinator.strategies` turns it into the normalisation.
"""

from __future__ import annotations

import numpy as np

from fedring.shared.models import Model
from fedring.shared.networks import RANGE
from fedring.shared.numbers import FloatVector
from fedring.shared.samples import Dataset


def statistics_vector(
    model: Model, dataset: Dataset, max_samples: int, rng: np.random.Generator
) -> FloatVector:
    """Count, sums and sums of squares of a device's features, scaled by public numbers.

    Args:
        model: brings the range of each feature.
        dataset: in the model's features.
        max_samples: most samples that count, >= 1; of more, a random subset does.
        rng: draws that subset.

    Returns:
        float32, shape (1 + 2f,), within [-1, 1].
    """
    x = dataset.x
    if len(x) > max_samples:
        x = x[rng.choice(len(x), max_samples, replace=False)]
    scaled = np.clip(x.astype(np.float64) / model.arrays[RANGE], -1, 1)
    sums = [np.array([len(x)]), scaled.sum(axis=0), np.square(scaled).sum(axis=0)]
    return (np.concatenate(sums) / max_samples).astype(np.float32)
