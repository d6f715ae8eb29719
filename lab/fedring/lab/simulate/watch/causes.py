"""What went wrong around a ring, as the network's log has it: causes of what became of the ring."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from attrs import frozen

from fedring.lab.simulate.network import Note, Passage

AFTERMATH_S = 2.0
"""So long a trouble is felt when it is over: what was sent meanwhile comes late."""
OWN_FAULT = "not connected"
"""Why a message is lost that its sender could not send: no loss, but a trouble of the sender."""


@frozen
class Span:
    """From when to when something lasted; the clock."""

    begin: float
    end: float

    def meets(self, other: Span) -> bool:
        """Whether they have a moment in common."""
        return self.begin <= other.end and other.begin <= self.end


class Causes:
    """What went wrong in a while, with whom, and when.

    Args:
        unsound: with whom something was wrong when it began.
        began: when; the clock.
        log: of the network since then.
        now: its end.
    """

    def __init__(
        self, unsound: Iterable[str], began: float, log: Sequence[Note | Passage], now: float
    ) -> None:
        self._troubles: dict[str, list[Span]] = {}
        self._deaths: list[tuple[str, float]] = []
        self._lost: list[Passage] = []
        since = dict.fromkeys(unsound, began)
        for entry in log:
            match entry:
                case Passage(lost=why) if why not in ("", OWN_FAULT):
                    self._lost.append(entry)
                case Note(at, who, text, sound=False):
                    since.setdefault(who, at)
                    if text == "dies":
                        self._deaths.append((who, at))
                case Note(at, who, sound=True) if who in since:
                    self._troubles.setdefault(who, []).append(Span(since.pop(who), at))
        for who, at in since.items():
            self._troubles.setdefault(who, []).append(Span(at, now))

    def died(self, who: str, when: Span) -> bool:
        """Whether somebody died at that time."""
        return any(who == one and when.begin <= at <= when.end for one, at in self._deaths)

    def troubled(self, who: str, when: Span) -> bool:
        """Whether anything was wrong with somebody's link or power at that time, or just before."""
        spans = self._troubles.get(who, ())
        return any(Span(one.begin, one.end + AFTERMATH_S).meets(when) for one in spans)

    def n_lost(self, parties: Iterable[str], when: Span) -> int:
        """Messages between any two of these that were sent at that time and lost on their way."""
        among = {*parties}
        return sum(
            {one.source, one.to} <= among and when.begin <= one.sent <= when.end
            for one in self._lost
        )

    def longest_calm_s(self, parties: Iterable[str], when: Span) -> float:
        """The longest time, of that, in which nothing was wrong with any of these."""
        spans = [one for who in parties for one in self._troubles.get(who, ()) if one.meets(when)]
        calm_s, calm_since = 0.0, when.begin
        for one in sorted(spans, key=lambda span: span.begin):
            calm_s = max(calm_s, one.begin - calm_since)
            calm_since = max(calm_since, one.end)
        return max(calm_s, when.end - calm_since)
