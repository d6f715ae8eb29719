"""What a power cut would leave of an update: the calls of updater and agent, as the kernel saw.

Two boards: one with tiny agents, to see the updater alone; and one whose real agent is ordered a
good version, then a bad one, by a real broker.

A file counts as on the disk when it was synced after it was last written; a name when its folder
was. Before a link, a record or a bundle gets its place by rename, its content must be there, and
before the next thing happens, the rename.
"""

import json
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from attrs import define, field, frozen
from tests.integration.greenhouse import Greenhouse
from tests.integration.slots import Board
from tests.integration.test_traces import Call, published, read_calls

from fedring.fleet.issuing import Issuer
from fedring.lab.spy import WAIT_S

NAME = "b01"
ISSUER = Issuer.create("greenhouse")
TRACED = (
    "open,openat,creat,write,pwrite64,copy_file_range,sendfile,fsync,fdatasync,sync,syncfs,"
    "rename,renameat,renameat2,symlink,symlinkat,execve,sendto"
)


@define
class Disk:
    """Which files and names under a folder are not on the disk yet."""

    root: Path
    unsynced: set[str] = field(factory=set)
    unnamed: set[str] = field(factory=set)
    """Folders in which a name has changed."""

    def take(self, call: Call) -> None:
        if call.result < 0:
            return
        path = call.file
        match call.name:
            case "write" | "pwrite64" | "copy_file_range" | "sendfile" if self._is_ours(path):
                self.unsynced.add(path)
            case "fsync" | "fdatasync":
                self.unsynced.discard(path)
                self.unnamed.discard(path)
            case "sync" | "syncfs":
                self.unsynced.clear()
                self.unnamed.clear()
            case "rename" | "renameat" | "renameat2" | "symlink" | "symlinkat":
                target = Path(call.texts[-1].decode())
                # What lies in the root itself is of the stand-in for systemd.
                if self._is_ours(str(target)) and target.parent != self.root:
                    self.unnamed.add(str(target.parent))

    def _is_ours(self, path: str) -> bool:
        return path.startswith(str(self.root)) and not path.endswith((".log", "calls", "looks"))


def traced(strace: Path, trace: Path) -> list[str]:
    """What comes before a program to have its calls written down."""
    which = f"trace={TRACED}"
    # -D: the program is our child, not strace; -y: what a descriptor stands for; -xx: exact bytes.
    switches = ["-f", "-D", "-y", "-xx", "-s", "1000000"]
    return [str(strace), *switches, "-e", which, "-o", str(trace)]


def read_whole(trace: Path) -> list[Call]:
    """All calls of a program that has ended, when strace has written the last one."""
    deadline = time.monotonic() + WAIT_S
    while not trace.read_text().rstrip().endswith(" +++"):
        assert time.monotonic() < deadline, "strace has not written its last line"
        time.sleep(0.05)
    return read_calls(trace)


def renames(calls: list[Call]) -> Iterator[tuple[Call, str, str]]:
    """Each rename with the names before and after."""
    for call in calls:
        if call.name in {"rename", "renameat", "renameat2"} and call.result == 0:
            source, target = (text.decode() for text in call.texts[:2])
            yield call, source, target


def state_before(calls: list[Call], place: Call | int | None, root: Path) -> Disk:
    """The disk as it was when this call began, at this place of the trace, or in the end."""
    began = place.began if isinstance(place, Call) else place
    disk = Disk(root)
    for one in calls:
        if began is None or one.ended < began:
            disk.take(one)
    return disk


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Board:
    return Board(tmp_path_factory.mktemp("traced") / "board", ISSUER)


@pytest.fixture(scope="module")
def calls(board: Board, strace: Path) -> list[Call]:
    """What the updater did to put a good bundle in place."""
    board.offer("0.2.0", floor="0.1.5")
    trace = board.root / "trace.log"
    status, _ = board.run_updater(under=traced(strace, trace))
    assert status == 0
    assert board.running == "0.2.0"
    return read_whole(trace)


@frozen
class Told:
    """What a real agent told of an update.

    Attributes:
        state: "fetching" and so on.
        at: place in the trace of the agent where it left.
        calls: of that agent.
    """

    state: str
    at: int
    calls: list[Call] = field(repr=False)


@define
class Story:
    """A board that was updated well, then badly."""

    board: Board
    told: list[Told] = field(factory=list)
    updaters: list[list[Call]] = field(factory=list)
    """Of each updater that had something to do, in order."""


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory, mosquitto: Path, strace: Path) -> Story:
    folder = tmp_path_factory.mktemp("told")
    started: Counter[str] = Counter()

    def under(what: str) -> list[str]:
        started[what] += 1
        return traced(strace, folder / f"{what}-{started[what]}.trace")

    with Greenhouse.of(folder, [NAME], under) as greenhouse:
        good, _ = greenhouse.update(greenhouse.bundle(folder, "0.2.0"))
        bad, _ = greenhouse.update(greenhouse.bundle(folder, "0.3.0", broken=True))
    assert (good.complete, good.boards[NAME].state) == (True, "updated")
    assert (bad.complete, bad.boards[NAME].state) == (False, "rolled_back")
    story = Story(greenhouse.boards[NAME])
    topic = greenhouse.topics.device_update(NAME)
    for number in range(1, started["agent"] + 1):
        calls = read_whole(folder / f"agent-{number}.trace")
        story.told += [
            Told(json.loads(packet.payload)["state"], packet.at, calls)
            for packet in published(calls)
            if packet.topic == topic
        ]
    for number in range(1, started["updater"] + 1):
        calls = read_whole(folder / f"updater-{number}.trace")
        if any(target.endswith("/trial.json") for _, _, target in renames(calls)):
            story.updaters.append(calls)
    return story


