"""Envelopes: any bytes give a message or an error, and only its writer's signature counts."""

import contextlib
import random
from typing import Any

import attrs
import msgpack
import pytest
from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st

from fedring.lab.simulate.cast import coordinator, device
from fedring.shared import messages
from fedring.shared.envelopes import (
    MAX_ENVELOPE_BYTES,
    Signed,
    decode,
    digest,
    encode,
    open_envelope,
    pack_envelope,
    sign,
    unpack_envelope,
)
from fedring.shared.errors import IdentityError, MessageError
from fedring.shared.messages import Call, Here, Message


def as_map(message: Message) -> dict[str, Any]:
    fields: dict[str, Any] = msgpack.unpackb(encode(message))
    return fields


# -- any bytes at all -----------------------------------------------------------------------


def decodes_or_complains(raw: bytes) -> None:
    with contextlib.suppress(MessageError):
        open_envelope(raw)


@given(st.binary(max_size=300))
@settings(max_examples=300)
def test_any_bytes_give_a_message_or_an_error(raw: bytes) -> None:
    decodes_or_complains(raw)
    decodes_or_complains(pack_envelope(raw, b""))


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


@given(json_like)
def test_any_msgpack_gives_a_message_or_an_error(value: object) -> None:
    decodes_or_complains(pack_envelope(msgpack.packb(value), b""))


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\xc1",
        b"\x91" * 2000,  # nested deeper than any message
        b"\xdd\xff\xff\xff\xff",  # an array of 4 billion
        b"\xdf\xff\xff\xff\xff",  # a map of 4 billion
        b"\xc6\xff\xff\xff\xff",  # a string of 4 GB
        msgpack.packb([b"", b"", b""]),
        msgpack.packb([b""]),
        msgpack.packb([b"", "signature"]),
        msgpack.packb({0: b"", 1: b""}),
        msgpack.packb([b"", bytes(81)]),
        pack_envelope(b"", b"") + b"\0",
        bytes(MAX_ENVELOPE_BYTES + 1),
    ],
)
def test_what_is_no_envelope_is_refused(raw: bytes) -> None:
    with pytest.raises(MessageError):
        unpack_envelope(raw)


@pytest.mark.parametrize("levels", [10, 900, 1000, 1022, 1023, 1100])
@pytest.mark.parametrize("field", ["kind", "fleet", "roster", "more"])
def test_nesting_of_any_depth_is_refused(field: str, levels: int) -> None:
    """What msgpack still unpacks may be deeper than Python can print."""
    fields = {"kind": "here", "fleet": "rehearsal", "epoch": 1, "round": 2, "sender": 3}
    payload = msgpack.Packer().pack_map_header(len(fields | {field: 0}))
    for name, value in (fields | {field: None}).items():
        payload += msgpack.packb(name)
        payload += b"\x91" * levels + b"\x01" if name == field else msgpack.packb(value)
    with pytest.raises(MessageError):
        decode(payload)


def test_errors_are_short_whatever_came() -> None:
    rng = random.Random(0)
    whole = {"kind": "k" * 1000}
    for value in ("x" * 1000, rng.randbytes(1000), {"y" * 900: 1}, ["z" * 1000] * 60):
        for damaged in ({**whole, "a": value}, {"kind": "here", "w" * 1000: value}):
            with pytest.raises(MessageError) as fault:
                decode(msgpack.packb(damaged))
            assert len(fault.value.reason) < 160


# -- signatures -----------------------------------------------------------------------------


@pytest.fixture
def call() -> Signed[Call]:
    tag = messages.tag("rehearsal", 1, 2, 0)
    return sign(Call(**tag, roster=b"r" * 32, lap=1), coordinator())


def test_a_message_counts_as_its_writers_only(call: Signed[Call]) -> None:
    unverified = open_envelope(call.raw)
    assert unverified.verified_by(coordinator().peer, Call) == call
    with pytest.raises(MessageError, match="names sender 0"):
        unverified.verified_by(device(1).peer, Call)
    with pytest.raises(MessageError, match="of fleet rehearsal"):
        unverified.verified_by(coordinator("other").peer, Call)
    with pytest.raises(MessageError, match="a call where a here"):
        unverified.verified_by(coordinator().peer, Here)


def test_a_message_in_anothers_name_does_not_verify() -> None:
    tag = messages.tag("rehearsal", 1, 2, 0)
    forged = sign(Call(**tag, roster=b"r" * 32, lap=1), device(1))
    with pytest.raises(IdentityError):
        open_envelope(forged.raw).verified_by(coordinator().peer, Call)


def test_a_changed_field_does_not_verify(call: Signed[Call]) -> None:
    _, signature = unpack_envelope(call.raw)
    for change in ({"epoch": 2}, {"round": 3}, {"lap": 2}, {"roster": b"s" * 32}):
        changed = pack_envelope(encode(evolve(call.message, **change)), signature)
        with pytest.raises(IdentityError):
            open_envelope(changed).verified_by(coordinator().peer, Call)


def test_a_signature_does_not_serve_another_kind(call: Signed[Call]) -> None:
    _, signature = unpack_envelope(call.raw)
    as_here = Here(**attrs.asdict(call.message))
    with pytest.raises(IdentityError):
        open_envelope(pack_envelope(encode(as_here), signature)).verified_by(
            coordinator().peer, Here
        )


def test_digests_are_of_the_very_bytes(call: Signed[Call]) -> None:
    """Another spelling of the same message is another message: nothing is encoded again."""
    fields = as_map(call.message)
    respelt = msgpack.packb(dict(reversed(fields.items())))
    assert decode(respelt) == call.message
    assert digest("call", respelt) != call.digest
    assert digest("here", encode(call.message)) != call.digest


def test_a_signed_message_prints_without_its_bytes(call: Signed[Call]) -> None:
    assert call.raw.hex() not in repr(call).replace("\\x", "")
    assert call.digest.hex()[:12] in repr(call)
    assert call.digest.hex() not in repr(call)
