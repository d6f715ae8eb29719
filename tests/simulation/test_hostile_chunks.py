"""A hostile member among tokens of several chunks: half tokens, twins, answers that cannot be true.

Chunks are 64 bytes here, so that a small body has five. What device 3 says is drawn, and on the way
messages get lost and overtake each other. A failing seed repeats with `-k SEED`.
"""

import random
from collections.abc import Iterator

import pytest
from attrs import define, evolve, field
from cryptography.hazmat.primitives.asymmetric.utils import (
    decode_dss_signature,
    encode_dss_signature,
)

from fedring.coordinator.gathering import MAX_ARRIVALS as MAX_COORDINATOR_ARRIVALS
from fedring.coordinator.gathering import MAX_TOKENS_BY_SENDER
from fedring.device.relay import MAX_ADDITIONS, MAX_ARRIVALS, MAX_BROKEN
from fedring.lab.simulate.cast import device
from fedring.lab.simulate.fleet import QUICK
from fedring.lab.simulate.rehearsal import Post, Rehearsal
from fedring.shared import messages, tokens
from fedring.shared.envelopes import digest, open_envelope, pack_envelope, sign, unpack_envelope
from fedring.shared.messages import (
    COORDINATOR_NAME,
    Busy,
    Call,
    Chunk,
    Here,
    Hop,
    Lap,
    Message,
    Passed,
    Progress,
    Refused,
    Taken,
    tag,
)

HOSTILE = 3
NAMES = {number: device(number).name for number in range(1, 6)}
ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551  # of P-256
SMALL_CHUNK_BYTES = 64
SEEDS = range(300)


def twin(envelope: bytes) -> bytes:
    """The same message under the other signature that anybody can make of its own."""
    payload, signature = unpack_envelope(envelope)
    r, s = decode_dss_signature(signature)
    return pack_envelope(payload, encode_dss_signature(r, ORDER - s))


