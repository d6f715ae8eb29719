"""Breaks the protocol one line at a time, and shows which test notices.

Each sabotage of `sabotages.toml` is put into a copy of the sources; then the test that it names
runs against that copy. A test that still passes could not fail: the exit status is 1 then.

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
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue

from attrs import frozen

PROJECT = Path(__file__).parents[2]
LIST = Path(__file__).with_name("sabotages.toml")
SOURCES = ("coordinator", "device", "fleet", "lab", "shared")
LONGEST_S = 240
"""A test that hangs this long has noticed, too: it passes in a few seconds."""


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


def is_caught(sabotage: Sabotage, copy: Path) -> bool:
    """Whether the named test fails in a copy with the sabotage in it."""
    file = copy / sabotage.file
    source = file.read_text(encoding="utf-8")
    file.write_text(sabotage.applied(source), encoding="utf-8")
    try:
        return not passes(sabotage.test, copy)
    finally:
        file.write_text(source, encoding="utf-8")


def passes(test: str, copy: Path) -> bool:
    """Whether a test passes in a copy.

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
            timeout=LONGEST_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return False
    if done.returncode not in (0, 1):
        raise RuntimeError(f"{test} did not run:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.returncode == 0


def main(words: Sequence[str]) -> int:
    """Run and print the table; 1 when a sabotage went unnoticed."""
    chosen = [one for one in sabotages() if not words or any(word in one.what for word in words)]
    n_copies = os.cpu_count() or 1
    unnoticed = 0
    with (
        tempfile.TemporaryDirectory() as folder,
        copies(Path(folder), n_copies) as free,
        ThreadPoolExecutor(n_copies) as pool,
    ):

        def tried(sabotage: Sabotage) -> bool:
            copy = free.get()
            try:
                return is_caught(sabotage, copy)
            finally:
                free.put(copy)

        print("| sabotage | invariants | caught by |\n|---|---|---|")
        for sabotage, caught in zip(chosen, pool.map(tried, chosen), strict=True):
            unnoticed += not caught
            numbers = ", ".join(map(str, sabotage.invariants))
            who = f"`{sabotage.test}`" if caught else f"**NOBODY**, not by `{sabotage.test}`"
            print(f"| {sabotage.what} | {numbers} | {who} |", flush=True)
    print(f"\n{len(chosen) - unnoticed} of {len(chosen)} sabotages caught.")
    return 1 if unnoticed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
