"""Boards that ask for a certificate, and the answers to them: what waits, without any connection.

The coordinator can judge none of it: it has no code and no issuing key. It shows the owner what
waits, hands the answers on, and takes an answer back when its board was seen with it.

Anybody may ask in any name, as often as he likes. So all is bounded, and where there is no room a
request drawn at random makes place: a crowd can keep a board's request out for a while, but it
cannot fix the queue, and boards ask again. What is not repeated is forgotten. Names are shown to
the owner in turn; one that was displaced before has none, so that after a flood all that waits is
shown within `MAX_WAITING / SHOWN` looks.

Source: docs/protocol.md, section 13.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Final

from attrs import define, field, frozen

from fedring.shared.enrolment import (
    MAX_CARRIED,
    MAX_PER_NAME,
    Carried,
    Certified,
    decode_answer,
    decode_request,
    digest_of,
    serial_of,
)
from fedring.shared.errors import IdentityError, MessageError
from fedring.shared.identity import Authority

MAX_WAITING: Final = 256
"""Requests in all: with the longest, 640 KiB."""
FORGET_S: Final = 180.0
"""A request that was not repeated for so long is forgotten; boards repeat theirs each minute."""
SHOW_S: Final = 1.0
"""Least time between two looks at what is new: a flood must not flood the fleet's broker, too."""
SHOWN: Final = 32
"""Names shown at once, and as many withdrawn. So never more than `MAX_WAITING + SHOWN` names are
shown: a look that withdraws fewer than it may leaves only names that wait, and its new ones."""
GIVE_S: Final = 1.0
"""Least time between handing the same answer on twice."""
MAX_ANSWERS: Final = MAX_CARRIED
"""Answers whose boards were not yet seen with them."""
MAX_SEEN: Final = MAX_CARRIED
"""Boards whose certificates are remembered."""


@frozen
class Show:
    """Show the owner what waits in a name; nothing, when nothing does any more."""

    name: str
    requests: tuple[bytes, ...] = field(repr=lambda requests: f"<{len(requests)}>")


@frozen
class HandOn:
    """Give an answer to the board, at the listener for those without a certificate."""

    name: str
    answer: bytes = field(repr=False)


@frozen
class TakeBack:
    """The board was seen with its certificate: nobody needs the answer any more."""

    name: str


Effects = list[Show | HandOn | TakeBack]


@define
class _Waiting:
    name: str
    raw: bytes
    heard: float


@define
class _Answer:
    raw: bytes
    request: bytes
    serial: int
    given: float


