"""What befalls a fleet of real processes: a fault is inflicted in the midst of a step, and mended.

The victim among the devices is b02. It lives in a network namespace of its own; its state and the
coordinator's lie on small file systems of their own; both tell the time by a clock that can be set.

Who dies in the midst of a single call is the affair of `deaths`; `faults_page` goes through all of
it and writes docs/faults.md.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path
from types import MappingProxyType

from attrs import frozen
from tests.integration.stage import STEPS, Stage, ended
from tests.integration.sums import REPEATABLE, check_history

from fedring.lab.brokers import start_broker
from fedring.lab.fleets import LocalFleet
from fedring.lab.processes import Child
from fedring.lab.spy import Spy

VICTIM = "b02"
LASTS_S = 10.0
"""How long a process stands still and a link is cut: longer than anybody's patience."""
YEAR_S = 365 * 24 * 3600
DISK_BYTES = 16 << 20

RING = {
    "size": 4,
    "min_devices": 4,
    "ready_s": 40,
    "patience_s": 6,
    "release_s": 12,
    "key_bits": 2048,
}
"""Short enough that a fault ends the round, long enough that a busy machine does not."""

PLAIN = {"allow_plain": True}
"""The broker's address is another machine's to look at; it is reached over our own cable."""


def run(*command: str | Path) -> None:
    """Run a program of the system that must succeed."""
    subprocess.run([*command], check=True, capture_output=True)


class Link:
    """A network namespace that reaches this machine over one cable, which can be cut."""

    _numbers = count(os.getpid() % 200)

    def __init__(self) -> None:
        number = next(self._numbers) % 250
        self.name = f"fedring-{number}"
        self.host = f"10.213.{number}.1"
        self._end = f"fr{number}h"

    def __enter__(self) -> Link:
        inside = f"{self._end}i"
        run("ip", "netns", "add", self.name)
        run("ip", "link", "add", self._end, "type", "veth", "peer", inside, "netns", self.name)
        run("ip", "address", "add", f"{self.host}/30", "dev", self._end)
        run("ip", "link", "set", self._end, "up")
        for change in (
            ["address", "add", f"{self.host[:-1]}2/30", "dev", inside],
            ["link", "set", inside, "up"],
            ["link", "set", "lo", "up"],
        ):
            run("ip", "-n", self.name, *change)
        return self

    def __exit__(self, *_: object) -> None:
        run("ip", "netns", "delete", self.name)

    @property
    def inside(self) -> list[str]:
        """Runs a program in the namespace."""
        return ["ip", "netns", "exec", self.name]

    def cut(self) -> None:
        """Nothing comes through, and nobody is told."""
        run("ip", "link", "set", self._end, "down")

    def mend(self) -> None:
        run("ip", "link", "set", self._end, "up")


