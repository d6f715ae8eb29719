"""The sum of given vectors through the real protocol, on the simulated network.

The other side of `plaintext.add_up`: the same vectors, masked, sent round rings of simulated
devices, released, and opened by the coordinator with one decryption.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from fedring.lab.simulate.fleet import QUICK, SMALL, SMALL_KEY_BITS, SimulatedFleet
from fedring.shared.contributions import Check
from fedring.shared.encryption import Parameters
from fedring.shared.envelopes import Signed
from fedring.shared.messages import Announce, RingTerms
from fedring.shared.models import Model
from fedring.shared.numbers import IntVector, SumVector, largest_value


class RingSummation:
    """Adds vectors up along rings; a `plaintext.Summation`.

    Args:
        n_devices: numbers 1 to n are known to the fleet.
        threshold: of every device.
        terms: sizes and durations of the rings.
        seed: of the network.
        parameters: of the lattice.
        key_bits: of the Paillier modulus.
    """

    def __init__(
        self,
        n_devices: int,
        *,
        threshold: int,
        terms: RingTerms = QUICK,
        seed: int = 0,
        parameters: Parameters = SMALL,
        key_bits: int = SMALL_KEY_BITS,
    ) -> None:
        self._vectors: Mapping[int, IntVector] = {}
        self.fleet = SimulatedFleet(
            [threshold] * n_devices,
            _carrier(1),
            self._contribute,
            seed=seed,
            terms=terms,
            parameters=parameters,
            key_bits=key_bits,
        )

    def __call__(self, vectors: Mapping[int, IntVector]) -> tuple[SumVector, int]:
        """One round: the opened sum, and how many devices are in it.

        Values travel with 8 bits where they fit, otherwise with 16; their sum is the same.

        Raises:
            RuntimeError: the round came to no sum; on a calm network that is a bug.
        """
        self._vectors = vectors
        (length,) = {len(vector) for vector in vectors.values()}
        self.fleet.coordinator.stand_in = _carrier(length - len(Check))
        greatest = max(int(np.abs(vector).max()) for vector in vectors.values())
        self.fleet.bits = 8 if greatest <= largest_value(8) else 16
        conclusion = self.fleet.run_round()
        if conclusion is None or conclusion.opened is None:
            raise RuntimeError("a round on a calm network came to no sum")
        self.fleet.record.forget()
        return conclusion.opened.total, len(conclusion.opened.names)

    def _contribute(self, name: str, _announce: Signed[Announce], _evaluate: bool) -> IntVector:
        return self._vectors[self.fleet.devices[name].identity.number]


def _carrier(n_weights: int) -> Model:
    """A model that says nothing but how many weights it has."""
    name = "layer1.weight"
    return Model(
        kind="softmax",
        features=("x",),
        classes=("a", "b"),
        arrays={name: np.zeros(n_weights, np.float32)},
        trained=(name,),
    )
