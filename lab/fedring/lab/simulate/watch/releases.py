"""Invariants 3 and 4: what a release leaves for, and what releases open."""

from __future__ import annotations

from collections.abc import Mapping

from fedring.coordinator.announcing import Announcing
from fedring.lab.simulate.coordinators import Concluded
from fedring.lab.simulate.fleet import SimulatedFleet
from fedring.lab.simulate.reading import digest_of, message_in
from fedring.lab.simulate.watch.bodies import Bodies
from fedring.lab.simulate.watch.checks import Check, RoundOf, require, round_of
from fedring.shared.errors import SumError
from fedring.shared.messages import Chunk, Hop, List, Message, Ready, Release, Roster
from fedring.shared.pairwise import unseal


class Releases(Check):
    def __init__(self, fleet: SimulatedFleet, bodies: Bodies) -> None:
        super().__init__(fleet)
        self._bodies = bodies
        self._announcing: dict[RoundOf, Announcing] = {}
        self._in_tokens: set[tuple[str, RoundOf]] = set()
        self._last_chunks: dict[bytes, int] = {}
        self._rosters: dict[bytes, Mapping[int, Ready]] = {}
        self._lists: dict[bytes, List] = {}
        self._given: dict[bytes, dict[int, Release]] = {}
        self._seen: set[bytes] = set()

    def announcing(self, announcing: Announcing, /) -> None:
        self._announcing[round_of(announcing.announce.message)] = announcing

    def coordinator_sent(self, message: Message, data: bytes, /) -> None:
        match message:
            case Roster(readies=raws):
                readies = [message_in(raw) for raw in raws]
                self._rosters[digest_of(data)] = {
                    ready.sender: ready for ready in readies if isinstance(ready, Ready)
                }
            case List():
                self._lists[digest_of(data)] = message

    def device_sent(self, device: str, message: Message, data: bytes, /) -> None:
        match message:
            case Hop(n_chunks=n_chunks):
                self._last_chunks[digest_of(data)] = n_chunks - 1
            case Chunk(hop=hop, index=index) if index == self._last_chunks[hop]:
                self._in_tokens.add((device, round_of(message)))
            case Release() if data not in self._seen:
                self._seen.add(data)
                self._released(device, message)

    def _released(self, device: str, release: Release) -> None:
        party, where = self.fleet.devices[device], round_of(release)
        asked, members = self._lists.get(release.list), self._rosters.get(release.roster)
        require(asked is not None, "a release is for a list that was asked", device, where)
        require(members is not None, "a release is for a roster", device, where)
        assert asked is not None and members is not None  # noqa: PT018, S101
        names = asked.names
        require(asked.roster == release.roster, "list and roster fit", device, where)
        require(list(names) == sorted(set(names)), "names ascend", device, names)
        require(party.identity.number in names, "a list with oneself", device, names)
        require(len(names) > party.threshold, "more than its threshold", device, names)
        require(set(names) <= members.keys(), "members of the roster only", device, names)
        certified = {
            one.identity.number: one.identity.certificate for one in self.fleet.devices.values()
        }
        for name in names:
            known = members[name].certificate == certified.get(name)
            require(known, "certified members only", device, name)
        require((device, where) in self._in_tokens, "its body is in a token", device, where)
        self._given.setdefault(release.list, {})[release.sender] = release

    def ended(self, _: Concluded, /) -> None:
        if self._given:
            asked, given = self._given.popitem()
            self._all_but_one_open_nothing(self._lists[asked], given)
        self._given.clear()

    def _all_but_one_open_nothing(self, asked: List, given: Mapping[int, Release]) -> None:
        where = round_of(asked)
        left_out = asked.names[where[1] % len(asked.names)]
        names = tuple(name for name in asked.names if name in given and name != left_out)
        if not names:
            return
        suite, key = self._bodies.suites[where], self.fleet.private_key
        exchange_key = self._announcing[where].exchange_key
        members = self._rosters[asked.roster]
        opened = [
            unseal(
                exchange_key,
                members[name].round_key,
                given[name].sealed,
                roster_digest=asked.roster,
                list_digest=given[name].list,
                sender=name,
            )
            for name in names
        ]
        body = suite.decode_body(self._bodies.sum_of(where, names))
        try:
            suite.open(key, body, suite.product(opened), len(names))
        except SumError:
            return
        require(False, "less than all releases of a list open nothing", where, names)
