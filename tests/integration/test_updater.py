"""The root side of updates as real processes, killed at each of its steps."""

import os
import signal
import tarfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.integration.slots import Board, agent, archive, bundle

from fedring.device.update.updater import STEPS
from fedring.fleet.issuing import Issuer

ISSUER = Issuer.create("greenhouse")
FOREIGN = Issuer.create("greenhouse")


@pytest.fixture
def board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Board:
    board = Board(tmp_path / "board", ISSUER)
    monkeypatch.setenv("PATH", f"{board.root / 'bin'}:{os.environ['PATH']}")
    return board


def test_a_good_bundle_takes_the_other_slot(board: Board) -> None:
    board.offer("0.2.0", floor="0.1.5")
    status, steps = board.run_updater()
    assert status == 0
    assert steps == [step for step in STEPS if step != "go back"]
    assert board.running == "0.2.0"
    assert board.proven == "slots/b"
    assert board.outcome == {
        "state": "updated",
        "source": "1.fedring",
        "from_version": "0.1.0",
        "to_version": "0.2.0",
        "reason": "",
    }
    assert board.calls == ["stop slots/b good", "start slots/b good"]
    assert list(board.inbox.iterdir()) == []
    assert not (board.program / "incoming").exists()
    assert (board.record / "floor").read_text() == "0.1.5\n"
    assert (board.record / "outcome.json").stat().st_mode & 0o777 == 0o644

    board.offer("0.3.0", number=2)
    board.run_updater()
    assert board.running == "0.3.0"
    assert board.proven == "slots/a"
    assert board.outcome["from_version"] == "0.2.0"


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [
        ("never", "not READY within 0.3 s: connecting, fedring: error: no broker"),
        ("crashes", "ended 3 times: fedring: error: no broker"),
        ("falls", "ended 3 times: connecting, fedring: error: no broker"),
    ],
)
def test_an_agent_that_does_not_prove_itself_goes_back(
    board: Board, behaviour: str, reason: str
) -> None:
    board.offer("0.2.0", behaviour=behaviour, floor="0.2.0")
    status, steps = board.run_updater()
    assert status == 0
    assert "settle" not in steps
    assert board.running == "0.1.0"
    assert board.proven == "slots/a"
    assert board.calls[-1] == "start slots/a good"
    assert board.outcome["state"] == "rolled_back"
    assert board.outcome["to_version"] == "0.2.0"
    assert reason in board.outcome["reason"]
    assert not (board.record / "floor").exists(), "the floor of a bad bundle holds nobody back"
    assert list(board.inbox.iterdir()) == []


