"""Handing tokens round: going round the silent, competing tokens, caps, laps, and slow links."""

import heapq
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from attrs import define, evolve
from cryptography.hazmat.primitives.asymmetric.utils import (
    decode_dss_signature,
    encode_dss_signature,
)

from fedring.device.effects import Effect
from fedring.device.relay import MAX_ADDITIONS, MAX_ARRIVALS, MAX_BROKEN, Relay
from fedring.lab.simulate.cast import device
from fedring.lab.simulate.fleet import QUICK
from fedring.lab.simulate.rehearsal import Post, Rehearsal, said
from fedring.shared.effects import Report, Send
from fedring.shared.encryption import Body
from fedring.shared.envelopes import (
    Signed,
    encode,
    open_envelope,
    pack_envelope,
    sign,
    unpack_envelope,
)
from fedring.shared.errors import IdentityError, ProtocolError
from fedring.shared.messages import (
    CHUNK_BYTES,
    COORDINATOR_NAME,
    Busy,
    Chunk,
    Hop,
    Lap,
    Message,
    Passed,
    Progress,
    Refused,
    Roster,
    Taken,
    tag,
)
from fedring.shared.tokens import Departure

TERMS = evolve(QUICK, patience_s=3.0)  # headers are repeated every second
ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551  # of P-256
TWO_CHUNKS = 2 * CHUNK_BYTES // 4 - 200
HEADER_AND_CHUNK = [(COORDINATOR_NAME, "hop"), (COORDINATOR_NAME, "chunk")]
"""How a token leaves the last of a lap."""


@define
class Story:
    """Members of one ring; the test plays the coordinator and the post."""

    stage: Rehearsal
    roster: Signed[Roster]

    @classmethod
    def of(cls, n_members: int, n_weights: int = 5) -> "Story":
        stage = Rehearsal((1,) * n_members, n_weights=n_weights, terms=TERMS)
        made = stage.announcing()
        roster = stage.roster(made.announce, stage.all_ready(made))
        for number in stage.actors:
            stage.says(number, roster)
        stage.on_its_way.clear()
        return cls(stage, roster)

    def relay(self, number: int) -> Relay:
        held = self.stage.actors[number].member._round
        assert held is not None
        assert held.relay is not None
        return held.relay

    def body(self, number: int) -> Body:
        return self.relay(number).body

    def lap(self, *order: int, lap: int = 1) -> Signed[Lap]:
        return self.stage.lap(self.roster, *order, lap=lap)

    def token(
        self,
        lap: Signed[Lap],
        names: tuple[int, ...],
        *,
        body: bytes | None = None,
        **changes: Any,
    ) -> Departure:
        """A token as its last name would send it, over zeros: what an honest or hostile one may."""
        size = self.relay(min(self.stage.actors)).suite.body_bytes
        sender = device(names[-1])
        fields = {**tag("rehearsal", 1, 1, names[-1]), "names": names, "size": size, **changes}
        hop = sign(Hop(lap=lap.raw, **fields), sender)
        return Departure(hop, bytes(size) if body is None else body, sender)

    def offer(self, to: int, departure: Departure, pieces: int = 99) -> list[Effect]:
        """Hand a member the header and some chunks of a token."""
        sender = device(departure.hop.message.sender)
        effects: list[Effect] = []
        for raw in list(departure.begin())[: pieces + 1]:
            effects += self.stage.says(to, raw, source=sender.name)
        return effects

    def answer(self, to: int, kind: Any, by: int, about: bytes, **more: Any) -> list[Effect]:
        message: Message = kind(**tag("rehearsal", 1, 1, by), about=about, **more)
        signer = device(by) if by else self.stage.coordinator
        return self.stage.says(to, sign(message, signer), source=signer.name)

    def tick(self, number: int, now: float, alive_at: float | None = None) -> list[Effect]:
        self.stage.now = now
        member = self.stage.actors[number].member
        return member.tick(now, now if alive_at is None else alive_at)


def sent(effects: list[Effect]) -> list[tuple[str, str]]:
    """Who got which kind of message."""
    return [
        (effect.to, open_envelope(effect.data).message.kind)
        for effect in effects
        if isinstance(effect, Send)
    ]


def hops(effects: list[Effect], number: int) -> list[Signed[Hop]]:
    return said(effects, Hop, device(number))


def reasons(effects: list[Effect]) -> list[str]:
    return [str(e.facts.get("reason")) for e in effects if isinstance(e, Report)]


# -- a lap that goes well -------------------------------------------------------------------


def test_the_first_of_the_lap_starts_with_its_own_body() -> None:
    story = Story.of(3)
    lap = story.lap(2, 1, 3)
    assert sent(story.stage.says(1, lap)) == []
    started = story.stage.says(2, lap)
    assert sent(started) == [("coordinator", "taken"), ("b01", "hop"), ("b01", "chunk")]
    (hop,) = hops(started, 2)
    assert (hop.message.names, hop.message.lap) == ((2,), lap.raw)


