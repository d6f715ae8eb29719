"""Certified devices that break the rules on purpose: the others end their ring, in little memory.

A puppet is a device in whose name a test speaks. What it hears, its member does not hear.
"""

import gc
import math
import random
import sys
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterable
from types import FunctionType, ModuleType
from typing import Any, TypeAlias

import numpy as np
import pytest
from attrs import define, evolve

from fedring.coordinator.announcing import Announcing
from fedring.coordinator.lap_times import START_RATE, LinkRate
from fedring.coordinator.rings import Void
from fedring.coordinator.rosters import BENCH_AFTER, BENCH_ROUNDS
from fedring.coordinator.rounds import Round
from fedring.device.member import Member
from fedring.device.relay import MAX_ADDITIONS, MAX_ARRIVALS
from fedring.lab.simulate.cast import device
from fedring.lab.simulate.fleet import QUICK
from fedring.lab.simulate.rehearsal import Drop, Post, Rehearsal
from fedring.shared.contributions import Check
from fedring.shared.effects import Report, Send
from fedring.shared.encryption import Body
from fedring.shared.encryption.paillier import ciphertext_bytes
from fedring.shared.envelopes import digest, open_envelope, sign, unpack_envelope
from fedring.shared.errors import PeerError
from fedring.shared.identity import Authority
from fedring.shared.messages import (
    CHUNK_BYTES,
    COORDINATOR_NAME,
    Call,
    Chunk,
    Here,
    Hop,
    Lap,
    List,
    Message,
    Passed,
    Progress,
    Ready,
    Refused,
    Release,
    Roster,
    Taken,
    tag,
)
from fedring.shared.pairwise import seal, unseal

LIMIT_S = 300.0
"""By then every round has ended."""

Say: TypeAlias = Callable[[Post, bytes], Iterable[tuple[str, Message]]]
"""(what was heard, its digest) -> what to say to whom."""


@define
class Play:
    """A round of the production coordinator with puppets among its members.

    Attributes:
        stage: all others.
        made: the announce.
        puppets: what they say, by number.
    """

    stage: Rehearsal
    made: Announcing
    puppets: dict[int, Say]

    @classmethod
    def of(
        cls,
        n_devices: int,
        puppets: dict[int, Say],
        *,
        cohorts: tuple[tuple[int, ...], ...] = (),
        **stage: Any,
    ) -> "Play":
        rehearsal = Rehearsal((2,) * n_devices, **stage)
        for place, cohort in enumerate(cohorts):
            rehearsal.cohorts.table |= dict.fromkeys(cohort, place)
        play = cls(rehearsal, rehearsal.announcing(), puppets)
        play.begins()
        return play

    def begins(self) -> None:
        self.stage.direct(self.made)
        for number in self.stage.actors:
            self.stage.shows(self.made.announce.raw, number)

    def next_round(self) -> None:
        assert self.stage.round is not None
        self.made = self.stage.announcing(self.stage.round.number + 1)
        self.begins()

    def header(self, number: int) -> dict[str, Any]:
        return tag("rehearsal", 1, self.made.announce.message.round, number)

    def hears(self, post: Post) -> bool:
        """Lets a puppet answer instead of its member, once in a ring."""
        for number, says in self.puppets.items():
            if post.to == device(number).name:
                message = post.message
                if isinstance(message, Roster):
                    return False
                about = digest(message.kind, unpack_envelope(post.data)[0])
                for to, answer in says(post, about):
                    self.says(number, answer, to)
                return True
        return False

    def says(self, number: int, message: Message, to: str = COORDINATOR_NAME) -> None:
        """A device says something, whatever its member thinks of it."""
        raw = sign(message, device(number)).raw
        self.stage.on_its_way.append(Post(device(number).name, to, raw))

    def ends(self, drop: Drop | None = None) -> float:
        """Let the round end; gives how long it took."""
        began = self.stage.now
        self.stage.deliver(drop or self.hears)
        while self.stage.round is None or not self.stage.round.ended:
            assert self.stage.now - began < LIMIT_S, "the round does not end"
            self.stage.wait(0.5, drop or self.hears)
        return self.stage.now - began

    @property
    def contributors(self) -> tuple[int, ...]:
        """Who is in the sum, after a look at the sum itself; nobody when the ring is void."""
        assert self.stage.ended is not None
        if not self.stage.ended.sums:
            return ()
        opened = self.stage.opened(self.made)
        assert not opened.bad_rings
        assert opened.total.tolist() == self.stage.total(*opened.names)
        return opened.names

    @property
    def void(self) -> Void:
        assert self.stage.ended is not None
        (void,) = self.stage.ended.voids
        return void


