"""Certified devices that break the rules on purpose: the others end their ring, in little memory.

A puppet is a device in whose name a test speaks. What it hears, its member does not hear.
"""

from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

import pytest
from attrs import define

from fedring.coordinator.announcing import Announcing
from fedring.coordinator.rings import Void
from fedring.lab.simulate.cast import device
from fedring.lab.simulate.fleet import QUICK
from fedring.lab.simulate.rehearsal import Post, Rehearsal
from fedring.shared.envelopes import digest, sign, unpack_envelope
from fedring.shared.messages import (
    COORDINATOR_NAME,
    Call,
    Here,
    Hop,
    Lap,
    Message,
    Passed,
    Progress,
    Roster,
    Taken,
    tag,
)

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
    def of(cls, n_devices: int, puppets: dict[int, Say], **stage: Any) -> "Play":
        rehearsal = Rehearsal((2,) * n_devices, **stage)
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
                    raw = sign(answer, device(number)).raw
                    self.stage.on_its_way.append(Post(device(number).name, to, raw))
                return True
        return False

    def ends(self, limit_s: float = 300.0) -> float:
        """Let the round end; gives how long it took."""
        began = self.stage.now
        self.stage.deliver(self.hears)
        while self.stage.round is None or not self.stage.round.ended:
            assert self.stage.now - began < limit_s, "the round does not end"
            self.stage.wait(0.5, self.hears)
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
