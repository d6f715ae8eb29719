"""A coordinator that lies as it likes, against unmodified devices: what it can open, and what not.

After each attack the adversary of `lab.dump` tries everything on what was heard, with all secrets
of the coordinator and of its friends. So that it can fail, each attack is played a second time
against devices with a defence taken out: then it opens what it was after.
"""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import numpy as np
import pytest
from attrs import evolve, frozen
from tests.simulation.liar import (
    Liar,
    Patch,
    Sabotage,
    any_announce,
    any_certificate,
    any_roster,
    any_round_key,
    both,
    every_list_is_the_first,
    every_roster_is_the_first,
    joined_is_forgotten,
    joined_is_not_durable,
    lists_without,
    no_pads,
    no_threshold,
    pads_without,
    reboot,
    rest,
    turn_away,
    with_the_top_bit,
)

from fedring.device.budgets import Budget
from fedring.lab.simulate.cast import Cast, cast, device
from fedring.lab.simulate.rehearsal import Rehearsal
from fedring.shared.effects import Report
from fedring.shared.envelopes import sign
from fedring.shared.errors import PeerError
from fedring.shared.messages import COORDINATOR_NUMBER, Ready, Refused
from fedring.shared.numbers import IntVector, SumVector

# -- attacks ----------------------------------------------------------------------------------


def a_short_list() -> Liar:
    """The victim 1 with the friends 4 and 5, out of a ring that is large enough."""
    liar = Liar.with_ready(5, threshold=3)
    liar.gathers(liar.roster(1, 2, 3, 4, 5), 1, 4, 5)
    return liar


def a_small_ring() -> Liar:
    liar = Liar.with_ready(5, threshold=3)
    liar.gathers(liar.roster(1, 4, 5), 1, 4, 5)
    return liar


def small_rings_announced() -> Liar:
    """As if the threshold followed from the size of the rings."""
    stage = Rehearsal((3,) * 5)
    liar = Liar.of(stage, 1, ring=evolve(stage.terms, size=3))
    if 1 in liar.readies:
        liar.gathers(liar.roster(1, 4, 5), 1, 4, 5)
    return liar


def a_list_by_names(*names: int) -> Liar:
    """A list that has enough names only for whoever counts without looking."""
    liar = Liar.with_ready(6, threshold=3)
    roster = liar.roster(1, 2, 3, 4, 5, 6)
    liar.enters(1, roster)
    liar.asks(1, roster, *names)
    return liar


def a_second_list() -> Liar:
    """The sums over two lists that differ in device 4 would subtract to its update."""
    liar = Liar.with_ready(4, threshold=2)
    roster = liar.roster(1, 2, 3, 4)
    liar.gathers(roster, 1, 2, 3, 4)
    for number in (1, 2, 3):
        liar.asks(number, roster, 1, 2, 3)
    return liar


def one_list_twice() -> Liar:
    liar = Liar.with_ready(4, threshold=2)
    roster = liar.roster(1, 2, 3, 4)
    for _ in range(3):
        liar.gathers(roster, 1, 2, 3, 4)
    return liar


def two_lists(first: tuple[int, ...], second: tuple[int, ...]) -> Liar:
    """Half of the ring hears one list, half the other."""
    liar = Liar.with_ready(4, threshold=2)
    roster = liar.roster(1, 2, 3, 4)
    for number in (1, 2, 3, 4):
        liar.enters(number, roster)
        liar.asks(number, roster, *(first if number % 2 else second))
    return liar


def lists_that_fit_together() -> Liar:
    """Each pair is on both lists or on neither: only the list's digest keeps them apart."""
    liar = Liar.with_ready(4, threshold=2)
    roster = liar.roster(1, 2, 3, 4)
    lists = {1: (1, 2, 3), 2: (1, 2, 4), 3: (1, 3, 4), 4: (2, 3, 4)}
    for number, names in lists.items():
        liar.enters(number, roster)
        liar.asks(number, roster, *names)
    return liar


def disjoint_honest_parts() -> Liar:
    """Friend 5 is on both lists, honest 6 on both and asked for none."""
    liar = Liar.with_ready(6, threshold=2)
    roster = liar.roster(1, 2, 3, 4, 5, 6)
    for number in (1, 2, 3, 4, 5):
        liar.enters(number, roster)
    for number, others in ((1, (1, 2)), (2, (1, 2)), (3, (3, 4)), (4, (3, 4)), (5, (1, 2))):
        liar.asks(number, roster, *others, 5, 6)
    return liar


