"""What the arrays of a model compute: dense networks in numpy, forwards and backwards.

Two kinds, one structure: `softmax` is one dense layer, `mlp` has hidden layers with ReLU before
it. Their arrays, in this order:

| array | shape | |
|---|---|---|
| `layer1.weight`, `layer1.bias`, `layer2.weight`, ... | (inputs, outputs), (outputs,) | trained |
| `normalisation.range` | (f,) | public: the order of magnitude of each feature, > 0 |
| `normalisation.mean`, `normalisation.spread` | (f,) | after the round of statistics only |

Inputs are raw features: the model subtracts `mean`, divides by `spread` and clips at
+-`MAX_STANDARDISED` itself, so whoever has the file needs nothing else. Until the round of
statistics has added mean and spread, it divides by `range`.

What comes from a peer is checked once, by `check`; everything else here takes the model as sound.
"""

from collections.abc import Sequence
from itertools import pairwise

import attrs
import numpy as np
from numpy.typing import NDArray

from fedring.shared.errors import MessageError
from fedring.shared.models import Floats, Model

Layer = tuple[Floats, Floats]
"""Weight (inputs, outputs) and bias (outputs,)."""
Classes = NDArray[np.int64]
"""Positions in `Model.classes`, shape (n,)."""

KINDS = ("mlp", "softmax")
RANGE, MEAN, SPREAD = "normalisation.range", "normalisation.mean", "normalisation.spread"
MAX_STANDARDISED = 8.0
"""Standardised features beyond this are clipped: a loose wire must not own the update."""

_LEAST_PROBABILITY = 1e-12


@attrs.frozen
class Evaluation:
    """How well a model does on labelled samples.

    Args:
        n_samples: how many samples.
        correct: how many of them got their own class.
        macro_f1: mean F1 of the classes that occur, among labels or answers; 0 to 1.
        loss: mean cross-entropy, in nats.
    """

    n_samples: int
    correct: int
    macro_f1: float
    loss: float

    @property
    def accuracy(self) -> float:
        """Share of samples that got their own class, 0 to 1."""
        return self.correct / self.n_samples


def initialise(
    kind: str,
    features: Sequence[str],
    classes: Sequence[str],
    *,
    hidden: Sequence[int] = (),
    seed: int = 0,
    ranges: float | Sequence[float] = 1.0,
) -> Model:
    """Make an untrained model.

    Args:
        kind: one of `KINDS`.
        features: names of the inputs.
        classes: names of the outputs.
        hidden: widths of the hidden layers; empty for `softmax`, at least one for `mlp`.
        seed: draws the first weights.
        ranges: public order of magnitude of each feature, or of all, > 0. Nothing of the data
            may have gone into it: a round of statistics says the rest.

    Raises:
        ValueError: kind and hidden layers do not go together, or a limit of `manifests` is broken.

    Source: hidden weights from He et al., "Delving Deep into Rectifiers", ICCV 2015.
    """
    rng = np.random.default_rng(seed)
    widths = (len(features), *hidden, len(classes))
    arrays: dict[str, Floats] = {}
    for number, (inputs, outputs) in enumerate(pairwise(widths), start=1):
        gain = 2 if number <= len(hidden) else 0.1  # at first, no answer is much surer than another
        weight = rng.normal(0, np.sqrt(gain / inputs), (inputs, outputs))
        arrays[f"layer{number}.weight"] = weight.astype(np.float32)
        arrays[f"layer{number}.bias"] = np.zeros(outputs, np.float32)
    trained = tuple(arrays)
    arrays[RANGE] = np.zeros(len(features), np.float32) + np.array(ranges, np.float32)
    model = Model(kind, tuple(features), tuple(classes), arrays, trained)
    try:
        check(model)
        model.manifest.encode()
    except MessageError as error:
        raise ValueError(error.reason) from error
    return model


def check(model: Model) -> None:
    """Refuse a model that this module cannot compute.

    Raises:
        MessageError: unknown kind; arrays missing, too many, or of the wrong shape; a range or
            spread that is not above 0.
    """
    if model.kind not in KINDS:
        raise MessageError(
            f"a model of kind {model.kind!r}; known without a .tflite file are {', '.join(KINDS)}"
        )
    n_layers = len(model.trained) // 2
    if (n_layers == 1) != (model.kind == "softmax") or n_layers == 0:
        raise MessageError(f"a model of kind {model.kind} with {n_layers} layers")
    names = [f"layer{n}.{part}" for n in range(1, n_layers + 1) for part in ("weight", "bias")]
    if list(model.trained) != names:
        raise MessageError(f"a model of kind {model.kind} with other trained arrays than layers")
    width = len(model.features)
    for weight, bias in layers(model):
        if weight.ndim != 2 or weight.shape[0] != width or bias.shape != weight.shape[1:]:
            raise MessageError("a model with layers that do not fit each other")
        width = len(bias)
    if width != len(model.classes):
        raise MessageError(f"a model with {width} outputs for {len(model.classes)} classes")
    check_normalisation(model)


