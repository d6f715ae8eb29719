"""Fifty-six cheap numbers that tell what a body is doing, from 2.56 s of its movement.

A board runs `window_features` on its raw samples; the module needs nothing but numpy, so that the
file can be copied to where the sensor is. For each window of 128 samples at 50 Hz:

| names | of | number |
|---|---|---|
| `.mean` `.std` `.min` `.max` `.step` | acc_x acc_y acc_z gyro_x gyro_y gyro_z | 30 |
| `.mean` `.std` `.max` `.step` | acc, gyro: lengths of the two vectors | 8 |
| `.cov` | acc_xy acc_xz acc_yz: covariance of two axes | 3 |
| `.band1` ... `.band5` | acc, acc_x, gyro: log of the energy in a band | 15 |

`step` is the mean |difference| of neighbouring samples. Standard deviation and covariance divide
by 128. A band's energy is the sum of |rfft|^2 / 128 over its bins of 0.39 Hz; 0.001 is added before
the logarithm. The bands are 0.4 to 1.2, 1.6 to 2.3, 2.7 to 3.9, 4.3 to 7.8 and 8.2 to 16 Hz: the
second holds the steps of a walk.

`RANGES` gives each feature a public bound, which it may now and then exceed. It comes from the span
of the sensor (+-2 g, +-10 rad/s) and from what a body can do, not from the recordings: a fleet
shares it before anybody has looked at any data.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

WINDOW = 128
AXES = ("acc_x", "acc_y", "acc_z", "gyro_x", "gyro_y", "gyro_z")
BANDS = ((1, 4), (4, 7), (7, 11), (11, 21), (21, 42))
"""First bin and bin after the last, in bins of 50 / 128 Hz."""
LEAST_ENERGY = 1e-3

_STATISTICS_RANGES = {  # of one axis: accelerometer, gyroscope
    "mean": (1.5, 1.0),
    "std": (0.75, 2.0),
    "min": (2.5, 6.0),
    "max": (2.5, 6.0),
    "step": (0.3, 1.0),
}
_LENGTH_RANGES = {**_STATISTICS_RANGES, "mean": (1.5, 3.0)}
_COVARIANCE_RANGE = 0.15
_LOG_ENERGY_RANGE = 8.0


def _ranges() -> dict[str, float]:
    ranges = {}
    for axis in AXES:
        for name, (of_acc, of_gyro) in _STATISTICS_RANGES.items():
            ranges[f"{axis}.{name}"] = of_acc if axis.startswith("acc") else of_gyro
    for sensor, length in enumerate(("acc", "gyro")):
        for name in ("mean", "std", "max", "step"):
            ranges[f"{length}.{name}"] = _LENGTH_RANGES[name][sensor]
    for pair in ("acc_xy", "acc_xz", "acc_yz"):
        ranges[f"{pair}.cov"] = _COVARIANCE_RANGE
    for signal in ("acc", "acc_x", "gyro"):
        for band in range(1, len(BANDS) + 1):
            ranges[f"{signal}.band{band}"] = _LOG_ENERGY_RANGE
    return ranges


RANGES = _ranges()
"""Name of each feature, in order, and its public range, in the feature's own unit."""
NAMES = tuple(RANGES)


def window_features(samples: NDArray[np.floating[Any] | np.integer[Any]]) -> NDArray[np.float32]:
    """The 56 features of each window.

    Args:
        samples: shape (..., 128, 6), the axes in the order of `AXES`. Integers are mg and mrad/s,
            as sensors count them; floats are g and rad/s.

    Returns:
        float32, shape (..., 56), in the order of `NAMES`; computed in float64.

    Raises:
        ValueError: not windows of 128 samples of 6 axes.
    """
    if samples.shape[-2:] != (WINDOW, len(AXES)):
        raise ValueError(f"windows of shape {samples.shape[-2:]}, not ({WINDOW}, {len(AXES)})")
    unit = 1e-3 if np.issubdtype(samples.dtype, np.integer) else 1.0
    signals = np.moveaxis(samples.astype(np.float64) * unit, -1, 0)  # (6, ..., 128)
    acc, gyro = np.linalg.norm(signals[:3], axis=0), np.linalg.norm(signals[3:], axis=0)
    found = [
        *(value for signal in signals for value in _statistics(signal)),
        *(value for length in (acc, gyro) for value in _statistics(length, least=False)),
        *(_covariance(signals[i], signals[j]) for i, j in ((0, 1), (0, 2), (1, 2))),
        *(value for signal in (acc, signals[0], gyro) for value in _log_energies(signal)),
    ]
    return np.stack(found, axis=-1).astype(np.float32)


Signal = NDArray[np.float64]


def _statistics(signal: Signal, *, least: bool = True) -> list[Signal]:
    """Mean, deviation, minimum (where wanted), maximum and mean step of (..., 128)."""
    return [
        signal.mean(axis=-1),
        signal.std(axis=-1),
        *([signal.min(axis=-1)] if least else []),
        signal.max(axis=-1),
        np.abs(np.diff(signal, axis=-1)).mean(axis=-1),
    ]


def _covariance(one: Signal, other: Signal) -> Signal:
    centred = one - one.mean(axis=-1, keepdims=True)
    covariance: Signal = (centred * other).mean(axis=-1)
    return covariance


def _log_energies(signal: Signal) -> list[Signal]:
    power = np.abs(np.fft.rfft(signal, axis=-1)) ** 2 / WINDOW
    return [np.log(power[..., low:high].sum(axis=-1) + LEAST_ENERGY) for low, high in BANDS]
