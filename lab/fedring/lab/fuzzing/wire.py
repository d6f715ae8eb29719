"""Decoders of what comes over the broker.

Where a signature or a digest would refuse almost everything, it is made to fit what was damaged:
an envelope without a signature is signed by whoever should have signed it, a chunk gets its digest
into the manifest. What lies behind is reached that way; that they hold is tested elsewhere.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import cache
from hashlib import sha256
from typing import Any, Final

import attrs
import msgpack
from rich.console import Console

from fedring.coordinator.presence import MAX_STATES, MAX_STATUS_BYTES, Presence
from fedring.device.consent import Consent
from fedring.fleet.screen import dashboard, news_line
from fedring.fleet.view import FleetView
from fedring.lab.fuzzing import people
from fedring.lab.fuzzing.corpus import Corpus
from fedring.lab.fuzzing.mutations import Form
from fedring.lab.fuzzing.target import Target, demand, same
from fedring.shared import networks
from fedring.shared.encryption import SUITES, Parameters, Suite, suite
from fedring.shared.envelopes import (
    Signed,
    decode,
    digest,
    encode,
    open_envelope,
    pack_envelope,
    unpack_envelope,
)
from fedring.shared.errors import BodyError, MessageError, PeerError, ReleaseError
from fedring.shared.identity import Identity, RevocationList
from fedring.shared.membership import read_ready, read_roster
from fedring.shared.messages import (
    COORDINATOR_NUMBER,
    Announce,
    Hop,
    Lap,
    Message,
    ModelReference,
    Plan,
    RingTerms,
    Roster,
    tag,
)
from fedring.shared.models import Model, parse_manifest
from fedring.shared.pairwise import RoundKey, check_public_key
from fedring.shared.tokens import check_hop
from fedring.shared.topics import (
    BundleChunk,
    CoordinatorStatus,
    DeviceStatus,
    DeviceUpdate,
    EnrolmentAnswer,
    EnrolmentRequest,
    EnrolmentWaiting,
    Event,
    History,
    Inbox,
    Key,
    ModelChunk,
    Revoked,
    Topics,
    Update,
)
from fedring.shared.topics import Round as RoundTopic
from fedring.shared.transfer import ModelFetch

_NOW: Final = datetime(2026, 1, 1, tzinfo=UTC)
_TOPICS: Final = Topics(people.FLEET)
_KEY_BITS: Final = int(people.PAILLIER.public_key.n).bit_length()
_JSON_TOKENS: Final = (
    *(b"NaN", b"1e999", b"-0", b"9" * 5000, b'"\\ud800"', b'"\\u001b[2J"', b"[", b'{"a":', b"null"),
    *(b'"0001-01-01T00:00:00+14:00"', b'"9999-12-31T23:59:59-14:00"', b'"2026-W01-1"', b"1e308"),
    *(b'"state"', b'"number"', b'"offline"', b"4294967296", b"\xff", b"\xef\xbb\xbf", b"\0"),
)


def targets(corpus: Corpus) -> Iterator[Target]:
    """Every decoder of this side.

    Args:
        corpus: brings the announce that other inputs answer.
    """
    yield Target("envelope", _envelope, (MessageError,), Form.MSGPACK)
    yield Target("message", _message, (MessageError,), Form.MSGPACK, inputs=1_000)
    yield Target("hop", _hop, (PeerError,), Form.MSGPACK)
    yield Target("ready", _ready_for(corpus), (PeerError,), Form.MSGPACK)
    yield Target("roster", _roster_for(corpus), (PeerError,), Form.MSGPACK, inputs=100)
    yield Target("announce", _announce, (PeerError,), Form.MSGPACK)
    yield Target("revocation", _revocation, (PeerError,), Form.MSGPACK)
    yield Target("revocation-payload", _revocation_payload, (PeerError,), Form.MSGPACK)
    yield Target("certificate", _certificate, (PeerError,))
    yield Target("certificate-signed", _certificate_signed, (PeerError,))
    yield Target("manifest", _manifest, (MessageError,), Form.MSGPACK, inputs=300)
    yield Target("model", _model, (MessageError,), Form.MSGPACK, inputs=200)
    yield Target("model-chunks", _model_chunks, (), Form.MSGPACK)
    yield Target("topic", _topic, (), tokens=(b"/", b"+", b"#", b"fedring/corpus/", b"01"))
    yield Target("presence", _presence, (), Form.TEXT, _JSON_TOKENS)
    yield Target("watch", _watch, (), Form.TEXT, _JSON_TOKENS, inputs=80)
    yield Target("modulus", _modulus, ())
    yield Target("round-key", _round_key, (PeerError,))
    for name in SUITES:
        yield Target(f"body-{name}", _body_of(name), (BodyError,))
        yield Target(f"release-{name}", _release_of(name), (ReleaseError,))


# -- messages --------------------------------------------------------------------------------


def _envelope(data: bytes) -> None:
    parts = unpack_envelope(data)
    same(unpack_envelope(pack_envelope(*parts)), parts)
    message = open_envelope(data).message
    same(decode(encode(message)), message)


def _message(data: bytes) -> None:
    message = decode(data)
    again = encode(message)
    same(decode(again), message)
    demand(encode(decode(again)) == again, "a message that has two encodings of its own")


def _signed_anew(data: bytes, signer: Callable[[Message], Identity]) -> bytes:
    """Sign an envelope whose signature is empty, if it can be decoded."""
    payload, signature = unpack_envelope(data)
    if signature:
        return data
    message = decode(payload)
    return pack_envelope(payload, signer(message).sign(message.kind, payload))


def _writer(message: Message) -> Identity:
    if message.sender == COORDINATOR_NUMBER:
        return people.coordinator()
    return people.device(message.sender if message.sender <= 4 else 1)


def _hop(data: bytes) -> None:
    """A header of a token against the lap that it brings."""
    hop = open_envelope(_signed_anew(data, _writer)).message
    if not isinstance(hop, Hop):
        raise MessageError("no hop")
    coordinator = people.coordinator().peer
    lap = open_envelope(_signed_anew(hop.lap, _writer)).verified_by(coordinator, Lap)
    check_hop(hop, lap.message, 100_000)


def _announce(data: bytes) -> None:
    raw = _signed_anew(data, _writer)
    unverified = open_envelope(raw)
    message = unverified.message
    if not isinstance(message, Announce):
        raise MessageError("no announce")
    peer = people.authority().peer(message.certificate)
    unverified.verified_by(peer, Announce)
    objection = _CONSENT.objection(message)
    demand(objection is None or objection.isprintable(), "a reason that does not print")


_CONSENT: Final = Consent(threshold=2, suites=frozenset(SUITES), minimum_key_bits=_KEY_BITS)


def announced(corpus: Corpus) -> Signed[Announce]:
    """The announce of the corpus, which its `ready` messages answer."""
    raw = next(one.data for one in corpus.of("announce") if one.name == "announce")
    return open_envelope(raw).verified_by(people.coordinator().peer, Announce)


def _ready_for(corpus: Corpus) -> Callable[[bytes], None]:
    @cache
    def announce() -> Signed[Announce]:
        return announced(corpus)

    def ready(data: bytes) -> None:
        raw = _signed_anew(data, _writer)
        joined = read_ready(raw, announce(), people.authority(), frozenset({3}))
        demand(joined.number == joined.ready.message.sender, "a ready in another's name")
        demand(joined.number != 3, "a ready of somebody who is revoked")

    return ready


def _roster_for(corpus: Corpus) -> Callable[[bytes], None]:
    @cache
    def announce() -> Signed[Announce]:
        return announced(corpus)

    def roster(data: bytes) -> None:
        payload, _ = unpack_envelope(data)
        message = decode(payload)
        if not isinstance(message, Roster):
            raise MessageError("no roster")
        readies = tuple(_signed_anew(raw, _writer) for raw in message.readies)
        signed = Signed(attrs.evolve(message, readies=readies), payload, data)
        membership = read_roster(signed, announce(), people.authority(), frozenset({3}))
        demand(len(membership.members) == len(message.readies), "a roster that counts twice")

    return roster


def _revocation(data: bytes) -> None:
    payload, signature = unpack_envelope(data)
    if not signature:
        data = pack_envelope(payload, people.issuer_signs(RevocationList.KIND, payload))
    revocation = people.authority().revocation(data)
    demand(revocation.payload() == payload, "a revocation list in another spelling")


def _revocation_payload(data: bytes) -> None:
    demand(RevocationList.from_payload(data).payload() == data, "a list in another spelling")


def _certificate(data: bytes) -> None:
    peer = people.authority().peer(data)
    demand(peer.certificate == data, "another certificate than came")
    same(Identity(people.key(people.secret_of(peer.number)), data).peer, peer)


def _certificate_signed(data: bytes) -> None:
    """What a certificate certifies, with the authority's signature around it."""
    _certificate(people.certified(data))