def test_an_agent_that_does_not_import_is_never_switched_to(board: Board) -> None:
    board.offer("0.2.0", last_words="ImportError: libstdc++.so.6: cannot open shared object file")
    steps = board.take()
    assert steps[-2:] == ["try", "report"]
    assert board.outcome["state"] == "refused"
    assert "libstdc++.so.6: cannot open" in board.outcome["reason"]
    assert board.running == "0.1.0"
    assert not (board.root / "calls").exists(), "the running agent was not touched"


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "another processor": ({"arch": "armv7l"}, "is for machine armv7l"),
    "another Python": ({"python": "cp39"}, "is for Python cp39"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_bundle_for_other_boards_is_refused(board: Board, what: str) -> None:
    how, reason = REFUSED[what]
    board.offer("0.2.0", **how)
    board.take()
    assert_refused(board, reason)


def test_a_bundle_below_the_floor_is_refused(board: Board) -> None:
    board.offer("0.3.0", floor="0.2.0")
    board.take()
    board.offer("0.1.9", number=2)
    board.take()
    assert_refused(board, "0.1.9 is older than 0.2.0", running="0.3.0")
    board.offer("0.2.0", number=3)
    board.take()
    assert board.running == "0.2.0"
    board.offer("0.1.9", number=4)
    board.take()
    assert_refused(board, "0.1.9 is older than 0.2.0", running="0.2.0")


def test_a_bundle_of_another_authority_is_refused(board: Board) -> None:
    board.drop(bundle(FOREIGN, archive(agent("0.2.0")), "0.2.0"))
    steps = board.take()
    assert "unpack" not in steps
    assert_refused(board, "not signed by the authority of fleet greenhouse")


def test_a_changed_bundle_is_refused(board: Board) -> None:
    good = bundle(ISSUER, archive(agent("0.2.0")), "0.2.0")
    for number, (what, bad) in enumerate(
        {
            "a bit of the archive": good.replace(b"\x1f\x8b\x08", b"\x1f\x8b\x09"),
            "the end is missing": good[: good.index(b"\x1f\x8b\x08") + 100],
            "nothing": b"",
            "no tar": b"\x1f\x8b" + os.urandom(4000),
        }.items()
    ):
        board.drop(bad, number)
        steps = board.take()
        assert "unpack" not in steps, what
        assert_refused(board, "")


def link(name: str, target: str, kind: bytes) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member


HOSTILE = {
    "a link out of the slot": (
        {},
        [link("site/x", "/etc/passwd", tarfile.SYMTYPE)],
        "neither file nor folder",
    ),
    "a hard link": ({}, [link("site/x", "site/behaviour", tarfile.LNKTYPE)], "neither file"),
    "a device": ({}, [link("site/x", "", tarfile.CHRTYPE)], "neither file"),
    "a pipe": ({}, [link("site/x", "", tarfile.FIFOTYPE)], "neither file"),
    "a way up": ({"site/../../../escaped": b"x"}, [], "is no place in a slot"),
    "an absolute path": ({"/escaped": b"x"}, [], "is no place in a slot"),
    "a file twice": ({"site//module.py": b"evil"}, [], "stands in it twice"),
    "an end of line": ({"site/a\nb": b"x"}, [], "is no place in a slot"),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_archive_is_refused_even_when_signed(board: Board, what: str) -> None:
    files, members, reason = HOSTILE[what]
    packed = archive(agent("0.2.0") | files, members)
    board.drop(bundle(ISSUER, packed, "0.2.0"))
    before = {path for path in board.root.rglob("*") if "slots" not in path.parts}
    board.take()
    assert_refused(board, reason)
    after = {path for path in board.root.rglob("*") if "slots" not in path.parts}
    assert {path.name for path in after - before} <= {"outcome.json", "lock", "proven"} | {
        "fedring-update"
    }


def test_links_in_the_inbox_are_not_followed(board: Board, tmp_path: Path) -> None:
    outside = tmp_path / "outside.fedring"
    outside.write_bytes(bundle(ISSUER, archive(agent("0.2.0")), "0.2.0"))
    (board.inbox / "1.fedring").symlink_to(outside)
    board.take()
    assert_refused(board, "cannot be read")
    assert outside.exists()
    (board.inbox / "2.fedring").mkdir()
    os.mkfifo(board.inbox / "3.fedring")
    board.take()
    assert_refused(board, "no file of at most")
    assert [path.suffix for path in board.inbox.iterdir()] == [".folder"]


def test_no_room_is_told_before_anything_is_unpacked(
    board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = archive(agent("0.2.0") | {"site/large": bytes(2**23)})
    board.drop(bundle(ISSUER, packed, "0.2.0"))
    # A small disk of its own would need root.
    disk = SimpleNamespace(f_bavail=20 * 2**20, f_frsize=1)
    monkeypatch.setattr("fedring.device.room.os.statvfs", lambda _: disk)
    steps = board.take()
    assert "try" not in steps
    assert_refused(board, "24 MiB are needed in")
    assert not (board.program / "slots" / "b").exists()


def assert_refused(board: Board, reason: str, running: str = "0.1.0") -> None:
    assert board.outcome["state"] == "refused"
    assert reason in board.outcome["reason"]
    assert board.running == running
    assert not list(board.inbox.glob("*.fedring"))


GOOD = [step for step in STEPS if step != "go back"]
BEFORE_THE_TRIAL = STEPS[: STEPS.index("switch")]
BAD = [step for step in STEPS[STEPS.index("switch") :] if step != "settle"]


@pytest.mark.parametrize("step", GOOD)
def test_killed_at_any_step_a_good_update_is_finished(board: Board, step: str) -> None:
    board.offer("0.2.0", floor="0.2.0")
    status, steps = board.run_updater(die_at=step)
    assert status == -signal.SIGKILL
    assert steps[-1] == step
    switched = STEPS.index(step) > STEPS.index("switch")
    assert board.running == ("0.2.0" if switched else "0.1.0")
    assert (board.record / "trial.json").exists() == (STEPS.index(step) > STEPS.index("record"))
    if STEPS.index("record") < STEPS.index(step) < STEPS.index("report"):
        assert board.proven == "slots/a", "the way back is not the new slot's"

    assert board.run_updater()[0] == 0
    assert_updated(board)


def assert_updated(board: Board) -> None:
    assert board.running == "0.2.0"
    assert board.proven == "slots/b"
    assert board.outcome["state"] == "updated"
    assert (board.record / "floor").read_text() == "0.2.0\n"
    assert list(board.inbox.iterdir()) == []
    assert not (board.record / "trial.json").exists()


@pytest.mark.parametrize("step", BAD)
def test_killed_at_any_step_a_bad_update_goes_back(board: Board, step: str) -> None:
    board.offer("0.2.0", behaviour="never")
    assert board.run_updater(die_at=step)[0] == -signal.SIGKILL
    assert board.running
    assert board.run_updater()[0] == 0
    assert_gone_back(board)


def assert_gone_back(board: Board) -> None:
    assert board.running == "0.1.0"
    assert board.proven == "slots/a"
    assert board.outcome["state"] == "rolled_back"
    assert board.outcome["reason"]
    assert board.calls[-1] == "start slots/a good"
    assert list(board.inbox.iterdir()) == []
    assert not (board.record / "trial.json").exists()


@pytest.mark.parametrize("step", GOOD)
def test_killed_at_any_step_a_good_update_by_hand_is_finished_at_boot(
    board: Board, step: str
) -> None:
    file = board.offer("0.2.0", floor="0.2.0").rename(board.root / "by-hand.fedring")
    assert board.run_updater(file, die_at=step)[0] == -signal.SIGKILL
    file.unlink()
    board.boot()
    if step in BEFORE_THE_TRIAL:
        assert board.running == "0.1.0"
        assert not board.starts_updater
    else:
        assert_updated(board)


@pytest.mark.parametrize("step", BAD)
def test_killed_at_any_step_a_bad_update_by_hand_goes_back_at_boot(board: Board, step: str) -> None:
    file = board.offer("0.2.0", behaviour="never").rename(board.root / "by-hand.fedring")
    assert board.run_updater(file, die_at=step)[0] == -signal.SIGKILL
    board.boot()
    assert_gone_back(board)


def test_a_bundle_that_vanishes_from_the_inbox_leaves_no_slot_without_a_verdict(
    board: Board,
) -> None:
    file = board.offer("0.2.0", behaviour="never")
    assert board.run_updater(die_at="watch")[0] == -signal.SIGKILL
    file.unlink()
    board.boot()
    assert_gone_back(board)


def test_an_updater_that_is_started_while_another_one_works_waits_for_it(board: Board) -> None:
    """systemd starts it as soon as a bundle given by hand is on trial."""
    text = board.driver.read_text()
    board.driver.write_text(text.replace("trial_s=0.1", "trial_s=1"))
    file = board.offer("0.2.0", floor="0.2.0").rename(board.root / "by-hand.fedring")
    second: list[tuple[int, list[str]]] = []

    def start_the_other() -> None:
        until = time.monotonic() + 30
        while not (board.record / "trial.json").exists():
            assert time.monotonic() < until
            time.sleep(0.01)
        assert board.starts_updater
        second.append(board.run_updater())

    status, steps = board.run_updater(file, while_running=start_the_other)
    assert (status, steps[-1]) == (0, "report")
    assert second == [(0, [])], "nothing was left to do"
    assert_updated(board)


def test_a_slot_that_brings_the_board_down_goes_back_after_three_times(board: Board) -> None:
    board.offer("0.2.0")
    for _ in range(3):
        assert board.run_updater(die_at="watch")[0] == -signal.SIGKILL
        assert board.running == "0.2.0"
    assert board.run_updater()[0] == 0
    assert board.running == "0.1.0"
    assert "went down 3 times" in board.outcome["reason"]


def test_a_bundle_by_hand_does_not_touch_the_inbox(board: Board) -> None:
    file = board.offer("0.2.0").rename(board.root / "by-hand.fedring")
    status, _ = board.run_updater(file)
    assert status == 0
    assert board.running == "0.2.0"
    assert file.exists()


def test_the_next_bundle_ends_the_trial_of_a_ready_one(board: Board) -> None:
    text = board.driver.read_text()
    board.driver.write_text(text.replace("trial_s=0.1", "trial_s=1000"))
    board.offer("0.2.0", number=9)
    board.offer("0.3.0", number=10, behaviour="never")
    assert board.run_updater()[0] == 0
    assert board.calls[:2] == ["stop slots/b good", "start slots/b good"]
    assert board.outcome["source"] == "10.fedring"
    assert board.outcome["state"] == "rolled_back"
    assert board.running == "0.2.0"
