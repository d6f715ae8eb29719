"""Puts a signed bundle in place of the running agent, or the one before back; runs as root.

Steps, in order; each may be the last one before a power cut, and the next start does the rest:

    take      the bundle is copied to where nobody else can write
    verify    signature, Python, processor, floor
    unpack    into the idle slot, and onto the disk
    try       the new slot imports and computes, as the user of the agent
    record    a trial is on record: from here on a crash leads to its verdict
    switch    `current` points to the new slot
    restart   the agent starts anew
    watch     READY in time, and few restarts: else the verdict is against it
    verdict   is on record
    go back   `current` points to the old slot, whose agent starts again
    settle    the new slot is the one to trust, its floor holds
    report    the outcome is on record, the bundle is taken away

Until `switch` nothing has changed for the running agent. From `record` to `report` the code at
work is that of the old slot, also after a power cut: /usr/local/sbin/fedring-update starts the slot
which proved itself last, and systemd starts that as long as a trial is on record, whoever began it
(fedring-update.path). A board that dies while a new slot is on trial begins the trial again, three
times at most: then it goes back.
"""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import BinaryIO, Final

import attrs
from attrs import frozen

from fedring.device.boards import processor, python_tag
from fedring.device.room import require_room
from fedring.device.update.places import Outcome, Places, Slot, Trial
from fedring.device.update.service import Service
from fedring.device.update.unpacking import look_through, unpack
from fedring.shared.bundles import MAX_BUNDLE_BYTES, Bundle, read_bundle, version_number
from fedring.shared.errors import BundleError, UserError
from fedring.shared.identity import Authority
from fedring.shared.state import sync_folder

STEPS: Final = (
    "take",
    "verify",
    "unpack",
    "try",
    "record",
    "switch",
    "restart",
    "watch",
    "verdict",
    "go back",
    "settle",
    "report",
)
UPDATED: Final = "updated"
ROLLED_BACK: Final = "rolled_back"
REFUSED: Final = "refused"

OPTIMIZED: Final = "2"
"""PYTHONOPTIMIZE of the unit: what is compiled for another level would not be used."""

_TRY_S: Final = 300  # the imports take 13 s on an emulated board of 2016
_PIECE: Final = 2**20


@frozen
class Limits:
    """How long and how often.

    Attributes:
        ready_s: from the restart to READY.
        trial_s: from the restart to the verdict.
        calm_s: from READY on, when another bundle waits: its owner sent it knowing of this one.
        restarts: that systemd may make by itself within the trial, one less than so many.
        starts: trials of one slot that a power cut may end, one less than so many.
        poll_s: between two looks at the service.
    """

    ready_s: float = 150.0
    trial_s: float = 600.0
    calm_s: float = 10.0
    restarts: int = 3
    starts: int = 4
    poll_s: float = 1.0


