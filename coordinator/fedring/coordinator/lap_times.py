"""How long a lap may take: room for slow links, and none that a member can make more of.

A lap that came round was given time enough, however long it took: its time says what links carry at
the least, and one member that holds a token back makes it look like any slow link. So such a lap
can only make the next ones shorter. Longer they become by what the half of the members did that was
quicker with its own bodies, each by itself, after a token got lost or too late.

Source: docs/protocol.md, section 7.
"""

from __future__ import annotations

from collections.abc import Mapping

from attrs import define

from fedring.shared.effects import Fact
from fedring.shared.messages import USUAL_LIMIT_S

START_RATE = 100_000.0
"""Bytes a second that a link is taken to carry until the coordinator has seen laps itself."""
LEAST_RATE = 1_000.0
"""Bytes a second; bodies that were held up must not make the next lap wait for hours."""
LAP_BASE_S = 30.0


def lap_s(members: int, body_bytes: int, rate: float) -> float:
    """Longest time of a lap in seconds: room for each hop to wait for a whole token.

    Never more than devices accept, unless their owners say otherwise: chunks go on as they come, so
    a lap that lasts that long has room for links a good deal slower than `rate`.

    Args:
        members: of the ring.
        body_bytes: size of a token's body.
        rate: bytes a second of the slowest link, as measured or `START_RATE`.
    """
    return min(USUAL_LIMIT_S, LAP_BASE_S + members * 2 * body_bytes / rate)


@define
class LinkRate:
    """What links are taken to carry, from the laps so far.

    Half old, half new: one quick lap must not make the next one hurry.

    Attributes:
        bytes_per_s: the rate, for `lap_s`.
    """

    bytes_per_s: float = START_RATE

    def learn(self, body_bytes: int, facts: Mapping[str, Fact]) -> None:
        """A lap has come to its end with a token.

        Args:
            body_bytes: of the token.
            facts: of the report: `seconds` of the lap, and where each member had one of its own
                `median_s`, by which half of them had sent their bodies.
        """
        match facts:
            case {"median_s": float(seconds)} if seconds > 0:
                rate = max(LEAST_RATE, body_bytes / seconds)
                self.bytes_per_s = (self.bytes_per_s + rate) / 2
            case {"seconds": float(seconds)} if seconds > 0:
                rate = 2 * body_bytes / seconds  # each got a body meanwhile, and sent one
                self.bytes_per_s = max(self.bytes_per_s, (self.bytes_per_s + rate) / 2)
