"""docs/beside-mosquitto.md, command by command: five boards, a broker, a laptop, one folder each.

The page's blocks say on which machine they are typed. What is adapted: `~`, /etc, /tmp and
/var/lib lie in the machine's folder, the port is a free one, names of machines become localhost
where a connection is made, and `sudo`, `scp`, `ssh` and `systemctl` are stand-ins.
"""

import csv
import io
import os
import random
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from attrs import frozen
from tests.integration.machines import Service

from fedring.fleet.authority import create_fleet
from fedring.lab.processes import Child, stop_all
from fedring.lab.programs import ONE_THREAD

PROJECT = Path(__file__).parents[2]
PAGE = PROJECT / "docs" / "beside-mosquitto.md"
BOARDS = ("b01", "b02", "b03", "b04", "b05")
PATIENCE_S = 90.0
STAND_INS = {
    "sudo": '[ "$1" != -u ] || shift 2\nexec "$@"',
    "systemctl": '[ "$2" != mosquitto ] || exec "$HOME/service" "$1"',
    # The other machine's shell, in its own folder. Options stand before "--".
    "ssh": 'while [ "$1" != -- ]; do shift; done\n'
    'export HOME=$(realpath "$HOME/../${2#*@}")\ncd "$HOME"\nexec sh -c "$3"',
    # host:path is a path in the folder of that machine
    "scp": 'for word; do words+=("${word/#*.local:/$HOME/../&/}"); done\n'
    'exec cp "${words[@]//.local:\\//.local/}"',
}
NOT_RUN = {"install", "install-server"}
"""Blocks that change the machine itself; tests of packages and units look after them."""


@frozen
class Block:
    """A piece of the page: what it is, where it belongs, what it says."""

    language: str
    place: str
    text: str