@define
class Hostile:
    """Device 3: hands on, takes back, answers and is silent as it is drawn.

    Attributes:
        draw: what it does.
        body_bytes: of this round.
        laps: envelopes that it has seen.
        tokens: digests of those that it offered.
        offered: those that others offered to it, and who did.
        calls: that it has heard, with their digests.
    """

    draw: random.Random
    body_bytes: int
    laps: list[bytes] = field(factory=list)
    tokens: list[bytes] = field(factory=list)
    offered: list[tuple[str, bytes]] = field(factory=list)
    calls: list[tuple[Call, bytes]] = field(factory=list)

    def hears(self, post: Post) -> None:
        about = digest(post.message.kind, unpack_envelope(post.data)[0])
        match post.message:
            case Lap():
                self.laps.append(post.data)
            case Hop():
                self.offered.append((post.source, about))
            case Call() as call:
                self.calls.append((call, about))

    def speaks(self) -> Iterator[Post]:
        """One stroke of mischief: a token or a part of one, an answer, or a lie at the call."""
        to = self.draw.choice([COORDINATOR_NAME, *(NAMES[n] for n in NAMES if n != HOSTILE)])
        roll = self.draw.random()
        header = tag("rehearsal", 1, 1, HOSTILE)
        if roll < 0.25 and self.laps:
            yield from self.token(to)
        elif roll < 0.5 and self.tokens:
            yield self.says(to, self.piece(self.draw.choice(self.tokens[-6:])))
        elif roll < 0.65 and self.tokens:
            about = self.draw.choice(self.tokens[-6:])
            yield self.says(to, Refused(**header, about=about, reason="taken back"))
        elif roll < 0.9 and self.offered:
            source, about = self.draw.choice(self.offered[-8:])
            yield self.says(source, self.answer(about))
        elif self.calls:
            call, about = self.calls[-1]
            here: Message = Here(**header, roster=call.roster, lap=call.lap)
            if self.draw.random() < 0.3:
                here = Refused(**header, about=about, reason="in no token")
            yield self.says(COORDINATOR_NAME, here)

    def token(self, to: str) -> Iterator[Post]:
        """A header of any names before its own, and some of the chunks, over random bytes."""
        lap = self.draw.choice(self.laps[-4:])
        message = open_envelope(lap).message
        assert isinstance(message, Lap)
        if self.draw.random() < 0.3:
            lap = twin(lap)
        before = message.order[: message.order.index(HOSTILE)] if HOSTILE in message.order else ()
        names = (*(name for name in before if self.draw.random() < 0.5), HOSTILE)
        header = tag("rehearsal", 1, 1, HOSTILE)
        hop = sign(Hop(**header, lap=lap, names=names, size=self.body_bytes), device(HOSTILE))
        self.tokens.append(hop.digest)
        yield Post(NAMES[HOSTILE], to, hop.raw)
        for index in range(self.draw.randint(0, hop.message.n_chunks)):
            if self.draw.random() < 0.9:
                yield self.says(to, self.piece(hop.digest, index))

    def piece(self, about: bytes, index: int | None = None) -> Message:
        n_chunks = -(-self.body_bytes // SMALL_CHUNK_BYTES)
        place = self.draw.randrange(n_chunks) if index is None else index
        size = min(SMALL_CHUNK_BYTES, self.body_bytes - place * SMALL_CHUNK_BYTES)
        header = tag("rehearsal", 1, 1, HOSTILE)
        return Chunk(**header, hop=about, index=place, data=self.draw.randbytes(size))

    def answer(self, about: bytes) -> Message:
        header = tag("rehearsal", 1, 1, HOSTILE)
        chunks = self.draw.choice([0, 1, 4, 5, 2**32 - 1])
        return self.draw.choice(
            [
                Taken(**header, about=about),
                Passed(**header, about=about),
                Busy(**header, about=about),
                Progress(**header, about=about, chunks=chunks),
                Refused(**header, about=about, reason="no"),
            ]
        )

    @staticmethod
    def says(to: str, message: Message) -> Post:
        return Post(NAMES[HOSTILE], to, sign(message, device(HOSTILE)).raw)


def bounded(stage: Rehearsal) -> None:
    for actor in stage.actors.values():
        held = actor.member._round
        if held is None or held.relay is None:
            continue
        relay = held.relay
        assert len(relay._arrivals) <= MAX_ARRIVALS
        assert len(relay._holdings) + len(relay._gone) <= MAX_ADDITIONS
        assert len(relay._holdings) <= relay._additions <= MAX_ADDITIONS
        assert len(relay._begun) <= 2 * MAX_ADDITIONS + MAX_BROKEN
        for holding in relay._holdings:
            assert holding.departure.whole or relay._arrivals.get(holding.about) is not None
    assert stage.round is not None
    for ring in stage.round._rings:
        assert ring.gathering is not None
        assert ring.gathering.arriving <= MAX_COORDINATOR_ARRIVALS
        assert ring.gathering.received <= MAX_TOKENS_BY_SENDER * len(NAMES)


@pytest.mark.parametrize("seed", SEEDS)
def test_whatever_becomes_of_half_tokens_no_promise_breaks(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (messages, tokens):
        monkeypatch.setattr(module, "CHUNK_BYTES", SMALL_CHUNK_BYTES)
    draw = random.Random(seed)
    stage = Rehearsal((2,) * len(NAMES), seed=seed, terms=evolve(QUICK, ready_s=5.0))
    made = stage.announcing()
    assert -(-made.suite.body_bytes // SMALL_CHUNK_BYTES) == 5
    stage.direct(made)
    hostile = Hostile(draw, made.suite.body_bytes)
    silent, active = draw.random() * 0.6, draw.choice([0.0, 0.02, 0.1, 0.3])

    def passes(post: Post) -> bool:
        """Loses a message now and then, lets one overtake another, and device 3 speak."""
        if stage.on_its_way and draw.random() < 0.1:
            stage.on_its_way.append(post)
            return True
        if post.to == NAMES[HOSTILE]:
            hostile.hears(post)
        while draw.random() < active:
            for spoken in hostile.speaks():
                stage.hand_over(spoken)
        bounded(stage)
        mute = post.source == NAMES[HOSTILE] and post.message.kind not in ("ready", "release")
        return draw.random() < (silent if mute else 0.01)

    for number in stage.actors:
        stage.shows(made.announce.raw, number)
    stage.deliver(passes)
    while stage.ended is None:
        assert stage.now < 200.0, "the round does not end"
        stage.wait(1.0, passes, step=0.5)
    for ring in stage.ended.sums:
        opened = stage.opened(made)
        assert len(ring.names) > 2
        if HOSTILE not in ring.names:
            assert not opened.bad_rings
            assert opened.total.tolist() == stage.total(*ring.names)
