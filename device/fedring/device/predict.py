"""What the kept model says about new samples: for people at a prompt and for pipes.

Samples are lines of CSV with raw features, in the units of the training data; the model file brings
its own normalisation. Each line is answered when it comes, so that a sensor may feed a pipe.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
from attrs import frozen

from fedring.shared import networks
from fedring.shared.errors import DataError, MessageError, ModelError
from fedring.shared.models import Floats, Model, load_npz
from fedring.shared.samples.dataset import bad_number, columns_of

Predict: TypeAlias = Callable[[Model, Floats], Floats]
"""Probability of each class from raw features; see `networks.predict`."""

_LARGEST = float(np.finfo(np.float32).max)


@frozen
class Prediction:
    """What the model says about one sample.

    Attributes:
        probabilities: of each class by its name; they sum to 1.
    """

    probabilities: dict[str, float]

    @property
    def answer(self) -> str:
        """The most probable class."""
        return max(self.probabilities, key=lambda name: self.probabilities[name])

    def text(self) -> str:
        """Class and its probability, with a tab between."""
        return f"{self.answer}\t{self.probabilities[self.answer]:.4f}"

    def json(self) -> str:
        """All probabilities, as one line of JSON."""
        rounded = {name: round(value, 6) for name, value in self.probabilities.items()}
        return json.dumps({"class": self.answer, "probabilities": rounded})


def load_model(path: Path, check: Callable[[Model], None] = networks.check) -> Model:
    """Read the model that a device keeps, or one that a coordinator exported.

    Args:
        path: the file.
        check: raises MessageError for a model that cannot be computed here.

    Raises:
        ModelError: there is none yet, or it is not one that can be computed.
    """
    if not path.exists():
        raise ModelError(
            f"{path}: no model yet",
            name="model.missing-file",
            hint="it comes with the first round that this device sees: fedring device run",
        )
    model, _ = load_npz(path)
    try:
        check(model)
    except MessageError as error:
        raise ModelError(f"{path}: {error.reason}", name="model.unreadable") from error
    return model


def predict_lines(
    model: Model, lines: Iterable[str], source: Path, predict: Predict = networks.predict
) -> Iterator[Prediction]:
    """Answer each sample when its line is read.

    Args:
        model: a checked model.
        lines: CSV. A header line gives columns by name, in any order, and may name others, which
            are passed over. Without one, a line is the features in the order of the model.
        source: what to call the lines in messages.
        predict: computes the model.

    Raises:
        DataError: no sample at all, a column is missing, or a cell is no finite number; names line
            and column. Samples before it have been answered.
    """
    reader = csv.reader(lines)
    columns: list[int] | None = None
    n_cells = len(model.features)
    n_samples = 0
    try:
        for cells in reader:
            if not cells:
                continue
            if columns is None:
                header = [cell.strip().removeprefix("\ufeff") for cell in cells]
                columns = _columns(model, header, source)
                if not _is_sample(header):
                    n_cells = len(cells)
                    continue
            if len(cells) != n_cells:
                raise DataError(
                    f"{source}: line {reader.line_num}: {len(cells)} cells, not {n_cells}",
                    name="data.bad-line",
                )
            n_samples += 1
            sample = _sample(model, [cells[at] for at in columns], source, reader.line_num)
            row = predict(model, sample)[0]
            yield Prediction(dict(zip(model.classes, map(float, row), strict=True)))
    except (csv.Error, UnicodeDecodeError) as error:
        raise DataError(f"{source}: not CSV in UTF-8 ({error})", name="data.unreadable") from error
    if n_samples == 0:
        raise DataError(f"{source}: no samples", name="data.too-few-samples")


def _columns(model: Model, first: Sequence[str], source: Path) -> list[int]:
    if not _is_sample(first):
        return columns_of(source, model.features, first)
    if len(first) != len(model.features):
        raise DataError(
            f"{source}: {len(first)} columns without names, the model has "
            f"{len(model.features)} features",
            name="data.bad-line",
            hint=f"begin with a line of names: {','.join(model.features[:4])},...",
        )
    return list(range(len(model.features)))


def _is_sample(cells: Sequence[str]) -> bool:
    return all(_number(cell) is not None for cell in cells)


def _sample(model: Model, cells: Sequence[str], source: Path, line: int) -> Floats:
    values = [_number(cell) for cell in cells]
    for name, cell, value in zip(model.features, cells, values, strict=True):
        if value is None or not abs(value) <= _LARGEST:
            raise bad_number(source, f"line {line}", name, cell)
    return np.array([values], np.float32)


def _number(cell: str) -> float | None:
    """The number in a cell, which may be infinite or NaN; None when there is none."""
    try:
        return float(cell)
    except ValueError:
        return math.nan if cell.strip() == "" else None
