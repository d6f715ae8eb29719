"""A demo while it runs: a live picture on a terminal, or a line for each thing that happens."""

from __future__ import annotations

from collections.abc import Iterable
from types import TracebackType
from typing import Final, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from fedring.fleet.screen import event_line, percent, rings_line, rounds_table, states_line
from fedring.fleet.view import DeviceView, EventView, News, VersionView
from fedring.lab.demo.curve import blocks
from fedring.lab.demo.observer import Observer, TrainingRound

N_ROUNDS: Final = 6
NOTABLE: Final = ("ring void", "round void", "went round", "declined")
"""Events that are told; the others are the ordinary course of a round."""


class Lines:
    """Progress as lines of text.

    Args:
        console: where to.
        rounds: training rounds to come.
    """

    def __init__(self, console: Console, rounds: int) -> None:
        self._console = console
        self._rounds = rounds
        self._told = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        pass

    def say(self, text: str) -> None:
        """Tell something that happens to the demo itself."""
        self._console.print(Text(text))

    def show(self, observer: Observer, news: Iterable[News]) -> None:
        """Tell what is new in the fleet."""
        for one in news:
            line = _notable(one)
            if line is not None:
                self._console.print(line)
        rounds = observer.training_rounds
        for done in rounds[self._told :]:
            self.say(_round_line(done, self._rounds))
        self._told = len(rounds)


class Picture(Lines):
    """Progress as a picture that changes, with what is said above it."""

    def __init__(self, console: Console, rounds: int) -> None:
        super().__init__(console, rounds)
        self._live = Live(console=console, auto_refresh=False, transient=True)

    def __enter__(self) -> Self:
        self._live.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._live.__exit__(kind, error, trace)

    def show(self, observer: Observer, news: Iterable[News]) -> None:
        """Draw the fleet as it is now."""
        for one in news:
            line = _notable(one)
            if line is not None:
                self._console.print(line)
        self._live.update(self._draw(observer), refresh=True)

    def _draw(self, observer: Observer) -> RenderableType:
        rounds = observer.training_rounds
        parts: list[RenderableType] = [Text(), self._headline(observer, len(rounds))]
        parts.append(_line("devices", states_line(observer.view.states)))
        coordinator = observer.view.coordinator
        parts.append(_line("rings", rings_line(coordinator.rings if coordinator else {})))
        if rounds:
            shares = [one.version.metrics.get("accuracy", 0.0) for one in rounds]
            curve = blocks(shares, min(80, self._console.width))
            recent = rounds_table([one.version for one in rounds[-N_ROUNDS:]])
            parts += [Text(), recent, Text(), Text(curve, style="cyan")]
        return Group(*parts)

    def _headline(self, observer: Observer, done: int) -> RenderableType:
        coordinator = observer.view.coordinator
        bar = ProgressBar(total=self._rounds, completed=done, width=30)
        doing = observer.trouble or (coordinator.state if coordinator else "starting")
        line = Table.grid(padding=(0, 2))
        line.add_row(f"{done} of {self._rounds} rounds", bar, Text(doing))
        return line


def _line(name: str, content: Text) -> Text:
    return Text.assemble((f"{name:<9}", "dim"), content)


def _round_line(one: TrainingRound, of: int) -> str:
    version = one.version
    void = f", {one.void_rings} void" if one.void_rings else ""
    return (
        f"round {one.number} of {of}: {version.contributors} contributors{void},"
        f" accuracy {percent(version.metrics.get('accuracy'))},"
        f" {version.seconds.get('total', 0):.1f} s"
    )


def _notable(news: News) -> Text | None:
    match news:
        case EventView() if news.event in NOTABLE:
            return event_line(news)
        case DeviceView(name=name, state="refused", reason=reason):
            return Text(f"{name} refused: {reason}")
        case VersionView(task="statistics"):
            return Text(f"means and spreads of the features, from {news.contributors} devices")
    return None
