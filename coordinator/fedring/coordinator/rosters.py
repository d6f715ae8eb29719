"""Who goes into which ring: cohorts, ring sizes, thresholds, and who sits out.

A cohort is one ring's worth of devices, fixed for an epoch: sums over freshly drawn rings would
give away what is constant about a device after about a ring's worth of rounds. At the first round
of an epoch the devices seen alive are dealt evenly; a device that comes later joins the smallest.

Source: docs/protocol.md, section 4, step 3, and section 8.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from attrs import define, field, frozen

from fedring.shared.membership import Joined
from fedring.shared.messages import MAX_ROSTER

BENCH_AFTER = 2
"""Rings in a row that a device breaks by silence before it sits out."""
FORGIVEN_AFTER = 4
"""Rings seen through that make up for one broken: nobody breaks more than every fifth for long."""
BENCH_ROUNDS = 3
"""Rounds that it then sits out."""


@define
class Cohorts:
    """The table of an epoch: device number -> cohort, 0, 1, 2 ...

    Attributes:
        table: stored by the coordinator whenever it grows.
    """

    table: dict[int, int] = field(factory=dict)

    def deal(self, numbers: Iterable[int], ring_size: int) -> None:
        """Deal the first devices of an epoch evenly into `ceil(N / ring_size)` cohorts."""
        ordered = sorted(set(numbers))
        n_cohorts = -(-len(ordered) // ring_size)
        self.table = {number: place % n_cohorts for place, number in enumerate(ordered)}

    def largest(self, ring_size: int) -> int:
        """Members of the largest ring: the ring size, or more where a cohort has grown."""
        return max([ring_size, *Counter(self.table.values()).values()])

    def of(self, number: int) -> int:
        """The device's cohort; a new device joins the smallest that has room."""
        if number not in self.table:
            sizes = Counter(self.table.values())
            cohort = min(sizes, key=lambda one: (sizes[one], one), default=0)
            if sizes[cohort] >= MAX_ROSTER:
                cohort = max(sizes) + 1
            self.table[number] = cohort
        return self.table[number]


def without_company(thresholds: Mapping[int, int]) -> dict[int, int]:
    """Who must be left out so that each of the others has more company than its own threshold.

    The most demanding go first; nobody else has to go then.

    Args:
        thresholds: of all candidates, by number.

    Returns:
        By number of whoever is left out: how many there still were.
    """
    left = sorted(thresholds, key=lambda number: (thresholds[number], -number))
    left_out: dict[int, int] = {}
    while left and thresholds[left[-1]] >= len(left):
        left_out[left[-1]] = len(left)
        left.pop()
    return left_out


@frozen
class Choice:
    """Who of those ready can form a ring together.

    Attributes:
        members: by device number, ascending; empty when no ring can be formed.
        turned_away: why each of the others cannot be in it.
    """

    members: tuple[Joined, ...]
    turned_away: Mapping[int, str]


def choose(candidates: Sequence[Joined], most: int = MAX_ROSTER) -> Choice:
    """Form the largest ring in which every member's own threshold can be met.

    Whoever wants more company than the ring can offer is left out, the most demanding first. The
    lowest numbers go first. Of two with one round key or one name the later is
    left out: it may have copied, the earlier cannot.

    Args:
        candidates: in the order in which they came; distinct numbers.
        most: members of the ring, 2..64.
    """
    members: list[Joined] = []
    turned_away: dict[int, str] = {}
    keys: set[bytes] = set()
    names: set[str] = set()
    for joined in candidates:
        key = joined.ready.message.round_key
        if key in keys or joined.peer.name in names:
            turned_away[joined.number] = "its round key or name is another device's"
            continue
        keys.add(key)
        names.add(joined.peer.name)
        members.append(joined)
    members.sort(key=lambda joined: joined.number)
    turned_away |= {joined.number: f"ring is full at {most}" for joined in members[most:]}
    members = members[:most]
    thresholds = {joined.number: joined.ready.message.threshold for joined in members}
    for number, n_members in without_company(thresholds).items():
        turned_away[number] = f"ring of {n_members}, it answers above {thresholds[number]}"
    members = [joined for joined in members if joined.number not in turned_away]
    if len(members) < 2:
        turned_away |= {joined.number: "no company" for joined in members}
        members = []
    return Choice(tuple(members), turned_away)


@define
class Bench:
    """Devices that broke rings by silence, as the coordinator itself saw it.

    A signed `refused` is an answer and never counts. Nothing here rests on what devices say of
    one another.

    Attributes:
        strikes: weight of the rings broken, less one for each ring seen through since, by number.
        until: first round that a benched device may join again.
    """

    strikes: dict[int, int] = field(factory=dict)
    until: dict[int, int] = field(factory=dict)

    def silent(self, number: int, round_number: int) -> bool:
        """Note that a device went silent where it owed an answer; tells whether it is benched."""
        enough = BENCH_AFTER * FORGIVEN_AFTER
        self.strikes[number] = min(enough, self.strikes.get(number, 0) + FORGIVEN_AFTER)
        if self.strikes[number] < enough:
            return False
        self.until[number] = round_number + BENCH_ROUNDS + 1
        return True

    def contributed(self, number: int) -> None:
        """Note that a device saw a ring through."""
        left = self.strikes.pop(number, 0) - 1
        if left > 0:
            self.strikes[number] = left
        self.until.pop(number, None)

    def rounds_left(self, number: int, round_number: int) -> int:
        """How many rounds, this one included, the device still sits out."""
        return max(0, self.until.get(number, 0) - round_number)