# -- laps that lead nowhere ------------------------------------------------------------------


def drops(play_number: int) -> Say:
    """Says that it has the token, then that the next has it, and forgets it."""

    def says(post: Post, about: bytes) -> Iterable[tuple[str, Message]]:
        message = post.message
        header = tag("rehearsal", 1, message.round, play_number)
        if isinstance(message, Lap):
            yield COORDINATOR_NAME, Taken(**header, about=about)
        if isinstance(message, Hop):
            yield post.source, Taken(**header, about=about)
            yield post.source, Passed(**header, about=about)
        if isinstance(message, Call):
            yield COORDINATOR_NAME, Here(**header, roster=message.roster, lap=message.lap)

    return says


def stalls(play_number: int) -> Say:
    """Says `taken` again and again."""

    def says(post: Post, about: bytes) -> Iterable[tuple[str, Message]]:
        header = tag("rehearsal", 1, post.message.round, play_number)
        if isinstance(post.message, Hop | Lap):
            yield post.source, Taken(**header, about=about)

    return says


def crawls(play_number: int) -> Say:
    """Says `progress` again and again."""

    def says(post: Post, about: bytes) -> Iterable[tuple[str, Message]]:
        header = tag("rehearsal", 1, post.message.round, play_number)
        if isinstance(post.message, Hop):
            yield post.source, Progress(**header, about=about, chunks=0)

    return says


LAZY: dict[str, Callable[[int], Say]] = {"drops": drops, "stalls": stalls, "crawls": crawls}


@pytest.mark.parametrize("puppets", [(3,), (1,), (6,), (1, 2), (2, 4, 5)], ids=str)
@pytest.mark.parametrize("how", LAZY)
def test_a_token_that_gets_lost_costs_a_lap_and_not_the_ring(
    how: str, puppets: tuple[int, ...]
) -> None:
    play = Play.of(6, {number: LAZY[how](number) for number in puppets})
    took = play.ends()
    honest = {1, 2, 3, 4, 5, 6} - set(puppets)
    assert set(play.contributors) == honest
    assert took < 2 * QUICK.lap_s


def test_a_token_that_is_held_back_makes_no_later_lap_longer() -> None:
    """A member hands on what it should, each time just before the lap is over."""
    play = Play.of(6, {})
    held: list[Post] = []
    began = play.stage.now

    def holds(post: Post) -> bool:
        waits = play.stage.now < began + QUICK.lap_s - 2
        if waits and post.source == "b06" and post.message.kind in ("hop", "chunk"):
            held.append(post)
            return True
        if not waits and held:
            play.stage.on_its_way.extendleft(reversed(held))
            held.clear()
        return False

    rate = LinkRate()
    for round_number in range(1, 4):
        began = play.stage.now
        assert play.ends(holds) >= QUICK.lap_s - 2
        assert play.contributors == (1, 2, 3, 4, 5, 6)
        (round_went,) = [
            effect.facts
            for effect in play.stage.staged
            if isinstance(effect, Report) and effect.event == "token round"
        ][round_number - 1 :]
        rate.learn(play.made.suite.body_bytes, round_went)
        play.next_round()
    assert rate.bytes_per_s == START_RATE


