"""Children end with their parent, whatever ends it."""

import asyncio
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from fedring.lab.brokers import Program
from fedring.lab.processes import Child, stop_all
from fedring.shared.errors import UserError

STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True);"
    "time.sleep(60)"
)
SLEEPER = "import time; print('awake', flush=True); time.sleep(60)"

PARENT = """
import sys, time
from pathlib import Path
from fedring.lab.brokers import Program, start_broker
from fedring.lab.processes import Child

folder = Path(sys.argv[1])
broker = start_broker(folder / "broker", program=Program(sys.argv[2]))
sleeper = Child.start([sys.executable, "-c", sys.argv[3]], name="sleeper", log=folder / "log")
print(broker.child.pid, sleeper.pid, flush=True)
time.sleep(60)
"""


def until(condition: Callable[[], bool], seconds: float = 10) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Callable[[str], Child]]:
    """Starts Python code as a child and waits for its first words."""
    children: list[Child] = []

    def start(code: str, *arguments: str) -> Child:
        log = tmp_path / f"{len(children)}.log"
        command = [sys.executable, "-c", code, *arguments]
        children.append(Child.start(command, name=f"child {len(children)}", log=log))
        assert until(lambda: "\n" in log.read_text()), log.read_text()
        return children[-1]

    yield start
    for child in children:
        child.kill()


@pytest.mark.parametrize(
    "program",
    [pytest.param(Program.MOSQUITTO, marks=pytest.mark.mosquitto), Program.EMBEDDED],
    ids=str,
)
def test_a_killed_parent_leaves_nothing_running(
    program: Program, started: Callable[..., Child], tmp_path: Path
) -> None:
    parent = started(PARENT, str(tmp_path), program, SLEEPER)
    children = [int(pid) for pid in parent.log.read_text().split()]
    assert all(runs(pid) for pid in children)
    parent.send(signal.SIGKILL)
    assert until(lambda: not any(runs(pid) for pid in children))


def test_an_orphan_is_not_started_at_all(started: Callable[..., Child], tmp_path: Path) -> None:
    code = (
        "import subprocess, sys\n"
        "from fedring.lab import tether\n"
        "command = [sys.executable, '-I', '-S', tether.__file__, '1', '/bin/echo', 'alive']\n"
        "print(subprocess.run(command).returncode, flush=True)"
    )
    assert started(code).log.read_text() == "125\n"


def test_a_polite_end(started: Callable[..., Child]) -> None:
    child = started(SLEEPER)
    assert child.running
    assert child.exit_status is None
    assert child.stop() == -signal.SIGTERM
    assert not child.running
    assert child.stop() == -signal.SIGTERM, "a second time does nothing"
    child.kill()


def test_those_who_do_not_listen_are_killed_together(started: Callable[..., Child]) -> None:
    children = [started(STUBBORN), started(STUBBORN), started(SLEEPER)]
    began = time.monotonic()
    stop_all(children, grace_s=0.3)
    assert time.monotonic() - began < 5
    expected = [-signal.SIGKILL, -signal.SIGKILL, -signal.SIGTERM]
    assert [child.exit_status for child in children] == expected


def test_waiting_for_an_end(started: Callable[..., Child]) -> None:
    child = started("print('done')")
    assert child.wait(5) == 0
    assert asyncio.run(child.ended()) == 0
    assert child.last_words() == "done"
    with pytest.raises(TimeoutError, match=r"child 1 still runs after 0.1 s"):
        started(SLEEPER).wait(0.1)


def test_waiting_does_not_block_the_event_loop(started: Callable[..., Child]) -> None:
    child = started(SLEEPER)

    async def story() -> int:
        ended = asyncio.create_task(child.ended())
        await asyncio.sleep(0.05)
        assert not ended.done()
        child.send(signal.SIGKILL)
        return await asyncio.wait_for(ended, 5)

    assert asyncio.run(story()) == -signal.SIGKILL


def test_a_child_has_its_own_process_group(started: Callable[..., Child]) -> None:
    child = started(SLEEPER)
    assert os.getpgid(child.pid) == child.pid != os.getpgid(0)


def test_a_program_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="ghost: no program no-such-program on this machine"):
        Child.start(["no-such-program"], name="ghost", log=tmp_path / "log")


def test_threads_start_no_children(tmp_path: Path) -> None:
    errors = []

    def start() -> None:
        try:
            Child.start([sys.executable, "-V"], name="python", log=tmp_path / "log")
        except RuntimeError as error:
            errors.append(str(error))

    thread = threading.Thread(target=start)
    thread.start()
    thread.join()
    assert errors == ["python would be killed as soon as this thread ends"]
