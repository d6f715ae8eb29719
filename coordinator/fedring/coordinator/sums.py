"""From the bodies and releases of finished rings to one sum that holds: protocol.md, step 6.

All rings of a round share one announce, so their bodies add up and their releases multiply, and
one decryption opens them together. Exact or nothing: a sum that fails a check is thrown away, and
only then are its rings opened one by one, to go on without the bad one. Which member spoiled a
ring nobody can tell, since the pads hide it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias

import numpy as np
from attrs import cmp_using, field, frozen
from phe import PaillierPrivateKey

from fedring.shared.contributions import read_sum
from fedring.shared.encryption import Body, Suite
from fedring.shared.errors import SumError
from fedring.shared.numbers import SumVector


@frozen
class RingSum:
    """What a finished ring hands over.

    Attributes:
        label: of the ring, for reports.
        names: device numbers of its contributors.
        body: sum of their bodies.
        releases: theirs, unsealed, each passed `Suite.check_release`.
    """

    label: str
    names: tuple[int, ...]
    body: Body = field(repr=False, eq=cmp_using(eq=np.array_equal))
    releases: tuple[bytes, ...] = field(repr=False)

    def __attrs_post_init__(self) -> None:
        if not self.names or len(self.names) != len(self.releases):
            raise ValueError(f"{len(self.names)} names, but {len(self.releases)} releases")


@frozen(eq=False)
class Opened:
    """The sum over all rings that hold.

    Attributes:
        total: int64, shape (suite.n_values,); all 0 when no ring holds.
        names: the contributors in it, in the order of their rings.
        bad_rings: label -> the check that the ring failed.
    """

    total: SumVector
    names: tuple[int, ...]
    bad_rings: dict[str, str]


Accept: TypeAlias = Callable[[SumVector, int], object]
"""Looks at a sum and its number of contributors; raises `SumError` when it cannot be used."""


def accept_all(_total: SumVector, _n_contributors: int) -> None:
    """Every sum of the right form will do."""


def open_rings(
    suite: Suite,
    private_key: PaillierPrivateKey,
    rings: Sequence[RingSum],
    accept: Accept = accept_all,
) -> Opened:
    """Open the sum over rings, as many at once as cannot overflow.

    Takes some 0.2 s for each decryption (in suite `paillier` up to 0.7 s), one unless a check
    fails: not for an event loop.

    Args:
        suite: of the announce that all these rings answered.
        private_key: belongs to the suite's public key.
        rings: of one round; no device is in two of them.
        accept: looks at what a sum means, after the checks of its form.

    Raises:
        ValueError: a device is in two rings, or one ring is more than can be opened.
    """
    names = [name for ring in rings for name in ring.names]
    if len(set(names)) != len(names):
        raise ValueError("a device contributed to two rings of one round")
    total: SumVector = np.zeros(suite.n_values, np.int64)
    good: list[RingSum] = []
    bad_rings: dict[str, str] = {}
    pending = deque(_batches(rings, suite.max_contributors))
    while pending:
        batch = pending.popleft()
        try:
            total += _open(suite, private_key, batch, accept)
            good += batch
        except SumError as failure:
            if len(batch) == 1:
                bad_rings[batch[0].label] = str(failure)
            else:
                pending.extendleft([ring] for ring in reversed(batch))
    return Opened(total, tuple(name for ring in good for name in ring.names), bad_rings)


def _open(
    suite: Suite, private_key: PaillierPrivateKey, rings: Sequence[RingSum], accept: Accept
) -> SumVector:
    body = rings[0].body.copy()
    for ring in rings[1:]:
        suite.add(body, ring.body)
    product = suite.product([release for ring in rings for release in ring.releases])
    n_contributors = sum(len(ring.names) for ring in rings)
    total = suite.open(private_key, body, product, n_contributors)
    read_sum(total, n_contributors, suite.bits)
    accept(total, n_contributors)
    return total


def _batches(rings: Sequence[RingSum], max_contributors: int) -> Iterator[list[RingSum]]:
    batch: list[RingSum] = []
    size = 0
    for ring in rings:
        if batch and size + len(ring.names) > max_contributors:
            yield batch
            batch, size = [], 0
        batch.append(ring)
        size += len(ring.names)
    if batch:
        yield batch
