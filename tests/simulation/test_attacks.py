"""A coordinator that lies as it likes, against unmodified devices: what it can open, and what not.

It has its own keys, every message, and the secrets of its friends among the devices. The test does
the lying; what devices say is all that it gets.
"""

import itertools
from collections.abc import Iterable
from typing import Any

import pytest
from attrs import define, evolve

from fedring.coordinator.announcing import Announcing
from fedring.device.budgets import Budget
from fedring.lab.simulate.cast import cast, device
from fedring.lab.simulate.rehearsal import Rehearsal
from fedring.shared.effects import Send
from fedring.shared.encryption import SUITES, Body
from fedring.shared.envelopes import Signed, open_envelope, sign
from fedring.shared.errors import PeerError, SumError
from fedring.shared.messages import List, Ready, Refused, Release, Roster
from fedring.shared.pairwise import unseal

in_each_suite = pytest.mark.parametrize("suite_name", SUITES)


@define
class Liar:
    """The coordinator of one announce, with everything that it has heard."""

    stage: Rehearsal
    made: Announcing
    readies: dict[int, Signed[Ready]]

    @classmethod
    def with_ready(cls, n_devices: int, threshold: int, **stage: Any) -> "Liar":
        rehearsal = Rehearsal((threshold,) * n_devices, **stage)
        return cls.of(rehearsal, 1)

    @classmethod
    def of(cls, stage: Rehearsal, round_number: int) -> "Liar":
        made = stage.announcing(round_number)
        stage.all_ready(made)
        readies = {number: stage.sent(number, Ready)[-1] for number in stage.actors}
        return cls(stage, made, readies)

    def roster(self, *names: int, ring: int = 1) -> Signed[Roster]:
        return self.stage.roster(self.made.announce, [self.readies[n] for n in names], ring)

    def enters(self, number: int, roster: Signed[Roster]) -> None:
        """A device hears a roster, and starts a token of its own so that its body is in one."""
        self.hears(number, roster)
        others = [n for n in self.readies if self.readies[n].raw in roster.message.readies]
        order = (number, *(n for n in others if n != number))
        self.hears(number, self.stage.lap(roster, *order))

    def hears(self, number: int, message: Signed[Any]) -> None:
        """A device hears something; whatever it complains of, it complains of."""
        try:
            self.stage.says(number, message)
        except PeerError as fault:
            self.stage.actors[number].complaints.append(fault)

    def asks(self, number: int, roster: Signed[Roster], *names: int) -> Signed[List]:
        asked = self.stage.request(roster, *names)
        self.hears(number, asked)
        return asked

    def releases(self) -> dict[int, list[bytes]]:
        """Every release of this round, unsealed."""
        return {
            number: [
                unseal(
                    self.made.exchange_key,
                    self.readies[number].message.round_key,
                    release.message.sealed,
                    roster_digest=release.message.roster,
                    list_digest=release.message.list,
                    sender=number,
                )
                for release in self.stage.sent(number, Release)
                if release.message.round == self.made.announce.message.round
            ]
            for number in self.stage.actors
        }

    def bodies(self) -> dict[int, Body]:
        """What devices put into tokens of their own: the coordinator reads the whole broker."""
        bodies = {}
        for number, actor in self.stage.actors.items():
            for effect in actor.did:
                if isinstance(effect, Send):
                    message = open_envelope(effect.data).message
                    if message.kind == "chunk":
                        data = message.data  # type: ignore[attr-defined]
                        bodies[number] = self.made.suite.decode_body(data)
        return bodies

    def everything_that_opens(self) -> dict[tuple[int, ...], list[int]]:
        """Every set of devices whose bodies and releases open to something, tried one by one."""
        bodies, releases = self.bodies(), self.releases()
        able = [number for number in bodies if releases[number]]
        found = {}
        for size in range(1, len(able) + 1):
            for names in itertools.combinations(able, size):
                total = bodies[names[0]].copy()
                for other in names[1:]:
                    self.made.suite.add(total, bodies[other])
                for chosen in itertools.product(*(releases[n] for n in names)):
                    product = self.made.suite.product(chosen)
                    try:
                        opened = self.made.suite.open(self.stage.key, total, product, len(names))
                    except SumError:
                        continue
                    found[names] = opened.tolist()
        return found

    def reasons(self, number: int) -> list[str]:
        return [refused.message.reason for refused in self.stage.sent(number, Refused)]


def released(liar: Liar) -> set[int]:
    return {number for number, ones in liar.releases().items() if ones}


@in_each_suite
def test_so_that_the_others_can_fail_an_honest_list_opens(suite_name: str) -> None:
    liar = Liar.with_ready(4, threshold=2, suite_name=suite_name)
    roster = liar.roster(1, 2, 3, 4)
    for number in (1, 2, 3, 4):
        liar.enters(number, roster)
        liar.asks(number, roster, 1, 2, 3, 4)
    assert liar.everything_that_opens() == {(1, 2, 3, 4): liar.stage.total(1, 2, 3, 4)}


