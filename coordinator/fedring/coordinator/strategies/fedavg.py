"""FedAvg: follow the mean update all the way.

Source: McMahan et al., "Communication-Efficient Learning of Deep Networks from Decentralized
Data", AISTATS 2017.
"""

from __future__ import annotations

from fedring.shared.models import Model
from fedring.shared.numbers import MeanVector


class FedAvg:
    """The next weights are the mean of the contributors' weights."""

    def step(self, model: Model, update: MeanVector) -> Model:
        """See `Strategy.step`."""
        return model.with_weights(model.weights() + update)
