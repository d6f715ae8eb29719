"""One ring: laps, call, list, releases, with real members and one of them or all misbehaving."""

from collections.abc import Callable, Iterable
from typing import Any

import pytest
from attrs import define, evolve
from cryptography.hazmat.primitives.asymmetric.utils import (
    decode_dss_signature,
    encode_dss_signature,
)

from fedring.coordinator.announcing import Announcing
from fedring.coordinator.gathering import MAX_ARRIVALS, MAX_TOKENS_BY_SENDER, Gathering
from fedring.coordinator.rings import MAX_CALLS, Ring, Stage, Void
from fedring.coordinator.rounds import Ended
from fedring.lab.simulate.cast import device
from fedring.lab.simulate.fleet import QUICK
from fedring.lab.simulate.rehearsal import Drop, Post, Rehearsal
from fedring.shared.effects import Send
from fedring.shared.envelopes import Signed, open_envelope, pack_envelope, sign, unpack_envelope
from fedring.shared.errors import PeerError
from fedring.shared.messages import (
    CHUNK_BYTES,
    COORDINATOR_NAME,
    Call,
    Here,
    Hop,
    Lap,
    Message,
    Ready,
    Refused,
    Release,
    Roster,
    Taken,
    tag,
)
from fedring.shared.tokens import Departure

TWO_CHUNKS = 2 * CHUNK_BYTES // 4 - 200


@define
class Story:
    """A ring of real members under the production coordinator, stopped where a test wants it."""

    stage: Rehearsal
    made: Announcing

    @classmethod
    def of(cls, n_members: int = 5, threshold: int = 2, **stage: Any) -> "Story":
        return cls.with_thresholds((threshold,) * n_members, **stage)

    @classmethod
    def with_thresholds(cls, thresholds: tuple[int, ...], **stage: Any) -> "Story":
        rehearsal = Rehearsal(thresholds, **stage)
        made = rehearsal.announcing()
        rehearsal.direct(made)
        for number in rehearsal.actors:
            rehearsal.shows(made.announce.raw, number)
        return cls(rehearsal, made)

    @property
    def ring(self) -> Ring:
        assert self.stage.round is not None
        (ring,) = self.stage.round._rings
        return ring

    @property
    def outcome(self) -> object:
        return self.ring.outcome

    @property
    def reason(self) -> str:
        """Why the ring is void."""
        assert isinstance(self.outcome, Void)
        return self.outcome.reason

    @property
    def contributors(self) -> tuple[int, ...]:
        """Who is in the sum that the ring ended in, after a look at the sum itself."""
        assert self.stage.ended is not None
        (ring_sum,) = self.stage.ended.sums
        opened = self.stage.opened(self.made)
        assert opened.total.tolist() == self.stage.total(*ring_sum.names)
        return ring_sum.names

    def until(self, kind: str) -> list[Post]:
        """Deliver everything up to messages of this kind, and give those."""
        held: list[Post] = []

        def hold(post: Post) -> bool:
            if post.message.kind == kind:
                held.append(post)
            return post.message.kind == kind

        self.stage.deliver(hold)
        return held

    def sent(self, kind: type[Message]) -> list[tuple[str, Message]]:
        """What the coordinator sent of a kind, and to whom."""
        return [
            (effect.to, message)
            for effect in self.stage.staged
            if isinstance(effect, Send)
            and isinstance(message := open_envelope(effect.data).message, kind)
        ]

    def laps(self) -> list[tuple[int, ...]]:
        """The orders of the laps so far."""
        orders = []
        for _, message in self.sent(Lap):
            assert isinstance(message, Lap)
            if (message.lap, message.order) not in orders:
                orders.append((message.lap, message.order))
        return [order for _, order in orders]

    def says(self, number: int, message: Message | Signed[Any]) -> None:
        """A device says what a test puts into its mouth."""
        signed = sign(message, device(number)) if isinstance(message, Message) else message
        self.stage.hand_over(Post(device(number).name, COORDINATOR_NAME, signed.raw))

    def header(self, number: int) -> dict[str, Any]:
        return tag("rehearsal", 1, 1, number)

    def refuses(self, number: int, about: bytes) -> None:
        self.says(number, Refused(**self.header(number), about=about, reason="no"))

    @property
    def gathering(self) -> Gathering:
        """The tokens of the newest lap."""
        assert self.ring.gathering is not None
        return self.ring.gathering

    def lap(self) -> Signed[Lap]:
        """The newest lap, where all members share one."""
        (lap,) = self.gathering._laps.values()
        return lap

    def token(
        self, names: tuple[int, ...], *, body: bytes | None = None, **changes: Any
    ) -> Departure:
        """A token as its last name would sign it, over zeros."""
        size = self.ring._suite.body_bytes
        fields = {**self.header(names[-1]), "names": names, "size": size, **changes}
        fields["names"] = fields.pop("names_instead", names)
        fields.setdefault("lap", next(iter(self.gathering._laps.values())).raw)
        hop = sign(Hop(**fields), device(names[-1]))
        return Departure(hop, bytes(fields["size"]) if body is None else body, device(names[-1]))

    def offers(self, departure: Departure, pieces: int = 99) -> list[str]:
        """The coordinator gets a token; gives the kinds of its answers."""
        before = len(self.stage.staged)
        for raw in list(departure.begin())[: pieces + 1]:
            name = device(departure.hop.message.sender).name
            self.stage.hand_over(Post(name, COORDINATOR_NAME, raw))
        return self.answers(self.stage.staged[before:], departure.hop.message.sender)

    @staticmethod
    def answers(effects: Iterable[object], to: int) -> list[str]:
        return [
            open_envelope(effect.data).message.kind
            for effect in effects
            if isinstance(effect, Send) and effect.to == device(to).name
        ]


