"""Power cuts in the middle of an update, at each of its steps, and what became of the board.

An emulated board goes once through a good update and once through a bad one, as the owner sends
them, and is kept, memory and disk, when its console names a step. From there it goes on, a moment
later qemu is killed, and the board starts from what its disk has: what was not synced lay in its
memory only. The card takes few writes a second then, as bad cards do, so that steps of milliseconds
last long enough to be met. Nothing on the board itself differs from any other; a second file in its
inbox ends the trial of a good update before its ten minutes are over, as a second bundle would.

    FOLDER/power-cuts.json      what has passed; a later call goes on after that
"""

from __future__ import annotations

import json
import random
import re
import shlex
import time
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from attrs import frozen

from fedring.device.update.updater import REFUSED, ROLLED_BACK, STEPS, UPDATED
from fedring.lab.boards.emulator import Emulator
from fedring.lab.boards.journey import BAD, FLEET, GOOD, Journey, Step
from fedring.lab.boards.site import SERVER, Site
from fedring.lab.boards.system import EMULATION
from fedring.lab.processes import Child

RECORD_FILE: Final = "power-cuts.json"
NEEDED: Final = EMULATION | {"mosquitto_sub": "mosquitto-clients"}
"""Programs, each with its package."""
WATCHER: Final = "watcher"
N_WRITES: Final = 4
"""A second, on the slow card: a step with two fsyncs takes two seconds."""

_READY: Final = "ready"
_UNHURRIED: Final = ("take", "verify", "unpack", "try")
"""Steps that take long enough by themselves."""
_MOMENT_S: Final = 1.5
_POLL_S: Final = 0.02
_SECOND: Final = "/var/lib/fedring/inbox/9.fedring"
_LAST_WORD: Final = re.compile(rf"\]: (?:{UPDATED}|{ROLLED_BACK}|{REFUSED}) from ")
_SYNCED, _UNSYNCED = "/var/lib/lab-synced", "/var/lib/lab-unsynced"


@frozen
class Update:
    """An update, and its end.

    Attributes:
        name: for people, and of its moments.
        base: moment before it.
        version: of its bundle.
        steps: that it goes through.
        ends: state that the board tells in the end.
        runs: version that runs in the end.
    """

    name: str
    base: str
    version: str
    steps: tuple[str, ...]
    ends: str
    runs: str

    def moment(self, step: str) -> str:
        """Name of the board as it is at a step; "done" for after the last one."""
        return f"{self.name}-{step.replace(' ', '-')}"


_GOOD: Final = Update(
    "good", _READY, GOOD, tuple(step for step in STEPS if step != "go back"), UPDATED, GOOD
)
_BAD: Final = Update(
    "bad",
    _GOOD.moment("done"),
    BAD,
    tuple(step for step in STEPS if step != "settle"),
    ROLLED_BACK,
    GOOD,
)
UPDATES: Final = (_GOOD, _BAD)


