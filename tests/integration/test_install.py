"""install.sh and uninstall.sh of the payload, in a board's tree: what they do, what they refuse.

The tree is Debian's, entered with chroot; a real first boot is in test_board_*.py.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from tests.boards.page import prose

from fedring.fleet.authority import Fleet, create_fleet
from fedring.fleet.bundles.building import bundle_file, pack_bundle
from fedring.fleet.bundles.targets import Target
from fedring.fleet.flash.payload import Content, settings, write_payload
from fedring.fleet.rollout import Record
from fedring.fleet.updates import RecordFile
from fedring.lab.boards.namespaces import Namespace
from fedring.lab.boards.trees import BOARD, tree

pytestmark = pytest.mark.boards

HERE = Target("3.11", "x86_64")
CODE = bytes(range(16))
NOW = datetime.now(UTC)
SECRETS = ("bootstrap.json", "data.csv")


@pytest.fixture(scope="module")
def namespace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Namespace]:
    with Namespace(tmp_path_factory.mktemp("namespace")) as namespace:
        yield namespace


class Board:
    """A board's system, and a payload on its boot partition."""

    def __init__(self, namespace: Namespace, folder: Path) -> None:
        self._namespace = namespace
        self._inside = namespace.overlay([tree(BOARD)], folder)
        subprocess.run(
            [*namespace.inside, "mount", "-t", "proc", "proc", self._inside / "proc"], check=True
        )
        self.root = namespace.path(self._inside)
        self.payload = self.root / "boot/firmware/fedring"

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*self._namespace.inside, "chroot", self._inside, *command],
            capture_output=True,
            text=True,
            env={"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
            check=False,
        )

    def install(self, payload: Path | None = None) -> subprocess.CompletedProcess[str]:
        if payload is not None:
            shutil.rmtree(self.payload, ignore_errors=True)
            shutil.copytree(payload, self.payload)
        return self.run("sh", "/boot/firmware/fedring/install.sh")

    def installed(self) -> dict[str, Any]:
        """All that lies outside of the boot partition and differs from the tree."""
        upper = self.root.parent / "upper"
        return {
            path.relative_to(upper).as_posix(): _facts(path)
            for path in upper.rglob("*")
            if not path.is_relative_to(upper / "boot") and not path.is_dir()
        }

    def text(self, path: str) -> str:
        return (self.root / path).read_text()


def _facts(path: Path) -> tuple[Any, ...]:
    status = path.lstat()
    content = (
        os.readlink(path) if path.is_symlink() else b"" if not path.is_file() else path.read_bytes()
    )
    return status.st_mode, status.st_uid, content


@pytest.fixture
def board(namespace: Namespace, tmp_path: Path) -> Board:
    return Board(namespace, tmp_path / "board")


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Fleet:
    return create_fleet(
        tmp_path_factory.mktemp("fleet") / "greenhouse", "greenhouse", ["broker.local"]
    )


MakePayload = Callable[..., Path]


@pytest.fixture
def payload(fleet: Fleet, tmp_path: Path) -> MakePayload:
    """Makes payloads; what they run is small and only says its version."""

    def make(
        name: str = "b01",
        *,
        code: bytes | None = CODE,
        target: Target = HERE,
        version: str = "0.1.0",
        floor: str = "0.1.0",
        threshold: int = 3,
        of: Fleet = fleet,
        slot: Path | None = None,
        imports: str = "",
    ) -> Path:
        folder = tmp_path / f"payload-{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        if slot is None:
            slot = folder / "slot"
            module = slot / "site" / "fedring" / "device" / "agent.py"
            module.parent.mkdir(parents=True)
            module.write_text(f"{imports}\n")
            (slot / "fedring").write_text(f"#!/bin/sh\necho fedring {version}\n")
            (slot / "fedring").chmod(0o755)
        bundle = folder / bundle_file(of, target).name
        bundle.write_bytes(pack_bundle(of, target, slot, version=version, floor=floor))
        text = settings(of).replace("threshold = 3", f"threshold = {threshold}")
        made = folder / "payload"
        made.mkdir()
        write_payload(of, Content(name, code, [bundle], text), made, NOW)
        return made

    return make


