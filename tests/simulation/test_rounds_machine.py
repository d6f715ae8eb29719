"""One round of the coordinator among messages in any order, and members that lie as they like.

Devices are production members; what is on its way between them and the coordinator is delivered,
lost, doubled and reordered as hypothesis draws it. Device 5 says, beside that, anything at all.
"""

from collections import Counter
from typing import Any

from attrs import evolve
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from fedring.coordinator.gathering import MAX_ARRIVALS, MAX_TOKENS_BY_SENDER
from fedring.coordinator.rings import Stage
from fedring.coordinator.rounds import Effects, Ended
from fedring.lab.simulate.cast import device
from fedring.lab.simulate.fleet import QUICK
from fedring.lab.simulate.reading import digest_of, message_in
from fedring.lab.simulate.rehearsal import Rehearsal
from fedring.shared.effects import Send
from fedring.shared.envelopes import sign
from fedring.shared.errors import PeerError
from fedring.shared.messages import (
    COORDINATOR_NAME,
    MAX_LAPS,
    Chunk,
    Here,
    Hop,
    Lap,
    List,
    Message,
    Ready,
    Refused,
    Release,
    Roster,
    Taken,
    tag,
)

THRESHOLDS = {1: 1, 2: 1, 3: 2, 4: 1, 5: 1}
LIAR, RING_SIZE = 5, 3
LONGEST_S = QUICK.ready_s + 2 * (MAX_LAPS * (QUICK.lap_s + 2 * QUICK.patience_s) + QUICK.release_s)


