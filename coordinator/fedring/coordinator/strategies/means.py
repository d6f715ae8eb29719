"""From the integer sum of a round to the mean of its contributors."""

from __future__ import annotations

import numpy as np

from fedring.shared.messages import Plan
from fedring.shared.numbers import MeanVector, SumVector, dequantise


def mean_update(total: SumVector, divisor: int, plan: Plan, bits: int) -> MeanVector:
    """The mean of the contributors' updates, no longer than an honest mean can be.

    Honest updates are at most `plan.clip` long each, so their mean is, too. A hostile one can be
    as long as the value range allows in every coordinate; clipping the mean as well takes most of
    that away.

    Args:
        total: int64, shape (d,); sum of the quantised updates.
        divisor: number of contributors, or their sum of weights, >= 1.
        plan: what they were asked; its `clip` is 0 where there is no bound.
        bits: width of a value, 8 or 16.

    Returns:
        float64, shape (d,), in units of a weight.
    """
    mean = dequantise(total, plan.value_range, bits, divisor)
    length = float(np.linalg.norm(mean))
    if 0 < plan.clip < length:
        mean *= plan.clip / length
    return mean