def test_a_slot_and_its_record_are_on_the_disk_before_the_switch(
    board: Board, calls: list[Call]
) -> None:
    switches = [
        call for call, _, target in renames(calls) if target == str(board.program / "current")
    ]
    assert len(switches) == 1
    disk = state_before(calls, switches[0], board.root)
    slot = str(board.program / "slots" / "b")
    wrote = {call.file for call in calls if call.name == "write" and call.file.startswith(slot)}
    assert len(wrote) >= 4, "the trace shows how the slot was written"
    assert not {path for path in disk.unsynced if path.startswith(slot)}
    assert str(board.record) not in disk.unnamed, "the trial is on record, name and all"
    trial = [call for call, _, target in renames(calls) if target.endswith("/trial.json")]
    assert trial[0].ended < switches[0].began


def test_whatever_is_renamed_was_synced_before(board: Board, calls: list[Call]) -> None:
    targets = []
    for call, source, target in renames(calls):
        if target.startswith(str(board.root)) and "__pycache__" not in target:
            targets.append(Path(target).name)
            assert source not in state_before(calls, call, board.root).unsynced, target
    assert {"current", "proven", "trial.json", "outcome.json", "floor"} <= set(targets)


def test_every_rename_is_on_the_disk_before_the_agent_starts_and_at_the_end(
    board: Board, calls: list[Call]
) -> None:
    assert_durable_at_each_start_and_at_the_end(calls, board.root, n_starts=1)


def assert_durable_at_each_start_and_at_the_end(
    calls: list[Call], root: Path, n_starts: int
) -> None:
    starts = [
        call
        for call in calls
        if call.name == "execve" and call.result == 0 and b"start" in call.texts
    ]
    assert len(starts) == n_starts
    for start in starts:
        assert state_before(calls, start, root).unnamed == set()
    assert state_before(calls, None, root).unnamed == set()


def test_the_trace_can_tell_a_write_from_a_sync(board: Board, calls: list[Call]) -> None:
    """Just before it was synced, the outcome was written but would not survive."""
    outcome = str(board.record / "outcome.json.new")
    syncs = [call for call in calls if call.name == "fsync" and call.file == outcome]
    assert outcome in state_before(calls, syncs[0], board.root).unsynced


def test_a_bundle_is_on_the_disk_before_it_gets_its_name_and_before_the_agent_tells(
    story: Story,
) -> None:
    installing = [told for told in story.told if told.state == "installing"]
    handed_over = 0
    for told in installing:
        for call, source, target in renames(told.calls):
            if target.endswith(".fedring") and call.began < told.at:
                handed_over += 1
                assert source not in state_before(told.calls, call, story.board.root).unsynced
        disk = state_before(told.calls, told.at, story.board.root)
        assert str(story.board.inbox) not in disk.unnamed
    assert handed_over == 2, "one bundle for each update"


def test_an_outcome_is_on_the_disk_before_the_agent_tells_it(story: Story) -> None:
    outcome, record = str(story.board.record / "outcome.json"), str(story.board.record)
    states = []
    for before, told in zip([None, *story.told], story.told, strict=False):
        earlier = before if before is not None and before.calls is told.calls else None
        again = earlier is not None and earlier.state == told.state
        if told.state in {"fetching", "installing"} or again:
            continue
        states.append(told.state)
        since = 0 if earlier is None else earlier.at
        meanwhile = [call for call in told.calls if since < call.began and call.ended < told.at]
        reads = [
            call.ended
            for call in meanwhile
            if call.name == "openat" and call.texts[-1].decode() == outcome and call.result >= 0
        ]
        syncs = [call.began for call in meanwhile if call.name == "fsync" and call.file == record]
        # The updater syncs it, too, but perhaps only after the agent has seen it.
        assert min(reads) < max(syncs), told
    assert {"updated", "rolled_back"} <= set(states)


def test_an_update_that_goes_back_is_on_the_disk_step_by_step(story: Story) -> None:
    root = story.board.root
    good, bad = story.updaters
    assert_durable_at_each_start_and_at_the_end(good, root, n_starts=1)
    assert_durable_at_each_start_and_at_the_end(bad, root, n_starts=2)
    for call, source, target in renames(bad):
        ours = target.startswith(str(root)) and Path(target).parent != root
        if ours and "__pycache__" not in target:
            assert source not in state_before(bad, call, root).unsynced, target
    steps = [
        (Path(target).name, call)
        for call, _, target in renames(bad)
        if Path(target).parent in {story.board.program, story.board.record}
    ]
    names = [name for name, _ in steps]
    there, back = (call for name, call in steps if name == "current")
    verdict = [call for name, call in steps if name == "trial.json"][-1]
    assert there.ended < verdict.began < back.began, "the verdict is on record before the way back"
    assert str(story.board.record) not in state_before(bad, back, root).unnamed
    assert names[-1] == "outcome.json"
    assert "floor" not in names[names.index("current") :], "it is not the one to trust"