@in_each_suite
@pytest.mark.parametrize("missing", [1, 2, 3, 4])
def test_one_name_that_did_not_release_closes_all_others(suite_name: str, missing: int) -> None:
    liar = Liar.with_ready(4, threshold=2, suite_name=suite_name)
    roster = liar.roster(1, 2, 3, 4)
    for number in (1, 2, 3, 4):
        liar.enters(number, roster)
        if number != missing:
            liar.asks(number, roster, 1, 2, 3, 4)
    assert len(released(liar)) == 3
    assert liar.everything_that_opens() == {}


def test_a_victim_among_friends_gives_its_sum_only_with_more_than_its_threshold() -> None:
    """Section 1: to hide among k others choose T >= f + k."""
    liar = Liar.with_ready(5, threshold=3)
    small = liar.roster(1, 2, 3)
    liar.enters(1, small)
    assert "ring of 3, this device answers above 3" in liar.reasons(1)[0]
    roster = liar.roster(2, 3, 4, 5)
    liar.enters(2, roster)
    liar.asks(2, roster, 2, 3, 4)
    assert liar.reasons(2) == ["3 contributors, this device answers above 3"]
    assert released(liar) == set()


@in_each_suite
@pytest.mark.parametrize(
    ("first", "second"),
    [((1, 2, 3), (1, 2, 4)), ((1, 2, 3, 4), (1, 2, 3)), ((1, 2, 3), (1, 2, 3, 4))],
)
def test_two_lists_to_two_halves_open_nothing(
    suite_name: str, first: tuple[int, ...], second: tuple[int, ...]
) -> None:
    liar = Liar.with_ready(4, threshold=2, suite_name=suite_name)
    roster = liar.roster(1, 2, 3, 4)
    for number in (1, 2, 3, 4):
        liar.enters(number, roster)
        liar.asks(number, roster, *(first if number % 2 else second))
    assert liar.everything_that_opens() == {}


@in_each_suite
def test_lists_whose_names_fit_together_open_nothing_either(suite_name: str) -> None:
    """Each pair is on both lists or on neither: only the list's digest keeps them apart."""
    liar = Liar.with_ready(4, threshold=2, suite_name=suite_name)
    roster = liar.roster(1, 2, 3, 4)
    lists = {1: (1, 2, 3), 2: (1, 2, 4), 3: (1, 3, 4), 4: (2, 3, 4)}
    for number, names in lists.items():
        liar.enters(number, roster)
        liar.asks(number, roster, *names)
    assert released(liar) == {1, 2, 3, 4}
    assert liar.everything_that_opens() == {}


@in_each_suite
def test_mixed_lists_with_disjoint_honest_parts_open_nothing(suite_name: str) -> None:
    """Device 5 is a friend and releases for both lists; 1 2 and 3 4 are the honest parts."""
    liar = Liar.with_ready(6, threshold=2, suite_name=suite_name)
    roster = liar.roster(1, 2, 3, 4, 5, 6)
    for number in (1, 2, 3, 4, 5):
        liar.enters(number, roster)
    for number in (1, 2):
        liar.asks(number, roster, 1, 2, 5, 6)
    for number in (3, 4):
        liar.asks(number, roster, 3, 4, 5, 6)
    liar.asks(5, roster, 1, 2, 5, 6)
    assert released(liar) == {1, 2, 3, 4, 5}
    assert liar.everything_that_opens() == {}


@in_each_suite
def test_two_rosters_of_the_same_readies_open_nothing(suite_name: str) -> None:
    liar = Liar.with_ready(4, threshold=2, suite_name=suite_name)
    one, other = liar.roster(1, 2, 3, 4), liar.roster(1, 2, 3, 4, ring=2)
    for number in (1, 2, 3, 4):
        mine = one if number < 3 else other
        liar.enters(number, mine)
        liar.asks(number, mine, 1, 2, 3, 4)
    assert released(liar) == {1, 2, 3, 4}
    assert liar.everything_that_opens() == {}


def test_nobody_enters_two_rosters() -> None:
    liar = Liar.with_ready(4, threshold=2)
    one, other = liar.roster(1, 2, 3), liar.roster(1, 2, 3, 4, ring=2)
    for number in (1, 2, 3):
        liar.enters(number, one)
        liar.enters(number, other)
        liar.asks(number, other, 1, 2, 3, 4)
        assert set(liar.reasons(number)) == {
            "a second roster in one round",
            "a list of another roster",
        }
    assert released(liar) == set()


def test_different_announces_to_different_devices_make_no_ring() -> None:
    stage = Rehearsal((2, 2, 2, 2))
    first, second = stage.announcing(1), stage.announcing(1)
    stage.all_ready(first, 1, 2)
    stage.all_ready(second, 3, 4)
    readies = [stage.sent(number, Ready)[-1] for number in (1, 2, 3, 4)]
    for number, made in ((1, first), (3, second)):
        stage.says(number, stage.roster(made.announce, readies))
        assert "answers another announce" in stage.sent(number, Refused)[-1].message.reason


