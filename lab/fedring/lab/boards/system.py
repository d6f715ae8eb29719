"""Programs of this system that must be there, and must succeed."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from fedring.shared.errors import UserError

PATH: Final = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])
"""Debian keeps programs for administrators where a user's PATH does not look."""

CONTAINERS: Final = {
    "ip": "iproute2",
    "mcopy": "mtools",
    "mke2fs": "e2fsprogs",
    "mkfs.vfat": "dosfstools",
    "mmdebstrap": "mmdebstrap",
    "nsenter": "util-linux",
    "sfdisk": "fdisk",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
    "systemd-nspawn": "systemd-container",
    "unshare": "util-linux",
}
"""What boards as containers need: package of Debian by program."""
TRANSLATION: Final = {
    "mmdebstrap": "mmdebstrap",
    "proot": "proot",
    "qemu-aarch64-static": "qemu-user-static",
}
"""What programs of an arm64 board need that run here, one by one."""
_MACHINES: Final = CONTAINERS | {"cpio": "cpio", "depmod": "kmod", "qemu-img": "qemu-utils"}
CARDS: Final = CONTAINERS | {
    "qemu-img": "qemu-utils",
    "qemu-storage-daemon": "qemu-system-common",
}
"""What containers with a card of their own need."""
AMD_MACHINES: Final = _MACHINES | {"qemu-system-x86_64": "qemu-system-x86"}
"""What a whole amd64 board needs beside its server."""
ARM_MACHINES: Final = _MACHINES | {
    "arch-test": "arch-test",
    "qemu-aarch64-static": "qemu-user-static",
    "qemu-system-aarch64": "qemu-system-arm",
}
"""What a whole arm64 board needs: its tree's own scripts are translated, too."""
PACKAGES: Final = TRANSLATION | CARDS | AMD_MACHINES | ARM_MACHINES
"""All of them."""


def missing_programs(needed: Mapping[str, str]) -> dict[str, str]:
    """Give the programs that are needed and not on this machine, each with its package."""
    return {name: package for name, package in needed.items() if not _find(name)}


def installing(packages: Iterable[str]) -> str:
    """Give the command that installs packages."""
    return f"sudo apt-get install {' '.join(sorted(set(packages)))}"


def demand(needed: Mapping[str, str]) -> None:
    """Go on only where all programs are on this machine.

    Raises:
        UserError: some are not; names them, and how to install them.
    """
    missing = missing_programs(needed)
    if missing:
        raise UserError(
            f"not on this machine: {', '.join(missing)}",
            name="process.missing-program",
            hint=installing(missing.values()),
        )


def demand_architecture(name: str) -> None:
    """Go on only where the kernel runs programs of an architecture, or has them translated.

    Args:
        name: Debian's, such as "arm64".

    Raises:
        UserError: it does not, or it cannot be told; with what to do.
    """
    try:
        run("arch-test", name)
    except RuntimeError:
        raise UserError(
            f"this kernel hands programs of {name} to nobody",
            name="process.missing-program",
            hint=f"{installing(['binfmt-support', 'qemu-user-static'])}; where that is not enough: "
            "sudo mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc; "
            "sudo update-binfmts --enable qemu-aarch64",
        ) from None


def program(name: str) -> str:
    """Give the path of a program.

    Raises:
        UserError: it is not installed; says which package has it.
    """
    found = _find(name)
    if found is None:
        raise UserError(
            f"no program {name} on this machine",
            name="process.missing-program",
            hint=installing([PACKAGES.get(name, name)]),
        )
    return found


def run(
    name: str,
    *arguments: str | Path,
    data: bytes = b"",
    timeout_s: float = 120.0,
    environment: Mapping[str, str] | None = None,
) -> str:
    """Run a program to its end and give what it prints.

    Args:
        name: of the program, or its path.
        arguments: of the program.
        data: what it reads.
        timeout_s: how long it may take.
        environment: instead of ours.

    Raises:
        RuntimeError: it fails; with what it said.
        TimeoutError: it does not end in time; it is killed.
    """
    command = [program(name), *arguments]
    try:
        done = subprocess.run(  # noqa: S603  # no shell, and what runs is what this lab names
            command,
            input=data,
            capture_output=True,
            timeout=timeout_s,
            check=False,
            env=environment,
        )
    except subprocess.TimeoutExpired:
        raise TimeoutError(f"{name} still ran after {timeout_s:.0f} s: {command}") from None
    if done.returncode != 0:
        said = (done.stdout + done.stderr).decode(errors="replace").strip()[-2000:]
        raise RuntimeError(
            f"{name} ended with {done.returncode}: {' '.join(map(str, command))}\n{said}"
        )
    return done.stdout.decode(errors="replace")


def _find(name: str) -> str | None:
    return shutil.which(name, path=PATH)
