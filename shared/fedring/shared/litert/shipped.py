"""The .tflite files that come along, made by `scripts/litert-models`."""

from importlib.resources import files
from pathlib import Path
from typing import Any

from fedring.shared.config import Kind, path

_FOLDER = Path(str(files("fedring.shared.litert"))) / "models"

SHIPPED = {name: _FOLDER / f"{name}.tflite" for name in ("hapt-dense", "hapt-conv")}
"""By name: a dense network of 56 features and 6 classes, with the arrays of an `mlp`; and a
convolutional one of windows of 64 steps and 6 axes."""


def litert_file() -> Kind:
    """A setting: the path of a .tflite file, or the name of one in `SHIPPED`."""
    a_path = path(f"a .tflite file, or one of {', '.join(SHIPPED)}")

    def read(value: Any, folder: Path) -> Path:
        if value in SHIPPED:
            return SHIPPED[value]
        file: Path = a_path.read(value, folder)
        return file

    return Kind(a_path.expected, read)
