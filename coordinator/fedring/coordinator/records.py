"""What the coordinator's history is made of: versions of the model, and the rounds between them.

Versions are a chain. Version 0 is the model that training began with and is its own parent; every
later version is one above its parent. Going back to an older model is a step forward too: a new
version with the old arrays. Each version carries a link, SHA-256 over its parent's link and all
that the record says: the newest link pins the whole history, and `check_chain` finds the first
record that was changed, lost or put in between.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, Literal, TypeAlias

from attrs import asdict, evolve, field, frozen

from fedring.shared.errors import StateError

Task: TypeAlias = Literal["initial", "train", "statistics", "rollback"]
"""How a version came about; `train` and `statistics` are the tasks of a round."""

FIRST_VERSION = 0
NO_LINK = bytes(32)

_LINK_TAG = b"fedring/1 history\0"
_RESTORE = "restore the newest backup: fedring coordinator restore FILE"
_DAMAGE = (ValueError, LookupError, TypeError, AttributeError, RecursionError)


@frozen(kw_only=True)
class Version:
    """One version of the model, and how it came about.

    Attributes:
        version: grows by one with every record, from 0.
        parent: the version before; 0 for the first.
        task: how it came about.
        epoch: epoch at that time.
        round: round that made it, or the last one announced when no round did.
        digest: of the model's manifest, 32 bytes.
        contributors: how many devices' updates are in it.
        metrics: accuracy and the like, of this very model; what JSON can hold.
        plan: what the devices were asked to do.
        source: for a rollback the version whose arrays these are.
        created: UTC, ISO 8601.
        note: for people.
        link: SHA-256 over the parent's link and this record.
    """

    version: int
    parent: int
    task: Task
    epoch: int
    round: int
    digest: bytes
    contributors: int = 0
    metrics: Mapping[str, Any] = field(factory=dict)
    plan: Mapping[str, Any] = field(factory=dict)
    source: int | None = None
    created: str
    note: str = ""
    link: bytes = NO_LINK

    def facts(self) -> dict[str, Any]:
        """The record as JSON holds it, digests in hexadecimal."""
        return asdict(self) | {"digest": self.digest.hex(), "link": self.link.hex()}

    def record(self) -> str:
        """The record as it is stored: JSON in one line, all but the link."""
        facts = self.facts()
        del facts["link"]
        return json.dumps(facts, sort_keys=True, separators=(",", ":"), allow_nan=False)

    @classmethod
    def from_record(cls, record: str, link: bytes) -> Version:
        """Read what `record` gave.

        Raises:
            StateError: it gave something else.
        """
        try:
            facts = json.loads(record)
            version = cls(**facts | {"digest": bytes.fromhex(facts["digest"])}, link=link)
            version.record()  # JSON reads numbers that it does not write
        except _DAMAGE as error:
            raise _damaged("a version of the model history") from error
        return version

    def linked(self, parent_link: bytes) -> Version:
        """This record with its link."""
        linked = sha256(_LINK_TAG + parent_link + self.record().encode())
        return evolve(self, link=linked.digest())


def check_chain(versions: Iterable[Version]) -> None:
    """See that a history is whole.

    Args:
        versions: all of them, oldest first.

    Raises:
        StateError: a record is missing or was changed; says which.
    """
    link, parent = NO_LINK, FIRST_VERSION
    for expected, version in enumerate(versions, start=FIRST_VERSION):
        whole = (version.version, version.parent) == (expected, parent)
        if not whole or version.linked(link) != version:
            raise StateError(
                f"the model history is broken at version {expected}",
                name="state.damaged",
                hint=_RESTORE,
            )
        link, parent = version.link, version.version


def _damaged(what: str) -> StateError:
    return StateError(f"{what} is damaged", name="state.damaged", hint=_RESTORE)


def _numbers(numbers: Iterable[int]) -> tuple[int, ...]:
    return tuple(numbers)


@frozen(kw_only=True)
class VoidRing:
    """A ring that gave nothing.

    Attributes:
        ring: its number within the round.
        reason: why, for people.
        members: device numbers of its roster.
        silent: those that the coordinator itself waited for in vain.
    """

    ring: int
    reason: str
    members: tuple[int, ...] = field(default=(), converter=_numbers)
    silent: tuple[int, ...] = field(default=(), converter=_numbers)


@frozen(kw_only=True)
class Outcome:
    """How a round ended.

    Attributes:
        epoch: of the round.
        round: its number within the epoch.
        task: what it was for.
        contributors: devices in the applied sum, 0 when nothing was applied.
        rings: rings formed.
        late_rings: those of them made of latecomers, outside their cohorts.
        void_rings: rings that gave nothing.
        seconds: duration of each phase, by its name.
        traffic: bytes by class of topic.
        reason: why nothing was applied; "" when a sum was.
    """

    epoch: int
    round: int
    task: Task = "train"
    contributors: int = 0
    rings: int = 0
    late_rings: int = 0
    void_rings: tuple[VoidRing, ...] = ()
    seconds: Mapping[str, float] = field(factory=dict)
    traffic: Mapping[str, int] = field(factory=dict)
    reason: str = ""

    def record(self) -> str:
        """The outcome as it is stored: JSON in one line."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":"), allow_nan=False)

    @classmethod
    def from_record(cls, record: str) -> Outcome:
        """Read what `record` gave.

        Raises:
            StateError: it gave something else.
        """
        try:
            facts = json.loads(record)
            rings = tuple(VoidRing(**ring) for ring in facts["void_rings"])
            outcome = cls(**facts | {"void_rings": rings})
            outcome.record()  # as above
        except _DAMAGE as error:
            raise _damaged("the outcome of a round") from error
        return outcome


@frozen(kw_only=True)
class Round:
    """A round as the history keeps it.

    Attributes:
        epoch: the epoch that its number counts in.
        round: its number, from 1.
        outcome: how it ended; None while it runs, or when the coordinator died in it.
        version: the version that it made.
        announced: when its number was taken, UTC, ISO 8601.
        ended: when its outcome was stored; "" before that.
    """

    epoch: int
    round: int
    outcome: Outcome | None = None
    version: int | None = None
    announced: str
    ended: str = ""


def now_text() -> str:
    """The present moment in UTC, ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
