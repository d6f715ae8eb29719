"""The one release: it opens nothing outside its list, and nothing at all without every name."""

import itertools
import random
from functools import reduce

import numpy as np
import pytest
from attrs import define
from hypothesis import example, given
from hypothesis import strategies as st

from fedring.coordinator.announcing import Announcing
from fedring.device.releases import Secrets, make_release, objection
from fedring.lab.simulate.cast import cast, device
from fedring.lab.simulate.fleet import SMALL_KEY_BITS, paillier_key
from fedring.lab.simulate.rehearsal import Rehearsal
from fedring.shared.encryption import Body
from fedring.shared.envelopes import Signed, sign
from fedring.shared.errors import IdentityError, OneTimeError, SumError
from fedring.shared.membership import Membership, read_roster
from fedring.shared.messages import List, Ready, Release, Roster, tag
from fedring.shared.numbers import IntVector
from fedring.shared.pairwise import RoundKey, unseal

NAMES = (1, 2, 3, 4)


@define
class Story:
    """Four devices with secrets, one roster, and a coordinator who tries everything."""

    stage: Rehearsal
    made: Announcing
    membership: Membership
    secrets: dict[int, Secrets]
    values: dict[int, IntVector]

    @classmethod
    def of(cls, seed: int = 0) -> "Story":
        stage = Rehearsal((), seed=seed)
        made = stage.announcing()
        announce = made.announce
        suite = stage.suite_of(announce)
        secrets, values, readies = {}, {}, []
        for number in NAMES:
            mask = suite.prepare(stage.random.randbytes)
            values[number] = stage.contribution(announce.message)
            key = RoundKey.generate(stage.random.randbytes)
            secrets[number] = Secrets(suite, mask, mask.body(values[number]), key)
            ready = Ready(
                **tag("rehearsal", 1, 1, number),
                announce=announce.digest,
                certificate=device(number).certificate,
                threshold=1,
                round_key=key.public,
            )
            readies.append(sign(ready, device(number)))
        roster = stage.roster(announce, readies)
        membership = read_roster(roster, announce, cast().authority, frozenset())
        return cls(stage, made, membership, secrets, values)

    def bodies(self) -> dict[int, Body]:
        return {number: one.body.copy() for number, one in self.secrets.items()}

    def release(
        self, number: int, asked: Signed[List], membership: Membership | None = None
    ) -> bytes:
        """A release, as the coordinator unseals it."""
        membership = membership or self.membership
        release = make_release(
            self.secrets[number],
            membership,
            asked,
            self.made.announce.message,
            identity=device(number),
            tag=tag("rehearsal", 1, 1, number),
        )
        return self.unsealed(release.message, membership)

    def unsealed(self, release: Release, membership: Membership) -> bytes:
        return unseal(
            self.made.exchange_key,
            membership.round_keys((release.sender,))[release.sender],
            release.sealed,
            roster_digest=release.roster,
            list_digest=release.list,
            sender=release.sender,
        )

    def open(self, numbers: tuple[int, ...], releases: list[bytes]) -> list[int]:
        suite = self.made.suite
        bodies = self.bodies()
        total = reduce(lambda a, b: a + b, (bodies[number] for number in numbers))
        product = suite.product(releases)
        key = paillier_key(SMALL_KEY_BITS)
        opened: list[int] = suite.open(key, total, product, len(numbers)).tolist()
        return opened

    def total(self, *numbers: int) -> list[int]:
        rows = [self.values[number].tolist() for number in numbers]
        return [sum(column) for column in zip(*rows, strict=True)]

    def asks(self, *names: int) -> Signed[List]:
        return self.stage.request(self.membership.roster, *names)


def test_all_releases_of_a_list_open_the_sum_over_it() -> None:
    story = Story.of()
    asked = story.asks(1, 3, 4)
    releases = [story.release(number, asked) for number in (1, 3, 4)]
    assert story.open((1, 3, 4), releases) == story.total(1, 3, 4)


