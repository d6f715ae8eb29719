"""Every message: what goes in comes out, bytes are pinned, and each field takes its own only."""

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedring.lab.simulate.cast import coordinator, device
from fedring.shared import messages
from fedring.shared.envelopes import (
    MAX_ENVELOPE_BYTES,
    decode,
    digest,
    encode,
    open_envelope,
    pack_envelope,
    sign,
)
from fedring.shared.errors import MessageError
from fedring.shared.messages import MESSAGES, Message, Refused, Roster

VECTORS = Path(__file__).parents[2] / "vectors" / "messages.txt"

# -- any message of each kind ---------------------------------------------------------------

uint32 = st.integers(0, messages.MAX_UINT32)
positive = st.integers(1, messages.MAX_UINT32)
digests = st.binary(min_size=32, max_size=32)
certificates = st.binary(min_size=1, max_size=messages.MAX_CERTIFICATE_BYTES)
names = st.lists(positive, min_size=1, max_size=64).map(tuple)
laps = st.integers(1, messages.MAX_LAPS)
line = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=200)
HEADER = {
    "fleet": st.from_regex(r"[a-z0-9-]{1,32}", fullmatch=True),
    "epoch": positive,
    "round": positive,
    "sender": uint32,
}


def floats(low: float, high: float) -> st.SearchStrategy[float]:
    return st.floats(low, high, allow_nan=False)


MODEL = st.builds(
    messages.ModelReference,
    version=uint32,
    parent=uint32,
    digest=digests,
    size=st.integers(1, 2 * messages.MAX_BODY_BYTES),
)
PLAN = st.builds(
    messages.Plan,
    task=st.sampled_from(["train", "statistics"]),
    epochs=st.integers(1, 1000),
    batch=st.integers(1, 65536),
    rate=floats(1e-12, 1e3),
    clip=floats(0, 1e9),
    value_range=floats(1e-9, 1e9),
    evaluation_samples=st.integers(0, 127),
    max_samples=st.integers(1, 1_000_000),
)
TERMS = st.builds(
    messages.RingTerms,
    size=st.integers(2, 64),
    ready_s=floats(0.05, 86_400),
    patience_s=floats(0.05, 3600),
    release_s=floats(0.05, 3600),
    lap_s=floats(0.05, 86_400),
)
FIELDS: dict[str, dict[str, st.SearchStrategy[Any]]] = {
    "announce": {
        "model": MODEL,
        "plan": PLAN,
        "ring": TERMS,
        "suite": st.from_regex(r"[a-z0-9-]{1,16}", fullmatch=True),
        "bits": st.sampled_from([8, 16]),
        "n_values": st.integers(1, messages.MAX_BODY_BYTES),
        "paillier_n": st.binary(min_size=8, max_size=512),
        "exchange_key": digests,
        "revocation": uint32,
        "certificate": certificates,
    },
    "rest": {"model": MODEL, "certificate": certificates},
    "ready": {
        "announce": digests,
        "certificate": certificates,
        "threshold": st.integers(1, 64),
        "round_key": digests,
    },
    "roster": {
        "announce": digests,
        "ring": positive,
        "readies": st.lists(st.binary(min_size=1, max_size=1536), min_size=2, max_size=9).map(
            tuple
        ),
    },
    "lap": {"roster": digests, "lap": laps, "order": names},
    "hop": {
        "lap": st.binary(min_size=1, max_size=4096),
        "names": names,
        "size": st.integers(1, messages.MAX_BODY_BYTES),
    },
    "chunk": {"hop": digests, "index": uint32, "data": st.binary(min_size=1, max_size=999)},
    "progress": {"about": digests, "chunks": uint32},
    "taken": {"about": digests},
    "passed": {"about": digests},
    "busy": {"about": digests},
    "refused": {"about": digests, "reason": line},
    "call": {"roster": digests, "lap": laps},
    "here": {"roster": digests, "lap": laps},
    "list": {"roster": digests, "names": names},
    "release": {
        "roster": digests,
        "list": digests,
        "sealed": st.binary(min_size=1, max_size=9999),
    },
}
any_message: st.SearchStrategy[Message] = st.one_of(
    *(st.builds(MESSAGES[kind], **HEADER, **fields) for kind, fields in FIELDS.items())
)


def as_map(message: Message) -> dict[str, Any]:
    fields: dict[str, Any] = msgpack.unpackb(encode(message))
    return fields


# -- what goes in comes out -----------------------------------------------------------------


def test_every_kind_of_message_is_drawn_here() -> None:
    assert FIELDS.keys() == MESSAGES.keys()


@given(any_message)
def test_every_message_survives_the_wire(message: Message) -> None:
    assert decode(encode(message)) == message


