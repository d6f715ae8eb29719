"""The payload of one board: bundles, installer, settings and its one-time code, signed.

    install.sh, uninstall.sh          put it in place, and take it away again
    fedring-...-cp313-aarch64.fedring one bundle or more; install.sh takes the one that fits
    ca.crt, device.toml               the fleet's authority; settings
    bootstrap.json                    where to ask for a certificate, and the one-time code
    data.csv                          samples, where they were given
    fedring-*.service, fedring-update, ...
    flashed_at                        seconds since 1970: boards without a clock begin there
    manifest, manifest.sig            of all of these; purpose "payload"

The code makes it worth hiding: installer and board take it out as soon as they can. `install.sh`
looks at the hashes of the manifest; its signature is for whoever has the fleet's authority from
elsewhere. A new board has not: see docs/threat-model.md, section 10.
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Mapping, Sequence
from datetime import datetime
from importlib import resources
from pathlib import Path
from typing import Final

from attrs import frozen

from fedring.fleet.authority import Fleet, usual_threshold
from fedring.fleet.updates import RecordFile
from fedring.shared.bundles import open_bundle
from fedring.shared.config import MOST_OTHERS
from fedring.shared.errors import ConfigError, DataError
from fedring.shared.identity import Authority
from fedring.shared.signed_folders import Manifest
from fedring.shared.state import write_file

PURPOSE: Final = "payload"
BROKER_PORT: Final = 8883
ENROLMENT_PORT: Final = 8884

BOARD_FILES: Final = (
    "fedring-device.service",
    "fedring-update",
    "fedring-update.path",
    "fedring-update.service",
    "install.sh",
    "journald.conf",
    "uninstall.sh",
)
"""Of the package `fedring.device`, in its folder `board`."""

_WITH_BYTECODE: Final = 1.25
"""A slot on the board against the files in its bundle: measured 1.13, and blocks of 4 KiB."""


@frozen
class Content:
    """What is different from board to board.

    Attributes:
        name: of a device of the fleet.
        code: its one-time code; None for a board that has its certificate.
        bundles: files of bundles, >= 1.
        settings: text of its `device.toml`.
        data: samples to put there, CSV.
    """

    name: str
    code: bytes | None
    bundles: Sequence[Path]
    settings: str
    data: bytes | None = None


def write_payload(fleet: Fleet, content: Content, folder: Path, now: datetime) -> Manifest:
    """Write and sign the payload of one board.

    Args:
        fleet: unlocked.
        content: for this board.
        folder: empty, and nobody else's: the code lies there.
        now: with time zone.

    Returns:
        What was signed.
    """
    files = {name: board_file(name) for name in BOARD_FILES}
    files["ca.crt"] = fleet.ca_file.read_bytes()
    files["device.toml"] = content.settings.encode()
    files["flashed_at"] = f"{int(now.timestamp())}\n".encode()
    if content.code is not None:
        files["bootstrap.json"] = bootstrap(fleet, content.name, content.code, now)
    if content.data is not None:
        files["data.csv"] = content.data
    for bundle in content.bundles:
        files[bundle.name] = bundle.read_bytes()
    for name, data in files.items():
        write_file(folder / name, data)
    authority = Authority.load(fleet.ca_file)
    slot_bytes = max(unpacked_bytes(bundle, authority) for bundle in content.bundles)
    return fleet.sign_folder(
        folder,
        purpose=PURPOSE,
        number=int(now.timestamp()),
        facts={
            "name": content.name,
            "orders": str(RecordFile(fleet.folder).read().last_number),
            "slot_kilobytes": str(int(slot_bytes * _WITH_BYTECODE) // 1024),
        },
    )


def board_file(name: str) -> bytes:
    """Give one of the files that every board gets."""
    return resources.files("fedring.device").joinpath("board", name).read_bytes()


def bootstrap(fleet: Fleet, name: str, code: bytes, now: datetime) -> bytes:
    """Give `bootstrap.json`: with it a board asks for its certificate."""
    fields = {
        "fleet": fleet.name,
        "name": name,
        "broker": list(fleet.broker),
        "port": BROKER_PORT,
        "enrol_port": ENROLMENT_PORT,
        "code": code.hex(),
        "flashed_at": now.isoformat(timespec="seconds"),
    }
    return (json.dumps(fields, indent=1) + "\n").encode()


def settings(fleet: Fleet, template: Path | None = None) -> str:
    """Give the settings of a board: what is known of fleet and board filled in.

    Args:
        fleet: whose broker it is, and whose size decides the usual threshold.
        template: a `device.toml` of the owner's; lines that stand there as in ours are filled in,
            others stay. None for ours.

    Raises:
        ConfigError: the template cannot be read.
    """
    text = _read_text(template) if template else _packaged_template()
    lines = text.splitlines()
    filled = _replacements(fleet)
    return "\n".join(filled.get(line, line) for line in lines) + "\n"


def _replacements(fleet: Fleet) -> Mapping[str, str]:
    n_places = sum(device.revoked is None for device in fleet.devices)
    return {
        'ca = "ca.crt"': 'ca = "/etc/fedring/ca.crt"',
        'key = "device.key"': 'key = "/var/lib/fedring/device.key"',
        'certificate = "device.crt"': 'certificate = "/var/lib/fedring/device.crt"',
        '#bootstrap = "bootstrap.json"': 'bootstrap = "/var/lib/fedring/bootstrap.json"',
        'host = "localhost"': f'host = "{fleet.broker[0]}"',
        "#others = []": f"others = {json.dumps([*fleet.broker[1 : 1 + MOST_OTHERS]])}",
        'folder = "state"': 'folder = "/var/lib/fedring/state"',
        "threshold = 7": f"threshold = {usual_threshold(n_places)}",
        'file = "data.csv"': 'file = "/var/lib/fedring/data.csv"',
    }


def _packaged_template() -> str:
    return resources.files("fedring.device").joinpath("device.toml").read_text("utf-8")


def _read_text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{path}: cannot be read",
            name="config.unreadable-file",
            hint="name a device.toml, or leave `--settings` out",
        ) from error


def read_data(path: Path) -> bytes:
    """Read the samples that a board is given.

    Raises:
        DataError: the file cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(
            f"{path}: {(error.strerror or 'cannot be read').lower()}", name="data.missing-file"
        ) from error


def unpacked_bytes(path: Path, authority: Authority) -> int:
    """Add up the files that come out of a bundle.

    Raises:
        BundleError: damaged.
        SignedFolderError: of another fleet.
    """
    bundle = open_bundle(path, authority)
    with path.open("rb") as file:
        file.seek(bundle.offset)
        with tarfile.open(fileobj=file, mode="r:gz") as archive:
            return sum(member.size for member in archive)
