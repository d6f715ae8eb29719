"""Samples from an npz file: arrays `x` (n, f), `y` (n,) and `features` (f,)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fedring.shared.errors import DataError
from fedring.shared.npz import TooLargeError, read_arrays
from fedring.shared.samples.dataset import (
    MAX_DATA_BYTES,
    Dataset,
    bad_number,
    check_size,
    class_of,
    columns_of,
    missing,
    too_large,
    unreadable,
)

ARRAYS = ("x", "y", "features")
MAX_COLUMNS = 65_536
"""Columns of `x`: each name costs Python more than it takes in the file."""


def write_npz(path: Path, data: Dataset) -> None:
    """Write samples as `read_npz` reads them; labels as class names."""
    np.savez(
        path,
        x=data.x,
        y=np.array(data.classes)[data.y],
        features=np.array(data.features),
    )


def read_npz(
    path: Path,
    features: Sequence[str],
    classes: Sequence[str],
    *,
    max_bytes: int = MAX_DATA_BYTES,
) -> Dataset:
    """Read the columns of a model from an npz file.

    `x` holds a sample in each row, `y` the class name of each (text or whole numbers), `features`
    the name of each column of `x`. Columns are found by name; others are passed over.

    Args:
        path: the file.
        features: names of the columns wanted, in the order of the model.
        classes: class names that may stand in `y`.
        max_bytes: most memory for any array of the file, as it is stored.

    Raises:
        DataError: the file is missing, damaged, too large or too short, lacks an array or column,
            or holds something else than finite numbers and known classes.
    """
    try:
        with path.open("rb") as file:
            x, y, names = read_arrays(file, ARRAYS, max_bytes).values()
    except FileNotFoundError as error:
        raise missing(path) from error
    except TooLargeError as error:
        raise too_large(path, max_bytes) from error
    except LookupError as error:
        raise DataError(
            f"{path}: {error}",
            name="data.missing-array",
            hint="an npz file has x (n, f), y (n,) and features (f,): see the manual",
        ) from error
    except (OSError, ValueError) as error:
        raise unreadable(path, error, "an npz file of numbers and text") from error
    if x.ndim != 2 or not np.issubdtype(x.dtype, np.number):
        raise unreadable(path, ValueError("`x` is no table of numbers"), "a file of samples")
    if y.shape != x.shape[:1] or names.shape != x.shape[1:]:
        shapes = f"x {x.shape}, y {y.shape}, features {names.shape}"
        raise unreadable(path, ValueError(f"shapes do not fit: {shapes}"), "a file of samples")
    if x.shape[1] > MAX_COLUMNS:
        raise too_large(path, max_bytes)
    check_size(path, len(y))
    columns = columns_of(path, features, [str(name) for name in names])
    with np.errstate(over="ignore"):  # what is too large for float32 becomes infinite: seen below
        chosen = x[:, columns].astype(np.float32)
    bad = np.argwhere(~np.isfinite(chosen))
    if len(bad):
        row, column = bad[0].tolist()
        value = x[row, columns[column]].item()
        raise bad_number(path, f"row {row} of x", features[column], value)
    known = {name: position for position, name in enumerate(classes)}
    labels, first_rows, which = np.unique(y, return_index=True, return_inverse=True)
    positions = np.zeros(len(labels), np.int64)
    for label in np.argsort(first_rows)[: len(classes) + 1]:  # the one too many is refused
        place = f"row {first_rows[label]} of y"
        positions[label] = class_of(path, place, str(labels[label]), known)
    return Dataset(chosen, positions[which], tuple(features), tuple(classes))
