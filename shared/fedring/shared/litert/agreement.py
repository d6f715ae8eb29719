"""Whether a file computes what numpy does: then devices with and without LiteRT mix freely.

Names and shapes of arrays do not tell, so one step and one answer are compared on weights and
samples drawn for it. They decide: a network that differs by an activation or a bias differs by far
more than two orders of addition do.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np

from fedring.shared import networks
from fedring.shared.errors import MessageError
from fedring.shared.models import Floats, Model
from fedring.shared.networks import Classes

TOLERANCE = 1e-4
"""Of float32 sums of some thousand products, relative to the greatest value."""
_RATE = 0.5
_ROWS = 16


class Training(Protocol):
    """Steps of training, one after the other."""

    @property
    def arrays(self) -> Mapping[str, Floats]: ...
    def step(self, inputs: Floats, labels: Classes, rate: float) -> None: ...


class Computing(Protocol):
    """What is asked of a file: names and shapes of its arrays, one step, one answer."""

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]: ...
    @property
    def batch(self) -> int | None: ...
    @property
    def n_features(self) -> int: ...
    @property
    def n_classes(self) -> int: ...
    def steps(self, arrays: Mapping[str, Floats]) -> Training: ...
    def probabilities(self, arrays: Mapping[str, Floats], inputs: Floats) -> Floats: ...


def agrees(computation: Computing) -> str | None:
    """The kind of `networks` that the file computes, or None."""
    rng = np.random.default_rng(0)
    names = sorted(computation.shapes, key=_by_layer)
    arrays = {
        name: (rng.normal(0, 1, shape) / np.sqrt(max(1, shape[0]))).astype(np.float32)
        for name, shape in ((name, computation.shapes[name]) for name in names)
    }
    kind = "softmax" if len(names) == 2 else "mlp"
    features = tuple(f"x{number}" for number in range(computation.n_features))
    classes = tuple(f"class {number}" for number in range(computation.n_classes))
    ranges = {networks.RANGE: np.ones(len(features), np.float32)}
    try:
        model = Model(kind, features, classes, arrays | ranges, tuple(names))
        networks.check(model)
    except MessageError:
        return None
    n = min(computation.batch or _ROWS, _ROWS)
    x = rng.normal(0, 1, (n, len(features))).astype(np.float32)
    y = rng.integers(0, len(classes), n)
    layers = networks.layers(model)
    steps = computation.steps(arrays)
    steps.step(x, y, _RATE)
    slopes = [slope for layer in networks.gradients(layers, x, y) for slope in layer]
    after = steps.arrays
    alike = all(
        _close(after[name] - arrays[name], -np.float32(_RATE) * slope)
        for name, slope in zip(names, slopes, strict=True)
    )
    answers = networks.forward(layers, x)[-1]
    return kind if alike and _close(computation.probabilities(arrays, x), answers) else None


def _close(found: Floats, expected: Floats) -> bool:
    return bool(np.abs(found - expected).max() <= TOLERANCE * max(1.0, np.abs(expected).max()))


def _by_layer(name: str) -> tuple[int, bool]:
    group, _, part = name.partition(".")
    number = group.removeprefix("layer")
    return (int(number) if number.isdecimal() else 0, part != "weight")
