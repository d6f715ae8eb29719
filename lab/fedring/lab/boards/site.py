"""A whole site: an owner's laptop, a server with Mosquitto and coordinator, and boards.

FOLDER/
    laptop/         home of the owner; `fedring` there is the one that runs this
    cards/          images of cards with a stock system, one for each board
    broker/, b01/   changes on the disks of machines, and their consoles

Commands are typed as people type them: on the laptop in this network, on the others by root or by
the user whom their cards were made for, who may use sudo. The laptop reaches both by ssh.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from types import MappingProxyType
from typing import Final

from fedring.lab.boards import guard
from fedring.lab.boards.boxes import Box
from fedring.lab.boards.card_containers import CardContainer
from fedring.lab.boards.cards import make_bootable, make_card
from fedring.lab.boards.containers import Container
from fedring.lab.boards.emulator import Emulator
from fedring.lab.boards.machines import USER, Machine
from fedring.lab.boards.namespaces import Namespace
from fedring.lab.boards.processors import Processor
from fedring.lab.boards.system import PATH, program, run
from fedring.lab.boards.trees import BOARD, addition, cache_folder, tree
from fedring.lab.processes import Child, stop_all
from fedring.lab.programs import ONE_THREAD

SERVER: Final = "broker.local"
PASSPHRASE: Final = "several plain words"  # noqa: S105  # of a fleet that lives for a minute
TARGET: Final = Container.target
"""What the server is: Debian 12 on this machine's processor."""

_SERVER_PACKAGES: Final = ("mosquitto", "mosquitto-clients")
_SERVER_UNITS: Final = Path(__file__).parents[4] / "broker_config"
_COMMAND_S: Final = 300.0
_ROOT_MIB: Final = 1536
"""Of a card with a system: that, two slots, and bundles on their way."""
_LAUNCHER: Final = """\
#!/bin/sh
export PYTHONPATH=/opt/fedring/site PYTHONDONTWRITEBYTECODE=1
exec /usr/bin/python3 -s -P -c 'from fedring.shared.cli import main; main()' "$@"
"""
_DHCP: Final = "[Network]\nDHCPServer=yes\n[DHCPServer]\nPoolOffset={number}\nPoolSize=1\n"
_USER_DATA: Final = """\
#cloud-config
hostname: {name}
users:
- name: {user}
  groups: [adm, sudo]
  shell: /bin/bash
  sudo: ALL=(ALL) NOPASSWD:ALL
  ssh_authorized_keys: ["{key}"]
"""
_SSH: Final = """\
Host *.local
    User {user}
    IdentityFile {home}/.ssh/id
    UserKnownHostsFile {home}/.ssh/known
    StrictHostKeyChecking accept-new
    LogLevel ERROR
"""


def build_trees(processors: Iterable[Processor]) -> str:
    """Have all that machines begin with, built where it is missing, and give where it lies.

    Args:
        processors: of those that are whole machines.
    """
    addition(_SERVER_PACKAGES, BOARD)
    for processor in processors:
        tree(processor.system)
        tree(processor.kernel)
    return f"in {cache_folder()}"


