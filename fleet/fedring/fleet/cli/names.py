"""Names of devices as they are typed, ranges written out."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final

from fedring.shared.errors import StateError

MAX_RANGE: Final = 10_000

_RANGE: Final = re.compile(r"([a-z0-9-]*?)([0-9]{1,9})\.\.([a-z0-9-]*?)([0-9]{1,9})")


def expanded(names: Iterable[str]) -> Iterator[str]:
    """Write ranges out: b08..b11 is b08, b09, b10, b11."""
    for name in names:
        match = _RANGE.fullmatch(name)
        if match is None:
            yield name
            continue
        stem, first, other_stem, last = match.groups()
        n_names = int(last) - int(first) + 1
        if stem != other_stem or not 1 <= n_names <= MAX_RANGE:
            raise StateError(
                f"{name} is no range of names",
                name="fleet.name",
                hint="like b01..b20: the same letters, a smaller and a greater number",
            )
        for number in range(int(first), int(last) + 1):
            yield f"{stem}{number:0{len(first)}}"