def test_after_a_lost_token_one_slow_member_makes_no_later_lap_longer() -> None:
    """Half of the others say what links carry, each with its own body."""
    play = Play.of(6, {3: drops(3)})
    play.ends()
    facts = next(
        effect.facts
        for effect in play.stage.staged
        if isinstance(effect, Report) and effect.event == "token round"
    )
    assert facts["seconds"] == QUICK.patience_s
    assert facts["median_s"] == 0.0


def shows_its_own_lap(play_number: int) -> Say:
    """Loses a token; then shows its own lap to all others before theirs have come to them."""
    loses = drops(play_number)

    def says(post: Post, about: bytes) -> Iterable[tuple[str, Message]]:
        message = post.message
        header = tag("rehearsal", 1, message.round, play_number)
        if isinstance(message, Lap) and message.order == (play_number,):
            for other in {1, 2, 3, 4, 5, 6} - {play_number}:
                hop = Hop(**header, lap=post.data, names=(play_number,), size=8 * 38)
                yield device(other).name, hop
        yield from loses(post, about)

    return says


def test_a_members_own_lap_keeps_nobody_from_handing_in_its_own_body() -> None:
    play = Play.of(6, {1: shows_its_own_lap(1)})
    put_off: Counter[Post] = Counter()

    def slow_coordinator(post: Post) -> bool:
        """Laps of others come after that of device 1, and after what it makes of it."""
        is_own = isinstance(post.message, Lap) and len(post.message.order) == 1
        if is_own and post.to != "b01" and put_off[post] < 2:
            put_off[post] += 1
            play.stage.on_its_way.append(post)
            return True
        return play.hears(post)

    play.ends(slow_coordinator)
    assert len(put_off) == 5
    assert play.contributors == (2, 3, 4, 5, 6)


def claims(names: tuple[int, ...]) -> Say:
    """Hands the coordinator a token of nothing, with everybody's name on it."""
    (*_, me) = names

    def says(post: Post, about: bytes) -> Iterable[tuple[str, Message]]:
        message = post.message
        header = tag("rehearsal", 1, message.round, me)
        if isinstance(message, Lap) and set(message.order) >= set(names):
            size = 8 * 38
            hop = Hop(**header, lap=post.data, names=names, size=size)
            yield COORDINATOR_NAME, hop
            about = sign(hop, device(me)).digest
            yield COORDINATOR_NAME, Chunk(**header, hop=about, index=0, data=bytes(size))
        if isinstance(message, Call):
            yield COORDINATOR_NAME, Here(**header, roster=message.roster, lap=message.lap)

    return says


def test_a_token_that_names_others_without_their_bodies_excludes_nobody() -> None:
    """Whoever is not in it says so at the call; that tells against the token, not against him."""
    play = Play.of(6, {6: claims((1, 2, 3, 4, 5, 6))})
    play.ends()
    assert play.contributors == (1, 2, 3, 4, 5)


def shortens(names: tuple[int, ...], at_call: str) -> Say:
    """Keeps what others gave it, and hands in a token of nothing for just enough of them."""
    (*_, me) = names
    swallows = drops(me)

    def says(post: Post, about: bytes) -> Iterable[tuple[str, Message]]:
        message = post.message
        header = tag("rehearsal", 1, message.round, me)
        if isinstance(message, Hop):
            yield from swallows(post, about)
        if isinstance(message, Lap) and len(message.order) > 1:
            hop = Hop(**header, lap=post.data, names=names, size=8 * 38)
            yield COORDINATOR_NAME, hop
            token = sign(hop, device(me)).digest
            yield COORDINATOR_NAME, Chunk(**header, hop=token, index=0, data=bytes(8 * 38))
        if isinstance(message, Call) and at_call == "disowns":
            yield COORDINATOR_NAME, Refused(**header, about=about, reason="not me")

    return says


