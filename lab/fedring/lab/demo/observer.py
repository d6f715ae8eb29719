"""What the demo knows of its fleet: what anybody on the broker could know.

Two connections: one for the few messages that tell how things go, one that counts bytes of
everything, so that a burst of ring traffic never costs a word of the story.
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from contextlib import AsyncExitStack
from typing import Self

from attrs import frozen

from fedring.fleet.listening import Listener, listen_to_fleet
from fedring.fleet.view import TRAINING, EventView, FleetView, News, VersionView
from fedring.shared.broker import Broker
from fedring.shared.topics import OTHER, Topics


@frozen(kw_only=True)
class TrainingRound:
    """A training round that gave a model.

    Attributes:
        number: 1 for the first; rounds without a result have no number.
        version: what the coordinator told of its result.
        void_rings: rings that gave nothing, in this round and in void rounds just before it.
        bytes: payload bytes published, by topic class, up to the announce of the next round; those
            of void rounds just before it included.
    """

    number: int
    version: VersionView
    void_rings: int
    bytes: dict[str, int]


class Observer:
    """Listens from the first message on; entering it connects.

    Args:
        broker: where.
        topics: of the fleet; nobody has used it before.

    Attributes:
        view: the fleet as it is now.
    """

    def __init__(self, broker: Broker, topics: Topics) -> None:
        self.view = FleetView(topics)
        self._news: list[News] = []
        self._retained: set[str] = set()
        self._bytes: defaultdict[int, Counter[str]] = defaultdict(Counter)
        self._void_rings: Counter[int] = Counter()
        everything = f"{topics.root}/{topics.fleet}/#"
        self._counting = Listener(broker, [everything], self._count)
        self._listening = listen_to_fleet(broker, self.view, self._note)
        self._open = AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as opening:
            await opening.enter_async_context(self._counting)
            await opening.enter_async_context(self._listening)
            await asyncio.gather(self._counting.settled(), self._listening.settled())
            self._open = opening.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._open.aclose()

    def take_news(self) -> list[News]:
        """Give what happened since this was last asked."""
        news, self._news = self._news, []
        return news

    @property
    def trouble(self) -> str:
        """Why there is no connection at the moment, "" while there is one."""
        return self._listening.trouble

    @property
    def uncounted(self) -> int:
        """Messages that came too fast to be counted."""
        return self._counting.dropped

    @property
    def retained(self) -> list[str]:
        """Topics on which the broker holds something of the fleet."""
        return sorted(self._retained)

    @property
    def training_rounds(self) -> list[TrainingRound]:
        """The training rounds so far, in order."""
        rounds: list[TrainingRound] = []
        before = 0
        for version in self.view.versions.values():
            last = version.round or 0
            span = range(before + 1, last + 1)
            before = last
            if version.task != TRAINING:
                continue
            counted: Counter[str] = sum((self._bytes[number] for number in span), Counter())
            rounds.append(
                TrainingRound(
                    number=len(rounds) + 1,
                    version=version,
                    void_rings=len(version.void_rings)
                    + sum(self._void_rings[number] for number in span[:-1]),
                    bytes=dict(sorted(counted.items())),
                )
            )
        return rounds

    def _note(self, news: News) -> None:
        self._news.append(news)
        if isinstance(news, EventView) and news.event == "ring void":
            self._void_rings[news.round or 0] += 1

    def _count(self, topic: str, payload: bytes) -> None:
        coordinator = self.view.coordinator
        number = (coordinator.round or 0) if coordinator is not None else 0
        row = self.view.topics.row(topic)
        self._bytes[number][OTHER if row is None else row.traffic] += len(payload)
        if row is not None and row.retained:
            (self._retained.add if payload else self._retained.discard)(topic)
