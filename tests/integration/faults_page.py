"""Every fault in every step, and a death in every moment: writes docs/faults.md.

A program: `scripts/faults`, for both tables; `scripts/faults deaths` for one of them.
"""

from __future__ import annotations

import sys
import tempfile
import traceback
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TypeVar

from tests.integration.deaths import COORDINATOR, DEATHS, DEVICE, VICTIM, die, doomed
from tests.integration.faults import FAULTS, befall, site
from tests.integration.stage import STEPS

PAGE = Path(__file__).parents[2] / "docs" / "faults.md"
BROKEN = "**BROKEN**"
BEGIN, END = "<!-- scripts/faults: {} -->", "<!-- end of {} -->"

Fleet = TypeVar("Fleet")
Pair = tuple[str, str]


def go_through(
    pairs: Iterable[Pair],
    start: Callable[[Path], AbstractContextManager[Fleet]],
    happen: Callable[[Fleet, str, str], str],
) -> dict[Pair, str]:
    """How a round ended in which this happened, for each pair; a broken fleet is thrown away.

    Args:
        pairs: what is to happen.
        start: makes a fleet.
        happen: lets a pair happen to it, and says how the round ended.
    """
    outcomes: dict[Pair, str] = {}
    left = list(pairs)
    while left:
        with tempfile.TemporaryDirectory() as folder, start(Path(folder)) as fleet:
            while left:
                pair = left.pop(0)
                try:
                    outcomes[pair] = happen(fleet, *pair)
                except Exception:  # whatever broke is told, and the table goes on with a new fleet
                    outcomes[pair] = BROKEN
                    traceback.print_exc()
                    break
                finally:
                    print(f"{', '.join(pair)}: {outcomes.get(pair)}", flush=True)
    return outcomes


def table_of_faults(outcomes: dict[Pair, str]) -> str:
    """Step x fault x outcome, as Markdown."""
    lines = [f"| fault | {' | '.join(STEPS)} |", "|---" * (len(STEPS) + 1) + "|"]
    lines += [
        f"| {fault} | {' | '.join(outcomes[step, fault] for step in STEPS)} |" for fault in FAULTS
    ]
    return "\n".join(lines)


def table_of_deaths(outcomes: dict[Pair, str]) -> str:
    """Who died when, what was on its disk then, and how the round ended, as Markdown."""
    lines = ["| who dies | when | durable of this round | how it ended |", "|---" * 4 + "|"]
    for who, name, deaths in (
        ("device", VICTIM, DEVICE),
        ("coordinator", "coordinator", COORDINATOR),
    ):
        lines += [
            f"| {who} | {one.words} | {one.left} | {outcomes[name, one.moment]} |" for one in deaths
        ]
    return "\n".join(lines)


def put(page: str, name: str, table: str) -> str:
    """The page with this table between its marks."""
    begin, end = BEGIN.format(name), END.format(name)
    head, _, rest = page.partition(begin)
    _, _, tail = rest.partition(end)
    return f"{head}{begin}\n{table}\n{end}{tail}"


def main(libfaketime: Path, tables: Sequence[str]) -> int:
    """Go through all of it; 1 when what must hold broke."""
    broken = False
    for name in tables or ("faults", "deaths"):
        if name == "faults":
            pairs = [(step, fault) for fault in FAULTS for step in STEPS]
            outcomes = go_through(pairs, lambda folder: site(folder, libfaketime), befall)
            table = table_of_faults(outcomes)
        else:
            outcomes = go_through(DEATHS, doomed, die)
            table = table_of_deaths(outcomes)
        PAGE.write_text(put(PAGE.read_text("utf-8"), name, table), "utf-8")
        broken |= BROKEN in outcomes.values()
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
