"""Decoders of enrolment: what strangers, boards and coordinators may write, and what cards hold."""

from __future__ import annotations

import json
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from attrs import evolve
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from fedring.coordinator.enrolment.queue import MAX_WAITING, Queue
from fedring.device.enrolment.asking import Asking, Take
from fedring.device.enrolment.bootstrap import Bootstrap, forget_code
from fedring.lab.fuzzing import people
from fedring.lab.fuzzing.mutations import Form
from fedring.lab.fuzzing.target import Target, demand, same
from fedring.shared.enrolment import (
    Carried,
    Certified,
    Declined,
    Enrolment,
    ask_again,
    ask_first,
    decode_answer,
    decode_request,
    decode_waiting,
    digest_of,
    encode,
    encode_waiting,
    prove,
    requested_key,
    serial_in_status,
)
from fedring.shared.errors import MessageError, PeerError, StateError

CODE: Final = bytes(16)
KEY: Final = people.key(77)
"""Of the board that the answers of the corpus are for."""

_BOOTSTRAP_TOKENS: Final = (b'"code"', b'"flashed_at"', b"0001-01-01T00:00:00+14:00", b"null", b"[")


def targets() -> Iterator[Target]:
    """Every decoder of this side."""
    yield Target("enrolment-request", _request, (PeerError,), Form.MSGPACK)
    yield Target("enrolment-answer", _answer, (PeerError,), Form.MSGPACK)
    yield Target("enrolment-waiting", _waiting, (MessageError,), Form.MSGPACK)
    yield Target("enrolment-file", _carried, (MessageError,), Form.MSGPACK, inputs=200)
    yield Target("enrolment-status", _status, (), Form.TEXT, (b'"certificate"', b"c0ffee"))
    yield Target("bootstrap", _bootstrap, (StateError,), Form.TEXT, _BOOTSTRAP_TOKENS, 150)


def _request(data: bytes) -> None:
    """What the coordinator queues, and the owner judges."""
    request = decode_request(data)
    demand(encode(request) == data, "a request in another spelling")
    queue = Queue(people.authority(), lambda n: n - 1)
    if request.fleet == people.FLEET:
        queue.receive(request.name, data, 0.0)
        demand(0 < len(queue) <= MAX_WAITING, "a request that does not wait")
    key = requested_key(request)
    demand(isinstance(key, ec.EllipticCurvePublicKey), "a key of another kind")
    if isinstance(request, Enrolment):
        proven = prove(CODE, request.fleet, request.name, request.csr)
        demand(evolve(request, proof=proven).is_proven_by(CODE), "a proof that proves nothing")


def _answer(data: bytes) -> None:
    """What a board takes for its certificate."""
    answer = decode_answer(data)
    demand(encode(answer) == data, "an answer in another spelling")
    asking = Asking(
        b"request",
        KEY.public_key(),
        people.authority(),
        name="b01",
        random=lambda: 0.0,
    )
    for effect in asking.receive(data, 0.0):
        if isinstance(effect, Take):
            peer = people.authority().peer(effect.certificate)
            same(peer.public_key.public_numbers(), KEY.public_key().public_numbers())
            demand(peer.name == "b01", "a certificate in another name")
    if isinstance(answer, Certified):
        Queue(people.authority(), lambda _: 0).answer("b01", data, 0.0)


def _waiting(data: bytes) -> None:
    demand(encode_waiting(decode_waiting(data)) == data, "a list in another spelling")


def _carried(data: bytes) -> None:
    demand(Carried.decode(data).encode() == data, "a file in another spelling")


def _status(data: bytes) -> None:
    serial = serial_in_status(data)
    demand(serial is None or 0 <= serial < 2**160, "a serial number that none can have")


