"""What is to be written where, and whether there is room for it: known before the first byte."""

from __future__ import annotations

from collections.abc import Mapping

from attrs import frozen

from fedring.shared.errors import FlashError


@frozen
class Plan:
    """What will be written.

    Attributes:
        title: of card or board.
        n_bytes: of all new files.
        needed_bytes: of the file system there, at most.
        free_bytes: room there, with that of an earlier payload, which goes.
    """

    title: str
    n_bytes: int
    needed_bytes: int
    free_bytes: int


def fit(
    title: str, sizes: Mapping[str, int], *, needed_bytes: int, free_bytes: int, hint: str
) -> Plan:
    """Plan it, if there is room.

    Args:
        title: of card or board.
        sizes: bytes of the files by name.
        needed_bytes: see `Plan`.
        free_bytes: see `Plan`.
        hint: what to do where there is no room.

    Raises:
        FlashError: no room.
    """
    if free_bytes < needed_bytes:
        raise FlashError(
            f"{title} has room for {free_bytes / 1e6:.1f} MB, and {needed_bytes / 1e6:.1f} MB are"
            " needed",
            name="flash.no-room",
            hint=hint,
        )
    return Plan(title, sum(sizes.values()), needed_bytes, free_bytes)