class RoundMachine(RuleBasedStateMachine):
    """A round with rings of three, and everything that was ever on its way."""

    def __init__(self) -> None:
        super().__init__()
        self.stage = Rehearsal(tuple(THRESHOLDS.values()), terms=evolve(QUICK, size=RING_SIZE))
        self.made = self.stage.announcing()
        self.ring_of: dict[int, bytes] = {}
        self.members: dict[bytes, frozenset[int]] = {}
        self.laps: Counter[bytes] = Counter()
        self.here: dict[bytes, set[int]] = {}
        self.lists: dict[bytes, tuple[int, ...]] = {}
        self.ended: Ended | None = None
        self.heard: list[bytes] = []
        self.values: dict[int, list[int]] = {}
        self.forged = False

    # -- what the coordinator does is looked at at once ------------------------------------------

    def sees(self, effects: Effects) -> None:
        sent = {}
        for effect in effects:
            match effect:
                case Send(_, data):
                    sent[digest_of(data)] = message_in(data)
                case Ended():
                    assert self.ended is None, "a round ends once"
                    self.ended = effect
                    self.is_whole(effect)
        for digest, message in sent.items():
            self.hears(digest, message)

    def hears(self, digest: bytes, message: Message) -> None:
        match message:
            case Roster(readies=raws) if digest not in self.members:
                readies = [message_in(raw) for raw in raws]
                names = frozenset(ready.sender for ready in readies)
                assert len(names) == len(readies)
                for ready in readies:
                    assert isinstance(ready, Ready)
                    assert ready.announce == self.made.announce.digest
                    assert ready.threshold < len(names), "its own threshold can be met"
                    assert ready.sender not in self.ring_of, "nobody is in two rings"
                    self.ring_of[ready.sender] = digest
                self.members[digest] = names
            case Lap(roster=roster, lap=lap, order=order):
                self.laps[roster] = max(self.laps[roster], lap)
                assert lap <= MAX_LAPS
                assert set(order) <= self.members[roster]
                assert roster not in self.lists, "no lap after the list"
            case List(roster=roster, names=names):
                assert self.lists.setdefault(roster, names) == names, "one list for a ring"
                assert list(names) == sorted(set(names))
                assert set(names) <= self.members[roster]
                assert set(names) <= self.here.get(roster, set()), "whoever is asked has said here"
                assert all(len(names) > THRESHOLDS[name] for name in names)

    def is_whole(self, ended: Ended) -> None:
        names = [name for ring in ended.sums for name in ring.names]
        assert len(names) == len(set(names))
        assert {ring.names for ring in ended.sums} <= set(self.lists.values())
        if names and not (LIAR in names and self.forged):
            columns = zip(*(self.values[name] for name in names), strict=True)
            assert self.stage.opened(self.made).total.tolist() == [sum(one) for one in columns]
        assert {name for void in ended.voids for name in void.unreleased} <= self.ring_of.keys()

    def says(self, source: str, raw: bytes) -> None:
        """The coordinator hears something; when it complains, nothing has changed."""
        round_ = self.stage.round
        assert round_ is not None
        try:
            message = message_in(raw)
        except PeerError:
            message = None
        if isinstance(message, Here):
            self.here.setdefault(message.roster, set()).add(message.sender)
        before = self.look()
        try:
            self.sees(self.stage.stage(round_.receive(source, raw, self.stage.now)))
        except PeerError:
            assert self.look() == before

    def look(self) -> tuple[object, ...]:
        round_ = self.stage.round
        assert round_ is not None
        return dict(round_.stages), round_.n_ready, round_.deadline, round_.ended

    # -- the post ----------------------------------------------------------------------------------

    @initialize(ready=st.integers(0, 5), arrive=st.integers(0, 200))
    def begins(self, ready: int, arrive: int) -> None:
        """As it should; else chance would hardly ever get that far."""
        self.sees(self.stage.direct(self.made))
        for _ in range(ready):
            self.a_device_gets_ready(0)
        self.messages_arrive(arrive)

    @precondition(lambda self: self.waiting_devices())
    @rule(pick=st.integers(0, 3))
    def a_device_gets_ready(self, pick: int) -> None:
        waiting = self.waiting_devices()
        self.shows(waiting[pick % len(waiting)])

    def shows(self, number: int) -> None:
        """A device sees the announce; what it contributes, it contributes once."""
        self.stage.shows(self.made.announce.raw, number)
        values = self.stage.actors[number].values
        if values is not None:
            assert number not in self.values
            self.values[number] = values.tolist()

    def waiting_devices(self) -> list[int]:
        return [n for n in THRESHOLDS if self.stage.actors[n].member.joined == (0, 0)]

    @rule(count=st.integers(1, 60))
    def messages_arrive(self, count: int) -> None:
        """As many as are drawn, in their order."""
        for _ in range(count):
            if self.stage.on_its_way:
                self.arrives(0, keep=False)

    @precondition(lambda self: self.stage.on_its_way)
    @rule(place=st.integers(0, 20), keep=st.booleans())
    def one_overtakes_the_others(self, place: int, keep: bool) -> None:
        self.arrives(place % len(self.stage.on_its_way), keep=keep)

    def arrives(self, place: int, *, keep: bool) -> None:
        """Deliver a message; keep it, to be delivered another time."""
        post = self.stage.on_its_way[place]
        if not keep:
            del self.stage.on_its_way[place]
        self.heard.append(post.data)
        if post.to == COORDINATOR_NAME:
            self.says(post.source, post.data)
        else:
            self.stage.hand_over(post)

    @precondition(lambda self: self.stage.on_its_way)
    @rule(place=st.integers(0, 20))
    def one_is_lost(self, place: int) -> None:
        del self.stage.on_its_way[place % len(self.stage.on_its_way)]

    # -- the liar ----------------------------------------------------------------------------------

    @precondition(lambda self: self.heard)
    @rule(
        kind=st.sampled_from(["taken", "here", "release", "refused", "hop", "chunk"]),
        back=st.integers(0, 30),
        names=st.lists(st.integers(1, 5), max_size=3, unique=True),
    )
    def the_liar_says_anything(self, kind: str, back: int, names: list[int]) -> None:
        """About the last thing of its kind that was heard, or about what was heard at all."""
        about = digest_of(self.heard[-1 - back % len(self.heard)])
        roster = self.ring_of.get(LIAR, about)
        fields = self.tag()
        match kind:
            case "taken":
                self.lies(Taken(**fields, about=about))
            case "here":
                self.lies(Here(**fields, roster=roster, lap=max(1, self.laps[roster])))
            case "release":
                lists = [data for data in self.heard if isinstance(message_in(data), List)]
                asked = digest_of(lists[-1]) if lists else about
                self.lies(Release(**fields, roster=roster, list=asked, sealed=bytes(99)))
            case "refused":
                self.lies(Refused(**fields, about=about, reason="no"))
            case "hop":
                laps = [data for data in self.heard if isinstance(message_in(data), Lap)]
                if laps:
                    self.forged = True
                    size = self.made.suite.body_bytes
                    hop = Hop(**fields, lap=laps[-1], names=(*names, LIAR), size=size)
                    self.lies(hop)
                    self.lies(
                        Chunk(**fields, hop=digest_of(self.heard[-1]), index=0, data=bytes(size))
                    )
            case "chunk":
                self.lies(Chunk(**fields, hop=about, index=0, data=b"junk"))

    @precondition(lambda self: self.heard)
    @rule(back=st.integers(0, 30), source=st.sampled_from(["b01", "b05"]))
    def anything_is_said_again(self, back: int, source: str) -> None:
        self.says(source, self.heard[-1 - back % len(self.heard)])

    def lies(self, message: Message) -> None:
        raw = sign(message, device(LIAR)).raw
        self.heard.append(raw)
        self.says(device(LIAR).name, raw)

    def tag(self) -> dict[str, Any]:
        return tag("rehearsal", 1, 1, LIAR)

    # -- time and fate -----------------------------------------------------------------------------

    @rule(seconds=st.sampled_from([0.1, 1.0, 3.0, 10.0]))
    def time_passes(self, seconds: float) -> None:
        self.stage.now += seconds
        for actor in self.stage.actors.values():
            self.stage._carry(actor, actor.member.tick(self.stage.now, self.stage.now))
        self.coordinator_ticks()

    def coordinator_ticks(self) -> None:
        assert self.stage.round is not None
        self.sees(self.stage.stage(self.stage.round.tick(self.stage.now, self.stage.now)))

    @rule(number=st.sampled_from(list(THRESHOLDS)))
    def a_device_restarts(self, number: int) -> None:
        self.stage.reboot(number)
        self.shows(number)

    @rule(number=st.sampled_from(list(THRESHOLDS)), online=st.booleans())
    def a_device_is_said_to_come_or_go(self, number: int, online: bool) -> None:
        round_ = self.stage.round
        assert round_ is not None
        name, now = device(number).name, self.stage.now
        self.sees(self.stage.stage(round_.present(number, name, online=online, now=now)))

    @rule()
    def the_coordinator_reconnects(self) -> None:
        assert self.stage.round is not None
        self.sees(self.stage.stage(self.stage.round.reconnected(self.stage.now)))

    # -- at any time -------------------------------------------------------------------------------

    @invariant()
    def holds_no_more_than_it_may(self) -> None:
        round_ = self.stage.round
        if round_ is None:
            return
        for ring in round_._rings:
            assert (ring.outcome is not None) == (ring.stage is Stage.ENDED)
            if ring.gathering is not None:
                assert ring.gathering.arriving <= MAX_ARRIVALS
                assert ring.gathering.received <= MAX_TOKENS_BY_SENDER * len(ring.members)

    def teardown(self) -> None:
        """Whatever was said, time ends every round that somebody has answered."""
        round_ = self.stage.round
        if round_ is None or not round_._answered:
            return
        end = self.stage.now + LONGEST_S + 10.0
        while self.stage.now < end:
            self.stage.now += 1.0
            self.coordinator_ticks()
        assert round_.ended
        assert self.ended is not None


TestRound = RoundMachine.TestCase
TestRound.settings = settings(max_examples=100, stateful_step_count=50)
