"""An update of a fleet in waves: who is asked when, and when to stop. Nothing here sends.

    one board -> a tenth of those that are there -> all, also those that come back later

The next wave begins when every board of the last one has run the new agent for two minutes. A
board that goes back later, within the ten minutes of its trial, still ends the update, but boards
that were asked meanwhile try it, too, each with its own way back. Anything else ends the update:
the boards that were not asked keep the agent that they have. Boards that do not answer an order at
all, because nobody takes bundles there, count for nothing; but one that began and fell silent is as
bad as one that went back.

What is heard is not signed. It can hold an update up, or make us believe that a board is well; what
a board runs it cannot change.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

import attrs
from attrs import define, field, frozen

UPDATED: Final = "updated"
ROLLED_BACK: Final = "rolled_back"
REFUSED: Final = "refused"
WAITING: Final = "waiting"
SILENT: Final = "silent"
LOST: Final = "lost"
AWAY: Final = "away"

UNDER_WAY: Final = frozenset({"fetching", "installing"})
FAILED: Final = frozenset({ROLLED_BACK, REFUSED, LOST})
OVER: Final = FAILED | {UPDATED, SILENT}
_NEWS: Final = UNDER_WAY | {UPDATED, ROLLED_BACK, REFUSED}
"""What counts as a sign of life; whoever says something else is soon given up."""

SILENT_S: Final = 60.0
"""A board that is there answers an order at once, and one that is busy soon."""
STEADY_S: Final = 120.0
"""Boards say `updated` at READY; most bad agents have ended three times by then."""
LOST_S: Final = 900.0
"""Without news: fetching tells each twentieth, installing takes minutes on a slow board."""
TENTH: Final = 10


@frozen
class Wave:
    """An order that was given.

    Attributes:
        number: of the order.
        names: of the boards that it is for; None for all.
    """

    number: int
    names: tuple[str, ...] | None


@frozen
class Withdraw:
    """The order is to be taken back: no board may follow it any more."""


@define
class BoardState:
    """What is known of a board.

    Attributes:
        present: whether it is connected.
        state: see the module's constants.
        fetched: part of the bundle that is there, 0 to 1.
        reason: why it went back or refused.
        heard_at: when its state changed last.
    """

    present: bool = False
    state: str = WAITING
    fetched: float = 0.0
    reason: str = ""
    heard_at: float = 0.0


@frozen
class Heard:
    """What a board says of an update.

    Attributes:
        order: number of the order that it is about.
        state: as it says.
        fetched: see `BoardState`.
        reason: see `BoardState`.
    """

    order: int
    state: str
    fetched: float = 0.0
    reason: str = ""


class Rollout:
    """One update of a fleet.

    Args:
        names: of all boards of the fleet.
        next_number: of the next order.
        waves: those that were ordered already, by an earlier process.
        silent_s: see `SILENT_S`.
        lost_s: see `LOST_S`.
        steady_s: see `STEADY_S`.

    Attributes:
        boards: state of each board, by name.
        waves: orders given so far.
        stopped: why the update ended early, "" while it did not.
    """

    def __init__(
        self,
        names: Iterable[str],
        next_number: int,
        waves: Iterable[Wave] = (),
        *,
        silent_s: float = SILENT_S,
        lost_s: float = LOST_S,
        steady_s: float = STEADY_S,
    ) -> None:
        self.boards = {name: BoardState() for name in sorted(names)}
        self.waves = list(waves)
        self.stopped = ""
        self._next_number = next_number
        self._silent_s = silent_s
        self._lost_s = lost_s
        self._steady_s = steady_s
        self._ordered_at: float | None = None

    @property
    def complete(self) -> bool:
        """Whether all were asked, and all that are there have come to their end."""
        return (
            not self.stopped
            and bool(self.waves)
            and self.waves[-1].names is None
            and all(board.state in OVER for board in self._asked().values())
        )

    def present(self, name: str, *, is_there: bool) -> None:
        """A board came or went."""
        if name in self.boards:
            self.boards[name].present = is_there

    def heard(self, name: str, heard: Heard, now: float) -> bool:
        """A board tells of an update; gives whether that is news."""
        board = self.boards.get(name)
        if board is None or heard.order not in {wave.number for wave in self.waves}:
            return False
        told = (board.state, board.fetched, board.reason)
        if told == (heard.state, heard.fetched, heard.reason):
            return False
        board.state, board.fetched, board.reason = heard.state, heard.fetched, heard.reason
        if board.state in _NEWS:
            board.heard_at = now
        return True

    def tick(self, now: float) -> list[Wave | Withdraw]:
        """What is to be sent now."""
        if self.stopped:
            return []
        if self._ordered_at is None:
            self._ordered_at = now
            for board in self.boards.values():
                board.heard_at = max(board.heard_at, now)
        self._give_up_on_silent(now)
        failed = [(n, board) for n, board in self._asked().items() if board.state in FAILED]
        if failed:
            name, board = failed[0]
            return self._stop(f"{name}: {board.state}{board.reason and ': '}{board.reason}")
        if self.waves and not self._wave_is_over(now):
            return []
        return self._go_on(now)

    def _go_on(self, now: float) -> list[Wave | Withdraw]:
        """Give the next order."""
        if self.waves and self.waves[-1].names is None:
            return []
        waiting = [
            name for name, board in self.boards.items() if board.present and board.state == WAITING
        ]
        n_updated = sum(board.state == UPDATED for board in self.boards.values())
        n_there = sum(board.present for board in self.boards.values())
        if n_updated == 0:
            silent = [name for name, board in self.boards.items() if board.state == SILENT]
            if silent and not waiting:
                return self._stop(f"{', '.join(silent)}: no answer to the order")
            if not waiting:
                return []  # nobody is there yet
            return self._order((waiting[0],), now)
        tenth = -(-n_there // TENTH)
        if n_updated <= 1 and len(waiting) > tenth:
            return self._order(tuple(waiting[:tenth]), now)
        return self._order(None, now)

    def _order(self, names: tuple[str, ...] | None, now: float) -> list[Wave | Withdraw]:
        wave = Wave(self._next_number, names)
        self._next_number += 1
        self.waves.append(wave)
        for board in self._asked().values():
            if board.state not in OVER:
                board.heard_at = now
        return [wave]

    def _stop(self, reason: str) -> list[Wave | Withdraw]:
        self.stopped = reason
        return [Withdraw()]

    def _asked(self) -> dict[str, BoardState]:
        """Boards that an order was for and that are there, or have begun."""
        if not self.waves:
            return {}
        everybody = self.waves[-1].names is None
        named = {name for wave in self.waves for name in wave.names or ()}
        return {
            name: board
            for name, board in self.boards.items()
            if name in named or (everybody and (board.present or board.state != WAITING))
        }

    def _wave_is_over(self, now: float) -> bool:
        asked = self._asked().values()
        others_wait = any(
            board.present and board.state == WAITING for board in self.boards.values()
        )
        steady = all(
            now - board.heard_at >= self._steady_s for board in asked if board.state == UPDATED
        )
        return all(board.state in OVER for board in asked) and (steady or not others_wait)

    def _give_up_on_silent(self, now: float) -> None:
        for board in self._asked().values():
            quiet_s = now - board.heard_at
            if board.state == WAITING and quiet_s >= self._silent_s:
                board.state = SILENT
            elif board.state not in OVER | {WAITING} and quiet_s >= self._lost_s:
                board.reason = (
                    f"said {board.state}, and nothing more for {quiet_s / 60:.0f} minutes"
                )
                board.state = LOST

    def rows(self) -> Iterator[tuple[str, BoardState]]:
        """Each board as people are shown it: one that is not there waits as `away`."""
        for name, board in self.boards.items():
            away = board.state == WAITING and not board.present
            yield name, attrs.evolve(board, state=AWAY) if away else board


def _waves(entries: list[dict[str, Any]]) -> list[Wave]:
    return [
        Wave(entry["number"], None if entry["names"] is None else tuple(entry["names"]))
        for entry in entries
    ]


@frozen
class Shelved:
    """A bundle that the broker holds.

    Attributes:
        python: tag of the Python it is for.
        arch: processor it is for.
        digest: of its listing, hexadecimal.
        n_chunks: with the listing.
    """

    python: str
    arch: str
    digest: str
    n_chunks: int


@frozen
class Record:
    """What an update must know after its process ended: FLEET/updates.json.

    Attributes:
        last_number: of all orders ever given; only grows.
        version: that is being brought.
        shelved: bundles on the broker, also those of updates before that were not cleared yet.
        offered: digests of the bundles of this update.
        waves: orders of this update.
        ended: "" while it goes on, else how it ended.
    """

    last_number: int = 0
    version: str = ""
    shelved: tuple[Shelved, ...] = ()
    offered: tuple[str, ...] = ()
    waves: tuple[Wave, ...] = field(default=())
    ended: str = ""

    @classmethod
    def from_fields(cls, fields: dict[str, Any]) -> Record:
        """Read what `attrs.asdict` gave."""
        return cls(
            last_number=fields["last_number"],
            version=fields["version"],
            shelved=tuple(Shelved(**one) for one in fields["shelved"]),
            offered=tuple(fields["offered"]),
            waves=tuple(_waves(fields["waves"])),
            ended=fields["ended"],
        )