class Site:
    """Laptop, server and boards; leaving its `with` block ends all of them.

    Args:
        folder: new, or with what an earlier site has left on its disks.
        boards: their names.
        whole: processors of those boards that are whole machines, and not containers, by name.
        carded: names of those containers that have a card of their own.
        box: name of the whole machine that starts from an image, and is told its address.

    Attributes:
        whole: see above.
        box: likewise.
        laptop: the owner's home.
        server: is off until `start_server`.
        boards: each is off until it gets its card.
    """

    def __init__(
        self,
        folder: Path,
        boards: Sequence[str],
        whole: Mapping[str, Processor] = MappingProxyType({}),
        carded: Collection[str] = (),
        box: str = "",
    ) -> None:
        self.folder = folder
        self.laptop = folder / "laptop"
        self._names = tuple(boards)
        self.whole = whole
        self._carded = carded
        self.box = box
        self._children: list[Child] = []
        self._machines: list[Machine] = []
        self.addresses = {SERVER: "192.168.1.10"} | {
            f"{name}.local": f"192.168.1.{number}" for number, name in enumerate(boards, start=21)
        }

    def __enter__(self) -> Site:
        for name in ("laptop/bin", "laptop/.ssh", "cards"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        # Not a child that ends with us: it has to come after.
        command = [sys.executable, "-I", "-S", guard.__file__, str(os.getpid()), str(self.folder)]
        self._guard = subprocess.Popen(command, start_new_session=True)  # noqa: S603  # our own
        self._namespace = Namespace(self.folder, self.addresses).__enter__()
        self._make_ssh()
        layers = [addition(_SERVER_PACKAGES, BOARD), tree(BOARD)]
        self.server = self._container("broker", layers, self.addresses[SERVER])
        self._machines = [self.server]
        self.boards = {name: self._board(name) for name in self._names}
        self._machines += self.boards.values()
        return self

    def __exit__(self, *_: object) -> None:
        stop_all(self._children)
        for machine in self._machines:
            machine.pull_plug()
        self._namespace.__exit__(*_)
        self._guard.kill()
        self._guard.wait()

    # -- machines ------------------------------------------------------------------------------

    def start_server(self) -> None:
        """Switch the server on: Debian with Mosquitto, and no fedring yet."""
        boot = self.server.card / "boot/firmware"
        boot.mkdir(parents=True, exist_ok=True)
        self._write_seed(boot, "broker")
        if self.box:
            self._tell_its_address(self.box)
        self.server.switch_on()

    def _tell_its_address(self, name: str) -> None:
        """Let the server tell a box its address, as a router does: there is only this one."""
        settings = self.server.card / "etc/systemd/network/10-lan.network.d/dhcp.conf"
        settings.parent.mkdir(parents=True, exist_ok=True)
        number = _last_number(self.addresses[f"{name}.local"])
        settings.write_text(_DHCP.format(number=number))

    def install_server(self, bundle: Path) -> Path:
        """Put fedring onto the server as pip would, with packages out of a bundle.

        Returns:
            The bundle's content, unpacked.
        """
        slot = self.unpack(bundle)
        root = self.server.card
        site = root / "opt/fedring/site"
        shutil.copytree(slot / "site", site)
        shutil.copytree(resources.files("fedring.coordinator"), site / "fedring/coordinator")  # type: ignore[arg-type]
        (notes,) = site.glob("fedring-*.dist-info")
        with (notes / "entry_points.txt").open("a") as commands:
            commands.write("coordinator = fedring.coordinator.cli:command\n")
        for path in ("opt/fedring/bin/fedring", "usr/local/bin/fedring"):
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(_LAUNCHER)
            (root / path).chmod(0o755)
        for unit in ("fedring-coordinator.service", "fedring-enrolment.service"):
            shutil.copyfile(_SERVER_UNITS / unit, root / "etc/systemd/system" / unit)
        return slot

    def unpack(self, bundle: Path) -> Path:
        """Give a new folder with what a board finds in a bundle."""
        slot = self.folder / "slots" / bundle.stem
        slot.mkdir(parents=True)
        run("tar", "-xf", bundle, "-C", slot, "site.tar.gz")
        run("tar", "-xf", slot / "site.tar.gz", "-C", slot)
        (slot / "site.tar.gz").unlink()
        return slot

    def last_words(self) -> str:
        """The end of what machines that are on have said."""
        machines = [machine for machine in self._machines if machine.is_on]
        words = [f"== {machine.name}\n{machine.last_words()}" for machine in machines]
        words += [f"== {child.name}\n{child.last_words(20)}" for child in self._children]
        return "\n".join(words)

    def ready(self, machine: str) -> bool:
        """Whether the first boot of a machine is over, and its user there."""
        name = SERVER if machine == "server" else f"{machine}.local"
        try:
            self.type("laptop", f"ssh {self._machine(machine).user}@{name} true", timeout_s=20)
        except (RuntimeError, TimeoutError):
            return False
        return True

    def make_card(self, name: str) -> Path:
        """Give the image of a card as its owner writes it: stock, with user and ssh key."""
        image = self.folder / "cards" / f"{name}.img"
        system, seed = self.folder / f"system-{name}", self.folder / f"seed-{name}"
        seed.mkdir()
        self._write_seed(seed, name)
        if name in self._carded:
            make_card(image, tree(BOARD), root_mib=_ROOT_MIB, boot_files=seed)
        elif name in self.whole:
            run("cp", "-a", tree(self.whole[name].system), system)
            hosts = f"127.0.0.1 localhost\n127.0.1.1 {name}\n{self._namespace.hosts.read_text()}"
            make_bootable(system, self.addresses[f"{name}.local"], hosts)
            make_card(image, system, root_mib=_ROOT_MIB, boot_files=seed)
            shutil.rmtree(system)
        else:  # its system is there already
            system.mkdir()
            make_card(image, system, root_mib=8, boot_files=seed)
        return image

    def insert_card(self, name: str, image: Path) -> Machine:
        """Put the card into a board, and switch it on."""
        board = self.boards[name]
        board.insert(image)
        board.switch_on()
        return board

    # -- commands ------------------------------------------------------------------------------

    def type(self, machine: str, text: str, timeout_s: float = _COMMAND_S) -> str:
        """Type commands on a machine, and give what they print.

        Args:
            machine: "laptop", "server", the name of a board, or "online": the laptop, when it is
                in the internet and not at the site.
            text: for a shell; ends with the first command that fails.
            timeout_s: for all of it.

        Raises:
            RuntimeError: one of them fails; with all that was said.
        """
        if machine in {"laptop", "online"}:
            at = self._namespace.inside if machine == "laptop" else self._namespace.mounts
            command = [*at, program("env"), *self._laptop()]
            return run(*map(str, command), "bash", "-euc", text, timeout_s=timeout_s)
        there = self._machine(machine)
        shell = ["runuser", "-l", there.user, "-c", f"set -eu; {text}"]
        return there.run(*shell, timeout_s=timeout_s)

    def _machine(self, name: str) -> Machine:
        return self.server if name == "server" else self.boards[name]

    def start(self, name: str, text: str) -> Child:
        """Type a command on the laptop that runs until it is stopped."""
        child = Child.start(
            [*self._namespace.inside, program("env"), *self._laptop(), "bash", "-euc", text],
            name=name,
            log=self.folder / f"{name}.log",
        )
        self._children.append(child)
        return child

    def _laptop(self) -> list[str]:
        path = [self.laptop / "bin", Path(sys.executable).parent, PATH]
        variables = {
            **ONE_THREAD,
            "HOME": self.laptop,
            "PATH": os.pathsep.join(map(str, path)),
            "FEDRING_FLEET_PASSPHRASE": PASSPHRASE,
        }
        return [f"--chdir={self.laptop}", *(f"{key}={value}" for key, value in variables.items())]

    # -- beginnings ----------------------------------------------------------------------------

    def _board(self, name: str) -> Machine:
        address = self.addresses[f"{name}.local"]
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        if name in self._carded:
            return CardContainer(self._namespace, folder, name, address)
        if name not in self.whole:
            return self._container(name, [tree(BOARD)], address)
        kind = Box if name == self.box else Emulator
        return kind(
            self._namespace,
            self.whole[name],
            folder,
            name,
            _last_number(address),
            login=[*self._namespace.inside, self.laptop / "bin/ssh", f"{kind.user}@{name}.local"],
        )

    def _container(self, name: str, layers: Sequence[Path], address: str) -> Container:
        folder = self.folder / name
        root = self._namespace.overlay(layers, folder)
        return Container(self._namespace, root, folder, name, address)

    def _write_seed(self, folder: Path, name: str) -> None:
        key = (self.laptop / ".ssh/id.pub").read_text().strip()
        (folder / "user-data").write_text(_USER_DATA.format(name=name, user=USER, key=key))
        (folder / "meta-data").write_text("dsmode: local\ninstance-id: stock\n")

    def _make_ssh(self) -> None:
        """A key, and ssh with settings in this home: it would look into that of the real user."""
        home = self.laptop
        if not (home / ".ssh/id").exists():
            run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", home / ".ssh/id")
        (home / ".ssh/config").write_text(_SSH.format(user=USER, home=home))
        for tool in ("ssh", "scp"):
            script = home / "bin" / tool
            script.write_text(f'#!/bin/sh\nexec {program(tool)} -F {home}/.ssh/config "$@"\n')
            script.chmod(0o755)


def _last_number(address: str) -> int:
    return int(address.rpartition(".")[2])
