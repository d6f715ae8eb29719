"""`fedring fleet flash`: a board's card, the board itself by ssh, or a whole image."""

from __future__ import annotations

import secrets
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import click

from fedring.fleet.authority import Fleet
from fedring.fleet.bundles.archives import pack_files
from fedring.fleet.bundles.building import bundle_file
from fedring.fleet.bundles.targets import ARCHS, PYTHONS, Target
from fedring.fleet.cli.bundles import (
    ABOUT_BYTES,
    ABOUT_LITERT_BYTES,
    for_litert,
    format_size,
    has_bundle,
)
from fedring.fleet.cli.options import in_fleet, next_steps, passphrase_option, unlocked
from fedring.fleet.flash import card as cards
from fedring.fleet.flash import image as images
from fedring.fleet.flash.boot_partition import BootPartition, FatPartition, MountedPartition
from fedring.fleet.flash.payload import (
    Content,
    board_file,
    read_data,
    settings,
    write_payload,
)
from fedring.fleet.flash.plans import Plan
from fedring.fleet.flash.remote import Remote
from fedring.fleet.register import Device

_ABOUT_FILES: Final = {f"file {number}": 4096 for number in range(16)}
"""Installer, units, settings: what a dry run counts for them."""

_dry_run = click.option("--dry-run", is_flag=True, help="Look at everything, write nothing.")
_settings = click.option(
    "--settings",
    "template",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Your device.toml, such as with another [data].  [default: file data.csv]",
)
_data = click.option(
    "--data",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Samples to put there: becomes /var/lib/fedring/data.csv.",
)


@click.group(epilog="Example: fedring fleet flash card --fleet greenhouse b01 /dev/sdb")
def flash() -> None:
    """Put fedring onto a board, with the one-time code that lets it enrol.

    The board needs no internet. Each way brings the same payload.
    """


@flash.command(epilog="Example: fedring fleet flash card --fleet greenhouse b01 /dev/sdb")
@click.argument("name")
@click.argument(
    "device_or_image",
    type=click.Path(path_type=Path, readable=False),
    required=False,
    metavar="[DEVICE_OR_IMAGE]",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Boot partition that is mounted; or a new folder, to copy from.",
)
@click.option(
    "--python",
    "pythons",
    type=click.Choice(PYTHONS),
    multiple=True,
    default=("3.11", "3.13"),
    help="Of the system on the card.",
)
@click.option("--arch", type=click.Choice(ARCHS), default=ARCHS[0], help="Its processor.")
@for_litert
@_settings
@_data
@click.option(
    "--network-config",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Replaces that of the card; else the card keeps its own.",
)
@_dry_run
@in_fleet
@passphrase_option
def card(
    *,
    name: str,
    device_or_image: Path | None,
    out: Path | None,
    pythons: Sequence[str],
    arch: str,
    litert: bool,
    template: Path | None,
    data: Path | None,
    network_config: Path | None,
    dry_run: bool,
    folder: Path,
    passphrase_file: Path | None,
) -> None:
    """Put a board's payload onto a card, or its image, with Raspberry Pi OS.

    Write the system first, with user and Wi-Fi as you like: they stay. The board starts fedring
    by itself.
    """
    fleet = Fleet(folder) if dry_run else unlocked(folder, passphrase_file)
    code = fleet.code(name)
    targets = [Target(python, arch) for python in pythons]
    partition = _partition(device_or_image, out)
    new = isinstance(partition, MountedPartition) and not partition.names()
    text = settings(fleet, template)
    samples = None if data is None else read_data(data)
    network = None if network_config is None else read_data(network_config)
    if dry_run:
        sizes = _about(fleet, targets, samples, litert=litert)
        _tell(cards.plan(partition, sizes, empty=new))
        click.echo("dry run: nothing was written")
        return
    bundles = [has_bundle(fleet, target, litert=litert) for target in targets]
    content = Content(name, code, bundles, text, samples)
    payload = _payload(fleet, content)
    plan = cards.plan(partition, {name: len(file) for name, file in payload.items()}, empty=new)
    _tell(plan)
    with click.progressbar(
        length=2 * plan.n_bytes, label="writing and reading back", file=sys.stderr
    ) as bar:
        cards.write(
            partition,
            payload,
            vendor_data=board_file("vendor-data"),
            instance=f"fedring-{name}-{secrets.token_hex(4)}",
            network_config=network,
            progress=bar.update,
        )
    click.echo(f"flashed {name}: {partition.title}, read back and found right")
    if new:
        next_steps(f"copy all of {out} onto the boot partition, over the meta-data there")
    next_steps(
        "put the card into the board and start it; `fedring fleet sign --watch` certifies it",
        "what it did stands in fedring/status.txt on the card",
    )


