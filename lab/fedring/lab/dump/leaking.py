"""Runs a coordinator or a device that gives away all that it draws at random.

    python leaking.py DRAWS python -P -c ... device run --config FILE

For tests only: nothing else in the program is changed. Every draw is a line of hex digits in the
file DRAWS.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from fedring.shared.cli import main

_DRAWN_BY = os.urandom


def leaking(draws: Path) -> tuple[str, ...]:
    """What runs a part of the fleet so that its draws are written to a file."""
    return (sys.executable, "-P", __file__, str(draws))


def read_draws(file: Path) -> list[bytes]:
    """What a party has drawn so far, in order."""
    return [bytes.fromhex(line) for line in file.read_text("ascii").split()]


def run(draws: str, command: Sequence[str]) -> None:
    """Be the `fedring` command that is given, and write down what it draws."""
    with Path(draws).open("a", encoding="ascii", buffering=1) as out:

        def draw(n_bytes: int) -> bytes:
            drawn = _DRAWN_BY(n_bytes)
            out.write(drawn.hex() + "\n")
            return drawn

        os.urandom = draw
        sys.argv = ["fedring", *command]
        main()


if __name__ == "__main__":
    file, *others = sys.argv[1:]
    run(file, others[others.index("-c") + 2 :])
