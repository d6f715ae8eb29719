"""What the task of a plan makes of a model: how long the contributed vector is."""

from __future__ import annotations

from fedring.shared import contributions
from fedring.shared.models import Model


def n_values(model: Model, task: str) -> int:
    """Length of the vector that every contributor adds, check values included.

    Args:
        model: the announced model, with f features and d trained weights.
        task: `train` gives d values; `statistics` gives a count, f sums and f sums of squares.
    """
    length = model.n_weights if task == "train" else 1 + 2 * len(model.features)
    return contributions.n_values(length)