def one_stays_silent(missing: int) -> Liar:
    liar = Liar.with_ready(4, threshold=2)
    roster = liar.roster(1, 2, 3, 4)
    for number in (1, 2, 3, 4):
        liar.enters(number, roster)
        if number != missing:
            liar.asks(number, roster, 1, 2, 3, 4)
    assert len(liar.released()) == 3
    return liar


def two_rosters_of_the_same() -> Liar:
    liar = Liar.with_ready(4, threshold=2)
    for number in (1, 2, 3, 4):
        mine = liar.roster(1, 2, 3, 4, ring=1 if number < 3 else 2)
        liar.enters(number, mine)
        liar.asks(number, mine, 1, 2, 3, 4)
    return liar


def a_second_roster() -> Liar:
    """First a ring without device 4, then one with it."""
    liar = Liar.with_ready(4, threshold=2)
    liar.gathers(liar.roster(1, 2, 3), 1, 2, 3)
    liar.gathers(liar.roster(1, 2, 3, 4, ring=2), 1, 2, 3, 4)
    return liar


def the_round_again(between: Callable[[Liar, int], None], *, same: bool = False) -> Liar:
    """A round is announced again after something that may make devices forget it."""
    liar = Liar.with_ready(4, threshold=2)
    liar.gathers(liar.roster(1, 2, 3, 4), 1, 2, 3, 4)
    for number in liar.stage.actors:
        between(liar, number)
    made = liar.made if same else liar.stage.announcing(1)
    again = Liar(liar.stage, made)
    before = {number: len(liar.stage.sent(number, Ready)) for number in (1, 2, 3)}
    again.shows(1, 2, 3)
    if all(len(liar.stage.sent(number, Ready)) > before[number] for number in (1, 2, 3)):
        again.gathers(again.roster(1, 2, 3), 1, 2, 3)
    return again


def nothing(_: Liar, __: int) -> None:
    """Just the next announce."""


def different_announces() -> Liar:
    """Devices 1 and 2 see another model than 3 and 4, and are put into one ring."""
    stage = Rehearsal((2,) * 4)
    first, second = (Liar(stage, stage.announcing(1)) for _ in range(2))
    first.shows(1, 2)
    second.shows(3, 4)
    readies = [*first.readies.values(), *second.readies.values()]
    for liar, numbers in ((first, (1, 2)), (second, (3, 4))):
        liar.readies = {ready.message.sender: ready for ready in readies}
        for number in numbers:
            liar.enters(number, first.roster(1, 2, 3, 4))
            liar.asks(number, first.roster(1, 2, 3, 4), 1, 2, 3, 4)
    return first


def a_copied_round_key(spelt: Callable[[bytes], bytes]) -> Liar:
    """Friend 5 says ready with the round key of 1: two pads of 2 would cancel."""
    liar = Liar.with_ready(4, threshold=2)
    liar.forges(5, spelt(liar.readies[1].message.round_key))
    roster = liar.roster(1, 2, 3, 4, 5)
    for number in (1, 2, 3, 4):
        liar.enters(number, roster)
    liar.asks(2, roster, 1, 2, 5)
    return liar


def round_keys_of_low_order() -> Liar:
    """Pads with 4 and 5 can be computed by whoever sees them; they need not even be friends."""
    liar = Liar.with_ready(3, threshold=2)
    liar.forges(4, bytes(32))
    liar.forges(5, (1).to_bytes(32, "little"))
    roster = liar.roster(1, 4, 5)
    liar.enters(1, roster)
    liar.asks(1, roster, 1, 4, 5)
    return liar


def minted_devices() -> Liar:
    """The coordinator makes an authority of its own, by the fleet's name, and two devices."""
    liar = Liar.with_ready(3, threshold=2)
    mint = Cast.of("rehearsal")
    for number in (4, 5):
        liar.forges(number, liar.own_key(number), mint.device(number, f"b{number:02}"))
    liar.gathers(liar.roster(1, 4, 5), 1, 4, 5)
    return liar


