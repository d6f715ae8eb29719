"""A .tflite file that computes a network: its three signatures, checked once, then used."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any, Self

import numpy as np
from attrs import field, frozen
from numpy.typing import NDArray

from fedring.shared import networks
from fedring.shared.errors import MessageError, ModelError
from fedring.shared.litert import interpreters
from fedring.shared.litert.agreement import agrees
from fedring.shared.litert.interpreters import Signature, Tensors
from fedring.shared.litert.wanted import array_name, faults
from fedring.shared.models import Floats, Model
from fedring.shared.networks import Classes, Evaluation

KIND = "litert-"
"""How the kind of a model begins that one certain file computes."""
_KIND_DIGITS = 32


@frozen(slots=False, eq=False)
class Computation:
    """What a sound file computes, by an interpreter of its own.

    Attributes:
        path: named in messages.
        digest: SHA-256 of the file.
        n_bytes: its size.
    """

    path: Path
    digest: bytes
    n_bytes: int
    _signatures: Mapping[str, Signature] = field(repr=False)
    _alone: threading.Lock = field(factory=threading.Lock, init=False, repr=False)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a file, and see that it has all that a round needs.

        Raises:
            ModelError: it is missing, damaged, or lacks something: all that it lacks is named.
            UserError: there is no interpreter on this machine.
        """
        content = interpreters.read_file(path)
        found = interpreters.signatures(path, content)
        lacking = faults(found)
        if lacking:
            raise ModelError(
                f"{path}: " + "; ".join(lacking),
                name="model.litert-unfit",
                hint="docs/learning.md says what a .tflite file must hold",
            )
        computation = cls(path, sha256(content).digest(), len(content), found)
        computation.try_out()
        return computation

    @property
    def kind(self) -> str:
        """Of models that only this very file computes: 128 bits of its digest."""
        return KIND + self.digest.hex()[:_KIND_DIGITS]

    @property
    def batch(self) -> int | None:
        """Rows that a call takes, or None for any number."""
        rows = self._signatures["train"].inputs["x"].shape[0]
        return rows if rows > 0 else None

    @property
    def n_features(self) -> int:
        """Width of a row of `x`."""
        return self._signatures["train"].inputs["x"].shape[1]

    @property
    def n_classes(self) -> int:
        """Width of a row of `probabilities`."""
        return self._signatures["infer"].outputs["probabilities"].shape[1]

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Of the weights, by array name, in the order of the names."""
        outputs = self._signatures["weights"].outputs
        return {array_name(name): outputs[name].shape for name in sorted(outputs)}

    @cached_property
    def n_weights(self) -> int:
        """Numbers that a round trains."""
        return sum(array.size for array in self.first.values())

    @cached_property
    def first(self) -> dict[str, Floats]:
        """The weights before the first round, by array name."""
        found = self._run("weights", {})
        return {array_name(name): found[name] for name in sorted(found)}

    @cached_property
    def dense_kind(self) -> str | None:
        """The kind of `networks` that it computes, or None when it is a network of its own."""
        return agrees(self)

    def initial(
        self, features: tuple[str, ...], classes: tuple[str, ...], ranges: tuple[float, ...]
    ) -> Model:
        """The untrained model that only this file computes.

        Args:
            features: names of the columns of `x`.
            classes: names of the columns of `probabilities`.
            ranges: public order of magnitude of each feature, > 0.

        Raises:
            ValueError: there are more or fewer than the file takes, or a limit of `manifests` is
                broken.
        """
        arrays = self.first | {networks.RANGE: np.array(ranges, np.float32)}
        model = Model(self.kind, features, classes, arrays, tuple(self.first))
        try:
            self.check(model)
            model.manifest.encode()
        except MessageError as error:
            raise ValueError(error.reason) from error
        return model

    def check(self, model: Model) -> None:
        """Refuse a model that this file does not compute.

        Raises:
            MessageError: it is of another file or of an unknown kind, or its arrays, features or
                classes do not fit.
        """
        here = self.path.name
        if model.kind in networks.KINDS:
            networks.check(model)
            self._check_shapes(model)
            if self.dense_kind != model.kind:
                raise MessageError(
                    f"a model of kind {model.kind}, and {here} on this device computes something "
                    "else with the same arrays"
                )
        elif model.kind == self.kind:
            networks.check_normalisation(model)
            self._check_shapes(model)
        elif model.kind.startswith(KIND):
            raise MessageError(
                f"a model that another .tflite file computes (SHA-256 {model.kind[len(KIND) :]}...)"
                f" than {here} on this device ({self.kind[len(KIND) :]}...)"
            )
        else:
            raise MessageError(f"a model of kind {model.kind!r}, which {here} does not compute")

    def probabilities(self, arrays: Mapping[str, Floats], inputs: Floats) -> Floats:
        """Probability of each class.

        Args:
            arrays: the weights, by array name.
            inputs: standardised, float32, shape (n, f), n >= 1.

        Returns:
            float32, shape (n, classes).

        Raises:
            ModelError: the interpreter failed.
        """
        weights = _file_names(arrays)
        parts = []
        size = self.batch or len(inputs)
        for start in range(0, len(inputs), size):
            rows = inputs[start : start + size]
            found = self._run("infer", {"x": _filled(rows, size), **weights})
            parts.append(found["probabilities"][: len(rows)])
        return np.concatenate(parts)

    def predict(self, model: Model, features: Floats) -> Floats:
        """Probability of each class; see `networks.predict`.

        Args:
            model: a checked model.
            features: raw, float32, shape (n, f), n >= 1.

        Raises:
            ModelError: the interpreter failed.
        """
        arrays = {name: model.arrays[name] for name in model.trained}
        return self.probabilities(arrays, networks.standardise(model, features))

    def evaluate(self, model: Model, features: Floats, labels: Classes) -> Evaluation:
        """Compare a model's answers with the truth; see `networks.evaluate`."""
        return networks.judge(self.predict(model, features), labels)

    def steps(self, arrays: Mapping[str, Floats]) -> Steps:
        """Begin to train from these weights, by array name."""
        return Steps(self, _file_names(arrays))

    def step(self, weights: Tensors, inputs: Floats, labels: Classes, rate: float) -> Tensors:
        """One step of SGD; see `Steps.step`. Weights by their names in the file."""
        n = len(inputs)
        size = self.batch or n
        share = np.zeros(size, np.float32)
        share[:n] = 1 / n
        given = {
            "x": _filled(inputs, size),
            "y": _filled(labels.astype(np.int32), size),
            "share": share,
            "rate": np.float32(rate),
        }
        return self._run("train", {**given, **weights})

    def try_out(self) -> None:
        """Take a step and an answer, so that what cannot work is known before a round.

        Raises:
            ModelError: the interpreter failed, or what it gave is not finite.
        """
        rows = np.zeros((self.batch or 2, self.n_features), np.float32)
        steps = self.steps(self.first)
        steps.step(rows, np.zeros(len(rows), np.int64), 0.0)
        after = [*steps.arrays.values(), self.probabilities(self.first, rows)]
        if not all(np.isfinite(array).all() for array in after):
            raise ModelError(
                f"{self.path}: computes NaN or infinite values from its first weights",
                name="model.litert-unfit",
            )

    def _check_shapes(self, model: Model) -> None:
        shapes = {name: model.arrays[name].shape for name in model.trained}
        here = self.path.name
        if shapes != self.shapes:
            differing = sorted(
                name
                for name in shapes.keys() | self.shapes.keys()
                if shapes.get(name) != self.shapes.get(name)
            )
            name = differing[0]
            raise MessageError(
                f"a model whose arrays are not those of {here} on this device: {name} is "
                f"{_shape(shapes.get(name))} announced, {_shape(self.shapes.get(name))} here"
            )
        widths = (len(model.features), len(model.classes))
        if widths != (self.n_features, self.n_classes):
            raise MessageError(
                f"a model of {widths[0]} features and {widths[1]} classes, {here} on this device "
                f"has {self.n_features} and {self.n_classes}"
            )

    def _run(self, name: str, inputs: Tensors) -> Tensors:
        try:
            with self._alone:  # a training that was told to stop may still be at its last step
                return self._signatures[name].run(**inputs)
        except (ValueError, RuntimeError) as error:
            raise interpreters.unusable(self.path, error) from error