@pytest.mark.parametrize("at_call", ["disowns", "is silent"])
@pytest.mark.parametrize(
    ("thresholds", "names"),
    [((2,) * 6, (1, 2, 6)), ((2,) * 8, (1, 2, 3, 8)), ((6,) * 9, (1, 2, 3, 4, 5, 6, 9))],
    ids=["6 members", "8 members", "9 members"],
)
def test_a_token_too_short_by_those_it_leaves_out_excludes_nobody(
    thresholds: tuple[int, ...], names: tuple[int, ...], at_call: str
) -> None:
    """All in it say `here`, since they added themselves to what was swallowed."""
    (*_, me) = names
    stage = Rehearsal(thresholds, terms=evolve(QUICK, size=len(thresholds)))
    play = Play(stage, stage.announcing(), {me: shortens(names, at_call)})
    play.begins()
    play.ends()
    assert set(play.contributors) == set(stage.actors) - {me}


def test_whoever_is_silent_at_the_call_for_its_own_token_sits_out_when_it_does_so_again() -> None:
    play = Play.of(6, {6: shortens((1, 2, 6), "is silent")})
    for _ in range(BENCH_AFTER):
        play.ends()
        assert play.contributors == (1, 2, 3, 4, 5)
        play.next_round()
    assert play.ends() < QUICK.patience_s
    assert play.contributors == (1, 2, 3, 4, 5)


def test_whoever_disowns_its_own_body_is_left_out() -> None:
    """The same answer again, when nobody else can have put its name there."""

    def disowns(post: Post) -> bool:
        if not isinstance(post.message, Call) or post.to != "b03":
            return play.hears(post)
        about = digest("call", unpack_envelope(post.data)[0])
        play.says(3, Refused(**play.header(3), about=about, reason="not me"))
        return True

    play = Play.of(5, {})
    play.ends(disowns)
    assert play.contributors == (1, 2, 4, 5)


# -- garbage, wrong sizes, floods ------------------------------------------------------------


def deep_size(root: object) -> int:
    """Bytes of an object and all that hangs on it, code and shared keys aside."""
    seen: set[int] = set()
    total = 0
    waiting = [root]
    while waiting:
        one = waiting.pop()
        if id(one) in seen or isinstance(one, type | FunctionType | ModuleType | Authority):
            continue
        seen.add(id(one))
        total += one.nbytes if isinstance(one, np.ndarray) else sys.getsizeof(one)
        waiting += gc.get_referents(one)
    return total


@define
class Flood:
    """Ten thousand messages of device 3, no two the same, hardly any of them right.

    Attributes:
        play: a ring in its first lap.
        draw: what comes next.
        laps: that the device has heard.
        heard: all that it could replay.
    """

    play: Play
    draw: random.Random
    laps: list[bytes]
    heard: list[bytes]

    def messages(self, count: int) -> Iterable[bytes]:
        makers: list[Callable[[], bytes]] = [
            lambda: self.draw.randbytes(self.draw.randrange(2000)),
            lambda: self.draw.choice(self.heard)[: self.draw.randrange(200)],
            lambda: self.draw.choice(self.heard),
            lambda: self.signed(self.token()),
            lambda: self.signed(self.piece()),
            lambda: self.signed(self.answer()),
            lambda: self.signed(self.order()),
            lambda: self.signed(evolve(self.answer(), sender=self.draw.choice([0, 1, 2, 9]))),
        ]
        for place in range(count):
            yield makers[place % len(makers)]()

    def signed(self, message: Message) -> bytes:
        return sign(message, device(3)).raw

    @property
    def about(self) -> bytes:
        known = open_envelope(self.draw.choice(self.heard))
        return self.draw.choice([known.digest, self.draw.randbytes(32)])

    def token(self) -> Message:
        names = self.draw.choice([(3,), (1, 3), (2, 3), (1, 2, 3), (2, 1, 3), (3, 3), (9, 3)])
        size = self.draw.choice([self.play.made.suite.body_bytes, self.draw.randrange(1, 2**26)])
        lap = self.draw.choice([*self.laps, self.draw.randbytes(300)])
        return Hop(**self.play.header(3), lap=lap, names=names, size=size)

    def piece(self) -> Message:
        size = self.draw.choice([1, 304, 304, 999, CHUNK_BYTES])
        index = self.draw.choice([0, 0, 1, 7, 2**32 - 1])
        data = bytes(size)
        return Chunk(**self.play.header(3), hop=self.about, index=index, data=data)

    def answer(self) -> Message:
        header, about = self.play.header(3), self.about
        return self.draw.choice(
            [
                Progress(**header, about=about, chunks=self.draw.randrange(2**32)),
                Taken(**header, about=about),
                Passed(**header, about=about),
                Refused(**header, about=about, reason="no"),
                Here(**header, roster=about, lap=self.draw.randint(1, 3)),
                Release(**header, roster=about, list=about, sealed=self.draw.randbytes(500)),
            ]
        )

    def order(self) -> Message:
        """What only a coordinator may say, and a new `ready`."""
        header, about = self.play.header(3), self.about
        return self.draw.choice(
            [
                Call(**header, roster=about, lap=1),
                Lap(**header, roster=about, lap=2, order=(3, 1)),
                List(**header, roster=about, names=(1, 2, 3)),
                Roster(**header, announce=about, ring=1, readies=(about, about)),
                Ready(
                    **header,
                    announce=self.play.made.announce.digest,
                    certificate=device(3).certificate,
                    threshold=1,
                    round_key=self.draw.randbytes(32),
                ),
            ]
        )