# -- models ----------------------------------------------------------------------------------


def _manifest(data: bytes) -> None:
    demand(parse_manifest(data).encode() == data, "a manifest in another encoding")


def _model(data: bytes) -> None:
    """All chunks of a model in an array; digests are made to fit."""
    chunks = _array_of_bytes(data)
    if chunks:
        manifest = parse_manifest(chunks[0])
        digests = tuple(sha256(chunk).digest() for chunk in chunks[1:])
        try:
            chunks[0] = attrs.evolve(manifest, digests=digests).encode()
        except ValueError as error:
            raise MessageError(str(error)) from error
    model = Model.from_chunks(chunks)
    same(model.chunks(), tuple(chunks))
    networks.check(model)


def _model_chunks(data: bytes) -> None:
    """Chunks as they come in: an array of their numbers and bytes, by turns."""
    try:
        came = msgpack.unpackb(data, max_array_len=1_000)
    except Exception:  # whatever it is: no input of ours
        return
    if not isinstance(came, list):
        return
    digest_ = sha256(next((one for one in came if isinstance(one, bytes)), b"")).digest()
    fetch = ModelFetch(digest_, max_bytes=100_000)
    for index, chunk in zip(came[::2], came[1::2], strict=False):
        if type(index) is int and 0 <= index < 10**9 and isinstance(chunk, bytes):
            try:
                fetch.receive(index, chunk)
            except PeerError:
                continue
    if fetch.complete:
        manifest = parse_manifest(fetch.chunks[0])
        demand(len(fetch.chunks) == manifest.n_chunks, "a model with other chunks than it has")


