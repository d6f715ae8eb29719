"""Nothing slow runs on an event loop: coordinator and agents, rounds, a new epoch.

All shells share one loop here, so its thread is the one in which nothing slow may run. Which
functions are slow is listed; wall time is told of, not judged: other work on this machine would
decide it.
"""

import asyncio
import functools
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from attrs import define, field

from fedring.coordinator import announcing, service, standing
from fedring.coordinator.rounds import Round
from fedring.device import agent, member, work
from fedring.device.data import FileSource
from fedring.device.member import Member
from fedring.device.trainers import NumpyTrainer
from fedring.lab.fleets import LocalFleet
from fedring.lab.loop_fleet import loop_fleet
from fedring.shared.broker import Broker
from fedring.shared.encryption import Suite, lattice, paillier
from fedring.shared.encryption.hybrid import Hybrid
from fedring.shared.encryption.packed import PackedPaillier
from fedring.shared.models import Model
from fedring.shared.state import Database

N_DEVICES = 3
LATE_S = 0.05

SLOW: list[tuple[Any, str]] = [
    (Database, "transaction"),
    (Database, "snapshot"),
    (Database, "rows"),
    (standing, "generate_key"),
    (paillier.FixedBase, "__init__"),
    (paillier.FixedBase, "obfuscator"),
    (paillier, "decrypt"),
    (paillier, "product"),
    (announcing, "suite"),
    (work, "suite"),
    (Model, "from_chunks"),
    (Model, "_pieces"),
    (member, "read_roster"),
    (work, "keep_model"),
    (FileSource, "read"),
    (NumpyTrainer, "train"),
]
"""What may take a board or a coordinator more than 50 ms: by its arithmetic, or by a disk."""

SUITES: dict[str, type[Suite]] = {"hybrid": Hybrid, "paillier": PackedPaillier}


def slow(name: str, *, large_bodies: bool) -> list[tuple[Any, str]]:
    """What is slow with this suite."""
    of_suite = ["prepare", "add_values", "open"]
    if large_bodies:
        of_suite += ["add_piece", "encode_body", "decode_body"]
    listed = [*SLOW, *((SUITES[name], what) for what in of_suite)]
    return [*listed, (lattice.Ring, "__init__")] if name == "hybrid" else listed


STEPS: list[tuple[type, str]] = [
    *((Member, name) for name in ("announced", "revocation", "worked", "receive", "tick")),
    *((Round, name) for name in ("start", "receive", "present", "tick")),
]
"""Steps of the state machines: of one object, one at a time."""


@define
class Watch:
    """Which thread ran what; how long the loop kept others waiting."""

    on: bool = False
    threads: defaultdict[str, set[int]] = field(factory=lambda: defaultdict(set))
    overlaps: list[str] = field(factory=list)
    beats: int = 0
    late: int = 0
    _busy: dict[int, str] = field(factory=dict)

    def slow(self, patch: pytest.MonkeyPatch, place: Any, name: str) -> None:
        """Write down who calls this."""
        label = f"{getattr(place, '__name__', place)}.{name}"

        def note() -> None:
            if self.on:
                self.threads[label].add(threading.get_ident())

        _wrap(patch, place, name, lambda _: note())

    def step(self, patch: pytest.MonkeyPatch, place: type, name: str) -> None:
        """Write down when this begins while another step of the same object is under way."""
        call = getattr(place, name)

        @functools.wraps(call)
        def watched(machine: Any, *args: Any, **kwargs: Any) -> Any:
            if other := self._busy.get(id(machine)):
                self.overlaps.append(f"{name} during {other}")
            self._busy[id(machine)] = name
            try:
                return call(machine, *args, **kwargs)
            finally:
                del self._busy[id(machine)]

        patch.setattr(place, name, watched)

    async def beat(self) -> None:
        """Measure how late the loop comes to what is due."""
        while True:
            due = time.monotonic() + LATE_S / 5
            await asyncio.sleep(LATE_S / 5)
            self.beats += 1
            self.late += time.monotonic() > due + LATE_S


def _wrap(
    patch: pytest.MonkeyPatch, place: Any, name: str, before: Callable[[tuple[Any, ...]], None]
) -> None:
    call = place.__dict__.get(name) or getattr(place, name)
    plain = call.__func__ if isinstance(call, classmethod) else call

    @functools.wraps(plain)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        before(args)
        return plain(*args, **kwargs)

    patch.setattr(place, name, classmethod(wrapped) if isinstance(call, classmethod) else wrapped)


@contextmanager
def watching(listed: list[tuple[Any, str]], *, large_bodies: bool) -> Iterator[Watch]:
    """Watches all that is listed."""
    watch = Watch()
    with pytest.MonkeyPatch.context() as patch:
        if large_bodies:
            patch.setattr(service, "SLOW_BODY_BYTES", 1)
            patch.setattr(agent, "SLOW_BODY_BYTES", 1)
        for place, name in listed:
            watch.slow(patch, place, name)
        for machine, name in STEPS:
            watch.step(patch, machine, name)
        lattice.ring.cache_clear()
        yield watch


async def rounds_and_a_new_epoch(files: LocalFleet, watch: Watch) -> None:
    """A round, some more until the coordinator sees a new epoch, one in that, and rest."""
    with loop_fleet(files) as fleet:
        watch.on = True
        beating = asyncio.create_task(watch.beat())
        async with fleet.serving():
            await fleet.published(epoch=1)
            await asyncio.to_thread(files.authority.next_epoch)
            await fleet.published(epoch=2)
            await asyncio.to_thread(files.set_paused, True)
            await fleet.rest()
        beating.cancel()
        watch.on = False


@pytest.mark.parametrize("large_bodies", [False, True], ids=["small", "large"])
@pytest.mark.parametrize("suite", SUITES)
def test_nothing_slow_runs_on_an_event_loop(
    tmp_path: Path, record_property: Callable[[str, object], None], suite: str, large_bodies: bool
) -> None:
    files = LocalFleet(
        tmp_path,
        Broker("localhost", 1),
        N_DEVICES,
        coordinator={
            "model": {"kind": "mlp", "hidden": [4]},
            "ring": {"size": N_DEVICES, "min_devices": N_DEVICES, "key_bits": 2048, "suite": suite},
        },
    )
    listed = slow(suite, large_bodies=large_bodies)
    with watching(listed, large_bodies=large_bodies) as watch:
        asyncio.run(rounds_and_a_new_epoch(files, watch))
    record_property("times that the loop was more than 50 ms late", watch.late)
    record_property("times that it was looked at", watch.beats)
    here = threading.get_ident()
    assert [name for name, threads in watch.threads.items() if here in threads] == []
    assert len(watch.threads) == len(listed), "something on the list is never called"
    assert watch.overlaps == []
