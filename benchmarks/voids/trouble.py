"""A ring whose members die and lose their connection now and then, round after round."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final
from unittest.mock import patch

import numpy as np
from attrs import frozen

from fedring.coordinator.lap_times import LAP_BASE_S
from fedring.device import relay
from fedring.lab.simulate.devices import SimulatedDevice
from fedring.lab.simulate.fleet import SimulatedFleet
from fedring.lab.simulate.network import Hold
from fedring.lab.simulate.reading import message_in
from fedring.shared import messages, tokens
from fedring.shared.contributions import contribution
from fedring.shared.effects import Report
from fedring.shared.envelopes import Signed
from fedring.shared.messages import CHUNK_BYTES, COORDINATOR_NAME, Announce, Chunk, RingTerms
from fedring.shared.models import Model
from fedring.shared.numbers import IntVector

N_WEIGHTS: Final = 900
SHORT_CHUNK_BYTES: Final = 1024
CHUNKS: Final = -(-4 * N_WEIGHTS // SHORT_CHUNK_BYTES)
"""A body has several, so that a slow hop shows progress, as a real one would. They are short, so
that rings are many, and take the time of long ones."""
RESTART_S: Final = 30.0
OUTAGE_S: Final = 10.0
HOUR_S: Final = 3600.0


@frozen
class Trouble:
    """What happens to each member of a ring.

    Attributes:
        members: of the ring, which is the whole fleet.
        hop_s: seconds that a body takes from one member to the next.
        deaths: of each device an hour, on average; it is back after `RESTART_S`.
        outages: of each connection an hour, on average; each lasts `OUTAGE_S`.
        whole_tokens: members hand a token on when they have all of it, as they once did.
    """

    members: int
    hop_s: float
    deaths: float = 0.0
    outages: float = 0.0
    whole_tokens: bool = False

    @property
    def threshold(self) -> int:
        """Of every member: what a board in a fleet of this size is enrolled with."""
        return 7 if self.members >= 16 else 3

    def __str__(self) -> str:
        what = f"{self.deaths:g} deaths" if self.deaths else f"{self.outages:g} outages"
        tokens = ", whole tokens" if self.whole_tokens else ""
        return f"{self.members} members, hops of {self.hop_s:g} s, {what} an hour each{tokens}"


@frozen
class Outcome:
    """What rings came to.

    Attributes:
        rings: that were formed.
        void: of these, that gave no sum.
        unasked: of these, in which somebody named in a token was found to be gone, or a release did
            not come: without calls they had been void.
        members: in sums.
        invited: into all rings.
        reasons: of void rings.
    """

    rings: int
    void: int
    unasked: int
    members: int
    invited: int
    reasons: tuple[str, ...]

    def __add__(self, other: Outcome) -> Outcome:
        return Outcome(
            self.rings + other.rings,
            self.void + other.void,
            self.unasked + other.unasked,
            self.members + other.members,
            self.invited + other.invited,
            self.reasons + other.reasons,
        )

    @property
    def void_share(self) -> float:
        """Void rings of all, 0..1."""
        return self.void / self.rings

    @property
    def void_without_calls(self) -> float:
        """What it would be if releases were asked for as soon as a token is complete, 0..1."""
        return self.unasked / self.rings

    @property
    def kept(self) -> float:
        """Members of rings that are in sums, 0..1."""
        return self.members / self.invited


def watch_rings(trouble: Trouble, rounds: int, seed: int) -> Outcome:
    """Run rounds one after the other and count what became of their rings."""
    most_broken = 0 if trouble.whole_tokens else relay.MAX_BROKEN
    with (
        patch.object(messages, "CHUNK_BYTES", SHORT_CHUNK_BYTES),
        patch.object(tokens, "CHUNK_BYTES", SHORT_CHUNK_BYTES),
        patch.object(relay, "MAX_BROKEN", most_broken),
    ):
        return _watch(trouble, rounds, seed)


def _watch(trouble: Trouble, rounds: int, seed: int) -> Outcome:
    fleet = _fleet(trouble, seed)
    network = fleet.network
    devices = list(fleet.devices.values())
    _again(fleet, devices, trouble.deaths, _die)
    _again(fleet, devices, trouble.outages, _cut_off)
    rings = in_sums = invited = unasked = 0
    reasons: list[str] = []
    for _ in range(rounds):
        network.log.clear()
        fleet.record.forget()
        concluded = fleet.run_round()
        if concluded is None:
            raise RuntimeError("a round that does not end")
        ended = concluded.ended
        rings += len(ended.sums) + len(ended.voids)
        reasons += [one.reason for one in ended.voids]
        in_sums += sum(len(one.names) for one in ended.sums)
        notes = [
            effect for _, effect in fleet.record.coordinator_effects if isinstance(effect, Report)
        ]
        invited += sum(
            len(members)
            for one in notes
            if one.event == "ring formed" and isinstance(members := one.facts["members"], list)
        )
        gone = {one.facts["ring"] for one in notes if one.event in ("not there", "gone")}
        unasked += len(gone | {one.ring for one in ended.voids})
    return Outcome(rings, len(reasons), unasked, in_sums, invited, tuple(reasons))


def _fleet(trouble: Trouble, seed: int) -> SimulatedFleet:
    vector = contribution(np.ones(N_WEIGHTS, np.int32), evaluated=False, correct=0, loss=0.0)

    def contribute(_name: str, _announce: Signed[Announce], _evaluate: bool) -> IntVector:
        return vector

    model = Model(
        kind="softmax",
        features=("a",),
        classes=("x", "y"),
        arrays={"layer1.weight": np.zeros(N_WEIGHTS, np.float32)},
        trained=("layer1.weight",),
    )
    fleet = SimulatedFleet(
        [trouble.threshold] * trouble.members,
        model,
        contribute,
        seed=seed,
        terms=RingTerms(
            size=trouble.members,
            ready_s=60.0,
            patience_s=5.0,
            release_s=15.0,
            lap_s=LAP_BASE_S + 2 * (trouble.members + 1) * trouble.hop_s,
        ),
        quick=True,
    )
    _slow_links(fleet, trouble.hop_s)
    return fleet


def _slow_links(fleet: SimulatedFleet, hop_s: float) -> None:
    """Each board's link takes one message after the other, a body in `hop_s`.

    The coordinator is beside the broker: its messages wait for the links of their receivers only.
    """
    network = fleet.network
    free_at: dict[str, float] = {}

    def slower(source: str, to: str, data: bytes) -> float:
        link = f"to {to}" if source == COORDINATOR_NAME else f"from {source}"
        begins = max(network.now, free_at.get(link, 0.0))
        n_bytes = CHUNK_BYTES if isinstance(message_in(data), Chunk) else len(data)
        free_at[link] = begins + hop_s * n_bytes / (CHUNKS * CHUNK_BYTES)
        return free_at[link] - network.now

    network.slows = slower


def _again(
    fleet: SimulatedFleet,
    devices: list[SimulatedDevice],
    times_an_hour: float,
    happen: Callable[[SimulatedFleet, SimulatedDevice], None],
) -> None:
    """Let something happen to each device so often, at moments independent of each other."""
    if not times_an_hour:
        return
    network = fleet.network

    def plan(device: SimulatedDevice) -> None:
        network.at(
            network.now + network.random.expovariate(times_an_hour / HOUR_S),
            partial(strike, device),
        )

    def strike(device: SimulatedDevice) -> None:
        happen(fleet, device)
        plan(device)

    for device in devices:
        plan(device)


def _die(fleet: SimulatedFleet, device: SimulatedDevice) -> None:
    if device.alive:
        device.die(power_cut=True)
        fleet.network.at(fleet.network.now + RESTART_S, device.start)


def _cut_off(fleet: SimulatedFleet, device: SimulatedDevice) -> None:
    network = fleet.network
    network.hold(device.name, Hold.CUT)
    network.at(network.now + OUTAGE_S, partial(network.free, device.name, Hold.CUT))