class Updater:
    """Takes one bundle after the other through its steps.

    Args:
        places: of the board.
        service: the agent's.
        limits: of a trial.
        enter: called with the name of each step, before it.
    """

    def __init__(
        self,
        places: Places,
        service: Service,
        limits: Limits,
        enter: Callable[[str], object],
    ) -> None:
        self._places = places
        self._service = service
        self._limits = limits
        self._enter = enter

    def empty_inbox(self) -> None:
        """Go on where a power cut came, then take what waits, until nothing does."""
        self.finish()
        while waiting := self._places.waiting():
            name = waiting[0]
            done = self._places.read_outcome()
            if done is None or done.source != name:
                self._update(name, partial(self._places.open_waiting, name))
            self._places.remove_waiting(name)

    def update(self, file: Path) -> Outcome:
        """Go on where a power cut came, then take this bundle."""
        self.finish()
        return self._update(str(file), partial(os.open, file, os.O_RDONLY | os.O_CLOEXEC))

    def finish(self) -> None:
        """Lead a trial that was interrupted to its verdict."""
        trial = self._places.read_trial()
        if trial is not None:
            self._put_on_trial(trial)

    def _update(self, source: str, opening: Callable[[], int]) -> Outcome:
        before = self._places.current
        try:
            trial = self._prepare(source, opening, before)
        except UserError as mistake:
            refused = Outcome(REFUSED, source, before.version, "", mistake.text)
            self._report(refused)
            return refused
        return self._put_on_trial(trial)

    def _prepare(self, source: str, opening: Callable[[], int], before: Slot) -> Trial:
        places = self._places
        self._enter("take")
        places.trust(before.name)
        shutil.rmtree(places.idle.folder, ignore_errors=True)
        with self._take(opening) as file:
            self._enter("verify")
            bundle = read_bundle(file, Authority.load(places.ca_file))
            require_fit(bundle, floor=places.read_floor())
            content = look_through(file, bundle)
            self._enter("unpack")
            slot = places.idle
            require_room(places.program, content.n_bytes)
            unpack(file, bundle, slot.folder)
        _compile(slot)
        os.sync()
        self._enter("try")
        _try(slot, like=places.state)
        return Trial(
            source=source,
            before=before.name,
            slot=slot.name,
            from_version=before.version,
            to_version=bundle.version,
            floor=bundle.floor,
        )

    def _take(self, opening: Callable[[], int]) -> BinaryIO:
        """Copy a bundle to where only root can write: what is verified stays what it was."""
        try:
            with os.fdopen(opening(), "rb") as given:
                status = os.fstat(given.fileno())
                if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_BUNDLE_BYTES:
                    raise BundleError(
                        f"no file of at most {MAX_BUNDLE_BYTES} bytes", name="bundle.damaged"
                    )
                self._places.incoming.unlink(missing_ok=True)
                require_room(self._places.program, status.st_size)
                copy = self._places.incoming.open("x+b")
                left = status.st_size
                while left and (piece := given.read(min(left, _PIECE))):
                    copy.write(piece)
                    left -= len(piece)
        except OSError as error:
            raise BundleError(
                f"the bundle cannot be read: {error.strerror}", name="bundle.damaged"
            ) from error
        copy.seek(0)
        return copy

    def _put_on_trial(self, trial: Trial) -> Outcome:
        if trial.verdict is None:
            verdict = self._try_out(trial)
            self._enter("verdict")
            trial = attrs.evolve(trial, verdict=verdict)
            self._places.write_trial(trial)
        if trial.verdict:
            self._enter("go back")
            self._places.switch(trial.before)
            self._service.start_anew()
        else:
            self._enter("settle")
            self._places.trust(trial.slot)
            if version_number(trial.floor) > version_number(self._places.read_floor()):
                self._places.write_floor(trial.floor)
        outcome = _outcome(trial)
        self._report(outcome)
        return outcome

    def _try_out(self, trial: Trial) -> str:
        """Run the slot on trial; gives why not, "" when it proved itself."""
        if trial.starts + 1 >= self._limits.starts:
            return f"the board went down {trial.starts} times while it was on trial"
        self._enter("record")
        self._places.write_trial(attrs.evolve(trial, starts=trial.starts + 1))
        self._enter("switch")
        self._places.switch(trial.slot)
        self._enter("restart")
        self._service.start_anew()
        self._enter("watch")
        return self._watch(trial)

    def _watch(self, trial: Trial) -> str:
        limits, began = self._limits, time.monotonic()
        ready_at: float | None = None
        while True:
            state, now = self._service.state(), time.monotonic()
            if state.restarts >= limits.restarts:
                return f"its agent ended {state.restarts} times: {self._words(state.told)}"
            if state.ready and ready_at is None:
                ready_at = now
                # For those who wait for it; should the verdict be another one, that one is told.
                self._places.write_outcome(_outcome(attrs.evolve(trial, verdict="")))
            if ready_at is None:
                if now - began >= limits.ready_s:
                    told = self._words(state.told)
                    return f"its agent was not READY within {limits.ready_s:g} s: {told}"
            elif state.ready:
                calm = now - ready_at >= limits.calm_s and self._another_waits(trial)
                if calm or now - began >= limits.trial_s:
                    return ""
            time.sleep(limits.poll_s)

    def _words(self, told: str) -> str:
        return ", ".join(part for part in (told, self._service.last_words()) if part)

    def _another_waits(self, trial: Trial) -> bool:
        return any(name != trial.source for name in self._places.waiting())

    def _report(self, outcome: Outcome) -> None:
        self._enter("report")
        self._places.write_outcome(outcome)
        self._places.forget_trial()
        self._places.incoming.unlink(missing_ok=True)
        sync_folder(self._places.program)


