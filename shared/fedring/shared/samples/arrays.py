"""Samples that come as arrays: a table of numbers, the class of each row, names of columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

from fedring.shared.samples.dataset import (
    MAX_DATA_BYTES,
    MIN_SAMPLES,
    Dataset,
    Origin,
    bad_number,
    check_size,
    class_of,
    columns_of,
    too_large,
    unreadable,
)

MAX_COLUMNS = 65_536
"""Columns of `x`: each name costs Python more than it takes in an array."""


@frozen(eq=False)
class Table:
    """Samples in their own columns, before any model is known.

    Attributes:
        origin: where they come from, as messages call it.
        x: integers or floats, shape (n, f).
        y: names of classes, text or whole numbers, shape (n,).
        names: of the columns of `x`, shape (f,).
    """

    origin: Origin
    x: NDArray[Any]
    y: NDArray[Any]
    names: NDArray[Any]

    def check(self, max_bytes: int = MAX_DATA_BYTES) -> None:
        """See that types and shapes are as above.

        Raises:
            DataError: they are not, or there are too many columns or bytes.
        """
        x, y, names = self.x, self.y, self.names
        what = "samples"
        if x.ndim != 2 or x.dtype.kind not in "iuf":
            raise unreadable(self.origin, ValueError("`x` is no table of numbers"), what)
        if y.shape != x.shape[:1] or names.shape != x.shape[1:]:
            shapes = f"x {x.shape}, y {y.shape}, features {names.shape}"
            raise unreadable(self.origin, ValueError(f"shapes do not fit: {shapes}"), what)
        if y.dtype.kind not in "biufU":
            raise unreadable(self.origin, ValueError("`y` is no text or whole numbers"), what)
        if x.shape[1] > MAX_COLUMNS or x.nbytes > max_bytes:
            raise too_large(self.origin, max_bytes)

    def dataset(
        self, features: Sequence[str], classes: Sequence[str], min_samples: int = MIN_SAMPLES
    ) -> Dataset:
        """The columns of a model, of a table that passed `check`.

        Raises:
            DataError: too few samples, a column is missing, a number is not finite in float32, or
                a class unknown.
        """
        origin, x, y = self.origin, self.x, self.y
        check_size(origin, len(y), min_samples)
        columns = columns_of(origin, features, [str(name) for name in self.names])
        # What is too large for float32 becomes infinite, which is seen below.
        with np.errstate(over="ignore"):
            chosen = x[:, columns].astype(np.float32)
        bad = np.argwhere(~np.isfinite(chosen))
        if len(bad):
            row, column = bad[0].tolist()
            value = x[row, columns[column]].item()
            raise bad_number(origin, f"row {row} of x", features[column], value)
        known = {name: position for position, name in enumerate(classes)}
        labels, first_rows, which = np.unique(y, return_index=True, return_inverse=True)
        positions = np.zeros(len(labels), np.int64)
        for label in np.argsort(first_rows)[: len(classes) + 1]:  # the one too many is refused
            place = f"row {first_rows[label]} of y"
            positions[label] = class_of(origin, place, str(labels[label]), known)
        return Dataset(chosen, positions[which], tuple(features), tuple(classes))
