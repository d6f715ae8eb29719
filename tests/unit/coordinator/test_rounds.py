"""One round: cohorts, late ones, several rings at once, and one decryption for all of them."""

import gc
import weakref
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from attrs import define, evolve
from phe import PaillierPrivateKey

from fedring.coordinator import sums
from fedring.coordinator.announcing import Announcing
from fedring.coordinator.rings import Void
from fedring.coordinator.rosters import BENCH_AFTER, BENCH_ROUNDS
from fedring.coordinator.rounds import Announced, Dealt, Ended, Round
from fedring.coordinator.sums import RingSum
from fedring.lab.simulate.cast import Cast, device
from fedring.lab.simulate.fleet import QUICK
from fedring.lab.simulate.rehearsal import Drop, Post, Rehearsal, keep_all
from fedring.shared.effects import Report, Send
from fedring.shared.encryption import Suite
from fedring.shared.envelopes import Signed, open_envelope, sign
from fedring.shared.messages import COORDINATOR_NAME, Message, Ready, Refused, Roster, tag
from fedring.shared.numbers import SumVector

SMALL_RINGS = evolve(QUICK, size=3)


@define
class Story:
    """A round of the production coordinator, over a post that the test holds in its hand."""

    stage: Rehearsal
    made: Announcing

    @classmethod
    def begun(
        cls,
        n_devices: int,
        threshold: int | Sequence[int] = 1,
        *,
        present: Sequence[int] | None = None,
        round_number: int = 1,
        **stage: Any,
    ) -> "Story":
        thresholds = (threshold,) * n_devices if isinstance(threshold, int) else tuple(threshold)
        rehearsal = Rehearsal(thresholds, terms=SMALL_RINGS, **stage)
        story = cls(rehearsal, rehearsal.announcing(round_number))
        story.begin(present)
        return story

    def begin(self, present: Sequence[int] | None = None) -> None:
        numbers = tuple(self.stage.actors) if present is None else present
        self.stage.direct(self.made, present={n: device(n).name for n in numbers})

    def next_round(self) -> None:
        assert self.stage.round is not None
        self.made = self.stage.announcing(self.stage.round.number + 1)
        self.begin()

    @property
    def round(self) -> Round:
        assert self.stage.round is not None
        return self.stage.round

    def ready(self, *numbers: int, drop: Drop = keep_all) -> None:
        """These devices see the announce and say ready, and the post does its work."""
        for number in numbers:
            self.stage.shows(self.made.announce.raw, number)
            self.stage.deliver(drop)

    def rings(self) -> list[tuple[int, ...]]:
        return [ring.members for ring in self.round._rings]

    @property
    def ended(self) -> Ended | None:
        return self.stage.ended if self.round.ended else None

    def contributors(self) -> list[tuple[int, ...]]:
        """Who is in each sum, after a look at the total."""
        assert self.ended is not None
        names = [ring.names for ring in self.ended.sums]
        if names:
            opened = self.stage.opened(self.made)
            everybody = [name for ring in names for name in ring]
            assert opened.total.tolist() == self.stage.total(*everybody)
            assert not opened.bad_rings
        return names

    def refusals(self, number: int) -> list[str]:
        """What the coordinator refused a device, and why."""
        opened = [
            open_envelope(effect.data).message
            for effect in self.stage.staged
            if isinstance(effect, Send) and effect.to == device(number).name
        ]
        return [message.reason for message in opened if isinstance(message, Refused)]

    def says(self, number: int, message: Message, source: str = "") -> None:
        """A device's message, as a test wrote it, arrives."""
        raw = sign(message, device(number)).raw
        self.stage.hand_over(Post(source or device(number).name, COORDINATOR_NAME, raw))

    def declines(self, number: int, source: str = "", **changes: Any) -> None:
        refused = Refused(
            **tag("rehearsal", 1, self.round.number, number),
            about=self.made.announce.digest,
            reason="no",
        )
        self.says(number, evolve(refused, **changes), source)


def no_tokens(post: Post) -> bool:
    return post.message.kind in ("hop", "chunk")