def test_each_adds_its_body_and_name_and_the_last_hands_to_the_coordinator() -> None:
    story = Story.of(4)
    lap = story.lap(3, 1, 4, 2)
    story.stage.says(3, lap)
    story.stage.deliver()
    arrived = [message for _, message in story.stage.inbox]
    hop = next(one.message for one in arrived if isinstance(one.message, Hop))
    chunk = next(one.message for one in arrived if isinstance(one.message, Chunk))
    assert hop.names == (3, 1, 4, 2)
    suite = story.relay(1).suite
    total = sum((story.body(number) for number in (1, 2, 3, 4)), np.zeros_like(story.body(1)))
    assert chunk.data == suite.encode_body(total)


def test_adding_leaves_the_own_body_as_it_is() -> None:
    story = Story.of(3)
    before = story.body(1).copy()
    lap = story.lap(2, 1, 3)
    story.offer(1, story.token(lap, (2,), body=story.body(2).tobytes()))
    assert (story.body(1) == before).all()


def test_a_holder_forgets_its_token_when_the_next_has_passed_it_on() -> None:
    story = Story.of(4)
    lap = story.lap(1, 2, 3, 4)
    (hop,) = hops(story.stage.says(1, lap), 1)
    assert sent(story.answer(1, Taken, by=2, about=hop.digest)) == []
    assert len(story.relay(1)._holdings) == 1
    story.answer(1, Passed, by=2, about=hop.digest)
    assert story.relay(1)._holdings == []


def test_the_source_hears_passed_when_the_next_has_taken() -> None:
    story = Story.of(4)
    lap = story.lap(1, 2, 3, 4)
    token = story.token(lap, (1,))
    (hop,) = hops(story.offer(2, token), 2)
    passed = story.answer(2, Taken, by=3, about=hop.digest)
    assert sent(passed) == [("b01", "passed")]
    assert said(passed, Passed, device(2))[0].message.about == token.hop.digest
    assert sent(story.answer(2, Taken, by=3, about=hop.digest)) == []


def test_the_last_tells_its_source_when_the_coordinator_has_it() -> None:
    story = Story.of(2)
    lap = story.lap(1, 2)
    (hop,) = hops(story.offer(2, story.token(lap, (1,))), 2)
    assert sent(story.answer(2, Passed, by=0, about=hop.digest)) == [("b01", "passed")]
    assert story.relay(2)._holdings == []


def test_a_header_that_comes_again_is_answered_with_how_it_stands() -> None:
    story = Story.of(3, TWO_CHUNKS)
    lap = story.lap(1, 2, 3)
    token = story.token(lap, (1,))
    assert sent(story.offer(2, token, pieces=0)) == [("b01", "progress")]
    (hop,) = hops(story.offer(2, token, pieces=1), 2)
    (again,) = story.stage.says(2, token.hop, source="b01")
    assert said([again], Progress, device(2))[0].message.chunks == 1
    story.offer(2, token)
    assert sent(story.stage.says(2, token.hop, source="b01")) == [("b01", "taken")]
    story.answer(2, Taken, by=3, about=hop.digest)
    assert sent(story.stage.says(2, token.hop, source="b01")) == [("b01", "passed")]
    story.answer(2, Passed, by=3, about=hop.digest)
    assert sent(story.stage.says(2, token.hop, source="b01")) == [("b01", "passed")]


def test_a_resend_is_the_same_bytes() -> None:
    story = Story.of(3)
    lap = story.lap(1, 2, 3)
    started = [e.data for e in story.stage.says(1, lap) if isinstance(e, Send) and e.to == "b02"]
    (again,) = [e.data for e in story.tick(1, 1.0) if isinstance(e, Send)]
    assert again == started[0]
    detour = [e.data for e in story.tick(1, 9.0) if isinstance(e, Send) and e.to == "b03"]
    assert detour == started


def test_a_lap_that_comes_twice_starts_one_token() -> None:
    story = Story.of(3)
    lap = story.lap(1, 2, 3)
    story.stage.says(1, lap)
    assert sent(story.stage.says(1, lap)) == [("coordinator", "taken")]
    assert len(story.relay(1)._holdings) == 1


# -- handing on what has come so far ---------------------------------------------------------


def test_each_chunk_goes_on_as_it_comes() -> None:
    story = Story.of(3, TWO_CHUNKS)
    lap = story.lap(1, 2, 3)
    suite, mine = story.relay(2).suite, story.body(2)
    theirs = story.body(1)
    token = story.token(lap, (1,), body=suite.encode_body(theirs))
    header, *chunks = token.begin()
    assert sent(story.stage.says(2, header, source="b01")) == [("b01", "progress")]
    first = story.stage.says(2, chunks[0], source="b01")
    assert sent(first) == [("b03", "hop"), ("b03", "chunk")]
    assert hops(first, 2)[0].message.names == (1, 2)
    last = story.stage.says(2, chunks[1], source="b01")
    assert sent(last) == [("b01", "taken"), ("b03", "chunk")]
    left = [one.message for one in said([*first, *last], Chunk, device(2))]
    assert [one.index for one in left] == [0, 1]
    assert b"".join(one.data for one in left) == suite.encode_body(theirs + mine)


