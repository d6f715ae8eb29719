"""Real brokers on loopback for the tests of this folder."""

import errno
import os
import secrets
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from importlib import metadata
from pathlib import Path

import pytest

from fedring.fleet.bundles.slots import fill_slot
from fedring.fleet.bundles.targets import Target
from fedring.lab.brokers import LocalBroker, Program, start_broker
from fedring.lab.processes import Child

BROKER_CONFIG = Path(__file__).parents[2] / "broker_config"

MOSQUITTO = pytest.param(Program.MOSQUITTO, marks=pytest.mark.mosquitto)
EMBEDDED = pytest.param(Program.EMBEDDED)


@pytest.fixture(params=[MOSQUITTO, EMBEDDED], ids=str)
def broker(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[LocalBroker]:
    """A fresh broker, of each kind in turn; a test may name one with `indirect=True`."""
    with start_broker(tmp_path / "broker", program=request.param) as running:
        yield running


@pytest.fixture(scope="module")
def shipped_mosquitto(mosquitto: Path) -> Iterator[Callable[..., tuple[Child, int]]]:
    """Starts Mosquitto with exactly the files of broker_config; ends all when the module is done.

    start(machine, fleet/broker) makes the folder `machine` what / is on the broker's machine, with
    the certificates where they belong, and gives process and port; a second time it starts anew on
    what is there. Only the port comes from an include, a free one unless it is given. `change` may
    spoil a shipped file first: called with its name and text, it gives the text to use.
    """
    with ExitStack() as running:

        def start(
            machine: Path,
            certificates: Path,
            change: Callable[[str, str], str] = lambda _, text: text,
            port: int | None = None,
        ) -> tuple[Child, int]:
            settings = machine / "etc" / "mosquitto"
            if not machine.exists():
                settings_apart = shutil.ignore_patterns("*.conf")
                shutil.copytree(certificates, settings / "fedring", ignore=settings_apart)
                (settings / "site").mkdir()
                (machine / "var" / "lib" / "mosquitto").mkdir(parents=True)
                (machine / "run" / "mosquitto").mkdir(parents=True)
                for name in ("mosquitto.conf", "acl"):
                    text = change(name, (BROKER_CONFIG / name).read_text())
                    (settings / name).write_text(text)
            port = port or free_port()
            # As root it would change its user: it could not read the files of this test, and the
            # kernel would forget that it ends with us.
            user = "user root\n" if os.geteuid() == 0 else ""
            (settings / "site" / "test.conf").write_text(
                f"port {port}\nbind_address 127.0.0.1\n{user}"
            )
            child = Child.start(
                ["env", f"--chdir={machine}", mosquitto, "-c", "etc/mosquitto/mosquitto.conf"],
                name="mosquitto",
                log=machine / "log",
            )
            running.callback(child.stop)
            await_port(child, port)
            return child, port

        yield start


def free_port() -> int:
    """A port of loopback that nobody uses at this moment.

    Below those that the kernel gives to connections; not drawn from `random`, which has the same
    seed in all processes that run tests side by side.
    """
    while True:
        port = 20_000 + secrets.randbelow(12_000)
        try:
            socket.create_server(("127.0.0.1", port)).close()
        except OSError as fault:
            if fault.errno != errno.EADDRINUSE:
                raise
        else:
            return port


def await_port(child: Child, port: int) -> None:
    """Wait until a broker listens."""
    deadline = time.monotonic() + 15
    while time.monotonic() < deadline:
        assert child.running, child.last_words()
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.02)
        else:
            return
    raise AssertionError(child.last_words())


@pytest.fixture(scope="session")
def unused_port() -> Callable[[], int]:
    """Gives ports of loopback that nobody uses."""
    return free_port


@pytest.fixture(scope="session")
def board_slot(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Target], Path]:
    """Gives what the bundle for a kind of board unpacks into, made once; nobody may change it."""
    made: dict[Target, Path] = {}

    def slot(target: Target) -> Path:
        if target not in made:
            folder = tmp_path_factory.mktemp(str(target))
            fill_slot(target, folder, version=metadata.version("fedring"))
            made[target] = folder
        return made[target]

    return slot