def _bootstrap(data: bytes) -> None:
    with TemporaryDirectory(prefix="fedring-fuzz-") as folder:
        file = Path(folder) / "bootstrap.json"
        file.write_bytes(data)
        read = Bootstrap.load(file)
        demand("code" not in repr(read).replace("code=", ""), "a code that prints")
        had = forget_code(file)
        demand(had == (read.code is not None), "a code that was not found")
        same(evolve(read, code=None), Bootstrap.load(file))
        demand("code" not in json.loads(file.read_bytes()), "a code that stays")


def good_inputs() -> Iterator[tuple[str, str, bytes]]:
    """Inputs that decode, by target and name."""
    first = ask_first(KEY, people.FLEET, "b01", CODE)
    again = ask_again(KEY, people.device(1))
    yield "enrolment-request", "first", first
    yield "enrolment-request", "renewal", again
    certificate = people.issuer().device(KEY.public_key(), "b01", 1).public_bytes(Encoding.DER)
    certified = encode(Certified(request=digest_of(first), certificate=certificate))
    yield "enrolment-answer", "certified", certified
    declined = Declined(request=sha256(b"").digest(), reason="wrong code")
    yield "enrolment-answer", "declined", encode(declined)
    yield "enrolment-waiting", "two", encode_waiting((first, again))
    carried = Carried(fleet=people.FLEET, items=(("b01", first),), seen=(("b02", 0xC0FFEE),))
    yield "enrolment-file", "requests", carried.encode()
    yield "enrolment-status", "device", b'{"state": "idle", "certificate": "c0ffee"}'
    card = {
        "fleet": people.FLEET,
        "name": "b01",
        "broker": ["broker.local", "192.168.1.10"],
        "port": 8883,
        "enrol_port": 8884,
        "code": CODE.hex(),
        "flashed_at": "2026-01-02T03:04:05+00:00",
    }
    yield "bootstrap", "with-code", json.dumps(card).encode()
    del card["code"]
    yield "bootstrap", "without-code", json.dumps(card).encode()


def bad_inputs() -> Iterator[tuple[str, str, bytes]]:
    """Inputs that are refused, by target and by what is wrong."""
    good = {(target, name): data for target, name, data in good_inputs()}
    first = good["enrolment-request", "first"]
    yield "enrolment-request", "a-byte-behind", first + b"\0"
    yield "enrolment-request", "nested-2000-deep", b"\x81\xa4kind" + b"\x91" * 2000
    yield "enrolment-request", "doubled-name", b"\x86" + first[1:] + b"\xa4name\xa3b02"
    yield "enrolment-request", "a-csr-that-is-cut", _with_csr(first, -9)
    yield "enrolment-answer", "an-array-of-4-billion", b"\xdd\xff\xff\xff\xff"
    for name, other in (("of-the-coordinator", people.coordinator()), ("of-b02", people.device(2))):
        answer = Certified(request=digest_of(first), certificate=other.certificate)
        yield "enrolment-answer", name, encode(answer)
    yield "enrolment-waiting", "five", encode_waiting((b"",) * 5)
    yield "enrolment-waiting", "a-number-among-them", b"\x92\xc4\x01x\x07"
    carried = good["enrolment-file", "requests"]
    huge = carried.replace(b"\x91", b"\xdd\xff\xff\xff\xff")
    yield "enrolment-file", "an-array-of-4-billion", huge
    card = good["bootstrap", "with-code"]
    for name, old, new in (
        ("year-1", b"2026-01-02T03:04:05+00:00", b"0001-01-01T00:00:00+14:00"),
        ("no-time-zone", b"+00:00", b""),
        ("a-code-of-15-bytes", b'"' + CODE.hex().encode(), b'"' + CODE.hex().encode()[2:]),
        ("a-name-that-climbs", b'"b01"', b'"../b01"'),
        ("a-port-that-is-true", b"8884", b"true"),
    ):
        yield "bootstrap", name, card.replace(old, new)


def _with_csr(request: bytes, end: int) -> bytes:
    asked = decode_request(request)
    return encode(evolve(asked, csr=asked.csr[:end]))