def test_chunks_that_come_out_of_order_leave_in_order() -> None:
    story = Story.of(3, 2 * TWO_CHUNKS)
    token = story.token(story.lap(1, 2, 3), (1,))
    header, *chunks = token.begin()
    story.stage.says(2, header, source="b01")
    left: list[int] = []
    for place, expected in ((2, []), (0, [0]), (1, [0, 1, 2]), (1, [0, 1, 2]), (3, [0, 1, 2, 3])):
        effects = story.stage.says(2, chunks[place], source="b01")
        left += [one.message.index for one in said(effects, Chunk, device(2))]
        assert left == expected


def test_nobody_is_in_a_token_of_which_only_a_half_has_come() -> None:
    story = Story.of(3, TWO_CHUNKS)
    token = story.token(story.lap(1, 2, 3), (1,))
    story.offer(2, token, pieces=1)
    assert not story.relay(2).added
    story.offer(2, token)
    assert story.relay(2).added


@pytest.mark.parametrize("kind", [Taken, Passed])
def test_nobody_can_have_taken_what_is_not_whole_here(kind: type[Message]) -> None:
    story = Story.of(4, TWO_CHUNKS)
    token = story.token(story.lap(1, 2, 3, 4), (1,))
    (hop,) = hops(story.offer(2, token, pieces=1), 2)
    assert story.answer(2, kind, by=3, about=hop.digest) == []
    assert ("b03", "chunk") in sent(story.offer(2, token))
    assert len(story.relay(2)._holdings) == 1


def test_a_token_whose_source_falls_silent_is_taken_back_all_along_the_ring() -> None:
    story = Story.of(4, TWO_CHUNKS)
    token = story.token(story.lap(1, 2, 3, 4), (1,))
    (hop,) = hops(story.offer(2, token, pieces=1), 2)
    story.stage.deliver(lambda post: post.source == "b01")
    assert [len(story.relay(number)._holdings) for number in (2, 3, 4)] == [1, 1, 1]
    gone = story.tick(2, TERMS.patience_s)
    (refused,) = said(gone, Refused, device(2))
    assert refused.message.about == hop.digest
    assert refused.message.reason == "b01 broke off"
    story.stage.hand_over(Post("b02", "b03", refused.raw))
    story.stage.deliver()
    (told_on,) = said(list(story.stage.actors[3].did), Refused, device(3))
    assert told_on.message.reason == "b02 took it back", "which is not to say that it began"
    for number in (2, 3, 4):
        relay = story.relay(number)
        assert (relay._holdings, len(relay._arrivals), relay._additions) == ([], 0, 0)


def test_a_token_that_broke_off_and_comes_again_leaves_as_the_same_bytes() -> None:
    story = Story.of(3, TWO_CHUNKS)
    token = story.token(story.lap(1, 2, 3), (1,))
    before = story.offer(2, token, pieces=1)
    story.tick(2, TERMS.patience_s)
    after = story.offer(2, token)
    assert hops(after, 2)[0].payload == hops(before, 2)[0].payload
    first, again = (said(one, Chunk, device(2))[0].payload for one in (before, after))
    assert first == again


def test_another_member_cannot_take_a_token_back() -> None:
    story = Story.of(4, TWO_CHUNKS)
    token = story.token(story.lap(1, 2, 3, 4), (1,))
    story.offer(2, token, pieces=1)
    assert story.answer(2, Refused, by=3, about=token.hop.digest, reason="no") == []
    assert len(story.relay(2)._holdings) == 1
    taken_back = story.answer(2, Refused, by=1, about=token.hop.digest, reason="no")
    assert sent(taken_back) == [("b03", "refused")]


def test_where_tokens_keep_breaking_off_none_leaves_before_it_is_whole() -> None:
    story = Story.of(6, TWO_CHUNKS)
    lap = story.lap(1, 2, 3, 4, 5, 6)
    for source in range(1, MAX_BROKEN + 1):
        token = story.token(lap, (source,))
        assert hops(story.offer(6, token, pieces=1), 6)
        story.answer(6, Refused, by=source, about=token.hop.digest, reason="no")
    token = story.token(lap, (4,))
    assert sent(story.offer(6, token, pieces=1)) == [("b04", "progress")]
    assert sent(story.offer(6, token)) == [
        ("b04", "progress"),
        ("b04", "taken"),
        *HEADER_AND_CHUNK,
        (COORDINATOR_NAME, "chunk"),
    ]


