"""A network that loses, doubles, delays and reorders, on a clock that only the simulation moves.

What a broker promises is kept: a message to somebody who is away waits for him, retained messages
come with every connect, and what one party sends to another arrives in order. What goes beyond is
drawn from the seed: loss, duplicates, messages that overtake others, and times when somebody is
cut off. The same seed gives the same run.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable
from typing import Protocol

from attrs import define, field, frozen


@frozen
class Faults:
    """How bad the network is.

    Attributes:
        loss: share of messages that never arrive, 0..1.
        duplicates: share that arrive twice, 0..1.
        reordered: share of messages that may overtake those before them, 0..1.
        least_delay_s: shortest time a message is under way.
        most_delay_s: longest; delays are drawn evenly.
    """

    loss: float = 0.0
    duplicates: float = 0.0
    reordered: float = 0.0
    least_delay_s: float = 0.001
    most_delay_s: float = 0.005


CALM = Faults()
"""A network on which everything arrives once, within milliseconds."""


class Party(Protocol):
    """Somebody on the network."""

    def deliver(self, source: str, data: bytes) -> None: ...
    def retained(self, topic: str, data: bytes) -> None: ...


@define
class Link:
    """How one party hangs on the network.

    Attributes:
        up: whether it is connected.
        alive_at: when the connection was last proven alive.
        waiting: what came while it was away.
    """

    party: Party
    up: bool = True
    alive_at: float = 0.0
    waiting: list[Callable[[], None]] = field(factory=list)


class Network:
    """Messages in flight, and everything else that happens at a time.

    Args:
        seed: of all that is drawn.
        faults: how bad it is.

    Attributes:
        now: the clock, in seconds.
        random: the seeded source; parties may draw from it as well.
        sent: messages handed over so far.
    """

    def __init__(self, seed: int, faults: Faults) -> None:
        self.now = 0.0
        self.random = random.Random(seed)  # noqa: S311  # a simulation repeats itself
        self.faults = faults
        self.sent = 0
        self._links: dict[str, Link] = {}
        self._retained: dict[str, bytes] = {}
        self._order = itertools.count()
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._last_arrival: dict[tuple[str, str], float] = {}

    def join(self, name: str, party: Party) -> None:
        """Connect somebody for the first time, or again after a crash."""
        waiting = self._links[name].waiting if name in self._links else []
        self._links[name] = Link(party, alive_at=self.now)
        self._catch_up(name, waiting)

    def leave(self, name: str) -> None:
        """Cut somebody off."""
        self._links[name].up = False

    def come_back(self, name: str) -> None:
        """Reconnect somebody who was cut off."""
        link = self._links[name]
        link.up = True
        link.alive_at = self.now
        waiting, link.waiting = link.waiting, []
        self._catch_up(name, waiting)

    def is_up(self, name: str) -> bool:
        return self._links[name].up

    def alive_at(self, name: str) -> float:
        """When this party's connection was last proven alive: now, while it is up."""
        link = self._links[name]
        if link.up:
            link.alive_at = self.now
        return link.alive_at

    def at(self, time: float, action: Callable[[], None]) -> None:
        """Do something at a time."""
        heapq.heappush(self._queue, (max(time, self.now), next(self._order), action))

    def send(self, source: str, to: str, data: bytes) -> None:
        """Put a message on its way."""
        self.sent += 1
        if not self._links[source].up:
            return
        copies = 1
        if self.random.random() < self.faults.loss:
            copies = 0
        elif self.random.random() < self.faults.duplicates:
            copies = 2
        for _ in range(copies):
            self._fly(lambda: self._arrive(source, to, data), (source, to))

    def publish(self, source: str, topic: str, data: bytes) -> None:
        """Publish a retained message to everybody."""
        if not self._links[source].up:
            return
        self._retained[topic] = data
        for name in self._links:
            if name != source:
                self._fly(lambda name=name: self._show(name, topic, data))  # type: ignore[misc]

    def run(self, until: Callable[[], bool], limit_s: float) -> bool:
        """Let time pass until a condition holds; False when it has not by `limit_s`."""
        while not until():
            if not self._queue or self._queue[0][0] > limit_s:
                return False
            time, _, action = heapq.heappop(self._queue)
            self.now = max(self.now, time)
            action()
        return True

    def _fly(self, action: Callable[[], None], way: tuple[str, str] | None = None) -> None:
        time = self.now + self.random.uniform(self.faults.least_delay_s, self.faults.most_delay_s)
        if way is not None and self.random.random() >= self.faults.reordered:
            time = max(time, self._last_arrival.get(way, 0.0))
            self._last_arrival[way] = time
        self.at(time, action)

    def _arrive(self, source: str, to: str, data: bytes) -> None:
        link = self._links.get(to)
        if link is None:
            return
        if not link.up:
            link.waiting.append(lambda: self._arrive(source, to, data))
            return
        link.party.deliver(source, data)

    def _show(self, name: str, topic: str, data: bytes) -> None:
        link = self._links[name]
        if link.up:
            link.party.retained(topic, data)

    def _catch_up(self, name: str, waiting: list[Callable[[], None]]) -> None:
        for topic, data in self._retained.items():
            self._fly(lambda topic=topic, data=data: self._show(name, topic, data))  # type: ignore[misc]
        for arrive in waiting:
            self._fly(arrive)
