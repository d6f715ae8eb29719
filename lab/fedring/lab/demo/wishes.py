"""What a demo is asked to show."""

from __future__ import annotations

import math
from typing import Final

from attrs import frozen

from fedring.fleet.authority import usual_threshold
from fedring.lab.hapt.people import MAIN

PEOPLE: Final = MAIN.devices
"""Who can be a device; the others are the new people whom the model is tried on."""


@frozen(kw_only=True)
class Wishes:
    """What a demo is asked to show.

    Attributes:
        devices: how many, each with one person's data; 2 up to the number of `PEOPLE`.
        rounds: training rounds, >= 1.
        ring_size: devices that a ring is dealt, 2..64.
        threshold: devices release only into sums of more contributors; None for a fitting one.
        suite: encryption suite.
        model: `mlp` or `softmax`.
        litert: on every other device LiteRT computes the mlp, on the others numpy.
        seed: makes first weights, shuffles and roundings repeat themselves.
    """

    devices: int = 24
    rounds: int = 20
    ring_size: int = 12
    threshold: int | None = None
    suite: str = "hybrid"
    model: str = "mlp"
    litert: bool = False
    seed: int = 1

    @property
    def n_rings(self) -> int:
        """Rings of a round that has all devices."""
        return math.ceil(self.devices / self.ring_size)

    @property
    def smallest_ring(self) -> int:
        """Devices in the smallest ring of such a round: they are dealt evenly."""
        return self.devices // self.n_rings

    @property
    def effective_threshold(self) -> int:
        """The threshold wished for, else 7 in large fleets and 3 in small ones, where they fit."""
        if self.threshold is not None:
            return self.threshold
        usual = usual_threshold(self.devices)
        return max(1, min(usual, self.smallest_ring - 1))

    def contradiction(self) -> tuple[str, str] | None:
        """Give an option that cannot be granted and the reason, or None."""
        if self.litert and self.model != "mlp":
            return "litert", f"there is no .tflite file of the {self.model}, only of the mlp"
        if self.devices > len(PEOPLE):
            return "devices", (
                f"the data has {len(PEOPLE)} people for devices; the other people are held out"
            )
        if self.smallest_ring < 2:
            return "ring-size", (
                f"{self.devices} devices in rings of {self.ring_size} leave one without company"
            )
        if self.smallest_ring <= self.effective_threshold:
            return "threshold", (
                f"rings of {self.smallest_ring} cannot give sums of more than"
                f" {self.effective_threshold} contributors; at most {self.smallest_ring - 1}"
            )
        return None
