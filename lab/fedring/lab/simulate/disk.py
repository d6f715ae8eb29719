"""A device's disk: what was written, and what of it is synced.

A process that is killed finds all that was written; after a power cut only what was synced before
is there. The coordinator needs none of this: every transaction of its store is synced, or is not
there at all.
"""

from __future__ import annotations

from typing import Any

from attrs import define, evolve, field, frozen


@frozen
class Records:
    """What a device keeps, see `fedring.device.store`.

    Attributes:
        joined: (epoch, round) of the last `ready` signed.
        releases: how many, ever.
        evaluations: how many, ever.
        revocation: the newest list, as its envelope.
    """

    joined: tuple[int, int] = (0, 0)
    releases: int = 0
    evaluations: int = 0
    revocation: bytes = field(default=b"", repr=False)


@define
class Disk:
    """The disk of one device.

    Attributes:
        written: what a program on this board reads.
        synced: what is left of it after a power cut.
    """

    written: Records = field(factory=Records)
    synced: Records = field(factory=Records)

    def write(self, **records: Any) -> None:
        """Write records, not durably yet."""
        self.written = evolve(self.written, **records)

    def sync(self) -> None:
        """Make all that was written durable."""
        self.synced = self.written

    def lose_power(self) -> None:
        """Go back to what was synced."""
        self.written = self.synced