@frozen(kw_only=True)
class Attack:
    """What is played, and what comes of it.

    Attributes:
        play: the story; gives the liar at its end.
        says: why devices do not go along, by number; the others see nothing wrong.
        friends: devices whose secrets the liar has.
        without: takes the defence out.
        gain: what is open then: how often whose contribution.
    """

    play: Callable[[], Liar]
    says: Mapping[int, str]
    friends: tuple[int, ...] = ()
    without: Sabotage
    gain: Mapping[int, int]


def each(reason: str, *numbers: int) -> dict[int, str]:
    return dict.fromkeys(numbers or (1, 2, 3, 4), reason)


ALL = {1: 1, 2: 1, 3: 1, 4: 1}
VICTIM = {1: 1}
ATTACKS: dict[str, Attack] = {
    "a list of the victim and its friends": Attack(
        play=a_short_list,
        says=each("3 contributors, this device answers above 3", 1),
        friends=(4, 5),
        without=partial(lists_without, "contributors, this device"),
        gain=VICTIM,
    ),
    "a ring of the victim and its friends": Attack(
        play=a_small_ring,
        says=each("ring of 3, this device answers above 3", 1),
        friends=(4, 5),
        without=no_threshold,
        gain=VICTIM,
    ),
    "rings announced smaller than a threshold": Attack(
        play=small_rings_announced,
        says=each("rings have 3 members, this device answers above 3"),
        friends=(4, 5),
        without=no_threshold,
        gain=VICTIM,
    ),
    "a list with names doubled": Attack(
        play=partial(a_list_by_names, 1, 1, 4, 5),
        says=each("names doubled or not ascending", 1),
        friends=(4, 5),
        without=partial(lists_without, "doubled"),
        gain=VICTIM,
    ),
    "a list with foreign names": Attack(
        play=partial(a_list_by_names, 1, 4, 5, 99),
        says=each("99 is no member of the ring", 1),
        friends=(4, 5),
        without=partial(lists_without, "no member"),
        gain=VICTIM,
    ),
    "a list without the device": Attack(
        play=partial(a_list_by_names, 3, 4, 5, 6),
        says=each("a list without this device", 1),
        friends=(3, 4, 5, 6),
        without=partial(lists_without, "without this device"),
        gain=VICTIM,
    ),
    "a second list": Attack(
        play=a_second_list,
        says=each("a second list in one round", 1, 2, 3),
        without=every_list_is_the_first,
        gain={4: 1},
    ),
    "a second list, with friends": Attack(
        play=a_second_list,
        says=each("a second list in one round", 1, 2, 3),
        friends=(3,),
        without=every_list_is_the_first,
        gain={4: 1},
    ),
    "two lists, one in the other": Attack(
        play=partial(two_lists, (1, 2, 3, 4), (1, 2, 3)),
        says=each("a list without", 4),
        without=no_pads,
        gain=VICTIM,
    ),
    "two lists that differ in one name": Attack(
        play=partial(two_lists, (1, 2, 3), (1, 2, 4)), says={}, without=no_pads, gain=VICTIM
    ),
    "lists whose names fit together": Attack(
        play=lists_that_fit_together, says={}, without=partial(pads_without, "list"), gain=ALL
    ),
    "mixed lists with disjoint honest parts": Attack(
        play=disjoint_honest_parts, says={}, friends=(5,), without=no_pads, gain={1: 1, 2: 1}
    ),
    "two rosters of the same devices": Attack(
        play=two_rosters_of_the_same,
        says={},
        without=partial(pads_without, "roster"),
        gain=ALL,
    ),
    "a second roster": Attack(
        play=a_second_roster,
        says=each("a second roster in one round", 1, 2, 3),
        without=every_roster_is_the_first,
        gain={4: 1},
    ),
    "the round announced again": Attack(
        play=partial(the_round_again, nothing),
        says=each("already in this round", 1, 2, 3),
        without=joined_is_forgotten,
        gain={1: 1, 2: 1, 3: 1},
    ),
    "the round again after a reboot": Attack(
        play=partial(the_round_again, reboot),
        says=each("restarted in this round", 1, 2, 3),
        without=joined_is_not_durable,
        gain={1: 1, 2: 1, 3: 1},
    ),
    "the very same announce after a reboot": Attack(
        play=partial(the_round_again, reboot, same=True),
        says=each("restarted in this round", 1, 2, 3),
        without=joined_is_not_durable,
        gain={1: 1, 2: 1, 3: 1},
    ),
    "the round again after devices were turned away": Attack(
        play=partial(the_round_again, turn_away),
        says=each("restarted in this round", 1, 2, 3),
        without=joined_is_forgotten,
        gain={1: 1, 2: 1, 3: 1},
    ),
    "the round again after a rest": Attack(
        play=partial(the_round_again, rest, same=True),
        says=each("restarted in this round", 1, 2, 3),
        without=joined_is_forgotten,
        gain={1: 1, 2: 1, 3: 1},
    ),
    "different announces to different devices": Attack(
        play=different_announces,
        says=each("answers another announce", 1, 2) | each("roster is of another announce", 3, 4),
        without=any_announce,
        gain=ALL,
    ),
    "a copied round key": Attack(
        play=partial(a_copied_round_key, bytes),
        says=each("has the round key of another"),
        friends=(5,),
        without=both(any_roster, partial(pads_without, "numbers")),
        gain={2: 1},
    ),
    "a copied round key in another spelling": Attack(
        play=partial(a_copied_round_key, with_the_top_bit),
        says=each("round key is not in canonical form"),
        friends=(5,),
        without=both(any_round_key, partial(pads_without, "numbers")),
        gain={2: 1},
    ),
    "round keys of low order": Attack(
        play=round_keys_of_low_order,
        says=each("round key is of low order", 1),
        without=any_round_key,
        gain=VICTIM,
    ),
    "devices that the coordinator certified itself": Attack(
        play=minted_devices,
        says=each("not issued by this fleet's authority", 1),
        without=any_certificate,
        gain=VICTIM,
    ),
} | {
    f"all but device {missing} release": Attack(
        play=partial(one_stays_silent, missing), says={}, without=no_pads, gain={missing % 4 + 1: 1}
    )
    for missing in (1, 2, 3, 4)
}


