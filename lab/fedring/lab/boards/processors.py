"""Processors that a whole machine may have, and what machines with them are called and made of."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from attrs import frozen

from fedring.fleet.bundles.targets import Target
from fedring.lab.boards.system import AMD_MACHINES, ARM_MACHINES
from fedring.lab.boards.trees import AMD_KERNEL, ARM_BOARD, ARM_KERNEL, BOARD, Recipe

_KVM: Final = Path("/dev/kvm")
_MODULES: Final = Path("/sys/module")


@frozen
class Processor:
    """One kind of machine.

    Attributes:
        target: which bundles run on it.
        system: tree that lies on its card.
        kernel: tree of its kernel.
        programs: that start it and make its card, each with its package.
        emulator: the one of them that is the machine.
        machine: as the emulator calls it.
        interpreted: processor that the emulator imitates; knows what numpy's wheels demand.
        console: as the kernel calls it.
    """

    target: Target
    system: Recipe
    kernel: Recipe
    programs: Mapping[str, str]
    emulator: str
    machine: str
    interpreted: str
    console: str

    @property
    def native(self) -> bool:
        """Whether this machine's own processor runs such a machine, at its full speed.

        It takes more than a /dev/kvm that can be opened: one without the processor's own support,
        as some rented machines have, starts only kernels that were made for it, and Debian's are
        not. Seen: `emulation failure`, after a minute in which the kernel counted its memory.
        """
        supported = any((_MODULES / name).exists() for name in ("kvm_intel", "kvm_amd"))
        ours = platform.machine() == self.target.arch
        return ours and supported and os.access(_KVM, os.R_OK | os.W_OK)

    @property
    def options(self) -> tuple[str, ...]:
        """Of the emulator: machine and processor."""
        kind, processor = ("kvm", "host") if self.native else ("tcg", self.interpreted)
        return ("-M", f"{self.machine},accel={kind}", "-cpu", processor)


ARM64: Final = Processor(
    target=Target("3.11", "aarch64"),
    system=ARM_BOARD,
    kernel=ARM_KERNEL,
    programs=ARM_MACHINES,
    emulator="qemu-system-aarch64",
    machine="virt",
    interpreted="cortex-a72",
    console="ttyAMA0",
)
"""A Raspberry Pi's."""
AMD64: Final = Processor(
    target=Target("3.11", "x86_64"),
    system=BOARD,
    kernel=AMD_KERNEL,
    programs=AMD_MACHINES,
    emulator="qemu-system-x86_64",
    machine="q35",
    interpreted="Nehalem",
    console="ttyS0",
)
"""That of most servers and laptops, which often runs it itself."""
