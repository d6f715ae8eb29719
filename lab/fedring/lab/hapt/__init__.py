"""Recordings of thirty people's movements, as features of windows: real data for a fleet.

Source: J.-L. Reyes-Ortiz, L. Oneto, A. Sama, X. Parra, D. Anguita, "Transition-Aware Human
Activity Recognition Using Smartphones", Neurocomputing 171, 2016. Licence: see LICENCE.md here.
"""

from fedring.lab.hapt.features import NAMES, RANGES, window_features
from fedring.lab.hapt.people import (
    ACTIVITIES,
    MAIN,
    SPLITS,
    Person,
    Split,
    evaluation,
    joined,
    people,
    write_device_files,
)

__all__ = [
    "ACTIVITIES",
    "MAIN",
    "NAMES",
    "RANGES",
    "SPLITS",
    "Person",
    "Split",
    "evaluation",
    "joined",
    "people",
    "window_features",
    "write_device_files",
]
