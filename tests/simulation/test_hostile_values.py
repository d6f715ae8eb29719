"""Hostile values in real, signed messages, all the way into the production state machines.

Each gives a complaint that names the sender, a refusal, or a void ring that names the member; and
changes nothing else. That every decoder refuses them is tested beside the decoders; here they come
from a certified member, or from the coordinator, and meet a round that is under way.
"""

import random
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import msgpack
import numpy as np
import pytest
from attrs import evolve

from fedring.coordinator.announcing import Announcing
from fedring.coordinator.rings import Void
from fedring.device.effects import Effect, State, Work
from fedring.lab.fuzzing.mutations import Form, Mutator
from fedring.lab.simulate.cast import cast, coordinator, device
from fedring.lab.simulate.fleet import QUICK
from fedring.lab.simulate.rehearsal import Post, Rehearsal
from fedring.shared.effects import Report, Send
from fedring.shared.encryption import SUITES
from fedring.shared.envelopes import (
    MAX_ENVELOPE_BYTES,
    Signed,
    Unverified,
    encode,
    open_envelope,
    pack_envelope,
    sign,
    unpack_envelope,
)
from fedring.shared.errors import PeerError
from fedring.shared.identity import Identity
from fedring.shared.messages import (
    CHUNK_BYTES,
    COORDINATOR_NAME,
    Chunk,
    Hop,
    Message,
    Ready,
    Refused,
    Release,
    tag,
)
from fedring.shared.pairwise import seal, unseal

HOSTILE = 3
PRIME = 2**255 - 19

# -- a picture of all that a state machine knows ---------------------------------------------

Picture: TypeAlias = Any


def picture(thing: object, above: frozenset[int] = frozenset()) -> Picture:
    """Everything that is reachable from an object, as values that can be compared."""
    if id(thing) in above:
        return "above"
    above |= {id(thing)}
    match thing:
        case bool() | int() | float() | str() | bytes() | None:
            return thing
        case Signed() | Unverified():
            return thing.raw
        case np.ndarray():
            return thing.tobytes()
        case Mapping():
            return [(picture(k, above), picture(v, above)) for k, v in thing.items()]
        case list() | tuple():
            return [picture(item, above) for item in thing]
        case set() | frozenset():
            return sorted(map(repr, thing))
    if not type(thing).__module__.startswith("fedring"):
        return id(thing)  # a key of a library, a function: replaced, never changed
    slots = [name for kind in type(thing).__mro__ for name in getattr(kind, "__slots__", ())]
    names = sorted({*slots, *getattr(thing, "__dict__", {})} - {"__weakref__"})
    return [(name, picture(getattr(thing, name, None), above)) for name in names]


def test_a_picture_shows_every_change() -> None:
    stage, made = a_round(SUITES[0])
    member = stage.actors[1].member
    before = picture(member), picture(stage.round)
    assert before == (picture(member), picture(stage.round))
    stage.deliver()
    assert picture(member) != before[0]
    assert picture(stage.round) != before[1]
    held = member._round
    assert held is not None
    before = picture(member), picture(stage.round)
    held.deadline = 1.0
    assert picture(member) != before[0]
    assert made.announce.message.round == 1


# -- a round under way -----------------------------------------------------------------------


def a_round(suite_name: str, n_devices: int = 4) -> tuple[Rehearsal, Announcing]:
    """All have said `ready`, and nothing was delivered."""
    stage = Rehearsal((2,) * n_devices, suite_name=suite_name, terms=evolve(QUICK, ready_s=5.0))
    made = stage.announcing()
    stage.direct(made)
    for number in stage.actors:
        stage.shows(made.announce.raw, number)
    return stage, made


def keeps_back(kind: type[Message], number: int = HOSTILE) -> Callable[[Post], bool]:
    """Loses what a device says of one kind."""

    def drop(post: Post) -> bool:
        return post.source == device(number).name and isinstance(post.message, kind)

    return drop


def header(number: int) -> dict[str, Any]:
    return tag("rehearsal", 1, 1, number)


def ends(stage: Rehearsal) -> None:
    stage.deliver()
    stage.wait(200.0, step=1.0)
    assert stage.ended is not None


def complaint_of(stage: Rehearsal, number: int, source: str, raw: bytes) -> PeerError:
    """What a device raises, having changed nothing."""
    member = stage.actors[number].member
    before = picture(member)
    with pytest.raises(PeerError) as caught:
        member.receive(source, raw, stage.now + 0.01)
    assert picture(member) == before
    return caught.value


