"""One member among messages in any order: what hypothesis can think of, and what must never be.

The coordinator is the machine itself, with its true key: it may sign whatever it likes. The other
members are honest, so that rosters and tokens of true messages are at hand.
"""

from collections.abc import Sequence
from typing import Any, TypeVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from fedring.coordinator.announcing import Announcing
from fedring.device.budgets import Budget
from fedring.device.effects import Effect, Joined, Spent, State, Work
from fedring.device.relay import MAX_ADDITIONS, MAX_ARRIVALS
from fedring.lab.simulate.cast import cast, device
from fedring.lab.simulate.reading import digest_of, message_in
from fedring.lab.simulate.rehearsal import Rehearsal
from fedring.shared.effects import Send
from fedring.shared.envelopes import Signed, sign
from fedring.shared.errors import PeerError
from fedring.shared.messages import (
    Announce,
    Chunk,
    Hop,
    Lap,
    List,
    Ready,
    Release,
    Roster,
    tag,
)
from fedring.shared.pairwise import RoundKey

ME, THRESHOLD, MEMBERS = 1, 2, (1, 2, 3, 4)
NUMBERS = st.sampled_from(MEMBERS)
ANY_NAMES = st.lists(st.integers(1, 5), min_size=1, max_size=5).map(tuple)
SOME_NAMES = st.sets(NUMBERS, min_size=1).map(lambda names: tuple(sorted(names)))

ENDS = ("announce", "work fails", "turned away", "deadline", "reboot", "revoked", "epoch")
STEPS = st.integers(0, 5)
BACK = st.integers(0, 2)
"""0 for the latest, 1 for the one before."""

RoundOf = tuple[int, int]
T = TypeVar("T")


def latest(known: Sequence[T], back: int) -> T:
    return known[-1 - min(back, len(known) - 1)]


