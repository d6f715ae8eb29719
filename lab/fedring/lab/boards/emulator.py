"""A board as a whole machine: its own processor, its own clock, its own disk, its own memory.

Where this machine's processor cannot run it (`processors.py`) qemu interprets every instruction, so
that it is slow, and no measure of a real board's speed. What was not synced lies in its memory
alone: when qemu is killed it is lost, as in a power cut.
"""

from __future__ import annotations

import re
import shlex
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from fedring.lab.boards.machines import CardMachine
from fedring.lab.boards.namespaces import Namespace
from fedring.lab.boards.processors import Processor
from fedring.lab.boards.system import program, run
from fedring.lab.boards.trees import tree
from fedring.lab.processes import Child

_KERNEL_ARGUMENTS: Final = (
    "root=/dev/vda2 rw console={console} net.ifnames=0 quiet loglevel=4 "
    # Nobody attacks it, and interpreted they make it much slower.
    "mitigations=off "
    "systemd.show_status=1 systemd.journald.forward_to_console=1"
)
MODULES: Final = (
    "virtio_mmio",
    "virtio_pci",
    "virtio_blk",
    "virtio_net",
    "virtio_rng",
    "crc32c_generic",
    "ext4",
    "vfat",
    "nls_cp437",
    "nls_ascii",
    "nls_iso8859-1",
)
"""What the kernel needs to find such a machine's disk, network and randomness."""
_INIT: Final = """\
#!/bin/sh
mount -t proc none /proc; mount -t sysfs none /sys; mount -t devtmpfs none /dev
while read module; do insmod /modules/$module; done </modules/order
until [ -b /dev/vda2 ]; do sleep .1; done
mount -t ext4 -o rw /dev/vda2 /root
mount -o move /dev /root/dev
exec switch_root /root /lib/systemd/systemd
"""
_PROMPT: Final = b"(qemu) "
_APPLETS: Final = ("sh", "mount", "insmod", "switch_root", "sleep")


class Emulator(CardMachine):
    """A board with a card.

    Args:
        namespace: the network that it is connected to.
        processor: of the board.
        folder: there; for its console.
        name: of the board.
        number: another one for each board of the network, 1 to 255.
        login: program and arguments that run a command on it by ssh, as a user who may use sudo.
        memory_mib: of the board.
    """

    def __init__(
        self,
        namespace: Namespace,
        processor: Processor,
        folder: Path,
        name: str,
        number: int,
        *,
        login: Sequence[str | Path],
        memory_mib: int = 512,
    ) -> None:
        super().__init__(name, folder)
        self.target = processor.target
        self._processor = processor
        if not processor.native:
            self.patience_s = 2400.0  # a minute's start takes ten of them where others work, too
            self.poll_s = 5.0  # a look by ssh costs it seconds
        self._login = tuple(map(str, login))
        self._serial = folder / "console.log"
        self._monitor = folder / "monitor"
        network = f"tap,id=net,ifname={namespace.plug(name)},script=no,downscript=no"
        self._command = [
            *(*namespace.inside, "nice", "-n", "10", program(processor.emulator)),
            *(*processor.options, "-smp", "2", "-m", str(memory_mib)),
            *("-nographic", "-no-reboot", "-serial", f"file:{self._serial}"),
            *("-monitor", f"unix:{self._monitor},server=on,wait=off"),
            *self._beginning(),
            *("-netdev", network),
            *("-device", f"virtio-net-pci,netdev=net,romfile=,mac=52:54:00:00:00:{number:02x}"),
            *("-device", "virtio-rng-pci", "-rtc", "base=utc"),
            *("-drive", f"if=none,file={self.disk},format=qcow2,id=card"),
            *("-device", "virtio-blk-pci,drive=card"),
        ]

    def __enter__(self) -> Emulator:
        return self

    def _beginning(self) -> list[str]:
        """Give options of qemu that name what it starts."""
        kernel = tree(self._processor.kernel)
        (image,) = (kernel / "boot").glob("vmlinuz-*")
        initrd = self.folder / "initrd.gz"
        make_initrd(kernel, initrd)
        arguments = _KERNEL_ARGUMENTS.format(console=self._processor.console)
        return ["-kernel", str(image), "-initrd", str(initrd), "-append", arguments]

    @property
    def console(self) -> str:
        """All that it has printed on its console since it was switched on."""
        return self._serial.read_text(errors="replace") if self._serial.exists() else ""

    @property
    def card_reader(self) -> Child:
        """The program that writes what reaches the card: the whole machine."""
        return self.child

    @property
    def told_by_installer(self) -> str:
        """Last words of the installer, as cloud-init shows them on the console."""
        told = re.search(r"fedring: ((?:installed|failed): .*)", self.console)
        return f" {told[1]}" if told else ""

    def insert(self, card: Path) -> None:
        """Put a card into it."""
        self.lay_over(card)

    def switch_on(self) -> None:
        """Boot."""
        for file in (self._serial, self._monitor):
            file.unlink(missing_ok=True)
        self.start(self._command)

    def slow_card(self, n_writes: int) -> None:
        """Let the card do so many writes a second at most; 0 for as many as it can."""
        self.tell(f"block_set_io_throttle card 0 0 0 0 0 {n_writes}")

    def tell(self, order: str) -> str:
        """Tell qemu's monitor something, and give its answer.

        Raises:
            RuntimeError: qemu says that something is wrong.
        """
        with socket.socket(socket.AF_UNIX) as monitor:
            monitor.settimeout(self.patience_s)
            self.await_(lambda: _connects(monitor, self._monitor), "qemu's monitor", poll_s=0.05)
            _read_until_prompt(monitor)
            monitor.sendall(f"{order}\n".encode())
            # The first line is what we typed.
            answer = _read_until_prompt(monitor).removesuffix(_PROMPT.decode()).partition("\n")[2]
        if "Error" in answer or "unknown command" in answer:
            raise RuntimeError(f"board {self.name}: {order}: {answer.strip()}")
        return answer

    def run(self, *command: str, data: bytes = b"", timeout_s: float | None = None) -> str:
        """Run a command on it as root, by ssh; see `Machine.run`."""
        typed = f"sudo -n -- {shlex.join(command)}"
        return run(*self._login, typed, data=data, timeout_s=timeout_s or self.patience_s)

    def last_words(self) -> str:
        """The end of its console, and what qemu said."""
        log = self.folder / "program.log"
        return f"{super().last_words()}\n{log.read_text(errors='replace') if log.exists() else ''}"


