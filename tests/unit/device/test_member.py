"""One device against a coordinator that may lie: what it joins, what it releases, what it drops."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
import pytest
from attrs import define, evolve

from fedring.device.budgets import Budget
from fedring.device.effects import (
    Abandon,
    Effect,
    Joined,
    Keep,
    Listed,
    Spent,
    State,
    Work,
)
from fedring.device.member import GRACE_S
from fedring.lab.simulate.cast import Cast, cast, coordinator, device
from fedring.lab.simulate.fleet import QUICK, TRAIN
from fedring.lab.simulate.rehearsal import Actor, Rehearsal, said
from fedring.shared.effects import Report, Send
from fedring.shared.envelopes import Signed, encode, open_envelope, pack_envelope, sign
from fedring.shared.errors import (
    IdentityError,
    MessageError,
    OneTimeError,
    PeerError,
    ProtocolError,
)
from fedring.shared.messages import (
    COORDINATOR_NAME,
    MAX_LAPS,
    Announce,
    Here,
    Hop,
    Message,
    ModelReference,
    Ready,
    Refused,
    Release,
    Rest,
    Roster,
    tag,
)
from fedring.shared.pairwise import RoundKey

M = TypeVar("M", bound=Message)


@define
class Story:
    """Device 1 and its friends; the test is the coordinator."""

    stage: Rehearsal
    announce: Signed[Announce]
    readies: list[Signed[Ready]]

    @classmethod
    def ready(cls, n_devices: int = 4, threshold: int = 2, **stage: Any) -> "Story":
        """All have seen the announce and said `ready`."""
        rehearsal = Rehearsal((threshold,) * n_devices, **stage)
        made = rehearsal.announcing()
        return cls(rehearsal, made.announce, rehearsal.all_ready(made))

    @classmethod
    def in_ring(cls, n_devices: int = 4, threshold: int = 2, **stage: Any) -> "Story":
        """Device 1 is a member, and all others are."""
        story = cls.ready(n_devices, threshold, **stage)
        roster = story.roster
        for number in story.stage.actors:
            story.stage.says(number, roster)
        return story

    @classmethod
    def added(cls, n_devices: int = 4, threshold: int = 2, **stage: Any) -> "Story":
        """Device 1 has added its body to a token."""
        story = cls.in_ring(n_devices, threshold, **stage)
        story.says(story.stage.lap(story.roster, *story.numbers))
        return story

    @property
    def numbers(self) -> tuple[int, ...]:
        return tuple(self.stage.actors)

    @property
    def roster(self) -> Signed[Roster]:
        return self.stage.roster(self.announce, self.readies)

    @property
    def me(self) -> Actor:
        return self.stage.actors[1]

    def says(self, message: Signed[Any] | bytes) -> list[Effect]:
        """The coordinator says it to device 1."""
        return self.stage.says(1, message)

    def asks(self, *names: int) -> list[Effect]:
        """The coordinator asks device 1 for the sum over these names."""
        return self.says(self.stage.request(self.roster, *names))


def state_of(actor: Actor) -> State:
    return actor.member.state


def kinds(effects: Sequence[Effect]) -> list[str]:
    """Effects as words: messages by their kind, the others by their class."""
    return [
        open_envelope(effect.data).message.kind
        if isinstance(effect, Send)
        else type(effect).__name__
        for effect in effects
    ]


def from_me(effects: Sequence[Effect], kind: type[M]) -> list[Signed[M]]:
    return said(effects, kind, device(1))


def why(effects: Sequence[Effect]) -> str:
    """The reason of the one refusal among effects, which the status tells as well."""
    (refused,) = from_me(effects, Refused)
    facts = [effect.facts for effect in effects if isinstance(effect, Report)]
    assert {fact.get("reason") for fact in facts} == {refused.message.reason}
    return refused.message.reason


def secrets_are_dropped(actor: Actor) -> None:
    """Nothing that could open the body is left, wherever one looks."""
    assert actor.mask is not None
    with pytest.raises(OneTimeError):
        actor.mask.release([0] * actor.mask._suite.n_ciphertexts)
    with pytest.raises(OneTimeError):
        actor.mask.body(np.zeros(12, np.int32))
    held = actor.member._round
    assert held is None or (held.secrets is None and held.relay is None)


# -- a round that goes well -----------------------------------------------------------------


def test_a_round_from_announce_to_release() -> None:
    stage = Rehearsal((2, 2, 2, 2))
    made = stage.announcing()
    me = stage.actors[1]
    assert state_of(me) == State.IDLE
    seen = stage.shows(made.announce.raw, 1)
    assert kinds(seen) == ["Spent", "Work", "Report", "Joined", "ready", "Report"]
    assert state_of(me) == State.READY
    story = Story(stage, made.announce, stage.all_ready(made, 1, 2, 3, 4)[-4:])
    story.readies = [stage.sent(number, Ready)[-1] for number in story.numbers]
    roster = story.roster
    assert kinds(story.says(roster)) == ["Report"]
    assert state_of(me) == State.MEMBER
    assert kinds(story.says(stage.lap(roster, 1, 2, 3, 4))) == ["taken", "hop", "chunk"]
    assert kinds(story.says(stage.call(roster))) == ["here"]
    released = story.asks(1, 2, 3, 4)
    assert kinds(released) == ["Spent", "release", "Report"]
    assert state_of(me) == State.RELEASED
    secrets_are_dropped(me)


def test_joined_is_durable_before_ready_leaves() -> None:
    stage = Rehearsal((2,))
    effects = stage.shows(stage.announcing(3, epoch=1).announce.raw, 1)
    words = kinds(effects)
    assert words.index("Joined") < words.index("ready")
    assert Joined(1, 3) in effects


def test_the_release_count_is_durable_before_the_release_leaves() -> None:
    story = Story.added()
    effects = story.asks(1, 2, 3)
    words = kinds(effects)
    assert words.index("Spent") < words.index("release")
    (spent,) = [effect for effect in effects if isinstance(effect, Spent)]
    assert (spent.budget, spent.total) == ("release", 1)


def test_ready_says_what_the_owner_set() -> None:
    story = Story.ready(threshold=5)
    message = story.readies[0].message
    assert message.threshold == 5
    assert message.announce == story.announce.digest
    assert message.certificate == device(1).certificate


def test_every_round_has_a_fresh_round_key() -> None:
    stage = Rehearsal((2,))
    keys = {stage.all_ready(stage.announcing(number))[0].message.round_key for number in (1, 2, 3)}
    assert len(keys) == 3


def test_an_unanswered_ready_goes_out_again_as_the_same_bytes() -> None:
    story = Story.ready()
    patience = QUICK.patience_s
    assert story.me.member.tick(patience - 0.1, patience) == []
    assert story.me.member.tick(patience, patience) == [
        Send(COORDINATOR_NAME, story.readies[0].raw)
    ]
    assert story.me.member.reconnected(patience + 1) == [
        Send(COORDINATOR_NAME, story.readies[0].raw)
    ]
    story.says(story.roster)
    assert story.me.member.reconnected(patience + 2) == []


# -- announces ------------------------------------------------------------------------------


def announced(stage: Rehearsal, message: Signed[Any], number: int = 1) -> list[Effect]:
    return stage.actors[number].member.announced(message.raw, stage.now)


def test_the_same_announce_again_is_nothing_new() -> None:
    story = Story.ready()
    assert announced(story.stage, story.announce) == []
    assert story.me.member.state == State.READY


@pytest.mark.parametrize(("epoch", "number"), [(1, 4), (1, 1), (0, 9)])
def test_a_round_number_that_goes_back_is_refused(epoch: int, number: int) -> None:
    stage = Rehearsal((2,))
    actor = stage.power_on(1, joined=(1, 5) if epoch else (2, 1))
    effects = announced(stage, stage.announcing(number, epoch=1).announce)
    assert "lies in the past" in why(effects)
    assert kinds(effects) == ["refused", "Report"]
    assert actor.member.state is State.IDLE


def test_a_round_that_the_device_restarted_in_is_over_for_it() -> None:
    story = Story.ready()
    actor = story.stage.reboot(1)
    assert why(announced(story.stage, story.announce)) == "restarted in this round"
    assert kinds(announced(story.stage, story.stage.announcing(1).announce))[0] == "refused"
    assert actor.member.round is None
    assert "Work" in kinds(announced(story.stage, story.stage.announcing(2).announce))


def test_a_second_announce_of_the_same_round_is_refused_and_the_first_goes_on() -> None:
    story = Story.ready()
    other = story.stage.announcing(1).announce
    refused = announced(story.stage, other)
    assert why(refused) == "already in this round"
    assert from_me(refused, Refused)[0].message.about == other.digest
    assert story.me.member.state == State.READY
    # the first one, delivered again after it, is still the one this device is in
    assert announced(story.stage, story.announce) == []
    assert kinds(story.says(story.roster)) == ["Report"]


def test_a_newer_round_ends_the_one_before_and_drops_its_secrets() -> None:
    story = Story.added()
    before = story.me.mask
    effects = announced(story.stage, story.stage.announcing(2).announce)
    assert effects[0] == Abandon(1, 1)
    assert before is story.me.mask
    secrets_are_dropped(story.me)
    assert story.asks(1, 2, 3, 4) == []


def test_a_new_epoch_begins_with_the_authoritys_word() -> None:
    stage = Rehearsal((2,))
    stage.power_on(1, joined=(1, 50))
    second = stage.announcing(1, epoch=2, revocation=2).announce
    assert kinds(announced(stage, second)) == ["Report"]
    assert stage.actors[1].member.state is State.WAITING
    effects = stage.actors[1].member.revocation(cast().revocation(2, epoch=2), 1.0)
    assert kinds(effects)[:2] == ["Listed", "Report"]
    assert "Work" in kinds(effects)
    old = stage.announcing(99, epoch=1, revocation=2).announce
    assert why(announced(stage, old)) == "round 1/99 lies in the past"


def test_an_epoch_that_the_authority_does_not_know_is_refused() -> None:
    stage = Rehearsal((2,))
    reason = why(announced(stage, stage.announcing(1, epoch=2).announce))
    assert reason == "epoch 2, the fleet authority is at epoch 1"
    assert stage.actors[1].member.state is State.REFUSED


def test_an_announce_waits_for_its_revocation_list() -> None:
    stage = Rehearsal((2,))
    member = stage.actors[1].member
    announced(stage, stage.announcing(1, revocation=3).announce)
    assert member.state is State.WAITING
    assert kinds(member.revocation(cast().revocation(2), 0.0)) == ["Listed", "Report", "Report"]
    assert member.state is State.WAITING
    assert "Work" in kinds(member.revocation(cast().revocation(3), 0.0))


def test_a_revoked_device_takes_no_part() -> None:
    stage = Rehearsal((2,))
    stage.actors[1].member.revocation(cast().revocation(2, revoked=[1]), 0.0)
    assert why(announced(stage, stage.announcing().announce)) == "this device is revoked"


def test_revocation_lists_only_grow_and_are_the_authoritys() -> None:
    member = Rehearsal((2,)).actors[1].member
    newer = cast().revocation(5)
    assert member.revocation(newer, 0.0)[0] == Listed(5, newer)
    assert member.revocation(newer, 0.0) == []
    assert member.revocation(cast().revocation(4, epoch=9), 0.0) == []
    with pytest.raises(IdentityError):
        member.revocation(Cast.of("rehearsal").revocation(6), 0.0)


@pytest.mark.parametrize(
    ("forge", "error"),
    [
        (lambda made, stage: b"junk", MessageError),
        (lambda made, stage: sign(made, device(2)).raw, PeerError),
        (
            lambda made, stage: (
                sign(evolve(made, certificate=device(2).certificate), device(2)).raw
            ),
            IdentityError,
        ),
        (
            lambda made, stage: (
                sign(evolve(made, sender=2, certificate=device(2).certificate), device(2)).raw
            ),
            IdentityError,
        ),
        (
            lambda made, stage: (
                sign(
                    evolve(made, certificate=coordinator("other").certificate), coordinator("other")
                ).raw
            ),
            IdentityError,
        ),
        (lambda made, stage: pack_envelope(encode(evolve(made, round=9)), b"none"), IdentityError),
        (lambda made, stage: Story.ready().roster.raw, MessageError),
    ],
)
def test_only_the_coordinator_announces(
    forge: Callable[[Announce, Rehearsal], bytes], error: type[PeerError]
) -> None:
    stage = Rehearsal((2,))
    raw = forge(stage.announcing().announce.message, stage)
    with pytest.raises(error):
        stage.actors[1].member.announced(raw, 0.0)
    assert stage.actors[1].member.round is None


def rest(stage: Rehearsal, number: int, *, epoch: int = 1) -> Signed[Rest]:
    model = ModelReference(version=3, parent=2, digest=b"m" * 32, size=100)
    certificate = stage.coordinator.certificate
    return stage.pen(
        Rest(**tag("rehearsal", epoch, number, 0), model=model, certificate=certificate)
    )


def test_rest_ends_the_round_and_names_the_model_to_keep() -> None:
    story = Story.added()
    effects = announced(story.stage, rest(story.stage, 1))
    assert kinds(effects) == ["Abandon", "Keep"]
    assert isinstance(effects[1], Keep)
    assert effects[1].model.version == 3
    secrets_are_dropped(story.me)


def test_rest_from_the_past_ends_nothing() -> None:
    stage = Rehearsal((2,))
    stage.shows(stage.announcing(5).announce.raw, 1)
    assert announced(stage, rest(stage, 4)) == []
    assert stage.actors[1].member.state is State.READY


def test_rest_is_believed_in_the_authoritys_epoch_only() -> None:
    stage = Rehearsal((2,))
    ahead = rest(stage, 1, epoch=2)
    assert announced(stage, ahead) == []
    member = stage.actors[1].member
    assert kinds(member.revocation(cast().revocation(2, epoch=2), 0.0))[-1] == "Keep"
    assert announced(stage, rest(stage, 9, epoch=1)) == []


def test_a_model_beyond_the_boards_limits_is_not_fetched_at_rest() -> None:
    stage = Rehearsal((2,))
    model = ModelReference(version=3, parent=2, digest=b"m" * 32, size=2**27)
    certificate = stage.coordinator.certificate
    large = Rest(**tag("rehearsal", 1, 1, 0), model=model, certificate=certificate)
    assert announced(stage, stage.pen(large)) == []


def test_a_refused_list_is_refused_again_when_the_answer_was_lost() -> None:
    story = Story.added(5, threshold=4)
    refused = from_me(story.asks(1, 2, 3), Refused)
    assert from_me(story.asks(1, 2, 3), Refused) == refused
    assert story.asks(1, 2, 3, 4, 5) == []


def test_a_revoked_coordinators_key_is_of_no_use_in_the_next_epoch() -> None:
    """What remains to a stolen coordinator's key: nothing that the authority's epoch has not."""
    stage = Rehearsal((2,))
    stage.actors[1].member.revocation(cast().revocation(2, epoch=2), 0.0)
    assert "epoch 1" in why(announced(stage, stage.announcing(7, epoch=1).announce))


@pytest.mark.parametrize(
    "key",
    [
        bytes(32),
        (1).to_bytes(32, "little"),
        (2**255 - 19 + 9).to_bytes(32, "little"),
        bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
    ],
)
def test_a_coordinators_key_that_seals_nothing_is_refused_before_anything_is_made(
    key: bytes,
) -> None:
    stage = Rehearsal((2,))
    effects = announced(stage, stage.announcing(exchange_key=key).announce)
    assert "the coordinator's round key" in why(effects)
    assert "Work" not in kinds(effects)


# -- work -----------------------------------------------------------------------------------


def test_work_for_a_round_that_is_over_is_thrown_away() -> None:
    stage = Rehearsal((2,))
    actor = stage.actors[1]
    old = stage.announcing(1)
    announced(stage, old.announce)
    announced(stage, stage.announcing(2).announce)
    made = stage.suite_of(old.announce)
    mask = made.prepare(stage.random.randbytes)
    values = stage.contribution(old.announce.message)
    assert actor.member.worked(old.announce.digest, values, mask, made, 0.0) == []
    with pytest.raises(OneTimeError):
        mask.body(values)


def test_one_round_has_one_ready() -> None:
    """A second mask in one round would be a second body: it is thrown away unused."""
    story = Story.ready()
    first = story.me.mask
    assert story.stage.work(1, story.announce) == []
    assert story.me.mask is not first
    secrets_are_dropped(evolve(story.me, member=Rehearsal((2,)).actors[1].member))
    assert len(story.stage.sent(1, Ready)) == 1


def test_work_that_cannot_be_done_is_refused_with_its_reason() -> None:
    stage = Rehearsal((2,))
    made = stage.announcing()
    announced(stage, made.announce)
    effects = stage.actors[1].member.failed(made.announce.digest, "no data\nin \x1b[1mfile")
    assert why_sent(effects) == "no data in ?[1mfile"
    assert Abandon(1, 1) in effects
    assert stage.actors[1].member.state is State.REFUSED


def why_sent(effects: Sequence[Effect]) -> str:
    (refused,) = from_me(effects, Refused)
    return refused.message.reason


def test_a_record_that_cannot_be_kept_ends_the_round() -> None:
    story = Story.added()
    assert kinds(story.me.member.abandon("disk full")) == ["Abandon", "Report"]
    secrets_are_dropped(story.me)
    assert story.me.member.abandon("disk full") == []


# -- rosters --------------------------------------------------------------------------------


def test_a_second_roster_is_refused_and_the_first_stays() -> None:
    story = Story.added()
    other = story.stage.roster(story.announce, story.readies, ring=2)
    assert why(story.says(other)) == "a second roster in one round"
    assert story.says(story.roster) == []
    assert kinds(story.asks(1, 2, 3, 4))[1] == "release"


def test_a_roster_before_ready_says_nothing() -> None:
    stage = Rehearsal((2, 2, 2, 2))
    made = stage.announcing()
    readies = stage.all_ready(made, 2, 3, 4)
    announced(stage, made.announce)
    assert stage.says(1, stage.roster(made.announce, readies)) == []
    assert stage.actors[1].member.state is State.WORKING


BAD_ROSTERS: dict[str, tuple[Callable[[Story], Signed[Roster]], str]] = {
    "without me": (
        lambda story: story.stage.roster(story.announce, story.readies[1:]),
        "without this device",
    ),
    "with an older ready of mine": (
        lambda story: story.stage.roster(
            story.announce,
            [
                sign(evolve(story.readies[0].message, threshold=1), device(1)),
                *story.readies[1:],
            ],
        ),
        "without this device as it said ready",
    ),
    "too small for me": (
        lambda story: story.stage.roster(story.announce, story.readies[:2]),
        "ring of 2, this device answers above 2",
    ),
    "of another announce": (
        lambda story: story.stage.pen(
            evolve(story.roster.message, announce=story.stage.announcing(1).announce.digest)
        ),
        "another announce",
    ),
    "with a doubled device": (
        lambda story: story.stage.roster(story.announce, [*story.readies, story.readies[2]]),
        "number 3 twice",
    ),
    "with a copied round key": (
        lambda story: story.stage.roster(
            story.announce,
            [
                *story.readies,
                sign(
                    evolve(story.readies[0].message, sender=5, certificate=device(5).certificate),
                    device(5),
                ),
            ],
        ),
        "has the round key of another",
    ),
    "with a round key of low order": (
        lambda story: story.stage.roster(
            story.announce,
            [
                *story.readies[:3],
                sign(evolve(story.readies[3].message, round_key=bytes(32)), device(4)),
            ],
        ),
        "low order",
    ),
    "with a ready of an earlier round": (
        lambda story: story.stage.roster(
            story.announce,
            [*story.readies[:3], sign(evolve(story.readies[3].message, round=9), device(4))],
        ),
        "ready for round 1/9",
    ),
    "with a device that the coordinator made up": (
        lambda story: story.stage.roster(
            story.announce,
            [
                *story.readies[:3],
                sign(
                    evolve(
                        story.readies[3].message,
                        certificate=Cast.of("rehearsal").device(4, "b04").certificate,
                    ),
                    device(4),
                ),
            ],
        ),
        "not issued by this fleet",
    ),
}


@pytest.mark.parametrize("lie", BAD_ROSTERS)
def test_a_roster_that_lies_ends_the_round_for_this_device(lie: str) -> None:
    make, reason = BAD_ROSTERS[lie]
    story = Story.ready()
    roster = make(story)
    effects = story.says(roster)
    assert reason in why(effects)
    assert from_me(effects, Refused)[0].message.about == roster.digest
    secrets_are_dropped(story.me)
    assert story.me.member.state == State.REFUSED
    assert story.says(story.roster) == [], "no second chance in this round"


def test_a_roster_with_somebody_revoked_since_is_refused() -> None:
    story = Story.ready()
    story.me.member.revocation(cast().revocation(2, revoked=[4]), 0.0)
    assert "b04 is revoked" in why(story.says(story.roster))


# -- the call -------------------------------------------------------------------------------


def test_a_member_is_here_only_once_its_body_is_in_a_token() -> None:
    story = Story.in_ring()
    call = story.stage.call(story.roster)
    assert why(story.says(call)) == "this device is in no token of this ring"
    assert story.me.member.state == State.MEMBER
    story.says(story.stage.lap(story.roster, 1, 2, 3, 4))
    (here,) = from_me(story.says(call), Here)
    assert here.message.lap == 1


def test_a_call_that_comes_late_again_is_no_reason_to_complain() -> None:
    story = Story.added()
    call = story.stage.call(story.roster)
    story.says(call)
    story.asks(1, 2, 3, 4)
    assert story.says(call) == []


def test_a_call_of_another_roster_is_not_answered() -> None:
    story = Story.added()
    other = story.stage.roster(story.announce, story.readies, ring=2)
    assert story.says(story.stage.call(other)) == []


# -- lists: what this device releases for ---------------------------------------------------


BAD_LISTS: dict[str, tuple[tuple[int, ...], str]] = {
    "as short as the threshold": ((1, 2), "2 contributors, this device answers above 2"),
    "alone": ((1,), "1 contributors, this device answers above 2"),
    "doubled names": ((1, 1, 2, 2), "names doubled or not ascending"),
    "unsorted": ((2, 1, 3), "names doubled or not ascending"),
    "a foreign name": ((1, 2, 9), "9 is no member of the ring"),
    "only foreign friends": ((1, 7, 8, 9), "7 is no member of the ring"),
    "without me": ((2, 3, 4), "a list without this device"),
}


@pytest.mark.parametrize("lie", BAD_LISTS)
def test_a_list_that_lies_gets_no_release_and_ends_the_round(lie: str) -> None:
    names, reason = BAD_LISTS[lie]
    story = Story.added()
    effects = story.asks(*names)
    assert why(effects) == reason
    assert "release" not in kinds(effects)
    secrets_are_dropped(story.me)
    assert story.asks(1, 2, 3, 4) == [], "not even for an honest list"


def test_more_than_the_threshold_is_enough() -> None:
    story = Story.added()
    assert kinds(story.asks(1, 2, 4)) == ["Spent", "release", "Report"]


def test_a_list_before_the_token_gets_nothing() -> None:
    story = Story.in_ring()
    assert why(story.asks(1, 2, 3, 4)) == "this device is in no token of this ring"
    secrets_are_dropped(story.me)


def test_a_list_before_the_roster_gets_nothing() -> None:
    story = Story.ready()
    assert why(story.asks(1, 2, 3, 4)) == "a list of another roster"


def test_a_list_of_another_roster_gets_nothing() -> None:
    story = Story.added()
    other = story.stage.roster(story.announce, story.readies, ring=2)
    effects = story.says(story.stage.request(other, 1, 2, 3, 4))
    assert why(effects) == "a list of another roster"
    assert kinds(story.asks(1, 2, 3, 4))[1] == "release"


def test_the_same_list_again_gets_the_stored_bytes() -> None:
    story = Story.added()
    asked = story.stage.request(story.roster, 1, 2, 3, 4)
    first = story.says(asked)
    again = story.says(story.stage.pen(asked.message))
    assert from_me(again, Release)[0].raw == from_me(first, Release)[0].raw
    assert kinds(again) == ["release"], "and counts once"


@pytest.mark.parametrize("names", [(1, 2, 3), (1, 2, 3, 4), (1, 2), (1, 2, 4)])
def test_a_second_list_gets_nothing(names: tuple[int, ...]) -> None:
    story = Story.added(5)
    story.asks(1, 2, 3, 5)
    effects = story.asks(*names)
    assert why(effects) == "a second list in one round"
    assert len(story.stage.sent(1, Release)) == 1


def test_a_list_after_the_deadline_gets_nothing() -> None:
    story = Story.added()
    deadline = story.me.member._round
    assert deadline is not None
    assert deadline.deadline is not None
    effects = story.me.member.tick(deadline.deadline, deadline.deadline)
    assert kinds(effects) == ["Abandon", "Report"]
    secrets_are_dropped(story.me)
    assert story.asks(1, 2, 3, 4) == []


def test_a_list_that_overtakes_the_tick_of_the_deadline_gets_nothing() -> None:
    """A coordinator that keeps the board busy must not gain time by it."""
    story = Story.added()
    held = story.me.member._round
    assert held is not None
    assert held.deadline is not None
    story.stage.now = held.deadline
    assert kinds(story.asks(1, 2, 3, 4)) == ["Abandon", "Report"]
    secrets_are_dropped(story.me)
    assert story.asks(1, 2, 3, 4) == []


def test_the_deadline_leaves_time_for_three_laps_and_no_more() -> None:
    story = Story.ready()
    held = story.me.member._round
    assert held is not None
    lap_s = QUICK.lap_s + 2 * QUICK.patience_s
    assert held.deadline == QUICK.ready_s + MAX_LAPS * lap_s + QUICK.release_s + GRACE_S


def test_the_stored_release_is_dropped_with_the_round() -> None:
    story = Story.added()
    asked = story.stage.request(story.roster, 1, 2, 3, 4)
    story.says(asked)
    announced(story.stage, story.stage.announcing(2).announce)
    assert story.says(asked) == []


def test_a_rebooted_device_releases_nothing() -> None:
    story = Story.added()
    story.stage.reboot(1)
    announced(story.stage, story.announce)
    assert story.says(story.roster) == []
    assert story.asks(1, 2, 3, 4) == []


def test_a_used_up_budget_gets_no_release() -> None:
    one = Budget(level=1.0, per_day=1.0, cap=1.0)
    story = Story.added(releases=one)
    assert kinds(story.asks(1, 2, 3, 4))[:2] == ["Spent", "release"]
    second = announced(story.stage, story.stage.announcing(2).announce)
    assert "release budget is used up for the next 86400 s" in why(second)
    assert "Work" not in kinds(second)


def test_the_budget_is_looked_at_again_when_the_list_comes() -> None:
    story = Story.added()
    story.me.member._releases = Budget(level=0.5, per_day=1.0, cap=1.0)
    assert "release budget is used up for the next 43200 s" in why(story.asks(1, 2, 3, 4))
    secrets_are_dropped(story.me)


def test_without_an_evaluation_budget_the_device_trains_but_does_not_evaluate() -> None:
    stage = Rehearsal((2,), evaluations=Budget(level=1.0, per_day=1.0, cap=1.0))
    (first,) = [e for e in announced(stage, stage.announcing(1).announce) if isinstance(e, Work)]
    (second,) = [e for e in announced(stage, stage.announcing(2).announce) if isinstance(e, Work)]
    assert (first.evaluate, second.evaluate) == (True, False)


def test_statistics_take_of_the_evaluation_budget_and_end_with_it() -> None:
    """They are the same each time: a few sums over lists that differ would give them away."""
    plan = evolve(TRAIN, task="statistics", evaluation_samples=0)
    stage = Rehearsal((2,), plan=plan, evaluations=Budget(level=2.0, per_day=1.0, cap=2.0))
    first, second, third = (
        announced(stage, stage.announcing(number).announce) for number in (1, 2, 3)
    )
    for effects in (first, second):
        (spent,) = [effect for effect in effects if isinstance(effect, Spent)]
        assert spent.budget == "evaluation"
        assert effects.index(spent) < next(
            place for place, effect in enumerate(effects) if isinstance(effect, Work)
        )
    assert not [effect for effect in third if isinstance(effect, Work)]
    assert stage.actors[1].member.state is State.REFUSED
    assert "evaluation budget is used up for the next 86400 s" in str(third)


def test_what_the_coordinator_refuses_is_over() -> None:
    story = Story.ready()
    no = story.stage.refusal(story.announce, story.readies[0].digest, "round closed")
    assert kinds(story.says(no)) == ["Abandon", "Report"]
    secrets_are_dropped(story.me)


# -- who may say what -----------------------------------------------------------------------


def test_no_word_of_the_coordinator_counts_in_another_name() -> None:
    story = Story.added()
    asked = story.stage.request(story.roster, 1, 2, 3, 4)
    with pytest.raises(ProtocolError, match="no member"):
        story.stage.says(1, asked, source="b02")
    forged = sign(evolve(asked.message, sender=2), device(2))
    with pytest.raises(MessageError):
        story.stage.says(1, forged)
    with pytest.raises(IdentityError):
        story.stage.says(1, sign(asked.message, device(2)))
    with pytest.raises(ProtocolError, match="no member sends"):
        story.stage.says(1, forged, source="b02")
    assert story.me.member.state == State.MEMBER


@pytest.mark.parametrize("change", [{"round": 2}, {"epoch": 2}])
def test_a_list_of_another_round_is_not_for_us(change: dict[str, Any]) -> None:
    story = Story.added()
    asked = story.stage.request(story.roster, 1, 2, 3, 4)
    assert story.says(story.stage.pen(evolve(asked.message, **change))) == []


def test_what_raises_changes_nothing() -> None:
    """A peer's fault, whatever it is, leaves the device exactly where it was."""
    story = Story.added()
    asked = story.stage.request(story.roster, 1, 2, 3, 4)
    lap = story.stage.lap(story.roster, 1, 2, 3, 9, lap=2)
    hop = Hop(**tag("rehearsal", 1, 1, 2), lap=lap.raw, names=(2,), size=1)
    faults: list[tuple[str, bytes]] = [
        (COORDINATOR_NAME, b"junk"),
        (COORDINATOR_NAME, pack_envelope(encode(asked.message), b"none")),
        (COORDINATOR_NAME, lap.raw),
        (COORDINATOR_NAME, sign(asked.message, device(3)).raw),
        ("b02", asked.raw),
        ("b03", sign(hop, device(2)).raw),
        ("b02", sign(hop, device(3)).raw),
        ("b09", sign(evolve(hop, sender=9), device(9)).raw),
        ("coordinator", story.stage.pen(evolve(asked.message, fleet="other")).raw),
    ]
    member = story.me.member
    assert member._round is not None
    before = (member.state, member.deadline, member._round.list, member._round.release)
    relay = member._round.relay
    assert relay is not None
    tokens = (list(relay._holdings), len(relay._arrivals), relay._additions, relay._lap)
    for source, raw in faults:
        with pytest.raises(PeerError) as fault:
            member.receive(source, raw, 1.0)
        assert fault.value.sender
    assert (member.state, member.deadline, member._round.list, member._round.release) == before
    assert tokens == (list(relay._holdings), len(relay._arrivals), relay._additions, relay._lap)
    assert kinds(story.asks(1, 2, 3, 4)) == ["Spent", "release", "Report"]


