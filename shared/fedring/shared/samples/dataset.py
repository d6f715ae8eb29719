"""Labelled samples in memory, and what every kind of source must hold to become some.

`origin` is always what messages call the source: a file, a table of a database, a function.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import attrs
import numpy as np
from numpy.typing import NDArray

from fedring.shared.errors import DataError
from fedring.shared.models import Floats
from fedring.shared.texts import nearest

Origin: TypeAlias = Path | str

MIN_SAMPLES = 10
"""Fewer are refused: a model would learn them by heart, and a sum would tell about them."""
MAX_DATA_BYTES = 64 * 2**20
"""Most bytes of features read into memory: 300,000 samples of 56 features."""

LARGEST = float(np.finfo(np.float32).max)
"""Most that a feature may be, and least with a minus before it."""

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


def check_size(origin: Origin, n_samples: int, at_least: int = MIN_SAMPLES) -> None:
    """Refuse fewer samples than `at_least`.

    Raises:
        DataError: named `data.too-few-samples`.
    """
    if n_samples < at_least:
        raise DataError(
            f"{origin}: {n_samples} samples, at least {at_least} are needed",
            name="data.too-few-samples",
            hint="collect more before this device takes part",
        )


def check_first(
    origin: Origin, columns: Sequence[str], first: Sequence[object], label: str
) -> None:
    """See, before any model is known, that there is a label and something to learn from.

    Args:
        origin: named in messages.
        columns: names of all columns.
        first: one sample, a cell for each column; empty where there is none yet.
        label: name of the label column.

    Raises:
        DataError: no label column, or two; or no other column holds a number in `first`.
    """
    (place,) = columns_of(origin, [label], columns)
    cells = [cell for at, cell in enumerate(first) if at != place]
    if len(columns) == 1 or (first and all(_finite(cell) is None for cell in cells)):
        raise DataError(
            f"{origin}: no column of numbers beside `{label}`",
            name="data.no-numbers",
            hint=f"a model learns from numbers; columns: {_listed(columns)}",
        )


def number_of(origin: Origin, place: str, column: str, cell: object) -> float:
    """The number in a cell: a number, or text that says one.

    Raises:
        DataError: there is none, or it is not finite in float32.
    """
    value = _finite(cell)
    if value is None:
        raise bad_number(origin, place, column, cell)
    return value


def _finite(cell: object) -> float | None:
    if isinstance(cell, bytes):  # `float` would read them as text
        return None
    try:
        value = float(cell)  # type: ignore[arg-type]  # whatever it is: it says so itself
    except (TypeError, ValueError, OverflowError):
        return None
    return value if abs(value) <= LARGEST else None  # NaN fails every comparison


def too_large(origin: Origin, max_bytes: int) -> DataError:
    """The error for samples that would not fit into the memory set aside for them."""
    return DataError(
        f"{origin}: more than {max_bytes} bytes of features",
        name="data.too-large",
        hint="leave out old samples, or columns that the model does not use",
    )


def unreadable(origin: Origin, error: Exception, what: str) -> DataError:
    """The error for a file that is not what its name says."""
    return DataError(f"{origin}: not {what} ({error})", name="data.unreadable")


def missing(origin: Origin, key: str = "file") -> DataError:
    """The error for a file (or what else the settings say under a key) that is not there."""
    return DataError(
        f"{origin}: no such {'folder' if key == 'folder' else 'file'}",
        name="data.missing-file",
        hint=f"check `{key}` in the settings",
    )


def columns_of(origin: Origin, wanted: Sequence[str], found: Sequence[str]) -> list[int]:
    """Where the wanted columns stand among those that are there.

    Raises:
        DataError: one is missing (all are named, with the nearest that are there), or is there
            more than once.
    """
    times = Counter(found)
    absent = [name for name in wanted if name not in times]
    if absent:
        near = {name: nearest(name, found[:_COMPARED]) for name in absent[:3]}
        guesses = [f"`{name}`: did you mean `{close}`?" for name, close in near.items() if close]
        if len(found) == 1 and ";" in found[0]:
            guesses = ["columns are separated by commas, not semicolons"]
        where = " of the file" if isinstance(origin, Path) else ""
        raise DataError(
            f"{origin}: no column {_listed(absent)}",
            name="data.missing-column",
            hint="\n".join([*guesses, f"columns{where}: {_listed(found)}"]),
        )
    doubled = [name for name in wanted if times[name] > 1]
    if doubled:
        raise DataError(f"{origin}: column {_listed(doubled)} twice", name="data.doubled-column")
    places = {name: place for place, name in enumerate(found)}
    return [places[name] for name in wanted]


def class_of(origin: Origin, place: str, label: str, classes: Mapping[str, int]) -> int:
    """Position of a label among the classes of the model.

    Args:
        origin: named in messages.
        place: where in it, e.g. "line 7".
        label: what stands there.
        classes: position of each name that the model knows.

    Raises:
        DataError: the model does not know it.
    """
    if label in classes:
        return classes[label]
    close = nearest(label, classes)
    raise DataError(
        f"{origin}: {place}: the model knows no class {label!r}",
        name="data.unknown-class",
        hint=f"did you mean {close!r}?" if close else f"it knows {_listed(list(classes))}",
    )


def bad_number(origin: Origin, place: str, column: str, value: object) -> DataError:
    """The error for a feature that is no finite number."""
    return DataError(
        f"{origin}: {place}, column `{column}`: {value!r} is not a finite number",
        name="data.bad-number",
        hint="leave out samples with gaps",
    )


def _listed(names: Sequence[str], most: int = 8) -> str:
    shown = ", ".join(f"`{name}`" for name in names[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown
