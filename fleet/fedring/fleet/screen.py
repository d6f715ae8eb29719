"""A fleet on the terminal: pictures of a `FleetView` for rich.

Texts of others are put in as plain `Text`, never as rich's markup, in which a `[link=...]` would
do something.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from fedring.fleet.hearsay import format_number
from fedring.fleet.view import (
    OFFLINE,
    CoordinatorView,
    DeviceView,
    EventView,
    FleetView,
    News,
    VersionView,
)

_STYLES: Final = {
    "training": "yellow",
    "ready": "cyan",
    "in ring": "blue",
    "released": "green",
    "refused": "bold red",
    "waiting for revocation list": "magenta",
    OFFLINE: "red",
    "finished": "green",
}
_FIRST: Final = ("refused", "waiting for revocation list", OFFLINE)
"""States that somebody may have to do something about: shown first when not all fit."""

N_EVENTS: Final = 5
N_ROUNDS: Final = 5
_FRAME_LINES: Final = 10  # headings, empty lines, coordinator, rings
_LEAST_DEVICES: Final = 4


def dashboard(view: FleetView, now: datetime, height: int) -> RenderableType:
    """Draw the whole fleet.

    Args:
        view: what is known.
        now: for ages; with time zone.
        height: lines of the screen; devices that do not fit are counted only.
    """
    events = list(view.events)[-N_EVENTS:]
    rounds = view.training[-N_ROUNDS:]
    room = max(_LEAST_DEVICES, height - _FRAME_LINES - len(events) - len(rounds))
    parts: list[RenderableType] = [coordinator_line(view, now), Text()]
    parts.append(devices_table(view.devices.values(), now, room))
    if view.coordinator is not None and view.coordinator.rings:
        parts += [Text(), rings_line(view.coordinator.rings)]
    if rounds:
        parts += [Text(), rounds_table((version.round, version) for version in rounds)]
    if events:
        parts += [Text(), *(event_line(event) for event in events)]
    return Group(*parts)


def coordinator_line(view: FleetView, now: datetime) -> Text:
    """Draw what the coordinator is doing, in one line."""
    line = Text(view.topics.fleet, style="bold", overflow="ellipsis", no_wrap=True)
    coordinator = view.coordinator
    if coordinator is None:
        return line.append("  no word from a coordinator yet", style="dim")
    line.append("  ").append(_state(coordinator.state)).append(_age(coordinator.since, now), "dim")
    for fact in _coordinator_facts(coordinator):
        line.append("  ").append(fact)
    if coordinator.note:
        line.append(f"  {coordinator.note}", style="dim")
    return line


def _coordinator_facts(coordinator: CoordinatorView) -> Iterable[str]:
    if coordinator.rounds_done is not None:
        yield f"{coordinator.rounds_done} of {_or_dash(coordinator.rounds_planned)} rounds done"
    if coordinator.version is not None:
        yield f"model {coordinator.version}"
    if coordinator.round is not None:
        yield " ".join(filter(None, (coordinator.task, "round", str(coordinator.round))))


def states_line(states: Mapping[str, int]) -> Text:
    """Draw how many devices are in each state, the most common first."""
    parts = [
        Text.assemble(f"{n} ", _state(state)) for state, n in Counter(states).most_common() if n
    ]
    return Text("  ").join(parts)


def rings_line(rings: Mapping[str, str]) -> Text:
    """Draw what each ring does."""
    parts = [Text(f"ring {label}: {stage}") for label, stage in rings.items()]
    return Text("  ").join(parts)


def devices_table(devices: Iterable[DeviceView], now: datetime, room: int) -> Table:
    """Draw a line for each device, by name; of too many those in need of somebody first.

    Args:
        devices: to be drawn.
        now: for ages; with time zone.
        room: lines for devices, >= 2.
    """
    everybody = sorted(devices, key=lambda device: device.name)
    shown = everybody
    if len(everybody) > room:
        shown = sorted(everybody, key=_urgency)[: room - 1]
    table = _table("device", "state", "since", "round>", "model>", "reason")
    for device in shown:
        table.add_row(
            Text(device.name),
            _state(device.state),
            Text(_age(device.since, now).strip(), style="dim"),
            _or_dash(device.round),
            _or_dash(device.model_version),
            Text(device.reason),
        )
    if len(shown) < len(everybody):
        left_out = Counter(device.state for device in everybody)
        left_out.subtract(device.state for device in shown)
        table.add_row(Text(f"{len(everybody) - len(shown)} more"), states_line(left_out))
    return table


def rounds_table(rounds: Iterable[tuple[int | None, VersionView]]) -> Table:
    """Draw a line for each training round, given its number and its result."""
    table = _table("round>", "model>", "contributors>", "void rings>", "accuracy>", "seconds>")
    for number, version in rounds:
        table.add_row(
            _or_dash(number),
            str(version.version),
            str(version.contributors),
            str(len(version.void_rings)),
            percent(version.metrics.get("accuracy", version.metrics.get("fleet_accuracy"))),
            f"{version.seconds.get('total', 0):.1f}",
        )
    return table


def event_line(event: EventView) -> Text:
    """Draw something that happened, in one line."""
    line = Text(overflow="ellipsis", no_wrap=True)
    if event.time is not None:
        line.append(f"{event.time.astimezone():%H:%M:%S}  ", style="dim")
    line.append(event.event)
    for name, value in event.facts.items():
        line.append(f"  {name} ", style="dim").append(format_number(value))
    return line


def news_line(news: News) -> str:
    """Tell one piece of news in one line of plain text."""
    match news:
        case CoordinatorView():
            return f"coordinator: {'  '.join([news.state, *_coordinator_facts(news), news.note])}"
        case DeviceView():
            return f"{news.name}: {news.state}  round {_or_dash(news.round)}  {news.reason}".strip()
        case VersionView():
            accuracy = percent(news.metrics.get("accuracy"))
            return f"model {news.version}: {news.contributors} contributors  accuracy {accuracy}"
        case EventView():
            return event_line(news).plain


def percent(share: float | None) -> str:
    """Write a share of 0 to 1 as people do."""
    return "-" if share is None else f"{100 * share:.1f} %"


def _table(*columns: str) -> Table:
    """Make a table; columns that end in `>` are numbers, flush right."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in columns:
        numbers = column.endswith(">")
        table.add_column(column.rstrip(">"), justify="right" if numbers else "left", no_wrap=True)
    return table


def _urgency(device: DeviceView) -> tuple[int, str]:
    place = _FIRST.index(device.state) if device.state in _FIRST else len(_FIRST)
    return place, device.name


def _state(state: str) -> Text:
    return Text(state or "?", style=_STYLES.get(state, ""))


def _age(since: datetime | None, now: datetime) -> str:
    """Write how long ago that was, with a space before; clocks of boards may be wrong."""
    if since is None:
        return ""
    seconds = (now - since).total_seconds()
    if seconds < 0:
        return " just now"
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * length:
            return f" {seconds / length:.0f} {unit}"
    return f" {seconds:.0f} s"


def _or_dash(value: int | None) -> str:
    return "-" if value is None else str(value)
