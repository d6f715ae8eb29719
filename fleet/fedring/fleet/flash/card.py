"""A card of stock Raspberry Pi OS gets a board's payload, and starts it by itself.

Its cloud-init reads four files of the boot partition when it first starts. We write two of them:

    vendor-data     ours: a script that starts `fedring/install.sh`, run once for an instance
    meta-data       its `instance-id` is a new one each time, so that a used card takes it, too

The other two, `user-data` and `network-config`, are their owner's (user, password, Wi-Fi, as an
imager writes them), and stay: cloud-init runs the script of vendor-data beside whatever they say.

Order of writing: the payload, read back; then meta-data and vendor-data, which start it. A card
that is pulled out too early starts as the owner's system, without fedring.

Sources: cloud-init's documentation, "NoCloud" and "Vendor-data"; pi-gen, stage2/04-cloud-init.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Final

from fedring.fleet.flash.boot_partition import BootPartition, no_card
from fedring.fleet.flash.plans import Plan, fit
from fedring.shared.errors import FlashError

FOLDER: Final = "fedring"
META_DATA: Final = "meta-data"
VENDOR_DATA: Final = "vendor-data"
NETWORK_CONFIG: Final = "network-config"

CARD_FILES: Final = frozenset({"cmdline.txt", "config.txt"})
"""What the firmware of every Raspberry Pi reads."""
SEED_FILES: Final = frozenset({"user-data", META_DATA})
"""Raspberry Pi OS has them from trixie on; without them its cloud-init looks at nothing."""

_OURS: Final = b"# fedring: "
_CLUSTER_BYTES: Final = 32 * 1024  # the largest that FAT has: each file may waste most of one
_INSTANCE: Final = re.compile(rb"^instance[-_]id:[^\r\n]*(\r?\n|\Z)", re.MULTILINE)


def plan(partition: BootPartition, sizes: Mapping[str, int], *, empty: bool = False) -> Plan:
    """See whether a card can be flashed; writes nothing.

    Args:
        partition: of the card.
        sizes: bytes of the payload's files by name.
        empty: that the partition stands for one, and nothing is there yet.

    Raises:
        FlashError: not a card of a Raspberry Pi; of a system without cloud-init; with somebody
            else's vendor-data; no room.
    """
    names = partition.names()
    if not empty:
        if missing := CARD_FILES - names:
            raise no_card(partition.title, f"there is no {min(missing)} on it")
        if missing := SEED_FILES - names:
            raise FlashError(
                f"{partition.title} has no {min(missing)}: its system would not start fedring",
                name="flash.no-cloud-init",
                hint="Raspberry Pi OS has it from trixie on; for older ones start the board and"
                " use `fedring fleet flash ssh`",
            )
        if VENDOR_DATA in names and _OURS not in partition.read(VENDOR_DATA):
            raise FlashError(
                f"{partition.title} has a vendor-data that is not fedring's",
                name="flash.vendor-data",
                hint="move what it does into user-data and remove it; or use `flash ssh`",
            )
    old = sum(partition.size(f"{FOLDER}/{name}") for name in partition.names(FOLDER))
    return fit(
        partition.title,
        sizes,
        needed_bytes=sum(sizes.values()) + _CLUSTER_BYTES * (len(sizes) + 4),
        free_bytes=partition.free_bytes + old,
        hint="`--python 3.13` puts one bundle there, not one for each Python",
    )


def write(
    partition: BootPartition,
    payload: Mapping[str, bytes],
    *,
    vendor_data: bytes,
    instance: str,
    network_config: bytes | None = None,
    progress: Callable[[int], None],
) -> None:
    """Write a card, and read back all of it.

    Args:
        partition: for which `plan` found no fault.
        payload: contents by name.
        vendor_data: the script that starts it.
        instance: an id that no card had before.
        network_config: replaces that of the card; None leaves it.
        progress: called with bytes written or read back; twice the payload's bytes in all.

    Raises:
        FlashError: what was read back is not what was written.
    """
    present = partition.names()
    if VENDOR_DATA in present:
        partition.remove(VENDOR_DATA)  # while the payload is incomplete, nothing may start it
    for name in partition.names(FOLDER):
        partition.remove(f"{FOLDER}/{name}")
    for name, content in payload.items():
        partition.write(f"{FOLDER}/{name}", content)
        progress(len(content))
    for name, content in payload.items():
        _check(partition, f"{FOLDER}/{name}", content)
        progress(len(content))
    old = partition.read(META_DATA) if META_DATA in present else b"dsmode: local\n"
    last = {META_DATA: with_instance(old, instance), VENDOR_DATA: vendor_data}
    if network_config is not None:
        last = {NETWORK_CONFIG: network_config} | last
    for name, content in last.items():
        partition.write(name, content)
        _check(partition, name, content)


def with_instance(meta_data: bytes, instance: str) -> bytes:
    """Give meta-data (YAML, or JSON in braces) with another instance id and all else as it was."""
    if meta_data.lstrip().startswith(b"{"):
        fields = json.loads(meta_data)
        return json.dumps(fields | {"instance-id": instance}, indent=1).encode() + b"\n"
    rest = _INSTANCE.sub(b"", meta_data)
    if rest and not rest.endswith(b"\n"):
        rest += b"\n"
    return rest + f"instance-id: {instance}\n".encode()


def _check(partition: BootPartition, path: str, content: bytes) -> None:
    if partition.read(path) != content:
        raise FlashError(
            f"{partition.title}: {path} was read back differently from how it was written",
            name="flash.not-as-written",
            hint="the card, or its reader, is broken: use another one",
        )