def lose(*kinds: str, of: str = "", to: str = "") -> Drop:
    """Loses messages of these kinds, from or to somebody."""
    return lambda post: (
        post.message.kind in kinds and of in ("", post.source) and to in ("", post.to)
    )


# -- what ends in a sum ---------------------------------------------------------------------


def test_a_ring_ends_in_the_sum_over_all_its_members() -> None:
    story = Story.of(5)
    story.stage.deliver()
    assert story.contributors == (1, 2, 3, 4, 5)
    assert story.laps() == [(1, 2, 3, 4, 5)]


def test_the_roster_holds_the_readies_themselves() -> None:
    story = Story.of(3)
    story.stage.deliver()
    _, roster = story.sent(Roster)[0]
    assert isinstance(roster, Roster)
    assert roster.readies == tuple(story.stage.sent(n, Ready)[0].raw for n in (1, 2, 3))


def test_a_complete_token_is_taken_at_once() -> None:
    story = Story.of(4)
    story.stage.deliver()
    assert story.stage.now == 0.0
    assert isinstance(story.stage.ended, Ended)


@pytest.mark.parametrize("dead", [(2,), (3,), (5,), (2, 4)])
def test_a_dead_member_is_gone_round(dead: tuple[int, ...]) -> None:
    story = Story.of(5)
    story.until("lap")
    story.stage.asleep = {device(number).name for number in dead}
    story.stage.wait(30.0)
    assert story.contributors == tuple(n for n in range(1, 6) if n not in dead)


def test_a_dead_first_member_costs_one_patience() -> None:
    story = Story.of(4)
    story.until("lap")
    story.stage.asleep = {"b01"}
    story.stage.wait(QUICK.patience_s + 0.5)
    assert story.laps() == [(1, 2, 3, 4), (2, 3, 4, 1)]
    story.stage.wait(30.0)
    assert story.contributors == (2, 3, 4)


def test_the_longest_token_within_a_patience_is_taken() -> None:
    story = Story.of(6)
    story.until("lap")
    short, longer = story.token((1, 2, 3)), story.token((1, 2, 3, 4, 5))
    assert story.offers(short) == ["progress", "passed"]
    story.stage.now = 1.0
    assert story.offers(longer) == ["progress", "passed"]
    story.stage.on_its_way.clear()
    assert story.ring.stage is Stage.LAP
    story.stage.stage(story.ring.tick(QUICK.patience_s, QUICK.patience_s))
    assert {to for to, _ in story.sent(Call)} == {f"b0{number}" for number in range(1, 6)}


