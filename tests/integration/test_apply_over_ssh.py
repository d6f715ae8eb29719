"""The owner's folder goes to a server machine: a real sshd, a real Mosquitto, a stolen board."""

import os
import shlex
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from attrs import frozen
from tests.boards.page import prose
from tests.integration.machines import Service, Sshd

from fedring.fleet.authority import Fleet, create_fleet
from fedring.fleet.issuing import new_key
from fedring.lab.programs import ONE_THREAD
from fedring.shared.broker import Broker, probe
from fedring.shared.errors import BrokerError
from fedring.shared.identity import Authority
from fedring.shared.tls import tls_context

PROGRAM = Path(sys.executable).parent / "fedring"


@frozen
class Site:
    """The owner's machine and a server's."""

    fleet: Fleet
    service: Service
    sshd: Sshd

    @property
    def adapted(self) -> list[str]:
        """All that is different about a machine in a folder."""
        return [
            *("--root", str(self.service.machine)),
            *("--reload", f"{self.service.command} reload"),
            *("--restart", f"{self.service.command} restart"),
        ]

    def apply(self, *options: str) -> subprocess.CompletedProcess[str]:
        """What the owner types."""
        there = ["--broker", self.sshd.destination, "--program", str(PROGRAM)]
        folder = str(self.fleet.server_folder)
        return self.run("coordinator", "apply", folder, *there, *self.adapted, *options)

    def run(self, *words: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        """Type a command on the owner's machine."""
        return subprocess.run(
            [PROGRAM, *words],
            cwd=cwd,
            env=os.environ | ONE_THREAD | {"PATH": f"{self.sshd.tools}:{os.environ['PATH']}"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def enters(self, name: str) -> bool:
        folder = self.fleet.device_folder(name)
        tls: ssl.SSLContext = tls_context(
            folder / "ca.crt", folder / "device.crt", folder / "device.key", judge_dates=False
        )
        try:
            probe(Broker("localhost", self.service.port, tls), name, persistent=False)
        except BrokerError as error:
            return error.name != "broker.certificate-refused"
        return True


@pytest.fixture
def site(
    tmp_path: Path, mosquitto: Path, sshd: Path, unused_port: Callable[[], int]
) -> Iterator[Site]:
    with ExitStack() as ending:
        fleet = create_fleet(tmp_path / "greenhouse", "greenhouse", ["localhost"])
        fleet.add_all(["b01", "b02"])
        server = Sshd(tmp_path / "sshd", sshd)
        ending.callback(server.stop)
        service = Service(tmp_path / "machine", mosquitto, unused_port())
        ending.callback(service.stop)
        yield Site(fleet, service, server)


def test_from_the_laptop_to_a_broker_that_keeps_a_stolen_board_out(site: Site) -> None:
    done = site.apply()
    assert done.returncode == 0, done.stderr
    fingerprint = Authority.load(site.fleet.ca_file).fingerprint
    assert f"this machine trusts fleet greenhouse from now on: {fingerprint}\n" in done.stdout
    assert "number 1 of fleet greenhouse is in place\n" in done.stdout
    assert site.service.verbs() == ["restart"]
    assert site.enters("b01")
    assert site.enters("b02")

    site.fleet.revoke("b01")
    assert site.enters("b01")  # nobody told the broker yet
    done = site.apply()
    assert done.returncode == 0, done.stderr
    assert "reload" in site.service.verbs()
    assert not site.enters("b01")
    assert site.enters("b02")
    revoked = (site.service.machine / "etc" / "fedring" / "revoked").read_bytes()
    assert Authority.load(site.fleet.ca_file).revocation(revoked).revoked == {1}

    keys = {path.name for path in site.service.machine.rglob("*.key")}
    assert keys == {"broker.key", "coordinator.key", "canary.key", "probe.key"}
    assert list(site.sshd.temporary.iterdir()) == []  # the copy that travelled is gone


def test_a_folder_that_was_carried_there_is_applied_there(site: Site) -> None:
    words = prose("sudo fedring coordinator apply server").split()[2:]
    done = site.run(*words, *site.adapted, cwd=site.fleet.folder)
    assert done.returncode == 0, done.stderr
    assert "number 1 of fleet greenhouse is in place\n" in done.stdout
    assert site.service.verbs() == ["restart"]
    assert site.enters("b01")


def test_one_command_revokes_a_board_and_cuts_it_off(site: Site) -> None:
    program = site.sshd.programs / "fedring"
    program.write_text(f'#!/bin/sh\nexec {PROGRAM} "$@" {shlex.join(site.adapted)}\n')
    program.chmod(0o755)
    assert site.apply().returncode == 0
    assert site.enters("b01")
    revoke = ["fleet", "revoke", "--fleet", str(site.fleet.folder), "b01", "--broker"]
    done = site.run(*revoke, site.sshd.destination)
    assert done.returncode == 0, done.stderr
    first, *rest = done.stdout.splitlines()
    assert first == "revoked b01, number 1, with list 2"
    assert rest[-1].endswith(" of fleet greenhouse is in place")
    assert not site.enters("b01")
    assert site.enters("b02")

    program.write_text("#!/bin/sh\nexit 2\n")
    done = site.run(*revoke, site.sshd.destination)
    assert done.returncode == 2
    assert "next: b01 is not cut off yet; once that is mended: fedring coordinator" in done.stderr
    site.sshd.stop()
    done = site.run(*revoke, site.sshd.destination)
    assert done.returncode == 2
    assert "[apply.ssh]" in done.stderr
    assert "is written again" in done.stdout, "again is no harm"


def test_each_machine_gets_its_own_part_only(site: Site) -> None:
    done = site.apply("--only", "coordinator")
    assert done.returncode == 0, done.stderr
    machine = site.service.machine
    keys = {path.name for path in machine.rglob("*.key")}
    assert keys == {"coordinator.key"}
    assert site.service.verbs() == []


def test_a_refusal_there_is_one_here(site: Site) -> None:
    site.fleet.certify(site.fleet.invite(["b03"])[0].name, new_key().public_key())
    assert site.apply("--only", "coordinator").returncode == 0
    other = create_fleet(site.fleet.folder.with_name("barn"), "greenhouse", ["localhost"])
    stranger = Site(other, site.service, site.sshd).apply("--only", "coordinator")
    assert stranger.returncode == 2
    assert "[signed-folder.foreign]" in stranger.stderr
    assert list(site.sshd.temporary.iterdir()) == []


def test_nobody_there_is_told(site: Site) -> None:
    site.sshd.stop()
    done = site.apply()
    assert done.returncode == 2
    assert f"could not copy the folder to {site.sshd.destination}" in done.stderr
    assert "[apply.ssh]" in done.stderr
