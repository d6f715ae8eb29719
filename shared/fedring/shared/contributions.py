"""The integer vector that a device contributes, and what a sum of them says.

A contribution is the quantised update followed by seven check values, all under one encryption:

    update (d values) | one | weight | clipped | evaluated | correct | loss | zero

`one` must add up to the number of contributors and `zero` to nothing; both tell a sum that went
wrong. `weight` is what the coordinator divides by when devices scale themselves down. The others
are a federated evaluation for free: how the *incoming* model does on a fixed number of the
device's own samples, readable as a sum only.

What this does not protect against: a contributor that lies inside the ranges. Nobody can tell.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np
from attrs import frozen

from fedring.shared.errors import SumError
from fedring.shared.numbers import IntVector, SumVector, largest_value

MAX_CHECK_VALUE = 127
"""Check values fit 8-bit slots, so that one layout serves both widths."""

MAX_LOSS = 4.0
"""Largest mean loss that is told apart, in nats; twelve classes by chance give 2.48."""


class Check(IntEnum):
    """Place of each check value behind the d values of the update."""

    ONE = 0
    WEIGHT = 1
    CLIPPED = 2
    EVALUATED = 3
    CORRECT = 4
    LOSS = 5
    ZERO = 6


@frozen(eq=False)
class ContributionSum:
    """What a checked sum over contributions says.

    Attributes:
        update: int64, shape (d,); sum of the quantised updates.
        weight: sum of the weights; the number of contributors when weights are equal.
        clipped: how many contributors clipped their update.
        evaluated: how many evaluated the incoming model.
        correct: right answers of the incoming model, over all that evaluated.
        loss: mean over those that evaluated, in nats; None when nobody did.
    """

    update: SumVector
    weight: int
    clipped: int
    evaluated: int
    correct: int
    loss: float | None


def n_values(d: int) -> int:
    """Length of a contribution for an update of `d` values."""
    return d + len(Check)


def contribution(
    update: IntVector,
    *,
    weight: int = 1,
    clipped: bool = False,
    evaluated: bool = False,
    correct: int = 0,
    loss: float = 0.0,
) -> IntVector:
    """The vector to mask: a quantised update and its check values.

    Args:
        update: int32, shape (d,), d >= 1, from `quantise`, already scaled by the weight.
        weight: integer level 1..127; 1 unless the plan weights by sample count.
        clipped: whether `clip_norm` changed the update.
        evaluated: whether `correct` and `loss` were measured.
        correct: right answers of the incoming model, 0..127; 0 without evaluation.
        loss: its mean loss in nats, >= 0; NaN or more than `MAX_LOSS` counts as `MAX_LOSS`.

    Returns:
        int32, shape (d + 7,).

    Raises:
        ValueError: a check value is out of its range, or given without evaluation.
    """
    if not 1 <= weight <= MAX_CHECK_VALUE:
        raise ValueError(f"weight must be 1..{MAX_CHECK_VALUE}, not {weight}")
    if not 0 <= correct <= MAX_CHECK_VALUE:
        raise ValueError(f"correct answers must be 0..{MAX_CHECK_VALUE}, not {correct}")
    if loss < 0:
        raise ValueError(f"loss must be 0 or more, not {loss}")
    if not evaluated and (correct or loss):
        raise ValueError("correct and loss are given, but nothing was evaluated")
    vector = np.zeros(n_values(len(update)), np.int32)
    vector[: len(update)] = update
    checks = vector[len(update) :]
    checks[Check.ONE] = 1
    checks[Check.WEIGHT] = weight
    checks[Check.CLIPPED] = clipped
    checks[Check.EVALUATED] = evaluated
    checks[Check.CORRECT] = correct
    # in this order, min(MAX_LOSS, NaN) is MAX_LOSS: a NaN fails every comparison
    checks[Check.LOSS] = round(min(MAX_LOSS, loss) * MAX_CHECK_VALUE / MAX_LOSS)
    return vector


def read_sum(total: SumVector, n_contributors: int, bits: int) -> ContributionSum:
    """Check a decrypted sum of contributions and take it apart.

    Args:
        total: int64, shape (d + 7,).
        n_contributors: how many the list names, >= 1.
        bits: width of a value, 8 or 16.

    Raises:
        SumError: "count", "zero" or "range" does not hold.
        ValueError: `total` is too short to hold a contribution, or `bits` is neither 8 nor 16.
    """
    d = len(total) - len(Check)
    if d < 1:
        raise ValueError(f"a sum of contributions has 8 values or more, not {len(total)}")
    checks = [int(value) for value in total[d:]]
    if checks[Check.ONE] != n_contributors:
        raise SumError("count", f"{checks[Check.ONE]} instead of {n_contributors} contributors")
    if checks[Check.ZERO]:
        raise SumError("zero", f"{checks[Check.ZERO]} instead of 0")

    evaluated = checks[Check.EVALUATED]
    for check, least, most in (
        (Check.WEIGHT, n_contributors, n_contributors * MAX_CHECK_VALUE),
        (Check.CLIPPED, 0, n_contributors),
        (Check.EVALUATED, 0, n_contributors),
        (Check.CORRECT, 0, evaluated * MAX_CHECK_VALUE),
        (Check.LOSS, 0, evaluated * MAX_CHECK_VALUE),
    ):
        if not least <= checks[check] <= most:
            raise SumError("range", f"{check.name.lower()} {checks[check]} not in {least}..{most}")
    update = total[:d]
    bound = n_contributors * largest_value(bits)
    magnitude = max(int(update.max()), -int(update.min()))
    if magnitude > bound:
        raise SumError("range", f"an update value of magnitude {magnitude}, above {bound}")

    unit = MAX_LOSS / MAX_CHECK_VALUE
    return ContributionSum(
        update=update,
        weight=checks[Check.WEIGHT],
        clipped=checks[Check.CLIPPED],
        evaluated=evaluated,
        correct=checks[Check.CORRECT],
        loss=checks[Check.LOSS] * unit / evaluated if evaluated else None,
    )