def test_tokens_that_are_half_handed_on_count_for_the_cap() -> None:
    story = Story.of(8, TWO_CHUNKS)
    lap = story.lap(1, 2, 3, 4, 5, 6, 7, 8)
    for source in range(1, MAX_ADDITIONS + 1):
        token = story.token(lap, (source,))
        assert hops(story.offer(6, token, pieces=1), 6)
        if source < MAX_ADDITIONS:
            story.offer(6, token)
    assert sent(story.offer(6, story.token(lap, (5,)), pieces=0)) == [("b05", "refused")]


def test_the_coordinators_refusal_ends_a_token_that_is_still_coming() -> None:
    story = Story.of(3, TWO_CHUNKS)
    token = story.token(story.lap(1, 2, 3), (1,))
    (hop,) = hops(story.offer(3, token, pieces=1), 3)
    said_no = story.answer(3, Refused, by=0, about=hop.digest, reason="that lap is over")
    assert sent(said_no) == [("b01", "passed")]
    assert sent(story.offer(3, token)) == [("b01", "passed")]


def test_a_member_that_dies_half_way_is_gone_round() -> None:
    story = Story.of(6, TWO_CHUNKS)
    story.stage.says(1, story.lap(1, 2, 3, 4, 5, 6))
    chunks_of_3 = 0

    def dies(post: Post) -> bool:
        nonlocal chunks_of_3
        chunks_of_3 += post.source == "b03" and isinstance(post.message, Chunk)
        if chunks_of_3 > 1:
            story.stage.asleep = {"b03"}
        return "b03" in (post.source, post.to) and chunks_of_3 > 1

    story.stage.deliver(dies)
    assert story.stage.asleep
    story.stage.wait(3 * TERMS.patience_s)
    arrived = [message.message for _, message in story.stage.inbox]
    whole = [hop for hop in arrived if isinstance(hop, Hop)][-1]
    assert whole.names == (1, 2, 4, 5, 6)
    last = [one.data for one in arrived if isinstance(one, Chunk)][-2:]
    suite = story.relay(1).suite
    total = sum((story.body(number) for number in whole.names), np.zeros_like(story.body(1)))
    assert b"".join(last) == suite.encode_body(total)


# -- going round ----------------------------------------------------------------------------


def test_a_silent_member_is_gone_round() -> None:
    story = Story.of(4)
    story.stage.says(1, story.lap(1, 2, 3, 4))
    assert sent(story.tick(1, 1.0)) == [("b02", "hop")]
    assert sent(story.tick(1, 2.9)) == [("b02", "hop")]
    assert sent(story.tick(1, 3.0)) == [("b03", "hop"), ("b03", "chunk")]
    assert sent(story.tick(1, 6.0)) == [("b04", "hop"), ("b04", "chunk")]
    assert sent(story.tick(1, 9.0)) == [("coordinator", "hop"), ("coordinator", "chunk")]
    assert sent(story.tick(1, 99.0)) == [("coordinator", "hop")]


def test_nobody_is_silent_while_it_is_us_who_cannot_be_heard() -> None:
    story = Story.of(3)
    story.stage.says(1, story.lap(1, 2, 3))
    for now in (1.0, 3.0, 60.0):
        assert ("b03", "hop") not in sent(story.tick(1, now, alive_at=0.0))
    member = story.stage.actors[1].member
    assert sent(member.reconnected(60.0))[-1] == ("b02", "hop")
    assert ("b03", "hop") not in sent(story.tick(1, 62.9))
    assert ("b03", "hop") in sent(story.tick(1, 63.0))


def test_who_answered_while_we_slept_was_not_silent() -> None:
    story = Story.of(3)
    story.stage.says(1, story.lap(1, 2, 3))
    assert ("b03", "hop") not in sent(story.tick(1, 1.0))
    # We wake long after the patience; what came meanwhile is still unread.
    assert ("b03", "hop") not in sent(story.tick(1, 60.0, alive_at=1.0))
    assert ("b03", "hop") in sent(story.tick(1, 60.0))


def test_one_who_took_it_and_fell_silent_is_gone_round() -> None:
    story = Story.of(3)
    (hop,) = hops(story.stage.says(1, story.lap(1, 2, 3)), 1)
    story.stage.now = 1.0
    story.answer(1, Taken, by=2, about=hop.digest)
    assert sent(story.tick(1, 3.5)) == [("b02", "hop")]
    assert ("b03", "hop") in sent(story.tick(1, 4.0))


def test_one_who_goes_on_answering_is_waited_for() -> None:
    story = Story.of(3)
    (hop,) = hops(story.stage.says(1, story.lap(1, 2, 3)), 1)
    for second in range(1, 20):
        story.stage.now = float(second)
        story.answer(1, Taken, by=2, about=hop.digest)
        assert ("b03", "hop") not in sent(story.tick(1, second + 0.9))