WARM, WATCHED = 6_000, 4_000
"""By then caches are full: whatever is still kept after that grows for ever."""
FREE_LISTS = 64_000
"""Bytes of small tuples that Python keeps for the next ones."""


@pytest.mark.parametrize("to", ["b04", COORDINATOR_NAME])
def test_a_flood_of_ten_thousand_messages_takes_no_memory_and_names_its_sender(to: str) -> None:
    play = Play.of(6, {})
    stage = play.stage
    held: list[Post] = []

    def holds_hops(post: Post) -> bool:
        if post.message.kind == "hop":
            held.append(post)
        return post.message.kind == "hop"

    stage.deliver(holds_hops)
    assert stage.round is not None
    heard = [effect.data for effect in stage.staged if isinstance(effect, Send)]
    laps = [raw for raw in heard if open_envelope(raw).message.kind == "lap"][:1]
    flood = Flood(play, random.Random(1), laps, heard + [post.data for post in held])
    target: Member | Round = stage.round if to == COORDINATOR_NAME else stage.actors[4].member
    before = deep_size(target)
    room = (MAX_ADDITIONS + MAX_ARRIVALS + 2) * 3 * play.made.suite.body_bytes + 16_000
    answers = 0
    culprits: Counter[str] = Counter()

    def hears(messages: Iterable[bytes]) -> None:
        nonlocal answers
        for raw in messages:
            try:
                effects = target.receive("b03", raw, stage.now)
                answers += sum(isinstance(effect, Send) for effect in effects)
            except PeerError as fault:
                culprits[fault.sender] += 1
        gc.collect()

    hears(flood.messages(WARM))
    watched = list(flood.messages(WATCHED))
    tracemalloc.start()
    try:
        hears(watched)
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert culprits.keys() == {"b03"}
    assert culprits["b03"] > (WARM + WATCHED) / 4
    assert answers < (WARM + WATCHED) / 2, "a flood is not made larger"
    assert deep_size(target) < before + room
    assert kept < room + FREE_LISTS

    stage.on_its_way.extend(held)
    play.ends()
    assert len(play.contributors) >= 4


# -- silence, bad releases, and what comes of doing it again ----------------------------------


