"""Child processes that never outlive their parent, whatever kills it.

Each child gets the kernel's death signal (`tether.py`): when we die, even by SIGKILL, it is killed.
It has its own process group, so that Ctrl-C in the terminal reaches us alone and we decide how it
ends, and it writes into a log file.

The kernel sends the death signal when the *thread* that started the child ends, and forgets it when
the child changes its user: children are started from the main thread and keep our user.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from fedring.lab import tether
from fedring.shared.errors import UserError

GRACE_S: Final = 5.0


class Child:
    """A running program; made by `start`.

    Attributes:
        name: for people.
        log: file with all that it says.
    """

    def __init__(self, process: subprocess.Popen[bytes], name: str, log: Path) -> None:
        self.name = name
        self.log = log
        self._process = process

    @classmethod
    def start(
        cls,
        command: Sequence[str | Path],
        *,
        name: str,
        log: Path,
        environment: Mapping[str, str] | None = None,
    ) -> Child:
        """Start a program.

        Args:
            command: program and arguments; a bare name is looked for in PATH.
            name: for people.
            log: file to which it writes, appended to.
            environment: instead of ours.

        Raises:
            UserError: there is no such program.
            RuntimeError: called in another thread than the main one.
        """
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError(f"{name} would be killed as soon as this thread ends")
        program = shutil.which(command[0])
        if program is None:
            raise UserError(
                f"{name}: no program {command[0]} on this machine", name="process.missing-program"
            )
        tethered = [sys.executable, "-I", "-S", tether.__file__, str(os.getpid()), program]
        with log.open("ab") as output:
            process = subprocess.Popen(  # noqa: S603  # the caller's program, without a shell
                [*tethered, *command[1:]],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
                process_group=0,
            )
        return cls(process, name, log)

    def __repr__(self) -> str:
        return f"<{self.name}, process {self.pid}, {'running' if self.running else 'ended'}>"

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    @property
    def exit_status(self) -> int | None:
        """None while it runs; negative when a signal ended it."""
        return self._process.poll()

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the program; nothing happens when it has ended."""
        self._process.send_signal(number)

    def freeze(self) -> None:
        """Stop it where it stands, and wait until all its threads do."""
        self.send(signal.SIGSTOP)
        os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)

    def thaw(self) -> None:
        """Let it go on."""
        self.send(signal.SIGCONT)

    def kill(self) -> None:
        """End it and whatever it has started, without a chance to clean up."""
        if self.running:
            os.killpg(self.pid, signal.SIGKILL)
            self._process.wait()

    def stop(self, grace_s: float = GRACE_S) -> int:
        """Ask it to end, kill it after `grace_s` seconds, and give its exit status."""
        stop_all([self], grace_s)
        return self._process.wait()

    def wait(self, timeout_s: float | None = None) -> int:
        """Wait for its end and give its exit status.

        Raises:
            TimeoutError: it still runs after `timeout_s` seconds.
        """
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"{self.name} still runs after {timeout_s} s") from None

    async def ended(self) -> int:
        """Wait for its end without blocking the event loop, and give its exit status."""
        if not self.running:
            return self._process.wait()
        over = asyncio.Event()
        loop = asyncio.get_running_loop()
        descriptor = os.pidfd_open(self.pid)
        loop.add_reader(descriptor, over.set)
        try:
            await over.wait()
        finally:
            loop.remove_reader(descriptor)
            os.close(descriptor)
        return self._process.wait()

    def last_words(self, n_lines: int = 5) -> str:
        """The end of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-n_lines:])


def stop_all(children: Iterable[Child], grace_s: float = GRACE_S) -> None:
    """Ask all children to end (SIGTERM), and kill those that still run after `grace_s` seconds."""
    children = list(children)
    for child in children:
        child.send(signal.SIGTERM)
    deadline = time.monotonic() + grace_s
    for child in children:
        try:
            child.wait(max(0.0, deadline - time.monotonic()))
        except TimeoutError:
            child.kill()
