"""Somebody who sees everything, plaintexts included, and says at once when a promise is broken.

A `Watch` keeps what a `Record` keeps and checks every effect of every party as it is asked for,
against docs/protocol.md, section 6. It knows nothing of how the state machines work: it reads the
messages that leave them, as bytes, and the records that they make durable.
"""

from __future__ import annotations

import numpy as np
from attrs import define, field

from fedring.coordinator.gathering import MAX_ARRIVALS as MAX_COORDINATOR_ARRIVALS
from fedring.coordinator.rounds import Announced
from fedring.coordinator.rounds import Effect as CoordinatorEffect
from fedring.device.effects import Effect as DeviceEffect
from fedring.device.effects import Joined, Spent
from fedring.device.relay import MAX_ADDITIONS, MAX_ARRIVALS
from fedring.lab.simulate.fleet import Conclusion, Record, SimulatedFleet
from fedring.shared.effects import Send
from fedring.shared.envelopes import digest, open_envelope, unpack_envelope
from fedring.shared.messages import (
    Announce,
    Chunk,
    Hop,
    List,
    Message,
    Ready,
    Release,
    Roster,
)

RoundOf = tuple[int, int]
"""(epoch, round)."""


class Broken(AssertionError):  # noqa: N818  # it is what a reader looks for: which promise broke
    """A promise of the protocol does not hold."""


def require(holds: bool, promise: str, *facts: object) -> None:
    """Raise `Broken` unless a promise holds."""
    if not holds:
        raise Broken(f"{promise}: {', '.join(map(repr, facts))}")