@pytest.mark.parametrize("enough_first", [True, False])
def test_a_longer_token_that_somebody_in_it_would_refuse_is_not_taken(enough_first: bool) -> None:
    story = Story.with_thresholds((1, 1, 1, 1, 4))
    story.until("lap")
    tokens = [story.token((1, 2)), story.token((3, 4, 5))]
    for token in tokens if enough_first else reversed(tokens):
        assert story.offers(token) == ["progress", "passed"]
    story.stage.on_its_way.clear()
    story.stage.stage(story.ring.tick(QUICK.patience_s, QUICK.patience_s))
    assert [to for to, _ in story.sent(Call)] == ["b01", "b02"]


def test_a_half_token_is_dropped_when_its_sender_takes_it_back() -> None:
    story = Story.of(5, n_weights=TWO_CHUNKS)
    story.until("lap")
    half = story.token((1, 2, 3))
    assert story.offers(half, pieces=1) == ["progress"]
    story.refuses(4, half.hop.digest)
    assert story.gathering.arriving == 1
    story.refuses(3, half.hop.digest)
    assert story.gathering.arriving == 0
    assert story.offers(half) == ["progress", "passed"]


@pytest.mark.parametrize("question", ["call", "list"])
def test_whoever_is_asked_late_since_we_stood_still_is_not_silent(question: str) -> None:
    story = Story.of(4)
    held = story.until(question)
    story.stage.now = late = 5 * QUICK.release_s
    story.stage.stage(story.ring.tick(late, late))
    for post in held:
        story.stage.hand_over(post)
    story.stage.deliver()
    assert story.contributors == (1, 2, 3, 4)


def test_one_who_does_not_answer_the_call_is_left_out_of_the_next_lap() -> None:
    story = Story.of(5)
    story.stage.wait(30.0, lose("here", of="b03"))
    assert story.laps() == [(1, 2, 3, 4, 5), (2, 4, 5, 1)]
    assert story.contributors == (1, 2, 4, 5)


@pytest.mark.parametrize(("silent", "strikes"), [("b05", {5}), ("b03", set())])
def test_silence_at_the_call_counts_against_whoever_handed_the_token_in(
    silent: str, strikes: set[int]
) -> None:
    """It may have made the token of nothing; the others only had to trust those after them."""
    story = Story.of(5)
    story.stage.wait(30.0, lose("here", of=silent))
    assert story.stage.bench.strikes.keys() == strikes
    assert len(story.contributors) == 4


def test_silence_at_the_call_after_a_lap_of_its_own_counts_against_a_member() -> None:
    story = to_laps_of_one(5)
    story.stage.wait(30.0, lose("here", of="b03"))
    assert story.contributors == (1, 2, 4, 5)
    assert story.stage.bench.strikes.keys() == {3}


def test_after_a_call_in_vain_those_that_the_token_left_out_get_a_lap_as_well() -> None:
    story = Story.of(6)
    story.until("lap")
    story.offers(story.token((1, 2, 6)))
    story.stage.wait((MAX_CALLS + 1.5) * QUICK.patience_s, lambda _: True)
    assert story.laps() == [(1, 2, 3, 4, 5, 6), (4,), (5,), (3,)]


def test_a_member_without_whom_there_is_no_sum_is_called_again() -> None:
    story = Story.of(4, threshold=3)
    silent_s = 2.5 * QUICK.patience_s

    def loses(post: Post) -> bool:
        return lose("here", of="b03")(post) and story.stage.now < silent_s

    story.stage.wait(30.0, loses)
    assert story.contributors == (1, 2, 3, 4)
    assert story.laps() == [(1, 2, 3, 4)]


def test_a_member_without_whom_there_is_no_sum_is_not_called_for_ever() -> None:
    story = Story.of(4, threshold=3)
    story.stage.wait(2.9 * QUICK.patience_s, lose("here", of="b03"))
    assert story.outcome is None
    story.stage.wait(0.3 * QUICK.patience_s, lose("here", of="b03"))
    assert story.reason == "3 of 4 members left, one of them answers above 3"


