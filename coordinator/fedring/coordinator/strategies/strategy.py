"""What every strategy does."""

from __future__ import annotations

from typing import Protocol

from fedring.shared.models import Model
from fedring.shared.numbers import MeanVector


class Strategy(Protocol):
    """Decides how far to follow the mean update of a round."""

    def step(self, model: Model, update: MeanVector) -> Model:
        """The next model.

        Args:
            model: the one that the round started from; not changed.
            update: float64, shape (d,); mean of the contributors' updates, see `mean_update`.
        """
        ...