@pytest.fixture
def no_collection() -> Iterator[None]:
    """Whatever stands in a circle stays, as it may in a coordinator that runs for days."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


# -- cohorts --------------------------------------------------------------------------------


def test_the_first_round_of_an_epoch_deals_the_cohorts_and_has_them_stored() -> None:
    story = Story.begun(6)
    dealt, announced = story.stage.staged
    assert dealt == Dealt({1: 0, 2: 1, 3: 0, 4: 1, 5: 0, 6: 1})
    assert announced == Announced(story.made.announce.raw)


def test_a_dealt_table_stays() -> None:
    story = Story.begun(6)
    story.ready(1, 2, 3, 4, 5, 6)
    story.next_round()
    assert sum(isinstance(effect, Dealt) for effect in story.stage.staged) == 1


def test_two_rings_run_side_by_side_and_open_together(monkeypatch: pytest.MonkeyPatch) -> None:
    story = Story.begun(6, threshold=2)
    story.ready(*range(1, 7))
    assert story.rings() == [(1, 3, 5), (2, 4, 6)]
    opened: list[int] = []
    original = sums._open

    def counted(
        suite: Suite, key: PaillierPrivateKey, rings: Sequence[RingSum], accept: sums.Accept
    ) -> SumVector:
        opened.append(len(rings))
        return original(suite, key, rings, accept)

    monkeypatch.setattr(sums, "_open", counted)
    assert story.contributors() == [(1, 3, 5), (2, 4, 6)]
    assert opened == [2], "one decryption for both"


def test_a_ring_forms_when_its_whole_cohort_has_answered() -> None:
    story = Story.begun(6)
    story.ready(1, 3, drop=no_tokens)
    assert story.rings() == []
    story.ready(5, drop=no_tokens)
    assert story.rings() == [(1, 3, 5)]
    story.declines(4)
    story.ready(2, drop=no_tokens)
    assert story.rings() == [(1, 3, 5)]
    story.ready(6, drop=no_tokens)
    assert story.rings() == [(1, 3, 5), (2, 6)]


def test_the_ready_deadline_forms_rings_of_those_who_are_there() -> None:
    story = Story.begun(6)
    story.ready(1, 3, 2, 4, drop=no_tokens)
    assert story.rings() == []
    assert story.round.deadline == QUICK.ready_s
    story.stage.wait(QUICK.ready_s, no_tokens)
    assert story.rings() == [(1, 3), (2, 4)]


def test_a_device_that_goes_offline_is_not_waited_for() -> None:
    story = Story.begun(3)
    story.ready(1, 2, drop=no_tokens)
    assert story.rings() == []
    story.stage.stage(story.round.present(3, "b03", online=False, now=1.0))
    assert story.rings() == [(1, 2)]


def test_a_whole_cohort_that_is_slow_is_waited_for() -> None:
    story = Story.begun(6)
    story.ready(1, 3, 5)
    assert story.rings() == [(1, 3, 5)]
    assert story.ended is None
    story.ready(2, 4, 6)
    assert story.contributors() == [(1, 3, 5), (2, 4, 6)]


def test_a_whole_cohort_that_is_silent_costs_the_ready_time_and_no_more() -> None:
    story = Story.begun(6)
    story.ready(1, 3, 5)
    story.stage.wait(QUICK.ready_s)
    assert story.contributors() == [(1, 3, 5)]


# -- late ones ------------------------------------------------------------------------------


def late_story(n_devices: int = 8) -> Story:
    """Cohorts 1 3 5 (7), 2 4 6 (8); the last two were not seen when the round began."""
    story = Story.begun(n_devices, present=range(1, 7))
    story.ready(1, 3, 5, drop=no_tokens)
    story.ready(2, 4, 6, drop=no_tokens)
    assert story.rings() == [(1, 3, 5), (2, 4, 6)]
    return story


def test_late_ones_of_all_cohorts_form_one_later_ring() -> None:
    story = late_story()
    story.ready(8, 7, drop=no_tokens)
    assert story.rings() == [(1, 3, 5), (2, 4, 6), (7, 8)]
    assert story.round.n_late_rings == 1
    story.stage.wait(60.0)
    assert story.contributors() == [(1, 3, 5), (2, 4, 6), (7, 8)]


def test_one_late_device_waits_for_company_and_is_told_when_none_comes() -> None:
    story = late_story()
    story.stage.wait(QUICK.ready_s + 1, no_tokens)
    story.ready(7, drop=no_tokens)
    assert story.refusals(7) == [], "somebody may still come"
    assert story.round.n_ready == 1
    story.ready(8, drop=no_tokens)
    assert story.rings()[-1] == (7, 8)


def test_a_late_device_without_company_is_refused_when_the_rings_end() -> None:
    story = late_story(7)
    story.ready(7)
    story.stage.wait(60.0)
    assert story.contributors() == [(1, 3, 5), (2, 4, 6)]
    assert story.refusals(7) == ["ring of 1, it answers above 1"]
    assert story.stage.actors[7].member.round is None


def test_after_the_later_ring_the_door_is_closed() -> None:
    story = late_story(9)
    story.ready(7, 8, drop=no_tokens)
    story.ready(9, drop=no_tokens)
    assert story.refusals(9) == ["round closed"]
    assert story.stage.actors[9].member.round is None


def test_after_the_end_the_door_is_closed() -> None:
    story = Story.begun(3, present=(1, 2))
    story.ready(1, 2)
    assert story.contributors() == [(1, 2)]
    story.ready(3)
    assert story.refusals(3) == ["round closed"]


def test_a_ready_for_an_earlier_round_is_told_that_it_is_closed() -> None:
    story = Story.begun(3)
    story.ready(1, 2, 3)
    old = story.made
    story.next_round()
    story.stage.reboot(1)
    story.stage.actors[1] = story.stage.power_on(1)  # as if it had slept through round 1
    story.stage.shows(old.announce.raw, 1)
    story.stage.deliver()
    assert story.refusals(1) == ["round closed"]
    assert story.stage.actors[1].member.round is None


def test_a_ready_of_an_earlier_round_in_anothers_name_is_a_complaint() -> None:
    story = Story.begun(3)
    story.ready(1, 2, 3)
    (old,) = story.stage.sent(1, Ready)
    story.next_round()
    story.stage.hand_over(Post("b02", COORDINATOR_NAME, old.raw))
    assert len(story.stage.complaints) == 1
    assert story.refusals(1) == story.refusals(2) == []


# -- thresholds -----------------------------------------------------------------------------


def test_who_wants_more_company_is_told_and_the_others_go_on() -> None:
    story = Story.begun(3, threshold=(1, 1, 2))
    story.stage.power_on(3, threshold=2)
    story.stage.stage(story.round.present(3, "b03", online=True, now=0.0))
    story.ready(1, 3, drop=no_tokens)
    story.declines(2)
    assert story.rings() == []
    story.stage.wait(QUICK.ready_s)
    assert story.ended is not None
    assert "it answers above 2" in story.refusals(3)[0]


def test_no_ring_and_no_round_without_company() -> None:
    story = Story.begun(3, threshold=2)
    story.ready(1)
    for number in (2, 3):
        story.declines(number)
    assert story.ended == Ended((), ())
    assert story.refusals(1) == ["ring of 1, it answers above 2"]


def test_a_round_that_all_decline_ends() -> None:
    story = Story.begun(3)
    for number in (1, 2, 3):
        assert story.ended is None
        story.declines(number)
    assert story.ended == Ended((), ())


def test_a_round_that_nobody_answers_goes_on() -> None:
    story = Story.begun(3)
    story.stage.wait(100.0, step=5.0)
    assert story.ended is None
    assert story.round.deadline is None


def test_a_round_with_one_answer_has_a_deadline() -> None:
    """One declines, one hangs: the round ends all the same."""
    for answer in (Story.declines, Story.ready):
        story = Story.begun(3)
        answer(story, 1)
        assert story.round.deadline == QUICK.ready_s
        story.stage.wait(QUICK.ready_s)
        assert story.ended == Ended((), ())
        assert story.round.deadline is None


# -- rings that end void --------------------------------------------------------------------


def test_the_ready_time_does_not_run_out_while_the_coordinator_itself_is_cut_off() -> None:
    story = Story.begun(3)
    story.ready(1)
    heard, story.stage.now = story.stage.now, story.stage.now + 2 * SMALL_RINGS.ready_s
    story.stage.stage(story.round.tick(story.stage.now, alive_at=heard))
    assert story.ended is None
    story.stage.stage(story.round.reconnected(story.stage.now))
    story.ready(2, 3)
    assert story.contributors() == [(1, 2, 3)]


def test_the_ready_time_does_not_run_out_while_the_coordinator_stands_still() -> None:
    """What was said meanwhile is read, all of it, before anybody is called late."""
    story = Story.begun(3)
    story.ready(1)
    story.stage.now = late = 2 * SMALL_RINGS.ready_s
    story.ready(2)
    assert story.rings() == []
    story.stage.stage(story.round.tick(late, alive_at=late))
    assert story.rings() == []
    story.ready(3)
    assert story.contributors() == [(1, 2, 3)]


def test_whoever_keeps_the_coordinator_busy_keeps_no_round_open() -> None:
    story = Story.begun(3)
    story.ready(1, 2, drop=no_tokens)
    for late in (2 * SMALL_RINGS.ready_s, 3 * SMALL_RINGS.ready_s):
        assert story.rings() == []
        story.stage.stage(story.round.tick(late, alive_at=late))
    assert story.rings() == [(1, 2)]


def test_a_void_ring_costs_its_own_contributions_and_this_round_only() -> None:
    story = Story.begun(6)

    def lose(post: Post) -> bool:
        return post.message.kind == "release" and post.source == "b03"

    story.ready(*range(1, 7), drop=lose)
    story.stage.wait(30.0, lose)
    assert story.contributors() == [(2, 4, 6)]
    assert story.ended is not None
    (void,) = story.ended.voids
    assert isinstance(void, Void)
    assert (void.ring, void.unreleased) == (1, (3,))
    story.next_round()
    story.ready(*range(1, 7))
    assert story.contributors() == [(1, 3, 5), (2, 4, 6)]


def test_who_breaks_rings_by_silence_sits_out_and_comes_back() -> None:
    story = Story.begun(4, present=(1, 2, 3, 4), threshold=1)
    story.stage.cohorts.table = dict.fromkeys((1, 2, 3, 4), 0)

    def silent(post: Post) -> bool:
        return post.message.kind == "release" and post.source == "b03"

    for _ in range(BENCH_AFTER):
        story.ready(1, 2, 3, 4, drop=silent)
        story.stage.wait(30.0, silent)
        assert story.contributors() == []
        story.next_round()
    for left in range(BENCH_ROUNDS, 0, -1):
        story.ready(1, 2, 4, 3)
        assert story.refusals(3)[-1] == f"benched for {left} more rounds: broke rings"
        assert story.contributors() == [(1, 2, 4)], "and nobody waited for it"
        story.next_round()
    story.ready(1, 2, 3, 4)
    assert story.contributors() == [(1, 2, 3, 4)]


def test_a_silent_member_before_the_list_is_never_benched() -> None:
    story = Story.begun(4)
    story.stage.cohorts.table = dict.fromkeys((1, 2, 3, 4), 0)
    story.ready(1, 2, 3, 4, drop=lambda post: post.message.kind == "lap")
    story.stage.asleep = {"b02"}
    story.stage.wait(60.0)
    assert story.contributors() == [(1, 3, 4)]
    assert story.stage.bench.strikes == {}


# -- who is ready, and who lies -------------------------------------------------------------


def test_a_ready_that_comes_twice_counts_once() -> None:
    story = Story.begun(3)
    story.ready(1, 2, drop=no_tokens)
    (ready,) = story.stage.sent(1, Ready)
    for _ in range(3):
        story.stage.hand_over(Post("b01", COORDINATOR_NAME, ready.raw))
    story.ready(3)
    assert story.contributors() == [(1, 2, 3)]


def forged(story: Story, **changes: Any) -> Signed[Ready]:
    (ready,) = story.stage.sent(1, Ready)
    return sign(evolve(ready.message, **changes), device(1))


@pytest.mark.parametrize(
    "case",
    ["another's topic", "another announce", "a later round", "low order", "foreign", "revoked"],
)
def test_a_ready_that_lies_is_a_complaint_and_no_answer(case: str) -> None:
    story = Story.begun(3)
    story.stage.shows(story.made.announce.raw, 1)
    (ready,) = story.stage.sent(1, Ready)
    story.stage.on_its_way.clear()
    source, raw = "b01", ready.raw
    match case:
        case "another's topic":
            source = "b02"
        case "another announce":
            raw = forged(story, announce=b"x" * 32).raw
        case "a later round":
            raw = forged(story, round=2).raw
        case "low order":
            raw = forged(story, round_key=bytes(32)).raw
        case "foreign":
            stranger = Cast.of("rehearsal").device(1, "b01")
            raw = sign(evolve(ready.message, certificate=stranger.certificate), stranger).raw
        case "revoked":
            story.round._revoked = frozenset({1})
    story.stage.hand_over(Post(source, COORDINATOR_NAME, raw))
    (fault,) = story.stage.complaints
    assert fault.sender
    assert story.round.n_ready == 0
    assert story.round._answered == set()


def test_junk_is_a_complaint() -> None:
    story = Story.begun(3)
    story.stage.hand_over(Post("b01", COORDINATOR_NAME, b"junk"))
    (fault,) = story.stage.complaints
    assert fault.sender == "b01"


def test_a_device_cannot_decline_for_another_that_is_ready() -> None:
    story = Story.begun(3)
    story.ready(1, 2, drop=no_tokens)
    story.declines(1, source="b03")  # b03 writes what b01 signed
    story.says(
        3,
        Refused(**tag("rehearsal", 1, 1, 1), about=story.made.announce.digest, reason="no"),
        source="b01",
    )  # somebody with b01's topic, but not its key
    assert len(story.stage.complaints) == 2
    assert story.round.n_ready == 2


def test_what_devices_make_up_takes_no_memory() -> None:
    story = Story.begun(3)
    before = set(story.round._answered)
    for number in range(100, 1100):
        story.declines(1, sender=number)
    assert story.round._answered == before
    assert len(story.round._present) == 3


def test_a_device_that_restarted_is_out_even_if_its_old_ready_comes_later() -> None:
    story = Story.begun(4)
    story.stage.cohorts.table = dict.fromkeys((1, 2, 3, 4), 0)
    story.ready(1, 2, drop=no_tokens)
    (old,) = story.stage.sent(1, Ready)
    story.stage.reboot(1)
    story.stage.shows(story.made.announce.raw, 1)
    story.stage.deliver()
    story.stage.hand_over(Post("b01", COORDINATOR_NAME, old.raw))
    story.ready(3, 4)
    assert story.contributors() == [(2, 3, 4)]


def test_a_member_that_says_it_restarted_is_left_out_of_later_laps() -> None:
    story = Story.begun(4)
    story.stage.cohorts.table = dict.fromkeys((1, 2, 3, 4), 0)
    story.ready(1, 2, 3, 4, drop=no_tokens)
    story.stage.reboot(1)
    story.stage.shows(story.made.announce.raw, 1)
    story.stage.deliver()
    story.stage.wait(30.0)
    assert story.contributors() == [(2, 3, 4)]


def test_messages_of_other_rounds_are_not_for_this_one() -> None:
    story = Story.begun(3, round_number=5)
    story.ready(1, 2, drop=no_tokens)
    before = len(story.stage.staged)
    for number in (4, 6):
        story.declines(1, round=number)
    assert len(story.stage.staged) == before
    assert story.stage.complaints == []


def test_every_ring_of_a_round_shares_the_announce() -> None:
    story = Story.begun(6)
    story.ready(*range(1, 7))
    rosters = [
        message
        for effect in story.stage.staged
        if isinstance(effect, Send)
        and isinstance(message := open_envelope(effect.data).message, Roster)
    ]
    assert {roster.announce for roster in rosters} == {story.made.announce.digest}
    assert {roster.ring for roster in rosters} == {1, 2}


def test_a_reconnect_announces_and_asks_again() -> None:
    story = Story.begun(6)
    story.ready(1, 3, 5, drop=no_tokens)
    again = story.stage.stage(story.round.reconnected(1.0))
    assert again[0] == Announced(story.made.announce.raw)
    assert {effect.to for effect in again if isinstance(effect, Send)} == {"b01", "b03", "b05"}
    story.ready(2, 4, 6)
    story.stage.wait(30.0)
    assert not any(isinstance(e, Announced) for e in story.round.reconnected(99.0))


def test_who_declines_is_reported_with_its_reason() -> None:
    story = Story.begun(2)
    story.declines(1)
    story.declines(2)
    reports = [effect for effect in story.stage.staged if isinstance(effect, Report)]
    assert [report.facts for report in reports if report.event == "declined"] == [
        {"device": "b01", "reason": "no"},
        {"device": "b02", "reason": "no"},
    ]


# -- and then -------------------------------------------------------------------------------


@pytest.mark.usefixtures("no_collection")
def test_a_round_that_is_over_leaves_no_key_behind() -> None:
    story = Story.begun(6)
    story.ready(*range(1, 7))
    assert len(story.contributors()) == 2
    secrets: list[weakref.ref[Any]] = [
        weakref.ref(story.made.exchange_key),
        *(weakref.ref(ring) for ring in story.round._rings),
    ]
    assert None not in [secret() for secret in secrets]
    story.stage.round = None  # as the service does
    story.stage._announcing.clear()
    del story.made
    assert [secret() for secret in secrets] == [None] * 3