class Steps:
    """Steps of training, one after the other."""

    def __init__(self, computation: Computation, weights: Tensors) -> None:
        self._computation = computation
        self._weights = weights

    def step(self, inputs: Floats, labels: Classes, rate: float) -> None:
        """One step of SGD on the mean cross-entropy of a batch.

        Args:
            inputs: standardised, float32, shape (n, f), 1 <= n <= batch.
            labels: the true classes, shape (n,).
            rate: step size.

        Raises:
            ModelError: the interpreter failed.
        """
        self._weights = self._computation.step(self._weights, inputs, labels, rate)

    @property
    def arrays(self) -> dict[str, Floats]:
        """The weights now, by array name."""
        return {array_name(name): value for name, value in self._weights.items()}


def _file_names(arrays: Mapping[str, Floats]) -> dict[str, Floats]:
    return {name.replace(".", "_"): array for name, array in arrays.items()}


def _filled(rows: NDArray[Any], size: int) -> NDArray[Any]:
    """The rows, and rows of zeros after them."""
    if len(rows) == size:
        return rows
    filled = np.zeros((size, *rows.shape[1:]), rows.dtype)
    filled[: len(rows)] = rows
    return filled


def _shape(shape: tuple[int, ...] | None) -> str:
    return "missing" if shape is None else "x".join(map(str, shape)) or "one number"
