"""Boards with real agents, under a stand-in for systemd that starts, watches and restarts them.

The stand-in does what the units ask for: it hears READY over a real notify socket, starts an agent
that ended again, and starts the updater when its unit's paths say so. The updater asks it by
programs `systemctl` and `journalctl`, which talk to it through files.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final

from tests.integration.slots import Board

from fedring.lab.programs import ONE_THREAD, write_toml

_SYSTEMCTL: Final = """\
#!/bin/sh
root={root}
case $1 in
stop | start)
    echo "$1" >"$root/asked.new" && mv "$root/asked.new" "$root/asked"
    while [ -e "$root/asked" ]; do sleep 0.02; done
    ;;
show) cat "$root/shown" ;;
esac
"""
_JOURNALCTL: Final = """\
#!/bin/sh
tail -n 1 {root}/agent.log
"""
_DRIVER: Final = """\
import os, sys
from pathlib import Path
from fedring.device.update.updater import Limits, install

limits = Limits(ready_s=60, trial_s=0.3, calm_s=0, poll_s=0.05)
install(Path(sys.argv[1]), None, limits, lambda step: print(step, flush=True))
"""
_LAUNCHER: Final = """\
#!/bin/sh
{first}
slot=$(dirname "$(readlink -f "$0")")
export PYTHONPATH="$slot/site" PYTHONDONTWRITEBYTECODE=1
exec {python} -c 'from fedring.shared.cli import main; main()' "$@"
"""
_ENTRY_POINTS: Final = "[fedring.commands]\ndevice = fedring.device.cli:command\n"
LAST_WORDS: Final = "fedring: error: this version forgot something"
_BROKEN: Final = f'[ "$2" != run ] || {{ echo "{LAST_WORDS}" >&2; exit 1; }}'


def real_agent(version: str, *, broken: bool = False) -> dict[str, bytes]:
    """A slot that runs the fedring of this clone under another version.

    Args:
        version: that it says of itself.
        broken: it passes its try-out, and ends as soon as it is to take part.
    """
    notes = f"site/fedring-{version}.dist-info"
    launcher = _LAUNCHER.format(first=_BROKEN if broken else "", python=sys.executable)
    return {
        "fedring": launcher.encode(),
        "site/behaviour": b"real",
        "site/module.py": b"x = 1\n",
        f"{notes}/METADATA": f"Metadata-Version: 2.1\nName: fedring\nVersion: {version}\n".encode(),
        f"{notes}/entry_points.txt": _ENTRY_POINTS.encode(),
    }


Under = Callable[[str], Sequence[str | Path]]
"""What comes before "agent" or "updater" on its command line, each time one is started."""


class RunningBoard:
    """A board whose agent runs; leaving its `with` block ends everything on it.

    Args:
        board: its folders.
        device: folder with key and certificates.
        broker_port: of a broker on loopback without TLS.
        data: the board's data file.
        under: what to start agent and updater with.
    """

    def __init__(
        self,
        board: Board,
        device: Path,
        broker_port: int,
        data: Path,
        under: Under = lambda _: (),
    ) -> None:
        self.board = board
        self._under = under
        root = board.root
        write_toml(
            root / "device.toml",
            {
                "fleet": {
                    "ca": str(device / "ca.crt"),
                    "key": str(device / "device.key"),
                    "certificate": str(device / "device.crt"),
                },
                "broker": {"host": "127.0.0.1", "port": broker_port, "tls": False},
                "state": {"folder": str(root / "var" / "lib" / "fedring")},
                "privacy": {"threshold": 2},
                "data": {"file": str(data)},
            },
        )
        (root / "var" / "lib" / "fedring").chmod(0o700)
        for name, text in (("systemctl", _SYSTEMCTL), ("journalctl", _JOURNALCTL)):
            (root / "bin" / name).write_text(text.format(root=root))
        board.driver.write_text(_DRIVER)
        self._notified = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._notified.bind(str(root / "notify"))
        self._notified.setblocking(False)
        self._agent: subprocess.Popen[bytes] | None = None
        self._updater: subprocess.Popen[bytes] | None = None
        self._wanted = True
        self._ready = False
        self._restarts = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"systemd of {root.name}")

    def __enter__(self) -> RunningBoard:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        self._thread.join()
        for process in (self._agent, self._updater):
            if process is not None and process.poll() is None:
                process.kill()
                process.wait()
        self._notified.close()

    def _run(self) -> None:
        root = self.board.root
        while not self._over.wait(0.02):
            self._obey(root / "asked")
            if self._wanted:
                self._keep_running()
            self._hear()
            state = "active" if self._ready else "activating"
            shown = root / "shown.new"
            shown.write_text(f"ActiveState={state}\nNRestarts={self._restarts}\nResult=success\n")
            shown.rename(root / "shown")
            self._start_updater()

    def _obey(self, asked: Path) -> None:
        """Do once what `systemctl` asks for; it returns when its file is gone, as the real one."""
        if not asked.exists():
            return
        self._wanted = asked.read_text().strip() == "start"
        if not self._wanted:
            self._stop()
        asked.unlink()

    def _stop(self) -> None:
        if self._agent is not None:
            self._agent.send_signal(signal.SIGTERM)
            self._agent.wait(60)
        self._agent, self._ready, self._restarts = None, False, 0

    def _keep_running(self) -> None:
        if self._agent is not None and self._agent.poll() is None:
            return
        self._restarts += self._agent is not None
        self._ready = False
        launcher = self.board.program / "current" / "fedring"
        settings = self.board.root / "device.toml"
        environment = os.environ | ONE_THREAD | {"NOTIFY_SOCKET": str(self.board.root / "notify")}
        with (self.board.root / "agent.log").open("ab") as log:
            self._agent = subprocess.Popen(
                [*self._under("agent"), launcher, "device", "run", "--config", settings],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                env=environment,
            )

    def _hear(self) -> None:
        while True:
            try:
                said = self._notified.recv(4096)
            except BlockingIOError:
                return
            self._ready |= b"READY=1" in said.splitlines()

    def _start_updater(self) -> None:
        running = self._updater is not None and self._updater.poll() is None
        if running or not self.board.starts_updater:
            return
        path = f"{self.board.root / 'bin'}:{os.environ['PATH']}"
        with (self.board.root / "updater.log").open("ab") as log:
            self._updater = subprocess.Popen(
                [*self._under("updater"), sys.executable, self.board.driver, self.board.root],
                stdout=log,
                stderr=log,
                env=os.environ | {"PATH": path},
            )