@pytest.mark.parametrize("kind", MESSAGES)
@given(data=st.data())
@settings(max_examples=10)
def test_a_signed_message_is_what_its_writer_signed(kind: str, data: st.DataObject) -> None:
    header = {**HEADER, "fleet": st.just("rehearsal"), "sender": st.just(3)}
    message = data.draw(st.builds(MESSAGES[kind], **header, **FIELDS[kind]))
    sent = sign(message, device(3))
    arrived = open_envelope(sent.raw).verified_by(device(3).peer, MESSAGES[kind])
    assert arrived == sent
    assert arrived.digest == digest(kind, encode(message))


# -- pinned bytes ---------------------------------------------------------------------------


def pinned() -> dict[str, bytes]:
    lines = VECTORS.read_text().splitlines()
    rows = [line.split(": ") for line in lines if line and not line.startswith("#")]
    return {kind: bytes.fromhex(payload) for kind, payload in rows}


@pytest.mark.parametrize("kind", MESSAGES)
def test_a_message_is_these_very_bytes(kind: str, example: Callable[[str], Message]) -> None:
    assert encode(example(kind)) == pinned()[kind]
    assert decode(pinned()[kind]) == example(kind)


def test_the_digest_is_pinned() -> None:
    assert digest("here", pinned()["here"]).hex() == (
        "d9213cfc6bd2e84af2b3815f210616a4ad2b2bd0306b13d6426eafc07e8cce9f"
    )


# -- strictness -----------------------------------------------------------------------------


@pytest.fixture
def here() -> dict[str, Any]:
    return {
        "kind": "here",
        "fleet": "rehearsal",
        "epoch": 1,
        "round": 2,
        "sender": 3,
        "roster": b"r" * 32,
        "lap": 1,
    }


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("epoch", True),
        ("epoch", 1.0),
        ("epoch", "1"),
        ("epoch", None),
        ("epoch", 0),
        ("round", -1),
        ("round", 2**32),
        ("sender", 2**63),
        ("fleet", b"rehearsal"),
        ("fleet", ""),
        ("fleet", "Upper"),
        ("fleet", "line\n"),
        ("fleet", "x" * 33),
        ("roster", "r" * 32),
        ("roster", 32),
        ("roster", b"r" * 31),
        ("roster", b"r" * 33),
        ("roster", [0] * 32),
        ("lap", 0),
        ("lap", 4),
        ("lap", {}),
        ("kind", "hear"),
        ("kind", b"here"),
        ("kind", ["here"]),
    ],
)
def test_a_field_takes_its_own_type_and_range_only(
    here: dict[str, Any], field: str, value: object
) -> None:
    assert decode(msgpack.packb(here)).kind == "here"
    with pytest.raises(MessageError):
        decode(msgpack.packb({**here, field: value}))


@pytest.mark.parametrize("kind", MESSAGES)
def test_no_field_may_be_missing(kind: str, example: Callable[[str], Message]) -> None:
    whole = as_map(example(kind))
    for name in whole:
        less = {key: value for key, value in whole.items() if key != name}
        with pytest.raises(MessageError, match=r"missing|unknown kind"):
            decode(msgpack.packb(less))


@pytest.mark.parametrize("kind", MESSAGES)
def test_no_field_may_be_added(kind: str, example: Callable[[str], Message]) -> None:
    whole = as_map(example(kind))
    extras: list[dict[str | bytes, Any]] = [
        {"more": 1},
        {b"more": 1},
        {"more": 1, b"more": 1},
        {b"kind": kind},
    ]
    for extra in extras:
        more: dict[Any, Any] = {**whole, **extra}
        with pytest.raises(MessageError, match="unknown field"):
            decode(msgpack.packb(more))


@pytest.mark.parametrize("part", ["model", "plan", "ring"])
@pytest.mark.parametrize("damage", [None, [], b"", 7, {}, {"more": 1}])
def test_inner_structs_are_as_strict(
    part: str, damage: object, example: Callable[[str], Message]
) -> None:
    whole = as_map(example("announce"))
    broken = {**whole[part], **damage} if isinstance(damage, dict) and damage else damage
    with pytest.raises(MessageError):
        decode(msgpack.packb({**whole, part: broken}))


def test_no_key_may_come_twice(here: dict[str, Any]) -> None:
    pairs = [*here.items(), ("lap", 2)]
    doubled = msgpack.Packer().pack_map_pairs(pairs)
    with pytest.raises(MessageError, match="doubled"):
        decode(doubled)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0, 1, True, "0.1"])
def test_numbers_of_a_plan_are_finite_floats(
    value: object, example: Callable[[str], Message]
) -> None:
    whole = as_map(example("announce"))
    whole["plan"]["rate"] = value
    with pytest.raises(MessageError):
        decode(msgpack.packb(whole))


