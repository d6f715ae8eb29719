"""Where an update happens on a board, and what of it survives a power cut.

    /opt/fedring/slots/a, b          one agent each: `fedring`, `site/`
    /opt/fedring/current             link to the slot that runs
    /opt/fedring/proven              link to the slot that proved itself last; the updater's code
    /opt/fedring/incoming            a bundle while it is looked at: nobody else may write to it
    /var/lib/fedring/inbox/*.fedring what the agent was handed; it may write anything here
    /var/lib/fedring-update/         of root, readable by the agent:
        trial.json                   a slot on trial; there from before the switch to the verdict
        outcome.json                 how the last update ended
        floor                        the oldest version that may come next
        orders                       number of the owner's last order before this board was flashed

Files appear whole or not at all, and links change by rename: `current` always points to a whole
slot. What a rename brings in is on the disk before it, and the rename before the next step.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import attrs
from attrs import frozen

from fedring.shared.bundles import LAUNCHER_FILE, SITE_FOLDER, SUFFIX
from fedring.shared.state import FolderLock, lock_folder, prepare_folder, sync_folder

SLOTS: Final = ("a", "b")
UNKNOWN: Final = "unknown"
_STATE: Final = ("var", "lib", "fedring")


@frozen
class Slot:
    """One of the two places for an agent.

    Attributes:
        name: "a" or "b".
        folder: with launcher and `site`.
    """

    name: str
    folder: Path

    @property
    def site(self) -> Path:
        """The packages."""
        return self.folder / SITE_FOLDER

    @property
    def launcher(self) -> Path:
        """Starts the command `fedring` of this slot, with the Python it was made for."""
        return self.folder / LAUNCHER_FILE

    @property
    def version(self) -> str:
        """Version of fedring in it, as its packages say."""
        for notes in self.site.glob("fedring-*.dist-info"):
            return notes.name.removeprefix("fedring-").removesuffix(".dist-info")
        return UNKNOWN


@frozen
class Trial:
    """A slot that has not proved itself yet.

    Attributes:
        source: what asked for it: name of the file in the inbox, or a path.
        before: slot to go back to.
        slot: slot on trial.
        from_version: of the one before.
        to_version: of the one on trial.
        floor: of its bundle.
        starts: how often its trial began; a power cut begins it again.
        verdict: None while it lasts; "" when it has proved itself, else why not.
    """

    source: str
    before: str
    slot: str
    from_version: str
    to_version: str
    floor: str
    starts: int = 0
    verdict: str | None = None


@frozen
class Outcome:
    """How an update ended, for the agent to publish.

    Attributes:
        state: "updated", "rolled_back" or "refused".
        source: see `Trial`.
        from_version: ran before.
        to_version: was to run.
        reason: why not, "" when updated.
    """

    state: str
    source: str
    from_version: str
    to_version: str
    reason: str = ""


class Places:
    """The folders of one board.

    Args:
        root: `/`; another folder in tests.
    """

    def __init__(self, root: Path = Path("/")) -> None:
        self._program = root / "opt" / "fedring"
        self.state = root.joinpath(*_STATE)
        self.record = root / "var" / "lib" / "fedring-update"
        self.ca_file = root / "etc" / "fedring" / "ca.crt"
        self.inbox = self.state / "inbox"
        self.incoming = self._program / "incoming"

    @classmethod
    def around(cls, state: Path) -> Places | None:
        """The board whose agent has this state folder; None where nobody takes bundles.

        Args:
            state: of the agent: the board's `/var/lib/fedring`, or a folder in there.
        """
        for home in (state.absolute(), state.absolute().parent):
            root = home.parents[len(_STATE) - 1] if len(home.parents) >= len(_STATE) else home
            places = cls(root)
            if places.state == home and places.inbox.is_dir():
                return places
        return None

    @property
    def program(self) -> Path:
        """Holds the slots and the links to them."""
        return self._program

    def lock(self, *, wait: bool) -> FolderLock:
        """Be the only updater.

        Args:
            wait: for the end of another one.

        Raises:
            StateError: another one runs.
        """
        if not self.record.exists():
            prepare_folder(self.record)
            self.record.chmod(0o755)
        return lock_folder(self.record, wait=wait)

    # Slots

    def slot(self, name: str) -> Slot:
        return Slot(name, self._program / "slots" / name)

    @property
    def current(self) -> Slot:
        """The slot that runs."""
        return self.slot(os.readlink(self._program / "current").rpartition("/")[2])

    @property
    def idle(self) -> Slot:
        """The other one."""
        return self.slot(SLOTS[1 - SLOTS.index(self.current.name)])

    def switch(self, slot: str) -> None:
        """Make a slot the one that runs, at its next start; durable."""
        self._point("current", slot)

    def trust(self, slot: str) -> None:
        """Make a slot the one whose code updates this board; durable."""
        self._point("proven", slot)

    def _point(self, link: str, slot: str) -> None:
        new = self._program / f"{link}.new"
        new.unlink(missing_ok=True)
        new.symlink_to(f"slots/{slot}")
        sync_folder(self._program)
        new.replace(self._program / link)
        sync_folder(self._program)

    # Records

    def read_trial(self) -> Trial | None:
        """The trial that is under way, if any."""
        fields = self._read("trial.json")
        return None if fields is None else Trial(**fields)

    def write_trial(self, trial: Trial) -> None:
        self._write("trial.json", json.dumps(attrs.asdict(trial), indent=1))

    def forget_trial(self) -> None:
        (self.record / "trial.json").unlink(missing_ok=True)
        sync_folder(self.record)

    def read_outcome(self) -> Outcome | None:
        """How the last update ended; None before the first."""
        fields = self._read("outcome.json")
        return None if fields is None else Outcome(**fields)

    def write_outcome(self, outcome: Outcome) -> None:
        self._write("outcome.json", json.dumps(attrs.asdict(outcome), indent=1))

    def read_floor(self) -> str:
        """The oldest version that may come next; "0.0.0" where nothing is set."""
        try:
            return (self.record / "floor").read_text("ascii").strip()
        except FileNotFoundError:
            return "0.0.0"

    def read_orders(self) -> int:
        """Number of the last order that was given before this board was flashed; 0 if not known."""
        try:
            return int((self.record / "orders").read_text("ascii"))
        except FileNotFoundError:
            return 0

    def write_floor(self, version: str) -> None:
        self._write("floor", version)

    def _read(self, name: str) -> dict[str, Any] | None:
        try:
            fields: dict[str, Any] = json.loads((self.record / name).read_text("utf-8"))
        except FileNotFoundError:
            return None
        return fields

    def _write(self, name: str, text: str) -> None:
        new = self.record / f"{name}.new"
        with new.open("w", encoding="utf-8") as file:
            file.write(text + "\n")
            file.flush()
            os.fsync(file.fileno())
            os.fchmod(file.fileno(), 0o644)  # the agent tells others
        new.replace(self.record / name)
        sync_folder(self.record)

    # The inbox: the agent's, who may be hostile. No link in it is followed, nor one in its place.

    def waiting(self) -> list[str]:
        """Names of the bundles in the inbox, as the agent numbered them, oldest first.

        None, where the inbox is none: an update by hand must not depend on what the agent made.
        """
        try:
            with self._open_inbox() as folder:
                names = [name for name in os.listdir(folder) if name.endswith(SUFFIX)]
        except (FileNotFoundError, NotADirectoryError):
            return []
        return sorted(names, key=lambda name: (len(name), name))

    def open_waiting(self, name: str) -> int:
        """Open a bundle in the inbox; gives a descriptor.

        Raises:
            OSError: it is a link, or gone.
        """
        with self._open_inbox() as folder:
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            return os.open(name, flags, dir_fd=folder)

    def remove_waiting(self, name: str) -> None:
        with self._open_inbox() as folder:
            try:
                os.unlink(name, dir_fd=folder)
            except IsADirectoryError:
                # Not removed: it may be deeper than we can go. Under a name that is still free.
                away = f"{secrets.token_hex(8)}.folder"
                os.rename(name, away, src_dir_fd=folder, dst_dir_fd=folder)
            except FileNotFoundError:
                return
            os.fsync(folder)

    @contextmanager
    def _open_inbox(self) -> Iterator[int]:
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        folder = os.open(self.inbox, flags)
        try:
            yield folder
        finally:
            os.close(folder)