def test_a_refusal_is_gone_round_at_once() -> None:
    story = Story.of(3)
    (hop,) = hops(story.stage.says(1, story.lap(1, 2, 3)), 1)
    refused = story.answer(1, Refused, by=2, about=hop.digest, reason="no room")
    assert sent(refused) == [("b03", "hop"), ("b03", "chunk")]
    # what the one before says now changes nothing any more
    assert sent(story.answer(1, Refused, by=2, about=hop.digest, reason="no room")) == []


def test_a_busy_member_is_gone_round_after_one_patience() -> None:
    story = Story.of(3)
    (hop,) = hops(story.stage.says(1, story.lap(1, 2, 3)), 1)
    for now in (0.0, 1.0, 2.0, 2.9):
        story.stage.now = now
        story.answer(1, Busy, by=2, about=hop.digest)
        assert ("b03", "hop") not in sent(story.tick(1, now))
    assert ("b03", "hop") in sent(story.tick(1, 3.0))


def test_a_busy_member_that_gets_room_is_not_gone_round() -> None:
    story = Story.of(3)
    (hop,) = hops(story.stage.says(1, story.lap(1, 2, 3)), 1)
    story.answer(1, Busy, by=2, about=hop.digest)
    story.stage.now = 2.0
    story.answer(1, Progress, by=2, about=hop.digest, chunks=0)
    assert ("b03", "hop") not in sent(story.tick(1, 4.0))


def test_the_one_gone_round_may_still_take_it() -> None:
    """Then two tokens compete, both right; whoever took it last is the one waited for."""
    story = Story.of(4)
    (hop,) = hops(story.stage.says(1, story.lap(1, 2, 3, 4)), 1)
    story.tick(1, 3.0)
    story.answer(1, Taken, by=2, about=hop.digest)
    assert ("b04", "hop") not in sent(story.tick(1, 5.9))
    assert sent(story.answer(1, Passed, by=2, about=hop.digest)) == []
    assert story.relay(1)._holdings == []


def test_two_who_both_say_taken_again_and_again_take_no_memory() -> None:
    story = Story.of(4)
    (hop,) = hops(story.stage.says(1, story.lap(1, 2, 3, 4)), 1)
    story.tick(1, 3.0)
    for _ in range(50):
        story.answer(1, Taken, by=2, about=hop.digest)
        story.answer(1, Taken, by=3, about=hop.digest)
    (holding,) = story.relay(1)._holdings
    assert sorted(holding.targets) == [2, 3]


def test_answers_of_others_than_the_receiver_change_nothing() -> None:
    story = Story.of(4)
    (hop,) = hops(story.stage.says(1, story.lap(1, 2, 3, 4)), 1)
    for kind, more in ((Taken, {}), (Passed, {}), (Refused, {"reason": "no"}), (Busy, {})):
        assert sent(story.answer(1, kind, by=4, about=hop.digest, **more)) == []
    (holding,) = story.relay(1)._holdings
    assert (holding.targets, holding.taken) == ([2], False)


def test_the_dead_are_gone_round_and_all_others_are_in_the_token() -> None:
    story = Story.of(6)
    story.stage.asleep = {"b02", "b05"}
    story.stage.says(1, story.lap(1, 2, 3, 4, 5, 6))
    story.stage.wait(10.0)
    arrived = [message.message for _, message in story.stage.inbox]
    assert next(hop.names for hop in arrived if isinstance(hop, Hop)) == (1, 3, 4, 6)


# -- tokens of others: what is taken, what is not -------------------------------------------


def test_competing_tokens_are_taken_up_to_a_cap() -> None:
    story = Story.of(8)
    lap = story.lap(1, 2, 3, 4, 5, 6, 7, 8)
    bodies = set()
    for source in range(1, MAX_ADDITIONS + 1):
        effects = story.offer(6, story.token(lap, (source,)))
        (hop,) = hops(effects, 6)
        assert hop.message.names == (source, 6)
        bodies |= {chunk.message.data for chunk in said(effects, Chunk, device(6))}
    assert len(bodies) == 1, "always the same stored body"
    refused = story.offer(6, story.token(lap, (5,)))
    assert sent(refused) == [("b05", "refused")]
    assert reasons(refused) == ["already added itself to 3 tokens of this lap"]


def test_a_new_lap_begins_with_a_clean_slate() -> None:
    story = Story.of(8)
    lap = story.lap(1, 2, 3, 4, 5, 6, 7, 8)
    for source in range(1, MAX_ADDITIONS + 1):
        story.offer(6, story.token(lap, (source,)))
    second = story.lap(2, 3, 4, 5, 6, 7, 8, 1, lap=2)
    effects = story.offer(6, story.token(second, (4,)))
    assert [hop.message.names for hop in hops(effects, 6)] == [(4, 6)]
    assert len(story.relay(6)._holdings) == 1
    late = story.offer(6, story.token(lap, (5,)))
    assert reasons(late) == ["token of an earlier lap"]