@pytest.mark.parametrize(
    "names", [[], [0], [-1], [2**32], [True], [1.0], ["1"], None, b"\1", list(range(1, 66))]
)
def test_names_are_device_numbers(names: object, example: Callable[[str], Message]) -> None:
    for kind, field in (("lap", "order"), ("hop", "names"), ("list", "names")):
        with pytest.raises(MessageError):
            decode(msgpack.packb({**as_map(example(kind)), field: names}))


@pytest.mark.parametrize(
    ("kind", "field", "most"),
    [
        ("ready", "certificate", messages.MAX_CERTIFICATE_BYTES),
        ("hop", "lap", 4096),
        ("chunk", "data", messages.CHUNK_BYTES),
        ("release", "sealed", messages.MAX_SEALED_BYTES),
        ("announce", "paillier_n", 512),
    ],
)
def test_bytes_have_their_limit(
    kind: str, field: str, most: int, example: Callable[[str], Message]
) -> None:
    whole = as_map(example(kind))
    assert decode(msgpack.packb({**whole, field: bytes(most)}))
    with pytest.raises(MessageError):
        decode(msgpack.packb({**whole, field: bytes(most + 1)}))
    with pytest.raises(MessageError):
        decode(msgpack.packb({**whole, field: b""}))


@pytest.mark.parametrize("sizes", [[9], [9] * 65, [1537, 9], [0, 9]])
def test_a_roster_holds_two_to_sixty_four_readies(
    sizes: list[int], example: Callable[[str], Message]
) -> None:
    whole = as_map(example("roster"))
    with pytest.raises(MessageError):
        decode(msgpack.packb({**whole, "readies": [bytes(size) for size in sizes]}))


def test_the_largest_roster_fits_into_an_envelope() -> None:
    ready = sign(
        messages.Ready(
            fleet="f" * 32,
            epoch=2**32 - 1,
            round=2**32 - 1,
            sender=2**32 - 1,
            announce=bytes(32),
            certificate=bytes(messages.MAX_CERTIFICATE_BYTES),
            threshold=64,
            round_key=bytes(32),
        ),
        device(1),
    )
    roster = Roster(
        **messages.tag("f" * 32, 1, 1, 0), announce=bytes(32), ring=1, readies=(ready.raw,) * 64
    )
    raw = sign(roster, coordinator()).raw
    assert len(raw) <= MAX_ENVELOPE_BYTES
    assert open_envelope(raw).message == roster


@pytest.mark.parametrize(
    "reason", ["", "x" * 201, "two\nlines", "bell \a", "\x1b[2J", "\x7f", "del\x9b", 7, b"bytes"]
)
def test_a_reason_is_one_printable_line(reason: object, example: Callable[[str], Message]) -> None:
    with pytest.raises(MessageError):
        decode(msgpack.packb({**as_map(example("refused")), "reason": reason}))


@given(st.text(max_size=400))
def test_whatever_went_wrong_can_be_said_in_one_line(text: str) -> None:
    reason = messages.one_line(text)
    refused = Refused(**messages.tag("f", 1, 1, 1), about=bytes(32), reason=reason)
    assert decode(encode(refused)) == refused


def test_one_line_keeps_what_it_can() -> None:
    assert messages.one_line("ring of 4, it answers above 7") == "ring of 4, it answers above 7"
    assert messages.one_line("two\nlines\udc80") == "two lines?"
    assert messages.one_line("") == "no reason given"
    assert len(messages.one_line("x" * 999)) == 200


# -- any value, any damage ------------------------------------------------------------------

json_like = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=20)
    | st.binary(max_size=40)
    | st.datetimes().map(lambda moment: msgpack.Timestamp.from_datetime(moment.astimezone()))
    | st.builds(msgpack.ExtType, st.integers(0, 127), st.binary(max_size=9)),
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.dictionaries(st.text(max_size=9) | st.binary(max_size=9), inner, max_size=5)
    ),
    max_leaves=20,
)


def decodes_or_complains(raw: bytes) -> None:
    with contextlib.suppress(MessageError):
        open_envelope(raw)


@given(st.sampled_from(sorted(MESSAGES)), st.data())
@settings(max_examples=300)
def test_a_field_of_any_kind_gives_a_message_or_an_error(kind: str, data: st.DataObject) -> None:
    fields = data.draw(st.fixed_dictionaries({**HEADER, **FIELDS[kind]}))
    whole = as_map(MESSAGES[kind](**fields))
    name = data.draw(st.sampled_from(sorted(whole)))
    whole[name] = data.draw(json_like)
    decodes_or_complains(pack_envelope(msgpack.packb(whole), b""))


@given(any_message, st.data())
def test_a_damaged_byte_gives_a_message_or_an_error(message: Message, data: st.DataObject) -> None:
    raw = bytearray(pack_envelope(encode(message), b"signature"))
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    decodes_or_complains(bytes(raw))
