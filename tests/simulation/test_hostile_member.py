"""A member with a valid key that says whatever it likes: nothing breaks, nothing grows, no promise.

What it says is drawn: any kind of message, with digests that it has seen, names of its neighbours,
tokens of its own. A failing seed repeats with `-k SEED`.
"""

import random

import pytest
from attrs import define, evolve, field

from fedring.coordinator.gathering import MAX_ARRIVALS as MAX_COORDINATOR_ARRIVALS
from fedring.coordinator.gathering import MAX_TOKENS_BY_SENDER
from fedring.device.relay import MAX_ADDITIONS, MAX_ARRIVALS
from fedring.lab.simulate.cast import device
from fedring.lab.simulate.fleet import QUICK
from fedring.lab.simulate.rehearsal import Post, Rehearsal
from fedring.shared import messages
from fedring.shared.envelopes import digest, open_envelope, sign, unpack_envelope
from fedring.shared.messages import COORDINATOR_NAME, MESSAGES, List, Message, Release

HOSTILE = 3
SEEDS = range(60)


@define
class Hostile:
    """Device 3 behind a mouth that does not follow the protocol.

    Attributes:
        draw: what it says next.
        body_bytes: of this round.
        digests: of every message that it has seen.
        laps: envelopes of laps that it has seen.
        heard: everything it could replay.
    """

    draw: random.Random
    body_bytes: int
    digests: list[bytes] = field(factory=lambda: [b"x" * 32])
    laps: list[bytes] = field(factory=lambda: [b"no lap"])
    heard: list[bytes] = field(factory=list)

    def hears(self, raw: bytes) -> None:
        message = open_envelope(raw).message
        self.digests.append(digest(message.kind, unpack_envelope(raw)[0]))
        self.heard.append(raw)
        if message.kind == "lap":
            self.laps.append(raw)

    def speaks(self) -> Post:
        """One message to somebody."""
        to = self.draw.choice([COORDINATOR_NAME, "b01", "b02", "b04", "b05"])
        roll = self.draw.random()
        if roll < 0.1 and self.heard:
            return Post("b03", to, self.draw.choice(self.heard))
        if roll < 0.2 and self.heard:
            damaged = bytearray(self.draw.choice(self.heard))
            damaged[self.draw.randrange(len(damaged))] ^= 1 << self.draw.randrange(8)
            return Post("b03", to, bytes(damaged))
        return Post("b03", to, sign(self.message(), device(HOSTILE)).raw)

    def message(self) -> Message:
        kind = self.draw.choice(sorted(set(MESSAGES) - {"announce", "rest"}))
        header = messages.tag("rehearsal", 1, self.draw.choice([1, 1, 1, 2]), HOSTILE)
        names = tuple(self.draw.sample(range(1, 6), self.draw.randint(1, 5)))
        about, lap = self.draw.choice(self.digests[-40:]), self.draw.randint(1, 3)
        fields = {
            "ready": {
                "announce": about,
                "certificate": device(HOSTILE).certificate,
                "threshold": self.draw.randint(1, 9),
                "round_key": self.draw.randbytes(32),
            },
            "roster": {"announce": about, "ring": 1, "readies": (b"none", b"of these")},
            "lap": {"roster": about, "lap": lap, "order": names},
            "hop": {
                "lap": self.draw.choice(self.laps[-3:]),
                "names": tuple(sorted({*names[:3], HOSTILE})),
                "size": self.draw.choice([self.body_bytes, self.body_bytes, 9]),
            },
            "chunk": {
                "hop": about,
                "index": self.draw.choice([0, 0, 1, 2**32 - 1]),
                "data": bytes(self.draw.choice([self.body_bytes, 7])),
            },
            "progress": {"about": about, "chunks": self.draw.choice([0, 1, 2**32 - 1])},
            "refused": {"about": about, "reason": "no"},
            "call": {"roster": about, "lap": lap},
            "here": {"roster": about, "lap": lap},
            "list": {"roster": about, "names": names},
            "release": {"roster": about, "list": about, "sealed": self.draw.randbytes(99)},
        }.get(kind, {"about": about})
        return MESSAGES[kind](**header, **fields)  # type: ignore[arg-type]


def bounded(stage: Rehearsal) -> None:
    for actor in stage.actors.values():
        held = actor.member._round
        if held is not None and held.relay is not None:
            relay = held.relay
            assert len(relay._arrivals) <= MAX_ARRIVALS
            assert len(relay._holdings) + len(relay._gone) <= MAX_ADDITIONS
            assert all(len(holding.targets) <= 6 for holding in relay._holdings)
    assert stage.round is not None
    assert len(stage.round._answered | stage.round._out) <= 5
    for ring in stage.round._rings:
        assert ring.gathering is not None
        assert ring.gathering.arriving <= MAX_COORDINATOR_ARRIVALS
        assert ring.gathering.received <= MAX_TOKENS_BY_SENDER * 5


@pytest.mark.parametrize("seed", SEEDS)
def test_whatever_a_member_says_no_promise_breaks(seed: int) -> None:
    stage = Rehearsal((2,) * 5, seed=seed, terms=evolve(QUICK, ready_s=5.0))
    made = stage.announcing()
    stage.direct(made)
    hostile = Hostile(random.Random(seed), made.suite.body_bytes)
    for number in stage.actors:
        stage.shows(made.announce.raw, number)

    def passes(post: Post) -> bool:
        """Before every delivery it may speak; now and then it keeps back what it should send."""
        if post.to == "b03":
            hostile.hears(post.data)
        for _ in range(hostile.draw.choice([0, 0, 1, 3])):
            stage.hand_over(hostile.speaks())
        bounded(stage)
        return post.source == "b03" and hostile.draw.random() < 0.3

    stage.deliver(passes)
    stage.wait(150.0, passes, step=1.0)
    assert stage.ended is not None
    for ring in stage.ended.sums:
        opened = stage.opened(made)
        if not opened.bad_rings:
            honest = [number for number in ring.names if number != HOSTILE]
            assert len(ring.names) > 2
            if HOSTILE not in ring.names:
                assert opened.total.tolist() == stage.total(*honest)
    released_for_honest_lists_only(stage)


def released_for_honest_lists_only(stage: Rehearsal) -> None:
    """A member cannot make another release: there is one list, and the coordinator signed it."""
    lists = {
        digest(message.kind, unpack_envelope(effect.data)[0])
        for effect in stage.staged
        if hasattr(effect, "data")
        and isinstance(message := open_envelope(effect.data).message, List)
    }
    for number in set(stage.actors) - {HOSTILE}:
        releases = {release.message.list for release in stage.sent(number, Release)}
        assert releases <= lists
        assert len(releases) <= 1