def test_half_received_tokens_have_their_cap_and_their_time() -> None:
    story = Story.of(6, TWO_CHUNKS)
    lap = story.lap(1, 2, 3, 4, 5, 6)
    for source in range(1, MAX_ARRIVALS + 1):
        assert sent(story.offer(6, story.token(lap, (source,)), pieces=1)) == [
            (f"b{source:02}", "progress"),
            *HEADER_AND_CHUNK,
        ]
    late = story.token(lap, (4,))
    assert sent(story.offer(6, late)) == [("b04", "busy")]
    story.tick(6, TERMS.patience_s)
    assert ("b04", "progress") in sent(story.offer(6, late))


def test_a_ring_full_of_one_senders_headers_has_room_for_another() -> None:
    story = Story.of(6, TWO_CHUNKS)
    lap = story.lap(1, 2, 3, 4, 5, 6)
    for names in ((3,), (1, 3), (2, 3), (1, 2, 3)):
        story.offer(6, story.token(lap, names), pieces=0)
    assert len(story.relay(6)._arrivals) == MAX_ARRIVALS
    assert hops(story.offer(6, story.token(lap, (4,))), 6)


def test_a_flood_of_headers_takes_no_memory() -> None:
    story = Story.of(8, TWO_CHUNKS)
    lap = story.lap(1, 2, 3, 4, 5, 6, 7, 8)
    subsets = [
        names
        for size in range(1, 7)
        for names in itertools.combinations(range(1, 8), size)
        if names[-1] != 8
    ]
    for names in subsets:
        story.offer(8, story.token(lap, names), pieces=1)
    relay = story.relay(8)
    assert len(relay._arrivals) <= MAX_ARRIVALS
    assert len(relay._holdings) + len(relay._gone) <= MAX_ADDITIONS


def junk_token(story: Story, lap: Signed[Lap]) -> Departure:
    return story.token(lap, (1,), size=7, body=b"1234567")


BAD_TOKENS: dict[str, tuple[Callable[[Story, Signed[Lap]], Departure], str]] = {
    "names out of order": (
        lambda story, lap: story.token(lap, (2, 1)),
        "order of the lap",
    ),
    "a name twice": (lambda story, lap: story.token(lap, (1, 1)), "order of the lap"),
    "a foreign name": (lambda story, lap: story.token(lap, (9, 1)), "order of the lap"),
    "the wrong size": (junk_token, "size 7"),
    "from behind": (lambda story, lap: story.token(lap, (4,)), "not after the sender"),
    "another ring's lap": (
        lambda story, lap: story.token(
            story.stage.pen(evolve(lap.message, roster=b"x" * 32)), (1,)
        ),
        "lap of another roster",
    ),
    "a lap with foreign names": (
        lambda story, lap: story.token(story.lap(1, 2, 3, 9, lap=2), (1,)),
        "foreign name 9",
    ),
    "a lap with doubled names": (
        lambda story, lap: story.token(story.lap(1, 2, 3, 3, lap=2), (1,)),
        "doubled names",
    ),
    "a lap that the sender made": (
        lambda story, lap: story.token(sign(lap.message, device(1)), (1,)),
        "signature",
    ),
    "no lap at all": (
        lambda story, lap: story.token(evolve(lap, raw=b"junk"), (1,)),
        "msgpack",
    ),
}


@pytest.mark.parametrize("case", BAD_TOKENS)
def test_a_token_that_cannot_be_is_refused_at_its_header(case: str) -> None:
    make, reason = BAD_TOKENS[case]
    story = Story.of(4)
    lap = story.lap(1, 2, 3, 4)
    story.stage.says(3, lap)
    effects = story.offer(3, make(story, lap))
    assert [kind for _, kind in sent(effects)] == ["refused"]
    assert reason in reasons(effects)[0]
    assert len(story.relay(3)._arrivals) == 0
    assert not story.relay(3).added


def test_nobody_is_added_twice_to_one_token() -> None:
    story = Story.of(4)
    lap = story.lap(1, 3, 2, 4)
    effects = story.offer(3, story.token(lap, (1, 3, 2)))
    assert reasons(effects) == ["this device is in the token already"]


def test_a_member_that_is_not_in_the_lap_takes_no_token() -> None:
    story = Story.of(4)
    effects = story.offer(3, story.token(story.lap(1, 2, 4), (1,)))
    assert reasons(effects) == ["lap without this device"]


