"""A whole site with the shipped files: both brokers, a coordinator, an owner, and boards to enrol.

SITE/
    machine/        what / is on the broker's machine
    owner/greenhouse/   the fleet's folder
    boards/NAME/    a board's card: ca.crt, bootstrap.json, device.toml, data.csv, nothing else
    logs/           what each process says
"""

from __future__ import annotations

import json
import os
import shutil
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.integration.conftest import BROKER_CONFIG, await_port, free_port

from fedring.fleet.authority import create_fleet
from fedring.fleet.codes import Invitation
from fedring.lab.fleets import COORDINATOR, write_samples
from fedring.lab.processes import Child
from fedring.lab.programs import FEDRING, ONE_THREAD, start_part, write_toml
from fedring.lab.spy import Spy
from fedring.shared.broker import Broker
from fedring.shared.certificates import read_certificate
from fedring.shared.enrolment import Carried
from fedring.shared.tls import nameless_context, tls_context
from fedring.shared.topics import Topics

FLEET = "greenhouse"
FLASHED_AT = "2026-01-02T03:04:05+00:00"
WAIT_S = 180.0
"""Far longer than anything takes on an idle machine: only a failure waits so long."""


class Site:
    """Everything of one fleet on this machine.

    Attributes:
        folder: for everything.
        fleet: the owner's.
        port: of the fleet's broker.
        board_port: at which boards without a certificate ask.
        coordinator_port: at which the coordinator hears them.
        enrolment: the Mosquitto of those two.
        boards: process of each board that was started.
    """

    def __init__(self, folder: Path, start: Callable[..., tuple[Child, int]], mosquitto: Path):
        self.folder = folder
        self.fleet = create_fleet(folder / "owner" / FLEET, FLEET, ["localhost"])
        self.fleet.add("watcher")
        self.topics = Topics(FLEET)
        self.machine = folder / "machine"
        self.logs = folder / "logs"
        self.logs.mkdir()
        self.boards: dict[str, Child] = {}
        self.coordinator: Child | None = None
        self._mosquitto = mosquitto
        _, self.port = start(self.machine, self.fleet.broker_folder)
        self.board_port, self.coordinator_port = free_port(), free_port()
        self.write_enrolment_conf()
        self.enrolment = self.start_enrolment()

    # -- brokers ---------------------------------------------------------------------------

    def write_enrolment_conf(self, change: Callable[[str], str] = lambda text: text) -> None:
        """Put the shipped files in place; only ports and addresses are others."""
        settings = self.machine / "etc" / "mosquitto"
        text = (BROKER_CONFIG / "enrolment.conf").read_text()
        for shipped, port in ((8884, self.board_port), (8885, self.coordinator_port)):
            assert f"\nlistener {shipped}\n" in text
            text = text.replace(f"\nlistener {shipped}\n", f"\nlistener {port} 127.0.0.1\n")
        user = "user root\n" if os.geteuid() == 0 else ""
        (settings / "enrolment.conf").write_text(user + change(text))
        for access_list in ("enrolment.acl", "enrolment-coordinator.acl"):
            shutil.copy(BROKER_CONFIG / access_list, settings)

    def start_enrolment(self) -> Child:
        """Start the Mosquitto for boards without a certificate."""
        child = Child.start(
            [
                "env",
                f"--chdir={self.machine}",
                self._mosquitto,
                "-c",
                "etc/mosquitto/enrolment.conf",
            ],
            name="enrolment",
            log=self.logs / "enrolment-broker.log",
        )
        await_port(child, self.board_port)
        return child

    def restart_enrolment(self) -> None:
        """End it and start it anew."""
        self.enrolment.stop()
        self.enrolment = self.start_enrolment()

    def broker(self, name: str = "watcher") -> Broker:
        """The fleet's broker, entered with the certificate of a device whose key was made here."""
        files = self.fleet.device_folder(name)
        tls = tls_context(
            files / "ca.crt", files / "device.crt", files / "device.key", judge_dates=True
        )
        return Broker("localhost", self.port, tls)

    @property
    def stranger(self) -> ssl.SSLContext:
        """TLS of somebody who knows the broker's authority, and has no certificate."""
        return nameless_context(self.fleet.ca_file, earliest=datetime.now(UTC))

    # -- the coordinator -------------------------------------------------------------------

    @property
    def coordinator_file(self) -> Path:
        return self.fleet.coordinator_folder / "coordinator.toml"

    def start_coordinator(self, n_devices: int = 3, **broker: object) -> Child:
        """Start it, or start it again; with some settings of its broker changed."""
        tables: dict[str, Any] = {table: dict(rows) for table, rows in COORDINATOR.items()}
        tables["state"] = {"folder": str(self.folder / "state")}
        tables["broker"] = {"host": "localhost", "port": self.port} | broker
        tables["enrolment"] = {"port": self.coordinator_port}
        tables["ring"] |= {"size": max(3, n_devices), "min_devices": n_devices}
        write_toml(self.coordinator_file, tables)
        self.coordinator = start_part(
            "coordinator", "coordinator", self.coordinator_file, self.logs
        )
        return self.coordinator

    @property
    def requests(self) -> Path:
        """File in which the coordinator keeps what waits for the owner."""
        return self.folder / "state" / "enrolment" / "requests"

    def carried(self) -> Carried:
        """What waits for the owner; nothing before anybody has asked."""
        return Carried.load(self.requests) if self.requests.exists() else Carried(fleet=FLEET)

    def await_request(self, name: str) -> bytes:
        """Wait until the request of a board waits for the owner; gives it."""
        self.wait(lambda: name in dict(self.carried().items), f"{name} waits")
        return dict(self.carried().items)[name]

    # -- boards ----------------------------------------------------------------------------

    def card(self, name: str) -> Path:
        """What lies on a board."""
        return self.folder / "boards" / name

    def flash(self, invitation: Invitation, *, code: bytes | None = None) -> Path:
        """Make a card as `fleet flash` does, without the program."""
        card = self.card(invitation.name)
        card.mkdir(parents=True, mode=0o700)
        shutil.copy(self.fleet.ca_file, card / "ca.crt")
        bootstrap = {
            "fleet": FLEET,
            "name": invitation.name,
            "broker": ["localhost"],
            "port": self.port,
            "enrol_port": self.board_port,
            "code": (code or invitation.code).hex(),
            "flashed_at": FLASHED_AT,
        }
        (card / "bootstrap.json").write_text(json.dumps(bootstrap))
        write_samples(card / "data.csv", seed=invitation.name)
        write_toml(
            card / "device.toml",
            {
                "fleet": {
                    "ca": "ca.crt",
                    "key": "own/device.key",
                    "certificate": "own/device.crt",
                    "bootstrap": "bootstrap.json",
                },
                "broker": {"host": "localhost", "port": self.port},
                "state": {"folder": "own"},
                "privacy": {"threshold": 2},
                "data": {"file": "data.csv"},
            },
        )
        return card

    def boot(self, name: str, under: Sequence[str | Path] = ()) -> Child:
        """Start a board."""
        file = self.card(name) / "device.toml"
        self.boards[name] = start_part("device", name, file, self.logs, under)
        return self.boards[name]

    def stop_boards(self) -> None:
        """End the boards that still run."""
        for board in self.boards.values():
            board.stop()
        self.boards.clear()

    def log(self, name: str) -> str:
        """What a process said."""
        return (self.logs / f"{name}.log").read_text(errors="replace")

    def serial(self, name: str) -> int:
        """Serial number of the certificate on a board."""
        return read_certificate(self.card(name) / "own" / "device.crt").serial_number

    # -- the owner -------------------------------------------------------------------------

    @property
    def owner_at_broker(self) -> list[str]:
        """Options of `fedring fleet sign`."""
        return ["--fleet", str(self.fleet.folder), "--port", str(self.port)]

    def sign_watching(self) -> Child:
        """Start `fedring fleet sign --watch`."""
        return Child.start(
            [*FEDRING, "fleet", "sign", "--watch", *self.owner_at_broker],
            name="sign",
            log=self.logs / "sign.log",
            environment=os.environ | ONE_THREAD,
        )

    def command(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        """Run `fedring` with these arguments to its end."""
        return subprocess.run(
            [*FEDRING, *arguments],
            capture_output=True,
            text=True,
            check=False,
            timeout=WAIT_S,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            env=os.environ | ONE_THREAD,
        )

    def wait(self, condition: Callable[[], object], what: str) -> None:
        """Wait until something is so; nobody may have died meanwhile."""
        deadline = time.monotonic() + WAIT_S
        while not condition():
            assert time.monotonic() < deadline, f"{what}\n{self.last_words()}"
            time.sleep(0.05)

    def await_log(self, name: str, text: str) -> None:
        """Wait until a process says something."""
        self.wait(lambda: text in self.log(name), f"{name} does not say: {text}")

    def last_words(self) -> str:
        """The ends of all logs."""
        return "\n".join(
            f"== {file.stem}\n" + "\n".join(file.read_text(errors="replace").splitlines()[-12:])
            for file in sorted(self.logs.glob("*.log"))
        )

    def stop(self) -> None:
        """End all processes that were started here."""
        self.stop_boards()
        for child in (self.coordinator, self.enrolment):
            if child is not None:
                child.stop()


@contextmanager
def spied(site: Site) -> Iterator[Spy]:
    """Hear what everybody with a certificate may hear."""
    with ExitStack() as stack:
        spy = Spy(site.broker(), site.topics)
        stack.enter_context(spy)
        yield spy
