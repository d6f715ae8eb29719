"""The round of statistics: mean and spread of each feature, from sums over all devices.

Devices add up n, x / r and x^2 / r^2 for features x of public range r, all divided by the same
public number; the common factor cancels. Mean and spread become arrays of the model: part of its
digest, not trained.
"""

from __future__ import annotations

import attrs
import numpy as np

from fedring.shared.errors import SumError
from fedring.shared.messages import Plan
from fedring.shared.models import Model
from fedring.shared.networks import MEAN, RANGE, SPREAD
from fedring.shared.numbers import MeanVector

STATISTICS_BITS = 16
"""Width of a value in this round, whatever the training rounds use: it is one round, and a mean
square in steps of 1/127 says nothing about a feature that varies little."""
LEAST_SPREAD = 0.005
"""In units of the public range. Rounding of 24 contributions at 16 bits leaves a variance of about
6e-6 where there is none, a spread of 0.0025: below this floor we would divide by noise. A feature
that hardly changes is thus left small instead of being blown up."""


def statistics_plan(plan: Plan) -> Plan:
    """The plan of a round of statistics, before training by `plan`: values in [-1, 1], no clip."""
    return attrs.evolve(plan, task="statistics", clip=0.0, value_range=1.0, evaluation_samples=0)


def normalise(model: Model, sums: MeanVector) -> Model:
    """Put mean and spread into a model.

    Args:
        model: brings the public range of each feature.
        sums: float64, shape (1 + 2f,); sums of the devices' statistics, or their mean.

    Raises:
        SumError: the sum says that there were no samples.
    """
    n_features = len(model.features)
    count, of_values, of_squares = sums[0], sums[1 : 1 + n_features], sums[1 + n_features :]
    if not count > 0:
        raise SumError("range", "statistics of no samples")
    mean = of_values / count
    # Rounding can push a variance of nothing below zero.
    variance = np.maximum(of_squares / count - mean**2, LEAST_SPREAD**2)
    unit = model.arrays[RANGE].astype(np.float64)
    return model.with_arrays(
        **{
            MEAN: (mean * unit).astype(np.float32),
            SPREAD: (np.sqrt(variance) * unit).astype(np.float32),
        }
    )


def doubtful_ranges(model: Model) -> dict[str, str]:
    """Features whose public range does not suit the data, and why, for people to mend.

    Args:
        model: after its round of statistics.
    """
    unit = model.arrays[RANGE]
    mean, spread = np.abs(model.arrays[MEAN]) / unit, model.arrays[SPREAD] / unit
    doubts = {}
    for name, of_mean, of_spread in zip(model.features, mean, spread, strict=True):
        if of_mean + of_spread >= 1:
            doubts[name] = "is often beyond its range"
        elif of_spread < 1.01 * LEAST_SPREAD:
            doubts[name] = "hardly changes, or its range is far too large"
    return doubts