def complaint_of_coordinator(stage: Rehearsal, source: str, raw: bytes) -> PeerError:
    """What the coordinator raises, having changed nothing."""
    assert stage.round is not None
    before = picture(stage.round)
    with pytest.raises(PeerError) as caught:
        stage.round.receive(source, raw, stage.now + 0.01)
    assert picture(stage.round) == before
    return caught.value


# -- announce --------------------------------------------------------------------------------


def spelled(n: int, n_bytes: int = 0) -> bytes:
    return n.to_bytes(n_bytes or -(-n.bit_length() // 8), "big")


MODULI = {
    "zero": (bytes(32), "written with zeros"),
    "one": (bytes(31) + b"\1", "written with zeros"),
    "tiny": (spelled(2**63 + 1), "64 bits"),
    "one bit short": (spelled(2**255 - 19), "255 bits"),
    "even": (spelled(2**256 - 2), "even"),
    "huge and even": (spelled(2**4096 - 2), "even"),
    "zeros before it": (bytes(8) + spelled(2**256 - 189), "written with zeros"),
}
EXCHANGE_KEYS = {
    "of low order": (bytes(32), "coordinator's round key is of low order"),
    "not canonical": ((PRIME + 2).to_bytes(32, "little"), "coordinator's round key is not in"),
    "with the top bit": ((2**255 + 9).to_bytes(32, "little"), "coordinator's round key is not in"),
}


@pytest.mark.parametrize("case", [*MODULI, *EXCHANGE_KEYS])
def test_a_hostile_key_in_an_announce_is_refused_and_nothing_is_trained(case: str) -> None:
    stage = Rehearsal((2, 2, 2))
    if case in MODULI:
        value, reason = MODULI[case]
        made = stage.announcing(paillier_n=value)
    else:
        value, reason = EXCHANGE_KEYS[case]
        made = stage.announcing(exchange_key=value)
    actor = stage.actors[1]
    effects = actor.member.announced(made.announce.raw, 0.0)
    assert not [effect for effect in effects if isinstance(effect, Work)]
    assert reason in only_refusal(effects, made.announce.digest)
    assert (actor.member.state, actor.member.joined) == (State.REFUSED, (0, 0))
    stage.shows(stage.announcing(2).announce.raw, 1)
    assert actor.member.joined == (1, 2)


def only_refusal(effects: list[Effect], about: bytes) -> str:
    """The reason of the one message among effects."""
    (sent,) = [effect for effect in effects if isinstance(effect, Send)]
    refused = open_envelope(sent.data).message
    assert isinstance(refused, Refused)
    assert (sent.to, refused.about) == (COORDINATOR_NAME, about)
    (told,) = [effect.facts["reason"] for effect in effects if isinstance(effect, Report)]
    assert told == refused.reason
    return refused.reason


FORMLESS: dict[str, dict[str, Any]] = {
    "a modulus of 513 bytes": {"paillier_n": b"\xff" * 513},
    "a modulus of 7 bytes": {"paillier_n": b"\xff" * 7},
    "a modulus as a number": {"paillier_n": 2**63 + 1},
    "no values": {"n_values": 0},
    "fewer than no values": {"n_values": -1},
    "values of 7 bits": {"bits": 7},
    "a rate that is no number": {"plan": {"rate": float("nan")}},
    "an endless lap": {"ring": {"lap_s": float("inf")}},
    "a ring of one": {"ring": {"size": 1}},
    "nested": {"suite": [[[[]]]]},
}


@pytest.mark.parametrize("case", FORMLESS)
def test_an_announce_that_has_no_form_is_no_announce(case: str) -> None:
    stage = Rehearsal((2, 2, 2))
    fields = msgpack.unpackb(encode(stage.announcing().announce.message))
    for name, value in FORMLESS[case].items():
        fields[name] = {**fields[name], **value} if isinstance(value, dict) else value
    payload = msgpack.packb(fields)
    member = stage.actors[1].member
    before = picture(member)
    with pytest.raises(PeerError) as caught:
        member.announced(pack_envelope(payload, coordinator().sign("announce", payload)), 0.0)
    assert (caught.value.sender, caught.value.kind) == (COORDINATOR_NAME, "announce")
    assert picture(member) == before


# -- ready and roster ------------------------------------------------------------------------


ROUND_KEYS = {
    "zero": 0,
    "one": 1,
    "minus one": PRIME - 1,
    "of order 8": 325606250916557431795983626356110631294008115727848805560023387167927233504,
    "the prime": PRIME,
    "above the prime": PRIME + 9,
    "with the top bit": 2**255 + 9,
}


@pytest.mark.parametrize("case", ROUND_KEYS)
def test_a_hostile_round_key_is_refused_and_its_owner_named(case: str) -> None:
    stage, made = a_round(SUITES[0])
    bad = ROUND_KEYS[case].to_bytes(32, "little")
    readies = [stage.sent(number, Ready)[-1] for number in stage.actors]
    ready = sign(evolve(readies[HOSTILE - 1].message, round_key=bad), device(HOSTILE))
    fault = complaint_of_coordinator(stage, "b03", ready.raw)
    assert (fault.sender, fault.kind) == ("b03", "ready")
    roster = stage.roster(made.announce, [*readies[:2], ready, readies[3]])
    effects = stage.says(1, roster)
    assert only_refusal(effects, roster.digest).startswith("b03's round key ")
    assert stage.actors[1].member.state == State.REFUSED


@pytest.mark.parametrize(
    "certificate",
    [
        b"none",
        device(HOSTILE).certificate[:-1],
        device(HOSTILE).certificate + b"\0",
        cast().authority.certificate,
        coordinator().certificate,
        device(HOSTILE, "other").certificate,
        b"\xff" * 1024,
    ],
    ids=["none", "cut", "longer", "authority's", "coordinator's", "of another fleet", "longest"],
)
def test_a_hostile_certificate_is_refused_and_its_writer_named(certificate: bytes) -> None:
    stage, _ = a_round(SUITES[0])
    (ready,) = stage.sent(HOSTILE, Ready)
    forged = sign(evolve(ready.message, certificate=certificate), device(HOSTILE))
    fault = complaint_of_coordinator(stage, "b03", forged.raw)
    assert fault.sender in ("b03", COORDINATOR_NAME)
    ends(stage)
    assert stage.ended is not None
    assert not stage.ended.voids


# -- tokens ----------------------------------------------------------------------------------


def body_of_ones(made: Announcing) -> bytes:
    return b"\xff" * made.suite.body_bytes


def tokens(made: Announcing, lap: bytes) -> dict[str, tuple[Hop, list[Chunk], str]]:
    """Tokens that cannot be one, each with what is wrong: (header, chunks, reason)."""
    size = made.suite.body_bytes
    good = Hop(**header(HOSTILE), lap=lap, names=(HOSTILE,), size=size)

    def chunks(hop: Hop, *pieces: bytes) -> list[Chunk]:
        signed = sign(hop, device(HOSTILE))
        return [
            Chunk(**header(HOSTILE), hop=signed.digest, index=index, data=data)
            for index, data in enumerate(pieces)
        ]

    def headed(reason: str, **changes: Any) -> tuple[Hop, list[Chunk], str]:
        return evolve(good, **changes), [], reason

    return {
        "longer": headed(f"size {size + 1}", size=size + 1),
        "a byte short": headed(f"size {size - 1}", size=size - 1),
        "64 MB": headed("size 67108864", size=64 * 2**20),
        "a name twice": headed("order of the lap", names=(HOSTILE, HOSTILE)),
        "a stranger": headed("order of the lap", names=(77, HOSTILE)),
        "somebody else's": headed("not the last name", names=(1,)),
        "no lap": headed("not", lap=b"none"),
        "a lap of itself": headed(
            "", lap=pack_envelope(encode(evolve(good, lap=b"x")), b"signature")
        ),
        "a residue above n": (good, chunks(good, body_of_ones(made)), "is not below n"),
    }


HEADED = ["longer", "a byte short", "64 MB", "a name twice", "a stranger", "somebody else's"]
TOKENS = [
    *((SUITES[0], case) for case in (*HEADED, "no lap", "a lap of itself")),
    *(("paillier", case) for case in ("longer", "a residue above n")),
]


def in_lap(suite_name: str) -> tuple[Rehearsal, Announcing, bytes]:
    """A lap is under way and device 3 says nothing; gives the lap as well."""
    stage, made = a_round(suite_name)
    hop, chunk = keeps_back(Hop), keeps_back(Chunk)
    stage.deliver(lambda post: hop(post) or chunk(post))
    laps = [one for one in stage.overheard if open_envelope(one).message.kind == "lap"]
    return stage, made, laps[0]


@pytest.mark.parametrize(("suite_name", "case"), TOKENS)
@pytest.mark.parametrize("to", ["b04", COORDINATOR_NAME])
def test_a_token_that_cannot_be_one_is_refused_to_its_sender(
    suite_name: str, case: str, to: str
) -> None:
    stage, made, lap = in_lap(suite_name)
    assert stage.round is not None
    hop, chunks, reason = tokens(made, lap)[case]
    machine: Any = stage.round if to == COORDINATOR_NAME else stage.actors[4].member
    before = picture(machine)
    signed = [sign(message, device(HOSTILE)) for message in (hop, *chunks)]
    for message in signed:
        effects = machine.receive("b03", message.raw, stage.now)
    (answer,) = [effect for effect in effects if isinstance(effect, Send)]
    refused = open_envelope(answer.data).message
    assert isinstance(refused, Refused)
    assert (answer.to, refused.about) == ("b03", signed[0].digest)
    assert reason in refused.reason
    if not chunks:
        assert picture(machine) == before
    ends(stage)
    assert stage.opened(made).total.tolist() == stage.total(*stage.opened(made).names)


@pytest.mark.parametrize("case", ["beyond the last", "short", "long", "of 2**32 - 1"])
@pytest.mark.parametrize("to", ["b04", COORDINATOR_NAME])
def test_a_chunk_that_cannot_be_one_is_a_complaint_about_its_sender(case: str, to: str) -> None:
    stage, made, lap = in_lap(SUITES[0])
    size = made.suite.body_bytes
    hop = sign(Hop(**header(HOSTILE), lap=lap, names=(HOSTILE,), size=size), device(HOSTILE))
    index, data = {
        "beyond the last": (1, bytes(size)),
        "short": (0, bytes(size - 1)),
        "long": (0, bytes(CHUNK_BYTES)),
        "of 2**32 - 1": (2**32 - 1, b"x"),
    }[case]
    chunk = Chunk(**header(HOSTILE), hop=hop.digest, index=index, data=data)
    stage.hand_over(Post("b03", to, hop.raw))
    raw = sign(chunk, device(HOSTILE)).raw
    if to == COORDINATOR_NAME:
        fault = complaint_of_coordinator(stage, "b03", raw)
    else:
        fault = complaint_of(stage, 4, "b03", raw)
    assert (fault.sender, fault.kind) == ("b03", "chunk")
    ends(stage)
    assert stage.opened(made).total.tolist() == stage.total(*stage.opened(made).names)


# -- releases --------------------------------------------------------------------------------


def releases(made: Announcing, p: int) -> dict[str, tuple[Callable[[bytes], bytes], str]]:
    """What becomes of an honest release, and what is then said of it."""
    n = made.suite.n
    size = made.suite.release_bytes // made.suite.n_ciphertexts
    last = made.suite.n_ciphertexts - 1

    def replaced(value: int) -> Callable[[bytes], bytes]:
        return lambda plain: plain[:-size] + value.to_bytes(size, "big")

    outside, factor = rf"ciphertext {last} is not in [1, n**2)", "a factor in common with n"
    return {
        "0": (replaced(0), outside),
        "n": (replaced(n), factor),
        "n**2": (replaced(n**2), outside),
        "n**2 + 1": (replaced(n**2 + 1), outside),
        "the largest": (replaced(256**size - 1), outside),
        "p": (replaced(p), factor),
        "a multiple of p": (replaced(p * (n - 2)), factor),
        "n**2 - n": (replaced(n**2 - n), factor),
        "one too few": (lambda plain: plain[:-size], "bytes instead of"),
        "one too many": (lambda plain: plain + plain[-size:], "bytes instead of"),
        "a byte short": (lambda plain: plain[:-1], "bytes instead of"),
        "a byte long": (lambda plain: b"\0" + plain, "bytes instead of"),
        "one byte": (lambda plain: b"\0", "bytes instead of"),
    }


CASES = list(releases(a_round(SUITES[0])[1], 3))


@pytest.mark.parametrize("suite_name", SUITES)
@pytest.mark.parametrize("case", CASES)
def test_a_hostile_release_voids_its_ring_and_names_its_sender(suite_name: str, case: str) -> None:
    stage, made = a_round(suite_name)
    damaged, reason = releases(made, stage.key.p)[case]
    held = stage.actors[HOSTILE].member._round
    assert held is not None
    assert held.secrets is not None
    round_key = held.secrets.round_key
    stage.deliver(keeps_back(Release))
    (release,) = stage.sent(HOSTILE, Release)
    of_list: Any = {
        "roster_digest": release.message.roster,
        "list_digest": release.message.list,
        "sender": HOSTILE,
    }
    plain = unseal(made.exchange_key, round_key.public, release.message.sealed, **of_list)
    sealed = seal(round_key, made.exchange_key.public, damaged(plain), **of_list)
    bad = sign(evolve(release.message, sealed=sealed), device(HOSTILE))
    stage.hand_over(Post("b03", COORDINATOR_NAME, bad.raw))
    assert stage.complaints == []
    assert void_of(stage).unreleased == (HOSTILE,)
    assert void_of(stage).reason.startswith("b03 sent a bad release: ")
    assert reason in void_of(stage).reason


@pytest.mark.parametrize("sealed", [b"x", bytes(16), b"\xff" * 66_000])
def test_a_release_that_is_sealed_to_nobody_voids_its_ring_and_names_its_sender(
    sealed: bytes,
) -> None:
    stage, _ = a_round(SUITES[0])
    stage.deliver(keeps_back(Release))
    (release,) = stage.sent(HOSTILE, Release)
    bad = sign(evolve(release.message, sealed=sealed), device(HOSTILE))
    stage.hand_over(Post("b03", COORDINATOR_NAME, bad.raw))
    assert void_of(stage).unreleased == (HOSTILE,)
    assert void_of(stage).reason == "b03 sent a bad release: seal does not hold"


@pytest.mark.parametrize("change", [{"roster": b"x" * 32}, {"list": b"x" * 32}])
def test_a_release_for_another_list_is_a_complaint_about_its_sender(change: Any) -> None:
    stage, made = a_round(SUITES[0])
    stage.deliver(keeps_back(Release))
    (release,) = stage.sent(HOSTILE, Release)
    bad = sign(evolve(release.message, **change), device(HOSTILE))
    fault = complaint_of_coordinator(stage, "b03", bad.raw)
    assert (fault.sender, fault.kind) == ("b03", "release")
    stage.hand_over(Post("b03", COORDINATOR_NAME, release.raw))
    ends(stage)
    assert stage.opened(made).total.tolist() == stage.total(1, 2, 3, 4)


def void_of(stage: Rehearsal) -> Void:
    if stage.ended is None:
        ends(stage)
    assert stage.ended is not None
    assert stage.ended.sums == ()
    (void,) = stage.ended.voids
    return void


# -- anything at all -------------------------------------------------------------------------

WRITERS: dict[str, Identity] = {
    COORDINATOR_NAME: coordinator(),
    **{device(number).name: device(number) for number in range(1, 5)},
}


@pytest.mark.parametrize("suite_name", SUITES)
@pytest.mark.parametrize("seed", range(8))
def test_damaged_messages_under_good_signatures_end_no_machine(suite_name: str, seed: int) -> None:
    """Before each message come some damaged ones, signed anew by its writer.

    They may cost the round its sum, for their writer could have said so as well. But nothing
    escapes, whoever complains names the writer, and has changed nothing.
    """
    draw = random.Random(seed)
    stage, made = a_round(suite_name)
    n_complaints = 0

    def meets_damage(post: Post) -> bool:
        nonlocal n_complaints
        payload, _ = unpack_envelope(post.data)
        mutator = Mutator(Form.MSGPACK, [payload])
        for _ in range(3):
            damaged = mutator.damaged(draw)[: MAX_ENVELOPE_BYTES - 200]
            signature = WRITERS[post.source].sign(post.message.kind, damaged)
            n_complaints += complains(stage, evolve(post, data=pack_envelope(damaged, signature)))
        return False

    stage.deliver(meets_damage)
    stage.wait(200.0, step=1.0)
    assert stage.ended is not None
    assert n_complaints > 20
    for ring in stage.ended.sums:
        opened = stage.opened(made)
        assert opened.bad_rings or opened.total.tolist() == stage.total(*ring.names)


def complains(stage: Rehearsal, post: Post) -> bool:
    """Hand a message over; whether its receiver complained, having changed nothing."""
    numbers = {actor.name: number for number, actor in stage.actors.items()}
    to_coordinator = post.to == COORDINATOR_NAME
    actor = None if to_coordinator else stage.actors[numbers[post.to]]
    machine = stage.round if actor is None else actor.member
    heard = stage.complaints if actor is None else actor.complaints
    before, n_before = picture(machine), len(heard)
    stage.now += 0.01
    stage.hand_over(post)
    if len(heard) == n_before:
        return False
    assert heard[-1].sender
    assert picture(machine) == before
    return True
