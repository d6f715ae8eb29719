"""What a .tflite file must hold, and what one lacks, in words."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from fedring.shared.litert.interpreters import Signature, Tensor
from fedring.shared.manifests import MAX_ARRAYS, MAX_DIMENSIONS, MAX_NAME_CHARACTERS

SIGNATURES = ("train", "infer", "weights")
_X, _Y, _SHARE, _RATE = "x", "y", "share", "rate"
_GIVEN = {"train": {_X, _Y, _SHARE, _RATE}, "infer": {_X}, "weights": set[str]()}
_WEIGHT = re.compile(r"[a-z0-9_]*[a-z0-9]_[a-z0-9]+")


def array_name(weight: str) -> str:
    """The model's name for a weight of the file: `layer1_weight` is `layer1.weight`."""
    group, _, part = weight.rpartition("_")
    return f"{group}.{part}"


def faults(found: Mapping[str, Signature]) -> list[str]:
    """All that a file lacks; nothing when it is sound.

    Args:
        found: what the interpreter says of it.
    """
    missing = [name for name in SIGNATURES if name not in found]
    if missing:
        has = ", ".join(sorted(found)) or "none"
        return [f"no signature {' and no '.join(missing)} (it has {has})"]
    weights = found["weights"].outputs
    return [
        *_weights(weights, found),
        *_given(found),
        *_batches(found),
    ]


def _weights(weights: Mapping[str, Tensor], found: Mapping[str, Signature]) -> Iterator[str]:
    if not 1 <= len(weights) <= MAX_ARRAYS - 3:  # range, mean and spread are arrays as well
        yield f"`weights` has {len(weights)} outputs, must be 1 to {MAX_ARRAYS - 3}"
    for name, tensor in weights.items():
        if not _WEIGHT.fullmatch(name) or len(name) > MAX_NAME_CHARACTERS:
            yield f"weight `{name}` should have a name like layer1_weight"
        if tensor.dtype != "float32" or min(tensor.shape, default=1) < 1:
            yield f"weight `{name}` is {_said(tensor)}, must be float32 of a fixed shape"
        if len(tensor.shape) > MAX_DIMENSIONS:
            yield f"weight `{name}` has more than {MAX_DIMENSIONS} dimensions"
    for where, tensors in (
        ("inputs of `train`", found["train"].inputs),
        ("outputs of `train`", found["train"].outputs),
        ("inputs of `infer`", found["infer"].inputs),
    ):
        for name, tensor in weights.items():
            there = tensors.get(name)
            if there is None:
                yield f"weight `{name}` is missing among the {where}"
            elif there != tensor:
                yield f"weight `{name}` is {_said(there)} among the {where}, not {_said(tensor)}"
    for name in found["train"].outputs.keys() - weights.keys():
        yield f"`train` gives `{name}`, which is no weight"


def _given(found: Mapping[str, Signature]) -> Iterator[str]:
    weights = found["weights"].outputs.keys()
    for signature, names in _GIVEN.items():
        inputs = found[signature].inputs
        for name in sorted(names - inputs.keys()):
            yield f"`{signature}` has no input `{name}`"
        for name in sorted(inputs.keys() - names - weights):
            yield f"`{signature}` has an input `{name}` that nobody gives"
    if "probabilities" not in found["infer"].outputs:
        yield "`infer` has no output `probabilities`"


def _batches(found: Mapping[str, Signature]) -> Iterator[str]:
    train, infer = found["train"].inputs, found["infer"]
    tables = [
        ("`x` of `train`", train.get(_X)),
        ("`x` of `infer`", infer.inputs.get(_X)),
        ("`probabilities`", infer.outputs.get("probabilities")),
    ]
    for what, tensor in tables:
        if tensor is not None and (
            tensor.dtype != "float32" or len(tensor.shape) != 2 or tensor.shape[1] < 1
        ):
            yield f"{what} is {_said(tensor)}, must be float32 of shape (n, a fixed number)"
    columns = ((_Y, "int32", 1), (_SHARE, "float32", 1), (_RATE, "float32", 0))
    for name, dtype, dimensions in columns:
        tensor = train.get(name)
        if tensor is not None and (tensor.dtype, len(tensor.shape)) != (dtype, dimensions):
            shape = "(n,)" if dimensions else "()"
            yield f"`{name}` of `train` is {_said(tensor)}, must be {dtype} of shape {shape}"
    x, x_too = train.get(_X), infer.inputs.get(_X)
    if x is not None and x_too is not None and x.shape[1:] != x_too.shape[1:]:
        yield f"`x` is {_said(x)} in `train` and {_said(x_too)} in `infer`"
    rows = {
        tensor.shape[0]
        for tensor in (x, x_too, train.get(_Y), train.get(_SHARE))
        if tensor is not None and tensor.shape
    }
    if len(rows) > 1:
        yield f"batches of different lengths: {', '.join(map(str, sorted(rows)))}"


def _said(tensor: Tensor) -> str:
    lengths = ", ".join("any" if length < 0 else str(length) for length in tensor.shape)
    return f"{tensor.dtype} ({lengths})"