@pytest.mark.parametrize("name", ATTACKS)
def test_nothing_opens_that_should_not(name: str) -> None:
    attack = ATTACKS[name]
    liar = attack.play()
    assert liar.breaks(*attack.friends) == []
    assert attack.gain not in liar.reads(*attack.friends)
    for number in liar.stage.actors:
        if number in attack.says:
            assert any(attack.says[number] in reason for reason in liar.reasons(number))
        elif number not in attack.friends:
            assert liar.reasons(number) == []


@pytest.mark.parametrize("name", ATTACKS)
def test_without_its_defence_an_attack_succeeds(name: str, monkeypatch: Patch) -> None:
    attack = ATTACKS[name]
    attack.without(monkeypatch)
    assert attack.gain in attack.play().reads(*attack.friends)


# -- over and over again ----------------------------------------------------------------------


class Stubborn(Rehearsal):
    """Devices that contribute the same in every round: the worst case for them."""

    def work(self, number: int, announce: Any) -> Any:
        self._who = number
        return super().work(number, announce)

    def contribution(self, announce: Any) -> IntVector:
        return np.full(announce.n_values, self._who, np.int32)


def solved(sums: Iterable[tuple[tuple[int, ...], IntVector | SumVector]]) -> set[int]:
    """Devices whose constant contribution follows from sums over several rounds."""
    lists = list(sums)
    rows = np.array([[number in names for number in (1, 2, 3, 4)] for names, _ in lists], float)
    found = set()
    for place, number in enumerate((1, 2, 3, 4)):
        alone = np.eye(4)[place]
        factors = np.linalg.lstsq(rows.T, alone, rcond=None)[0] if len(rows) else np.zeros(0)
        if len(rows) and np.allclose(rows.T @ factors, alone):
            total = sum(factor * vector for factor, (_, vector) in zip(factors, lists, strict=True))
            assert np.allclose(total, number)
            found.add(number)
    return found


@pytest.mark.parametrize(("releases_a_day", "known"), [(2, set()), (4, {1, 2, 3, 4})])
def test_releases_called_void_and_asked_again_stop_with_the_budget(
    releases_a_day: int, known: set[int]
) -> None:
    """Each sum has more contributors than anybody's threshold; four of them give everybody away."""
    budget = Budget(level=releases_a_day, per_day=releases_a_day, cap=releases_a_day)
    stage = Stubborn((2,) * 4, releases=budget)
    truth: dict[bytes, SumVector] = {}
    for round_number, names in enumerate(((1, 2, 3), (1, 2, 4), (1, 3, 4), (2, 3, 4)), start=1):
        liar = Liar(stage, stage.announcing(round_number), truth=truth)
        liar.shows(*stage.actors)
        if liar.readies.keys() >= set(names):
            liar.gathers(liar.roster(*names), *names)
    assert liar.breaks() == []
    sums = [
        (tuple(finding.numbers), finding.values)
        for finding in liar.findings()
        if finding.values is not None and set(finding.numbers.values()) == {1}
    ]
    assert solved(sums) == known
    reasons = [reason for number in stage.actors for reason in liar.reasons(number)]
    refused = [reason for reason in reasons if "release budget is used up for the next" in reason]
    assert bool(refused) == (known == set())


