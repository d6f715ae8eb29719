"""What every board of the lab can do: be switched on, be waited for, lose its power."""

from __future__ import annotations

import shutil
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from fedring.fleet.bundles.targets import Target
from fedring.lab.boards.system import run
from fedring.lab.processes import Child

PATIENCE_S: Final = 120.0
"""Far longer than anything takes on an idle machine: only a failure waits so long."""
USER: Final = "pi"
"""Of the boards and of the server; may use sudo, and lets the laptop in."""
_N_WORDS: Final = 40


class Machine(ABC):
    """A board; leaving its `with` block takes its power away.

    Args:
        name: of the board.
        folder: there; for its console and the words of the program that runs it.
    """

    target: Target
    """Which bundles run on it."""
    user: str = USER
    """Who lets the laptop in."""
    patience_s: float = PATIENCE_S
    """Longer than anything takes on it."""
    poll_s: float = 0.1
    """Between two looks at it."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.folder = folder
        self._child: Child | None = None

    def __enter__(self) -> Machine:
        return self

    def __exit__(self, *_: object) -> None:
        self.pull_plug()

    @property
    def child(self) -> Child:
        """The program that runs it.

        Raises:
            RuntimeError: it is off.
        """
        if self._child is None or not self._child.running:
            raise RuntimeError(f"board {self.name} is off")
        return self._child

    @property
    def is_on(self) -> bool:
        return self._child is not None and self._child.running

    @property
    @abstractmethod
    def console(self) -> str:
        """All that it has printed on its console."""

    @property
    @abstractmethod
    def told_by_installer(self) -> str:
        """Last words of the installer, "" before that."""

    @abstractmethod
    def insert(self, card: Path) -> None:
        """Put a flashed card, which is an image, into it."""

    @abstractmethod
    def switch_on(self) -> None:
        """Boot."""

    @abstractmethod
    def run(self, *command: str, data: bytes = b"", timeout_s: float | None = None) -> str:
        """Run a command on it as root, and give what it prints.

        Args:
            command: and its arguments.
            data: what it reads.
            timeout_s: `patience_s` by default.

        Raises:
            RuntimeError: it fails, or the board has not got so far.
        """

    def reads(self, file: str) -> str:
        """Give the text of a file on it."""
        return self.run("cat", file)

    def service(self, unit: str, fact: str) -> str:
        """Give what systemd knows of a unit, such as its `ActiveState`."""
        return self.run("systemctl", "show", "--property", fact, "--value", unit).strip()

    def start(self, command: Sequence[str | Path]) -> None:
        """Run it by this program."""
        self._child = Child.start(
            command, name=f"board {self.name}", log=self.folder / "program.log"
        )

    def pull_plug(self) -> None:
        """End it at once, whatever it does; nothing happens when it is off."""
        if self._child is not None:
            self._child.kill()

    def await_(
        self,
        condition: Callable[[], object],
        what: str,
        patience_s: float | None = None,
        poll_s: float | None = None,
    ) -> float:
        """Wait until a condition holds, and give how long that took, in seconds.

        Args:
            condition: to be looked at again and again.
            what: it means, for people.
            patience_s: `patience_s` of the machine by default.
            poll_s: likewise.

        Raises:
            TimeoutError: it does not hold in time, or the board has ended; with its last words.
        """
        patience_s = self.patience_s if patience_s is None else patience_s
        began = time.monotonic()
        while not condition():
            ended = self._child is None or not self._child.running
            if ended or time.monotonic() - began > patience_s:
                why = "the board has ended" if ended else f"not within {patience_s:.0f} s"
                raise TimeoutError(f"{self.name}: {what}: {why}\n{self.last_words()}")
            time.sleep(self.poll_s if poll_s is None else poll_s)
        return time.monotonic() - began

    def last_words(self) -> str:
        """The end of its console."""
        return "\n".join(self.console.splitlines()[-_N_WORDS:])


class CardMachine(Machine):
    """A board with a card of its own: pulling its plug loses what was not synced."""

    @property
    def disk(self) -> Path:
        """What its card holds."""
        return self.folder / "disk.qcow2"

    @property
    @abstractmethod
    def card_reader(self) -> Child:
        """The program that writes what reaches the card."""

    @abstractmethod
    def slow_card(self, n_writes: int) -> None:
        """Let the card do so many writes a second at most; 0 for as many as it can."""

    def lay_over(self, card: Path) -> None:
        """Begin with the content of a card; what the board writes lies beside the image."""
        base = ("-F", "raw", "-b", card)
        run("qemu-img", "create", "-q", "-f", "qcow2", *base, self.disk)

    def keep(self, moment: str) -> None:
        """Copy the card as a power cut at this moment leaves it, and go on."""
        self.card_reader.freeze()
        try:
            shutil.copyfile(self.disk, self._kept(moment))
        finally:
            self.card_reader.thaw()

    def go_back(self, moment: str) -> None:
        """Switch it on with the card as it was kept; its console begins anew."""
        shutil.copyfile(self._kept(moment), self.disk)
        self.switch_on()

    def forget(self, moment: str) -> None:
        """Throw a kept card away."""
        self._kept(moment).unlink()

    def _kept(self, moment: str) -> Path:
        return self.folder / f"{moment}.qcow2"
