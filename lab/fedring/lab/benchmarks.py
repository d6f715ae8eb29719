"""What every program in `benchmarks/` shares: its options, its rows, where they were measured.

    def measure(quick: bool) -> Iterator[Row]:
        yield Row("round, wall", 5.1, "s", baseline=2.0, at_most=3)

    if __name__ == "__main__":
        main(measure, __doc__)

`scripts/bench NAME` starts one.
"""

from __future__ import annotations

import json
import os
import platform
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import click
from attrs import evolve, frozen

MEASURED_WITH: Final = ("fedring", "numpy", "gmpy2", "cryptography", "phe", "aiomqtt")


@frozen
class Row:
    """One figure, and what it was hoped to be.

    Attributes:
        name: what was measured.
        value: the figure.
        unit: of value and baseline, "" for none.
        baseline: the same measured for what we compare with; None where there is nothing.
        at_most: goal for the ratio to the baseline, or for the value where there is no baseline.
        at_least: the same from below.
        dream: what would be better still, on the same side; nothing is missed without it.
        no_goal: why there is no goal, for a figure of which one might expect it.
    """

    name: str
    value: float
    unit: str = ""
    baseline: float | None = None
    at_most: float | None = None
    at_least: float | None = None
    dream: float | None = None
    no_goal: str | None = None

    @property
    def ratio(self) -> float | None:
        """Value over baseline."""
        return self.value / self.baseline if self.baseline else None

    @property
    def goal(self) -> str | None:
        """The goal in words, None where there is none."""
        subject = "value" if self.ratio is None else "ratio"
        bounds = [("at most", self.at_most), ("at least", self.at_least)]
        told = [f"{words} {bound:g}" for words, bound in bounds if bound is not None]
        return f"{subject} {' and '.join(told)}" if told else None

    @property
    def holds(self) -> bool | None:
        """Whether the goal is reached, None where there is none."""
        if self.goal is None:
            return None
        judged = self.value if self.ratio is None else self.ratio
        low = float("-inf") if self.at_least is None else self.at_least
        high = float("inf") if self.at_most is None else self.at_most
        return low <= judged <= high

    @property
    def dream_holds(self) -> bool | None:
        """Whether the dream has come true, None where there is none."""
        if self.dream is None:
            return None
        from_above = self.at_least is None
        return evolve(
            self,
            at_most=self.dream if from_above else None,
            at_least=None if from_above else self.dream,
        ).holds

    def facts(self) -> dict[str, Any]:
        """The row as JSON holds it."""
        names = ("name", "value", "unit", "baseline", "ratio", "goal", "holds", "dream", "no_goal")
        return {name: getattr(self, name) for name in names}

    def text(self) -> str:
        """The row as one line for people."""
        parts = [f"{self.name}: {self.value:.4g} {self.unit}".rstrip()]
        if self.ratio is not None:
            parts.append(f"{self.ratio:.3g} times {self.baseline:.4g} {self.unit}".rstrip())
        if self.goal is not None:
            parts.append(f"goal: {self.goal}: {'holds' if self.holds else 'MISSED'}")
        if self.no_goal is not None:
            parts.append(f"no goal: {self.no_goal}")
        if self.dream is not None:
            parts.append(f"dream: {self.dream:g}: {'holds' if self.dream_holds else 'not yet'}")
        return "; ".join(parts)


def main(
    measure: Callable[[bool], Iterator[Row]],
    description: str | None,
    *,
    names: Callable[[bool], Iterable[str]] | None = None,
    strict: bool = False,
    draw: Callable[[Path], None] | None = None,
) -> None:
    """Run a benchmark from the command line: `[--quick] [--json FILE] [--picture FILE]`.

    Args:
        measure: gives the rows as they are measured; its argument asks for a short run, whose
            figures are for a look only.
        description: docstring of the program, for `--help`.
        names: of the rows that there must be, of a short run or a whole one: a row more or less
            ends with status 1, after all were printed and written. None where nobody says.
        strict: end with status 1 when a goal is missed, but for a short run.
        draw: makes a picture of what was measured; None where there is none.
    """

    @click.command(help=description)
    @click.option("--quick", is_flag=True, help="A short run, for a look.")
    @click.option(
        "--json", "file", type=click.Path(path_type=Path), help="Write the rows to FILE as well."
    )
    def command(quick: bool, file: Path | None, picture: Path | None = None) -> None:
        rows = []
        for row in measure(quick):
            click.echo(row.text())
            rows.append(row)
        if file is not None:
            place = {"machine": machine(), "versions": versions(), "quick": quick}
            file.write_text(json.dumps([row.facts() | place for row in rows], indent=2) + "\n")
        if draw is not None and picture is not None:
            draw(picture)
        complaints = [] if names is None else differences(names(quick), rows)
        missed = [row.name for row in rows if row.holds is False]
        if missed and strict and not quick:
            complaints.append("goals missed: " + "; ".join(missed))
        if complaints:
            raise click.ClickException("\n".join(complaints))

    if draw is not None:
        picture = click.Path(path_type=Path)
        command = click.option("--picture", type=picture, help="Draw them into FILE (SVG, PNG).")(
            command
        )
    command()


def differences(names: Iterable[str], rows: Iterable[Row]) -> list[str]:
    """Which of these rows there are not, and which there are beside them, each in a sentence."""
    wanted, found = Counter(names), Counter(row.name for row in rows)
    told = {"rows missing": wanted - found, "rows that nobody expects": found - wanted}
    return [f"{what}: " + "; ".join(names) for what, names in told.items() if names]


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "architecture": platform.machine(),
        "system": platform.platform(),
    }


def versions() -> dict[str, str]:
    """Python and the packages that matter for the figures."""
    return {"python": platform.python_version()} | {name: version(name) for name in MEASURED_WITH}


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    # Boards say "Model", most others "model name".
    told = (line.split(":", 1)[1].strip() for line in lines if line.lower().startswith("model"))
    return next((name for name in told if not name.isdigit()), platform.processor())