# -- stories of their own ---------------------------------------------------------------------


def test_so_that_the_others_can_fail_an_honest_list_opens() -> None:
    liar = one_list_twice()
    assert liar.reads() == [ALL]
    assert liar.breaks() == []
    assert liar.reads(1, 2) == [{3: 1, 4: 1}]


def test_a_victim_among_friends_gives_its_sum_only_with_more_than_its_threshold() -> None:
    """Section 1: to hide among k others choose T >= f + k."""
    liar = Liar.with_ready(6, threshold=3)
    roster = liar.roster(1, 2, 3, 4, 5, 6)
    liar.gathers(roster, 1, 5, 6)
    assert liar.released() == set()
    liar = Liar.with_ready(6, threshold=3)
    liar.gathers(liar.roster(1, 2, 3, 4, 5, 6), 1, 2, 5, 6)
    assert liar.reads(5, 6) == [{1: 1, 2: 1}]
    assert liar.breaks(5, 6) == []


def test_nothing_of_one_round_is_of_use_in_the_next() -> None:
    stage = Rehearsal((2, 2, 2, 2))
    first = Liar.of(stage, 1)
    roster = first.roster(1, 2, 3, 4)
    for number in stage.actors:
        first.enters(number, roster)
    asked = stage.request(roster, 1, 2, 3, 4)
    second = Liar.of(stage, 2)
    old = stage.roster(second.made.announce, first.readies.values())
    for number in stage.actors:
        for message in (roster, stage.lap(roster, 1, 2, 3, 4), asked, old):
            second.hears(number, message)
        assert "is ready for round 1/1, this is 1/2" in second.reasons(number)[-1]
    assert first.released() == second.released() == set()
    assert second.reads() == []


def test_a_list_after_the_deadline_gets_silence() -> None:
    liar = Liar.with_ready(4, threshold=2)
    roster = liar.roster(1, 2, 3, 4)
    for number in (1, 2, 3, 4):
        liar.enters(number, roster)
    deadline = liar.stage.actors[1].member._round
    assert deadline is not None
    assert deadline.deadline is not None
    liar.stage.now = deadline.deadline
    for number in (1, 2, 3, 4):
        liar.asks(number, roster, 1, 2, 3, 4)
        told = [effect for effect in liar.stage.actors[number].did if isinstance(effect, Report)]
        assert told[-1].event == "round ended by deadline"
    assert liar.released() == set()
    assert liar.reads() == []


def test_the_coordinator_cannot_be_a_member_itself() -> None:
    liar = Liar.with_ready(3, threshold=2)
    key = liar.own_key(COORDINATOR_NUMBER)
    liar.forges(COORDINATOR_NUMBER, key, liar.stage.coordinator)
    roster = liar.stage.roster(liar.made.announce, liar.readies.values())
    for number in (1, 2, 3):
        liar.enters(number, roster)
        assert "coordinator is no device" in liar.reasons(number)[0]


def test_an_exchange_key_that_seals_nothing_is_not_sealed_to() -> None:
    liar = Liar.of(Rehearsal((2, 2, 2)), 1, exchange_key=bytes(32))
    assert liar.readies == {}
    assert liar.reasons(1) == ["the coordinator's round key is of low order"]


def test_a_roster_is_judged_by_the_newest_revocation_list_the_device_knows() -> None:
    liar = Liar.with_ready(4, threshold=2)
    for number in (1, 2):
        liar.stage.actors[number].member.revocation(cast().revocation(9, revoked=[4]), 0.0)
    roster = liar.roster(1, 2, 3, 4)
    for number in (1, 2, 3):
        liar.enters(number, roster)
        liar.asks(number, roster, 1, 2, 3, 4)
    assert "b04 is revoked" in liar.reasons(1)[0]
    assert liar.released() == {3}


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
    assert liar.released() == {1}