def require_fit(bundle: Bundle, *, floor: str) -> None:
    """See that a bundle is for this Python and processor, and not older than the floor.

    Raises:
        BundleError: it is not.
    """
    for what, needed, here in (
        ("Python", bundle.python, python_tag()),
        ("machine", bundle.arch, processor()),
    ):
        if needed != here:
            raise BundleError(
                f"the bundle is for {what} {needed}, this board has {here}",
                name="bundle.unfit",
                hint="`fedring fleet bundle --python 3.11 --arch aarch64` makes another one",
            )
    if version_number(bundle.version) < version_number(floor):
        raise BundleError(
            f"version {bundle.version} is older than {floor}, below which this board does not go",
            name="bundle.too-old",
            hint="take a newer bundle, or flash the board anew",
        )


def _outcome(trial: Trial) -> Outcome:
    state = ROLLED_BACK if trial.verdict else UPDATED
    return Outcome(state, trial.source, trial.from_version, trial.to_version, trial.verdict or "")


def _compile(slot: Slot) -> None:
    """Compile once, as root: the agent has no right to, and would do it at each start."""
    subprocess.run(  # noqa: S603 - our own interpreter
        [sys.executable, "-I", "-m", "compileall", "-q", "-o", OPTIMIZED, slot.site],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=False,  # what cannot be compiled shows when it is tried
    )


def _try(slot: Slot, *, like: Path) -> None:
    """Let a slot show that it runs here, with the rights of whoever owns the folder `like`.

    Raises:
        BundleError: it does not.
    """
    owner = like.stat()
    rights: dict[str, object] = {}
    if os.geteuid() == 0:
        rights = {"user": owner.st_uid, "group": owner.st_gid, "extra_groups": []}
    try:
        subprocess.run(  # type: ignore[call-overload]  # noqa: S603
            [slot.launcher, "device", "tryout"],
            cwd="/",
            env={"PATH": os.environ.get("PATH", os.defpath), "PYTHONOPTIMIZE": OPTIMIZED},
            capture_output=True,
            check=True,
            timeout=_TRY_S,
            **rights,
        )
    except (OSError, subprocess.SubprocessError) as error:
        said = (getattr(error, "stderr", None) or b"").decode(errors="replace").strip().splitlines()
        raise BundleError(
            f"version {slot.version} does not run here: {said[-1] if said else error}",
            name="bundle.broken",
            hint="on the desk: make the bundle anew; on the board: fedring device doctor",
        ) from error


def install(
    root: Path, file: Path | None, limits: Limits, enter: Callable[[str], object]
) -> Outcome | None:
    """Finish what was begun, then put a bundle in place.

    Args:
        root: of the board's files.
        file: the bundle; None for those in the inbox, which wait for another updater's end.
        limits: of a trial.
        enter: called with the name of each step, before it.

    Returns:
        How the last update ended; None before the first.

    Raises:
        StateError: another updater is at work, and `file` is given.
    """
    os.umask(0o022)  # the agent reads what root writes
    places = Places(root)
    with closing(places.lock(wait=file is None)):
        updater = Updater(places, Service(), limits, enter)
        if file is None:
            updater.empty_inbox()
            return places.read_outcome()
        return updater.update(file)
