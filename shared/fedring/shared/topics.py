"""The topic tree: every topic that fedring writes or reads is named here, once.

`LAYOUT` says for each kind of topic how it is spelled, who writes it, whether the broker retains
it, and of what type its payload is. `Topics` builds topics from it and reads them back.

What changes with each round is retained in a fixed number of places that are used again: Mosquitto
2.0 keeps a few hundred bytes for ever of each topic on which something was ever retained.

A topic names its writer, so that a broker's access list can pin it. Nothing here is trusted:
who really wrote a message is settled by its signature (`identity.py`), never by its topic.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from enum import StrEnum
from functools import lru_cache
from typing import Final

from attrs import frozen

COORDINATOR: Final = "coordinator"
"""The coordinator's name where a name of a device could stand; no device may carry it."""

OTHER: Final = "other"
"""Topic class of topics that are not ours."""

_NAME: Final = re.compile(r"[a-z0-9-]{1,32}")
_NUMBER: Final = re.compile(r"0|[1-9][0-9]{0,8}")  # one spelling for each number
_PLACE: Final = re.compile(r"[0-9a-f]{2}")
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
HISTORY_PLACES: Final = 100
"""So many versions of the history are retained; the next one takes the place of the oldest."""
_REMEMBERED: Final = 1024  # topics read lately: more than a coordinator meets in a round


class Payload(StrEnum):
    """What the bytes on a topic are."""

    JSON = "json"
    """An object for people and dashboards; nothing in the protocol depends on it."""
    ENVELOPE = "envelope"
    """A signed message (`messages.Envelope`)."""
    CHUNK = "chunk"
    """Raw bytes of a model or bundle, held by the digest in the topic."""
    ENROLMENT = "enrolment"
    """A message of `enrolment`: it proves itself, or is a hint."""


class Writer(StrEnum):
    """Who may write a topic."""

    COORDINATOR = "coordinator"
    DEVICE = "device"
    MEMBER = "device or coordinator"
    OWNER = "owner or coordinator"
    """The owner's machine; the coordinator where answers are carried to it in a file."""
    OWNER_ALONE = "owner"


@frozen
class CoordinatorStatus:
    """State of the coordinator."""


@frozen
class Round:
    """The announce of the running round."""


@frozen
class ModelChunk:
    """One chunk of a model; chunk 0 is the manifest, whose SHA-256 is the model's digest.

    Attributes:
        place: the digest's first two hexadecimal digits; now and then two models share it.
        index: of the chunk.
    """

    place: str
    index: int


@frozen
class Key:
    """The coordinator's public Paillier key, for watchers."""


@frozen
class History:
    """How a version of the model came about.

    Attributes:
        place: the version modulo `HISTORY_PLACES`.
    """

    place: int


@frozen
class Revoked:
    """The revocation list of the fleet authority."""


@frozen
class DeviceStatus:
    """State of a device."""

    name: str


@frozen
class DeviceUpdate:
    """State of an agent update on a device."""

    name: str


@frozen
class Inbox:
    """A message from `sender` to `receiver`; either may be the coordinator."""

    receiver: str
    sender: str


@frozen
class EnrolmentRequest:
    """A board asks for a certificate."""

    name: str


@frozen
class EnrolmentWaiting:
    """The requests in one board's name that wait for the owner."""

    name: str


@frozen
class EnrolmentAnswer:
    """The owner's answer to a board's request."""

    name: str


@frozen
class BundleChunk:
    """One chunk of an agent's bundle; chunk 0 is the listing whose SHA-256 is the digest."""

    digest: bytes
    index: int


@frozen
class Update:
    """The owner's order to run another fedring."""


@frozen
class Event:
    """Something that happened, for watchers."""


Topic = (
    CoordinatorStatus
    | Round
    | ModelChunk
    | Key
    | History
    | Revoked
    | DeviceStatus
    | DeviceUpdate
    | Inbox
    | EnrolmentRequest
    | EnrolmentWaiting
    | EnrolmentAnswer
    | BundleChunk
    | Update
    | Event
)


@frozen
class Row:
    """One kind of topic.

    `pattern` is the topic below `<root>/<fleet>/`; `{name}`, `{number}` and `{digest}` stand for
    one level each, `make` is called with their values in order.
    """

    pattern: str
    make: Callable[..., Topic]
    traffic: str
    writer: Writer
    retained: bool
    payload: Payload

    @property
    def filter(self) -> str:
        """The pattern with `+` for each variable level, as brokers take it."""
        return re.sub(r"\{\w+\}", "+", self.pattern)


def _to_coordinator(sender: str) -> Inbox:
    return Inbox(COORDINATOR, sender)


LAYOUT: Final = (
    Row("coordinator/status", CoordinatorStatus, "status", Writer.COORDINATOR, True, Payload.JSON),
    Row("round", Round, "round", Writer.COORDINATOR, True, Payload.ENVELOPE),
    Row("model/{place}/{number}", ModelChunk, "model", Writer.COORDINATOR, True, Payload.CHUNK),
    Row("key", Key, "key", Writer.COORDINATOR, True, Payload.JSON),
    Row("history/{number}", History, "history", Writer.COORDINATOR, True, Payload.JSON),
    Row("revoked", Revoked, "revoked", Writer.COORDINATOR, True, Payload.ENVELOPE),
    Row("device/{name}/status", DeviceStatus, "status", Writer.DEVICE, True, Payload.JSON),
    Row("device/{name}/update", DeviceUpdate, "update", Writer.DEVICE, True, Payload.JSON),
    Row("device/{name}/inbox/{name}", Inbox, "inbox", Writer.MEMBER, False, Payload.ENVELOPE),
    Row(
        "coordinator/inbox/{name}", _to_coordinator, "inbox", Writer.DEVICE, False, Payload.ENVELOPE
    ),
    Row(
        "enrol/request/{name}",
        EnrolmentRequest,
        "enrolment",
        Writer.DEVICE,
        False,
        Payload.ENROLMENT,
    ),
    Row(
        "enrol/waiting/{name}",
        EnrolmentWaiting,
        "enrolment",
        Writer.COORDINATOR,
        True,
        Payload.ENROLMENT,
    ),
    Row(
        "enrol/answer/{name}",
        EnrolmentAnswer,
        "enrolment",
        Writer.OWNER,
        True,
        Payload.ENROLMENT,
    ),
    Row("bundle/{digest}/{number}", BundleChunk, "bundle", Writer.OWNER_ALONE, True, Payload.CHUNK),
    Row("update", Update, "update", Writer.OWNER_ALONE, True, Payload.ENVELOPE),
    Row("event", Event, "event", Writer.COORDINATOR, False, Payload.JSON),
)
"""The whole tree. `traffic` is the topic class under which byte counters sum up."""


def is_name(text: str) -> bool:
    """Whether `text` can name a device or a fleet: 1 to 32 of a-z, 0-9 and hyphen."""
    return _NAME.fullmatch(text) is not None


def model_place(digest: bytes) -> str:
    """Give the level of topics that a model with this SHA-256 digest (32 bytes) has."""
    return _digest_level(digest)[:2]


class Topics:
    """The topics of one fleet, spelled out and read back.

    Args:
        fleet: the fleet's name.
        root: first level or levels of every topic.

    Raises:
        ValueError: a name that cannot stand in a topic.
    """

    def __init__(self, fleet: str, root: str = "fedring") -> None:
        if not is_name(fleet):
            raise ValueError(f"{fleet!r} cannot name a fleet")
        if not all(is_name(level) for level in root.split("/")):
            raise ValueError(f"{root!r} cannot be the root of topics")
        self.fleet = fleet
        self.root = root
        self._prefix = f"{root}/{fleet}/"
        self._find: Final = lru_cache(maxsize=_REMEMBERED)(self._search)

    def __repr__(self) -> str:
        return f"Topics({self.fleet!r}, root={self.root!r})"

    # What the coordinator writes

    @property
    def coordinator_status(self) -> str:
        return self._prefix + "coordinator/status"

    @property
    def round(self) -> str:
        return self._prefix + "round"

    @property
    def key(self) -> str:
        return self._prefix + "key"

    @property
    def revoked(self) -> str:
        return self._prefix + "revoked"

    @property
    def event(self) -> str:
        return self._prefix + "event"

    def model_chunk(self, digest: bytes, index: int) -> str:
        """Topic of chunk `index` of the model with this SHA-256 digest (32 bytes)."""
        return f"{self._prefix}model/{model_place(digest)}/{_number_level(index)}"

    def history(self, version: int) -> str:
        """Topic of the record of a version, >= 0; the version is in its payload."""
        if version < 0:
            raise ValueError(f"{version} is no version")
        return f"{self._prefix}history/{version % HISTORY_PLACES}"

    # What the owner writes

    @property
    def update(self) -> str:
        return self._prefix + "update"

    def bundle_chunk(self, digest: bytes, index: int) -> str:
        """Topic of chunk `index` of the bundle whose listing has this SHA-256 (32 bytes)."""
        return f"{self._prefix}bundle/{_digest_level(digest)}/{_number_level(index)}"

    # What devices write

    def device_status(self, name: str) -> str:
        return f"{self._prefix}device/{_name_level(name)}/status"

    def device_update(self, name: str) -> str:
        return f"{self._prefix}device/{_name_level(name)}/update"

    # What members write to each other

    def inbox(self, receiver: str, sender: str) -> str:
        """Topic of a message from `sender` to `receiver`; `COORDINATOR` may be either."""
        if receiver == COORDINATOR:
            return self.coordinator_inbox(sender)
        return self.device_inbox(receiver, sender)

    def device_inbox(self, name: str, sender: str) -> str:
        return f"{self._prefix}device/{_name_level(name)}/inbox/{_name_level(sender)}"

    def coordinator_inbox(self, name: str) -> str:
        """Topic of a message from device `name` to the coordinator."""
        return f"{self._prefix}coordinator/inbox/{_name_level(name)}"

    # How boards come by their certificates

    def enrolment_request(self, name: str) -> str:
        """Topic on which board `name` asks; anybody may write it on the enrolment listener."""
        return f"{self._prefix}enrol/request/{_name_level(name)}"

    def enrolment_waiting(self, name: str) -> str:
        """Topic of what waits in the name of a board."""
        return f"{self._prefix}enrol/waiting/{_name_level(name)}"

    def enrolment_answer(self, name: str) -> str:
        """Topic on which board `name` is answered."""
        return f"{self._prefix}enrol/answer/{_name_level(name)}"

    # Filters to subscribe to

    def inbox_of(self, receiver: str) -> str:
        """Filter of everything written to `receiver`, a device or `COORDINATOR`."""
        if receiver == COORDINATOR:
            return self._prefix + "coordinator/inbox/+"
        return f"{self._prefix}device/{_name_level(receiver)}/inbox/+"

    def model(self, digest: bytes) -> str:
        """Filter of all chunks of one model; those of another may come along."""
        return f"{self._prefix}model/{model_place(digest)}/+"

    def everywhere(self, kind: type[Topic]) -> list[str]:
        """Filters of all topics of one kind, such as the status of every device."""
        rows = (row for row in LAYOUT if row.make is kind)
        return [self._prefix + row.filter for row in rows]

    # Reading

    def parse(self, topic: str) -> Topic | None:
        """Read a topic back; None for topics that this fleet does not have."""
        found = self._find(topic)
        if found is None:
            return None
        _, read = found
        return read

    def row(self, topic: str) -> Row | None:
        """The line of `LAYOUT` that a topic belongs to; None for foreign topics."""
        found = self._find(topic)
        return None if found is None else found[0]

    def classify(self, topic: str) -> str:
        """The topic class that byte counters use, such as "inbox" or "model"; else "other"."""
        row = self.row(topic)
        return OTHER if row is None else row.traffic

    def _search(self, topic: str) -> tuple[Row, Topic] | None:
        if not topic.startswith(self._prefix):
            return None
        levels = topic[len(self._prefix) :].split("/")
        for row, pattern in _PATTERNS.get(len(levels), ()):
            values = _match(pattern, levels)
            if values is not None:
                return row, row.make(*values)
        return None


def _name_level(name: str) -> str:
    if not is_name(name):
        raise ValueError(f"{name!r} cannot stand for a device in a topic")
    return name


def _number_level(number: int) -> str:
    text = str(number)
    if not _NUMBER.fullmatch(text):
        raise ValueError(f"{number} cannot stand in a topic")
    return text


def _digest_level(digest: bytes) -> str:
    text = digest.hex()
    if not _DIGEST.fullmatch(text):
        raise ValueError(f"a digest has 32 bytes, not {len(digest)}")
    return text


_READERS: Final[dict[str, tuple[re.Pattern[str], Callable[[str], object]]]] = {
    "{name}": (_NAME, str),
    "{number}": (_NUMBER, int),
    "{place}": (_PLACE, str),
    "{digest}": (_DIGEST, bytes.fromhex),
}


def _match(pattern: list[str], levels: list[str]) -> list[object] | None:
    values: list[object] = []
    for expected, level in zip(pattern, levels, strict=True):
        if expected not in _READERS:
            if level != expected:
                return None
            continue
        spelling, read = _READERS[expected]
        if not spelling.fullmatch(level):
            return None
        values.append(read(level))
    return values


def _by_depth() -> dict[int, list[tuple[Row, list[str]]]]:
    table: dict[int, list[tuple[Row, list[str]]]] = {}
    for row in LAYOUT:
        pattern = row.pattern.split("/")
        table.setdefault(len(pattern), []).append((row, pattern))
    return table


_PATTERNS: Final = _by_depth()