def _connects(monitor: socket.socket, path: Path) -> bool:
    try:
        monitor.connect(str(path))
    except (FileNotFoundError, ConnectionRefusedError):
        return False
    return True


def _read_until_prompt(monitor: socket.socket) -> str:
    said = b""
    while not said.endswith(_PROMPT):
        piece = monitor.recv(4096)
        if not piece:
            raise RuntimeError(f"qemu's monitor is gone: {said.decode(errors='replace')}")
        said += piece
    return said.decode(errors="replace")


def make_initrd(kernel: Path, file: Path) -> None:
    """Write the first file system of such a machine: busybox, the modules, and a way to the card.

    Args:
        kernel: a tree with busybox and one kernel's modules.
        file: to be written.
    """
    (modules,) = (kernel / "lib/modules").iterdir()
    run("depmod", "-b", kernel, modules.name)
    folder = file.with_suffix(".folder")
    for name in ("bin", "dev", "proc", "sys", "modules", "root"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / "bin/busybox").write_bytes((kernel / "bin/busybox").read_bytes())
    (folder / "bin/busybox").chmod(0o755)
    for applet in _APPLETS:
        link = folder / "bin" / applet
        link.unlink(missing_ok=True)
        link.symlink_to("busybox")
    ordered = modules_in_order(modules / "modules.dep")
    for path in ordered:
        (folder / "modules" / Path(path).name).write_bytes((modules / path).read_bytes())
    names = [Path(path).name for path in ordered]
    (folder / "modules/order").write_text("\n".join(names) + "\n")
    (folder / "init").write_text(_INIT)
    (folder / "init").chmod(0o755)
    pack = f"cd '{folder}' && find . | cpio -o -H newc --quiet | gzip -1 >'{file}'"
    run("sh", "-euc", pack)


def modules_in_order(dependencies: Path) -> list[str]:
    """Give the paths of `MODULES` and of what they need, each after what it needs itself.

    Args:
        dependencies: file `modules.dep` of a kernel.
    """
    needed = {}
    for line in dependencies.read_text().splitlines():
        path, _, before = line.partition(":")
        needed[path] = before.split()
    by_name = {Path(path).name.partition(".")[0]: path for path in needed}
    ordered: dict[str, None] = {}
    for module in MODULES:
        if module in by_name:  # else it is built into the kernel
            path = by_name[module]
            ordered |= dict.fromkeys([*reversed(needed[path]), path])
    return list(ordered)
