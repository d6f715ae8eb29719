"""Who uses a card or an image right now, as far as Linux tells; elsewhere nobody is found."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

_OCTAL = re.compile(r"\\([0-7]{3})")


def users_of(path: Path, system: Path = Path("/")) -> list[str]:
    """Tell where a card's partitions are mounted, and which loop devices show an image.

    Args:
        path: an image file, or the block device of a whole card.
        system: holds `proc` and `sys`.
    """
    status = path.stat()
    if stat.S_ISBLK(status.st_mode):
        number = f"{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}"
        return [f"mounted at {place}" for place in mounts_of(number, system)]
    return [f"shown as /dev/{name}" for name in _loops(system, path.resolve())]


def mounts_of(number: str, system: Path = Path("/")) -> list[str]:
    """Tell where a block device and its partitions are mounted.

    Args:
        number: of the device, "major:minor".
        system: as above. Lines of its mountinfo, proc(5): id, parent, major:minor, root, place, ...
    """
    partitions = (system / "sys" / "dev" / "block" / number).glob("*/dev")
    numbers = {number} | {file.read_text("ascii").strip() for file in partitions}
    mountinfo = system / "proc" / "self" / "mountinfo"
    lines = mountinfo.read_text().splitlines() if mountinfo.exists() else []
    return [
        _OCTAL.sub(lambda match: chr(int(match[1], 8)), fields[4])
        for fields in (line.split(" ") for line in lines)
        if fields[2] in numbers
    ]


def _loops(system: Path, path: Path) -> Iterator[str]:
    for file in sorted((system / "sys" / "block").glob("loop*/loop/backing_file")):
        if file.read_text().strip() == str(path):
            yield file.parents[1].name
