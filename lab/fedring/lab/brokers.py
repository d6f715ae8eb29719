"""A broker of our own for the demo and for tests, on loopback.

Mosquitto where it is installed, else the embedded broker that comes as a wheel. Either is a child
process that never outlives us (`processes.py`).
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from enum import StrEnum
from importlib import metadata, resources, util
from pathlib import Path
from string import Template
from typing import Final

from fedring.lab.processes import Child
from fedring.shared.broker import Broker, probe
from fedring.shared.errors import BrokerError

INSTALL_MOSQUITTO: Final = "sudo apt-get install mosquitto"

_HOST: Final = "127.0.0.1"
_READY_S: Final = 15.0
_ATTEMPTS: Final = 3


class Program(StrEnum):
    """The brokers that we know to start."""

    MOSQUITTO = "mosquitto"
    EMBEDDED = "iotcore"


def find_mosquitto() -> str | None:
    """Path of the Mosquitto program; Debian puts it where a user's PATH does not look."""
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin"])
    return shutil.which(Program.MOSQUITTO, path=path)


class LocalBroker:
    """A broker that we have started; leaving its `with` block stops it.

    Attributes:
        address: where it listens.
        description: program and version, for people.
        child: its process.
    """

    def __init__(self, program: Program, folder: Path, address: Broker) -> None:
        self.address = address
        self._program = program
        self._folder = folder
        self._command, self.description = _PREPARE[program](folder, address)
        self.child = self._start()

    def __enter__(self) -> LocalBroker:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        return f"mqtt://{self.address}"

    def stop(self) -> None:
        """End it; a second time does nothing."""
        self.child.stop()

    def restart(self) -> None:
        """End it and start it anew, on the same port and with what it has stored."""
        self.stop()
        self.child = self._start()

    def _start(self) -> Child:
        log = self._folder / f"{self._program}.log"
        child = Child.start(self._command, name=self.description, log=log)
        deadline = time.monotonic() + _READY_S
        while child.running and time.monotonic() < deadline:
            try:
                probe(self.address, "fedring-probe", persistent=False, timeout_s=1)
            except BrokerError:
                time.sleep(0.05)
                continue
            return child
        child.kill()
        raise BrokerError(
            f"{self.description} did not start on port {self.address.port}:\n{child.last_words()}",
            name="broker.not-started",
            hint=f"its log is {log}",
        )


def start_broker(
    folder: Path, *, program: Program | None = None, host: str = _HOST, port: int | None = None
) -> LocalBroker:
    """Start a broker and wait until it answers.

    Args:
        folder: for its configuration, log and stored messages; made when missing.
        program: which one; by default Mosquitto when it is installed, else the embedded one.
        host: address of this machine; by default loopback, where nobody else hears it.
        port: by default any free one.

    Raises:
        BrokerError: the program is missing, the port is taken, or it does not start.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if program is None:
        program = Program.MOSQUITTO if find_mosquitto() else Program.EMBEDDED
    if port is not None:
        _check_free(Broker(host, port))
        return LocalBroker(program, folder, Broker(host, port))
    for _ in range(_ATTEMPTS - 1):  # somebody may take the free port before the broker does
        address = _free_address(host)
        try:
            return LocalBroker(program, folder, address)
        except BrokerError as error:
            if error.name != "broker.not-started" or _is_free(address):
                raise
    return LocalBroker(program, folder, _free_address(host))


def _prepare_mosquitto(folder: Path, address: Broker) -> tuple[list[str], str]:
    program = find_mosquitto()
    if program is None:
        raise BrokerError(
            "Mosquitto is not installed",
            name="broker.missing-program",
            hint=f"install it with: {INSTALL_MOSQUITTO}",
        )
    file = _fill_in("mosquitto.conf", folder, address, store=folder.resolve())
    help_text = subprocess.run(  # noqa: S603  # the program is the one in PATH
        [program, "-h"], capture_output=True, text=True, check=False
    ).stdout
    version = help_text.partition("\n")[0].rpartition(" ")[2]  # "mosquitto version 2.0.11"
    return [program, "-c", str(file)], f"Mosquitto {version}"


def _prepare_embedded(folder: Path, address: Broker) -> tuple[list[str], str]:
    if util.find_spec("iotcore") is None:
        raise BrokerError(
            "neither Mosquitto nor the embedded broker is installed",
            name="broker.missing-program",
            hint=f"install one with: {INSTALL_MOSQUITTO} (or: pip install 'fedring[lab]')",
        )
    file = _fill_in("iotcore.toml", folder, address)
    # At any lower level it logs every packet.
    command = [sys.executable, "-m", "iotcore", "--config", str(file), "--log-level", "CRITICAL"]
    return command, f"iotcore {metadata.version('iotcore')} (embedded)"


_PREPARE: Final = {
    Program.MOSQUITTO: _prepare_mosquitto,
    Program.EMBEDDED: _prepare_embedded,
}


def _fill_in(template: str, folder: Path, address: Broker, **values: object) -> Path:
    text = (resources.files("fedring.lab") / template).read_text("utf-8")
    file = folder / template
    filled = Template(text).substitute(values, host=address.host, port=address.port)
    file.write_text(filled, "utf-8")
    return file


def _free_address(host: str) -> Broker:
    with socket.socket() as listener:
        listener.bind((host, 0))
        return Broker(host, listener.getsockname()[1])


def _is_free(address: Broker) -> bool:
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((address.host, address.port))
        except OSError:
            return False
        return True


def _check_free(address: Broker) -> None:
    if not _is_free(address):
        raise BrokerError(
            f"port {address.port} of this machine is taken",
            name="broker.port-taken",
            hint="is a broker running already? Use it with --broker, or give another port",
        )