def test_anothers_own_lap_keeps_nobody_from_its_own() -> None:
    """Laps of one share a number, and a member may be quicker with its own than the coordinator."""
    story = Story.of(3)
    assert sent(story.offer(2, story.token(story.lap(1, lap=2), (1,)))) == [("b01", "refused")]
    with pytest.raises(ProtocolError, match="without this device"):
        story.stage.says(2, story.lap(1, lap=2))
    assert sent(story.stage.says(2, story.lap(2, lap=2))) == [
        (COORDINATOR_NAME, "taken"),
        *HEADER_AND_CHUNK,
    ]


def test_a_token_that_is_refused_takes_nobody_to_its_lap() -> None:
    story = Story.of(4)
    story.stage.says(1, story.lap(1, 2, 3, 4))
    later = story.lap(2, 3, 4, 1, lap=2)
    for bad in (story.token(later, (2,), size=7, body=b"1234567"), story.token(later, (3, 2))):
        assert ("b02", "refused") in sent(story.offer(1, bad, pieces=0))
    assert len(story.relay(1)._holdings) == 1
    assert ("b02", "progress") in sent(story.offer(1, story.token(later, (2,)), pieces=0))
    assert story.relay(1)._holdings == []


def test_a_lap_of_the_coordinator_with_foreign_names_is_no_lap() -> None:
    story = Story.of(3)
    for lap in (story.lap(1, 2, 9), story.lap(1, 1, 2)):
        with pytest.raises(ProtocolError):
            story.stage.says(1, lap)
        assert story.relay(1)._lap is None


def test_chunks_that_nobody_asked_for_are_not_even_verified() -> None:
    story = Story.of(4)
    token = story.token(story.lap(1, 2, 3, 4), (1,))
    chunk = list(token.begin())[1]
    assert story.stage.says(3, chunk, source="b01") == []
    forged = pack_envelope(encode(open_envelope(chunk).message), b"none")
    assert story.stage.says(3, forged, source="b01") == []


def test_a_chunk_with_a_broken_signature_or_of_another_sender_is_refused() -> None:
    story = Story.of(4)
    token = story.token(story.lap(1, 2, 3, 4), (1,))
    story.offer(3, token, pieces=0)
    chunk = open_envelope(list(token.begin())[1])
    assert isinstance(chunk.message, Chunk)
    changed = evolve(chunk.message, data=chunk.message.data[:-1] + b"\1")
    with pytest.raises(IdentityError):
        story.stage.says(3, pack_envelope(encode(changed), chunk.signature), source="b01")
    by_another = sign(evolve(changed, sender=2), device(2))
    assert story.stage.says(3, by_another, source="b02") == []
    with pytest.raises(ProtocolError, match="no member"):
        story.stage.says(3, by_another, source="b01")
    assert hops(story.stage.says(3, chunk.raw, source="b01"), 3)


def test_a_token_from_somebody_outside_the_ring_is_refused() -> None:
    story = Story.of(3)
    with pytest.raises(ProtocolError, match="no member"):
        story.offer(2, story.token(story.lap(1, 2, 3), (1, 9)))


def test_a_hop_may_come_before_the_lap_itself() -> None:
    story = Story.of(3)
    lap = story.lap(1, 2, 3)
    assert hops(story.offer(2, story.token(lap, (1,))), 2)
    assert story.stage.says(2, lap) == []


# -- the coordinator's word on a token ------------------------------------------------------


def test_a_token_that_the_coordinator_does_not_want_is_dropped_for_good() -> None:
    story = Story.of(3)
    lap = story.lap(1, 2, 3)
    token = story.token(lap, (1,))
    (hop,) = hops(story.offer(3, token), 3)
    said_no = story.answer(3, Refused, by=0, about=hop.digest, reason="that lap is over")
    assert sent(said_no) == [("b01", "passed")], "its source need not keep it either"
    assert story.relay(3)._holdings == []
    assert sent(story.offer(3, token)) == [("b01", "passed")]


def twin_of(lap: Signed[Lap]) -> Signed[Lap]:
    """The lap under the other signature that everybody can make of its own."""
    payload, signature = unpack_envelope(lap.raw)
    r, s = decode_dss_signature(signature)
    twin = evolve(lap, raw=pack_envelope(payload, encode_dss_signature(r, ORDER - s)))
    assert twin.raw != lap.raw
    return twin


@pytest.mark.parametrize("chunks_before", [0, 1, 2])
def test_two_tokens_of_one_member_never_leave_under_one_header(chunks_before: int) -> None:
    """Their headers differ in the signature of the lap alone; ours would be the same."""
    story = Story.of(4, TWO_CHUNKS)
    lap = story.lap(1, 2, 3, 4)
    size = story.relay(2).suite.body_bytes
    first = story.token(lap, (1,), body=b"\1" * size)
    twin = story.token(twin_of(lap), (1,), body=b"\2" * size)
    assert first.hop.digest != twin.hop.digest
    left = story.offer(2, first, pieces=chunks_before)
    assert sent(story.offer(2, twin)) == [("b01", "refused")]
    if chunks_before == 1:
        story.answer(2, Refused, by=1, about=first.hop.digest, reason="no")
        assert sent(story.offer(2, twin)) == [("b01", "refused")]
    left += story.offer(2, first)
    chunks = said(left, Chunk, device(2))
    assert {chunk.message.index for chunk in chunks} == {0, 1}
    for index in (0, 1):
        assert len({one.message.data for one in chunks if one.message.index == index}) == 1