def test_a_token_with_one_in_it_who_has_restarted_is_followed_by_another_lap_at_once() -> None:
    story = Story.of(5)
    held: list[Post] = []

    def hold(post: Post) -> bool:
        is_token = post.to == COORDINATOR_NAME and post.message.kind in ("hop", "chunk")
        if is_token:
            held.append(post)
        return is_token

    story.stage.deliver(hold)
    story.stage.reboot(2)
    story.stage.shows(story.made.announce.raw, 2)
    story.stage.deliver()
    for post in held:
        story.stage.hand_over(post)
    assert story.laps() == [(1, 2, 3, 4, 5), (3, 4, 5, 1)]
    assert story.sent(Call) == []
    story.stage.deliver()
    assert story.contributors == (1, 3, 4, 5)


def test_one_who_refuses_the_call_hands_in_its_own_body_and_is_left_out_if_it_disowns_that() -> (
    None
):
    story = Story.of(5)
    for others in ([2, 3, 4, 5, 1], [4, 5, 1, 2]):
        story.until("call")
        assert story.ring._called is not None
        story.refuses(3, story.ring._called.digest)
        assert story.laps()[-len(others) :] == [(one,) for one in others]
    story.stage.deliver()
    assert story.contributors == (1, 2, 4, 5)


def test_another_refusal_during_the_call_counts_for_nothing() -> None:
    story = Story.of(5)
    story.until("call")
    story.refuses(3, b"x" * 32)
    assert story.ring.stage is Stage.CALL
    assert len(story.laps()) == 1


def test_all_is_asked_again_until_it_is_answered() -> None:
    story = Story.of(4)
    lost: set[tuple[str, str, str]] = set()

    def lose_first(post: Post) -> bool:
        if post.message.kind in ("hop", "chunk", "taken", "passed", "progress"):
            return False
        key = (post.source, post.to, post.message.kind)
        return key not in lost and not lost.add(key)  # type: ignore[func-returns-value]

    story.stage.wait(30.0, lose_first)
    assert story.contributors == (1, 2, 3, 4)
    assert {kind for _, _, kind in lost} >= {"ready", "roster", "lap", "call", "here", "list"}


# -- laps of one ---------------------------------------------------------------------------


def lose_tokens_of(lap: int) -> Drop:
    """Loses all tokens of a lap on their way to the coordinator."""

    def loses(post: Post) -> bool:
        message = post.message
        if not isinstance(message, Hop) or post.to != COORDINATOR_NAME:
            return False
        inner = open_envelope(message.lap).message
        return isinstance(inner, Lap) and inner.lap == lap

    return loses


def to_laps_of_one(n_members: int = 0, thresholds: tuple[int, ...] = (), **story: Any) -> Story:
    """A ring whose first token got lost, just after everybody got a lap of its own."""
    begun = Story.with_thresholds(thresholds or (2,) * n_members, **story)
    begun.stage.deliver(lose_tokens_of(1))
    begun.stage.now = QUICK.lap_s
    begun.stage.stage(begun.ring.tick(QUICK.lap_s, QUICK.lap_s))
    return begun


def own_lap(story: Story, number: int) -> bytes:
    (lap,) = story.gathering.laps_of(number)
    return lap


def test_after_a_token_got_lost_each_hands_in_its_own_body() -> None:
    story = Story.of(5)
    story.stage.wait(QUICK.lap_s + 1.0, lose_tokens_of(1))
    assert story.laps() == [(1, 2, 3, 4, 5), (2,), (3,), (4,), (5,), (1,)]
    assert story.contributors == (1, 2, 3, 4, 5)
    assert story.stage.now < QUICK.lap_s + 1.5


def test_a_member_that_was_silent_at_the_call_costs_no_laps_of_one() -> None:
    story = Story.of(5)
    story.stage.wait(30.0, lose("here", of="b03"))
    assert story.laps() == [(1, 2, 3, 4, 5), (2, 4, 5, 1)]


def test_in_the_last_lap_each_hands_in_its_own_body() -> None:
    story = Story.of(5, threshold=1)
    silent = {1: "b01", 2: "b02"}

    def loses(post: Post) -> bool:
        message = post.message
        return isinstance(message, Here) and post.source == silent.get(message.lap)

    story.stage.wait(30.0, loses)
    assert story.laps() == [(1, 2, 3, 4, 5), (3, 4, 5, 2), (5,), (3,), (4,)]
    assert story.contributors == (3, 4, 5)


