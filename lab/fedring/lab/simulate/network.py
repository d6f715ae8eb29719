"""A network that loses, doubles, delays and reorders, on a clock that only the simulation moves.

What a broker promises is kept while nothing is wrong with it: a message to somebody who is away
waits for him, retained messages come with every connect, and what one party sends to another
arrives in order. What goes beyond is drawn from the seed (loss, duplicates, delay, messages that
overtake others) or done to it from outside: parties cut off, deaf or mute for a while, a lame
link, a broker that restarts and may forget all that it kept. The same seed gives the same run.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections import Counter
from collections.abc import Callable
from enum import StrEnum
from typing import Protocol

from attrs import define, field, frozen

BROKER = "broker"
PING_S = 5.0
"""How often an idle connection is proven alive."""


@frozen
class Faults:
    """How bad the network is by itself.

    Attributes:
        loss: share of messages that never arrive, 0..1; retained ones always do.
        duplicates: share that arrive twice, 0..1.
        reordered: share of messages that may overtake those before them, 0..1.
        least_delay_s: shortest time a message is under way.
        most_delay_s: longest; delays are drawn evenly.
        will_s: longest time until the broker takes somebody who is silent for gone.
    """

    loss: float = 0.0
    duplicates: float = 0.0
    reordered: float = 0.0
    least_delay_s: float = 0.001
    most_delay_s: float = 0.005
    will_s: float = 20.0


CALM = Faults()
"""A network on which everything arrives once, within milliseconds."""


class Hold(StrEnum):
    """What can be wrong with a party's link for a while."""

    CUT = "cut off"
    DEAF = "hears nothing"
    MUTE = "is not heard"
    STILL = "stands still"


class Party(Protocol):
    """Somebody on the network.

    Attributes:
        watches: whether it wants to know who comes and goes.
    """

    @property
    def watches(self) -> bool: ...
    def connected(self) -> None: ...
    def deliver(self, source: str, data: bytes) -> None: ...
    def retained(self, topic: str, data: bytes) -> None: ...
    def seen(self, name: str, *, online: bool) -> None: ...


@define(eq=False)
class Link:
    """How one party hangs on the network.

    Attributes:
        party: who.
        powered: whether it runs at all.
        holds: what is wrong with the link, and how many times over.
        lag_s: how much longer messages from and to this party take.
        alive_at: when something last came over the connection, or an answer to what was sent.
        inbound: what waits at the broker.
        outbound: what waits at the party.
        session: counts connections.
    """

    party: Party
    powered: bool = True
    holds: Counter[Hold] = field(factory=Counter)
    lag_s: float = 0.0
    alive_at: float = 0.0
    inbound: list[Callable[[], None]] = field(factory=list)
    outbound: list[Callable[[], None]] = field(factory=list)
    session: int = 0

    @property
    def up(self) -> bool:
        return self.powered and not self.holds[Hold.CUT]

    @property
    def is_sound(self) -> bool:
        return self.powered and not self.lag_s and not self.holds.total()

    @property
    def hears(self) -> bool:
        return not self.holds[Hold.DEAF] and not self.holds[Hold.STILL]


@frozen
class Passage:
    """One message as it arrived, or not.

    Attributes:
        sent: when it left.
        at: when it arrived, or was lost.
        source: who sent it.
        to: its receiver.
        data: the envelope.
        lost: why it never arrived; "" when it did.
    """

    sent: float
    at: float
    source: str
    to: str
    data: bytes = field(repr=False)
    lost: str = ""


@frozen
class Note:
    """Something else that happened to somebody.

    Attributes:
        at: when.
        who: to whom.
        text: what.
        sound: whether nothing is wrong with him from now on.
    """

    at: float
    who: str
    text: str
    sound: bool = True


