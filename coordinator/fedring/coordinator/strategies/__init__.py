"""What the coordinator makes of a sum: from the published model to the next one."""

from fedring.coordinator.strategies.fedavg import FedAvg
from fedring.coordinator.strategies.means import mean_update
from fedring.coordinator.strategies.normalisation import (
    STATISTICS_BITS,
    doubtful_ranges,
    normalise,
    statistics_plan,
)
from fedring.coordinator.strategies.strategy import Strategy

__all__ = [
    "STATISTICS_BITS",
    "FedAvg",
    "Strategy",
    "doubtful_ranges",
    "mean_update",
    "normalise",
    "statistics_plan",
]
