"""LiteRT's interpreter, wherever it is installed, with its errors made ours.

The interpreter is compiled code that reads a file. It checks the file's structure, but was not made
for files by strangers: give it the owner's only.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, TypeAlias

from attrs import frozen

from fedring.shared.errors import ModelError, UserError

PACKAGES = ("ai_edge_litert", "tflite_runtime")
"""The second where the first has no wheels: 32-bit ARM. The extra `litert` says the same."""
MAX_FILE_BYTES = 64 * 2**20

_FLEX = re.compile(r"Flex[A-Z]\w*")
_CUSTOM = re.compile(r"custom op(?:eration)?:? (\w+)", re.IGNORECASE)

Tensors: TypeAlias = Mapping[str, Any]


@frozen
class Tensor:
    """An input or output of a signature.

    Attributes:
        shape: -1 stands for a length that each call chooses.
        dtype: name of the numpy type, e.g. `float32`.
    """

    shape: tuple[int, ...]
    dtype: str


@frozen(eq=False)
class Signature:
    """Something that a file computes.

    Attributes:
        inputs: by name.
        outputs: by name.
        run: called with every input by name, gives every output by name; raises ValueError or
            RuntimeError where the interpreter cannot.
    """

    inputs: Mapping[str, Tensor]
    outputs: Mapping[str, Tensor]
    run: Callable[..., Tensors]


def read_file(path: Path) -> bytes:
    """The content of a .tflite file.

    Raises:
        ModelError: it is missing, too large, or of another kind.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError as error:
        raise ModelError(f"{path}: no such model file", name="model.missing-file") from error
    except OSError as error:
        raise ModelError(f"{path}: {error.strerror}", name="model.unreadable") from error
    if len(content) > MAX_FILE_BYTES:
        raise ModelError(f"{path}: more than {MAX_FILE_BYTES >> 20} MiB", name="model.litert-unfit")
    if content[4:8] != b"TFL3":
        raise ModelError(
            f"{path}: not a .tflite file",
            name="model.unreadable",
            hint="TensorFlow's converter makes one: see docs/learning.md",
        )
    return content


def signatures(path: Path, content: bytes) -> dict[str, Signature]:
    """Load a file into an interpreter of its own, on one thread: the same sums in the same order.

    Args:
        path: named in messages.
        content: of the file; kept by the interpreter.

    Raises:
        ModelError: the interpreter cannot make anything of it.
        UserError: there is no interpreter on this machine.
    """
    try:
        interpreter = _interpreter_class()(model_content=content, num_threads=1)
        runners = {
            name: interpreter.get_signature_runner(name)
            for name in interpreter.get_signature_list()
        }
        return {
            name: Signature(
                _tensors(runner.get_input_details()), _tensors(runner.get_output_details()), runner
            )
            for name, runner in runners.items()
        }
    except (ValueError, RuntimeError) as error:
        raise unusable(path, error) from error


def unusable(path: Path, error: Exception) -> ModelError:
    """The error for a file with which the interpreter fails."""
    foreign = sorted({*_FLEX.findall(str(error)), *_CUSTOM.findall(str(error))})
    if foreign:
        return ModelError(
            f"{path}: needs {', '.join(foreign)}, which no board has: only built-in operations of "
            "LiteRT can be used",
            name="model.litert-unfit",
            hint="docs/learning.md says how gradients do without",
        )
    text = " ".join(str(error).split())
    return ModelError(f"{path}: LiteRT cannot use it ({text})", name="model.unreadable")


def _interpreter_class() -> Any:
    for package in PACKAGES:
        try:
            return import_module(f"{package}.interpreter").Interpreter
        except ModuleNotFoundError as error:
            if error.name is None or error.name.split(".")[0] != package:
                raise
    raise UserError(
        "a .tflite model needs the package ai-edge-litert, which is not installed",
        name="cli.missing-package",
        hint="pip install 'fedring[litert]'; on 32-bit ARM up to Python 3.11",
    )


def _tensors(details: Mapping[str, Mapping[str, Any]]) -> dict[str, Tensor]:
    return {
        name: Tensor(
            tuple(int(length) for length in detail["shape_signature"]), detail["dtype"].__name__
        )
        for name, detail in details.items()
    }
