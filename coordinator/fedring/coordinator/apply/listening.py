"""Where Mosquitto listens by its settings, the files that it includes read as it reads them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

PORT: Final = 8883
LOOPBACK: Final = "127.0.0.1"


def listening(settings: Path) -> tuple[str, int]:
    """Give address and port of the default listener, as a client on the same machine uses them.

    Args:
        settings: mosquitto.conf in ROOT/etc/mosquitto; folders that it includes begin at ROOT.
    """
    address, port = LOOPBACK, PORT
    for line in _lines(settings, settings.parents[2]):
        match line.split():
            case ["listener", *_]:  # what follows is another listener's
                break
            case ["port", number]:
                port = int(number)
            case ["bind_address", name]:
                address = name
    return address, port


def _lines(settings: Path, root: Path) -> Iterator[str]:
    for line in settings.read_text("utf-8", "replace").splitlines():
        if line.startswith("include_dir "):
            folder = root / line.removeprefix("include_dir ").strip().lstrip("/")
            for file in sorted(folder.glob("*.conf")):
                yield from file.read_text("utf-8", "replace").splitlines()
        else:
            yield line