@flash.command(epilog="Example: fedring fleet flash ssh --fleet greenhouse b01 pi@192.168.1.21")
@click.argument("name")
@click.argument("address", metavar="USER@HOST")
@for_litert
@_settings
@_data
@_dry_run
@in_fleet
@passphrase_option
def ssh(
    *,
    name: str,
    address: str,
    litert: bool,
    template: Path | None,
    data: Path | None,
    dry_run: bool,
    folder: Path,
    passphrase_file: Path | None,
) -> None:
    """Put a board's payload onto a board that already runs, by ssh and sudo.

    For any system with systemd and Python 3.11 to 3.13. On a board that has its certificate it
    renews the software, and nothing else.
    """
    fleet = Fleet(folder) if dry_run else unlocked(folder, passphrase_file)
    code = _code_or_certificate(fleet, fleet.find(name))
    text = settings(fleet, template)
    samples = None if data is None else read_data(data)
    with ExitStack() as stack:
        remote = stack.enter_context(Remote(address))
        board = remote.ask()
        click.echo(f"{address}: {board.target}")
        sizes = _about(fleet, [board.target], samples, litert=litert)
        if dry_run:
            _tell(board.plan(address, sizes))
            click.echo("dry run: nothing was written")
            return
        board.plan(address, sizes)  # before a minute goes into a bundle
        bundles = [has_bundle(fleet, board.target, litert=litert)]
        payload = _payload(fleet, Content(name, code, bundles, text, samples))
        _tell(board.plan(address, {name: len(file) for name, file in payload.items()}))
        archive = pack_files(payload)
        with click.progressbar(length=len(archive), label="sending", file=sys.stderr) as bar:
            remote.send(archive, bar.update)
        remote.install(terminal=sys.stdin.isatty())
    click.echo(f"flashed {name}: {address}")
    if code is not None:
        next_steps("`fedring fleet sign --watch` certifies it")


@flash.command(epilog="Example: fedring fleet flash image --fleet greenhouse b01 b01.img")
@click.argument("name")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--arch", type=click.Choice(ARCHS), default=ARCHS[1], help="The box's processor.")
@click.option(
    "--authorized-key",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Your public ssh key: lets you in as root. Else nobody can log in.",
)
@for_litert
@_settings
@_data
@_dry_run
@in_fleet
@passphrase_option
def image(
    *,
    name: str,
    file: Path,
    arch: str,
    authorized_key: Path | None,
    litert: bool,
    template: Path | None,
    data: Path | None,
    dry_run: bool,
    folder: Path,
    passphrase_file: Path | None,
) -> None:
    """Make a whole image with Debian and a board's payload.

    For qemu, and for boxes that start by UEFI; not for a Raspberry Pi. Takes minutes, for another
    processor than this machine's ten times as many.
    """
    fleet = Fleet(folder) if dry_run else unlocked(folder, passphrase_file)
    code = fleet.code(name)
    target = Target(images.PYTHON, arch)
    text = settings(fleet, template)
    samples = None if data is None else read_data(data)
    key = "" if authorized_key is None else read_data(authorized_key).decode("ascii", "replace")
    images.check(file)
    size = (images.BOOT_MIB + images.ROOT_MIB) * 2**20
    free = shutil.disk_usage(file.absolute().parent).free
    click.echo(f"{file}: {format_size(free)} free, image of {format_size(size)}, mostly empty")
    if dry_run:
        click.echo("dry run: nothing was written")
        return
    bundles = [has_bundle(fleet, target, litert=litert)]
    payload = _payload(fleet, Content(name, code, bundles, text, samples))
    n_stages = len(images.STAGES)
    label = f"making Debian {images.SUITE} for {arch}"
    with click.progressbar(
        length=n_stages, label=label, file=sys.stderr, item_show_func=_or_nothing
    ) as bar:
        images.build_image(
            payload,
            target,
            file,
            name=name,
            authorized_key=key,
            progress=lambda stage: bar.update(max(0, images.STAGES.index(stage) - bar.pos), stage),
        )
        bar.update(n_stages - bar.pos)
    click.echo(f"flashed {name}: {file}, {format_size(file.stat().st_blocks * 512)} on this disk")
    next_steps(
        f"write {file} to the disk of a box, or start it with qemu; then remove it: the board's"
        " code is in it",
        f"fedring fleet sign --fleet {folder} --watch",
    )


def _or_nothing(stage: str | None) -> str:
    return stage or ""


def _partition(path: Path | None, out: Path | None) -> BootPartition:
    match path, out:
        case Path(), None:
            return FatPartition(path)
        case None, Path():
            return MountedPartition(out)
        case _:
            raise click.UsageError("name either the card or image, or a folder with --out")


def _code_or_certificate(fleet: Fleet, device: Device) -> bytes | None:
    """The code of a device, or None when it has enrolled with it."""
    enrolled = device.enrolled and not device.revoked
    return None if enrolled else fleet.code(device.name)


def _payload(fleet: Fleet, content: Content) -> dict[str, bytes]:
    with tempfile.TemporaryDirectory(prefix="fedring-payload-") as name:
        folder = Path(name)
        write_payload(fleet, content, folder, datetime.now(UTC))
        return {file.name: file.read_bytes() for file in sorted(folder.iterdir())}


def _about(
    fleet: Fleet, targets: Sequence[Target], samples: bytes | None, *, litert: bool
) -> Mapping[str, int]:
    """Sizes of a payload that is not made yet."""
    sizes = dict(_ABOUT_FILES)
    for target in targets:
        path = bundle_file(fleet, target, litert=litert)
        missing = ABOUT_LITERT_BYTES if litert else ABOUT_BYTES
        sizes[path.name] = path.stat().st_size if path.exists() else missing
    if samples is not None:
        sizes["data.csv"] = len(samples)
    return sizes


def _tell(plan: Plan) -> None:
    click.echo(
        f"{plan.title}: {format_size(plan.free_bytes)} free,"
        f" {format_size(plan.n_bytes)} to be written"
    )


COMMANDS: Final = (flash,)