def test_another_signature_of_the_same_lap_keeps_nobody_from_it() -> None:
    """ECDSA: whoever has (r, s) has (r, n - s), too; a member may be quicker with it than we."""
    story = Story.of(3)
    lap = story.lap(1, 2, 3)
    twin = twin_of(lap)

    assert sent(story.offer(3, story.token(twin, (2,)), 0)) == [("b02", "progress")]
    assert sent(story.offer(3, story.token(lap, (1,)), 0)) == [("b01", "progress")]
    story.offer(1, story.token(twin, (2,)), 0)
    assert ("b02", "hop") in sent(story.stage.says(1, lap))


def test_a_lap_started_once_is_not_started_again() -> None:
    story = Story.of(2)
    lap = story.lap(1, 2)
    for _ in range(5):
        for hop in hops(story.stage.says(1, lap), 1):
            story.tick(1, 3.0)
            story.answer(1, Refused, by=0, about=hop.digest, reason="no")
    assert len(hops(list(story.stage.actors[1].did), 1)) == 1
    assert story.relay(1)._additions == 1


# -- a link with a rate ---------------------------------------------------------------------


def carry_over_slow_links(
    rate: float, *, n_members: int = 2, lose: tuple[int, ...] = ()
) -> tuple[float, float, bool]:
    """A token of 2 MB through a lap of members that each send `rate` bytes a second, in order.

    Returns:
        Seconds until the last has taken it, as a multiple of the shortest time for one hop; bytes
        sent as a multiple of the bodies that had to be; and whether somebody was gone round.
    """
    story = Story.of(n_members, n_weights=500_000)
    stage = story.stage
    stage.says(1, story.lap(*range(1, n_members + 1)))
    free = {actor.name: 0.0 for actor in stage.actors.values()}
    n_bytes, n_chunks = 0, 0
    under_way: list[tuple[float, int, Post]] = []
    count = itertools.count()
    members = {number: actor.member for number, actor in stage.actors.items()}
    last = n_members
    while not said(stage.actors[last].did, Taken, device(last)):
        while stage.on_its_way:
            post = stage.on_its_way.popleft()
            if post.to == COORDINATOR_NAME:
                continue
            n_bytes += len(post.data)
            n_chunks += isinstance(post.message, Chunk)
            free[post.source] = max(free[post.source], stage.now) + len(post.data) / rate
            if not (isinstance(post.message, Chunk) and n_chunks in lose):
                heapq.heappush(under_way, (free[post.source] + 0.02, next(count), post))
        times = [time for time, _, _ in under_way[:1]]
        times += [member.deadline for member in members.values() if member.deadline is not None]
        assert min(times) < 300.0, "the token never arrives"
        stage.now = max(stage.now, min(times))
        while under_way and under_way[0][0] <= stage.now:
            stage.hand_over(heapq.heappop(under_way)[2])
        for number, member in members.items():
            stage._carry(stage.actors[number], member.tick(stage.now, stage.now))
    size = story.relay(1).suite.body_bytes
    gone_round = any(
        isinstance(effect, Report) and effect.event == "went round"
        for actor in stage.actors.values()
        for effect in actor.did
    )
    return stage.now / (size / rate), n_bytes / size / (n_members - 1), gone_round


@pytest.mark.parametrize("rate", [1e6, 1e5, 5e4])
def test_a_slow_link_carries_a_token_once(rate: float) -> None:
    time, amount, gone_round = carry_over_slow_links(rate)
    assert time < 1.05
    assert amount < 1.05
    assert not gone_round


@pytest.mark.parametrize("rate", [1e6, 1e5])
def test_a_lap_takes_one_transfer_and_a_chunk_for_each_member(rate: float) -> None:
    n_members = 6
    time, amount, gone_round = carry_over_slow_links(rate, n_members=n_members)
    a_chunk = CHUNK_BYTES / 2e6
    assert time < 1.05 + n_members * 1.2 * a_chunk
    assert amount < 1.05
    assert not gone_round


def test_lost_chunks_are_sent_again() -> None:
    time, amount, gone_round = carry_over_slow_links(1e6, lose=(3, 20, 21))
    assert time < 5
    assert amount < 2.2
    assert not gone_round


def test_chunks_that_are_lost_on_their_way_round_are_sent_again() -> None:
    time, amount, gone_round = carry_over_slow_links(1e6, n_members=4, lose=(3, 20, 50, 51, 90))
    assert time < 8
    assert amount < 2.2
    assert not gone_round