@pytest.mark.parametrize(
    "subset", [names for size in (1, 2, 3) for names in itertools.combinations(NAMES, size)]
)
def test_anything_less_than_the_whole_list_opens_nothing(subset: tuple[int, ...]) -> None:
    story = Story.of()
    asked = story.asks(*NAMES)
    releases = {number: story.release(number, asked) for number in NAMES}
    with pytest.raises(SumError):
        story.open(subset, [releases[number] for number in subset])
    with pytest.raises(SumError):
        story.open(NAMES, [releases[number] for number in subset])
    assert story.open(NAMES, list(releases.values())) == story.total(*NAMES)


@pytest.mark.parametrize("who_sees_the_other", [(1,), (1, 2), (2, 3)])
def test_two_lists_open_nothing(who_sees_the_other: tuple[int, ...]) -> None:
    """Some get list A, others list B."""
    story = Story.of()
    first, second = story.asks(*NAMES), story.asks(*NAMES[:3])
    releases = [
        story.release(number, second if number in who_sees_the_other else first) for number in NAMES
    ]
    for numbers in (NAMES, NAMES[:3]):
        with pytest.raises(SumError):
            story.open(numbers, [releases[number - 1] for number in numbers])


def test_two_rosters_open_nothing() -> None:
    """The same readies under two rosters, the same names on two lists."""
    story = Story.of()
    readies = story.membership.roster.message.readies
    again: Signed[Roster] = story.stage.roster(story.made.announce, readies, ring=2)
    other = read_roster(again, story.made.announce, cast().authority, frozenset())
    first, second = story.asks(*NAMES), story.stage.request(again, *NAMES)
    releases = [story.release(1, first)]
    releases += [story.release(number, second, other) for number in NAMES[1:]]
    with pytest.raises(SumError):
        story.open(NAMES, releases)


def test_a_mask_is_released_once() -> None:
    story = Story.of()
    asked = story.asks(*NAMES)
    story.release(1, asked)
    with pytest.raises(OneTimeError, match="this device's key"):
        story.release(1, story.asks(*NAMES[:3]))


def test_only_the_coordinator_of_this_announce_can_unseal() -> None:
    story = Story.of()
    asked = story.asks(*NAMES)
    release = make_release(
        story.secrets[1],
        story.membership,
        asked,
        story.made.announce.message,
        identity=device(1),
        tag=tag("rehearsal", 1, 1, 1),
    ).message
    thief = RoundKey.generate(random.Random(7).randbytes)
    public = story.secrets[1].round_key.public

    def opened(own: RoundKey, roster: bytes, listed: bytes, sender: int) -> bytes:
        return unseal(
            own, public, release.sealed, roster_digest=roster, list_digest=listed, sender=sender
        )

    own = story.made.exchange_key
    assert opened(own, release.roster, release.list, 1)
    for attempt in (
        (thief, release.roster, release.list, 1),
        (own, b"x" * 32, release.list, 1),
        (own, release.roster, b"x" * 32, 1),
        (own, release.roster, release.list, 2),
    ):
        with pytest.raises(IdentityError):
            opened(*attempt)


def test_secrets_do_not_print() -> None:
    story = Story.of()
    shown = repr(story.secrets[1])
    assert str(story.secrets[1].body[:3]) not in shown
    assert "used up" in shown


def test_erased_secrets_release_nothing() -> None:
    story = Story.of()
    story.secrets[1].erase()
    with pytest.raises(OneTimeError):
        story.release(1, story.asks(*NAMES))
    assert isinstance(story.secrets[1].body, np.ndarray)


@given(st.lists(st.integers(1, 6), min_size=1, max_size=6), st.integers(1, 4))
@example(names=[1, 3, 4], threshold=2)
@example(names=[1, 2, 5], threshold=2)
@example(names=[1, 2, 2], threshold=2)
@example(names=[1, 2, 3], threshold=3)
def test_a_list_passes_only_as_more_than_the_threshold_of_members_with_us(
    names: list[int], threshold: int
) -> None:
    """The checks said once more in other words."""
    asked = Story.of().asks(*names).message
    allowed = (
        all(low < high for low, high in itertools.pairwise(names))
        and set(names) <= set(NAMES)
        and 2 in names
        and len(set(names)) > threshold
    )
    membership = Story.of().membership
    assert (objection(asked, membership, 2, threshold) is None) == allowed