class Disk:
    """A small file system in memory."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._filler = folder / "filler"

    def __enter__(self) -> Disk:
        self.folder.mkdir(mode=0o700)
        run("mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES},mode=700", "tmpfs", self.folder)
        return self

    def __exit__(self, *_: object) -> None:
        run("umount", self.folder)

    def fill(self) -> None:
        """Leave no byte free."""
        with self._filler.open("wb", buffering=0) as file:
            for size in (1 << 16, 1 << 12):
                try:
                    while file.write(bytes(size)) == size:
                        pass
                except OSError:
                    continue

    def clear(self) -> None:
        self._filler.unlink()

    def remount(self, mode: str) -> None:
        """`ro` or `rw`; as long as somebody writes, the kernel does not do it."""
        run("mount", "-o", f"remount,{mode}", self.folder)


class Clock:
    """The wall clock of one process, by `libfaketime`; its monotonic clock is left alone."""

    def __init__(self, file: Path, library: Path) -> None:
        self._file = file
        self._library = library
        self.set(0)

    def set(self, offset_s: int) -> None:
        partial = self._file.with_suffix(".partial")
        partial.write_text(f"{offset_s:+d}\n")
        partial.replace(self._file)

    @property
    def told(self) -> list[str]:
        """Runs a program that goes by this clock."""
        return [
            "env",
            f"LD_PRELOAD={self._library}",
            f"FAKETIME_TIMESTAMP_FILE={self._file}",
            "FAKETIME_NO_CACHE=1",
            "FAKETIME_DONT_FAKE_MONOTONIC=1",
        ]


@frozen
class Site:
    """A fleet, and all that can be done to it."""

    stage: Stage
    link: Link
    disks: dict[str, Disk]
    clocks: dict[str, Clock]

    def child(self, name: str) -> Child:
        """The process of `coordinator`, of `broker` or of a device, as it runs now."""
        fleet = self.stage.fleet
        if name == "broker":
            return self.stage.broker.child
        if name == "coordinator":
            assert fleet.coordinator is not None
            return fleet.coordinator
        return fleet.devices[name]

    def start(self, name: str) -> None:
        if name == "coordinator":
            self.stage.fleet.start_coordinator()
        else:
            self.stage.fleet.start_device(name)


@contextmanager
def site(folder: Path, libfaketime: Path) -> Iterator[Site]:
    """A fleet at work to which everything can be done."""
    with ExitStack() as stack:
        link = stack.enter_context(Link())
        broker = stack.enter_context(start_broker(folder / "broker", host=link.host))
        fleet = LocalFleet(
            folder,
            broker.address,
            coordinator={"ring": RING, "broker": PLAIN},
            device={**REPEATABLE, "broker": PLAIN},
        )
        states = {
            "coordinator": fleet.coordinator_state,
            VICTIM: fleet.authority.device_folder(VICTIM) / "state",
        }
        disks = {name: stack.enter_context(Disk(state)) for name, state in states.items()}
        clocks = {name: Clock(folder / f"{name}.clock", libfaketime) for name in states}
        fleet.under["coordinator"] = clocks["coordinator"].told
        fleet.under[VICTIM] = [*link.inside, *clocks[VICTIM].told]
        stack.enter_context(fleet)
        spy = stack.enter_context(Spy(broker.address, fleet.topics, fleet.check))
        stage = Stage(broker, fleet, spy)
        fleet.start()
        stage.started()
        yield Site(stage, link, disks, clocks)


# Each of these inflicts a fault and gives what mends it.

Fault = Callable[[Site], Callable[[], object]]


def killed(name: str) -> Fault:
    def inflict(site: Site) -> Callable[[], object]:
        since = site.stage.spy.now
        site.child(name).kill()
        if name == "broker":
            return site.stage.broker.restart
        site.stage.spy.status(name, since, state="offline")  # the broker says so, its last will
        return lambda: site.start(name)

    return inflict


def broker_forgets(site: Site) -> Callable[[], object]:
    site.stage.broker.child.kill()
    for file in (site.stage.fleet.folder / "broker").glob("*.db*"):
        file.unlink()
    return site.stage.broker.restart


def stands_still(name: str) -> Fault:
    def inflict(site: Site) -> Callable[[], object]:
        child = site.child(name)
        child.freeze()
        time.sleep(LASTS_S)
        return child.thaw

    return inflict


def disk_is_full(name: str) -> Fault:
    def inflict(site: Site) -> Callable[[], object]:
        site.disks[name].fill()
        site.stage.fleet.thaw()  # what is to be written must be tried
        time.sleep(LASTS_S)
        return site.disks[name].clear

    return inflict


def disk_is_read_only(name: str) -> Fault:
    """Found at a restart: nobody can remount what is written to."""

    def inflict(site: Site) -> Callable[[], object]:
        site.child(name).kill()
        site.disks[name].remount("ro")
        site.start(name)
        deadline = time.monotonic() + 60
        while site.child(name).running:
            assert time.monotonic() < deadline, f"{name} runs on a disk that takes nothing"
            time.sleep(0.1)
        assert site.child(name).exit_status == 2
        return lambda: site.disks[name].remount("rw")

    return inflict


def clock_goes_back(name: str) -> Fault:
    def inflict(site: Site) -> Callable[[], object]:
        site.clocks[name].set(-YEAR_S)
        site.stage.fleet.thaw()
        return lambda: None  # a year back it stays, for the next round as well

    return inflict


def link_is_cut(site: Site) -> Callable[[], object]:
    site.link.cut()
    site.stage.fleet.thaw()
    time.sleep(LASTS_S)
    return site.link.mend


FAULTS: MappingProxyType[str, Fault] = MappingProxyType(
    {
        "device killed": killed(VICTIM),
        "coordinator killed": killed("coordinator"),
        "broker killed": killed("broker"),
        "broker killed, its store lost": broker_forgets,
        "device stands still": stands_still(VICTIM),
        "coordinator stands still": stands_still("coordinator"),
        "broker stands still": stands_still("broker"),
        "device's disk full": disk_is_full(VICTIM),
        "coordinator's disk full": disk_is_full("coordinator"),
        "device restarts on a read-only disk": disk_is_read_only(VICTIM),
        "coordinator restarts on a read-only disk": disk_is_read_only("coordinator"),
        "device's clock a year back": clock_goes_back(VICTIM),
        "coordinator's clock a year back": clock_goes_back("coordinator"),
        "device's link cut": link_is_cut,
    }
)


def befall(site: Site, step: str, fault: str) -> str:
    """Let a fault befall a step; see that the fleet goes on as if nothing had been.

    Gives how the round ended that was running, for people.
    """
    stage = site.stage
    for clock in site.clocks.values():
        clock.set(0)
    stage.wake()
    stage.pause()
    stage.forgive()
    history, before = stage.history(), stage.all_pids()
    STEPS[step](stage)
    running = stage.last_round()
    mend = FAULTS[fault](site)
    since = stage.spy.now
    mend()
    stage.revive()
    stage.see_recovery(before, since)
    stage.pause()
    hurt = {"device": VICTIM}.get(name := fault.split(maxsplit=1)[0].removesuffix("'s"), name)
    after = stage.all_pids()
    assert {name for name in after if after[name] != before[name]} <= {hurt}
    check_history(stage, history)
    return ended(stage, running + 1 if step == "between rounds" else running)