# -- one key, one body ----------------------------------------------------------------------


def test_all_that_leaves_in_a_round_is_one_body_and_one_release() -> None:
    story = Story.added()
    for lap in (2, 3):
        story.says(story.stage.lap(story.roster, 1, 2, 3, 4, lap=lap))
    chunks = {
        message.data  # type: ignore[attr-defined]
        for message in (
            open_envelope(effect.data).message
            for effect in story.me.did
            if isinstance(effect, Send)
        )
        if message.kind == "chunk"
    }
    assert len(chunks) == 1


def test_pads_are_bound_to_the_list() -> None:
    """Some get list A, others list B: nothing opens. See also tests/simulation."""
    honest, lied_to = Story.added(4), Story.added(4)
    first = from_me(honest.asks(1, 2, 3), Release)[0].message
    second = from_me(lied_to.asks(1, 2, 3, 4), Release)[0].message
    assert first.list != second.list
    assert first.sealed != second.sealed


def test_the_round_key_is_the_devices_alone() -> None:
    story = Story.ready()
    held = story.me.member._round
    assert held is not None
    assert held.secrets is not None
    assert isinstance(held.secrets.round_key, RoundKey)
    shown = repr(held) + repr(held.secrets) + repr(story.me.member)
    assert "body" not in repr(held.secrets)
    assert str(story.me.values) not in shown
