"""The trainer that the owner's settings name."""

from __future__ import annotations

from fedring.device.settings import Training
from fedring.device.trainers.litert_trainer import LitertTrainer
from fedring.device.trainers.numpy_trainer import NumpyTrainer
from fedring.device.trainers.trainer import Trainer
from fedring.shared.litert import Computation


def trainer_of(training: Training) -> Trainer:
    """LiteRT where a .tflite file is named, else numpy.

    Raises:
        ModelError: the file is missing, damaged, or lacks something.
        UserError: LiteRT is not installed.
    """
    if training.litert is None:
        return NumpyTrainer()
    return LitertTrainer(Computation.load(training.litert))
