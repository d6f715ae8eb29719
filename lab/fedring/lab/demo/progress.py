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
from fedring.fleet.view import STATISTICS, DeviceView, EventView, News, VersionView
from fedring.lab.demo.curve import blocks
from fedring.lab.demo.observer import Story, TrainingRound

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
        self._trouble = ""

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
        self._console.print(Text(text), soft_wrap=True)

    def show(self, story: Story, news: Iterable[News], trouble: str) -> None:
        """Tell what is new in the fleet.

        Args:
            story: of the fleet so far.
            news: since the last time.
            trouble: why nothing can be heard of it, "" while it can.
        """
        self._tell(news)
        if trouble and trouble != self._trouble:
            self.say(f"{trouble}; trying again")
        self._trouble = trouble
        rounds = story.training_rounds
        for done in rounds[self._told :]:
            self.say(_round_line(done, self._rounds))
        self._told = len(rounds)

    def _tell(self, news: Iterable[News]) -> None:
        for line in filter(None, map(_notable, news)):
            self._console.print(line, soft_wrap=True)


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

    def show(self, story: Story, news: Iterable[News], trouble: str) -> None:
        """Draw the fleet as it is now."""
        self._tell(news)
        self._live.update(self._draw(story, trouble), refresh=True)

    def _draw(self, story: Story, trouble: str) -> RenderableType:
        rounds = story.training_rounds
        parts: list[RenderableType] = [Text(), self._headline(story, len(rounds), trouble)]
        parts.append(_line("devices", states_line(story.view.states)))
        coordinator = story.view.coordinator
        parts.append(_line("rings", rings_line(coordinator.rings if coordinator else {})))
        if rounds:
            recent = rounds_table((one.number, one.version) for one in rounds[-N_ROUNDS:])
            versions = [one.version for one in rounds]
            shares = [
                one.metrics.get("accuracy", 0.0) for one in (story.untrained, *versions) if one
            ]
            curve = Text(blocks(shares, min(80, self._console.width)), style="cyan")
            parts += [Text(), recent, Text(), curve]
        return Group(*parts)

    def _headline(self, story: Story, done: int, trouble: str) -> RenderableType:
        coordinator = story.view.coordinator
        bar = ProgressBar(total=self._rounds, completed=done, width=30)
        doing = trouble or (coordinator.state if coordinator else "starting")
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
        case VersionView() if news.task == STATISTICS:
            return Text(f"means and spreads of the features, from {news.contributors} devices")
    return None
