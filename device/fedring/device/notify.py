"""Telling systemd how we are: its readiness protocol, without its library.

A report is one datagram of `NAME=value` lines to the socket that NOTIFY_SOCKET names. Where systemd
did not start us there is none, and everything here does nothing.

Source: sd_notify(3), sd_watchdog_enabled(3).
"""

from __future__ import annotations

import asyncio
import os
import socket
from contextlib import suppress
from typing import Final

from fedring.shared.texts import printable

START_EXTENSION_S: Final = 150
"""How long after a sign of life a start may take; the unit's own limit until the first one."""

_BEAT_S: Final = 20.0
_ABSTRACT: Final = "@"


def is_watched() -> bool:
    """Whether somebody started us who wants to hear how we are."""
    return "NOTIFY_SOCKET" in os.environ


def ready(status: str) -> None:
    """The start is over; said once."""
    _tell("READY=1", f"STATUS={printable(status)}")


def status(text: str) -> None:
    """What we are at, one line for `systemctl status`."""
    _tell(f"STATUS={printable(text)}")


def still_starting(text: str) -> None:
    """The start goes on, with good reason: at most `START_EXTENSION_S` from now."""
    _tell(f"EXTEND_TIMEOUT_USEC={START_EXTENSION_S * 1_000_000}", f"STATUS={printable(text)}")


def stopping() -> None:
    """We are about to end on purpose."""
    _tell("STOPPING=1")


def start_beating(loop: asyncio.AbstractEventLoop) -> None:
    """Give a sign of life again and again, as long as this event loop turns.

    Three for each WatchdogSec of the unit. Before `ready` they extend the start, after it they
    keep the watchdog quiet; systemd ignores whichever is not due.
    """
    if not is_watched():
        return
    every_s = _watchdog_s() / 3 if _watchdog_s() else _BEAT_S

    def beat() -> None:
        _tell("WATCHDOG=1", f"EXTEND_TIMEOUT_USEC={START_EXTENSION_S * 1_000_000}")
        loop.call_later(every_s, beat)

    beat()


def _watchdog_s() -> float:
    """WatchdogSec of the unit; 0 where it has none."""
    if os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return 0.0
    return int(os.environ.get("WATCHDOG_USEC", "0")) / 1e6


def _tell(*lines: str) -> None:
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith(_ABSTRACT):
        address = "\0" + address[1:]
    kind = socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
    with socket.socket(socket.AF_UNIX, kind) as teller, suppress(OSError):
        # Whoever does not take it in time starts us anew; the next sign of life may come through.
        teller.sendto("\n".join(lines).encode(), address)
