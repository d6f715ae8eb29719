"""A board as a container: the same system, the same first boot, the processor of this machine.

systemd runs as its first process, from systemd-nspawn; cloud-init finds its settings in
/boot/firmware as on a card. What it cannot show: another processor, a clock of its own, a power cut
that loses what was not synced.
"""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path
from typing import Final

from fedring.fleet.bundles.targets import Target
from fedring.lab.boards.cards import read_boot
from fedring.lab.boards.guard import MARK, first_processes
from fedring.lab.boards.machines import Machine
from fedring.lab.boards.namespaces import BRIDGE, Namespace
from fedring.lab.boards.system import program, run

_POWER_OFF_S: Final = 30.0


class Container(Machine):
    """A machine that shares this one's kernel.

    Args:
        namespace: the network that it is connected to, and where its file system is mounted.
        root: its file system, as it is seen in there.
        folder: there; for its console.
        name: of the machine.
        address: in the network.
    """

    target = Target("3.11", "x86_64")

    def __init__(
        self,
        namespace: Namespace,
        root: Path,
        folder: Path,
        name: str,
        address: str,
    ) -> None:
        super().__init__(name, folder)
        self._namespace = namespace
        self._address = address
        self._root = root

    def __enter__(self) -> Container:
        return self

    @property
    def card(self) -> Path:
        """Its file system, seen from outside; while it is off, files may be put there."""
        return self._namespace.path(self._root)

    @property
    def console(self) -> str:
        """All that it has printed on its console."""
        log = self.folder / "program.log"
        return log.read_text(errors="replace") if log.exists() else ""

    @property
    def told_by_installer(self) -> str:
        """Last words of the installer, "" before that."""
        status = self.card / "boot/firmware/fedring/status.txt"
        return status.read_text() if status.exists() else ""

    def insert(self, card: Path) -> None:
        """Put a flashed card into it: only the boot partition matters."""
        read_boot(card, self.card / "boot/firmware")

    def switch_on(self) -> None:
        """Boot."""
        known = self._namespace.hosts.read_text()
        (self.card / "etc/hosts").write_text(f"{known}127.0.1.1 {self.name}\n")
        network = self.card / "etc/systemd/network/10-lan.network"
        network.write_text(f"[Match]\nName=host0\n[Network]\nAddress={self._address}/24\n")
        nspawn = [
            program("systemd-nspawn"),
            "--quiet",
            "--boot",
            f"--directory={self._root}",
            f"--machine={self.name}-{os.getpid()}",
            f"--setenv={MARK}={self.folder}",
            "--register=no",  # the first process of this machine may be another than systemd
            "--keep-unit",
            "--resolv-conf=off",
            "--timezone=off",
            f"--network-bridge={BRIDGE}",
            "--console=read-only",
        ]
        self.start([*self._namespace.inside, *nspawn])

    def pull_plug(self) -> None:
        """End it at once. What it wrote stays, synced or not."""
        if self.is_on:
            with suppress(RuntimeError):  # it has not got so far
                os.kill(self._first_process(), signal.SIGKILL)  # and all others with it
        super().pull_plug()

    def power_off(self) -> None:
        """Shut it down in order."""
        child = self.child
        child.send(signal.SIGTERM)  # systemd-nspawn passes it on as a wish to shut down
        child.wait(_POWER_OFF_S)

    def run(self, *command: str, data: bytes = b"", timeout_s: float | None = None) -> str:
        """Run a command on it as root, and give what it prints; see `Machine.run`."""
        environment = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
        return run(
            *self._enter(),
            *command,
            data=data,
            timeout_s=timeout_s or self.patience_s,
            environment=environment,
        )

    def reads(self, file: str) -> str:
        """Give the text of a file on it."""
        return (self.card / file.removeprefix("/")).read_text()

    def last_words(self) -> str:
        """The end of its console, and of its journal when it still talks."""
        words = super().last_words()
        try:
            return f"{words}\n{self.run('journalctl', '--no-pager', '-n', '60', timeout_s=20)}"
        except (RuntimeError, TimeoutError) as error:
            return f"{words}\n(no journal: {str(error).splitlines()[0]})"

    def _enter(self) -> list[str]:
        return [
            program("nsenter"),
            f"--target={self._first_process()}",
            *("--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--root", "--wd", "--"),
        ]

    def _first_process(self) -> int:
        """The machine's systemd."""
        if self.is_on:
            for process in first_processes(str(self.folder)):
                return process
        raise RuntimeError(f"{self.name} is off, or has not started yet")
