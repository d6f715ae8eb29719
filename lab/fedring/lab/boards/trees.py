"""Trees of Debian for boards: built when they are missing, kept in the user's cache.

`~/.cache/fedring/boards/` (or below `XDG_CACHE_HOME`) may be removed at any time. A tree's name
holds a digest of its recipe, so that a changed recipe is built anew. Nobody writes into a tree:
boards get it as the lower layer of a file system of their own.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Final

from attrs import frozen

from fedring.lab.boards.namespaces import Namespace
from fedring.lab.boards.system import demand_architecture, run

BUILD_S: Final = 3600.0
"""Longest time for a tree: the arm64 one runs its packages' scripts in an emulator."""

_SLIM: Final = tuple(
    f"--dpkgopt=path-exclude=/usr/share/{folder}/*" for folder in ("doc", "man", "locale")
)
_SYSTEM: Final = (
    "python3",
    "libstdc++6",
    "ca-certificates",
    "systemd",
    "systemd-sysv",
    "systemd-timesyncd",
    "udev",
    "dbus",
    "cloud-init",
    "cloud-guest-utils",
    "netplan.io",
    "openssh-server",
    "iproute2",
    "kmod",
    "sudo",
    "e2fsprogs",
    "fdisk",
)
_LIKE_RASPBERRY_PI_OS: Final = MappingProxyType(
    {
        "etc/cloud/cloud.cfg.d/99_raspberry-pi.cfg": (
            "datasource_list: [ NoCloud, None ]\n"
            "datasource:\n  NoCloud:\n    seedfrom: file:///boot/firmware/\n"
            "network: {config: disabled}\n"  # the owner's own settings hold
            "locale: false\n"  # no package for it in this tree
        ),
        "etc/machine-id": "",
        "etc/fstab": "",
    }
)
"""Its cloud-init looks for settings on the boot partition; source: pi-gen, stage2/04-cloud-init."""
_IDLE_TIMERS: Final = ("apt-daily.timer", "apt-daily-upgrade.timer", "e2scrub_all.timer")


@frozen
class Recipe:
    """What a tree is made of.

    Attributes:
        name: for people and in the folder's name.
        architecture: Debian's name of it.
        packages: to be installed.
        unpacked: nothing of the tree is run while it is built; its packages stay unconfigured.
        files: text by path, written at the end.
        masked: units that never start.
        enabled: units that start by themselves.
        suite: Debian's release.
    """

    name: str
    architecture: str
    packages: tuple[str, ...]
    unpacked: bool = False
    files: Mapping[str, str] = MappingProxyType({})
    masked: tuple[str, ...] = ()
    enabled: tuple[str, ...] = ()
    suite: str = "bookworm"

    @property
    def folder_name(self) -> str:
        """Changes with everything that the tree is made of."""
        units = (self.masked, self.enabled)
        facts = (self.packages, self.unpacked, sorted(self.files.items()), units, _SLIM)
        digest = hashlib.sha256(repr(facts).encode()).hexdigest()
        return f"{self.name}-{self.architecture}-{self.suite}-{digest[:12]}"


def _board(architecture: str) -> Recipe:
    return Recipe(
        "board",
        architecture,
        _SYSTEM,
        files=_LIKE_RASPBERRY_PI_OS,
        masked=_IDLE_TIMERS,
        enabled=("systemd-networkd.service",),
    )


def _kernel(architecture: str) -> Recipe:
    packages = ("busybox-static", f"linux-image-{architecture}")
    return Recipe("kernel", architecture, packages, unpacked=True)


BOARD: Final = _board("amd64")
"""A system like Raspberry Pi OS Lite, for this machine's own processor; two minutes to build."""
ARM_BOARD: Final = _board("arm64")
"""The same for a Raspberry Pi's processor; ten minutes to build."""
ARM_PYTHON: Final = Recipe(
    "python",
    "arm64",
    ("python3", "libffi8", "libstdc++6", "ca-certificates"),
    unpacked=True,
)
"""Only Python, to be run by an emulator of user programs; seconds to build."""
AMD_KERNEL: Final = _kernel("amd64")
"""A kernel with its modules; seconds to build."""
ARM_KERNEL: Final = _kernel("arm64")
"""The same for a Raspberry Pi's processor."""


def cache_folder() -> Path:
    """Where trees lie."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "fedring" / "boards"


def tree(recipe: Recipe) -> Path:
    """Give the folder of a tree; build it when it is missing, or wait for whoever builds it.

    Raises:
        UserError: mmdebstrap is missing, or nobody here runs the tree's programs.
        RuntimeError: the tree cannot be built; with mmdebstrap's words.
    """
    cache = cache_folder()
    folder = cache / recipe.folder_name
    cache.mkdir(parents=True, exist_ok=True)
    with _alone(cache / f"{recipe.folder_name}.lock"):
        if not folder.exists():
            partial = cache / f"{recipe.folder_name}.new"
            shutil.rmtree(partial, ignore_errors=True)
            _build(recipe, partial)
            partial.rename(folder)
    return folder


def _build(recipe: Recipe, folder: Path) -> None:
    if recipe.architecture == "arm64" and not recipe.unpacked:
        demand_architecture(recipe.architecture)
    run(
        "mmdebstrap",
        f"--variant={'extract' if recipe.unpacked else 'minbase'}",
        f"--architectures={recipe.architecture}",
        "--components=main",
        f"--include={','.join(recipe.packages)}",
        *_SLIM,
        recipe.suite,
        folder,
        timeout_s=BUILD_S,
    )
    for name, text in recipe.files.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    for unit in recipe.masked:
        (folder / "etc/systemd/system" / unit).symlink_to("/dev/null")
    for unit in recipe.enabled:
        wanted = folder / "etc/systemd/system/multi-user.target.wants" / unit
        wanted.parent.mkdir(parents=True, exist_ok=True)
        wanted.unlink(missing_ok=True)
        wanted.symlink_to(f"/lib/systemd/system/{unit}")


def addition(packages: tuple[str, ...], below: Recipe) -> Path:
    """Give a folder with what changes in a tree when packages are added; build it when missing.

    Args:
        packages: of the same release.
        below: the tree's recipe, for this machine's processor.
    """
    cache = cache_folder()
    folder = cache / f"{below.folder_name}+{'+'.join(packages)}"
    lower = tree(below)
    with _alone(cache / f"{folder.name}.lock"):
        if not folder.exists():
            partial = cache / f"{folder.name}.new"
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir()
            with Namespace(partial) as namespace:
                root = namespace.overlay([lower], partial)
                install = f"apt-get install -qy --no-install-recommends {' '.join(packages)}"
                run(
                    *namespace.mounts,
                    *("systemd-nspawn", "--quiet", f"--directory={root}", "--register=no"),
                    *("--keep-unit", "--resolv-conf=replace-host", "--timezone=off"),
                    "--setenv=DEBIAN_FRONTEND=noninteractive",
                    *("sh", "-euc", f"apt-get update -q; {install}; apt-get clean"),
                    timeout_s=BUILD_S,
                )
            (partial / "upper").rename(folder)
            shutil.rmtree(partial)
    return folder


@contextmanager
def _alone(file: Path) -> Iterator[None]:
    with file.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
