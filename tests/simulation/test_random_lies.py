"""Lies drawn at random, in any order: what the list of tests/simulation/test_attacks.py may miss.

A failing seed repeats with `-k SEED`.
"""

import random
from functools import partial
from typing import Any

import pytest
from attrs import evolve
from tests.simulation.liar import (
    Liar,
    Patch,
    Sabotage,
    any_list,
    every_list_is_the_first,
    every_roster_is_the_first,
    joined_is_forgotten,
    no_pads,
    no_threshold,
    pads_without,
    reboot,
    rest,
    turn_away,
    with_the_top_bit,
)

from fedring.lab.simulate.rehearsal import Rehearsal
from fedring.shared.envelopes import Signed, open_envelope
from fedring.shared.messages import Roster

SEEDS = range(40)
EVERYBODY = (1, 2, 3, 4, 5, 6)


class Dice:
    """A coordinator that does whatever it can, in any order: what nobody thought of in a list.

    Args:
        seed: of all that it does.
    """

    def __init__(self, seed: int) -> None:
        self.draw = random.Random(seed)
        self.friends = tuple(self.draw.sample(EVERYBODY, self.draw.randint(0, 3)))
        self.stage = Rehearsal((2,) * len(EVERYBODY), seed=seed)
        self.said: list[Signed[Any]] = []
        self.liar = Liar(self.stage, self.stage.announcing(1))
        self.before: Liar | None = None

    def maybe(self, share: float) -> bool:
        return self.draw.random() < share

    def plays(self) -> "Dice":
        """One round, and then the same again or the next."""
        self.runs()
        for number in EVERYBODY:
            if self.maybe(0.5):
                self.draw.choice([reboot, rest, turn_away])(self.liar, number)
        size = self.draw.choice([2, 3, *[9] * 6])
        made = self.stage.announcing(
            self.draw.choice([1, 1, 1, 2]), ring=evolve(self.stage.terms, size=size)
        )
        self.before = self.liar
        self.liar = Liar(self.stage, made, draws=self.before.draws, truth=self.before.truth)
        self.runs()
        return self

    def runs(self) -> None:
        """A round with one roster or two, and lists for each of them."""
        self.liar.shows(*(number for number in EVERYBODY if self.maybe(0.98)))
        if self.liar.readies and self.maybe(0.25):
            self.forges()
        for ring in range(1, self.draw.choice([2, 3])):
            readies = list(self.liar.readies.values())
            if self.before is not None and self.maybe(0.1):
                readies += self.before.readies.values()
            if self.maybe(0.2):
                readies = self.draw.sample(readies, self.draw.randint(0, len(readies)))
            if len(readies) > 1:
                self.uses(self.stage.roster(self.liar.made.announce, readies, ring))

    def uses(self, roster: Signed[Roster]) -> None:
        """A roster, laps with each device first, and lists."""
        members = sorted({open_envelope(raw).message.sender for raw in roster.message.readies})
        for number in EVERYBODY:
            self.tells(number, roster)
            lap = self.draw.choice([1, 1, 2, 3])
            self.tells(number, self.stage.lap(roster, number, lap=lap))
        self.draw.choice([self.whole, self.whole, self.part, self.pairs])(roster, members)
        for _ in range(self.draw.choice([1, 2, 3])):
            self.draw.choice([self.whole, self.part, self.pairs, self.nonsense])(roster, members)
        for _ in range(self.draw.choice([0, 0, 9])):
            self.tells(self.draw.choice(EVERYBODY), self.draw.choice(self.said))

    def whole(self, roster: Signed[Roster], members: list[int]) -> None:
        self.asks(roster, members)

    def part(self, roster: Signed[Roster], members: list[int]) -> None:
        size = min(len(members), self.draw.choice([1, 2, 2, 3, 4, 5]))
        self.asks(roster, sorted(self.draw.sample(members, size)))

    def pairs(self, roster: Signed[Roster], members: list[int]) -> None:
        """Everybody hears a list without his partner: pairs are on each other's lists or not."""
        for number, partner in zip(members, reversed(members), strict=True):
            if number != partner:
                names = [one for one in members if one != partner]
                self.tells(number, self.stage.request(roster, *names))

    def nonsense(self, roster: Signed[Roster], members: list[int]) -> None:
        self.asks(roster, sorted(self.draw.choices([*members, 99], k=self.draw.randint(1, 6))))

    def asks(self, roster: Signed[Roster], names: list[int]) -> None:
        asked = self.stage.request(roster, *names)
        for number in EVERYBODY:
            self.tells(number, asked)

    def forges(self) -> None:
        """A friend's `ready`, with a round key that it should not have."""
        friend = self.draw.choice([7, 7, *self.friends])  # 7 is no more than a certificate
        key = self.draw.choice(list(self.liar.readies.values())).message.round_key
        own = self.liar.own_key(friend).public
        self.liar.forges(
            friend, self.draw.choice([key, key, with_the_top_bit(key), bytes(32), own])
        )

    def tells(self, number: int, message: Signed[Any]) -> None:
        if number in self.stage.actors and self.maybe(0.995):
            self.said.append(message)
            self.liar.hears(number, message)

    def breaks(self) -> list[dict[int, int]]:
        """What the liar can read beyond the promise, with all secrets of its friends."""
        return self.liar.breaks(*self.friends)


@pytest.mark.parametrize("seed", SEEDS)
def test_whatever_a_coordinator_says_nothing_opens_that_should_not(seed: int) -> None:
    assert Dice(seed).plays().breaks() == []


SABOTAGES: dict[str, Sabotage] = {
    "rings and lists of any size": no_threshold,
    "any list": any_list,
    "a second list": every_list_is_the_first,
    "a second roster": every_roster_is_the_first,
    "joined forgotten": joined_is_forgotten,
    "no pads": no_pads,
    "pads without the list": partial(pads_without, "list"),
}


@pytest.mark.parametrize("name", SABOTAGES)
def test_a_defence_that_is_missing_is_found(name: str, monkeypatch: Patch) -> None:
    SABOTAGES[name](monkeypatch)
    assert any(Dice(seed).plays().breaks() for seed in SEEDS)