def blocks(language: str) -> list[Block]:
    found = re.findall(r"^```(\w+) ?(\S*)\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    return [Block(*block) for block in found if block[0] == language]


def commands(place: str) -> list[str]:
    return [block.text for block in blocks("sh") if block.place == place]


class Stage:
    """All machines of the page as folders side by side.

    Args:
        folder: for them.
        port: of the broker.
        ending: what else is to end with it.
    """

    def __init__(self, folder: Path, port: int, ending: ExitStack) -> None:
        self.folder = folder
        self.ending = ending
        self.port = port
        self.children: dict[str, Child] = {}
        tools = folder / "stand-ins"
        tools.mkdir()
        for name, script in STAND_INS.items():
            (tools / name).write_text(f"#!/bin/bash\n{script}\n")
            (tools / name).chmod(0o755)
        path = [str(tools), str(Path(sys.executable).parent), "/usr/bin", "/bin"]
        self._environment = ONE_THREAD | {
            "PATH": os.pathsep.join(path),
            "FEDRING_FLEET_PASSPHRASE": "several plain words",
        }
        for machine in ("laptop", "broker.local", *(f"{board}.local" for board in BOARDS)):
            (folder / machine).mkdir()
            (folder / machine / "fedring").symlink_to(PROJECT)
        (self.server / "tmp").mkdir()

    @property
    def server(self) -> Path:
        """The machine of broker and coordinator."""
        return self.folder / "broker.local"

    def type(self, machine: str, text: str) -> str:
        """Type commands on a machine, give what they print."""
        done = subprocess.run(
            ["bash", "-euc", self._adapted(text)],
            cwd=self.folder / machine,
            env={**self._environment, "HOME": str(self.folder / machine)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def start(self, machine: str, text: str) -> Child:
        """Type commands of which the last one runs until it is stopped."""
        *before, last = self._adapted(text).splitlines()
        home = self.folder / machine
        self.children[machine] = child = Child.start(
            ["env", f"--chdir={home}", "bash", "-euc", "\n".join([*before, f"exec {last}"])],
            name=machine,
            log=home / "fedring.log",
            environment={**self._environment, "HOME": str(home)},
        )
        return child

    def edit(self, file: Path, changes: str) -> None:
        """Change lines of a settings file as a person does: each key is there, perhaps with a #."""
        text = file.read_text()
        for change in changes.splitlines():
            if change.startswith("["):
                table = re.escape(change)
            elif change:
                key = change.split(" = ")[0]
                line = rf"(^{table}\n(?:(?!\[).*\n)*?)#?{key} = .*"
                changed = rf"\g<1>{change}"
                text, n_found = re.subn(line, changed, text, count=1, flags=re.MULTILINE)
                assert n_found == 1, f"{file} has no line for {change}"
        file.write_text(text)

    def _adapted(self, text: str) -> str:
        for folder in ("etc", "tmp"):
            text = text.replace(f" /{folder}/", f" {folder}/")
        text = text.replace(
            "--broker you@broker.local",
            f"--broker you@broker.local --root {self.server}"
            " --reload 'systemctl reload mosquitto' --restart 'systemctl restart mosquitto'",
        )
        text = text.replace("/opt/fedring/bin/fedring", "fedring")
        text = text.replace("broker.local,192.168.1.10", "localhost")
        text = text.replace("-h broker.local -p 8883", f"-h localhost -p {self.port}")
        return text.replace("mqtt://broker.local:8883", f"mqtt://localhost:{self.port}")


@pytest.fixture
def stage(tmp_path: Path, unused_port: Callable[[], int]) -> Iterator[Stage]:
    with ExitStack() as ending:
        stage = Stage(tmp_path, unused_port(), ending)
        ending.callback(lambda: stop_all(stage.children.values(), 20))
        yield stage


def await_line(child: Child, text: str) -> None:
    """Wait until a process has said this."""
    deadline = time.monotonic() + PATIENCE_S
    while text not in child.log.read_text():
        assert child.running, child.last_words()
        assert time.monotonic() < deadline, child.last_words(20)
        time.sleep(0.1)


def write_measurements(file: Path, example: str, seed: str) -> None:
    """Write what the page shows the beginning of: rows scattered around those of each class."""
    draw = random.Random(seed)
    shown = list(csv.DictReader(io.StringIO(example)))
    with file.open("w", newline="") as target:
        writer = csv.DictWriter(target, list(shown[0]))
        writer.writeheader()
        for row in shown * 15:
            moved = {
                name: f"{float(cell) * draw.uniform(0.95, 1.05):.2f}"
                for name, cell in row.items()
                if re.fullmatch(r"[\d.]+", cell)
            }
            writer.writerow(row | moved)


def test_the_page_leads_to_a_published_model(stage: Stage, mosquitto: Path) -> None:
    broker = Service(stage.server, mosquitto, stage.port)
    stage.ending.callback(broker.stop)
    for place in ("laptop", "apply"):
        for text in commands(place):
            stage.type("laptop", text)
    assert broker.verbs() == ["restart"]

    changes = {block.place: block.text for block in blocks("toml")}
    port = f"[broker]\nport = {stage.port}"
    state = f'[state]\nfolder = "{stage.server}/var/lib/fedring"'
    settings = "/etc/fedring/coordinator.toml"
    for text in (port, state, changes[settings]):
        stage.edit(stage.server / settings.lstrip("/"), text)
    assert commands("coordinator") == ["sudo systemctl enable --now fedring-coordinator\n"]
    coordinator = stage.start("broker.local", started_by_the_unit())

    (example,) = blocks("csv")
    (run_board,) = commands("board")
    for board in BOARDS:
        home = stage.folder / f"{board}.local"
        for text in (port, changes["board/device.toml"]):
            stage.edit(home / "board" / "device.toml", text)
        write_measurements(home / example.place, example.text, seed=board)
        stage.start(home.name, run_board)

    await_line(coordinator, "finished: 5 training rounds are done")
    await_line(stage.children["b01.local"], "keeps version 6 of the model")
    (look,) = commands("model")
    assert re.search(r"^6 +5 +train +1/6 +5 ", stage.type("broker.local", look), re.MULTILINE)
    assert (stage.server / "tmp" / "model.npz").is_file()

    (use,) = commands("predict")
    (answers,) = blocks("text")
    said = stage.type("b01.local", use)
    assert [line.split()[0] for line in said.splitlines()] == [
        line.split()[0] for line in answers.text.splitlines()
    ]

    watch_live, watch_topics = commands("watch")
    seen = stage.type("laptop", watch_live.replace("device.key\n", "device.key --once --json\n"))
    assert all(board in seen for board in BOARDS)
    if shutil.which("mosquitto_sub"):
        seen = stage.type("laptop", watch_topics.replace("mosquitto_sub", "mosquitto_sub -C 6"))
        assert {line.split()[0] for line in seen.splitlines()} == {
            "fedring/greenhouse/coordinator/status",
            *(f"fedring/greenhouse/device/{board}/status" for board in BOARDS),
        }

    (revoke,) = commands("revoke")
    stage.type("laptop", revoke)
    assert broker.verbs()[1:] == ["reload"]
    await_line(stage.children["b01.local"], "revocation list number=2")
    await_line(stage.children["b05.local"], "refuses our certificate")
    assert all(child.running for child in stage.children.values())


def test_every_command_of_the_page_is_one_that_a_test_runs() -> None:
    run = {
        *("laptop", "apply", "coordinator", "board", "watch", "model", "predict", "revoke"),
    }
    assert {block.place for block in blocks("sh")} == run | NOT_RUN


def started_by_the_unit() -> str:
    """The command line that systemd runs, from the unit that the page copies."""
    unit = (PROJECT / "broker_config" / "fedring-coordinator.service").read_text()
    (line,) = re.findall(r"^ExecStart=(.*)$", unit, re.MULTILINE)
    return str(line)


def test_the_unit_finds_what_the_page_puts_there(tmp_path: Path) -> None:
    unit = (PROJECT / "broker_config" / "fedring-coordinator.service").read_text()
    (install,) = commands("install-server")
    (settings,) = (block for block in blocks("toml") if block.place.startswith("/etc"))
    assert started_by_the_unit() == (
        f"/opt/fedring/bin/fedring coordinator run --config {settings.place}"
    )
    assert "python3 -m venv /opt/fedring\n" in install
    assert "fedring-coordinator.service /etc/systemd/system/\n" in install
    assert "adduser --system --group --no-create-home --home /nonexistent fedring\n" in install
    assert "User=fedring\n" in unit
    assert "StateDirectory=fedring\n" in unit
    fleet = create_fleet(tmp_path / "greenhouse", "greenhouse", ["localhost"])
    given = (fleet.coordinator_folder / "coordinator.toml").read_text()
    assert '\nfolder = "/var/lib/fedring"\n' in given
