"""A picture of how often rings are void."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from benchmarks.voids.trouble import Outcome, Trouble
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

KINDS: Final = {
    (0.1, False): ("#1f6f8b", "hops of 0.1 s"),
    (5.0, False): ("#e07a3f", "hops of 5 s"),
    (5.0, True): ("#7a5195", "hops of 5 s, whole tokens"),
}
STYLES: Final = {1: "--", 4: "-"}


def draw(found: Mapping[Trouble, Outcome], file: Path) -> None:
    """Draw void rings over the size of rings: with calls, and what it would be without."""
    figure = Figure(figsize=(8, 6), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(2, 2, sharex=True, sharey=True)
    figure.suptitle("Void rings")
    for column, (what, title) in enumerate(
        (("deaths", "devices die"), ("outages", "links drop for 10 s"))
    ):
        above, below = panels[0][column], panels[1][column]
        above.set_title(title)
        for (hop_s, whole), (colour, kind) in KINDS.items():
            for times, style in STYLES.items():
                cells = {
                    cell.members: outcome
                    for cell, outcome in found.items()
                    if (cell.hop_s, cell.whole_tokens) == (hop_s, whole)
                    and getattr(cell, what) == times
                }
                label = f"{kind}, {times} an hour each"
                sizes = sorted(cells)
                for panel, shares in (
                    (above, [cells[size].void_without_calls for size in sizes]),
                    (below, [cells[size].void_share for size in sizes]),
                ):
                    panel.plot(sizes, shares, f"o{style}", color=colour, label=label, markersize=4)
        below.set_xlabel("members of the ring")
        below.set_xticks(sizes)
    for panel in panels.flat:
        panel.yaxis.set_major_formatter(PercentFormatter(1))
        panel.set_ylim(bottom=0)
        panel.grid(alpha=0.3)
    panels[0][0].set_ylabel("without calls")
    panels[1][0].set_ylabel("with calls, as it is")
    panels[0][1].legend(loc="upper left", fontsize="small")
    figure.savefig(file)
