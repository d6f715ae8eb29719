"""A board as a container whose card loses what was not synced, when its power is cut.

Its file system lies on a card that a program of qemu serves, over FUSE and a loop device. When that
is killed nothing reaches the card any more; what was not synced lies in the kernel's memory for
that file system, and goes with it. So it is the same cut as that of a whole machine, at the speed
of this machine's processor.
"""

from __future__ import annotations

import json
import socket
import time
from pathlib import Path
from typing import Final

from fedring.lab.boards.cards import ROOT_START, read_boot
from fedring.lab.boards.containers import Container
from fedring.lab.boards.machines import CardMachine
from fedring.lab.boards.namespaces import Namespace
from fedring.lab.boards.system import program, run
from fedring.lab.processes import Child

_MOUNTED: Final = f"loop,offset={ROOT_START},noatime,commit=600"
"""With so long an interval between commits, what nobody syncs stays in memory."""
_JOURNAL: Final = "[Journal]\nForwardToConsole=yes\nMaxLevelConsole=debug\n"
_ATTACH_S: Final = 30.0


class CardContainer(Container, CardMachine):
    """A container with a card.

    Args:
        namespace: the network that it is connected to, and where its card is mounted.
        folder: there; for its card and its console.
        name: of the machine.
        address: in the network.
    """

    def __init__(self, namespace: Namespace, folder: Path, name: str, address: str) -> None:
        root = folder / "root"
        root.mkdir(exist_ok=True)
        super().__init__(namespace, root, folder, name, address)
        self._namespace = namespace
        self._served = folder / "served"
        self._monitor = folder / "monitor"
        self._reader: Child | None = None

    def __enter__(self) -> CardContainer:
        return self

    @property
    def card_reader(self) -> Child:
        """The program that writes what reaches the card.

        Raises:
            RuntimeError: the card is not in use.
        """
        if self._reader is None or not self._reader.running:
            raise RuntimeError(f"board {self.name} does not use its card")
        return self._reader

    def insert(self, card: Path) -> None:
        """Put a flashed card into it."""
        self.lay_over(card)
        self._attach()
        read_boot(card, self.card / "boot/firmware")  # this kernel may know nothing of FAT
        settings = self.card / "etc/systemd/journald.conf.d/lab.conf"
        settings.parent.mkdir(parents=True, exist_ok=True)
        settings.write_text(_JOURNAL)

    def switch_on(self) -> None:
        """Boot."""
        if self._reader is None or not self._reader.running:
            self._attach()
        (self.folder / "program.log").unlink(missing_ok=True)
        super().switch_on()

    def pull_plug(self) -> None:
        """End it at once: first its card, so that nothing reaches that any more."""
        if self._reader is None:
            return
        self._reader.kill()
        self._reader = None
        super().pull_plug()
        for mounted in (self._root, self._served):
            run(*self._namespace.inside, "umount", "--lazy", mounted)

    def slow_card(self, n_writes: int) -> None:
        """Let the card do so many writes a second at most; 0 for as many as it can."""
        limits = {"path": "/objects/pace", "property": "limits", "value": {"iops-write": n_writes}}
        with socket.socket(socket.AF_UNIX) as monitor:
            monitor.settimeout(_ATTACH_S)
            monitor.connect(str(self._monitor))
            with monitor.makefile("rw") as lines:
                lines.readline()  # its greeting
                for order in (
                    {"execute": "qmp_capabilities"},
                    {"execute": "qom-set", "arguments": limits},
                ):
                    lines.write(json.dumps(order) + "\n")
                    lines.flush()
                    answer = json.loads(lines.readline())
                    if "return" not in answer:
                        raise RuntimeError(f"board {self.name}: {order}: {answer}")

    def _attach(self) -> None:
        self._served.touch()
        self._monitor.unlink(missing_ok=True)
        self._reader = Child.start(
            [
                *(*self._namespace.inside, program("qemu-storage-daemon")),
                *("--object", "throttle-group,id=pace"),
                *("--chardev", f"socket,id=monitor,path={self._monitor},server=on,wait=off"),
                *("--monitor", "chardev=monitor"),
                *("--blockdev", f"driver=file,node-name=file,filename={self.disk}"),
                *("--blockdev", "driver=qcow2,node-name=image,file=file"),
                *("--blockdev", "driver=throttle,node-name=card,file=image,throttle-group=pace"),
                "--export",
                f"type=fuse,id=export,node-name=card,mountpoint={self._served},writable=on",
            ],
            name=f"card of {self.name}",
            log=self.folder / "card.log",
        )
        served = self._namespace.path(self._served)
        deadline = time.monotonic() + _ATTACH_S
        while served.stat().st_size == 0:
            if not self._reader.running or time.monotonic() > deadline:
                raise RuntimeError(f"board {self.name} has no card: {self._reader.last_words()}")
            time.sleep(0.01)
        run(*self._namespace.inside, "mount", "-o", _MOUNTED, self._served, self._root)
