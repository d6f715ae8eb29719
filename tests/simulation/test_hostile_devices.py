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
from fedring.lab.simulate.rehearsal import Drop, Post, Rehearsal
from fedring.shared.envelopes import digest, sign, unpack_envelope
from fedring.shared.messages import (
    COORDINATOR_NAME,
    Call,
    Chunk,
    Here,
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
