"""Where the history stands, as the shell of the coordinator knows it.

The shell itself never touches the store: while a large model is being stored, or another process
writes, a look into it can take long. So it has a thread read this, and goes by it until the next.
"""

from __future__ import annotations

from attrs import frozen

from fedring.coordinator.records import Version
from fedring.coordinator.store import CoordinatorStore


@frozen
class Position:
    """What the store said when it was read last.

    Attributes:
        epoch: in which rounds are counted.
        round: the highest round number taken in it; 0 when there was none.
        version: the newest of the model.
        rounds_done: training rounds that made a version.
        has_cohorts: whether the devices of this epoch have been dealt.
        paused: the owner wants no further rounds for now.
    """

    epoch: int
    round: int
    version: Version
    rounds_done: int
    has_cohorts: bool
    paused: bool

    @classmethod
    def read(cls, store: CoordinatorStore) -> Position:
        """Read it anew; not for an event loop."""
        version = store.current_version()
        if version is None:
            raise RuntimeError("a coordinator without a model")
        return cls(
            epoch=store.epoch(),
            round=store.last_round(),
            version=version,
            rounds_done=store.n_versions("train"),
            has_cohorts=bool(store.devices.cohorts()),
            paused=store.paused(),
        )

    @property
    def last(self) -> tuple[int, int]:
        """Epoch and round of the last round announced."""
        return self.epoch, self.round
