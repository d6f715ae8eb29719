"""A fleet as seen from outside: what its public topics tell, and nothing else.

`FleetView` takes messages as they come from the broker and keeps the newest of what they tell. It
neither connects nor draws (`watch.py`, `screen.py`), and believes nobody (`hearsay.py`).
"""

from __future__ import annotations

from collections import Counter, deque
from datetime import datetime
from typing import Any, Final

import attrs
from attrs import field, frozen

from fedring.fleet.hearsay import Hearsay
from fedring.shared.topics import (
    COORDINATOR,
    HISTORY_PLACES,
    CoordinatorStatus,
    DeviceStatus,
    Event,
    History,
    Topics,
)

TRAINING: Final = "train"
"""Task of the versions that came out of a training round."""
STATISTICS: Final = "statistics"
"""Task of the version that brought the normalisation."""
OFFLINE: Final = "offline"

MAX_DEVICES: Final = 10_000
MAX_VERSIONS: Final = 2_000
MAX_EVENTS: Final = 200

_SHOWN: Final = (CoordinatorStatus, DeviceStatus, History, Event)


@frozen(kw_only=True)
class CoordinatorView:
    """What the coordinator says of itself; None and "" where it says nothing.

    Attributes:
        state: such as `rings`; `offline` when the broker has lost it.
        round: of the epoch, statistics and void rounds counted.
        task: of the round, such as `train`.
        version: of the newest model.
        rounds_done: training rounds that gave a model.
        rounds_planned: training rounds after which it ends.
        devices: how many are in each state, as the coordinator sees them.
        rings: what each ring does.
        since: when it came into its state.
        note: for people.
    """

    state: str = ""
    epoch: int | None = None
    round: int | None = None
    task: str = ""
    version: int | None = None
    rounds_done: int | None = None
    rounds_planned: int | None = None
    devices: dict[str, int] = field(factory=dict)
    rings: dict[str, str] = field(factory=dict)
    since: datetime | None = None
    note: str = ""


@frozen(kw_only=True)
class DeviceView:
    """What a device says of itself; None and "" where it says nothing."""

    name: str
    state: str = ""
    number: int | None = None
    round: int | None = None
    reason: str = ""
    agent: str = ""
    model_version: int | None = None
    since: datetime | None = None


@frozen(kw_only=True)
class VersionView:
    """How a version of the model came about.

    Attributes:
        version: its number.
        parent: the version that it was made from.
        task: what its round was for; `train` for training rounds.
        epoch: of its round.
        round: that made it.
        contributors: devices whose updates are in it.
        rings: rings whose sum is in it.
        void_rings: why each ring that gave nothing did not.
        metrics: such as `accuracy` and `macro_f1`, 0 to 1.
        seconds: by phase of the round.
    """

    version: int
    parent: int | None = None
    task: str = ""
    epoch: int | None = None
    round: int | None = None
    contributors: int = 0
    rings: int | None = None
    void_rings: tuple[str, ...] = ()
    metrics: dict[str, float] = field(factory=dict)
    seconds: dict[str, float] = field(factory=dict)


@frozen(kw_only=True)
class EventView:
    """Something that happened."""

    event: str
    time: datetime | None = None
    epoch: int | None = None
    round: int | None = None
    facts: dict[str, str | float] = field(factory=dict)


News = CoordinatorView | DeviceView | VersionView | EventView


