"""Invariant 2: durable before it leaves; one `ready`, one roster, one release a round."""

from __future__ import annotations

from fedring.device.effects import Effect, Work
from fedring.lab.simulate.fleet import SimulatedFleet
from fedring.lab.simulate.reading import message_in
from fedring.lab.simulate.watch.checks import Check, RoundOf, require, round_of
from fedring.shared.messages import Here, Hop, Lap, Message, Ready, Release


class Records(Check):
    def __init__(self, fleet: SimulatedFleet) -> None:
        super().__init__(fleet)
        self._joined: dict[str, RoundOf] = {}
        self._sent: dict[tuple[str, RoundOf, str], bytes] = {}
        self._round_keys: dict[bytes, tuple[str, RoundOf]] = {}
        self._rosters: dict[tuple[str, RoundOf], bytes] = {}
        self._used = dict.fromkeys(fleet.devices, 0)
        self._evaluated = dict.fromkeys(fleet.devices, 0)

    def device_did(self, device: str, effect: Effect, /) -> None:
        synced = self.fleet.devices[device].disk.synced
        match effect:
            case Work(_, evaluate) if evaluate:
                self._evaluated[device] += 1
                counted = synced.evaluations >= self._evaluated[device]
                require(counted, "an evaluation is durable before the work", device, synced)

    def device_sent(self, device: str, message: Message, data: bytes, /) -> None:
        where = round_of(message)
        match message:
            case Ready():
                synced = self.fleet.devices[device].disk.synced
                require(synced.joined == where, "joined is durable before ready", device, synced)
                before = self._joined.get(device, (0, 0))
                require(where >= before, "joined grows", device, before, where)
                self._joined[device] = where
                mine = self._round_keys.setdefault(message.round_key, (device, where))
                require(mine == (device, where), "round keys are fresh", device, where, mine)
                self._only_one(device, where, message.kind, data)
            case Release(roster=roster):
                self._one_roster(device, where, roster)
                if (device, where, message.kind) not in self._sent:
                    self._used[device] += 1
                synced = self.fleet.devices[device].disk.synced
                counted = synced.releases >= self._used[device]
                require(counted, "a release is counted durably before it leaves", device, synced)
                self._only_one(device, where, message.kind, data)
            case Here(roster=roster):
                self._one_roster(device, where, roster)
            case Hop(lap=raw):
                lap = message_in(raw)
                assert isinstance(lap, Lap)  # noqa: S101
                self._one_roster(device, where, lap.roster)

    def _only_one(self, device: str, where: RoundOf, kind: str, data: bytes) -> None:
        same = self._sent.setdefault((device, where, kind), data) == data
        require(same, f"one {kind} a round", device, where)

    def _one_roster(self, device: str, where: RoundOf, roster: bytes) -> None:
        same = self._rosters.setdefault((device, where), roster) == roster
        require(same, "one roster a round", device, where)
