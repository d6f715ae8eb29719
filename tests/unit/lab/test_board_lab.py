"""The parts of the board lab that need no root: recipes, cards, the first file system."""

from collections.abc import Iterable
from pathlib import Path

import attrs
import pytest

from fedring.device.update.updater import STEPS
from fedring.fleet.flash.boot_partition import FatPartition
from fedring.lab.boards import __main__ as board_lab
from fedring.lab.boards import processors, system
from fedring.lab.boards.cards import make_bootable, make_card, read_boot
from fedring.lab.boards.emulator import MODULES, modules_in_order
from fedring.lab.boards.journey import Step
from fedring.lab.boards.machines import CardMachine
from fedring.lab.boards.power_cuts import UPDATES, steps_named
from fedring.lab.boards.processors import AMD64, ARM64, Processor
from fedring.lab.boards.trees import BOARD, Recipe
from fedring.lab.processes import Child
from fedring.shared import cli
from fedring.shared.errors import UserError


@pytest.mark.parametrize(
    "changes",
    [
        {"architecture": "arm64"},
        {"packages": ("python3",)},
        {"unpacked": True},
        {"files": {"etc/hostname": "another"}},
        {"masked": ()},
        {"enabled": ()},
        {"suite": "trixie"},
    ],
)
def test_a_changed_recipe_is_another_tree(changes: dict[str, object]) -> None:
    changed: Recipe = attrs.evolve(BOARD, **changes)  # type: ignore[arg-type]
    assert changed.folder_name != BOARD.folder_name


@pytest.mark.card_programs
def test_a_stock_card_is_one_that_can_be_flashed_and_read(tmp_path: Path) -> None:
    image, seed, tree, found = (tmp_path / name for name in ("card", "seed", "tree", "found"))
    seed.mkdir()
    tree.mkdir()
    (seed / "user-data").write_text("#cloud-config\n")
    make_card(image, tree, root_mib=8, boot_files=seed)
    assert {"cmdline.txt", "config.txt", "user-data"} <= set(FatPartition(image).names())
    read_boot(image, found)
    assert (found / "user-data").read_text() == "#cloud-config\n"


def test_a_module_comes_after_all_that_it_needs(tmp_path: Path) -> None:
    file = tmp_path / "modules.dep"
    file.write_text(
        "kernel/fs/ext4/ext4.ko: kernel/fs/jbd2/jbd2.ko kernel/lib/crc16.ko\n"
        "kernel/fs/jbd2/jbd2.ko:\nkernel/lib/crc16.ko:\nkernel/sound/unused.ko:\n"
    )
    ordered = [Path(path).stem for path in modules_in_order(file)]
    assert set(ordered) == {"ext4", "jbd2", "crc16"}
    assert ordered[-1] == "ext4"
    assert "ext4" in MODULES


def test_a_missing_program_names_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system, "PATH", "/nowhere")
    with pytest.raises(UserError) as failure:
        system.program("systemd-nspawn")
    assert failure.value.hint == "sudo apt-get install systemd-container"


def test_programs_that_nobody_runs_are_told_with_what_to_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked = tmp_path / "arch-test"
    asked.write_text('#!/bin/sh\n[ "$1" = amd64 ]\n')
    asked.chmod(0o755)
    monkeypatch.setattr(system, "PATH", f"{tmp_path}:/bin")
    system.demand_architecture("amd64")
    with pytest.raises(UserError, match="programs of arm64 to nobody") as failure:
        system.demand_architecture("arm64")
    hint = failure.value.hint or ""
    # A file system that is mounted after the packages came knows of no processor yet.
    assert hint.index("mount -t binfmt_misc") < hint.index("update-binfmts --enable qemu-aarch64")


def test_a_program_that_fails_is_quoted() -> None:
    with pytest.raises(RuntimeError, match=r"sh ended with 3: .*\nno such luck"):
        system.run("sh", "-c", "echo no such luck >&2; exit 3")


def test_a_program_that_hangs_is_ended() -> None:
    with pytest.raises(TimeoutError, match="sleep still ran"):
        system.run("sleep", "60", timeout_s=0.05)


def test_a_bootable_tree_knows_its_disk_and_its_network(tmp_path: Path) -> None:
    make_bootable(tmp_path, "192.168.1.21", "192.168.1.10 broker.local\n")
    assert "/dev/vda1 /boot/firmware vfat" in (tmp_path / "etc/fstab").read_text()
    assert (tmp_path / "boot/firmware").is_dir()
    network = (tmp_path / "etc/systemd/network/10-lan.network").read_text()
    assert "Address=192.168.1.21/24\n" in network
    assert "broker.local" in (tmp_path / "etc/hosts").read_text()


def lab(*options: str) -> int:
    with pytest.raises(SystemExit) as end:
        cli.run(board_lab.main, "scripts/board-lab", options)
    assert isinstance(end.value.code, int)
    return end.value.code


