"""Samples from an npz file: arrays `x` (n, f), `y` (n,) and `features` (f,)."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fedring.shared.errors import DataError
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
            with zipfile.ZipFile(file) as archive:
                sizes = {info.filename: info.file_size for info in archive.infolist()}
            for name in ARRAYS:
                if f"{name}.npy" not in sizes:
                    raise DataError(
                        f"{path}: no array `{name}`",
                        name="data.missing-array",
                        hint="an npz file has x (n, f), y (n,) and features (f,): see the manual",
                    )
                # looked up before it is unpacked, since a small file may hold a huge array
                if sizes[f"{name}.npy"] > max_bytes:
                    raise too_large(path, max_bytes)
            file.seek(0)
            with np.load(file, allow_pickle=False) as arrays:
                x, y, names = (arrays[name] for name in ARRAYS)
    except FileNotFoundError as error:
        raise missing(path) from error
    except (OSError, EOFError, ValueError, zipfile.BadZipFile) as error:
        raise unreadable(path, error, "an npz file of numbers and text") from error
    if x.ndim != 2 or not np.issubdtype(x.dtype, np.number) or np.iscomplexobj(x):
        raise unreadable(path, ValueError("`x` is no table of numbers"), "a file of samples")
    if y.shape != x.shape[:1] or names.shape != x.shape[1:]:
        shapes = f"x {x.shape}, y {y.shape}, features {names.shape}"
        raise unreadable(path, ValueError(f"shapes do not fit: {shapes}"), "a file of samples")
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
    positions = [
        class_of(path, f"row {row} of y", str(label), known) for row, label in enumerate(y.tolist())
    ]
    return Dataset(chosen, np.array(positions, np.int64), tuple(features), tuple(classes))