class Network:
    """Messages in flight, and everything else that happens at a time.

    Args:
        seed: of all that is drawn.
        faults: how bad it is.

    Attributes:
        now: the clock, in seconds.
        random: the seeded source; parties may draw from it as well.
        log: what arrived, got lost, or else happened, since somebody cleared it.
        happened: kinds of faults that the network itself made, and how often.
        disturbances: how often anything went wrong, or right again.
        drops: whether a message (source, receiver, envelope) is to be lost, besides what is drawn.
        slows: how much longer, in seconds, a message is under way than is drawn.
    """

    def __init__(self, seed: int, faults: Faults) -> None:
        self.now = 0.0
        self.random = random.Random(seed)  # noqa: S311  # a simulation repeats itself
        self.faults = faults
        self.log: list[Passage | Note] = []
        self.happened: Counter[str] = Counter()
        self.disturbances = 0
        self.drops: Callable[[str, str, bytes], bool] = lambda source, to, data: False  # noqa: ARG005
        self.slows: Callable[[str, str, bytes], float] = lambda source, to, data: 0.0  # noqa: ARG005
        self._links: dict[str, Link] = {}
        self._retained: dict[str, tuple[str, bytes]] = {}
        self._online: dict[str, bool] = {}
        self._order = itertools.count()
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._last_arrival: dict[tuple[str, str], float] = {}
        self._broker_runs = 0

    # -- the clock -------------------------------------------------------------------------

    def at(self, time: float, action: Callable[[], None]) -> None:
        """Do something at a time."""
        heapq.heappush(self._queue, (max(time, self.now), next(self._order), action))

    def run(self, until: Callable[[], bool], limit_s: float) -> bool:
        """Let time pass until a condition holds; False when it has not by `limit_s`."""
        while not until():
            if not self._queue or self._queue[0][0] > limit_s:
                self.now = max(self.now, limit_s)
                return False
            time, _, action = heapq.heappop(self._queue)
            self.now = time
            action()
        return True

    def note(self, who: str, text: str) -> None:
        """Keep in the log what went wrong, or right again."""
        self.disturbances += 1
        sound = who not in self._links or self._links[who].is_sound
        self.log.append(Note(self.now, who, text, sound))

    # -- links -----------------------------------------------------------------------------

    def join(self, name: str, party: Party) -> None:
        """Power on, for the first time or after a crash."""
        link = self._links.setdefault(name, Link(party))
        link.party, link.powered = party, True
        self.note(name, "starts")
        if link.up:
            self._connect(name, link)

    def leave(self, name: str) -> None:
        """Power off."""
        link = self._links[name]
        link.powered = False
        self.note(name, "dies")
        link.outbound.clear()
        self._disconnect(name, link)

    def hold(self, name: str, what: Hold) -> None:
        """Something begins to be wrong with a link; `free` ends it."""
        link = self._links[name]
        was_up = link.up
        self.alive_at(name)  # what was proven by now stays so
        link.holds[what] += 1
        self.note(name, what)
        if was_up and not link.up:
            self._disconnect(name, link)

    def free(self, name: str, what: Hold) -> None:
        """What was wrong with a link is over, once."""
        link = self._links[name]
        link.holds[what] -= 1
        if link.holds[what]:
            return
        self.note(name, f"no longer {what}")
        match what:
            case Hold.CUT if link.up:
                self._connect(name, link)
            case Hold.DEAF | Hold.STILL if link.up and link.hears:
                self._flush(link.inbound)
            case Hold.MUTE:
                self._flush(link.outbound)

    def holds(self, name: str, what: Hold) -> int:
        """How many times over something is wrong with a link."""
        return self._links[name].holds[what]

    def lag(self, name: str, seconds: float) -> None:
        """Messages from and to a party take so much longer from now on."""
        self._links[name].lag_s = seconds
        self.note(name, f"is {seconds:.1f} s slow")

    def lag_of(self, name: str) -> float:
        return self._links[name].lag_s

    def is_up(self, name: str) -> bool:
        """Whether a party is powered and connected."""
        return self._links[name].up

    @property
    def is_whole(self) -> bool:
        """Whether everybody is connected and nothing is wrong with any link."""
        return all(link.is_sound for link in self._links.values())

    @property
    def unsound(self) -> set[str]:
        """Who is not there, or has something wrong with his link."""
        return {name for name, link in self._links.items() if not link.is_sound}

    def alive_at(self, name: str) -> float:
        """When this party's connection was last proven alive, as the party itself can know it."""
        link = self._links[name]
        if link.up and not link.holds[Hold.STILL]:
            link.alive_at = max(link.alive_at, self.now // PING_S * PING_S)
        return link.alive_at

    def restart_broker(self, down_s: float, *, forgets: bool) -> None:
        """The broker is away for a while; what is in flight is lost, and maybe all it kept."""
        self.note(BROKER, "restarts and forgets" if forgets else "restarts")
        self._broker_runs += 1
        if forgets:
            self._retained.clear()
            self._online.clear()
        for name, link in self._links.items():
            link.outbound.clear()
            if forgets:
                link.inbound.clear()
            self.hold(name, Hold.CUT)
            back_at = self.now + down_s + self.random.uniform(0.0, 1.0)
            self.at(back_at, lambda name=name: self.free(name, Hold.CUT))  # type: ignore[misc]

    # -- messages --------------------------------------------------------------------------

    def send(self, source: str, to: str, data: bytes) -> None:
        """Put a message on its way."""
        link, sent = self._links[source], self.now
        if not link.up:
            self._lose(sent, source, to, data, "not connected")
            return
        if link.holds[Hold.MUTE]:
            link.outbound.append(lambda: self._dispatch(sent, source, to, data))
            return
        link.alive_at = sent
        self._dispatch(sent, source, to, data)

    def publish(self, source: str, topic: str, data: bytes) -> None:
        """Publish a retained message to everybody else."""
        link = self._links[source]
        if not link.up:
            return
        if link.holds[Hold.MUTE]:
            link.outbound.append(lambda: self._spread(source, topic, data))
            return
        self._spread(source, topic, data)

    def _dispatch(self, sent: float, source: str, to: str, data: bytes) -> None:
        copies = 1
        if self.random.random() < self.faults.loss or self.drops(source, to, data):
            self.happened["loss"] += 1
            self._lose(sent, source, to, data, "lost")
            return
        if self.random.random() < self.faults.duplicates:
            self.happened["duplicates"] += 1
            copies = 2

        def arrive() -> None:
            self.log.append(Passage(sent, self.now, source, to, data))
            self._links[to].party.deliver(source, data)

        def perish() -> None:
            self._lose(sent, source, to, data, "the broker restarted")

        slower_s = self.slows(source, to, data)
        for _ in range(copies):
            self._fly(arrive, source, to, perish, slower_s=slower_s)

    def _spread(self, source: str, topic: str, data: bytes) -> None:
        self._retained[topic] = source, data
        for name in self._links:
            if name != source:
                self._fly(self._showing(name, topic, data), source, name)

    def _showing(self, name: str, topic: str, data: bytes) -> Callable[[], None]:
        return lambda: self._links[name].party.retained(topic, data)

    def _lose(self, sent: float, source: str, to: str, data: bytes, why: str) -> None:
        self.disturbances += 1
        self.log.append(Passage(sent, self.now, source, to, data, why))

    def _fly(
        self,
        action: Callable[[], None],
        source: str,
        to: str,
        perish: Callable[[], None] = lambda: None,
        *,
        in_order: bool = False,
        slower_s: float = 0.0,
    ) -> None:
        """Let something arrive at a receiver after a while, unless the broker restarts."""
        low, high = self.faults.least_delay_s, self.faults.most_delay_s
        lag_s = self._links[source].lag_s + self._links[to].lag_s + slower_s
        time = self.now + self.random.uniform(low, high) + lag_s
        reordered = self.faults.reordered
        if reordered and not in_order and self.random.random() < reordered:
            self.happened["reordering"] += time < self._last_arrival.get((source, to), 0.0)
        else:
            time = max(time, self._last_arrival.get((source, to), 0.0))
            self._last_arrival[source, to] = time
        run = self._broker_runs

        def land() -> None:
            if run == self._broker_runs:
                self._land(to, action)
            else:
                perish()

        self.at(time, land)

    def _land(self, to: str, action: Callable[[], None]) -> None:
        link = self._links[to]
        if not link.up or not link.hears:
            link.inbound.append(lambda: self._land(to, action))
        else:
            link.alive_at = self.now
            action()

    def _flush(self, waiting: list[Callable[[], None]]) -> None:
        actions = list(waiting)
        waiting.clear()
        for action in actions:
            self.at(self.now, action)

    # -- coming and going ------------------------------------------------------------------

    def _connect(self, name: str, link: Link) -> None:
        link.session += 1
        link.alive_at = self.now
        self._tell(name, online=True)
        for topic, (source, data) in self._retained.items():
            if source != name:
                self._fly(self._showing(name, topic, data), source, name)
        if link.party.watches:
            for other, online in self._online.items():
                if other != name:
                    self._tell_one(name, other, online=online)
        if link.hears:
            self._flush(link.inbound)
        link.party.connected()

    def _disconnect(self, name: str, link: Link) -> None:
        session = link.session

        def will() -> None:
            if link.session == session:
                self._tell(name, online=False)

        self.at(self.now + self.random.uniform(0.1, self.faults.will_s), will)

    def _tell(self, name: str, *, online: bool) -> None:
        """The broker publishes whether somebody is there; retained."""
        self._online[name] = online
        for other, link in self._links.items():
            if other != name and link.up and link.party.watches:
                self._tell_one(other, name, online=online)

    def _tell_one(self, to: str, name: str, *, online: bool) -> None:
        def tell() -> None:
            self._links[to].party.seen(name, online=online)

        self._fly(tell, name, to, in_order=True)  # a topic's messages never overtake each other
