"""Who dies in the midst of a call: device and coordinator kill themselves at a named moment.

Real processes, real SIGKILL; `dying` says how, and what the names mean. The victim among the
devices is b02, the second of its ring.
"""

from __future__ import annotations

import signal
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from attrs import frozen
from tests.integration.stage import Stage, ended, in_ready
from tests.integration.sums import REPEATABLE, check_history

from fedring.device.store import STORE_FILE
from fedring.lab.brokers import start_broker
from fedring.lab.fleets import LocalFleet
from fedring.lab.processes import Child
from fedring.lab.programs import Tables
from fedring.lab.spy import WAIT_S, Spy

VICTIM = "b02"
SPARES = ("spare-1", "spare-2", "spare-3")
"""Never started: each makes a new revocation list."""

SETTINGS: Tables = {
    "model": {"kind": "mlp", "hidden": [4000]},  # a body is several chunks
    "training": {"batch": 8},
    "ring": {
        "size": 4,
        "min_devices": 4,
        "ready_s": 40,
        "patience_s": 6,
        "release_s": 12,
        "key_bits": 2048,
    },
}


@frozen
class Doomed:
    """A fleet of which one device and the coordinator can be told when to die."""

    stage: Stage

    def child(self, name: str) -> Child:
        """The process, as it runs now."""
        coordinator = self.stage.fleet.coordinator
        assert coordinator is not None
        return coordinator if name == "coordinator" else self.stage.fleet.devices[name]

    def arm(self, name: str, moment: str) -> None:
        """Let it die at the next such moment."""
        file = self.order(name)
        partial = file.with_suffix(".partial")
        partial.write_text(moment, "utf-8")
        partial.replace(file)

    def order(self, name: str) -> Path:
        """Where it reads when to die; it takes the file along."""
        return self.stage.fleet.folder / f"{name}.dies"

    def joined(self) -> tuple[int, int]:
        """Last round joined, and count of releases, on the victim's disk."""
        folder = self.stage.fleet.authority.device_folder(VICTIM) / "state"
        with closing(sqlite3.connect(folder / STORE_FILE)) as connection:
            number, releases = connection.execute("SELECT round, releases FROM device").fetchone()
        return number, releases


@contextmanager
def doomed(folder: Path) -> Iterator[Doomed]:
    """A fleet at work."""
    with (
        start_broker(folder / "broker") as broker,
        LocalFleet(folder, broker.address, coordinator=SETTINGS, device=REPEATABLE) as fleet,
        Spy(broker.address, fleet.topics, fleet.check) as spy,
    ):
        fleet.authority.add_all(SPARES)
        stage = Stage(broker, fleet, spy)
        one = Doomed(stage)
        program = Path(__file__).with_name("dying.py")
        for name in (VICTIM, "coordinator"):
            fleet.under[name] = [sys.executable, "-P", program, one.order(name)]
        fleet.start()
        stage.started()
        yield one


# Ways into a moment, where the next round alone does not lead there. They begin between rounds.


def _next_round(one: Doomed) -> None:
    one.stage.resume()


def _another_revoked(one: Doomed) -> None:
    """A new revocation list is published while no round is running."""
    authority = one.stage.fleet.authority
    name = next(one.name for one in authority.devices if one.name in SPARES and not one.revoked)
    authority.revoke(name)


def _no_cohorts(one: Doomed) -> None:
    """The next round is to deal the devices into cohorts, as the first one did."""
    with one.stage.fleet.store() as store, store.database.transaction() as connection:
        connection.execute("DELETE FROM cohort")
    one.stage.resume()


def _restarted_in_its_round(one: Doomed) -> None:
    """The victim was killed once before in this round, and is going to refuse it."""
    moment = one.order(VICTIM).read_text("utf-8")
    one.order(VICTIM).unlink()
    since = in_ready(one.stage)
    one.child(VICTIM).kill()
    one.stage.spy.status(VICTIM, since, state="offline")
    one.arm(VICTIM, moment)
    one.stage.fleet.start_device(VICTIM)


@frozen
class Death:
    """Where somebody dies.

    Attributes:
        moment: see `dying`.
        left: what must be on its disk then, of this round.
        words: the moment, for people.
        way: leads there.
    """

    moment: str
    left: str
    words: str
    way: Callable[[Doomed], None] = _next_round


