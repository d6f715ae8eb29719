"""A picture of what a demo came to: the learning curve, and what the rounds took."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from fedring.lab.demo.report import PHASES, Report
from fedring.lab.hapt.people import ACTIVITIES, MAIN

CURVES: Final = {"accuracy": "#1f6f8b", "macro_f1": "#e07a3f"}
PHASE_COLOURS: Final = dict(zip(PHASES, ("#a8c8d4", "#1f6f8b", "#e07a3f"), strict=True))


def draw(report: Report, file: Path) -> None:
    """Draw it into a PNG file."""
    figure = Figure(figsize=(8, 6), layout="constrained")
    FigureCanvasAgg(figure)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    wishes = report.wishes
    figure.suptitle(
        f"{wishes.devices} devices learn together, tried on {len(MAIN.held_out)} other people"
    )
    for metric, colour in CURVES.items():
        points = report.curve(metric)
        if points:
            label = f"{metric.replace('_f1', ' F1')}, {100 * points[-1][1]:.1f} % at the end"
            above.plot(*zip(*points, strict=True), "o-", markersize=3, color=colour, label=label)
    chance = 1 / len(ACTIVITIES)
    above.axhline(chance, color="grey", linestyle=":", label="guessing")
    above.set_ylim(0, 1)
    above.yaxis.set_major_formatter(PercentFormatter(1))
    above.grid(alpha=0.3)
    above.legend(loc="lower right")

    rounds = [one.number for one in report.rounds]
    bottom = [0.0] * len(rounds)
    for phase, colour in PHASE_COLOURS.items():
        seconds = [one.version.seconds.get(phase, 0.0) for one in report.rounds]
        below.bar(rounds, seconds, bottom=bottom, color=colour, label=PHASES[phase])
        bottom = [low + high for low, high in zip(bottom, seconds, strict=True)]
    below.set_ylabel("seconds")
    below.set_xlabel("training round")
    below.xaxis.set_major_locator(MaxNLocator(integer=True))
    below.set_xlim(-0.5, rounds[-1] + 0.5)
    below.set_ylim(0, 1.35 * max(bottom) or 1)  # room for the legend
    below.legend(loc="upper right", ncols=len(PHASES), frameon=False)
    figure.savefig(file, dpi=120)
