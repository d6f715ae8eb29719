"""How often a device answers: token buckets that fill while the board is up.

A coordinator that asks again and again learns sums over changing lists (docs/protocol.md, sections
5 and 8). So every release takes one token out of a bucket; evaluation values, which change less
from round to round, and statistics, which do not change, take theirs out of a smaller one. Buckets
fill by uptime: a wrong or moved clock gives nothing, and neither does a reboot, since the level is
stored with every release.
"""

from __future__ import annotations

from attrs import evolve, field, frozen
from attrs.validators import ge, gt

from fedring.shared.errors import ProtocolError

DAY_S = 86_400.0


@frozen
class Budget:
    """A token bucket at one moment; `at` and `spent` give the bucket of a later one.

    Attributes:
        level: tokens in it, 0 to `cap`.
        per_day: tokens that a day of uptime brings, > 0.
        cap: most tokens that it holds, >= 1: the greatest burst.
        total: tokens ever taken out.
        since: the monotonic time in seconds at which it held `level`.
    """

    level: float = field(validator=ge(0))
    per_day: float = field(validator=gt(0))
    cap: float = field(validator=ge(1))
    total: int = field(default=0, validator=ge(0))
    since: float = 0.0

    def at(self, now: float) -> Budget:
        """The bucket at `now`, monotonic seconds; an earlier time than `since` brings nothing."""
        gained = max(0.0, now - self.since) * self.per_day / DAY_S
        return evolve(self, level=min(self.cap, self.level + gained), since=max(now, self.since))

    def wait_s(self, now: float) -> float:
        """Seconds of uptime from `now` until the next token is there; 0 when one is."""
        return max(0.0, 1.0 - self.at(now).level) * DAY_S / self.per_day

    def spent(self, now: float) -> Budget:
        """The bucket at `now` with one token less.

        Raises:
            ProtocolError: it holds less than one; says how long the next one takes.
        """
        full = self.at(now)
        if full.level < 1.0:
            raise ProtocolError(
                f"budget of {self.per_day:g} a day is used up, "
                f"the next is free in {self.wait_s(now):.0f} s"
            )
        return evolve(full, level=full.level - 1.0, total=full.total + 1)