def test_laps_of_one_go_on_without_whoever_is_late() -> None:
    story = to_laps_of_one(5)
    story.stage.wait(10.0, lose("hop", of="b02"))
    assert story.contributors == (1, 3, 4, 5)
    assert story.stage.ended is not None


def test_laps_of_one_wait_as_long_as_pieces_come() -> None:
    story = to_laps_of_one(4, n_weights=3 * TWO_CHUNKS)
    slow = story.token((2,), lap=own_lap(story, 2))
    pieces = list(slow.begin())
    story.stage.deliver(lambda post: post.source == "b02")
    for piece in pieces:
        assert story.ring.stage is Stage.LAP
        story.stage.now += QUICK.patience_s - 0.5
        story.stage.hand_over(Post("b02", COORDINATOR_NAME, piece))
        story.stage.stage(story.ring.tick(story.stage.now, story.stage.now))
    assert {to for to, _ in story.sent(Call)} == {"b01", "b02", "b03", "b04"}


def test_nobody_is_counted_twice_in_laps_of_one() -> None:
    story = to_laps_of_one(4)
    held = [post for post in story.until("hop") if post.to == COORDINATOR_NAME]
    assert len(held) == 4
    for number, word in ((2, 0), (2, 1), (3, 0), (1, 0)):
        body = bytes([word]) * 8 * 38
        story.offers(story.token((number,), lap=own_lap(story, number), body=body))
    assert story.offers(story.token((1, 2), lap=own_lap(story, 2)), pieces=0) == ["refused"]
    assert story.gathering.best is not None
    assert story.gathering.best.names == (2, 3, 1)
    assert not story.gathering.best.body.any()


@pytest.mark.parametrize("place", range(5))
def test_one_who_wants_more_company_than_there_is_spoils_no_laps_of_one(place: int) -> None:
    """Whenever its body comes: with a member dead, the others go on without it."""
    story = to_laps_of_one(thresholds=(2, 2, 2, 2, 2, 5))
    story.until("hop")
    came = [1, 2, 4, 5]
    came.insert(place, 6)
    for number in came:
        body = bytes([number, *bytes(7)]) * 38
        story.offers(story.token((number,), lap=own_lap(story, number), body=body))
    assert story.gathering.best is not None
    assert set(story.gathering.best.names) == {1, 2, 4, 5}
    assert (story.gathering.best.body == 1 + 2 + 4 + 5).all()
    assert story.gathering.choose_at is not None


def test_one_who_wants_more_company_than_is_left_is_not_asked_to_the_next_lap() -> None:
    story = Story.with_thresholds((2, 2, 2, 2, 2, 5))
    story.until("lap")
    story.refuses(3, story.made.announce.digest)
    story.stage.asleep = {"b01"}
    story.stage.wait(30.0)
    assert story.laps()[1] == (2, 4, 5, 1)
    assert story.contributors == (2, 4, 5)


# -- what ends void -------------------------------------------------------------------------


def test_after_three_laps_the_ring_is_void() -> None:
    story = Story.of(6, threshold=1)
    story.stage.wait(80.0, lose("here"), step=0.5)
    assert isinstance(story.outcome, Void)
    assert story.outcome.unreleased == ()


def test_three_laps_and_no_more() -> None:
    story = Story.of(4, threshold=1)
    story.stage.wait(90.0, lose("hop"), step=0.5)
    assert {message.lap for _, message in story.sent(Lap) if isinstance(message, Lap)} == {1, 2, 3}
    assert story.reason == "no complete token in 3 laps"


def test_too_few_left_is_void_before_any_lap() -> None:
    story = Story.of(4, threshold=3)
    story.until("lap")
    story.refuses(2, story.made.announce.digest)
    story.stage.asleep = {"b01"}
    story.stage.wait(30.0)
    assert "3 of 4 members left, one of them answers above 3" in story.reason