class PowerCuts:
    """A site with one emulated board, and the cuts that it lives through.

    Args:
        site: entered.
        name: of the board.
        draw: for the moment of each cut within its step.
    """

    def __init__(self, site: Site, name: str, draw: random.Random) -> None:
        self.site = site
        self._name = name
        self._draw = draw
        self._journey = Journey(site, [name])
        self._record = site.folder / RECORD_FILE

    @property
    def steps(self) -> list[Step]:
        """All of it, in order; what an earlier call has seen only tells so."""
        steps = [
            Step("board is ready", self.prepare),
            Step("what is not synced is lost", self.lose_unsynced),
        ]
        for update in UPDATES:
            steps.append(Step(f"{update.name} update", partial(self.go_through, update)))
            steps += [
                Step(f"{update.name}: cut at {step}", partial(self.cut, update, step))
                for step in update.steps
            ]
        once = [Step(step.name, partial(self._once, step.name, step.go)) for step in steps]
        return [Step("what was left before", self.resume), *once]

    @property
    def board(self) -> Emulator:
        """The one whose power is cut."""
        board = self.site.boards[self._name]
        if not isinstance(board, Emulator):
            raise TypeError(f"{self._name} is a container: its power cuts lose nothing")
        return board

    # -- what is there before the first cut ----------------------------------------------------

    def prepare(self) -> str:
        """A fleet whose only board has enrolled, and bundles for it."""
        site, journey = self.site, self._journey
        journey.make_fleet()
        journey.first_boot()
        journey.enrol()
        journey.signing.stop()
        site.type("laptop", f"fedring fleet add --fleet {FLEET} --with-keys {WATCHER}")
        for update in UPDATES:
            journey.make_release(update.version, broken=update is _BAD)
        # It has done its part, and costs an emulated board a minute at each start.
        self.board.run("touch", "/etc/cloud/cloud-init.disabled")
        self.board.run("sync")
        self.board.keep(_READY)
        return ""

    def resume(self) -> str:
        """Switch on again what an earlier call has left."""
        passed = self._passed()
        if passed:
            self.site.server.switch_on()
            self.site.server.await_(lambda: self.site.ready("server"), "a server that is back")
        return f"{len(passed)} steps have passed" if passed else "nothing"

    def lose_unsynced(self) -> str:
        """Show that a cut here is one: a file that was not synced is empty or gone after it."""
        board = self.board
        board.go_back(_READY)
        board.await_(lambda: self.site.ready(self._name), "ssh")
        board.run("sh", "-euc", f"echo kept >{_SYNCED}; sync {_SYNCED}; echo lost >{_UNSYNCED}")
        time.sleep(2 * _MOMENT_S)
        board.pull_plug()
        board.switch_on()
        board.await_(lambda: self.site.ready(self._name), "ssh")
        found = board.run("sh", "-c", f"cat {_SYNCED}; cat {_UNSYNCED} 2>/dev/null || true")
        board.pull_plug()
        if found != "kept\n":
            raise RuntimeError(f"after a power cut the files say {found!r}")
        return ""

    # -- an update without a cut ---------------------------------------------------------------

    def go_through(self, update: Update) -> str:
        """Let the owner send it, and keep the board at each step."""
        board, site = self.board, self.site
        board.go_back(update.base)
        (bundle,) = site.folder.glob(f"fedring-{update.version}-{board.target}*")
        sending = site.start(
            f"update-{update.name}", f"exec fedring fleet update --fleet {FLEET} {bundle}"
        )
        for step in update.steps:
            board.await_(partial(self._reached, update, step), f"step {step}", poll_s=_POLL_S)
            board.tell("stop")
            if self._seen(update)[-1] != step:
                raise RuntimeError(f"{step} was over before the board stood still")
            board.keep(update.moment(step))
            if step == update.steps[0]:
                sending.stop()  # the board's order stays: more waves would be others
            if step == _UNHURRIED[-1]:
                board.slow_card(N_WRITES)
            board.tell("cont")
            if step == "watch" and update.ends == UPDATED:
                self._end_trial()
        board.await_(lambda: _LAST_WORD.search(board.console), "the updater's last word")
        board.slow_card(0)
        board.tell("stop")
        board.keep(update.moment("done"))
        board.pull_plug()
        return ""

    def _end_trial(self) -> None:
        """Once the new agent is ready, put a file beside its bundle that is none."""
        board = self.board
        board.slow_card(0)
        self._journey.await_ready(self._name)
        board.slow_card(N_WRITES)
        put = f"sleep 10; echo nothing >{_SECOND}"
        board.run("sh", "-c", f"nohup sh -c {shlex.quote(put)} </dev/null >/dev/null 2>&1 &")

    # -- a cut ---------------------------------------------------------------------------------

    def cut(self, update: Update, step: str) -> str:
        """Kill the board within a step; it must come to the same end as without the cut."""
        board = self.board
        after_s = self._draw.uniform(0, _MOMENT_S)
        board.go_back(update.moment(step), 0 if step in _UNHURRIED else N_WRITES)
        time.sleep(after_s)
        board.pull_plug()
        beyond = self._seen(update)
        heard = self._listen()
        began = time.monotonic()
        board.switch_on()
        told = self._told(heard, update)
        heard.stop()
        board.await_(lambda: self.site.ready(self._name), "ssh")
        self._journey.await_ready(self._name)
        ready_s = time.monotonic() - began
        runs = self._journey.running()
        board.pull_plug()
        if runs != update.runs:
            raise RuntimeError(f"{runs} runs, not {update.runs}; told: {told}")
        within = f", in {beyond[-1]}" if beyond else ""
        return f"after {after_s:.1f} s{within}; ready {ready_s:.0f} s later, {told}, {runs} runs"

    def _listen(self) -> Child:
        """Write down what the board says of its updates from now on."""
        owner = f"{FLEET}/devices/{WATCHER}"
        keys = f"--cafile {owner}/ca.crt --cert {owner}/device.crt --key {owner}/device.key"
        topic = f"fedring/{FLEET}/device/{self._name}/update"
        name = f"heard-{time.time_ns()}"
        return self.site.start(name, f"exec mosquitto_sub -R -h {SERVER} -p 8883 {keys} -t {topic}")

    def _told(self, heard: Child, update: Update) -> str:
        """Wait for the outcome of an update, and give its state.

        Raises:
            RuntimeError: it is another one.
        """
        told: dict[str, Any] = {}

        def is_over() -> bool:
            for line in heard.log.read_text().splitlines():
                if line.startswith("{"):
                    told.update(json.loads(line))
            return told.get("state") not in {None, "fetching", "installing"}

        self.board.await_(is_over, "the outcome of the update")
        if (told["state"], told["to"]) != (update.ends, update.version):
            raise RuntimeError(f"the board told {told}")
        return str(told["state"])

    def _reached(self, update: Update, step: str) -> bool:
        """Whether a step has begun.

        Raises:
            RuntimeError: a later one has.
        """
        seen = self._seen(update)
        if step in seen and seen[-1] != step:
            raise RuntimeError(f"{step} was over too soon: {seen}")
        return step in seen

    def _seen(self, update: Update) -> list[str]:
        """Steps that the board has named on its console, since it was switched on."""
        return [step for step in steps_named(self.board.console) if step in update.steps]

    # -- what has passed -----------------------------------------------------------------------

    def _passed(self) -> dict[str, str]:
        if not self._record.exists():
            return {}
        passed: dict[str, str] = json.loads(self._record.read_text())
        return passed

    def _once(self, name: str, go: Callable[[], str]) -> str:
        passed = self._passed()
        if name in passed:
            return f"(before) {passed[name]}"
        try:
            passed[name] = go()
        finally:
            self.board.pull_plug()
        self._record.write_text(json.dumps(passed, indent=1) + "\n")
        return passed[name]


def steps_named(console: str) -> list[str]:
    """Give the steps of an update that a console shows, in order."""
    told = re.findall(r"\]: update: ([a-z ]+)\r*$", console, re.MULTILINE)
    return [step for step in told if step in STEPS]
