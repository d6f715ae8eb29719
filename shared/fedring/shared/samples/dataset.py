"""Labelled samples in memory, and what every kind of file must hold to become some."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from fedring.shared.errors import DataError
from fedring.shared.models import Floats

MIN_SAMPLES = 10
"""Fewer are refused: a model would learn them by heart, and a sum would tell about them."""
MAX_DATA_BYTES = 64 * 2**20
"""Most bytes of features read into memory: 300,000 samples of 56 features."""

_COMPARED = 1_000  # columns in which a misspelt one is looked for: comparing is slow


@attrs.frozen(eq=False, repr=False)
class Dataset:
    """Labelled samples, ready for a model with the same features and classes.

    Attributes:
        x: raw features, float32, shape (n, f), finite.
        y: int64, shape (n,); positions in `classes`.
        features: name of each column of `x`.
        classes: names of the classes.
    """

    x: Floats
    y: NDArray[np.int64]
    features: tuple[str, ...]
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.y)

    def take(self, rows: NDArray[Any]) -> Dataset:
        """The samples of these rows (positions or a mask)."""
        return attrs.evolve(self, x=self.x[rows], y=self.y[rows])

    def __repr__(self) -> str:
        return f"<Dataset of {len(self)} samples, {len(self.features)} features>"


def check_size(path: Path, n_samples: int) -> None:
    """Refuse a file with fewer than `MIN_SAMPLES` samples.

    Raises:
        DataError: named `data.too-few-samples`.
    """
    if n_samples < MIN_SAMPLES:
        raise DataError(
            f"{path}: {n_samples} samples, at least {MIN_SAMPLES} are needed",
            name="data.too-few-samples",
            hint="collect more before this file takes part",
        )


def too_large(path: Path, max_bytes: int) -> DataError:
    """The error for a file that would not fit into the memory set aside for it."""
    return DataError(
        f"{path}: more than {max_bytes} bytes of features",
        name="data.too-large",
        hint="leave out old samples, or columns that the model does not use",
    )


def unreadable(path: Path, error: Exception, what: str) -> DataError:
    """The error for a file that is not what its name says."""
    return DataError(f"{path}: not {what} ({error})", name="data.unreadable")


def missing(path: Path) -> DataError:
    """The error for a file that is not there."""
    return DataError(
        f"{path}: no such file",
        name="data.missing-file",
        hint="check `file` in the settings",
    )


def columns_of(path: Path, wanted: Sequence[str], found: Sequence[str]) -> list[int]:
    """Where the wanted columns stand among those of a file.

    Raises:
        DataError: one is missing (all are named, with the nearest that are there), or is there
            more than once.
    """
    times = Counter(found)
    absent = [name for name in wanted if name not in times]
    if absent:
        near = {name: get_close_matches(name, found[:_COMPARED], n=1) for name in absent[:3]}
        guesses = [f"`{name}`: did you mean `{close[0]}`?" for name, close in near.items() if close]
        if len(found) == 1 and ";" in found[0]:
            guesses = ["columns are separated by commas, not semicolons"]
        raise DataError(
            f"{path}: no column {_listed(absent)}",
            name="data.missing-column",
            hint="\n".join([*guesses, f"columns of the file: {_listed(found)}"]),
        )
    doubled = [name for name in wanted if times[name] > 1]
    if doubled:
        raise DataError(f"{path}: column {_listed(doubled)} twice", name="data.doubled-column")
    places = {name: place for place, name in enumerate(found)}
    return [places[name] for name in wanted]


def class_of(path: Path, place: str, label: str, classes: Mapping[str, int]) -> int:
    """Position of a label among the classes of the model.

    Args:
        path: the file.
        place: where in the file, e.g. "line 7".
        label: what stands there.
        classes: position of each name that the model knows.

    Raises:
        DataError: the model does not know it.
    """
    if label in classes:
        return classes[label]
    close = get_close_matches(label, classes, n=1)
    raise DataError(
        f"{path}: {place}: the model knows no class {label!r}",
        name="data.unknown-class",
        hint=f"did you mean {close[0]!r}?" if close else f"it knows {_listed(list(classes))}",
    )


def bad_number(path: Path, place: str, column: str, value: object) -> DataError:
    """The error for a feature that is no finite number."""
    return DataError(
        f"{path}: {place}, column `{column}`: {value!r} is not a finite number",
        name="data.bad-number",
        hint="leave out samples with gaps",
    )


def _listed(names: Sequence[str], most: int = 8) -> str:
    shown = ", ".join(f"`{name}`" for name in names[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown
