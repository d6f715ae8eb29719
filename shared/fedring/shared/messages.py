"""Every message of the ring protocol, as a typed struct with its limits.

The messages in the order of a round: `Announce` (or `Rest`, between rounds), `Ready`, `Roster`,
`Lap`, `Hop` and `Chunk` (a token on its way), the answers to a hop (`Progress`, `Taken`, `Passed`,
`Busy`), `Call`, `Here`, `List`, `Release`; and `Refused`, which answers any of them. Names inside
messages are device numbers; the coordinator is number 0. No message names its receiver, so the
same signed bytes serve whoever must see them.

Structs hold limits of form only (lengths, ranges). What a message *means* for a round is checked
by the state machines that receive it. The codec is in `envelopes`.

Source: docs/protocol.md, sections 2 to 4.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from attrs import field, frozen
from attrs.validators import and_, in_, matches_re

COORDINATOR_NUMBER = 0
COORDINATOR_NAME = "coordinator"

DIGEST_BYTES = 32
EXCHANGE_KEY_BYTES = 32
MAX_UINT32 = 2**32 - 1
MAX_ROSTER = 64
MAX_LAPS = 3
CHUNK_BYTES = 64 * 1024
"""Greatest payload of one chunk: hosted brokers cut at 128 KB (AWS IoT), ours stay well below."""
MAX_CERTIFICATE_BYTES = 1024
MAX_READY_BYTES = 1536
"""One `ready` envelope; 64 of them must fit into one roster, so below 96 KiB together."""
MAX_REASON_CHARACTERS = 200
MAX_BODY_BYTES = 64 * 1024 * 1024
"""16 million weights: more than a board with 512 MB could train, and a bound for every buffer."""
USUAL_LIMIT_S = 3_600.0
"""Longest duration that a device accepts, unless its owner says otherwise; no lap is longer."""
MAX_SEALED_BYTES = 65 * 1024
"""The longest release of suite `paillier`, sealed: 65,296 bytes at 3072 bits, 66,259 at 3729."""

_Validator = Callable[[Any, Any, Any], None]


def _length(low: int, high: int) -> _Validator:
    def check(_: object, attribute: Any, value: Any) -> None:
        if not low <= len(value) <= high:
            expected = f"{low}" if low == high else f"{low} to {high}"
            raise ValueError(f"{attribute.name} has length {len(value)}, expected {expected}")

    return check


def _each(inner: _Validator) -> _Validator:
    def check(instance: object, attribute: Any, value: Any) -> None:
        for item in value:
            inner(instance, attribute, item)

    return check


def _printable(_: object, attribute: Any, value: str) -> None:
    if not value.isprintable():  # it ends up on terminals
        raise ValueError(f"{attribute.name} is not one printable line")


def _range(low: float, high: float) -> _Validator:
    def check(_: object, attribute: Any, value: Any) -> None:
        if not low <= value <= high:
            raise ValueError(f"{attribute.name} is {value}, expected {low:,} to {high:,}")

    return check


def _digest() -> Any:
    return field(validator=_length(DIGEST_BYTES, DIGEST_BYTES))


def _number(low: int = 0, high: int = MAX_UINT32) -> Any:
    return field(validator=_range(low, high))


def _names(low: int = 1) -> Any:
    return field(validator=and_(_length(low, MAX_ROSTER), _each(_range(1, MAX_UINT32))))


@frozen(kw_only=True)
class Message:
    """What every message begins with: the tag that its signature and its digest stand under.

    Attributes:
        fleet: name of the fleet, [a-z0-9-]{1,32}.
        epoch: epoch of the fleet, >= 1.
        round: round number within the epoch, >= 1.
        sender: device number of the writer, 0 for the coordinator.
    """

    kind: ClassVar[str]

    fleet: str = field(validator=matches_re(r"[a-z0-9-]{1,32}"))
    epoch: int = _number(1)
    round: int = _number(1)
    sender: int = _number()


def one_line(reason: str) -> str:
    """Whatever went wrong, in the form of a reason: printable, one line, not empty, cut."""
    words = " ".join(reason.split())
    printable = "".join(one if one.isprintable() else "?" for one in words)
    return printable[:MAX_REASON_CHARACTERS] or "no reason given"


def tag(fleet: str, epoch: int, number: int, sender: int) -> dict[str, Any]:
    """The fields that every message of round `number` begins with, for its constructor."""
    return {"fleet": fleet, "epoch": epoch, "round": number, "sender": sender}


@frozen(kw_only=True)
class ModelReference:
    """Which model a round starts from.

    Attributes:
        version: number in the coordinator's model history, >= 0.
        parent: version it was made from, itself for the first.
        digest: SHA-256 of the model's manifest (chunk 0).
        size: bytes of all chunks together.
    """

    version: int = _number()
    parent: int = _number()
    digest: bytes = _digest()
    size: int = _number(1, MAX_BODY_BYTES * 2)


@frozen(kw_only=True)
class Plan:
    """What a device is asked to do with the model and its own data.

    Attributes:
        task: `train` (gives an update) or `statistics` (gives sums for the normalisation).
        epochs: passes over the local data, 1..1000.
        batch: samples in a step, 1..65,536.
        rate: step size of SGD, > 0.
        clip: L2 bound of an update; 0 for none.
        value_range: greatest magnitude of one value, in units of a weight, > 0.
        evaluation_samples: own samples on which the incoming model is evaluated, 0..127.
        max_samples: greatest number of samples that enter a `statistics` sum.
    """

    task: str = field(validator=in_(("train", "statistics")))
    epochs: int = _number(1, 1000)
    batch: int = _number(1, 65536)
    rate: float = field(validator=_range(1e-12, 1e3))
    clip: float = field(validator=_range(0, 1e9))
    value_range: float = field(validator=_range(1e-9, 1e9))
    evaluation_samples: int = _number(0, 127)
    max_samples: int = _number(1, 1_000_000)


@frozen(kw_only=True)
class RingTerms:
    """Size and durations of this round's rings, in seconds on each party's own monotonic clock.

    Attributes:
        size: members that a ring is dealt, 2..64.
        ready_s: how long rings wait for members after the first `ready`.
        patience_s: how long a silent neighbour is waited for.
        release_s: how long the coordinator waits for releases.
        lap_s: longest time of one lap.
    """

    size: int = _number(2, MAX_ROSTER)
    ready_s: float = field(validator=_range(0.05, 86_400))
    patience_s: float = field(validator=_range(0.05, 3_600))
    release_s: float = field(validator=_range(0.05, 3_600))
    lap_s: float = field(validator=_range(0.05, 86_400))


@frozen(kw_only=True)
class Announce(Message):
    """A round begins (coordinator, retained).

    Attributes:
        model: the model to start from.
        plan: what to do with it.
        ring: sizes and durations.
        suite: name of the encryption suite.
        bits: width of a coded value, 8 or 16.
        n_values: length of the vector that every contributor adds.
        paillier_n: the Paillier modulus, big-endian.
        exchange_key: the coordinator's X25519 key of this announce.
        revocation: number of the revocation list that this round goes by.
        certificate: the coordinator's certificate (DER).
    """

    kind: ClassVar[str] = "announce"

    model: ModelReference
    plan: Plan
    ring: RingTerms
    suite: str = field(validator=matches_re(r"[a-z0-9-]{1,16}"))
    bits: int = field(validator=in_((8, 16)))
    n_values: int = _number(1, MAX_BODY_BYTES)
    paillier_n: bytes = field(validator=_length(8, 512))
    exchange_key: bytes = field(validator=_length(EXCHANGE_KEY_BYTES, EXCHANGE_KEY_BYTES))
    revocation: int = _number()
    certificate: bytes = field(validator=_length(1, MAX_CERTIFICATE_BYTES))


@frozen(kw_only=True)
class Rest(Message):
    """No round is running (coordinator, retained, in place of an announce).

    Its round number is that of the last round; whoever is still in that round may leave it.

    Attributes:
        model: the newest model, to be kept and used until the next round.
        certificate: the coordinator's certificate (DER).
    """

    kind: ClassVar[str] = "rest"

    model: ModelReference
    certificate: bytes = field(validator=_length(1, MAX_CERTIFICATE_BYTES))


@frozen(kw_only=True)
class Ready(Message):
    """A device has an update to contribute and waits for its roster.

    Attributes:
        announce: digest of the announce it answers.
        certificate: its certificate (DER).
        threshold: it releases only for lists of more names than this.
        round_key: its X25519 key of this round.
    """

    kind: ClassVar[str] = "ready"

    announce: bytes = _digest()
    certificate: bytes = field(validator=_length(1, MAX_CERTIFICATE_BYTES))
    threshold: int = _number(1, MAX_ROSTER)
    round_key: bytes = field(validator=_length(EXCHANGE_KEY_BYTES, EXCHANGE_KEY_BYTES))


@frozen(kw_only=True)
class Roster(Message):
    """The members of one ring (coordinator).

    Attributes:
        announce: digest of the announce.
        ring: number of the ring within the round, >= 1; for logs.
        readies: the members' own `ready` envelopes, at most 64.
    """

    kind: ClassVar[str] = "roster"

    announce: bytes = _digest()
    ring: int = _number(1)
    readies: tuple[bytes, ...] = field(
        validator=and_(_length(2, MAX_ROSTER), _each(_length(1, MAX_READY_BYTES)))
    )


@frozen(kw_only=True)
class Lap(Message):
    """A token is to go round in this order (coordinator).

    Attributes:
        roster: digest of the roster.
        lap: 1 to 3.
        order: the members believed alive; the first starts the token.
    """

    kind: ClassVar[str] = "lap"

    roster: bytes = _digest()
    lap: int = _number(1, MAX_LAPS)
    order: tuple[int, ...] = _names()


@frozen(kw_only=True)
class Hop(Message):
    """Header of a token on its way from one member to the next.

    Attributes:
        lap: the signed lap, as its envelope.
        names: who is in the sum, in order of adding; the sender last.
        size: bytes of the summed body; `ceil(size / CHUNK_BYTES)` chunks follow.
    """

    kind: ClassVar[str] = "hop"

    lap: bytes = field(validator=_length(1, 4096))
    names: tuple[int, ...] = _names()
    size: int = _number(1, MAX_BODY_BYTES)

    @property
    def n_chunks(self) -> int:
        return -(-self.size // CHUNK_BYTES)


@frozen(kw_only=True)
class Chunk(Message):
    """A piece of the summed body.

    Attributes:
        hop: digest of the hop it belongs to.
        index: 0 .. n_chunks - 1.
        data: `CHUNK_BYTES` bytes, the last chunk what is left.
    """

    kind: ClassVar[str] = "chunk"

    hop: bytes = _digest()
    index: int = _number()
    data: bytes = field(validator=_length(1, CHUNK_BYTES))


@frozen(kw_only=True)
class Progress(Message):
    """Answer to a hop: the first `chunks` chunks are here."""

    kind: ClassVar[str] = "progress"

    about: bytes = _digest()
    chunks: int = _number()


@frozen(kw_only=True)
class Taken(Message):
    """Answer to a hop or a lap: the token is whole here and holds the answerer's body."""

    kind: ClassVar[str] = "taken"

    about: bytes = _digest()


@frozen(kw_only=True)
class Passed(Message):
    """Answer to a hop: the next has taken the token; its holder may forget it."""

    kind: ClassVar[str] = "passed"

    about: bytes = _digest()


@frozen(kw_only=True)
class Busy(Message):
    """Answer to a hop: no room for another token just now."""

    kind: ClassVar[str] = "busy"

    about: bytes = _digest()


@frozen(kw_only=True)
class Refused(Message):
    """Answer to any message: what was asked will not be done, and why.

    Attributes:
        about: digest of the refused message.
        reason: one line for people, at most 200 characters.
    """

    kind: ClassVar[str] = "refused"

    about: bytes = _digest()
    reason: str = field(validator=and_(_length(1, MAX_REASON_CHARACTERS), _printable))


@frozen(kw_only=True)
class Call(Message):
    """Still there? Asked of every contributor before the one-shot release (coordinator)."""

    kind: ClassVar[str] = "call"

    roster: bytes = _digest()
    lap: int = _number(1, MAX_LAPS)


@frozen(kw_only=True)
class Here(Message):
    """Answer to a call."""

    kind: ClassVar[str] = "here"

    roster: bytes = _digest()
    lap: int = _number(1, MAX_LAPS)


@frozen(kw_only=True)
class List(Message):
    """The request for the sum over exactly these contributors (coordinator).

    Attributes:
        roster: digest of the roster.
        names: strictly ascending.
    """

    kind: ClassVar[str] = "list"

    roster: bytes = _digest()
    names: tuple[int, ...] = _names()


@frozen(kw_only=True)
class Release(Message):
    """A contributor's encrypted mask key, good for one list only.

    Attributes:
        roster: digest of the roster.
        list: digest of the list.
        sealed: Paillier ciphertexts of key + pads, sealed to the coordinator's exchange key.
    """

    kind: ClassVar[str] = "release"

    roster: bytes = _digest()
    list: bytes = _digest()
    sealed: bytes = field(validator=_length(1, MAX_SEALED_BYTES))


MESSAGES: dict[str, type[Message]] = {
    cls.kind: cls
    for cls in (
        Announce,
        Rest,
        Ready,
        Roster,
        Lap,
        Hop,
        Chunk,
        Progress,
        Taken,
        Passed,
        Busy,
        Refused,
        Call,
        Here,
        List,
        Release,
    )
}
