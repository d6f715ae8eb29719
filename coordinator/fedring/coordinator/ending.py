"""How a round ends: its sums opened, model, history and outcome stored in one transaction.

Slow: the service runs it in a thread. `conclusion` has the arithmetic.

Source: docs/protocol.md, section 4, step 6, and section 5.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

from attrs import asdict, frozen

from fedring.coordinator.conclusion import Conclusion, conclude
from fedring.coordinator.position import Position
from fedring.coordinator.records import Version
from fedring.coordinator.rounds import Ended
from fedring.coordinator.running import Running
from fedring.coordinator.standing import Standing
from fedring.coordinator.strategies import Strategy


@frozen
class Concluded:
    """A round has been opened and stored.

    Attributes:
        conclusion: what it came to.
        version: the new version, or None when there is none.
        position: where the history stands now.
    """

    conclusion: Conclusion
    version: Version | None
    position: Position


def end(
    running: Running,
    ended: Ended,
    standing: Standing,
    strategy: Strategy,
    *,
    bytes_now: Mapping[str, int],
) -> Concluded:
    """Open the sums of a round and store what it came to.

    Args:
        running: the round.
        ended: its rings.
        standing: store, key, data to evaluate on.
        strategy: makes the next model from the mean update.
        bytes_now: payload bytes until now, by topic class.

    Raises:
        StateError: it could not be stored; nothing was changed.
    """
    store = standing.store
    conclusion = conclude(
        running.announcing,
        ended,
        private_key=standing.key,
        model=running.model,
        strategy=strategy,
        evaluation=standing.evaluation,
        evaluate=standing.evaluate,
    )
    bench = running.round.bench
    store.devices.save_bench(bench.strikes, bench.until)
    outcome = running.outcome(conclusion, time.monotonic(), bytes_now)
    version = None
    if conclusion.model is None:
        store.commit_void(outcome)
    else:
        version = store.commit_version(
            conclusion.model,
            outcome,
            parent=running.version.version,
            metrics=conclusion.metrics,
            plan=asdict(running.announcing.announce.message.plan),
        )
    return Concluded(conclusion, version, Position.read(store))