def test_an_announce_swapped_within_the_round_gets_no_second_ready() -> None:
    liar = Liar.with_ready(3, threshold=1)
    before = [liar.stage.sent(number, Ready) for number in (1, 2, 3)]
    for _ in range(3):
        swapped = liar.stage.announcing(1)
        for number in (1, 2, 3):
            liar.stage.shows(swapped.announce.raw, number)
            assert liar.reasons(number)[-1] == "already in this round"
    assert [liar.stage.sent(number, Ready) for number in (1, 2, 3)] == before


def replayed(liar: Liar, messages: Iterable[Signed[Any]]) -> None:
    for message in messages:
        for number in liar.stage.actors:
            liar.hears(number, message)


def test_nothing_of_one_round_is_of_use_in_the_next() -> None:
    stage = Rehearsal((2, 2, 2, 2))
    first = Liar.of(stage, 1)
    roster = first.roster(1, 2, 3, 4)
    for number in stage.actors:
        first.enters(number, roster)
    asked = stage.request(roster, 1, 2, 3, 4)
    second = Liar.of(stage, 2)
    old = stage.roster(second.made.announce, first.readies.values())
    replayed(first, [roster, stage.lap(roster, 1, 2, 3, 4), asked])
    assert released(first) == released(second) == set()
    replayed(second, [old])
    for number in stage.actors:
        assert "is ready for round 1/1, this is 1/2" in second.reasons(number)[-1]
    assert released(second) == set()


def test_a_round_that_comes_again_after_a_reboot_gets_nothing() -> None:
    """Joined is on the disk: the same number never gets a second key out of a device."""
    liar = Liar.with_ready(3, threshold=1)
    for number in (1, 2, 3):
        liar.stage.reboot(number)
        for made in (liar.made, liar.stage.announcing(1)):
            liar.stage.shows(made.announce.raw, number)
            assert liar.reasons(number)[-1] == "restarted in this round"
    assert all(liar.stage.sent(number, Ready) == [] for number in (1, 2, 3))


def test_releases_called_void_and_asked_again_stop_with_the_budget() -> None:
    stage = Rehearsal((2, 2, 2), releases=Budget(level=3.0, per_day=3.0, cap=3.0))
    given = 0
    for number in range(1, 10):
        made = stage.announcing(number)
        for one in stage.actors:
            stage.shows(made.announce.raw, one)
        if stage.actors[1].member.round is None:
            break
        readies = {one: stage.sent(one, Ready)[-1] for one in stage.actors}
        liar = Liar(stage, made, readies)
        roster = liar.roster(1, 2, 3)
        for one in stage.actors:
            liar.enters(one, roster)
            if one != 3:
                liar.asks(one, roster, 1, 2, 3)
        assert liar.everything_that_opens() == {}
        given += len(released(liar))
    assert given == 2 * 3
    assert (
        "release budget is used up for the next 28800 s"
        in stage.sent(1, Refused)[-1].message.reason
    )


def test_a_copied_round_key_cancels_nothing() -> None:
    """The friend 5 says ready with the victim's own round key; every honest roster refuses it."""
    liar = Liar.with_ready(4, threshold=2)
    copied = sign(
        evolve(liar.readies[1].message, sender=5, certificate=device(5).certificate), device(5)
    )
    roster = liar.stage.roster(liar.made.announce, [*liar.readies.values(), copied])
    for number in (1, 2, 3, 4):
        liar.enters(number, roster)
        assert "has the round key of another" in liar.reasons(number)[0]
    assert released(liar) == set()


def test_a_roster_is_judged_by_the_newest_revocation_list_the_device_knows() -> None:
    liar = Liar.with_ready(4, threshold=2)
    for number in (1, 2):
        liar.stage.actors[number].member.revocation(cast().revocation(9, revoked=[4]), 0.0)
    roster = liar.roster(1, 2, 3, 4)
    for number in (1, 2, 3):
        liar.enters(number, roster)
        liar.asks(number, roster, 1, 2, 3, 4)
    assert "b04 is revoked" in liar.reasons(1)[0]
    assert released(liar) == {3}


def test_a_forged_refusal_of_a_neighbour_changes_no_list() -> None:
    """Refusals between devices carry weight for tokens only; and never in another's name."""
    liar = Liar.with_ready(3, threshold=1)
    roster = liar.roster(1, 2, 3)
    liar.enters(1, roster)
    refused = Refused(**liar.stage.tag(liar.made.announce), about=roster.digest, reason="no")
    forged = sign(evolve(refused, sender=3), device(2))
    with pytest.raises(PeerError):
        liar.stage.says(1, forged, source="b03")
    with pytest.raises(PeerError):
        liar.stage.says(1, forged, source="b02")
    liar.asks(1, roster, 1, 2, 3)
    assert released(liar) == {1}