def test_no_release_of_one_is_void_and_names_the_silent() -> None:
    story = Story.of(4)
    story.stage.wait(15.0, lose("release", of="b02"))
    assert isinstance(story.outcome, Void)
    assert story.reason == "no release from b02"
    assert story.outcome.unreleased == (2,)
    assert story.stage.bench.strikes.keys() == {2}


def test_a_refused_list_is_void_and_benches_nobody() -> None:
    story = Story.of(4)
    story.until("list")
    asked = story.ring._list
    assert asked is not None
    story.refuses(2, asked.digest)
    assert story.reason == "b02 refused the list: no"
    assert isinstance(story.outcome, Void)
    assert story.outcome.unreleased == ()
    assert story.stage.bench.strikes == {}


def test_a_restart_between_list_and_release_is_void_at_once_and_benches_nobody() -> None:
    story = Story.of(4)
    story.until("list")
    story.stage.reboot(2)
    story.stage.shows(story.made.announce.raw, 2)
    story.stage.deliver()
    assert "b02 left between list and release" in story.reason
    assert story.stage.now == 0.0
    assert story.stage.bench.strikes == {}


def test_a_restart_during_the_call_costs_a_lap() -> None:
    story = Story.of(4)
    story.until("call")
    story.stage.reboot(2)
    story.stage.shows(story.made.announce.raw, 2)
    story.stage.wait(20.0)
    assert story.contributors == (1, 3, 4)


BAD_RELEASES: dict[str, Callable[[Release], dict[str, Any]]] = {
    "cut": lambda release: {"sealed": release.sealed[:-1]},
    "changed": lambda release: {"sealed": bytes([release.sealed[0] ^ 1]) + release.sealed[1:]},
    "junk": lambda release: {"sealed": b"junk"},
}


@pytest.mark.parametrize("damage", BAD_RELEASES)
def test_a_bad_release_is_void_and_names_its_sender(damage: str) -> None:
    story = Story.of(4)
    (honest,) = [post for post in story.until("release") if post.source == "b02"]
    release = honest.message
    assert isinstance(release, Release)
    story.says(2, evolve(release, **BAD_RELEASES[damage](release)))
    assert story.reason.startswith("b02 sent a bad release")
    assert isinstance(story.outcome, Void)
    assert story.outcome.unreleased == (2,)


def test_a_release_for_another_list_or_in_anothers_name_changes_nothing() -> None:
    story = Story.of(4)
    posts = {post.source: post for post in story.until("release")}
    release = posts["b02"].message
    assert isinstance(release, Release)
    story.says(2, evolve(release, list=b"x" * 32))
    story.says(2, evolve(release, roster=b"x" * 32))
    story.says(3, evolve(release, sender=2))
    story.stage.hand_over(Post("b03", COORDINATOR_NAME, posts["b02"].data))
    assert len(story.stage.complaints) == 4
    assert story.ring._releases == {}
    for post in posts.values():
        story.stage.hand_over(post)
    assert story.contributors == (1, 2, 3, 4)


def test_a_release_that_comes_twice_counts_once() -> None:
    story = Story.of(4)
    posts = story.until("release")
    for post in [posts[0], posts[0], *posts, *posts]:
        story.stage.hand_over(post)
    assert story.contributors == (1, 2, 3, 4)


def test_a_release_after_the_deadline_opens_nothing() -> None:
    story = Story.of(4)
    held = story.until("release")
    story.stage.wait(10.0, lose("release"))
    assert isinstance(story.outcome, Void)
    for post in held:
        story.stage.hand_over(post)
    assert isinstance(story.outcome, Void)


# -- members that lie or flood --------------------------------------------------------------


def test_a_token_too_short_for_its_names_ends_no_lap() -> None:
    """One member alone cannot make the others look dead."""
    story = Story.of(5)
    story.until("lap")
    story.offers(story.token((4,)))
    assert story.gathering.choose_at is None
    story.stage.deliver()
    story.stage.wait(10.0)
    assert story.contributors == (1, 2, 3, 4, 5)


def test_only_the_first_of_the_lap_can_say_that_it_has_begun() -> None:
    story = Story.of(4)
    story.until("lap")
    story.stage.asleep = {"b01"}
    story.says(3, Taken(**story.header(3), about=story.lap().digest))
    story.stage.wait(QUICK.patience_s + 0.5)
    assert len(story.laps()) == 2


