"""Samples from an npz file: arrays `x` (n, f), `y` (n,) and `features` (f,)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fedring.shared.errors import DataError
from fedring.shared.npz import TooLargeError, read_arrays
from fedring.shared.samples.arrays import Table
from fedring.shared.samples.dataset import (
    MAX_DATA_BYTES,
    MIN_SAMPLES,
    Dataset,
    missing,
    too_large,
    unreadable,
)

ARRAYS = ("x", "y", "features")


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
    min_samples: int = MIN_SAMPLES,
) -> Dataset:
    """Read the columns of a model from an npz file.

    `x` holds a sample in each row, `y` the class name of each (text or whole numbers), `features`
    the name of each column of `x`. Columns are found by name; others are passed over.

    Args:
        path: the file.
        features: names of the columns wanted, in the order of the model.
        classes: class names that may stand in `y`.
        max_bytes: most memory for any array of the file, as it is stored.
        min_samples: fewer are refused.

    Raises:
        DataError: the file is missing, damaged, too large or too short, lacks an array or column,
            or holds something else than finite numbers and known classes.
    """
    return _table(path, max_bytes).dataset(features, classes, min_samples)


def check_npz(path: Path) -> None:
    """See that an npz file can be one of samples: its arrays, their types and shapes.

    Raises:
        DataError: it cannot, or is missing, damaged or too large.
    """
    _table(path, MAX_DATA_BYTES)


def _table(path: Path, max_bytes: int) -> Table:
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
    table = Table(path, x, y, names)
    table.check(max_bytes)
    return table
