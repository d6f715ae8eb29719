"""Draws what `scripts/bench links --json FILE` measured: `python -m benchmarks.links.picture FILE`.

The picture is docs/images/links.svg.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Final

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

PICTURE: Final = Path(__file__).parents[2] / "docs" / "images" / "links.svg"
COLOURS: Final = {"whole tokens": "#e07a3f", "each chunk at once": "#1f6f8b"}


def draw(rows: list[dict[str, Any]], file: Path) -> None:
    """Draw the rows of the benchmark into an SVG file."""
    curves: dict[int, dict[str, list[tuple[int, float]]]] = {}
    transfers: dict[int, float] = {}
    for row in rows:
        how, n_members, mbit_s = row["name"].split(", ")
        rate = int(mbit_s.split()[0])
        curve = curves.setdefault(rate, {}).setdefault(how, [])
        curve.append((int(n_members.split()[0]), row["value"]))
        transfers[rate] = row["baseline"]
    matplotlib.rcParams["svg.hashsalt"] = "fedring"  # the same picture from the same rows
    figure = Figure(figsize=(9, 4), layout="constrained")
    FigureCanvasSVG(figure)
    figure.suptitle("A lap of a ring with one million weights, on links with a rate")
    panels = figure.subplots(1, len(curves), squeeze=False)[0]
    for axes, rate in zip(panels, sorted(curves), strict=True):
        _panel(axes, rate, curves[rate], transfers[rate])
    figure.savefig(file, metadata={"Date": None})


def _panel(
    axes: Axes, rate: int, curves: dict[str, list[tuple[int, float]]], transfer_s: float
) -> None:
    for how, points in curves.items():
        axes.plot(*zip(*points, strict=True), "o-", markersize=4, color=COLOURS[how], label=how)
    axes.axhline(transfer_s, color="grey", linestyle=":", label="one transfer")
    axes.set_title(f"{rate} Mbit/s")
    axes.set_xlabel("members")
    axes.set_ylabel("seconds")
    axes.set_xticks([members for members, _ in next(iter(curves.values()))])
    axes.set_ylim(0)
    axes.grid(alpha=0.3)
    axes.legend(loc="best")


if __name__ == "__main__":
    draw(json.loads(Path(sys.argv[1]).read_text("utf-8")), PICTURE)
