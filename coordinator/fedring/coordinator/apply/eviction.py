"""Close the live connections of those who lost a certificate.

A reload takes every right from a name that nobody holds any more. A name that was given again, or
whose certificate was renewed, keeps its rights; and Mosquitto 2 looks at a certificate only when a
connection begins. So an old one is as good as before until it is closed. Mosquitto closes one when
the same client id connects again. Nobody can do that over TLS, where the client id is the name in
a certificate; but mosquitto.conf opens a socket beside it, for root of its own machine alone, where
a client says itself who it is, and may read and write nothing.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from fedring.shared.broker import enter
from fedring.shared.errors import BrokerError
from fedring.shared.identity import NAME_PATTERN

_ANSWER_S: Final = 5.0


def evict(eviction_socket: Path, names: Iterable[str]) -> None:
    """Close the connections of these clients and drop what waits for them.

    Args:
        eviction_socket: of the broker, as mosquitto.conf says.
        names: client ids; who is not connected is passed over.

    Raises:
        BrokerError: the socket is not there, not ours to use, or no broker answers on it; the
            names from there on were not tried.
    """
    for name in names:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(_ANSWER_S)
            try:
                _connect(connection, eviction_socket)
                enter(connection, eviction_socket, name, persistent=False)
                connection.sendall(b"\xe0\x00")
            except (OSError, BrokerError) as error:
                reason = getattr(error, "strerror", None) or error
                raise BrokerError(
                    f"connections that had to be closed may still be open: {eviction_socket}:"
                    f" {reason}",
                    name="broker.not-evicted",
                    hint="close them with: sudo systemctl restart mosquitto",
                ) from error


def _connect(connection: socket.socket, path: Path) -> None:
    """By way of its folder: the address of a socket has room for 107 bytes only."""
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        connection.connect(f"/proc/self/fd/{folder}/{path.name}")
    finally:
        os.close(folder)


def new_losses(lost: bytes, before: bytes) -> list[str]:
    """Give the names that lost a certificate since.

    Args:
        lost: lines of a name and the serial number of a certificate of it that was revoked.
        before: the same as it was known when connections were closed last.

    Raises:
        BrokerError: another line.
    """
    lines = sorted(set(lost.splitlines()) - set(before.splitlines()))
    names = [line.partition(b" ")[0].decode("ascii", "replace") for line in lines]
    if not all(map(NAME_PATTERN.fullmatch, names)):
        raise BrokerError(
            "the list of those who lost a certificate is damaged",
            name="broker.lost",
            hint="nothing was changed; make the folder anew on the owner's machine",
        )
    return sorted(set(names))