class Queue:
    """What waits for the owner, and for the boards.

    Args:
        authority: of the fleet.
        choose: draws from 0 to n - 1, for n >= 1.

    Attributes:
        deadline: when `tick` wants to be called; None when nothing is due.
        changes: counts what changed; for whoever keeps a copy of `carried`.
    """

    def __init__(self, authority: Authority, choose: Callable[[int], int]) -> None:
        self._authority: Final = authority
        self._choose: Final = choose
        self._waiting: Final[dict[bytes, _Waiting]] = {}  # by digest
        self._answers: Final[dict[str, _Answer]] = {}  # by name, the oldest first
        self._serials: Final[dict[str, int]] = {}
        # Names, whoever waits the longest first: that wait and were not shown as they are now; that
        # are shown; that are shown and wait no more.
        self._unshown: Final[dict[str, None]] = {}
        self._shown: Final[set[str]] = set()
        self._gone: Final[dict[str, None]] = {}
        self._shown_at = -SHOW_S
        self.changes = 0

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def deadline(self) -> float | None:
        """When `tick` wants to be called."""
        due = [min((one.heard for one in self._waiting.values()), default=None)]
        due = [None if one is None else one + FORGET_S for one in due]
        if self._unshown or self._gone:
            due.append(self._shown_at + SHOW_S)
        return min((one for one in due if one is not None), default=None)

    def receive(self, name: str, raw: bytes, now: float) -> Effects:
        """Take a request that came on the topic of `name`; anybody may have written it.

        Raises:
            MessageError: none, or one of another fleet or name.
        """
        request = decode_request(raw)
        if (request.fleet, request.name) != (self._authority.fleet, name):
            raise MessageError("asks in another name than it came in", kind=request.KIND)
        effects = self._give_again(name, now)
        digest = digest_of(raw)
        answer = self._answers.get(name)
        if answer is not None and answer.request == digest:
            return effects
        known = self._waiting.get(digest)
        if known is not None:
            known.heard = now
            return effects
        self._make_room(name)
        self._waiting[digest] = _Waiting(name, raw, now)
        self._changed(name)
        return effects

    def answer(self, name: str, raw: bytes, now: float) -> Effects:
        """Take what the owner answers to the board `name`; nothing takes an answer back.

        Raises:
            MessageError: no answer.
            IdentityError: a certificate that is not of the fleet, or in another name.
        """
        if not raw:
            self._answers.pop(name, None)
            return []
        answer = decode_answer(raw)
        if not isinstance(answer, Certified):
            self._drop(answer.request, name)
            return [HandOn(name, raw)]
        if self._authority.peer(answer.certificate).name != name:
            raise IdentityError("certificate in another name than it came in", kind=answer.KIND)
        self._drop(answer.request, name)
        serial = serial_of(answer.certificate)
        if self._serials.get(name) == serial:
            return [TakeBack(name)]
        self._answers.pop(name, None)
        self._answers[name] = _Answer(raw, answer.request, serial, now)
        while len(self._answers) > MAX_ANSWERS:
            del self._answers[next(iter(self._answers))]
        return [HandOn(name, raw)]

    def saw(self, name: str, serial: int) -> Effects:
        """A board was seen under mutual TLS with this certificate."""
        if self._serials.get(name) != serial:
            self._serials.pop(name, None)
            self._serials[name] = serial
            while len(self._serials) > MAX_SEEN:
                del self._serials[next(iter(self._serials))]
            self.changes += 1
        answer = self._answers.get(name)
        if answer is None or answer.serial != serial:
            return []
        del self._answers[name]
        return [TakeBack(name)]

    def tick(self, now: float) -> Effects:
        """Forget what is too old, and show what is new."""
        for digest, one in list(self._waiting.items()):
            if now - one.heard >= FORGET_S:
                self._drop(digest, one.name)
        if not (self._unshown or self._gone) or now < self._shown_at + SHOW_S:
            return []
        self._shown_at = now
        gone, new = list(islice(self._gone, SHOWN)), list(islice(self._unshown, SHOWN))
        for name in gone:
            del self._gone[name]
        for name in new:
            del self._unshown[name]
        self._shown.difference_update(gone)
        self._shown.update(new)
        return [Show(name, tuple(self._of(name))) for name in (*gone, *new)]

    def reconnected(self) -> None:
        """The fleet's broker may have lost what it was shown."""
        self._unshown.update(dict.fromkeys(one.name for one in self._waiting.values()))

    @property
    def carried(self) -> Carried:
        """What the owner is to see, as a file."""
        return Carried(
            fleet=self._authority.fleet,
            items=tuple((one.name, one.raw) for one in self._waiting.values()),
            seen=tuple(self._serials.items()),
        )

    def _of(self, name: str) -> Iterator[bytes]:
        return (one.raw for one in self._waiting.values() if one.name == name)

    def _give_again(self, name: str, now: float) -> Effects:
        answer = self._answers.get(name)
        if answer is None or now < answer.given + GIVE_S:
            return []
        answer.given = now
        return [HandOn(name, answer.raw)]

    def _make_room(self, name: str) -> None:
        own = [digest for digest, one in self._waiting.items() if one.name == name]
        if len(own) >= MAX_PER_NAME:
            self._drop(own[self._choose(len(own))], name)
        elif len(self._waiting) >= MAX_WAITING:
            digests = list(self._waiting)
            digest = digests[self._choose(len(digests))]
            self._drop(digest, self._waiting[digest].name)

    def _drop(self, digest: bytes, name: str) -> None:
        one = self._waiting.get(digest)
        if one is not None and one.name == name:
            del self._waiting[digest]
            self._changed(name)

    def _changed(self, name: str) -> None:
        self.changes += 1
        if any(self._of(name)):
            self._gone.pop(name, None)
            self._unshown[name] = None
            return
        self._unshown.pop(name, None)
        if name in self._shown:
            self._gone[name] = None