def _array_of_bytes(data: bytes) -> list[bytes]:
    try:
        parts = msgpack.unpackb(data, max_array_len=1_000)
    except Exception as error:  # as above
        raise MessageError("no array") from error
    if not isinstance(parts, list) or not all(isinstance(part, bytes) for part in parts):
        raise MessageError("no array of bytes")
    return parts


# -- for people ------------------------------------------------------------------------------


def _topic(data: bytes) -> None:
    text = data.decode(errors="replace")
    read = _TOPICS.parse(text)
    if read is not None:
        same(_spelled(read), text)


def _spelled(topic: object) -> str | None:
    match topic:
        case CoordinatorStatus():
            return _TOPICS.coordinator_status
        case RoundTopic():
            return _TOPICS.round
        case ModelChunk(place, index):
            return _TOPICS.model_chunk(bytes.fromhex(place) + bytes(31), index)
        case Key():
            return _TOPICS.key
        case History(place):
            return _TOPICS.history(place)
        case Revoked():
            return _TOPICS.revoked
        case DeviceStatus(name):
            return _TOPICS.device_status(name)
        case DeviceUpdate(name):
            return _TOPICS.device_update(name)
        case Inbox(receiver, sender):
            return _TOPICS.inbox(receiver, sender)
        case EnrolmentRequest(name):
            return _TOPICS.enrolment_request(name)
        case EnrolmentWaiting(name):
            return _TOPICS.enrolment_waiting(name)
        case EnrolmentAnswer(name):
            return _TOPICS.enrolment_answer(name)
        case BundleChunk(digest_, index):
            return _TOPICS.bundle_chunk(digest_, index)
        case Update():
            return _TOPICS.update
        case Event():
            return _TOPICS.event
    return None


