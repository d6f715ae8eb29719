"""The journey of a board, step by step on a site of other boards: first boot to uninstall.

Each step raises when the board is not where it has to be. The next ones rest on it.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from attrs import frozen

from fedring.fleet.bundles.targets import Target
from fedring.fleet.rollout import STEADY_S
from fedring.lab.boards.machines import PATIENCE_S, USER, Machine
from fedring.lab.boards.releases import BREAKAGE, next_release
from fedring.lab.boards.site import SERVER, TARGET, Site
from fedring.lab.boards.trees import BUILD_S
from fedring.shared.bundles import SUFFIX

FLEET: Final = "greenhouse"
AGENT: Final = "fedring-device.service"
FIRST, GOOD, BAD = "0.1.0", "0.1.1", "0.1.2"
MOST_RESIDENT_MIB: Final = 60
"""With no round running, and without the table of the Paillier key."""
MOST_SLOT_MIB: Final = 80
"""On the card, compiled, without LiteRT."""
WATCHDOG_S: Final = 10
"""Shorter than the unit's own, so that nobody waits for a minute."""

_FEATURES: Final = ("temperature", "humidity", "light")
_CLASSES: Final = {"empty": (18.0, 52.0, 100.0), "occupied": (21.0, 47.0, 500.0)}
_MODEL: Final = {
    "features": json.dumps(_FEATURES),
    "classes": json.dumps(list(_CLASSES)),
    "hidden": "[8]",
    "feature_ranges": "[60, 100, 2000]",
    "rounds": "1000000",
    "size": "4",
    "min_devices": "4",
}
_PATIENT: Final = {"ready_s": "900", "patience_s": "120", "release_s": "300"}
"""Of the coordinator, with a board among its devices that is interpreted."""


@frozen
class Step:
    """Something that a board goes through.

    Attributes:
        name: for people.
        go: does it, and gives what was measured, for people; raises when it fails.
        quick: belongs to the shortest way, too.
        whole: belongs to the way of a whole machine, too.
        boxed: belongs to the way of a box, too. Interpreted, it looks for the broker's name, which
            nothing there can resolve, for half of the time that an update leaves its agent.
    """

    name: str
    go: Callable[[], str]
    quick: bool = False
    whole: bool = True
    boxed: bool = True


