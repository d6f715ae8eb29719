"""Makes the .tflite files that come along: `scripts/litert-models`, on the desk, never on a board.

The only module that knows TensorFlow; it imports nothing else of fedring, so that it runs in an
environment that has TensorFlow and nothing more. docs/learning.md says what a file must hold.

A .tflite interpreter alone has no kernel for most gradients of TensorFlow: the converter would put
in "Flex" operations, which need the whole of TensorFlow on the board. Three things avoid them:

- what a network is made of (`relu`, `affine`, `neighbours`) brings its own gradient, of operations
  that every interpreter has;
- a convolution is the affine map of neighbouring slices of the signal;
- weights go in and come out of each step as tensors: nothing is a variable.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

Tensor = Any
Weights = Mapping[str, Tensor]

N_CLASSES = 6
N_FEATURES, HIDDEN = 56, 64
"""Of the dense network: an mlp for the features of `fedring.lab.hapt`."""
STEPS, AXES = 64, 6
"""Of the convolutional network: rows of 2.56 s at 25 Hz, six axes a step."""
SLICE, FILTERS, FILTERS_2 = 4, 16, 24

DENSE = {
    "layer1_weight": (N_FEATURES, HIDDEN),
    "layer1_bias": (HIDDEN,),
    "layer2_weight": (HIDDEN, N_CLASSES),
    "layer2_bias": (N_CLASSES,),
}
_LENGTH = STEPS // SLICE - 3
CONV = {
    "conv1_weight": (2 * SLICE * AXES, FILTERS),
    "conv1_bias": (FILTERS,),
    "conv2_weight": (3 * FILTERS, FILTERS_2),
    "conv2_bias": (FILTERS_2,),
    "dense_weight": (_LENGTH * FILTERS_2, N_CLASSES),
    "dense_bias": (N_CLASSES,),
}


@tf.custom_gradient
def relu(values: Tensor) -> Any:
    """max(values, 0)."""
    positive = tf.cast(values > 0, values.dtype)
    return values * positive, lambda above: above * positive


@tf.custom_gradient
def affine(values: Tensor, weight: Tensor, bias: Tensor) -> Any:
    """values @ weight + bias, for values of shape (n, inputs)."""

    def gradient(above: Tensor) -> Any:
        return (
            tf.matmul(above, weight, transpose_b=True),
            tf.matmul(values, above, transpose_a=True),
            tf.reduce_sum(above, axis=0),
        )

    return tf.matmul(values, weight) + bias, gradient


def neighbours(values: Tensor, width: int) -> Tensor:
    """Beside each time step of (n, time, channels) the next ones: (n, time - width + 1, ...)."""
    length, channels = values.shape[1] - width + 1, values.shape[2]

    @tf.custom_gradient
    def beside(values: Tensor) -> Any:
        slices = [values[:, at : at + length, :] for at in range(width)]

        def gradient(above: Tensor) -> Tensor:
            parts = [above[:, :, at * channels : (at + 1) * channels] for at in range(width)]
            margins = [[[0, 0], [at, width - 1 - at], [0, 0]] for at in range(width)]
            return tf.add_n(
                [tf.pad(part, margin) for part, margin in zip(parts, margins, strict=True)]
            )

        return tf.concat(slices, axis=2), gradient

    return beside(values)


def convolution(values: Tensor, width: int, weight: Tensor, bias: Tensor) -> Tensor:
    """A convolution over time: (n, time, channels) to (n, time - width + 1, filters)."""
    wide = neighbours(values, width)
    length, inputs, filters = wide.shape[1], wide.shape[2], weight.shape[1]
    return tf.reshape(affine(tf.reshape(wide, [-1, inputs]), weight, bias), [-1, length, filters])


def dense_scores(x: Tensor, weights: Weights) -> Tensor:
    """The mlp of `fedring.shared.networks` with one hidden layer."""
    hidden = relu(affine(x, weights["layer1_weight"], weights["layer1_bias"]))
    return affine(hidden, weights["layer2_weight"], weights["layer2_bias"])


def conv_scores(x: Tensor, weights: Weights) -> Tensor:
    """Two convolutions over time and a dense layer."""
    values = tf.reshape(x, [-1, STEPS // SLICE, SLICE * AXES])
    for name, width in (("conv1", 2), ("conv2", 3)):
        values = relu(
            convolution(values, width, weights[f"{name}_weight"], weights[f"{name}_bias"])
        )
    flat = tf.reshape(values, [-1, _LENGTH * FILTERS_2])
    return affine(flat, weights["dense_weight"], weights["dense_bias"])


@tf.custom_gradient
def loss(scores: Tensor, y: Tensor, share: Tensor) -> Any:
    """Sum over the samples of cross-entropy times share."""
    truth = tf.one_hot(y, N_CLASSES)
    shares = tf.reshape(share, [-1, 1])
    value = -tf.reduce_sum(tf.nn.log_softmax(scores) * truth * shares)
    return value, lambda above: ((tf.nn.softmax(scores) - truth) * shares * above, None, None)


def first_weights(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, NDArray[np.float32]]:
    """As `fedring.shared.networks.initialise` draws them: He et al., ICCV 2015; biases are 0."""
    rng = np.random.default_rng(0)
    last = max(position for position, shape in enumerate(shapes.values()) if len(shape) > 1)
    first = {}
    for position, (name, shape) in enumerate(shapes.items()):
        gain = 0.1 if position == last else 2
        drawn = rng.normal(0, np.sqrt(gain / shape[0]), shape)
        first[name] = (drawn if len(shape) > 1 else np.zeros(shape)).astype(np.float32)
    return first


def convert(
    file: Path,
    scores: Callable[[Tensor, Weights], Tensor],
    shapes: Mapping[str, tuple[int, ...]],
    n_features: int,
) -> None:
    """Write the three signatures of a network as a .tflite file.

    Args:
        file: to write.
        scores: of each class, before softmax, (n, classes).
        shapes: of the trained arrays, by name.
        n_features: width of a row of `x`.
    """

    def train(x: Tensor, y: Tensor, share: Tensor, rate: Tensor, **weights: Tensor) -> Weights:
        with tf.GradientTape() as tape:
            tape.watch(weights)
            value = loss(scores(x, weights), y, share)
        slopes = tape.gradient(value, weights)
        return {name: weights[name] - rate * slopes[name] for name in weights}

    def infer(x: Tensor, **weights: Tensor) -> Weights:
        return {"probabilities": tf.nn.softmax(scores(x, weights))}

    first = first_weights(shapes)

    def weights() -> Weights:
        return {name: tf.constant(value) for name, value in first.items()}

    x = tf.TensorSpec([None, n_features], tf.float32, name="x")
    y = tf.TensorSpec([None], tf.int32, name="y")
    share = tf.TensorSpec([None], tf.float32, name="share")
    rate = tf.TensorSpec([], tf.float32, name="rate")
    of_weights = {name: tf.TensorSpec(shape, name=name) for name, shape in shapes.items()}
    module = tf.Module()
    module.train = tf.function(train).get_concrete_function(x, y, share, rate, **of_weights)
    module.infer = tf.function(infer).get_concrete_function(x, **of_weights)
    module.weights = tf.function(weights).get_concrete_function()
    signatures = {name: getattr(module, name) for name in ("train", "infer", "weights")}
    with tempfile.TemporaryDirectory() as folder:
        tf.saved_model.save(module, folder, signatures=signatures)
        file.write_bytes(tf.lite.TFLiteConverter.from_saved_model(folder).convert())


def main() -> None:
    """Command line of `scripts/litert-models`."""
    match sys.argv[1:]:
        case [folder] if Path(folder).is_dir():
            convert(Path(folder) / "hapt-dense.tflite", dense_scores, DENSE, N_FEATURES)
            convert(Path(folder) / "hapt-conv.tflite", conv_scores, CONV, STEPS * AXES)
        case _:
            sys.exit("usage: scripts/litert-models [FOLDER]    where the files go")


if __name__ == "__main__":
    main()
