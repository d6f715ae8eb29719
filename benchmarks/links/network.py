"""Boards around one broker, each behind a link of its own with a rate, on this machine.

A board is a network namespace. A cable (veth) leads from it to a bridge on which the broker
listens; both ends of the cable send at the link's rate (token bucket), so that it carries as much
up as down at the same time. Needs root, `ip` and `tc`. What was made goes when the block is left.
"""

from __future__ import annotations

import os
import subprocess
from contextlib import ExitStack
from typing import Final

BURST: Final = "16kb"
QUEUE: Final = "100ms"
"""What a link holds back before it drops: as long as on a common router."""


class Star:
    """So many boards, each behind a cable.

    Args:
        n_boards: 1..200.

    Attributes:
        host: address of the bridge, the same for all boards.
    """

    def __init__(self, n_boards: int) -> None:
        mark = os.getpid() % 250
        self.host = f"10.214.{mark}.1"
        self._names = [f"ring{mark}x{place}" for place in range(n_boards)]
        self._bridge = f"ring{mark}"
        self._made = ExitStack()

    def __enter__(self) -> Star:
        with ExitStack() as undo:
            _run("ip", "link", "add", self._bridge, "type", "bridge")
            undo.callback(_run, "ip", "link", "delete", self._bridge)
            _run("ip", "address", "add", f"{self.host}/24", "dev", self._bridge)
            _run("ip", "link", "set", self._bridge, "up")
            for place, name in enumerate(self._names, start=2):
                _run("ip", "netns", "add", name)
                undo.callback(_run, "ip", "netns", "delete", name)
                _run("ip", "link", "add", name, "type", "veth", "peer", "cable", "netns", name)
                _run("ip", "link", "set", name, "master", self._bridge, "up")
                address = f"{self.host.rpartition('.')[0]}.{place}/24"
                _run("ip", "-n", name, "address", "add", address, "dev", "cable")
                _run("ip", "-n", name, "link", "set", "cable", "up")
                _run("ip", "-n", name, "link", "set", "lo", "up")
            self._made = undo.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._made.close()

    def inside(self, place: int) -> list[str]:
        """Runs a program as the board of this place, 0 to n - 1."""
        return ["ip", "netns", "exec", self._names[place]]

    def limit(self, mbit_s: float) -> None:
        """Give every link a rate, from now on."""
        bucket = ["root", "tbf", "rate", f"{mbit_s}mbit", "burst", BURST, "latency", QUEUE]
        for name in self._names:
            _run("tc", "qdisc", "replace", "dev", name, *bucket)
            _run("tc", "-n", name, "qdisc", "replace", "dev", "cable", *bucket)


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)