def _presence(data: bytes) -> None:
    presence = Presence()
    number = presence.saw("b01", data)
    demand(number is None or 0 < number < 2**32, "a device number that none can have")
    demand(len(presence.by_state()) <= MAX_STATES + 2, "more states than there are devices")
    if len(data) <= MAX_STATUS_BYTES:
        json.dumps(presence.by_state()).encode()


def _watch(data: bytes) -> None:
    """Every topic for people says this: what is then drawn must be safe to look at."""
    view = FleetView(_TOPICS)
    lines = []
    for topic in (
        _TOPICS.coordinator_status,
        _TOPICS.device_status("b01"),
        _TOPICS.history(3),
        _TOPICS.event,
    ):
        news = view.receive(topic, data)
        if news is not None:
            lines.append(news_line(news))
    drawn = io.StringIO()
    console = Console(file=drawn, width=200, color_system=None)
    console.print(dashboard(view, _NOW, 40))
    json.dumps(view.as_dict(), allow_nan=False)
    safe = [*lines, *drawn.getvalue().split("\n")]
    demand(all(line.isprintable() for line in safe), "a line that a terminal would obey")


# -- encryption ------------------------------------------------------------------------------


def _modulus(data: bytes) -> None:
    """A modulus as an announce brings it: agreed to only in its one spelling, odd, of its size."""
    try:
        announce = _example_announce(data)
    except ValueError:  # too short or too long: no message at all
        return
    n = int.from_bytes(data, "big")
    if _CONSENT.objection(announce) is None:
        demand(n % 2 == 1 and _KEY_BITS <= n.bit_length() <= 4096, "a modulus of no use")
        demand(n.to_bytes(-(-n.bit_length() // 8), "big") == data, "a modulus in another spelling")


def _example_announce(modulus: bytes) -> Announce:
    return Announce(
        **tag(people.FLEET, 1, 1, COORDINATOR_NUMBER),
        model=ModelReference(version=0, parent=0, digest=bytes(32), size=1),
        plan=_PLAN,
        ring=RingTerms(size=8, ready_s=1.0, patience_s=1.0, release_s=1.0, lap_s=1.0),
        suite=SUITES[0],
        bits=16,
        n_values=100,
        paillier_n=modulus,
        exchange_key=bytes(32),
        revocation=0,
        certificate=b"none",
    )


_PLAN: Final = Plan(
    task="train",
    epochs=1,
    batch=1,
    rate=0.1,
    clip=1.0,
    value_range=1.0,
    evaluation_samples=0,
    max_samples=1,
)


def _round_key(data: bytes) -> None:
    check_public_key(data)
    _OWN_ROUND_KEY.derive(data, b"")
    demand(RoundKey.generate(lambda _: data).public != bytes(32), "a key of nothing")


_OWN_ROUND_KEY: Final = RoundKey.generate(lambda n: b"\7" * n)


@cache
def small_suite(name: str) -> Suite:
    """The suite that bodies and releases of the corpus are made with."""
    return suite(
        name,
        public_key=people.PAILLIER.public_key,
        announce_digest=digest("announce", b"corpus"),
        n_values=60,
        bits=16,
        parameters=Parameters(dimension=64),
    )


def _body_of(name: str) -> Callable[[bytes], None]:
    def body(data: bytes) -> None:
        used = small_suite(name)
        decoded = used.decode_body(data)
        demand(used.encode_body(decoded) == data, "a body in another encoding")
        used.add(decoded, used.decode_body(data))
        demand(
            len(used.decode_body(used.encode_body(decoded))) == len(decoded), "a sum that is none"
        )

    return body


def _release_of(name: str) -> Callable[[bytes], None]:
    def release(data: bytes) -> None:
        used = small_suite(name)
        used.check_release(data)
        demand(len(data) == used.release_bytes, "a release of another length")
        product: Any = used.product([data, data])
        demand(all(0 < one < used.n**2 for one in product), "a product that is no ciphertext")

    return release