BAD_TOKENS: dict[str, Callable[[Story], Departure]] = {
    "of an earlier lap": lambda story: story.token((1, 2), lap=b"an older lap"),
    "the wrong size": lambda story: story.token((1, 2), size=7),
    "names out of order": lambda story: story.token((2, 1)),
    "a name twice": lambda story: story.token((1, 1)),
    "a foreign name": lambda story: story.token((9, 1)),
    "the sender not last": lambda story: story.token((1, 2), names_instead=(2, 3)),
}


@pytest.mark.parametrize("case", BAD_TOKENS)
def test_a_token_that_cannot_be_is_refused_at_its_header(case: str) -> None:
    story = Story.of(4)
    story.until("lap")
    answers = story.offers(BAD_TOKENS[case](story), pieces=0)
    assert answers == ["refused"]
    assert story.gathering.arriving == 0


def test_a_member_has_its_tokens_counted() -> None:
    story = Story.of(8, threshold=7)
    story.until("lap")
    names = [(1, 8), (2, 8), (3, 8), (4, 8), (5, 8)]
    answers = [story.offers(story.token(one)) for one in names]
    assert answers[:MAX_TOKENS_BY_SENDER] == [["progress", "passed"]] * MAX_TOKENS_BY_SENDER
    assert answers[MAX_TOKENS_BY_SENDER:] == [["refused"]] * 2
    assert story.gathering.received == MAX_TOKENS_BY_SENDER


def test_a_flood_of_headers_takes_no_memory_and_keeps_nobody_out() -> None:
    story = Story.of(8, n_weights=TWO_CHUNKS)
    story.until("lap")
    for first in range(1, 8):
        story.offers(story.token((first, 8)), pieces=1)
    assert story.gathering.arriving == MAX_ARRIVALS
    assert story.offers(story.token((1, 2, 3, 4, 5, 6, 7))) == ["progress", "passed"]
    story.stage.stage(story.ring.tick(QUICK.patience_s, QUICK.patience_s))
    assert story.gathering.arriving == 0


def test_a_roster_is_sent_again_to_whoever_says_that_it_is_missing_now_and_then() -> None:
    story = Story.of(4)
    story.until("lap")
    before = len(story.sent(Roster))
    (ready,) = story.stage.sent(3, Ready)
    for tenth in range(1, 101):
        story.stage.now = tenth / 10
        story.says(3, ready)
        assert story.offers(story.token((1,)), pieces=0) in (["progress"], ["refused"])
    again = [to for to, _ in story.sent(Roster)[before:]]
    assert set(again) == {"b03"}
    assert len(again) == 10 / (QUICK.patience_s / 2)


def test_a_slow_lap_repeats_no_rosters() -> None:
    story = Story.of(6)
    story.stage.deliver(lose("hop", of="b02"))
    story.stage.asleep = {"b01", "b02", "b03", "b04", "b05", "b06"}
    before = len(story.stage.staged)
    story.stage.wait(QUICK.lap_s - 1.0)
    assert [effect for effect in story.stage.staged[before:] if isinstance(effect, Send)] == []


def test_when_the_ring_has_its_token_others_are_told_to_forget_theirs() -> None:
    story = Story.of(4)
    story.until("call")
    assert story.offers(story.token((1, 2))) == ["refused"]
    story.stage.deliver()
    assert story.offers(story.token((2, 3))) == ["refused"]
    assert story.gathering.received == 1


def test_a_header_that_comes_again_is_answered_again() -> None:
    story = Story.of(6, n_weights=TWO_CHUNKS)
    story.until("lap")
    token = story.token((1, 2, 3))
    assert story.offers(token, pieces=1) == ["progress"]
    assert story.offers(token, pieces=0) == ["progress"]
    assert story.offers(token) == ["progress", "passed"]
    assert story.offers(token, pieces=0) == ["passed"]


