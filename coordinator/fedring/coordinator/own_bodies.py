"""Bodies that members of a ring handed in each by itself: those are added up that can be opened.

Whoever wants more company than there is must be left out, and so must all who want as much or more.
So bodies of one threshold are in the sum together or not at all: there is one sum for each
threshold, whoever comes first, and no body need be kept by itself.

Source: docs/protocol.md, section 4, step 4.
"""

from __future__ import annotations

from collections.abc import Mapping

from fedring.coordinator.rosters import without_company
from fedring.shared.encryption import Body, Suite


class OwnBodies:
    """The bodies of one lap.

    Args:
        thresholds: of the members by device number, as their `ready` says.
        suite: adds bodies.

    Attributes:
        came_at: when each one came, in that order; on the caller's clock.
    """

    def __init__(self, thresholds: Mapping[int, int], suite: Suite) -> None:
        self.came_at: dict[int, float] = {}
        self._thresholds = thresholds
        self._suite = suite
        self._sums: dict[int, Body] = {}

    def add(self, name: int, body: Body, now: float) -> None:
        """Take the body of a member; its first one counts. `body` is ours from now on."""
        if name in self.came_at:
            return
        self.came_at[name] = now
        threshold = self._thresholds[name]
        if threshold in self._sums:
            self._suite.add(self._sums[threshold], body)
        else:
            self._sums[threshold] = body

    @property
    def names(self) -> tuple[int, ...]:
        """The most that would all release for a list of just these; in the order they came."""
        left_out = without_company({name: self._thresholds[name] for name in self.came_at})
        return tuple(name for name in self.came_at if name not in left_out)

    def total(self) -> Body:
        """The sum of the bodies of `names`, which must not be empty; good until the next `add`."""
        first, *others = sorted({self._thresholds[name] for name in self.names})
        if not others:
            return self._sums[first]
        total = self._sums[first].copy()
        for threshold in others:
            self._suite.add(total, self._sums[threshold])
        return total