STEPS = ("ready", "taken", "hop", "chunk", "passed", "here", "release")


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("mute", [1, 3, 6])
def test_silence_before_any_step_costs_at_most_the_ring_of_one_round(step: str, mute: int) -> None:
    play = Play.of(6, {})
    silent: set[str] = set()

    def loses(post: Post) -> bool:
        if post.source == device(mute).name and post.message.kind == step:
            silent.add(post.source)
        return post.source in silent

    play.ends(loses)
    if step == "release":
        assert play.void.reason == f"no release from b{mute:02}"
        assert play.void.unreleased == (mute,)
    else:
        assert set(play.contributors) >= {1, 2, 3, 4, 5, 6} - {mute}
    play.next_round()
    play.ends()
    assert play.contributors == (1, 2, 3, 4, 5, 6)


def out_of_range(n: int, plaintext: bytes) -> Iterable[bytes]:
    """Releases of device 3 that hold something else than ciphertexts, the first few in place."""
    size = ciphertext_bytes(n)
    for bad in (0, n, n * 5, n * n, n * n + 1, (1 << 8 * size) - 1):
        yield bad.to_bytes(size, "big") + plaintext[size:]
    yield plaintext[:-size]
    yield plaintext + plaintext[-size:]
    yield b""


@pytest.mark.parametrize("kind", range(9))
def test_a_release_that_holds_no_ciphertexts_is_void_and_names_its_sender(kind: int) -> None:
    play = Play.of(4, {})
    spoils(play, kind)
    assert play.void.reason.startswith("b03 sent a bad release: ")
    assert play.void.unreleased == (3,)


def spoils(play: Play, kind: int) -> None:
    """Let the round end with a bad release of device 3, properly sealed and signed."""
    held = play.stage.actors[3].member._round
    assert held is not None
    assert held.secrets is not None
    round_key = held.secrets.round_key

    def seals(post: Post) -> bool:
        release = post.message
        if not isinstance(release, Release) or post.source != "b03":
            return False
        places: dict[str, Any] = {
            "roster_digest": release.roster,
            "list_digest": release.list,
            "sender": 3,
        }
        plain = unseal(play.made.exchange_key, round_key.public, release.sealed, **places)
        bad = list(out_of_range(play.stage.key.public_key.n, plain))[kind]
        sealed = seal(round_key, play.made.exchange_key.public, bad, **places)
        play.stage.hand_over(
            Post("b03", post.to, sign(evolve(release, sealed=sealed), device(3)).raw)
        )
        return True

    play.ends(seals)


def test_whoever_spoils_rings_again_and_again_sits_out_and_comes_back() -> None:
    play = Play.of(4, {}, cohorts=((1, 2, 3, 4),))
    history: list[tuple[int, ...]] = []
    for number in range(1, 12):
        assert play.made.announce.message.round == number
        if number < 10 and not play.stage.bench.rounds_left(3, number):
            spoils(play, 0)
        else:
            play.ends()
        history.append(play.contributors)
        play.next_round()
    without, whole = (1, 2, 4), (1, 2, 3, 4)
    assert history == [
        (),
        (),
        *[without] * BENCH_ROUNDS,
        (),
        *[without] * BENCH_ROUNDS,
        *[whole] * 2,
    ]


# -- bodies and releases of others -----------------------------------------------------------


def changed(play: Play, post: Post, more: Body) -> Post:
    """The one chunk of a token, with something added to it by its sender."""
    chunk = post.message
    assert isinstance(chunk, Chunk)
    total = play.made.suite.decode_body(chunk.data)
    play.made.suite.add(total, more)
    again = evolve(chunk, data=play.made.suite.encode_body(total))
    return Post(post.source, post.to, sign(again, device(again.sender)).raw)


