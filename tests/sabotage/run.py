"""Breaks the protocol one line at a time, and shows which test notices.

Each sabotage of `sabotages.toml` is put into a copy of the sources; then the test that it names
runs against that copy. A test that still passes could not fail: the exit status is 1 then. One that
hangs has noticed as well, but the table says so: it may be slow for another reason.

    scripts/sabotage                 all of them, on every core, as a table
    scripts/sabotage list pads       those whose description holds one of these words
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from queue import SimpleQueue

from attrs import frozen

PROJECT = Path(__file__).parents[2]
LIST = Path(__file__).with_name("sabotages.toml")
SOURCES = ("coordinator", "device", "fleet", "lab", "shared")
LONGEST_S = 240
"""A test that runs this long hangs: it passes in a few seconds."""


class Verdict(StrEnum):
    """What a test says of a sabotage, as the table has it."""

    CAUGHT = "`{}`"
    TIMED_OUT = "timed out: `{}`"
    UNNOTICED = "**NOBODY**, not by `{}`"


@frozen(kw_only=True)
class Sabotage:
    """One changed line, and who must notice.

    Attributes:
        what: the change in words.
        file: path in the project.
        line: as it stands in the file, without its indentation.
        instead: what takes its place.
        test: pytest's name of the test that must fail.
        after: the line is the first such one behind this text.
        invariants: numbers of docs/protocol.md, section 6.
        rows: of the table in its section 5, by their first column.
    """

    what: str
    file: str
    line: str
    instead: str
    test: str
    after: str = ""
    invariants: tuple[int, ...] = ()
    rows: tuple[str, ...] = ()

    def applied(self, source: str) -> str:
        """The sabotaged text of the file.

        Raises:
            ValueError: the line is not there (any more).
        """
        start = source.find(self.after)
        found = re.compile(rf"^( *){re.escape(self.line)}$", re.MULTILINE).search(source, start)
        if start < 0 or found is None:
            raise ValueError(f"{self.file} has no line `{self.line}` after `{self.after}`")
        return f"{source[: found.start()]}{found[1]}{self.instead}{source[found.end() :]}"


def sabotages(path: Path = LIST) -> list[Sabotage]:
    """All of them, in the order of the file."""
    with path.open("rb") as file:
        return [Sabotage(**fields) for fields in tomllib.load(file)["sabotage"]]


@contextmanager
def copies(folder: Path, count: int) -> Iterator[SimpleQueue[Path]]:
    """So many copies of sources and tests, each free for one sabotage at a time."""
    free: SimpleQueue[Path] = SimpleQueue()
    leave_out = shutil.ignore_patterns("__pycache__", ".hypothesis")
    for number in range(count):
        copy = folder / str(number)
        for name in (*SOURCES, "tests", "docs", "benchmarks", "broker_config", "scripts"):
            shutil.copytree(PROJECT / name, copy / name, ignore=leave_out)
        for name in ("pyproject.toml", "README.md"):
            shutil.copy(PROJECT / name, copy)
        free.put(copy)
    yield free


def judge(sabotage: Sabotage, copy: Path) -> Verdict:
    """What the named test says in a copy with the sabotage in it."""
    file = copy / sabotage.file
    source = file.read_text(encoding="utf-8")
    file.write_text(sabotage.applied(source), encoding="utf-8")
    try:
        return verdict_of(sabotage.test, copy)
    finally:
        file.write_text(source, encoding="utf-8")


def verdict_of(test: str, copy: Path, longest_s: float = LONGEST_S) -> Verdict:
    """What a test says in a copy.

    Raises:
        RuntimeError: pytest did not come to run it.
    """
    environment = dict(os.environ)
    environment["PYTHONPATH"] = os.pathsep.join(str(copy / name) for name in SOURCES)
    environment["PYTHONDONTWRITEBYTECODE"] = "1"
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", test]
    try:
        done = subprocess.run(
            command,
            cwd=copy,
            env=environment,
            capture_output=True,
            text=True,
            timeout=longest_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Verdict.TIMED_OUT
    if done.returncode not in (0, 1):
        raise RuntimeError(f"{test} did not run:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return Verdict.CAUGHT if done.returncode else Verdict.UNNOTICED


def main(words: Sequence[str]) -> int:
    """Run and print the table; 1 when a sabotage went unnoticed."""
    chosen = [one for one in sabotages() if not words or any(word in one.what for word in words)]
    n_copies = os.cpu_count() or 1
    counts: Counter[Verdict] = Counter()
    with (
        tempfile.TemporaryDirectory() as folder,
        copies(Path(folder), n_copies) as free,
        ThreadPoolExecutor(n_copies) as pool,
    ):

        def tried(sabotage: Sabotage) -> Verdict:
            copy = free.get()
            try:
                return judge(sabotage, copy)
            finally:
                free.put(copy)

        print("| sabotage | invariants | caught by |\n|---|---|---|")
        for sabotage, verdict in zip(chosen, pool.map(tried, chosen), strict=True):
            counts[verdict] += 1
            numbers = ", ".join(map(str, sabotage.invariants))
            print(f"| {sabotage.what} | {numbers} | {verdict.format(sabotage.test)} |", flush=True)
    print(
        f"\n{counts[Verdict.CAUGHT]} of {len(chosen)} sabotages caught, "
        f"{counts[Verdict.TIMED_OUT]} tests timed out."
    )
    return 1 if counts[Verdict.UNNOTICED] else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