def test_a_real_bundle_is_put_in_place_and_again_is_no_harm(
    board: Board, payload: MakePayload, board_slot: Callable[[Target], Path]
) -> None:
    done = board.install(payload(slot=board_slot(HERE)))
    assert (done.returncode, done.stderr) == (0, "")
    assert board.text("boot/firmware/fedring/status.txt").endswith(
        " installed: fedring 0.1.0 for cp311-x86_64 as b01\n"
    )
    shown = board.run("/opt/fedring/current/fedring", "device", "run", "--config", "/none.toml")
    assert "[config.missing-file]" in shown.stderr
    slot = board.root / "opt/fedring/slots/a"
    assert any(slot.rglob("*.opt-2.pyc"))
    assert sum(-(-path.stat().st_size // 4096) for path in slot.rglob("*")) < 80 * 2**20 // 4096
    before = board.installed()
    again = board.install()
    assert (again.returncode, again.stderr) == (0, "")
    assert board.installed() == before

    outcome = prose("sudo fedring-update --outcome").split()[1:]
    assert board.run(*outcome).stdout == "no update so far\n"
    (other,) = payload(target=Target("3.13", "x86_64")).glob("*.fedring")
    shutil.copyfile(other, board.root / "root/other.fedring")
    by_hand = prose("sudo fedring-update FILE").replace("FILE", "/root/other.fedring").split()[1:]
    done = board.run(*by_hand)
    assert done.returncode == 1
    refused = (
        "refused from 0.1.0 to another version: the bundle is for Python cp313, this board has"
    )
    assert refused in done.stdout
    assert refused in board.run(*outcome).stdout


def test_what_lands_where_and_whose_it_is(board: Board, payload: MakePayload) -> None:
    made = payload()
    assert board.install(made).returncode == 0
    status = {
        name: (path.stat().st_mode & 0o7777, path.owner() if path.stat().st_uid == 0 else "other")
        for name in (
            "etc/fedring/ca.crt",
            "etc/fedring/device.toml",
            "opt/fedring/current/fedring",
            "usr/local/sbin/fedring-uninstall",
            "usr/local/sbin/fedring-update",
            "var/lib/fedring",
            "var/lib/fedring/bootstrap.json",
            "var/lib/fedring/inbox",
            "var/lib/fedring-update",
        )
        for path in [board.root / name]
    }
    assert status == {
        "etc/fedring/ca.crt": (0o644, "root"),
        "etc/fedring/device.toml": (0o644, "root"),
        "opt/fedring/current/fedring": (0o755, "root"),
        "usr/local/sbin/fedring-uninstall": (0o755, "root"),
        "usr/local/sbin/fedring-update": (0o755, "root"),
        "var/lib/fedring": (0o700, "other"),
        "var/lib/fedring/bootstrap.json": (0o600, "other"),
        "var/lib/fedring/inbox": (0o700, "other"),
        "var/lib/fedring-update": (0o755, "root"),
    }
    assert "fedring:x:" in board.text("etc/passwd")
    wants = board.root / "etc/systemd/system/multi-user.target.wants"
    units = {"fedring-device.service", "fedring-update.path"}
    assert units <= {path.name for path in wants.iterdir()}
    bootstrap = json.loads(board.text("var/lib/fedring/bootstrap.json"))
    assert bootstrap["code"] == CODE.hex()
    # The code has left the card, all else is still there.
    left = {path.name for path in board.payload.iterdir()} - {"status.txt"}
    assert left == {path.name for path in made.iterdir()} - {"bootstrap.json"}


@pytest.mark.parametrize("file", ["install.sh", "device.toml", "bootstrap.json", "manifest"])
def test_a_damaged_payload_changes_nothing(board: Board, payload: MakePayload, file: str) -> None:
    made = payload()
    with (made / file).open("a") as opened:
        opened.write("x")
    done = board.install(made)
    assert done.returncode == 1
    assert file in done.stderr
    assert f"failed: the payload is damaged: {file}" in board.text(
        "boot/firmware/fedring/status.txt"
    )
    assert board.installed() == {}
    (made / file).unlink()
    if file != "install.sh":
        assert board.install(made).returncode == 1


def refused(board: Board, payload: Path, text: str) -> None:
    done = board.install(payload)
    assert done.returncode == 1
    assert text in done.stderr
    assert text in board.text("boot/firmware/fedring/status.txt")
    assert not (board.root / "opt/fedring/current").exists()
    assert (board.payload / "bootstrap.json").exists()


def test_a_system_that_no_bundle_is_for_is_refused(board: Board, payload: MakePayload) -> None:
    refused(board, payload(target=Target("3.13", "x86_64")), "no bundle for this system (cp311-")


def test_a_system_without_the_library_that_numpy_needs_is_refused(
    board: Board, payload: MakePayload
) -> None:
    for library in board.root.glob("usr/lib/*/libstdc++.so.6*"):
        library.unlink()
    refused(board, payload(), "libstdc++.so.6")


def test_a_disk_without_room_for_two_slots_is_refused(
    board: Board, payload: MakePayload, namespace: Namespace
) -> None:
    made = payload()
    manifest = made / "manifest"
    fields = json.loads(manifest.read_bytes())
    fields["facts"]["slot_kilobytes"] = str(10**9)
    manifest.write_text(json.dumps(fields))
    refused(board, made, "two slots and a bundle need 195")


def test_a_release_that_does_not_start_is_never_current(board: Board, payload: MakePayload) -> None:
    assert board.install(payload()).returncode == 0
    done = board.install(payload(version="0.2.0", imports="import absent"))
    assert done.returncode == 1
    assert "does not start on this system: ModuleNotFoundError: No module" in done.stderr
    assert board.run("/opt/fedring/current/fedring").stdout == "fedring 0.1.0\n"


def test_another_release_takes_the_other_slot(board: Board, payload: MakePayload) -> None:
    assert board.install(payload()).returncode == 0
    assert os.readlink(board.root / "opt/fedring/current") == "slots/a"
    assert board.install(payload(version="0.2.0")).returncode == 0
    assert os.readlink(board.root / "opt/fedring/current") == "slots/b"
    assert board.run("/opt/fedring/current/fedring").stdout == "fedring 0.2.0\n"


def test_the_floor_of_releases_only_rises(board: Board, payload: MakePayload) -> None:
    for version, floor, kept in (("0.2.0", "0.1.9", "0.1.9"), ("0.12.0", "0.1.10", "0.1.10")):
        assert board.install(payload(version=version, floor=floor)).returncode == 0
        assert board.text("var/lib/fedring-update/floor") == f"{kept}\n"
    assert board.install(payload(version="0.3.0", floor="0.1.2")).returncode == 0
    assert board.text("var/lib/fedring-update/floor") == "0.1.10\n"


def test_orders_from_before_the_card_are_known_to_the_board(
    board: Board, payload: MakePayload, fleet: Fleet
) -> None:
    """And those of another fleet are forgotten, with what became of them."""
    record = board.root / "var/lib/fedring-update"
    RecordFile(fleet.folder).write(Record(last_number=7))
    try:
        assert board.install(payload()).returncode == 0
    finally:
        RecordFile(fleet.folder).write(Record())
    assert (record / "orders").read_text() == "7\n"
    (record / "floor").write_text("")  # as a power cut may leave it
    assert board.install(payload()).returncode == 0
    assert (record / "orders").read_text() == "7\n", "a payload from before"
    assert (record / "floor").read_text() == "0.1.0\n"
    (record / "outcome.json").write_text("{}")
    other = create_fleet(fleet.folder.with_name("orchard"), "orchard", ["broker.local"])
    assert board.install(payload(of=other)).returncode == 0
    assert (record / "orders").read_text() == "0\n"
    assert not (record / "outcome.json").exists()


def test_a_slot_on_trial_is_forgotten_with_the_next_installation(
    board: Board, payload: MakePayload
) -> None:
    assert board.install(payload()).returncode == 0
    trial = board.root / "var/lib/fedring-update/trial.json"
    trial.write_text("{}")
    assert board.install(payload(version="0.2.0")).returncode == 0
    assert not trial.exists()


def test_root_follows_no_link_that_the_agent_left(board: Board, payload: MakePayload) -> None:
    made = payload()
    assert board.install(made).returncode == 0
    state, etc = board.root / "var/lib/fedring", board.root / "etc"
    before = etc.stat()
    (state / "inbox").rmdir()
    (state / "inbox").symlink_to("/etc")
    for name in SECRETS:
        (state / name).unlink(missing_ok=True)
        (state / name).symlink_to("/etc")
    assert board.install(made).returncode == 0
    after = etc.stat()
    assert (after.st_uid, after.st_mode) == (before.st_uid, before.st_mode)
    assert not (etc / "bootstrap.json").exists()
    assert not (state / "inbox").is_symlink()
    assert (state / "bootstrap.json").is_file()
    assert not (state / "bootstrap.json").is_symlink()


def test_a_clock_years_back_is_set_to_the_time_of_flashing(
    board: Board, payload: MakePayload
) -> None:
    clock = board.root / "usr/local/bin/date"
    clock.write_text(
        '#!/bin/sh\ncase "$1" in\n-s) echo "$2" >/set ;;\n+%s) echo 1577836800 ;;\n'
        '*) exec /bin/date "$@" ;;\nesac\n'
    )
    clock.chmod(0o755)
    assert board.install(payload()).returncode == 0
    assert board.text("set") == f"@{int(NOW.timestamp())}\n"


def test_a_clock_that_may_be_right_is_left_alone(board: Board, payload: MakePayload) -> None:
    clock = board.root / "usr/local/bin/date"
    clock.write_text('#!/bin/sh\n[ "$1" != -s ] || touch /set\nexec /bin/date "$@"\n')
    clock.chmod(0o755)
    assert board.install(payload()).returncode == 0
    assert not (board.root / "set").exists()


def test_without_a_code_only_a_board_with_its_certificate_is_served(
    board: Board, payload: MakePayload
) -> None:
    bare = payload(code=None)
    done = board.install(bare)
    assert done.returncode == 1
    assert "fedring fleet reset b01" in done.stderr
    assert board.install(payload()).returncode == 0
    state = board.root / "var/lib/fedring"
    (state / "bootstrap.json").unlink()
    (state / "device.crt").write_text("certificate")
    (state / "device.key").write_text("key")
    assert board.install(bare).returncode == 0
    assert (state / "device.key").read_text() == "key"


def test_a_new_code_ends_the_old_device(board: Board, payload: MakePayload) -> None:
    assert board.install(payload()).returncode == 0
    state = board.root / "var/lib/fedring"
    for name in ("device.key", "device.crt", "device.key.new", "data.csv"):
        (state / name).write_text("old")
    (state / "state").mkdir()
    assert board.install(payload(code=bytes(16))).returncode == 0
    left = {path.name for path in state.iterdir()}
    assert left == {"bootstrap.json", "data.csv", "inbox", "state.old"}


def test_settings_that_were_edited_on_the_board_stay(board: Board, payload: MakePayload) -> None:
    assert board.install(payload()).returncode == 0
    assert board.install(payload(threshold=4)).returncode == 0
    assert "threshold = 4\n" in board.text("etc/fedring/device.toml")
    edited = board.root / "etc/fedring/device.toml"
    edited.write_text("mine")
    assert board.install(payload(threshold=4)).returncode == 0
    assert edited.read_text() == "mine"
    assert not (board.root / "etc/fedring/device.toml.new").exists()
    done = board.install(payload(threshold=5))
    assert "device.toml was edited and stays" in done.stdout
    assert edited.read_text() == "mine"
    assert "threshold = 5\n" in board.text("etc/fedring/device.toml.new")


def test_a_board_of_another_fleet_gets_the_settings_of_this_one(
    board: Board, payload: MakePayload, tmp_path: Path
) -> None:
    other = create_fleet(tmp_path / "orchard", "orchard", ["hub.local"])
    assert board.install(payload(of=other)).returncode == 0
    (board.root / "etc/fedring/device.toml").write_text("mine")
    assert board.install(payload()).returncode == 0
    assert 'host = "broker.local"\n' in board.text("etc/fedring/device.toml")
    assert board.text("etc/fedring/device.toml.old") == "mine"


def test_what_was_cut_off_is_finished_by_the_next_run(board: Board, payload: MakePayload) -> None:
    cut = board.root / "usr/local/bin/install"
    cut.write_text("#!/bin/sh\nexit 1\n")
    cut.chmod(0o755)
    done = board.install(payload())
    assert done.returncode == 1
    assert "failed: see" in board.text("boot/firmware/fedring/status.txt")
    assert (board.payload / "bootstrap.json").exists()
    cut.unlink()
    assert board.install().returncode == 0
    assert "installed: fedring 0.1.0" in board.text("boot/firmware/fedring/status.txt")


def test_uninstall_leaves_nothing_but_files_of_others(board: Board, payload: MakePayload) -> None:
    board.run("true")
    before = board.installed()
    assert board.install(payload()).returncode == 0
    (board.root / "var/lib/fedring/device.key").write_text("key")
    (board.root / "var/lib/fedring/state").mkdir()
    done = board.run("fedring-uninstall")
    assert (done.returncode, done.stderr) == (0, "")
    left = set(board.installed()) - set(before)
    accounts = ("passwd", "shadow", "group", "gshadow", "subuid", "subgid", ".pwd.lock")
    assert [name for name in left if not name.startswith(tuple(f"etc/{a}" for a in accounts))] == []
    assert "fedring" not in board.text("etc/passwd")

    assert board.install(payload()).returncode == 0
    (board.root / "var/lib/fedring/recordings.csv").write_text("mine")
    assert "stay" in board.run("fedring-uninstall").stdout
    assert board.text("var/lib/fedring/recordings.csv") == "mine"
    assert {path.name for path in (board.root / "var/lib/fedring").iterdir()} == {"recordings.csv"}
