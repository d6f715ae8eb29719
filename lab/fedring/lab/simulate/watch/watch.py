"""Somebody who sees everything, plaintexts included, and says at once when a promise is broken.

A `Watch` keeps what a `Record` keeps and checks every step of every party as it is asked for,
against docs/protocol.md, section 6. It reads the messages that leave the state machines, the
records that they make durable, and, since it sees all, the secrets that they hold. Which invariant
is checked how:

1. *One key, one body* (`bodies`): the body of a device's round is known from the moment it joins;
   every piece of every token that leaves anybody is, byte for byte, the sum of the bodies that the
   token names. No key serves twice.
2. *Durable first, once a round* (`records`): what is synced on the simulated disk when `ready` and
   `release` leave; one `ready`, one roster, one release for each device and round, over all its
   lives. That the real stores sync: tests/unit/device/test_device_store.py and
   tests/integration/test_traces.py.
3. *Releases only for checked lists* (`releases`): list and roster of each release are looked at
   again. Coordinators that lie: tests/simulation/test_attacks.py.
4. *Nothing but the complete sum* (`releases`): with the coordinator's keys, all releases and all
   bodies but one of a list open to nothing. Mixed lists, friends: test_attacks.py.
5. *One announce for a ring* (`sums`): every `ready` of every roster.
6. *Exact or nothing, once* (`sums`): what was opened is the sum of the vectors before masking, in
   integers; the model that was stored is the one before plus the mean; no contribution is in two
   sums.
7. *Liveness* (`liveness`): a ring is void only for a cause that was seen at a moment that explains
   it, and a round in which nothing went wrong ends in a sum over all its rings. Each ring ends by
   its deadline; that every round does is seen by whoever runs the clock (`running`).
8. *Bounds* (`bounds`): tokens held and under way, messages sent in a round. Memory and disk of
   real processes, hostile members: tests/simulation/test_hostile_member.py, tests/integration.
9. *The history is a chain* (`sums`): the store's versions are those that rounds have made, each on
   its parent, also after every restart. Crashes within a transaction: the unit tests of the store.
10. *No secret outside memory* (`secrecy`): no message or report holds a round key or an update;
   what is released, refused or abandoned is erased. Files, logs, argv of real processes:
   tests/integration/test_traces.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from fedring.coordinator.announcing import Announcing
from fedring.coordinator.rounds import Effect as CoordinatorEffect
from fedring.device.effects import Effect as DeviceEffect
from fedring.lab.simulate.coordinators import Concluded
from fedring.lab.simulate.fleet import Record, SimulatedFleet
from fedring.lab.simulate.reading import message_in
from fedring.lab.simulate.watch.bodies import Bodies
from fedring.lab.simulate.watch.bounds import Bounds
from fedring.lab.simulate.watch.checks import Check
from fedring.lab.simulate.watch.liveness import Liveness
from fedring.lab.simulate.watch.records import Records
from fedring.lab.simulate.watch.releases import Releases
from fedring.lab.simulate.watch.secrecy import Secrecy
from fedring.lab.simulate.watch.sums import Sums
from fedring.shared.effects import Send
from fedring.shared.envelopes import Signed
from fedring.shared.messages import Announce
from fedring.shared.numbers import IntVector

EVENTS = (
    "announcing",
    "contributed",
    "device_did",
    "device_sent",
    "coordinator_did",
    "coordinator_sent",
    "ended",
)
"""The methods of a `Check`."""


class Watch(Record):
    """A record that checks as it goes."""

    def __init__(self) -> None:
        super().__init__()
        self._checks: dict[str, list[Callable[..., None]]] = {event: [] for event in EVENTS}

    def attend(self, fleet: SimulatedFleet) -> None:
        """Begin to check; the fleet is there, nobody has announced anything."""
        bodies = Bodies(fleet)
        checks = (
            bodies,
            Records(fleet),
            Releases(fleet, bodies),
            Sums(fleet, bodies),
            Liveness(fleet),
            Bounds(fleet),
            Secrecy(fleet, bodies),
        )
        self._checks = {event: _listening(checks, event) for event in EVENTS}

    def contributed(self, device: str, announce: Signed[Announce], values: IntVector) -> None:
        super().contributed(device, announce, values)
        for check in self._checks["contributed"]:
            check(device, announce, values)

    def device_did(self, device: str, effect: DeviceEffect, now: float) -> None:
        super().device_did(device, effect, now)
        for check in self._checks["device_did"]:
            check(device, effect)
        if isinstance(effect, Send):
            message = message_in(effect.data)
            for check in self._checks["device_sent"]:
                check(device, message, effect.data)

    def announcing(self, announcing: Announcing) -> None:
        super().announcing(announcing)
        for check in self._checks["announcing"]:
            check(announcing)

    def coordinator_did(self, effect: CoordinatorEffect, now: float) -> None:
        super().coordinator_did(effect, now)
        for check in self._checks["coordinator_did"]:
            check(effect)
        if isinstance(effect, Send):
            message = message_in(effect.data)
            for check in self._checks["coordinator_sent"]:
                check(message, effect.data)

    def ended(self, concluded: Concluded) -> None:
        super().ended(concluded)
        for check in self._checks["ended"]:
            check(concluded)


def _listening(checks: Iterable[Check], event: str) -> list[Callable[..., None]]:
    """The methods for an event of those checks that have one."""
    silent = getattr(Check, event)
    return [getattr(check, event) for check in checks if getattr(type(check), event) is not silent]
