"""Folders that stand for machines: Mosquitto as a service of one, sshd that leads to it."""

import getpass
import os
import subprocess
from pathlib import Path

from tests.integration.conftest import await_port, free_port

from fedring.lab.processes import Child

_SUPERVISE = """
cd {machine}
trap 'kill $! 2>/dev/null; exit 0' TERM
until [ -f started ]; do sleep 0.05; done
while :; do
    {mosquitto} -c etc/mosquitto/mosquitto.conf &
    echo $! >pid.new
    mv pid.new pid
    wait $!
done
"""
_SERVICE = """#!/bin/bash
cd {machine}
echo "$1" >>service.log
before=$(cat pid 2>/dev/null)
case $1 in
reload) kill -HUP $before ;;
restart)
    touch started
    [ -z "$before" ] || kill $before
    for _ in {{1..600}}; do
        [ -f pid ] && [ "$(cat pid)" != "$before" ] &&
            (: <>/dev/tcp/127.0.0.1/{port}) 2>/dev/null && exit 0
        sleep 0.05
    done
    echo "Mosquitto does not listen" >&2
    exit 1 ;;
esac
"""
_SSHD = """
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/client_key.pub
PidFile none
PasswordAuthentication no
PermitRootLogin prohibit-password
StrictModes no
UsePAM no
SetEnv TMPDIR={folder}/temporary PATH={folder}/programs:/usr/bin:/bin
"""
_SSH = """
Host *
    User {user}
    IdentityFile {folder}/client_key
    IdentitiesOnly yes
    BatchMode yes
    LogLevel ERROR
    StrictHostKeyChecking accept-new
    UserKnownHostsFile {folder}/known_hosts
"""


class Service:
    """Mosquitto, started by the first `restart`, and again whenever it ends.

    Args:
        machine: folder that stands for /.
        mosquitto: the program.
        port: that it listens on, instead of the settings' own.

    Attributes:
        command: takes `reload` or `restart`, as systemctl does.
    """

    def __init__(self, machine: Path, mosquitto: Path, port: int) -> None:
        self.machine = machine
        self.port = port
        for folder in ("etc/mosquitto/site", "var/lib/mosquitto", "run/mosquitto"):
            (machine / folder).mkdir(parents=True, exist_ok=True)
        # As root it would change its user, who cannot read the files of a test.
        user = "user root\n" if os.geteuid() == 0 else ""
        site = f"port {port}\nbind_address 127.0.0.1\n{user}"
        (machine / "etc" / "mosquitto" / "site" / "port.conf").write_text(site)
        self.command = machine / "service"
        self.command.write_text(_SERVICE.format(machine=machine, port=port))
        self.command.chmod(0o755)
        script = _SUPERVISE.format(machine=machine, mosquitto=mosquitto)
        self._child = Child.start(
            ["bash", "-c", script], name="mosquitto", log=machine / "mosquitto.log"
        )

    def await_listening(self) -> None:
        await_port(self._child, self.port)

    def verbs(self) -> list[str]:
        """What it was told so far."""
        log = self.machine / "service.log"
        return log.read_text().split() if log.exists() else []

    def stop(self) -> None:
        self._child.stop()


class Sshd:
    """A real sshd on loopback, and an `ssh` that gets in.

    Args:
        folder: for keys and settings; new.
        sshd: the program.

    Attributes:
        tools: folder to put first into PATH: its `ssh` is the real one, with settings of its own.
        destination: as `ssh` takes it.
        temporary: where the other machine keeps what is not to stay.
        programs: of the other machine, beside those of the system.
    """

    def __init__(self, folder: Path, sshd: Path) -> None:
        self.tools = folder / "tools"
        self.tools.mkdir(parents=True)
        self.temporary = folder / "temporary"
        self.temporary.mkdir()
        self.programs = folder / "programs"
        self.programs.mkdir()
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(exist_ok=True)  # as its unit does; it insists
        for name in ("host_key", "client_key"):
            subprocess.run(
                ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True
            )
        port = free_port()
        user = getpass.getuser()
        (folder / "sshd_config").write_text(_SSHD.format(port=port, folder=folder))
        (folder / "ssh_config").write_text(_SSH.format(user=user, folder=folder))
        (self.tools / "ssh").write_text(
            f'#!/bin/sh\nexec /usr/bin/ssh -F {folder}/ssh_config "$@"\n'
        )
        (self.tools / "ssh").chmod(0o755)
        self.destination = f"ssh://{user}@127.0.0.1:{port}"
        self._child = Child.start(
            [sshd, "-D", "-e", "-f", folder / "sshd_config"], name="sshd", log=folder / "log"
        )
        await_port(self._child, port)

    def log(self) -> str:
        return self._child.log.read_text()

    def stop(self) -> None:
        self._child.stop()
