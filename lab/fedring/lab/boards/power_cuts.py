"""Power cuts in the middle of an update, at each of its steps, and what became of the board.

A board goes once through a good update and once through a bad one, as the owner sends them. At a
moment within each step, as its console names them, the card is copied while the program of qemu
that writes on it stands still: what a kill leaves at that moment. Then the board starts from each
of these cards; what was not synced lay in its memory only, and is lost. The card takes few writes a
second then, as bad cards do, so that steps of milliseconds last long enough to be met. Nothing on
the board itself differs from any other; a second file in its inbox ends the trial of a good update
before its ten minutes are over, as a second bundle would.

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
from pathlib import Path
from typing import Any, Final

from attrs import frozen

from fedring.device.update.updater import REFUSED, ROLLED_BACK, STEPS, UPDATED
from fedring.lab.boards.journey import BAD, FLEET, GOOD, Journey, Step
from fedring.lab.boards.machines import CardMachine
from fedring.lab.boards.site import SERVER, Site
from fedring.lab.processes import Child

RECORD_FILE: Final = "power-cuts.json"
NEEDED: Final = {"mosquitto_sub": "mosquitto-clients"}
"""Programs beside those of the machine, each with its package."""
WATCHER: Final = "watcher"
N_WRITES: Final = 4
"""A second, on the slow card: a step with two fsyncs takes a second or two."""

_READY: Final = "ready"
_SPAN_S: Final = 0.5
"""Longest time between the name of a step and the cut; less than the step takes on a slow card."""
_LONG_SPANS_S: Final = {"unpack": 4.0, "try": 1.5, "watch": 5.0}
_POLL_S: Final = 0.005
_UNSYNCED_S: Final = 3.0
_SECOND: Final = "/var/lib/fedring/inbox/9.fedring"
_LAST_WORD: Final = re.compile(rf"\]: (?:{UPDATED}|{ROLLED_BACK}|{REFUSED}) from ")
_SYNCED, _UNSYNCED = "/var/lib/lab-synced", "/var/lib/lab-unsynced"
_UNSYNCED_MOMENT: Final = "unsynced"


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
    """A site with one board, and the cuts that it lives through.

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
    def board(self) -> CardMachine:
        """The one whose power is cut."""
        board = self.site.boards[self._name]
        if not isinstance(board, CardMachine):
            raise TypeError(f"{self._name} has no card: its power cuts lose nothing")
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
        # It has done its part, and costs an interpreted board a minute at each start.
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
        """Show what a cut is: a file that was not synced is empty or gone after it.

        So it is on the card that was copied, and on the one whose writer was killed.
        """
        board = self.board
        board.go_back(_READY)
        board.await_(lambda: self.site.ready(self._name), "ssh")
        board.run("sh", "-euc", f"echo kept >{_SYNCED}; sync {_SYNCED}; echo lost >{_UNSYNCED}")
        time.sleep(_UNSYNCED_S)
        board.keep(_UNSYNCED_MOMENT)
        board.pull_plug()
        for start in (board.switch_on, partial(board.go_back, _UNSYNCED_MOMENT)):
            start()
            board.await_(lambda: self.site.ready(self._name), "ssh")
            found = board.run("sh", "-c", f"cat {_SYNCED}; cat {_UNSYNCED} 2>/dev/null || true")
            board.pull_plug()
            if found != "kept\n":
                raise RuntimeError(f"after a power cut the files say {found!r}")
        return "with a killed writer, and on a copied card"

    # -- an update without a cut ---------------------------------------------------------------

    def go_through(self, update: Update) -> str:
        """Let the owner send it, and keep the card within each step."""
        board, site = self.board, self.site
        board.go_back(update.base)
        self._await_up()
        (bundle,) = site.folder.glob(f"fedring-{update.version}-{board.target}*")
        sending = site.start(
            f"update-{update.name}", f"exec fedring fleet update --fleet {FLEET} {bundle}"
        )
        for step in update.steps:
            board.await_(partial(self._reached, update, step), f"step {step}", poll_s=_POLL_S)
            self._cut_here(update, step)
            if step == update.steps[0]:
                sending.stop()  # the board's order stays: more waves would be others
            if step == "try":  # those before take long enough by themselves
                board.slow_card(N_WRITES)
            if step == "watch" and update.ends == UPDATED:
                self._end_trial()
        board.await_(lambda: _LAST_WORD.search(board.console), "the updater's last word")
        board.slow_card(0)
        board.run("sync")
        board.keep(update.moment("done"))
        board.pull_plug()
        return ""

    def _cut_here(self, update: Update, step: str) -> None:
        """Keep the card at a moment within a step, or as soon as that is over."""
        began, after_s = time.monotonic(), self._draw.uniform(0, _LONG_SPANS_S.get(step, _SPAN_S))
        while time.monotonic() - began < after_s and self._seen(update)[-1] == step:
            time.sleep(_POLL_S)
        met = f"{time.monotonic() - began:.2f} s after its name, in {self._seen(update)[-1]}"
        self.board.keep(update.moment(step))
        self._met_file(update, step).write_text(met)

    def _met_file(self, update: Update, step: str) -> Path:
        return self.site.folder / f"{update.moment(step)}.txt"

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
        """Start the board with the card of that step: it must come to the same end as without."""
        board, moment = self.board, update.moment(step)
        heard = self._listen()
        began = time.monotonic()
        board.go_back(moment)
        told = self._told(heard, update)
        heard.stop()
        self._await_up()
        ready_s = time.monotonic() - began
        runs = self._journey.running()
        board.pull_plug()
        if runs != update.runs:
            raise RuntimeError(f"{runs} runs, not {update.runs}; told: {told}")
        board.forget(moment)
        met = self._met_file(update, step).read_text()
        return f"{met}; ready {ready_s:.0f} s later, {told}, {runs} runs"

    def _await_up(self) -> None:
        self.board.await_(lambda: self.site.ready(self._name), "ssh")
        self._journey.await_ready(self._name)

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
        return step in self._seen(update)

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
