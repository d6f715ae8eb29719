"""Invariants 5, 6 and 9: one announce a ring, exact sums applied once, a whole history."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fedring.coordinator.rounds import Announced, Effect
from fedring.lab.simulate.coordinators import Concluded
from fedring.lab.simulate.fleet import SimulatedFleet
from fedring.lab.simulate.reading import digest_of, message_in
from fedring.lab.simulate.watch.bodies import Bodies
from fedring.lab.simulate.watch.checks import Check, RoundOf, require, round_of
from fedring.shared.contributions import Check as CheckValues
from fedring.shared.messages import Announce, Message, Ready, Roster
from fedring.shared.numbers import SumVector, largest_value

STEP_TOLERANCE = 2e-6
"""Weights are float32 below 16; one unit of one device among seven is a step of 8.7e-6."""


def mean_of(total: SumVector, n_contributors: int, announce: Announce) -> NDArray[np.float64]:
    """The mean update behind a sum, cut to the bound of the plan; as the protocol says it."""
    update: NDArray[np.float64] = total[: -len(CheckValues)] / n_contributors
    update *= announce.plan.value_range / largest_value(announce.bits)
    length = float(np.linalg.norm(update))
    if length > announce.plan.clip:
        update *= announce.plan.clip / length
    return update


class Sums(Check):
    def __init__(self, fleet: SimulatedFleet, bodies: Bodies) -> None:
        super().__init__(fleet)
        self._bodies = bodies
        self._announces: dict[RoundOf, bytes] = {}
        self._applied: set[tuple[RoundOf, int]] = set()
        self._epoch = self._lives = 0
        self._history: list[tuple[RoundOf, bytes]] = []

    def coordinator_did(self, effect: Effect, /) -> None:
        if not isinstance(effect, Announced):
            return
        where, digest = round_of(message_in(effect.data)), digest_of(effect.data)
        same = self._announces.setdefault(where, digest) == digest
        require(same, "no round number twice", where)
        require(where == max(self._announces), "round numbers grow", where)
        if where[0] != self._epoch:  # it begins with a new store
            self._epoch, self._history = where[0], []
        if self.fleet.coordinator.lives != self._lives:
            self._lives = self.fleet.coordinator.lives
            self._history_is_whole(where[0])

    def coordinator_sent(self, message: Message, _: bytes, /) -> None:
        if not isinstance(message, Roster):
            return
        announce = self._announces[round_of(message)]
        require(message.announce == announce, "a ring shares one announce", message.ring)
        for raw in message.readies:
            ready = message_in(raw)
            answers = isinstance(ready, Ready) and ready.announce == announce
            require(answers, "a ring shares one announce", message.ring, ready.sender)

    def ended(self, concluded: Concluded, /) -> None:
        announce, stored = concluded.announce.message, concluded.stored
        where = round_of(announce)
        names = [name for ring in concluded.ended.sums for name in ring.names]
        for name in names:
            require((where, name) not in self._applied, "nobody is summed twice", where, names)
            self._applied.add((where, name))
        model, opened = stored.conclusion.model, concluded.opened
        if opened is None:
            require(model is None and stored.version is None, "no sum, no model", where)
            return
        require(not opened.bad_rings, "sums hold", where, opened.bad_rings)
        require(sorted(opened.names) == sorted(names), "all of them are opened", where, names)
        total = self._total(where, names)
        require(bool((opened.total == total).all()), "the sum is exact", where, names)
        require(stored.version is not None, "a sum gives a version", where)
        assert model is not None  # noqa: S101
        step = model.weights() - concluded.running.model.weights()
        expected = mean_of(total, len(names), announce)
        right = np.allclose(step, expected, rtol=0.0, atol=STEP_TOLERANCE)
        require(right, "the step is by the mean of the sum, once", where, names)
        self._history.append((where, model.digest))
        self._history_is_whole(where[0])

    def _total(self, where: RoundOf, names: list[int]) -> SumVector:
        joined = self._bodies.joined[where]
        vectors = [joined[name].values for name in names]
        total: SumVector = np.sum(vectors, axis=0, dtype=np.int64)
        return total

    def _history_is_whole(self, epoch: int) -> None:
        """The store holds what rounds have made, each on its parent, and nothing else."""
        versions = self.fleet.coordinator.store.versions()[::-1]
        stored = [((one.epoch, one.round), one.digest) for one in versions[1:]]
        require(stored == self._history, "the history is what rounds made", stored, self._history)
        rounds = self.fleet.coordinator.store.rounds()[::-1]
        numbers = [one.round for one in rounds if one.epoch == epoch]
        require(numbers == [*range(1, len(numbers) + 1)], "all rounds are known", numbers)
        open_rounds = [one.round for one in rounds[:-1] if one.outcome is None]
        require(not open_rounds, "every round before the newest is settled", open_rounds)
        made = [one.version for one in rounds if one.version is not None]
        require(made == [one.version for one in versions[1:]], "versions have their rounds", made)
        parents = [one.parent for one in versions]
        require(parents == [0, *range(len(versions) - 1)], "the history is a chain", parents)
