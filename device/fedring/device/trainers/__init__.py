"""What learns from a device's own samples."""

from fedring.device.trainers.choice import trainer_of
from fedring.device.trainers.numpy_trainer import NumpyTrainer
from fedring.device.trainers.trainer import Trained, Trainer, TrainingStopped

__all__ = ["NumpyTrainer", "Trained", "Trainer", "TrainingStopped", "trainer_of"]