def check_normalisation(model: Model) -> None:
    """Refuse a model, of whatever kind, whose arrays that are not trained are no normalisation.

    Raises:
        MessageError: arrays missing, too many, or of the wrong shape; a range or spread that is not
            above 0.
    """
    fixed = model.arrays.keys() - set(model.trained)
    if fixed not in ({RANGE}, {RANGE, MEAN, SPREAD}):
        raise MessageError("a model with a part of its normalisation, or unknown arrays")
    if any(model.arrays[name].shape != (len(model.features),) for name in fixed):
        raise MessageError("a model whose normalisation does not fit its features")
    if any((model.arrays[n] <= 0).any() for n in (RANGE, SPREAD) if n in model.arrays):
        raise MessageError("a model with a range or spread that is not above 0")


def is_normalised(model: Model) -> bool:
    """Whether the round of statistics is behind this model."""
    return MEAN in model.arrays


def layers(model: Model) -> list[Layer]:
    """The dense layers of a model, first to last; read-only."""
    arrays = [model.arrays[name] for name in model.trained]
    return list(zip(arrays[::2], arrays[1::2], strict=True))


def standardise(model: Model, features: Floats) -> Floats:
    """Raw features as the first layer wants them.

    Args:
        model: brings mean and spread, or the public range.
        features: float32, shape (n, f), in the units of the recordings.

    Returns:
        float32, shape (n, f), within +-`MAX_STANDARDISED`.
    """
    if is_normalised(model):
        scaled = (features - model.arrays[MEAN]) / model.arrays[SPREAD]
    else:
        scaled = features / model.arrays[RANGE]
    np.clip(scaled, -MAX_STANDARDISED, MAX_STANDARDISED, out=scaled)
    return scaled


def predict(model: Model, features: Floats) -> Floats:
    """Probability of each class.

    Args:
        model: a checked model.
        features: raw, float32, shape (n, f).

    Returns:
        float32, shape (n, classes); rows sum to 1.
    """
    return forward(layers(model), standardise(model, features))[-1]


def evaluate(model: Model, features: Floats, labels: Classes) -> Evaluation:
    """Compare a model's answers with the truth.

    Args:
        model: a checked model.
        features: raw, float32, shape (n, f), n >= 1.
        labels: the true classes.
    """
    return judge(predict(model, features), labels)


def judge(probabilities: Floats, labels: Classes) -> Evaluation:
    """Compare answers with the truth.

    Args:
        probabilities: of each class, shape (n, classes), n >= 1.
        labels: the true classes, shape (n,).
    """
    answers = probabilities.argmax(axis=1)
    of_truth = probabilities[np.arange(len(labels)), labels]
    hits, asked, given = (
        np.bincount(which, minlength=probabilities.shape[1])
        for which in (labels[answers == labels], labels, answers)
    )
    occurs = asked + given > 0
    f1 = 2 * hits[occurs] / (asked + given)[occurs]
    return Evaluation(
        n_samples=len(labels),
        correct=int(hits.sum()),
        macro_f1=float(f1.mean()),
        loss=float(-np.log(np.maximum(of_truth, _LEAST_PROBABILITY)).mean()),
    )


def forward(network: Sequence[Layer], inputs: Floats) -> list[Floats]:
    """Values before each layer and, last, the probabilities.

    Args:
        network: layers, first to last.
        inputs: standardised, float32, shape (n, f).
    """
    values = [inputs]
    for weight, bias in network[:-1]:
        values.append(np.maximum(values[-1] @ weight + bias, np.float32(0)))
    weight, bias = network[-1]
    scores = values[-1] @ weight + bias
    scores -= scores.max(axis=1, keepdims=True)
    np.exp(scores, out=scores)
    scores /= scores.sum(axis=1, keepdims=True)
    return [*values, scores]


def gradients(network: Sequence[Layer], inputs: Floats, labels: Classes) -> list[Layer]:
    """Where the mean cross-entropy of a batch grows.

    Args:
        network: layers, first to last.
        inputs: standardised, float32, shape (n, f), n >= 1.
        labels: the true classes.

    Returns:
        The gradient with respect to each layer, first to last.
    """
    *values, error = forward(network, inputs)
    error[np.arange(len(labels)), labels] -= 1
    error /= len(labels)
    found: list[Layer] = []
    for (weight, _), value in zip(reversed(network), reversed(values), strict=True):
        found.append((value.T @ error, error.sum(axis=0)))
        if value is not inputs:
            error = (error @ weight.T) * (value > 0)
    return found[::-1]
