"""What the coordinator may learn, and whether somebody has learned more.

The promise is a set of sums: one for each list that all its honest names answered, over more names
than each of them wants. Whatever else can be computed from those sums is no break either.

Source: docs/protocol.md, section 1.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction

from fedring.lab.dump.attempts import Combination, Finding
from fedring.lab.dump.evidence import Evidence, Participant
from fedring.lab.dump.knowledge import Knowledge

_Vector = dict[Participant, Fraction]


def promised(evidence: Evidence, knowledge: Knowledge) -> list[frozenset[Participant]]:
    """The honest contributors of each list that may be opened.

    A device answers one list a round; of lists that share an honest name only the first counts.
    """
    allowed: list[frozenset[Participant]] = []
    spent: set[tuple[int, tuple[int, int]]] = set()
    for asked in evidence.lists.values():
        honest = frozenset(one for one in asked.participants if not knowledge.owns(one))
        released = {given.by for given in evidence.releases if given.asked == asked}
        answers = {(one.number, one.round) for one in honest}
        if not honest or not honest <= released or answers & spent:
            continue
        enough = max(one.threshold for one in honest) < len(asked.participants)
        if enough and len({one.announce for one in honest}) == 1:
            allowed.append(honest)
            spent |= answers
    return allowed


def breaks(findings: Iterable[Finding], allowed: Sequence[frozenset[Participant]]) -> list[Finding]:
    """Findings that are no combination of promised sums."""
    basis = _Basis()
    for honest in allowed:
        basis.add(frozenset((one, 1) for one in honest))
    return [finding for finding in findings if not basis.spans(finding.combination)]


class _Basis:
    """Rational linear algebra, one row for each independent vector."""

    def __init__(self) -> None:
        self._rows: list[tuple[Participant, _Vector]] = []

    def add(self, combination: Combination) -> None:
        rest = self._reduced(combination)
        if rest:
            pivot = next(iter(rest))
            self._rows.append((pivot, {k: v / rest[pivot] for k, v in rest.items()}))

    def spans(self, combination: Combination) -> bool:
        return not self._reduced(combination)

    def _reduced(self, combination: Combination) -> _Vector:
        rest = {one: Fraction(factor) for one, factor in combination}
        for pivot, row in self._rows:
            factor = rest.get(pivot, Fraction(0))
            if factor:
                for one, value in row.items():
                    rest[one] = rest.get(one, Fraction(0)) - factor * value
        return {one: value for one, value in rest.items() if value}