class Journey:
    """A site, and what happens on it.

    Args:
        site: entered.
        boards: names of all boards; the first one goes through everything.
    """

    def __init__(self, site: Site, boards: Sequence[str]) -> None:
        self.site = site
        self._names = tuple(boards)
        self._name = boards[0]
        self._fleet = site.laptop / FLEET
        self._slots: dict[Target, Path] = {}

    @property
    def steps(self) -> list[Step]:
        """All of it, in order."""
        return [
            Step("fleet and server", self.make_fleet, quick=True),
            Step("first boot", self.first_boot, quick=True),
            Step("enrolled, ready", self.enrol, quick=True),
            Step("more boards", self.more_boards),
            Step("rounds in the hardened unit", self.learn),
            Step("memory at rest, slot on the card", self.weigh),
            Step("frozen agent restarted", self.freeze, whole=False),
            Step("good update", self.update_well, quick=True, boxed=False),
            Step("bad update rolled back", self.update_badly, quick=True, boxed=False),
            Step("uninstalled", self.uninstall),
        ]

    @property
    def board(self) -> Machine:
        """The one that goes through everything."""
        return self.site.boards[self._name]

    @property
    def _patience_s(self) -> float:
        """That of the slowest board."""
        return max(board.patience_s for board in self.site.boards.values())

    # -- before the first boot -----------------------------------------------------------------

    def make_fleet(self) -> str:
        """Authority and cards on the laptop; Mosquitto, enrolment and coordinator on the server."""
        site = self.site
        site.start_server()
        site.type(
            "laptop",
            f"fedring fleet init {FLEET} --broker {SERVER},{site.addresses[SERVER]}\n"
            f"fedring fleet add --fleet {FLEET} {' '.join(self._names)}",
        )
        self._slots[TARGET] = site.install_server(self._make_bundle(TARGET))
        for target in {board.target for board in site.boards.values()} - {TARGET}:
            self._slots[target] = site.unpack(self._make_bundle(target))
        site.server.await_(lambda: site.ready("server"), "a system with its user")
        site.type(
            "server", "sudo adduser --system --group --no-create-home --home /nonexistent fedring"
        )
        site.type("laptop", f"fedring coordinator apply {FLEET}/server --broker {USER}@{SERVER}")
        self._describe_model()
        site.type("server", "sudo systemctl enable --now fedring-enrolment fedring-coordinator")
        self.signing = site.start("sign", f"fedring fleet sign --fleet {FLEET} --watch")
        return ""

    def _make_bundle(self, target: Target) -> Path:
        self.site.type(
            "online",
            f"fedring fleet bundle --fleet {FLEET} --python {target.python} --arch {target.arch}",
        )
        (bundle,) = (self._fleet / "bundles").glob(f"*-{target}{SUFFIX}")
        return bundle

    def _describe_model(self) -> None:
        settings = self.site.server.card / "etc/fedring/coordinator.toml"
        text = settings.read_text()
        slow = self._patience_s > PATIENCE_S
        for key, value in (_MODEL | (_PATIENT if slow else {})).items():
            text, n_found = re.subn(rf"(?m)^#?{key} = .*", f"{key} = {value}", text)
            if n_found != 1:
                raise RuntimeError(f"{settings} has {n_found} lines for {key}")
        settings.write_text(text)

    # -- first boot ----------------------------------------------------------------------------

    def first_boot(self) -> str:
        """From power on to the installer's last word."""
        seconds = self._boot(self._name)
        return f"{seconds:.1f} s from power on to installed"

    def _boot(self, name: str) -> float:
        image = self._make_image(name) if name == self.site.box else self._flash_card(name)
        board = self.site.insert_card(name, image)
        seconds = board.await_(lambda: board.told_by_installer, "the installer")
        if " installed: " not in board.told_by_installer:
            raise RuntimeError(f"{name}: {board.told_by_installer}\n{board.last_words()}")
        return seconds

    def _flash_card(self, name: str) -> Path:
        target = self.site.boards[name].target
        image = self.site.make_card(name)
        self.site.type(
            "laptop",
            f"fedring fleet flash card --fleet {FLEET} {name} {image} --data {self._data(name)}"
            f" --python {target.python} --arch {target.arch}",
        )
        return image

    def _make_image(self, name: str) -> Path:
        image = self.site.folder / "cards" / f"{name}.img"
        self.site.type(
            "online",
            f"fedring fleet flash image --fleet {FLEET} {name} {image} --data {self._data(name)}"
            f" --arch {self.site.boards[name].target.arch} --authorized-key .ssh/id.pub",
            BUILD_S,
        )
        return image

    def _data(self, name: str) -> Path:
        data = self.site.laptop / f"{name}.csv"
        write_measurements(data, seed=name)
        return data

    def enrol(self) -> str:
        """From there to READY: certificate, mutual TLS, an answer of the coordinator."""
        board = self.board
        seconds = self.await_ready(self._name)
        if "code" in json.loads(board.reads("/var/lib/fedring/bootstrap.json")):
            raise RuntimeError("the one-time code is still on the board")
        mode = board.run("stat", "--format=%a", "/var/lib/fedring/device.key").strip()
        if mode != "600" or list(self.site.laptop.rglob("device.key")):
            raise RuntimeError("the board's key is not the board's alone")
        return f"{seconds:.1f} s more, {self._resident():.1f} MiB resident"

    def more_boards(self) -> str:
        """The others start from cards as the first one did."""
        for name in self._names[1:]:
            self._boot(name)
        for name in self._names[1:]:
            self.await_ready(name)
        return f"{len(self._names)} boards ready"

    # -- at work -------------------------------------------------------------------------------

    def learn(self) -> str:
        """Every board trains inside its hardened unit, and the sum becomes a model."""
        last = 0

        def learnt() -> bool:
            nonlocal last
            said = self.site.type(
                "server",
                "sudo -u fedring fedring coordinator models --config /etc/fedring/coordinator.toml",
            )
            versions = [line.split()[0] for line in said.splitlines() if line[:1].isdigit()]
            last = max(map(int, versions), default=0)
            return last >= 3  # statistics, and two rounds of training

        self.site.server.await_(learnt, "a trained model", self._patience_s)
        said = self.board.run("journalctl", "--no-pager", "-u", AGENT)
        n_released = said.count(f"contributors={len(self._names)}")
        if "Traceback" in said or not n_released:
            raise RuntimeError(said[-3000:])
        return f"version {last} of the model, {self._name} ({self.board.target.arch}) is in it"

    def weigh(self) -> str:
        """Memory of the agent while no round runs, and room that a slot takes.

        After rounds it has the table of the Paillier key; after a restart it has not.
        """
        board = self.board
        self._rounds("pause")
        board.await_(lambda: board.service(AGENT, "StatusText").startswith("idle"), "no round")
        after_rounds = self._resident()
        board.run("systemctl", "restart", AGENT)
        self.await_ready(self._name)
        restarted = self._require_small()
        slot = int(board.run("du", "-sk", "/opt/fedring/slots/a").split()[0]) / 1024
        if slot >= MOST_SLOT_MIB:
            raise RuntimeError(f"{slot:.1f} MiB a slot, not below {MOST_SLOT_MIB}")
        self._rounds("resume")
        return (
            f"{after_rounds:.1f} MiB resident after rounds, {restarted:.1f} after a restart,"
            f" {slot:.1f} MiB a slot"
        )

    def _rounds(self, wish: str) -> None:
        self.site.type(
            "server",
            f"sudo -u fedring fedring coordinator {wish} --config /etc/fedring/coordinator.toml",
        )

    def _require_small(self) -> float:
        resident = self._resident()
        if resident >= MOST_RESIDENT_MIB:
            raise RuntimeError(f"{resident:.1f} MiB resident, not below {MOST_RESIDENT_MIB}")
        return resident

    def _resident(self) -> float:
        """Memory of the agent, in MiB."""
        pid = self.board.service(AGENT, "MainPID")
        status = self.board.run("cat", f"/proc/{pid}/status")
        return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024  # type: ignore[index]

    def freeze(self) -> str:
        """An agent that stands still is restarted by systemd's watchdog."""
        board = self.board
        folder = f"/etc/systemd/system/{AGENT}.d"
        setting = f"[Service]\\nWatchdogSec={WATCHDOG_S}\\n"
        board.run("sh", "-euc", f"mkdir -p {folder}; printf '{setting}' >{folder}/lab.conf")
        board.run("systemctl", "daemon-reload")
        board.run("systemctl", "restart", AGENT)
        self.await_ready(self._name)
        before = board.service(AGENT, "NRestarts")
        # Not by systemctl kill: some containers let systemd send no signal to a whole unit.
        board.run("kill", "-STOP", board.service(AGENT, "MainPID"))
        seconds = board.await_(lambda: board.service(AGENT, "NRestarts") != before, "a restart")
        self.await_ready(self._name)
        board.run("rm", "-r", folder)
        board.run("systemctl", "daemon-reload")
        return f"after {seconds:.0f} s, watchdog of {WATCHDOG_S} s"

    # -- updates -------------------------------------------------------------------------------

    def update_well(self) -> str:
        """The owner hands the next release to the boards, and this one runs it."""
        self.signing.stop()  # the owner's certificate is in the broker once
        said = self._update(GOOD, broken=False)
        if self.running() != GOOD:
            raise RuntimeError(f"running {self.running()}, not {GOOD}\n{said}")
        return f"{self.await_ready(self._name):.1f} s to ready"

    def update_badly(self) -> str:
        """The next one ends as soon as it starts: the one before comes back, and says why."""
        try:
            said = self._update(BAD, broken=True)
        except RuntimeError as error:
            said = str(error)
        else:
            raise RuntimeError(f"`fedring fleet update` took a broken release for good:\n{said}")
        told = json.loads(self.board.reads("/var/lib/fedring-update/outcome.json"))
        self.await_ready(self._name)
        if told["state"] != "rolled_back" or self.running() != GOOD or BREAKAGE not in said:
            raise RuntimeError(f"{told}; running {self.running()}\n{said}")
        return str(told["reason"])

    def _update(self, version: str, *, broken: bool) -> str:
        bundles = self.make_release(version, broken=broken)
        files = " ".join(map(str, bundles))
        return self.site.type(
            "laptop",
            f"fedring fleet update --fleet {FLEET} {files}",
            self._patience_s + len(self.site.boards) * STEADY_S,  # a wave is one board or more
        )

    def make_release(self, version: str, *, broken: bool) -> list[Path]:
        """Make bundles of another version, one for each kind of board."""
        return [
            next_release(self._fleet, slot, self.site.folder, version, broken=broken, target=target)
            for target, slot in self._slots.items()
        ]

    def running(self) -> str:
        """Version of the slot that the agent's process was started from."""
        pid = self.board.service(AGENT, "MainPID")
        try:
            environment = self.board.run("cat", f"/proc/{pid}/environ")
        except RuntimeError:
            return ""
        site = re.search(r"PYTHONPATH=([^\0]+)", environment)
        if site is None:
            return ""
        notes = self.board.run("sh", "-c", f"ls -d {site[1]}/fedring-*.dist-info")
        return re.search(r"fedring-([\d.]+)\.dist-info", notes)[1]  # type: ignore[index]

    # -- the end -------------------------------------------------------------------------------

    def uninstall(self) -> str:
        """Nothing of fedring is left on the board, and the fleet does not know it any more."""
        self.site.type(self._name, "sudo fedring-uninstall")
        left = self.board.run(
            "sh",
            "-c",
            "ls -d /opt/fedring /etc/fedring /var/lib/fedring/device.* /usr/local/sbin/fedring*"
            " /etc/systemd/system/*fedring* 2>/dev/null || true",
        )
        if left:
            raise RuntimeError(f"left behind: {left}")
        return ""

    def await_ready(self, name: str) -> float:
        """Wait until the agent of a board is ready, and give how long that took, in seconds."""
        board = self.site.boards[name]
        return board.await_(
            lambda: board.service(AGENT, "ActiveState") == "active", "an agent that is ready"
        )


def write_measurements(file: Path, seed: str) -> None:
    """Write samples of a room, scattered around what its two classes look like."""
    draw = random.Random(seed)  # noqa: S311  # data, no secret
    lines = [",".join((*_FEATURES, "label"))]
    for _ in range(20):
        for label, centre in _CLASSES.items():
            cells = [f"{value * draw.uniform(0.95, 1.05):.2f}" for value in centre]
            lines.append(",".join((*cells, label)))
    file.write_text("\n".join(lines) + "\n")
