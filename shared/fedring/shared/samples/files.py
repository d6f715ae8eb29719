"""Whatever file samples come in."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fedring.shared.errors import DataError
from fedring.shared.samples.csv_file import check_csv, read_csv
from fedring.shared.samples.dataset import MAX_DATA_BYTES, MIN_SAMPLES, Dataset, unreadable
from fedring.shared.samples.npz_file import check_npz, read_npz

KINDS = ("csv", "npz")


def read_samples(
    path: Path,
    features: Sequence[str],
    classes: Sequence[str],
    *,
    kind: str = "",
    label: str = "label",
    max_bytes: int = MAX_DATA_BYTES,
    min_samples: int = MIN_SAMPLES,
) -> Dataset:
    """Read the columns of a model from a file: see `read_csv` and `read_npz`.

    Args:
        path: the file.
        features: names of the columns wanted, in the order of the model.
        classes: class names that may occur.
        kind: one of `KINDS`; empty to go by the ending of the file's name.
        label: label column of a CSV file.
        max_bytes: most memory for the features.
        min_samples: fewer are refused.

    Raises:
        DataError: the file cannot be read, or does not fit.
    """
    if _kind(path, kind) == "csv":
        return read_csv(
            path, features, classes, label=label, max_bytes=max_bytes, min_samples=min_samples
        )
    return read_npz(path, features, classes, max_bytes=max_bytes, min_samples=min_samples)


def check_samples(path: Path, *, kind: str = "", label: str = "label") -> None:
    """See that a file can be one of samples, before any model is known.

    Args:
        path: the file.
        kind: one of `KINDS`; empty to go by the ending of the file's name.
        label: label column of a CSV file.

    Raises:
        DataError: it cannot: see `check_csv` and `check_npz`.
    """
    if _kind(path, kind) == "csv":
        check_csv(path, label=label)
    else:
        check_npz(path)


def _kind(path: Path, kind: str) -> str:
    if path.exists() and not (path.is_file() or path.is_dir()):
        # A pipe or a device may keep its reader waiting, or give without end.
        raise unreadable(path, ValueError("a pipe, device or socket"), "a file")
    kind = kind or path.suffix.lower().removeprefix(".")
    if kind not in KINDS:
        raise DataError(
            f"{path}: cannot read samples from a `{kind}` file",
            name="data.unknown-kind",
            hint=f"known are {', '.join(KINDS)}",
        )
    return kind
