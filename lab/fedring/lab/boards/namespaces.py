"""A network and mounts of our own, for boards and for the machines that they talk to.

They belong to a process that does nothing. When it ends, or we do, whatever kills us, the kernel
takes them away, with all connections, addresses and mounted file systems.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Final

from fedring.lab.boards.system import program, run
from fedring.lab.processes import Child

_START_S: Final = 15.0


BRIDGE: Final = "lan"
"""The switch to which all machines are connected."""
LAPTOP: Final = "192.168.1.2"
"""Where programs that are started here have their address."""


class Namespace:
    """A network and mounts that are seen only by what is started here.

    Args:
        folder: for its log; there.
        hosts: addresses in 192.168.1.0/24 of the machines in this network, by their names.
    """

    def __init__(self, folder: Path, hosts: Mapping[str, str] = MappingProxyType({})) -> None:
        self.hosts = folder / "hosts"
        lines = [f"{address} {name}" for name, address in hosts.items()]
        self.hosts.write_text("\n".join(["127.0.0.1 localhost", *lines]) + "\n")
        self._folder = folder

    def __enter__(self) -> Namespace:
        own = ["--net", "--mount", "--propagation", "private"]
        self._holder = Child.start(
            [program("unshare"), *own, "sleep", "infinity"],
            name="the lab's namespace",
            log=self._folder / "namespace.log",
        )
        self._await_start()
        for change in (
            f"link set lo up|link add {BRIDGE} type bridge|link set {BRIDGE} up"
            f"|address add {LAPTOP}/24 dev {BRIDGE}"
        ).split("|"):
            run(*self.inside, "ip", *change.split())
        run(*self.inside, "mount", "--bind", self.hosts, "/etc/hosts")
        # Where nspawn leaves folders behind.
        run(*self.inside, "mkdir", "-p", "/run/systemd/nspawn")
        run(*self.inside, "mount", "-t", "tmpfs", "tmpfs", "/run/systemd/nspawn")
        return self

    def __exit__(self, *_: object) -> None:
        self._holder.kill()

    @property
    def inside(self) -> tuple[str, ...]:
        """Runs a program in here: to be put before it. It ends when we end."""
        return (*self._enter, "--net", "--")

    @property
    def mounts(self) -> tuple[str, ...]:
        """Runs a program with what is mounted here, but in the network of this machine."""
        return (*self._enter, "--")

    def plug(self, name: str) -> str:
        """Make a socket of the switch for a machine that is emulated, and give its name."""
        socket = f"tap-{name}"
        run(*self.inside, "ip", "tuntap", "add", "dev", socket, "mode", "tap")
        run(*self.inside, "ip", "link", "set", socket, "master", BRIDGE, "up")
        return socket

    @property
    def _enter(self) -> tuple[str, ...]:
        return (program("nsenter"), f"--target={self._holder.pid}", "--mount")

    def path(self, path: Path) -> Path:
        """Where a path of in here is seen from outside."""
        return Path(f"/proc/{self._holder.pid}/root") / path.relative_to("/")

    def overlay(self, lower: Sequence[Path], folder: Path) -> Path:
        """Mount a file system that begins as `lower`, and whose changes go into `folder`.

        Args:
            lower: layers, the uppermost first, which stay as they are.
            folder: new or from before; gets `upper` (the changes) and `root` (the whole).

        Returns:
            The whole, as it is seen in here.
        """
        upper, work, root = (folder / name for name in ("upper", "work", "root"))
        for part in (upper, work, root):
            part.mkdir(parents=True, exist_ok=True)
        options = f"lowerdir={':'.join(map(str, lower))},upperdir={upper},workdir={work}"
        run(*self.inside, "mount", "-t", "overlay", "overlay", "-o", options, root)
        return root

    def _await_start(self) -> None:
        """Wait until the process has its namespaces: then it is another program."""
        deadline = time.monotonic() + _START_S
        name = Path(f"/proc/{self._holder.pid}/comm")
        while name.read_text() != "sleep\n":
            if not self._holder.running or time.monotonic() > deadline:
                raise RuntimeError(f"no namespace: {self._holder.last_words()}")
            time.sleep(0.01)
