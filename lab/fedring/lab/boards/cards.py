"""SD cards as files: what an owner has after writing Raspberry Pi OS onto a card.

No loop device and no mount: file systems are made from folders, and put into the image at their
place.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from fedring.lab.boards.system import run

_SECTOR: Final = 512
_MIB: Final = 1 << 20
_BOOT_START: Final = 8192 * _SECTOR
"""Where Raspberry Pi OS begins its boot partition."""

BOOT_MIB: Final = 256
ROOT_START: Final = _BOOT_START + BOOT_MIB * _MIB
"""Where the partition with the system begins, in bytes."""
_CMDLINE: Final = "console=serial0,115200 root=PARTUUID=00000000-02 rootwait\n"
_FSTAB: Final = (
    "/dev/vda2 / ext4 defaults,noatime,commit=600 0 1\n"
    # An emulated machine on a busy one may find its disk late.
    "/dev/vda1 /boot/firmware vfat defaults,x-systemd.device-timeout=30min 0 2\n"
)
_HOLD_BACK: Final = "vm.dirty_writeback_centisecs = 0\n"
"""With `commit` above: what nobody syncs is never written, so that a power cut loses it."""
_WAIT_FOR_BOOT_PARTITION: Final = "[Unit]\nRequiresMountsFor=/boot/firmware\n"


def make_card(image: Path, tree: Path, root_mib: int, boot_files: Path) -> None:
    """Write a card image: a FAT32 boot partition, and an ext4 partition with a system.

    Args:
        image: to be written; about as large on disk as the tree.
        tree: the system.
        root_mib: size of its partition.
        boot_files: what else lies on the boot partition, such as cloud-init's user-data.

    Raises:
        RuntimeError: the tree does not fit, or a program fails; with its words.
    """
    with TemporaryDirectory(dir=image.parent) as name:
        folder = Path(name)
        boot, root = folder / "boot.fat", folder / "root.ext4"
        _make_boot(boot, folder, boot_files)
        run("mke2fs", "-q", "-t", "ext4", "-L", "rootfs", "-d", tree, root, f"{root_mib}M")
        total = ROOT_START + root_mib * _MIB
        with image.open("wb") as file:
            file.truncate(total)
        first, second = _BOOT_START // _SECTOR, ROOT_START // _SECTOR
        run(
            "sfdisk",
            "--quiet",
            image,
            data=(
                f"label: dos\nstart={first}, size={BOOT_MIB * 2048}, type=c, bootable\n"
                f"start={second}, size={root_mib * 2048}, type=83\n"
            ).encode(),
        )
        for part, sector in ((boot, first), (root, second)):
            run(
                *("dd", f"if={part}", f"of={image}", "bs=1M", f"seek={sector * _SECTOR}"),
                *("oflag=seek_bytes", "conv=notrunc,sparse", "status=none"),
                timeout_s=600,
            )


def make_bootable(root: Path, address: str, hosts: str) -> None:
    """Change a tree so that it boots from such a card, which is its only disk.

    Args:
        root: of the tree; changed.
        address: in its network, without DHCP.
        hosts: text of /etc/hosts.
    """
    files = {
        "etc/fstab": _FSTAB,
        "etc/hosts": hosts,
        "etc/sysctl.d/90-lab.conf": _HOLD_BACK,
        "etc/systemd/network/10-lan.network": (
            f"[Match]\nName=e*\n[Network]\nAddress={address}/24\n"
        ),
        "etc/systemd/system/cloud-init-local.service.d/boot.conf": _WAIT_FOR_BOOT_PARTITION,
    }
    for name, text in files.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    (root / "boot/firmware").mkdir(parents=True, exist_ok=True)


def read_boot(image: Path, folder: Path) -> None:
    """Copy all files of a card's boot partition into a folder, as a board's system sees them."""
    folder.mkdir(parents=True, exist_ok=True)
    run("mcopy", "-s", "-n", "-m", "-i", f"{image}@@{_BOOT_START}", "::/*", folder)


def _make_boot(file: Path, folder: Path, others: Path) -> None:
    run("mkfs.vfat", "-C", "-F", "32", "-n", "BOOTFS", file, str(BOOT_MIB * 1024))
    (folder / "cmdline.txt").write_text(_CMDLINE)
    (folder / "config.txt").write_text("arm_64bit=1\n")
    stock = [folder / "cmdline.txt", folder / "config.txt", *others.iterdir()]
    run("mcopy", "-s", "-i", file, *stock, "::/")
