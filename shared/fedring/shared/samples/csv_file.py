"""Samples from a CSV file: a header line, then one sample a line."""

from __future__ import annotations

import csv
import math
from array import array
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

_LARGEST = float(np.finfo(np.float32).max)


def read_csv(
    path: Path,
    features: Sequence[str],
    classes: Sequence[str],
    *,
    label: str = "label",
    max_bytes: int = MAX_DATA_BYTES,
) -> Dataset:
    """Read the columns of a model from a CSV file.

    Columns are found by their name in the header, in any order; others are passed over, as are
    empty lines. The text is UTF-8, columns are separated by commas, numbers have a point.

    Args:
        path: the file.
        features: names of the columns wanted, in the order of the model.
        classes: class names that may stand in the label column.
        label: name of the label column.
        max_bytes: most memory for the features.

    Raises:
        DataError: the file is missing, damaged, too large or too short, lacks a column, or holds
            something else than finite numbers and known classes; names line and column.
    """
    values, labels = array("f"), array("q")
    known = {name: position for position, name in enumerate(classes)}
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            lines = csv.reader(file, strict=True)
            header = [name.strip() for name in next(lines, [])]
            *wanted, answer = columns_of(path, [*features, label], header)
            for cells in lines:
                if not cells:
                    continue
                place = f"line {lines.line_num}"
                if len(cells) != len(header):
                    raise DataError(
                        f"{path}: {place}: {len(cells)} cells, the header has {len(header)}",
                        name="data.bad-line",
                    )
                values.extend([_number(path, place, header[at], cells[at]) for at in wanted])
                labels.append(class_of(path, place, cells[answer].strip(), known))
                if len(values) * values.itemsize > max_bytes:
                    raise too_large(path, max_bytes)
    except FileNotFoundError as error:
        raise missing(path) from error
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise unreadable(path, error, "a CSV file in UTF-8") from error
    check_size(path, len(labels))
    x = np.array(values, np.float32).reshape(-1, len(features))
    return Dataset(x, np.array(labels, np.int64), tuple(features), tuple(classes))


def _number(path: Path, place: str, column: str, cell: str) -> float:
    try:
        value = float(cell)
    except ValueError:
        value = math.nan
    if not abs(value) <= _LARGEST:  # NaN fails every comparison
        raise bad_number(path, place, column, cell)
    return value