NOTHING, JOINED, RELEASED = "nothing", "joined", "joined, released"
TAKEN, STORED = "the number", "number and version"

DEVICE = (
    Death("revocation list", NOTHING, "before it writes a new revocation list", _another_revoked),
    Death("revocation list, not committed", NOTHING, "within that write", _another_revoked),
    Death("work", NOTHING, "before it fetches the model"),
    Death("training", NOTHING, "in training, after the first batch"),
    Death("joined", NOTHING, "before it writes `joined`"),
    Death("joined, not committed", NOTHING, "within that write"),
    Death("joined, committed", JOINED, "`joined` durable, `ready` not sent"),
    Death(
        "refused 1", JOINED, "restarted after `ready`, before it refuses", _restarted_in_its_round
    ),
    Death("progress 1", JOINED, "before it answers a token's header"),
    Death("hop 1", JOINED, "before it hands the token on"),
    Death("chunk 1", JOINED, "header handed on, no chunk"),
    Death("chunk 2", JOINED, "between two chunks"),
    Death("taken 1", JOINED, "token whole, before it says `taken`"),
    Death("passed 1", JOINED, "before it says `passed`"),
    Death("here 1", JOINED, "before it says `here`"),
    Death("release count", JOINED, "before it writes the count of releases"),
    Death("release count, not committed", JOINED, "within that write"),
    Death("release count, committed", RELEASED, "count durable, `release` not sent"),
)
COORDINATOR = (
    Death("round number", NOTHING, "before it takes a round number"),
    Death("round number, not committed", NOTHING, "within that write"),
    Death("round number, committed", TAKEN, "number durable, nothing announced"),
    Death("cohorts", TAKEN, "before it writes who is in which cohort", _no_cohorts),
    Death("cohorts, not committed", TAKEN, "within that write", _no_cohorts),
    Death("announce 1", TAKEN, "before the announce leaves"),
    Death("roster 1", TAKEN, "before the first roster"),
    Death("roster 3", TAKEN, "two of four have the roster"),
    Death("lap 1", TAKEN, "before the first member has the lap"),
    Death("lap 3", TAKEN, "two of four have the lap"),
    Death("progress 1", TAKEN, "before it answers the token's header"),
    Death("passed 1", TAKEN, "token here, before it says `passed`"),
    Death("call 1", TAKEN, "before the first call"),
    Death("call 3", TAKEN, "two of four are called"),
    Death("list 1", TAKEN, "before the first list"),
    Death("list 3", TAKEN, "two of four are asked for their release"),
    Death("opening", TAKEN, "all releases here, sums not opened"),
    Death("version", TAKEN, "sums opened, before it stores the version"),
    Death("version, not committed", TAKEN, "within that write"),
    Death("version, committed", STORED, "version durable, nothing published"),
)
DEATHS = {
    **{(VICTIM, death.moment): death for death in DEVICE},
    **{("coordinator", death.moment): death for death in COORDINATOR},
}


def die(one: Doomed, who: str, moment: str) -> str:
    """Let somebody die; see that the fleet goes on as if nothing had been.

    Gives how the round ended, for people.
    """
    stage, death = one.stage, DEATHS[who, moment]
    stage.wake()
    stage.pause()
    stage.forgive()
    history, before, since = stage.history(), stage.all_pids(), stage.spy.now
    number, (_, releases) = stage.last_round() + 1, one.joined()
    one.arm(who, moment)
    death.way(one)
    _see_death(one, who)
    if who == "coordinator":
        taken = stage.last_round() == number
        stored = stage.history()[-1].round == number
        assert (NOTHING, TAKEN, STORED)[taken + stored] == death.left
    else:
        last, released = one.joined()
        assert (NOTHING, JOINED, RELEASED)[(last == number) + released - releases] == death.left
    stage.spy.status(who, since, state="offline")  # the broker says so, its last will
    since = stage.spy.now
    stage.revive()
    stage.see_recovery(before, since)
    stage.pause()
    check_history(stage, history)
    return ended(stage, number)


def _see_death(one: Doomed, who: str) -> None:
    """See that it was that moment that ended it."""
    assert one.child(who).wait(WAIT_S) == -signal.SIGKILL
    assert not one.order(who).exists()
