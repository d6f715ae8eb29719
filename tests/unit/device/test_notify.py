"""What systemd hears of the agent, over a real socket."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from fedring.device import notify
from fedring.device.readiness import coordinator_answers


class Listener:
    """Stands for systemd."""

    def __init__(self, address: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(address)
        self._socket.settimeout(10)

    def hear(self) -> list[str]:
        return self._socket.recv(4096).decode().splitlines()

    def close(self) -> None:
        self._socket.close()


@pytest.fixture(params=["path", "abstract"])
def systemd(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Listener]:
    named, address = str(tmp_path / "notify"), str(tmp_path / "notify")
    if request.param == "abstract":
        named, address = f"@fedring-{os.getpid()}", f"\0fedring-{os.getpid()}"
    listener = Listener(address)
    monkeypatch.setenv("NOTIFY_SOCKET", named)
    yield listener
    listener.close()


def test_reports_are_lines_in_one_datagram(systemd: Listener) -> None:
    assert notify.is_watched()
    notify.still_starting("waits for the owner")
    notify.ready("the coordinator answers")
    notify.status("idle, round 7")
    notify.stopping()
    assert systemd.hear() == ["EXTEND_TIMEOUT_USEC=150000000", "STATUS=waits for the owner"]
    assert systemd.hear() == ["READY=1", "STATUS=the coordinator answers"]
    assert systemd.hear() == ["STATUS=idle, round 7"]
    assert systemd.hear() == ["STOPPING=1"]


def test_a_status_orders_nothing(systemd: Listener) -> None:
    notify.status("bad\nREADY=1")
    assert systemd.hear() == ["STATUS=bad\\nREADY=1"]


def test_the_loop_beats_three_times_in_the_time_of_the_watchdog(
    systemd: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "60000000")
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
    loop = Clockwork()
    notify.start_beating(loop)  # type: ignore[arg-type]
    for _ in range(3):
        assert systemd.hear() == ["WATCHDOG=1", "EXTEND_TIMEOUT_USEC=150000000"]
        assert loop.fire() == 20.0


class Clockwork:
    """An event loop of which only the clock is needed: it turns when it is told to."""

    def call_later(self, delay_s: float, callback: object) -> None:
        self._waiting = delay_s, callback

    def fire(self) -> float:
        delay_s, callback = self._waiting
        assert callable(callback)
        callback()
        return delay_s


def test_anothers_watchdog_is_not_ours(systemd: Listener, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "3000000")
    monkeypatch.setenv("WATCHDOG_PID", "1")
    loop = Clockwork()
    notify.start_beating(loop)  # type: ignore[arg-type]
    assert systemd.hear()
    assert loop.fire() == 20.0


def test_nothing_happens_where_nobody_listens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    assert not notify.is_watched()
    notify.ready("nobody hears it")
    notify.start_beating(Clockwork())  # type: ignore[arg-type]
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "gone"))
    notify.ready("nobody hears it")


@pytest.mark.parametrize(
    ("status", "answers"),
    [
        (b'{"state": "ready", "round": 3}', True),
        (b'{"state": "paused"}', True),
        (b'{"state": "offline"}', False),
        (b"{}", False),
        (b"", False),
        (b'["state"]', False),
        (b'{"state": 1}', False),
        (b"\xff", False),
        (b"[" * 100_000, False),
    ],
)
def test_only_a_coordinator_that_is_there_answers(status: bytes, answers: bool) -> None:
    assert coordinator_answers(status) is answers