@pytest.mark.parametrize("times", [1, 2, -1])
def test_a_neighbours_body_added_once_more_spoils_the_sum_and_nothing_else(times: int) -> None:
    play = Play.of(6, {}, cohorts=((1, 2, 3), (4, 5, 6)), terms=evolve(QUICK, size=3))
    passed: list[Body] = []

    def adds(post: Post) -> bool:
        if post.message.kind != "chunk" or post.to not in ("b02", "b03"):
            if post.source == "b03" and post.message.kind == "chunk":
                before, after = passed
                play.stage.hand_over(
                    changed(play, post, np.uint64(times % 2**64) * (after - before))
                )
                return True
            return False
        assert isinstance(post.message, Chunk)
        passed.append(play.made.suite.decode_body(post.message.data))
        return False

    play.ends(adds)
    opened = play.stage.opened(play.made)
    assert opened.bad_rings.keys() == {"1"}
    assert opened.names == (4, 5, 6)
    assert opened.total.tolist() == play.stage.total(4, 5, 6)


def takes_a_ring_out(play: Play) -> None:
    """Device 5 of ring 1 takes away what ring 2 adds: its bodies, and its releases, unopened."""
    stage, suite = play.stage, play.made.suite
    n = int(stage.key.public_key.n)
    kept: list[Post] = []
    whole: list[Body] = []
    releases: list[bytes] = []

    def watches(post: Post) -> bool:
        message = post.message
        if post.source == "b05" and isinstance(message, Chunk | Release):
            kept.append(post)
            return True
        if post.source == "b06" and isinstance(message, Chunk):
            whole.append(suite.decode_body(message.data))
        if post.source in ("b02", "b04", "b06") and isinstance(message, Release):
            releases.append(message.sealed)
        return False

    stage.deliver(watches)
    (body,) = whole
    less = np.zeros_like(body) - body
    forms = np.zeros(play.made.announce.message.n_values, np.int32)
    forms[-len(Check) + Check.ONE] = forms[-len(Check) + Check.WEIGHT] = 3  # as if it had counted
    suite.add_values(less, forms)
    stage.hand_over(changed(play, kept.pop(), less))
    stage.deliver(watches)

    (mine,) = kept
    release = mine.message
    assert isinstance(release, Release)
    rows = [[*in_pieces(sealed, n)] for sealed in (release.sealed, *releases)]
    columns = zip(*rows, strict=True)
    sealed = b"".join(
        int(own * pow(math.prod(others), -1, n * n) % (n * n)).to_bytes(ciphertext_bytes(n), "big")
        for own, *others in columns
    )
    tail = release.sealed[len(sealed) :]
    forged = sign(evolve(release, sealed=sealed + tail), device(5))
    stage.hand_over(Post("b05", COORDINATOR_NAME, forged.raw))
    play.ends()


def in_pieces(sealed: bytes, n: int) -> Iterable[int]:
    """What would be ciphertexts if there were no seal, each made invertible."""
    size = ciphertext_bytes(n)
    for start in range(0, len(sealed) - size + 1, size):
        piece = int.from_bytes(sealed[start : start + size], "big")
        yield piece if math.gcd(piece, n) == 1 else 1


def two_rings() -> Play:
    return Play.of(6, {}, cohorts=((1, 3, 5), (2, 4, 6)), terms=evolve(QUICK, size=3))


def test_another_rings_bodies_and_releases_take_it_out_of_no_sum() -> None:
    play = two_rings()
    takes_a_ring_out(play)
    assert play.void.unreleased == (5,)
    assert play.void.reason == "b05 sent a bad release: seal does not hold"
    assert play.contributors == (2, 4, 6)


def test_without_seals_another_ring_vanishes_unseen(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the one above can fail: every check of the sum holds, and a ring is gone."""
    monkeypatch.setattr("fedring.device.releases.seal", lambda _own, _to, plain, **_: plain)
    monkeypatch.setattr("fedring.coordinator.rings.unseal", lambda _own, _of, sealed, **_: sealed)
    play = two_rings()
    takes_a_ring_out(play)
    opened = play.stage.opened(play.made)
    assert opened.bad_rings == {}
    assert set(opened.names) == {1, 2, 3, 4, 5, 6}
    update = slice(0, -len(Check))
    assert opened.total.tolist()[update] == play.stage.total(1, 3, 5)[update]
