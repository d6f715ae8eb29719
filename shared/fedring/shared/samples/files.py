"""Whatever file samples come in."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fedring.shared.errors import DataError
from fedring.shared.samples.csv_file import read_csv
from fedring.shared.samples.dataset import Dataset
from fedring.shared.samples.npz_file import read_npz

KINDS = ("csv", "npz")


def read_samples(
    path: Path,
    features: Sequence[str],
    classes: Sequence[str],
    *,
    kind: str = "",
    label: str = "label",
) -> Dataset:
    """Read the columns of a model from a file: see `read_csv` and `read_npz`.

    Args:
        path: the file.
        features: names of the columns wanted, in the order of the model.
        classes: class names that may occur.
        kind: one of `KINDS`; empty to go by the ending of the file's name.
        label: label column of a CSV file.

    Raises:
        DataError: the file cannot be read, or does not fit.
    """
    match kind or path.suffix.lower().removeprefix("."):
        case "csv":
            return read_csv(path, features, classes, label=label)
        case "npz":
            return read_npz(path, features, classes)
        case other:
            raise DataError(
                f"{path}: cannot read samples from a `{other}` file",
                name="data.unknown-kind",
                hint=f"known are {', '.join(KINDS)}",
            )