def test_the_lab_without_its_programs_names_them_and_ends_with_2(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(system, "PATH", "/nowhere")
    assert lab("--quick") == 2
    quick = capfd.readouterr().err
    assert quick.startswith("fedring: error: not on this machine: ")
    assert "fedring: hint: sudo apt-get install " in quick
    assert "Traceback" not in quick
    # Only what these containers need.
    assert "systemd-container" in quick
    assert "qemu" not in quick
    assert lab("--arm64") == 2
    assert "qemu-system-arm" in capfd.readouterr().err
    assert lab("--amd64", "--power-cuts") == 2
    whole = capfd.readouterr().err
    assert "qemu-system-x86" in whole
    assert "mosquitto-clients" in whole
    assert lab("--power-cuts") == 2
    carded = capfd.readouterr().err
    assert "mosquitto-clients" in carded
    assert "qemu-system-common" in carded
    assert "qemu-system-x86" not in carded


def test_the_lab_ends_with_1_when_a_step_fails_and_names_what_did_not_run(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def fail(processors: Iterable[Processor]) -> str:
        raise RuntimeError(f"mmdebstrap ended with 25, for {[*processors]}")

    monkeypatch.setattr(board_lab, "demand", lambda _: None)
    monkeypatch.setattr(board_lab, "build_trees", fail)
    assert lab("--quick", "--keep", str(tmp_path)) == 1
    said = capfd.readouterr()
    first, *others = said.out.splitlines()
    assert first.split("  ")[0] == "trees of Debian"
    assert "  FAILED  " in first
    assert len(others) > 4
    assert all(line.endswith("  not run") for line in others)
    assert "mmdebstrap ended with 25, for []" in said.err


def test_steps_end_with_the_first_that_fails(capfd: pytest.CaptureFixture[str]) -> None:
    gone: list[str] = []

    def hang() -> str:
        raise TimeoutError("b01: not within 120 s")

    steps = [
        Step("one", lambda: gone.append("one") or "7 s"),  # type: ignore[func-returns-value]
        Step("two", hang),
        Step("three", lambda: gone.append("three") or ""),  # type: ignore[func-returns-value]
    ]
    assert board_lab.go_through(steps[:1], lambda: "")
    assert not board_lab.go_through(steps, lambda: "what it said")
    assert gone == ["one", "one"]
    assert capfd.readouterr().err == "\nb01: not within 120 s\n\nwhat it said\n"


def test_a_console_tells_the_steps_of_an_update_among_other_words() -> None:
    console = (
        "[  512.1] systemd[1]: Starting fedring-update.service - Update of the fedring agent...\r\n"
        "[  519.8] fedring-update[611]: update: take\r\n"
        "[  520.2] fedring[420]: INFO an update: go back to what you did\r\n"
        "[  541.0] fedring-update[611]: update: go back\r\n"
        "[  541.3] fedring-update[611]: update: sing\r\n"
        "[  541.9] fedring-update[611]: update: rep"
    )
    assert steps_named(console) == ["take", "go back"]


def test_between_them_a_good_and_a_bad_update_go_through_every_step() -> None:
    for update in UPDATES:
        assert list(update.steps) == [step for step in STEPS if step in update.steps]
    assert {step for update in UPDATES for step in update.steps} == set(STEPS)


@pytest.fixture
def kvm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with a /dev/kvm, and with nothing in /sys/module."""
    modules = tmp_path / "modules"
    modules.mkdir()
    (tmp_path / "kvm").touch()
    monkeypatch.setattr(processors, "_MODULES", modules)
    monkeypatch.setattr(processors, "_KVM", tmp_path / "kvm")
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    return modules


@pytest.mark.parametrize("module", ["kvm_intel", "kvm_amd"])
def test_a_processor_of_this_machine_runs_by_itself(kvm: Path, module: str) -> None:
    (kvm / module).mkdir()
    assert AMD64.options == ("-M", "q35,accel=kvm", "-cpu", "host")
    assert ARM64.options == ("-M", "virt,accel=tcg", "-cpu", "cortex-a72")


def test_a_kvm_that_needs_kernels_of_its_own_is_not_used(kvm: Path) -> None:
    (kvm / "kvm_pvm").mkdir()
    assert AMD64.options == ("-M", "q35,accel=tcg", "-cpu", "Nehalem")


def test_what_reaches_a_card_is_what_a_cut_leaves(tmp_path: Path) -> None:
    writing = tmp_path / "write.sh"
    writing.write_text('while :; do n=$((n + 1)); echo "$n" >>"$1"; done\n')
    board = CardWriter("b01", tmp_path)
    board.disk.touch()
    with board:
        board.start(["sh", writing, board.disk])
        board.await_(lambda: board.disk.stat().st_size > 100, "a card with something on it")
        board.keep("cut")
        kept = board.disk.stat().st_size
        board.await_(lambda: board.disk.stat().st_size > kept, "a card that is written on again")
        lines = (tmp_path / "cut.qcow2").read_text().splitlines()
        board.pull_plug()
        board.go_back("cut")
        assert board.disk.read_text().splitlines() == lines
    assert [int(line) for line in lines] == list(range(1, len(lines) + 1))


class CardWriter(CardMachine):
    """A board that is one program, which writes on its card without end."""

    console = ""
    told_by_installer = ""

    @property
    def card_reader(self) -> Child:
        return self.child

    def insert(self, card: Path) -> None:
        raise NotImplementedError

    def switch_on(self) -> None:
        self.start(["sleep", "60"])

    def run(self, *command: str, data: bytes = b"", timeout_s: float | None = None) -> str:
        raise NotImplementedError

    def slow_card(self, n_writes: int) -> None:
        raise NotImplementedError
