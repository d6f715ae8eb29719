"""Float updates to small integers and back: what an update loses before it is masked.

Clipping bounds what one device can do to the sum, rounding makes the sum exact from there on.
The direction of each rounding comes from a generator of the caller's; it is not a secret of the
encryption and shares no stream with one.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from fedring.shared.errors import UpdateError

FloatVector: TypeAlias = NDArray[np.float32]
IntVector: TypeAlias = NDArray[np.int32]
SumVector: TypeAlias = NDArray[np.int64]
MeanVector: TypeAlias = NDArray[np.float64]

VALUE_BITS = (8, 16)
BLOCK = 1 << 15
"""Values handled at a time: temporaries stay in the cache, whatever the length of the vector."""


def largest_value(bits: int) -> int:
    """The largest magnitude of one coded value: 127 at 8 bits, 32,767 at 16.

    Raises:
        ValueError: `bits` is not one of `VALUE_BITS`.
    """
    if bits not in VALUE_BITS:
        raise ValueError(f"values have 8 or 16 bits, not {bits}")
    return (1 << (bits - 1)) - 1


def check_finite(update: FloatVector) -> None:
    """Refuse an update that holds a NaN or an infinity.

    Raises:
        UpdateError: names the flat index of the first one.
    """
    for start, block in _blocks(update):
        finite = np.isfinite(block)
        if not finite.all():
            first = int(np.argmin(finite))
            raise UpdateError(start + first, float(block[first]))


def clip_norm(update: FloatVector, bound: float) -> tuple[FloatVector, bool]:
    """Scale an update down to an L2 norm of at most `bound`.

    Args:
        update: float32, shape (d,), d >= 1.
        bound: greatest norm kept, in units of a weight, > 0 and finite.

    Returns:
        float32, shape (d,), the same array when nothing was clipped; and whether it was.
        The norm may exceed `bound` by the rounding of float32 (one part in 2**23).

    Raises:
        UpdateError: a value is NaN or infinite.
        ValueError: `bound` is not positive and finite.
    """
    _check_positive("bound", bound)
    check_finite(update)
    # float64, since the squares of float32 values overflow float32 from 1.8e19 on
    squares = (np.square(block, dtype=np.float64).sum() for _, block in _blocks(update))
    norm = float(np.sqrt(sum(squares)))
    if norm <= bound:
        return update, False
    scaled = np.empty_like(update)
    np.multiply(update, bound / norm, out=scaled, dtype=np.float64)
    return scaled, True


def quantise(update: FloatVector, clip: float, bits: int, rng: np.random.Generator) -> IntVector:
    """Round a clipped update to signed integers, without bias.

    Args:
        update: float32, shape (d,), d >= 1; local weights minus the round's weights.
        clip: greatest magnitude kept, in units of a weight, > 0 and finite.
        bits: width of a slot value, 8 or 16.
        rng: draws the direction of each rounding.

    Returns:
        int32, shape (d,), within [-m, m] for m = largest_value(bits).
        Its mean over `rng` is `np.clip(update, -clip, clip) * m / clip`.

    Raises:
        UpdateError: a value is NaN or infinite; rounds nothing.
        ValueError: `clip` is not positive and finite, or `bits` is neither 8 nor 16.

    Source: stochastic rounding, Alistarh et al., "QSGD", NeurIPS 2017.
    """
    _check_positive("clip", clip)
    largest = largest_value(bits)
    check_finite(update)
    rounded = np.empty(update.shape, np.int32)
    for start, block in _blocks(update):
        scaled = np.clip(block.astype(np.float64) * (largest / clip), -largest, largest)
        below = np.floor(scaled)
        # not floor(scaled + draw): 32767 + 0.9999999999999999 rounds to 32768, out of range
        below += rng.random(len(block)) < scaled - below
        rounded[start : start + len(block)] = below
    return rounded


def dequantise(total: SumVector, clip: float, bits: int, divisor: float) -> MeanVector:
    """A sum of quantised updates as a mean in units of a weight.

    Args:
        total: int64, shape (d,); the sum that was decrypted.
        clip: the value that the devices gave to `quantise`.
        bits: 8 or 16, likewise.
        divisor: what to divide by, > 0: the number of contributors, or their sum of weights.

    Returns:
        float64, shape (d,): total * clip / (largest_value(bits) * divisor).

    Raises:
        ValueError: `clip` or `divisor` is not positive and finite, `bits` neither 8 nor 16.
    """
    _check_positive("clip", clip)
    _check_positive("divisor", divisor)
    mean: MeanVector = np.multiply(total, clip / (largest_value(bits) * divisor), dtype=np.float64)
    return mean


def _blocks(vector: FloatVector) -> Iterator[tuple[int, FloatVector]]:
    for start in range(0, len(vector), BLOCK):
        yield start, vector[start : start + BLOCK]


def _check_positive(name: str, value: float) -> None:
    if not (np.isfinite(value) and value > 0):
        raise ValueError(f"{name} must be positive and finite, not {value}")