class FleetView:
    """All that a fleet's public topics have told so far.

    Args:
        topics: of the fleet; messages on others are passed over.

    Attributes:
        coordinator: None until it has said something.
        devices: by name; at most `MAX_DEVICES`.
        versions: by number, ascending; the newest `MAX_VERSIONS`.
        events: the last `MAX_EVENTS`, oldest first.
    """

    def __init__(self, topics: Topics) -> None:
        self.topics: Final = topics
        self.coordinator: CoordinatorView | None = None
        self.devices: dict[str, DeviceView] = {}
        self.versions: dict[int, VersionView] = {}
        self.events: deque[EventView] = deque(maxlen=MAX_EVENTS)

    @staticmethod
    def filters(topics: Topics) -> list[str]:
        """What to subscribe to."""
        return [pattern for kind in _SHOWN for pattern in topics.everywhere(kind)]

    @property
    def training(self) -> list[VersionView]:
        """The versions that came out of training rounds, ascending."""
        return [version for version in self.versions.values() if version.task == TRAINING]

    @property
    def states(self) -> Counter[str]:
        """How many devices are in each state, as they say themselves."""
        return Counter(device.state for device in self.devices.values())

    def receive(self, topic: str, payload: bytes) -> News | None:
        """Take a message; an empty one clears what an earlier one told.

        Returns:
            What is new; None when the message told nothing that we could read.
        """
        kind = self.topics.parse(topic)
        if not payload:
            self._forget(kind)
            return None
        told = Hearsay.read(payload) if isinstance(kind, _SHOWN) else None
        if told is None:
            return None
        match kind:
            case CoordinatorStatus():
                self.coordinator = _coordinator(told)
                return self.coordinator
            case DeviceStatus(name) if name != COORDINATOR:
                return self._device(_device(name, told))
            case History(place):
                version = _version(told)
                return self._version(version) if _belongs(version, place) else None
            case Event():
                event = _event(told)
                self.events.append(event)
                return event
        return None

    def as_dict(self) -> dict[str, Any]:
        """All of it as JSON can hold it; times in ISO 8601."""
        return {
            "fleet": self.topics.fleet,
            "coordinator": None if self.coordinator is None else facts(self.coordinator),
            "devices": [facts(self.devices[name]) for name in sorted(self.devices)],
            "versions": [facts(version) for version in self.versions.values()],
            "events": [facts(event) for event in self.events],
        }

    def _device(self, device: DeviceView) -> DeviceView | None:
        if device.name not in self.devices and len(self.devices) >= MAX_DEVICES:
            return None
        self.devices[device.name] = device
        return device

    def _version(self, version: VersionView) -> VersionView:
        in_order = not self.versions or version.version > next(reversed(self.versions))
        self.versions[version.version] = version
        if not in_order:
            self.versions = dict(sorted(self.versions.items()))
        if len(self.versions) > MAX_VERSIONS:
            del self.versions[next(iter(self.versions))]
        return version

    def _forget(self, kind: object) -> None:
        match kind:
            case CoordinatorStatus():
                self.coordinator = None
            case DeviceStatus(name):
                self.devices.pop(name, None)
            case History(place):
                for version in [one for one in self.versions.values() if _belongs(one, place)]:
                    del self.versions[version.version]


def facts(news: News) -> dict[str, Any]:
    """One piece of news as JSON can hold it."""

    def plain(_: object, __: object, value: Any) -> Any:
        return value.isoformat() if isinstance(value, datetime) else value

    return attrs.asdict(news, value_serializer=plain)


def _coordinator(told: Hearsay) -> CoordinatorView:
    return CoordinatorView(
        state=told.text("state"),
        epoch=told.whole("epoch"),
        round=told.whole("round"),
        task=told.text("task"),
        version=told.whole("version"),
        rounds_done=told.whole("rounds_done"),
        rounds_planned=told.whole("rounds_planned"),
        devices=told.counts("devices"),
        rings=told.texts("rings"),
        since=told.time("since"),
        note=told.text("note"),
    )


def _device(name: str, told: Hearsay) -> DeviceView:
    return DeviceView(
        name=name,
        state=told.text("state"),
        number=told.whole("number"),
        round=told.whole("round"),
        reason=told.text("reason"),
        agent=told.text("agent"),
        model_version=told.whole("model_version"),
        since=told.time("since"),
    )


def _belongs(version: VersionView, place: int) -> bool:
    return version.version % HISTORY_PLACES == place


def _version(told: Hearsay) -> VersionView:
    return VersionView(
        version=told.count("version"),
        parent=told.whole("parent"),
        task=told.text("task"),
        epoch=told.whole("epoch"),
        round=told.whole("round"),
        contributors=told.count("contributors"),
        rings=told.whole("rings"),
        void_rings=tuple(ring.text("reason") for ring in told.each("void_rings")),
        metrics=told.numbers("metrics"),
        seconds=told.numbers("seconds"),
    )


def _event(told: Hearsay) -> EventView:
    return EventView(
        event=told.text("event"),
        time=told.time("time"),
        epoch=told.whole("epoch"),
        round=told.whole("round"),
        facts=told.facts("event", "time", "epoch", "round"),
    )
