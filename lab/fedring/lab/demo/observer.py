"""What the demo knows of its fleet: what anybody on the broker could know."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from contextlib import AsyncExitStack
from typing import Final, Self

from attrs import frozen

from fedring.fleet.listening import Listener, listen_to_fleet
from fedring.fleet.view import STATISTICS, TRAINING, EventView, FleetView, News, VersionView
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


class Story:
    """What a fleet has done so far, round by round; pure.

    Args:
        topics: of the fleet; nobody has used it before.

    Attributes:
        view: the fleet as it is now.
        retained: topics on which the broker holds something of the fleet.
    """

    def __init__(self, topics: Topics) -> None:
        self.view: Final = FleetView(topics)
        self.retained: Final[set[str]] = set()
        self._bytes: defaultdict[int, Counter[str]] = defaultdict(Counter)
        self._void_rings: Counter[int] = Counter()
        # The coordinator clears old history topics, and the view forgets them with it.
        self._versions: dict[int, VersionView] = {}

    def note(self, news: News) -> None:
        """Take what the view found new."""
        if isinstance(news, VersionView):
            self._versions[news.version] = news
        if isinstance(news, EventView) and news.event == "ring void":
            self._void_rings[news.round or 0] += 1

    def count(self, topic: str, payload: bytes) -> None:
        """Count a message, of any topic, for the round that is running."""
        coordinator = self.view.coordinator
        number = (coordinator.round or 0) if coordinator is not None else 0
        row = self.view.topics.row(topic)
        self._bytes[number][OTHER if row is None else row.traffic] += len(payload)
        if row is not None and row.retained:
            (self.retained.add if payload else self.retained.discard)(topic)

    @property
    def untrained(self) -> VersionView | None:
        """The model before training, with its normalisation."""
        versions = self._versions.values()
        return next((one for one in versions if one.task == STATISTICS), None)

    @property
    def training_rounds(self) -> list[TrainingRound]:
        """The training rounds that gave a model, in order."""
        rounds: list[TrainingRound] = []
        before = 0
        for _, version in sorted(self._versions.items()):
            last = version.round or 0
            void_before, before = range(before + 1, last), last
            if version.task != TRAINING:
                continue
            counted = Counter(self._bytes[last])
            for number in void_before:
                counted += self._bytes[number]
            rounds.append(
                TrainingRound(
                    number=len(rounds) + 1,
                    version=version,
                    void_rings=len(version.void_rings)
                    + sum(self._void_rings[number] for number in void_before),
                    bytes=dict(sorted(counted.items())),
                )
            )
        return rounds


class Observer:
    """Listens from the first message on, and keeps the story; entering it connects.

    It has two connections, one for the few messages that tell how things go, one that counts
    everything, so that a burst of ring traffic never costs a word of the story.

    Args:
        broker: where.
        topics: of the fleet; nobody has used it before.

    Attributes:
        story: what has happened.
    """

    def __init__(self, broker: Broker, topics: Topics) -> None:
        self.story: Final = Story(topics)
        self._news: list[News] = []
        everything = f"{topics.root}/{topics.fleet}/#"
        self._counting = Listener(broker, [everything], self.story.count)
        self._listening = listen_to_fleet(broker, self.story.view, self._note)
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

    @property
    def trouble(self) -> str:
        """Why there is no connection at the moment, "" while there is one."""
        return self._listening.trouble

    @property
    def uncounted(self) -> int:
        """Messages that came too fast to be counted."""
        return self._counting.dropped

    def take_news(self) -> list[News]:
        """Give what happened since this was last asked."""
        news, self._news = self._news, []
        return news

    def _note(self, news: News) -> None:
        self._news.append(news)
        self.story.note(news)
