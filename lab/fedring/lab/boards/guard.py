"""Ends containers whose lab has died without a chance to do it, whatever killed it.

    python -I -S guard.py LAB_PID FOLDER

systemd-nspawn is killed with the lab (`fedring.lab.tether`), but the systemd that it started goes
on. Started as a script and by its path, this one imports nothing of ours. It outlives the lab by a
moment.
"""

import os
import re
import select
import signal
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

MARK = "fedring_lab"
"""What a container has in its environment: where its files are."""


def first_processes(folder: str) -> Iterator[int]:
    """Find the first process of each container whose files are in this folder or below it."""
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended meanwhile
            numbers = re.search(r"NSpid:(.*)", (process / "status").read_text())
            if numbers and numbers[1].split()[1:][-1:] == ["1"]:
                for variable in (process / "environ").read_text(errors="replace").split("\0"):
                    if f"{variable}/".startswith(f"{MARK}={folder}/"):
                        yield int(process.name)


def main(lab: int, folder: str) -> None:
    with suppress(ProcessLookupError):
        descriptor = os.pidfd_open(lab)
        select.select([descriptor], [], [])
    for process in first_processes(folder):
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
