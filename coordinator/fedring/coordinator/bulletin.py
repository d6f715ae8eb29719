"""What the coordinator shows to everybody: model, history, key, status, events.

All of it is retained, but for events, and published again after every reconnect: a broker may have
lost it. Readable JSON, except the model's chunks and the signed messages on `round` and `revoked`.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from typing import Any

import phe

from fedring.coordinator.records import Outcome, Round, Version, now_text
from fedring.coordinator.store import CoordinatorStore
from fedring.shared.effects import Fact
from fedring.shared.messages import one_line
from fedring.shared.mqtt import Connection
from fedring.shared.topics import HISTORY_PLACES, Topics
from fedring.shared.transfer import ModelShelf, Retained, Shelved

KEPT_MODELS = 3
"""Models that the broker holds: the newest, and some for devices that are slow to fetch."""
SHOWN_VOIDS = 32
"""Void rings told of at once: devices write their reasons, and a message has its limit. The store
has them all."""
STATUS_S = 0.25
"""Least time between two status messages while only numbers of devices change: else a fleet of N
devices, each with a handful of states, would make as many messages of a size that grows with N."""


class Bulletin:
    """The coordinator's public topics.

    Args:
        topics: of the fleet.
        connection: to the broker.
        store: the model history.

    Attributes:
        status_due: when a status that was held back is to be shown; None when there is none.
    """

    def __init__(self, topics: Topics, connection: Connection, store: CoordinatorStore) -> None:
        self._topics = topics
        self._connection = connection
        self._store = store
        self._shelf: ModelShelf | None = None
        self._status: Mapping[str, Any] = {}
        self._headline: object = None
        self._quiet_until = 0.0
        self.status_due: float | None = None

    async def show_model(self, version: Version) -> None:
        """Publish a version's chunks and its line in the history; done when the broker has them."""
        for message in await asyncio.to_thread(self._put, version):
            await self._connection.publish(message.topic, message.payload, retain=True)
        await self.show_history(version)

    def _put(self, version: Version) -> list[Retained]:
        if self._shelf is None:
            held = _held(self._store)
            self._shelf = ModelShelf(self._topics, keep=KEPT_MODELS, held=held)
        return self._shelf.put(self._store.chunks(version))

    async def show_history(self, *versions: Version) -> None:
        """Publish how versions came about."""
        rounds = await asyncio.to_thread(self._store.rounds, 2 * HISTORY_PLACES)
        made_by = {(round_.epoch, round_.round): round_ for round_ in rounds}
        for version in versions:
            line = history_line(version, made_by.get((version.epoch, version.round)))
            await self._retain(self._topics.history(version.version), line)

    async def show_whole_history(self) -> None:
        """Publish all that stays of the history: a broker may have lost it."""
        versions = await asyncio.to_thread(self._store.versions, HISTORY_PLACES)
        await self.show_history(*reversed(versions))

    async def show_key(self, key: phe.PaillierPublicKey, epoch: int) -> None:
        """Publish the Paillier key for watchers; devices take it from the signed announce."""
        facts = {"epoch": epoch, "bits": key.n.bit_length(), "n": f"{key.n:x}"}
        await self._retain(self._topics.key, facts)

    async def show_revoked(self, raw: bytes) -> None:
        """Publish the fleet authority's list."""
        await self._connection.publish(self._topics.revoked, raw, retain=True)

    async def show_round(self, raw: bytes) -> None:
        """Publish a signed announce, or that no round is running."""
        await self._connection.publish(self._topics.round, raw, retain=True)

    async def show_status(
        self,
        read: Callable[[], Mapping[str, Any]],
        *,
        headline: object,
        now: float,
        anew: bool = False,
    ) -> None:
        """Publish the coordinator's state when it has changed.

        Args:
            read: gives the state.
            headline: what is told at once when it changes; all else may wait for `STATUS_S`.
            now: the clock.
            anew: publish it in any case.
        """
        if headline == self._headline and now < self._quiet_until and not anew:
            self.status_due = self._quiet_until
            return
        self._headline = headline
        self._quiet_until = now + STATUS_S
        self.status_due = None
        status = read()
        if status == self._status and not anew:
            return
        self._status = status
        await self._retain(self._topics.coordinator_status, {**status, "since": now_text()})

    async def tell(self, event: str, facts: Mapping[str, Fact]) -> None:
        """Publish that something happened; not retained."""
        line: dict[str, object] = {"event": event, "time": now_text()}
        line |= {name: _shown(fact) for name, fact in facts.items()}
        await self._connection.send(self._topics.event, json.dumps(line).encode())

    async def _retain(self, topic: str, facts: Mapping[str, Any]) -> None:
        await self._connection.send(topic, json.dumps(facts).encode(), retain=True)


def _shown(fact: Fact) -> object:
    """A fact as an event has room for it."""
    if not isinstance(fact, list):
        return fact
    return [one_line(one) for one in fact[:SHOWN_VOIDS] if isinstance(one, str)] or fact


def _held(store: CoordinatorStore) -> list[Shelved]:
    """The models that an earlier process of ours has left with the broker, oldest first."""
    versions = [one for one in store.versions(KEPT_MODELS) if store.has_arrays(one)]
    return [Shelved(one.digest, len(store.chunks(one))) for one in reversed(versions)]


def history_line(version: Version, made_by: Round | None) -> dict[str, Any]:
    """A version's line for watchers.

    Args:
        version: the record.
        made_by: the round that made it, if one did.
    """
    facts = version.facts()
    wanted = ("version", "parent", "task", "epoch", "round", "contributors", "metrics", "created")
    line = {key: facts[key] for key in wanted}
    outcome = made_by.outcome if made_by is not None else None
    if outcome is None or made_by is None or made_by.version != version.version:
        outcome = Outcome(epoch=version.epoch, round=version.round)
    return {
        **line,
        "rings": outcome.rings,
        "void_rings": [
            {"ring": one.ring, "reason": one_line(one.reason)}
            for one in outcome.void_rings[:SHOWN_VOIDS]
        ],
        "seconds": dict(outcome.seconds),
        "traffic": dict(outcome.traffic),
    }