@define
class Watch(Record):
    """A record that checks as it goes.

    Attributes:
        fleet: whom it watches; set once the fleet is there.
        counts: how often something was seen, for the report: messages by kind.
    """

    fleet: SimulatedFleet | None = None
    counts: dict[str, int] = field(factory=dict)
    _joined: dict[str, RoundOf] = field(factory=dict)
    _spent: dict[str, int] = field(factory=dict)
    _used: dict[str, int] = field(factory=dict)
    _readies: dict[tuple[str, RoundOf], bytes] = field(factory=dict)
    _releases: dict[tuple[str, RoundOf], bytes] = field(factory=dict)
    _bodies: dict[tuple[str, RoundOf, int], bytes] = field(factory=dict)
    _lone_hops: dict[bytes, tuple[str, RoundOf]] = field(factory=dict)
    _pieces: dict[bytes, dict[int, bytes]] = field(factory=dict)
    _in_tokens: set[tuple[str, RoundOf]] = field(factory=set)
    _announces: dict[RoundOf, bytes] = field(factory=dict)
    _rosters: dict[bytes, Roster] = field(factory=dict)
    _lists: dict[bytes, List] = field(factory=dict)

    # -- devices ---------------------------------------------------------------------------

    def device_did(self, device: str, effect: DeviceEffect, now: float) -> None:
        super().device_did(device, effect, now)
        match effect:
            case Joined(epoch, number):
                before = self._joined.get(device, (0, 0))
                require((epoch, number) > before, "joined grows", device, before, effect)
                self._joined[device] = (epoch, number)
            case Spent("release", total):
                before_total = self._spent.get(device, 0)
                require(total == before_total + 1, "releases are counted", device, effect)
                self._spent[device] = total
            case Send(_, data):
                self._device_sent(device, data)
        self._memory_is_bounded()

    def _device_sent(self, device: str, data: bytes) -> None:
        message = self._count(data)
        where = (message.epoch, message.round)
        match message:
            case Ready():
                require(self._joined.get(device) == where, "joined before ready", device, where)
                same = self._readies.setdefault((device, where), data)
                require(same == data, "one ready a round", device, where)
            case Release():
                self._released(device, message, data)
            case Hop(names=names):
                self._in_tokens.add((device, where))
                if len(names) == 1:
                    self._lone_hops[_digest(message.kind, data)] = (device, where)
            case Chunk(hop=hop, index=index, data=piece) if hop in self._lone_hops:
                self._pieces.setdefault(hop, {})[index] = piece
                self._one_body(hop)

    def _one_body(self, hop: bytes) -> None:
        """A token of one name is that device's body: all of them must be the same."""
        pieces = self._pieces[hop]
        for index, piece in pieces.items():
            device, where = self._lone_hops[hop]
            same = self._bodies.setdefault((device, where, index), piece)
            require(same == piece, "one key, one body", device, where, index)

    def _released(self, device: str, release: Release, data: bytes) -> None:
        assert self.fleet is not None  # noqa: S101
        party = self.fleet.devices[device]
        where = (release.epoch, release.round)
        known = self._releases.get((device, where))
        if known is not None:
            require(known == data, "one release a round", device, where)
            return
        self._releases[device, where] = data
        spent = self._spent.get(device, 0)
        require(spent > self._used.get(device, 0), "counted before released", device, where)
        self._used[device] = spent
        asked = self._lists.get(release.list)
        roster = self._rosters.get(release.roster)
        require(asked is not None and roster is not None, "released for a list", device, where)
        if asked is None or roster is None:
            return
        me = party.identity.number
        members = {open_envelope(raw).message.sender for raw in roster.readies}
        require(me in asked.names, "released for a list with itself", device, asked)
        require(len(set(asked.names)) > party.threshold, "more than its threshold", device, asked)
        require(set(asked.names) <= members, "members only", device, asked)
        require((device, where) in self._in_tokens, "its body is in a token", device, where)
        require(asked.roster == release.roster, "list and roster fit", device, where)

    # -- the coordinator -------------------------------------------------------------------

    def coordinator_did(self, effect: CoordinatorEffect, now: float) -> None:
        super().coordinator_did(effect, now)
        match effect:
            case Announced(data):
                announce = open_envelope(data).message
                where = (announce.epoch, announce.round)
                known = self._announces.setdefault(where, data)
                require(known == data, "no round number twice", where)
                require(where == max(self._announces), "round numbers grow", where)
            case Send(_, data):
                message = self._count(data)
                if isinstance(message, Roster):
                    self._roster(message, data)
                elif isinstance(message, List):
                    self._lists[_digest(message.kind, data)] = message
        self._memory_is_bounded()

    def _roster(self, roster: Roster, data: bytes) -> None:
        self._rosters[_digest(roster.kind, data)] = roster
        announce = self._announces[roster.epoch, roster.round]
        require(
            roster.announce == _digest(Announce.kind, announce),
            "all rings of a round share one announce",
            roster.round,
        )

    def ended(self, conclusion: Conclusion) -> None:
        """A round ended: the sum is exact, or there is none."""
        super().ended(conclusion)
        where = conclusion.announce.message.round
        names = [name for ring in conclusion.ended.sums for name in ring.names]
        require(len(set(names)) == len(names), "nobody is summed twice", where, names)
        if conclusion.opened is None:
            require(not names, "a sum that is there is opened", where)
            return
        require(not conclusion.opened.bad_rings, "sums hold", where, conclusion.opened.bad_rings)
        require(sorted(conclusion.opened.names) == sorted(names), "all of them", where, names)
        total = np.zeros_like(conclusion.opened.total)
        for name in names:
            total += self.contributions[where, f"b{name:02}"][-1]
        require(bool((total == conclusion.opened.total).all()), "the sum is exact", where, names)

    # -- memory ----------------------------------------------------------------------------

    def _memory_is_bounded(self) -> None:
        if self.fleet is None:
            return
        for device in self.fleet.devices.values():
            held = device.member._round if device.member else None  # noqa: SLF001
            if held is None:
                continue
            if held.release is not None:
                gone = held.secrets is None and held.relay is None
                require(gone, "secrets are dropped with the release", device.name)
            if held.relay is not None:
                tokens = held.relay._holdings, held.relay._gone  # noqa: SLF001
                require(len(held.relay._arrivals) <= MAX_ARRIVALS, "few arrivals", device.name)  # noqa: SLF001
                require(sum(map(len, tokens)) <= MAX_ADDITIONS, "few tokens", device.name)
        if self.fleet.coordinator.round is not None:
            for ring in self.fleet.coordinator.round._rings:  # noqa: SLF001
                arriving = ring.gathering.arriving if ring.gathering else 0
                require(arriving <= MAX_COORDINATOR_ARRIVALS, "few arrivals at the coordinator")

    def _count(self, data: bytes) -> Message:
        message = open_envelope(data).message
        self.counts[message.kind] = self.counts.get(message.kind, 0) + 1
        return message


def _digest(kind: str, data: bytes) -> bytes:
    return digest(kind, unpack_envelope(data)[0])