def test_messages_of_outsiders_and_in_others_names_are_complaints() -> None:
    story = Story.of(4)
    story.until("lap")
    before = (story.ring.stage, story.ring.deadline, dict(story.ring._question))
    taken = Taken(**story.header(1), about=story.lap().digest)
    for source, message in (
        ("b02", sign(taken, device(1))),
        ("b01", sign(taken, device(2))),
        ("b02", sign(taken, device(2))),
    ):
        story.stage.hand_over(Post(source, COORDINATOR_NAME, message.raw))
    assert len(story.stage.complaints) == 3
    assert all(isinstance(fault, PeerError) and fault.sender for fault in story.stage.complaints)
    outsider = sign(Taken(**story.header(9), about=story.lap().digest), device(9))
    story.stage.hand_over(Post("b09", COORDINATOR_NAME, outsider.raw))
    assert before == (story.ring.stage, story.ring.deadline, dict(story.ring._question))


def test_a_changed_chunk_is_not_added_to_anything() -> None:
    story = Story.of(4)
    story.until("lap")
    token = story.token((1, 2, 3, 4))
    _, chunk = token.begin()
    story.offers(token, pieces=0)
    payload = bytearray(chunk)
    payload[len(chunk) // 2] ^= 1
    story.stage.hand_over(Post("b04", COORDINATOR_NAME, bytes(payload)))
    assert len(story.stage.complaints) == 1
    assert story.gathering.received == 0
    assert story.ring.stage is Stage.LAP


def test_a_token_under_another_signature_of_the_lap_is_one_of_it() -> None:
    """ECDSA: whoever has (r, s) has (r, n - s), too, and honest members may have seen it first."""
    story = Story.of(4)
    story.until("lap")
    payload, signature = unpack_envelope(story.lap().raw)
    r, s = decode_dss_signature(signature)
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    twin = pack_envelope(payload, encode_dss_signature(r, order - s))
    assert story.offers(story.token((1, 2, 3, 4), lap=twin), pieces=0) == ["progress"]
    assert story.offers(story.token((1, 2, 3), lap=b"no lap"), pieces=0) == ["refused"]


# -- our own connection ---------------------------------------------------------------------


def test_silence_counts_only_while_we_could_have_heard() -> None:
    story = Story.of(4)
    held = story.until("release")
    ring = story.ring
    for second in range(1, 60):
        story.stage.stage(ring.tick(float(second), alive_at=0.0))
    assert ring.stage is Stage.LIST
    story.stage.now = 60.0
    story.stage.stage(ring.reconnected(60.0))
    story.stage.stage(ring.tick(60.5, alive_at=60.5))
    story.stage.stage(ring.tick(63.0, alive_at=63.0))
    assert ring.stage is Stage.LIST, "they get the time that is theirs"
    for post in held:
        story.stage.hand_over(post)
    assert story.contributors == (1, 2, 3, 4)


def test_who_answered_while_we_slept_was_not_silent() -> None:
    story = Story.of(4)
    held = story.until("here")
    ring = story.ring
    half = QUICK.patience_s / 2
    story.stage.stage(ring.tick(half, alive_at=half))
    # We wake long after the deadline; what came meanwhile is still unread.
    story.stage.stage(ring.tick(60.0, alive_at=half + 0.1))
    assert ring.stage is Stage.CALL
    for post in held:
        story.stage.hand_over(post)
    story.stage.deliver()
    assert story.contributors == (1, 2, 3, 4)


def test_an_outage_does_not_prolong_a_ring_for_ever() -> None:
    story = Story.of(4)
    story.until("release")
    ring = story.ring
    for second in range(1, 40):
        story.stage.stage(ring.tick(float(second), alive_at=float(second)))
        if second % 2:
            story.stage.stage(ring.reconnected(second + 0.1))
    assert isinstance(ring.outcome, Void)


def test_a_reconnect_asks_again() -> None:
    story = Story.of(4)
    story.until("release")
    again = story.ring.reconnected(1.0)
    assert [effect.to for effect in again if isinstance(effect, Send)] == [
        "b01",
        "b02",
        "b03",
        "b04",
    ]


def test_every_ring_ends_whatever_is_lost() -> None:
    for kinds in (("roster",), ("lap",), ("hop",), ("chunk",), ("here",), ("list",), ("release",)):
        story = Story.of(4)
        story.stage.wait(100.0, lose(*kinds), step=0.5)
        assert isinstance(story.outcome, Void), kinds
