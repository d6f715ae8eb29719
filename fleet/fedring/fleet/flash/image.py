"""A whole system with fedring in one image: for qemu, and for boxes that start by UEFI.

No Raspberry Pi starts from it: its firmware is not part of Debian. Such boards get a card.

    partition 1   FAT: systemd-boot, kernel and initrd
    partition 2   ext4: Debian bookworm, fedring in place, an sshd, network by DHCP

mmdebstrap makes the system and runs the payload's `install.sh` in it, so that an image differs in
nothing from a flashed board. Needs neither root (with uidmap and user namespaces) nor a mount. Who
may read the image may read the board's code.

Kernel and initrd lie where apt does not change them: new ones are copied to partition 1 by hand.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tarfile
import tempfile
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from attrs import frozen

from fedring.fleet.bundles.targets import Target
from fedring.fleet.flash.boot_partition import find_program
from fedring.shared.errors import FlashError

PYTHON: Final = "3.11"
SUITE: Final = "bookworm"
BOOT_MIB: Final = 256
ROOT_MIB: Final = 4096
"""Room for the system, two slots, and data; empty blocks take none in the file."""
NEEDED_BYTES: Final = 3_000_000_000
"""Of the disk, while an image is made."""

PROGRAMS: Final = {
    "mmdebstrap": "mmdebstrap",
    "mke2fs": "e2fsprogs",
    "mkfs.vfat": "dosfstools",
    "mcopy": "mtools",
    "sfdisk": "fdisk",
}
_PACKAGES: Final = (
    *("python3", "libstdc++6", "ca-certificates", "iproute2", "sudo", "udev", "dbus", "e2fsprogs"),
    *("systemd", "systemd-sysv", "systemd-resolved", "systemd-timesyncd", "systemd-boot-efi"),
    *("openssh-server", "initramfs-tools", "zstd"),
)
_LAST_LINES: Final = 8
_UNREAD: Final = ("doc", "man", "locale")
_ROOT_UUID: Final = "fed00000-0000-4000-8000-000000000002"
_SECTOR: Final = 512
_BOOT_START: Final = 2048
_ROOT_START: Final = _BOOT_START + BOOT_MIB * 2048
_ALIGNMENT: Final = 2048  # and room for the copy of the table at the end

_NETWORK: Final = "[Match]\nName=e*\n[Network]\nDHCP=yes\nMulticastDNS=yes\n"
_ROOT_IS_KNOWN: Final = """\
mkdir -p "$1/etc/initramfs-tools/conf.d"
echo FSTYPE=ext4 >"$1/etc/initramfs-tools/conf.d/fedring"
"""
"""The initrd's makers look at the disk of the machine where they run for a root to be checked; told
what it is they put fsck into it, which mends after a power cut."""
_HOOK: Final = """\
set -eu
chroot "$1" sh /root/fedring/install.sh
rm -r "$1/root/fedring"
chroot "$1" systemctl enable --quiet systemd-networkd systemd-resolved systemd-timesyncd
: >"$1/etc/machine-id"
"""


@frozen
class Processor:
    """What systems for a processor are called elsewhere.

    Attributes:
        debian: its name in Debian.
        loader: of systemd-boot for it; UEFI looks for it as `BOOT` and the same ending.
    """

    debian: str
    loader: str


_SYSTEM_STAGES: Final = {
    "running apt-get update": "reading Debian's lists of packages",
    "downloading packages with apt": "downloading packages",
    "extracting archives": "unpacking",
    "installing essential packages": "installing the base",
    "installing remaining packages": "installing the rest",
    "running --customize-hook": "installing fedring",
    "creating tarball": "packing the system",
}
"""What mmdebstrap says when it begins something, and what we call that."""
STAGES: Final = (
    *_SYSTEM_STAGES.values(),
    "writing the root partition",
    "writing the boot partition",
)
"""Of making an image, in order; none takes no time."""

PROCESSORS: Final = {"x86_64": Processor("amd64", "x64"), "aarch64": Processor("arm64", "aa64")}


def build_image(
    payload: Mapping[str, bytes],
    target: Target,
    file: Path,
    *,
    name: str,
    authorized_key: str,
    progress: Callable[[str], None],
) -> None:
    """Make an image; takes minutes, ten times as many for another processor.

    Args:
        payload: of this board, for `PYTHON`.
        target: of the bundle in it.
        file: does not exist yet; on a disk with room for `NEEDED_BYTES`.
        name: the system's host name.
        authorized_key: line of OpenSSH's authorized_keys; its owner comes in as root. "" for none.
        progress: called with each of `STAGES` when it begins; some may come twice.

    Raises:
        FlashError: a program is missing, no room, or one of the programs failed.
    """
    check(file)
    processor = PROCESSORS[target.arch]
    with tempfile.TemporaryDirectory(prefix=".fedring-image-", dir=file.absolute().parent) as place:
        folder = Path(place)
        system = _make_system(
            payload,
            processor,
            folder,
            name=name,
            authorized_key=authorized_key,
            progress=progress,
        )
        image = folder / "image"
        assemble_image(image, system, processor, folder, progress)
        image.rename(file)


def check(file: Path) -> None:
    """See whether an image can be made there; writes nothing.

    Raises:
        FlashError: see `build_image`.
    """
    if missing := [program for program in PROGRAMS if find_program(program) is None]:
        packages = " ".join(sorted({PROGRAMS[program] for program in missing}))
        raise FlashError(
            f"images are made with {', '.join(missing)}, which is not installed",
            name="flash.missing-program",
            hint=f"sudo apt-get install {packages}",
        )
    if file.exists():
        raise FlashError(
            f"{file} exists and will not be overwritten",
            name="flash.exists",
            hint="name another file; `flash card` is for images of stock systems",
        )
    try:
        free = shutil.disk_usage(file.absolute().parent).free
    except OSError as error:
        raise FlashError(
            f"{file}: {(error.strerror or 'cannot be made').lower()}", name="flash.unusable"
        ) from error
    if free < NEEDED_BYTES:
        raise FlashError(
            f"{file.absolute().parent} has room for {free / 1e9:.1f} GB, and"
            f" {NEEDED_BYTES / 1e9:.1f} GB are needed",
            name="flash.no-room",
        )


def _make_system(
    payload: Mapping[str, bytes],
    processor: Processor,
    folder: Path,
    *,
    name: str,
    authorized_key: str,
    progress: Callable[[str], None],
) -> Path:
    """Have mmdebstrap make a tar of the whole system, with fedring installed in it."""
    source = folder / "fedring"
    source.mkdir(mode=0o700)
    for file, content in payload.items():
        source.joinpath(file).write_bytes(content)
    files = {
        "etc/hostname": f"{name}\n",
        "etc/hosts": f"127.0.0.1 localhost\n127.0.1.1 {name}\n",
        "etc/fstab": f"PARTUUID={_ROOT_UUID} / ext4 defaults,noatime 0 1\n",
        "etc/systemd/network/80-lan.network": _NETWORK,
    }
    if authorized_key:
        files["root/.ssh/authorized_keys"] = f"{authorized_key.strip()}\n"
    additions = folder / "additions"
    for path, text in files.items():
        target = additions / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
    keys = additions / "root" / ".ssh"
    keys.mkdir(parents=True, exist_ok=True)
    for private in (keys, keys.parent):
        private.chmod(0o700)
    hook = folder / "hook.sh"
    hook.write_text(_HOOK)
    system = folder / "system.tar"
    packages = [*_PACKAGES, f"linux-image-{processor.debian}"]

    def hear(line: str) -> None:
        for words, stage in _SYSTEM_STAGES.items():
            if line.startswith(f"I: {words}"):
                progress(stage)

    _run(
        "mmdebstrap",
        "--variant=minbase",
        f"--architectures={processor.debian}",
        f"--include={','.join(packages)}",
        f"--essential-hook={_ROOT_IS_KNOWN}",
        *(f"--dpkgopt=path-exclude=/usr/share/{unread}/*" for unread in _UNREAD),
        *(f"--customize-hook=copy-in {additions}/{top} /" for top in ("etc", "root")),
        f"--customize-hook=copy-in {source} /root",
        f'--customize-hook=sh {hook} "$1"',
        SUITE,
        str(system),
        hear=hear,
    )
    return system


def assemble_image(
    image: Path,
    system: Path,
    processor: Processor,
    folder: Path,
    progress: Callable[[str], None] = lambda _: None,
) -> None:
    """Write the image of a system.

    Args:
        image: made, readable by its owner only.
        system: tar with loader, kernel and initrd where Debian has them.
        processor: of the system.
        folder: for what lies around meanwhile.
        progress: called with each stage when it begins.

    Raises:
        FlashError: one of the programs failed.
    """
    image.touch(mode=0o600)
    _make_partitions(image)
    progress(STAGES[-2])
    _make_root(image, system, folder)
    progress(STAGES[-1])
    _fill_boot(image, system, processor, folder)


def _make_partitions(image: Path) -> None:
    with image.open("r+b") as file:
        file.truncate((_ROOT_START + ROOT_MIB * 2048 + _ALIGNMENT) * _SECTOR)
    table = (
        "label: gpt\n"
        f"start={_BOOT_START}, size={BOOT_MIB * 2048}, type=U\n"
        f"start={_ROOT_START}, size={ROOT_MIB * 2048}, type=L, uuid={_ROOT_UUID}\n"
    )
    _run("sfdisk", "--quiet", str(image), given=table.encode())


def _make_root(image: Path, system: Path, folder: Path) -> None:
    """Unpack the system and make a file system of it; as root of a namespace, owners stay."""
    tree = folder / "tree"
    unpack = f"mkdir '{tree}' && tar -C '{tree}' --numeric-owner -xf '{system}'"
    offset = _ROOT_START * _SECTOR
    make = f"mke2fs -q -t ext4 -L root -d '{tree}' -E offset={offset} '{image}' {ROOT_MIB}M"
    script = f"set -eu; PATH=$PATH:/usr/sbin; {unpack}; {make}; rm -r '{tree}'"
    if os.geteuid() == 0:
        _run("sh", "-c", script)
    else:
        _run("unshare", "--map-root-user", "--map-auto", "sh", "-c", script)


def _fill_boot(image: Path, system: Path, processor: Processor, folder: Path) -> None:
    """Put loader, kernel and initrd, as they are in the system, onto the boot partition."""
    boot = folder / "boot"
    for name in ("EFI/BOOT", "loader/entries"):
        boot.joinpath(name).mkdir(parents=True)
    loader = f"usr/lib/systemd/boot/efi/systemd-boot{processor.loader}.efi"
    wanted = {
        loader: boot / "EFI" / "BOOT" / f"BOOT{processor.loader.upper()}.EFI",
        "boot/vmlinuz-": boot / "vmlinuz",
        "boot/initrd.img-": boot / "initrd.img",
    }
    with tarfile.open(system) as archive:
        for member in archive:
            for start, target in wanted.items():
                if member.isfile() and member.name.removeprefix("./").startswith(start):
                    content = archive.extractfile(member)
                    if content is not None:
                        target.write_bytes(content.read())
    console = "console=tty0 console=ttyS0" if processor.debian == "amd64" else ""
    boot.joinpath("loader/loader.conf").write_text("timeout 1\n")
    boot.joinpath("loader/entries/fedring.conf").write_text(
        "title fedring\nlinux /vmlinuz\ninitrd /initrd.img\n"
        f"options root=PARTUUID={_ROOT_UUID} rw rootwait {console}\n"
    )
    # mkfs.vfat 4.2 cannot make one inside of an image: what it writes at an offset is not readable.
    partition = folder / "boot.fat"
    _run("mkfs.vfat", "-C", "-F", "32", "-n", "BOOT", str(partition), str(BOOT_MIB * 1024))
    _run("mcopy", "-s", "-i", str(partition), *map(str, boot.iterdir()), "::/")
    with image.open("r+b") as file, partition.open("rb") as source:
        file.seek(_BOOT_START * _SECTOR)
        shutil.copyfileobj(source, file)


def _run(
    program: str,
    *arguments: str,
    given: bytes = b"",
    hear: Callable[[str], None] = lambda _: None,
) -> None:
    """Run a program to its end; `hear` is called with each line that it says, as it says it."""
    said: deque[str] = deque(maxlen=_LAST_LINES)
    with subprocess.Popen(  # noqa: S603 - our own programs and paths
        [find_program(program) or program, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=os.environ | {"MTOOLS_SKIP_CHECK": "1"},
    ) as process:
        assert process.stdin is not None  # noqa: S101
        assert process.stdout is not None  # noqa: S101
        with suppress(BrokenPipeError):  # the status tells
            process.stdin.write(given)
            process.stdin.close()
        for raw in process.stdout:
            line = raw.decode(errors="replace").rstrip()
            said.append(line)
            hear(line)
    if process.returncode != 0:
        raise FlashError(
            "\n".join([f"{program} failed:", *said]),
            name="flash.not-built",
            hint="the image is made from Debian's archive: check the network, and try again",
        )
