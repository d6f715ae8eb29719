"""Samples from a CSV file: a header line, then one sample a line."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from fedring.shared.errors import DataError
from fedring.shared.samples.dataset import (
    MAX_DATA_BYTES,
    MIN_SAMPLES,
    Dataset,
    check_first,
    check_size,
    columns_of,
    missing,
    unreadable,
)
from fedring.shared.samples.rows import Rows


def read_csv(
    path: Path,
    features: Sequence[str],
    classes: Sequence[str],
    *,
    label: str = "label",
    max_bytes: int = MAX_DATA_BYTES,
    min_samples: int = MIN_SAMPLES,
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
        min_samples: fewer are refused.

    Raises:
        DataError: the file is missing, damaged, too large or too short, lacks a column, or holds
            something else than finite numbers and known classes; names line and column.
    """
    rows = Rows(path, features, classes, max_bytes)
    with _lines(path) as (header, lines):
        *wanted, answer = columns_of(path, [*features, label], header)
        for place, cells in lines:
            rows.add(place, [cells[at] for at in wanted], cells[answer].strip())
    check_size(path, len(rows), min_samples)
    return rows.dataset()


def check_csv(path: Path, *, label: str = "label") -> None:
    """See that a CSV file can be one of samples, by its header and first line.

    Raises:
        DataError: it is missing or unreadable, or has no label column or no numbers.
    """
    with _lines(path) as (header, lines):
        _, cells = next(lines, ("", []))
        check_first(path, header, cells, label)


@contextmanager
def _lines(path: Path) -> Iterator[tuple[list[str], Iterator[tuple[str, list[str]]]]]:
    """Header of a file, and its other lines: where each stands, and its cells."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, strict=True)
            header = [name.strip() for name in next(reader, [])]

            def samples() -> Iterator[tuple[str, list[str]]]:
                for cells in reader:
                    if not cells:
                        continue
                    place = f"line {reader.line_num}"
                    if len(cells) != len(header):
                        raise DataError(
                            f"{path}: {place}: {len(cells)} cells, the header has {len(header)}",
                            name="data.bad-line",
                        )
                    yield place, cells

            yield header, samples()
    except FileNotFoundError as error:
        raise missing(path) from error
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise unreadable(path, error, "a CSV file in UTF-8") from error