class MemberMachine(RuleBasedStateMachine):
    """Device 1, and all that was ever said to it or by it."""

    def __init__(self) -> None:
        super().__init__()
        self.stage = Rehearsal((THRESHOLD,))
        self.announcings: list[Announcing] = []
        self.rosters: list[Signed[Roster]] = []
        self.others: dict[tuple[bytes, int], bytes] = {}
        self.last = (1, 0)
        self.newest_list = 1
        self.revoked: set[int] = set()
        self.pending: Signed[Announce] | None = None
        self.joined: RoundOf = (0, 0)
        self.released = 0
        self.sent: dict[tuple[RoundOf, str], bytes] = {}
        self.bodies: dict[RoundOf, dict[bytes, dict[int, bytes]]] = {}
        self.in_token: set[RoundOf] = set()
        self.asked: dict[bytes, List] = {}
        self.known_rosters: dict[bytes, Roster] = {}
        self.entered: dict[RoundOf, set[bytes]] = {}

    @property
    def member(self) -> Any:
        return self.stage.actors[ME].member

    # -- what the device does is looked at at once ---------------------------------------------

    def sees(self, effects: list[Effect]) -> None:
        joined: RoundOf | None = None
        spent = 0
        for effect in effects:
            match effect:
                case Joined(epoch, number):
                    assert (epoch, number) > self.joined, "joined grows, whatever reboots"
                    joined = self.joined = (epoch, number)
                case Spent("release", total):
                    spent += 1
                    assert total == self.released + spent, "each release is counted once"
                case Work(announce):
                    self.pending = announce
                case Send(_, data):
                    self.hears(data, joined, spent)

    def hears(self, data: bytes, joined: RoundOf | None, spent: int) -> None:
        message = message_in(data)
        where = (message.epoch, message.round)
        first = (where, message.kind) not in self.sent
        match message:
            case Ready() if first:
                assert joined == where, "joined stands before ready in the same list"
            case Release():
                if first:
                    assert spent == 1, "the count stands before the release in the same list"
                    self.released += 1
                self.is_due(message, where)
            case Hop(lap=lap):
                self.in_token.add(where)
                opened = message_in(lap)
                assert isinstance(opened, Lap)
                self.entered.setdefault(where, set()).add(opened.roster)
                self.bodies.setdefault(where, {})[digest_of(data)] = {}
            case Chunk(hop=hop, index=index, data=piece):
                if hop in (known := self.bodies.get(where, {})):
                    known[hop][index] = piece
                    pieces = {one[index] for one in known.values() if index in one}
                    assert len(pieces) == 1, "one body; the others' tokens hold nothing"
        if isinstance(message, Ready | Release):
            same = self.sent.setdefault((where, message.kind), data) == data
            assert same, f"one {message.kind} a round, resent as it was"

    def is_due(self, release: Release, where: RoundOf) -> None:
        """A release is for a list that the coordinator signed, and that this device may answer."""
        asked = self.asked[release.list]
        assert asked.roster == release.roster
        assert list(asked.names) == sorted(set(asked.names))
        assert ME in asked.names
        assert len(asked.names) > THRESHOLD
        readies = [message_in(raw) for raw in self.known_rosters[release.roster].readies]
        assert set(asked.names) <= {ready.sender for ready in readies}
        assert self.sent[where, "ready"] in self.known_rosters[release.roster].readies
        assert where in self.in_token
        assert self.entered[where] == {release.roster}

    def says(self, message: Signed[Any] | bytes, source: str = "coordinator") -> None:
        """The device hears something; when it complains, nothing has changed."""
        before = self.look()
        try:
            self.sees(self.stage.says(ME, message, source))
        except PeerError:
            assert self.look() == before

    def look(self) -> tuple[object, ...]:
        relay = self.member._round.relay if self.member._round else None
        tokens = (len(relay._arrivals), len(relay._holdings)) if relay else None
        return self.member.state, self.member.round, self.member.deadline, tokens

    # -- as it should be ------------------------------------------------------------------------

    @initialize(steps=STEPS)
    def begins(self, steps: int) -> None:
        self.announces()
        self.goes_on(steps)

    @rule(steps=STEPS)
    def goes_on(self, steps: int) -> None:
        """The next steps of an honest round; else chance would hardly ever get that far."""
        for _ in range(steps):
            self.takes_the_next_step()

    def takes_the_next_step(self) -> None:
        held = self.member._round
        match self.member.state:
            case State.WORKING if self.pending is not None:
                self.work_is_done()
            case State.READY:
                digest = held.announce.digest
                made = next(one for one in self.announcings if one.announce.digest == digest)
                self.sends(made, {*MEMBERS} - self.revoked)
            case State.MEMBER if not held.relay.added:
                self.says(self.stage.lap(held.membership.roster, *sorted(held.membership.members)))
            case State.MEMBER:
                self.says(self.stage.call(held.membership.roster))
                self.asks(held.membership.roster, tuple(sorted(held.membership.members)))
            case _:
                self.announces()

    # -- the coordinator ------------------------------------------------------------------------

    def announces(self) -> None:
        epoch, number = self.last
        self.last = epoch, number + 1
        self.shows_another()

    @rule()
    def shows_another(self) -> None:
        """Another announce of the last round."""
        epoch, number = self.last
        made = self.stage.announcing(max(1, number), epoch=epoch, revocation=self.newest_list)
        self.announcings.append(made)
        self.sees(self.member.announced(made.announce.raw, self.stage.now))

    @rule(back=BACK)
    def shows_again(self, back: int) -> None:
        made = latest(self.announcings, back)
        self.sees(self.member.announced(made.announce.raw, self.stage.now))

    @rule(how=st.sampled_from(ENDS), steps=STEPS)
    def the_round_ends(self, how: str, steps: int) -> None:
        """One way or the other; then an honest one comes so far."""
        match how:
            case "announce":
                self.announces()
            case "work fails" if self.pending is not None:
                self.sees(self.member.failed(self.pending.digest, "no data"))
            case "turned away":
                self.is_turned_away()
            case "deadline":
                self.time_passes(1000.0)
            case "reboot":
                self.reboots()
            case "revoked":
                self.revokes({4})
            case "epoch":
                self.last = self.last[0] + 1, 0
                self.revokes(set())
                self.announces()
        self.goes_on(steps)

    def is_turned_away(self) -> None:
        made = latest(self.announcings, 0)
        where = made.announce.message.epoch, made.announce.message.round
        if (ready := self.sent.get((where, "ready"))) is not None:
            self.says(self.stage.refusal(made.announce, digest_of(ready), "no"))

    def revokes(self, revoked: set[int]) -> None:
        self.newest_list += 1
        self.revoked = revoked
        self.stage.revocation = cast().revocation(
            self.newest_list, epoch=self.last[0], revoked=revoked
        )
        self.sees(self.member.revocation(self.stage.revocation, self.stage.now))

    def reboots(self) -> None:
        """What is durable is there again; whatever else it knew is gone."""
        plenty = Budget(level=1e6, per_day=1e6, cap=1e6, total=self.released)
        self.stage._budgets = (plenty, plenty)
        self.stage.power_on(ME, joined=self.joined)
        self.pending = None

    @precondition(lambda self: self.pending is not None)
    @rule()
    def work_is_done(self) -> None:
        assert self.pending is not None
        announce, self.pending = self.pending, None
        self.sees(self.stage.work(ME, announce))

    @rule(back=BACK, names=st.just(set(MEMBERS)) | st.sets(NUMBERS))
    def sends_a_roster(self, back: int, names: set[int]) -> None:
        self.sends(latest(self.announcings, back), names)

    def sends(self, made: Announcing, names: set[int]) -> None:
        """A roster of true readies: this device's own of that round, others' for this announce."""
        where = made.announce.message.epoch, made.announce.message.round
        readies = [self.ready_of(number, made) for number in sorted(names - {ME})]
        if ME in names and (mine := self.sent.get((where, "ready"))) is not None:
            readies.append(mine)
        readies += [b"nobody"] * (2 - len(readies))
        roster = self.stage.roster(made.announce, readies, ring=len(self.rosters) + 1)
        self.known_rosters[roster.digest] = roster.message
        self.rosters.append(roster)
        self.says(roster)

    @precondition(lambda self: self.rosters)
    @rule(back=BACK, order=st.permutations(MEMBERS), lap=st.integers(1, 3))
    def sends_a_lap(self, back: int, order: list[int], lap: int) -> None:
        self.says(self.stage.lap(latest(self.rosters, back), *order, lap=lap))

    @precondition(lambda self: self.rosters)
    @rule(back=BACK)
    def calls(self, back: int) -> None:
        self.says(self.stage.call(latest(self.rosters, back)))

    @precondition(lambda self: self.rosters)
    @rule(back=BACK, names=st.just(MEMBERS) | SOME_NAMES | ANY_NAMES)
    def sends_a_list(self, back: int, names: tuple[int, ...]) -> None:
        self.asks(latest(self.rosters, back), names)

    def asks(self, roster: Signed[Roster], names: tuple[int, ...]) -> None:
        asked = self.stage.request(roster, *names)
        self.asked[asked.digest] = asked.message
        self.says(asked)

    # -- the other members -----------------------------------------------------------------------

    def ready_of(self, number: int, made: Announcing) -> bytes:
        """Another member's true ready for an announce."""
        known = (made.announce.digest, number)
        if known not in self.others:
            message, identity = made.announce.message, device(number)
            ready = Ready(
                **tag(message.fleet, message.epoch, message.round, number),
                announce=made.announce.digest,
                certificate=identity.certificate,
                threshold=THRESHOLD,
                round_key=RoundKey.generate(self.stage.random.randbytes).public,
            )
            self.others[known] = sign(ready, identity).raw
        return self.others[known]

    @precondition(lambda self: self.rosters)
    @rule(back=BACK, order=st.permutations(MEMBERS), lap=st.integers(1, 3), whole=st.booleans())
    def gets_a_token(self, back: int, order: list[int], lap: int, whole: bool) -> None:
        """From whoever stands before it in an order, with all who stand before that one."""
        roster = latest(self.rosters, back)
        names = tuple(order[: order.index(ME)]) or (order[-1],)
        identity = device(names[-1])
        size = latest(self.announcings, 0).suite.body_bytes if whole else 9
        message = roster.message
        where = tag(message.fleet, message.epoch, message.round, names[-1])
        signed_lap = self.stage.lap(roster, *order, lap=lap).raw
        hop = sign(Hop(**where, lap=signed_lap, names=names, size=size), identity)
        self.says(hop, identity.name)
        chunk = Chunk(**where, hop=hop.digest, index=0, data=bytes(size))
        self.says(sign(chunk, identity), identity.name)

    # -- time and fate ---------------------------------------------------------------------------

    @rule(seconds=st.sampled_from([0.1, 1.0, 3.0, 20.0]))
    def time_passes(self, seconds: float) -> None:
        self.stage.now += seconds
        self.sees(self.member.tick(self.stage.now, self.stage.now))

    @rule()
    def reconnects(self) -> None:
        self.sees(self.member.reconnected(self.stage.now))

    @rule(who=st.sampled_from(["coordinator", "b02", "b03"]), data=st.data())
    def anything_said_comes_again(self, who: str, data: st.DataObject) -> None:
        if self.stage.overheard:
            self.says(data.draw(st.sampled_from(self.stage.overheard), "again"), who)

    # -- at any time -----------------------------------------------------------------------------

    @invariant()
    def holds_no_more_than_it_may(self) -> None:
        held = self.member._round
        if held is None:
            assert self.member.state in (State.IDLE, State.REFUSED)
            return
        if held.release is not None:
            assert held.secrets is None
            assert held.relay is None
        if held.relay is not None:
            assert len(held.relay._holdings) + len(held.relay._gone) <= MAX_ADDITIONS
            assert len(held.relay._arrivals) <= MAX_ARRIVALS


TestMember = MemberMachine.TestCase
TestMember.settings = settings(max_examples=60, stateful_step_count=40)
