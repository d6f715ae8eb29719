"""Times every callback of an event loop, and asks what it is doing when it takes long.

Comes before the command of `fedring`: python -c "..." FILE python -P -c "..." coordinator run ...
"""

from __future__ import annotations

import asyncio
import atexit
import json
import sys
import threading
import time
from asyncio import Handle
from collections import Counter
from pathlib import Path
from typing import Any, Final

LATE_S: Final = 0.05
LOOK_S: Final = 0.01
"""How often the loop's thread is looked at."""
TOLD: Final = 10

_run = Handle._run  # noqa: SLF001 - the one place that every callback goes through


class Probe:
    """What the callbacks of the event loop took.

    Attributes:
        count: how many there were.
        late: how many took longer than `LATE_S` from begin to end, whoever else used the cores.
        latest: seconds of the longest, from begin to end.
        longest: most processor seconds of one.
        seen: what the thread did when a callback was found to have run for `LOOK_S`: how often.
    """

    def __init__(self) -> None:
        self.count = self.late = 0
        self.latest = self.longest = 0.0
        self.seen: Counter[str] = Counter()
        self._began: float | None = None
        self._thread = threading.get_ident()

    def run(self, handle: Handle) -> None:
        """Run a callback as the loop would."""
        processor = time.thread_time()
        self._began = began = time.perf_counter()
        _run(handle)
        self._began = None
        wall, processor = time.perf_counter() - began, time.thread_time() - processor
        self.count += 1
        self.late += wall > LATE_S
        self.latest = max(self.latest, wall)
        self.longest = max(self.longest, processor)

    def look(self) -> None:
        """Look at the loop's thread for ever, from another one."""
        while True:
            time.sleep(LOOK_S)
            began = self._began
            if began is not None and time.perf_counter() - began > LOOK_S:
                self.seen[self._place()] += 1

    def _place(self) -> str:
        """Where the loop's thread is, innermost first, in our own code."""
        frame = sys._current_frames().get(self._thread)  # noqa: SLF001 - its documented use
        names = []
        while frame is not None:
            file = Path(frame.f_code.co_filename)
            if "fedring" in file.parts:
                names.append(f"{file.stem}.{frame.f_code.co_name}")
            frame = frame.f_back
        return " < ".join(names)

    def facts(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "count": self.count,
            "late": self.late,
            "latest": self.latest,
            "longest": self.longest,
            "seen": dict(self.seen.most_common(TOLD)),
        }


def watch(file: Path) -> None:
    """Time all callbacks of this thread's loop from now on; FILE gets the outcome at the end."""
    probe = Probe()

    def run(self: Handle) -> None:
        probe.run(self)

    asyncio.Handle._run = run  # type: ignore[method-assign]  # noqa: SLF001
    threading.Thread(target=probe.look, name="probe", daemon=True).start()
    atexit.register(lambda: file.write_text(json.dumps(probe.facts())))


def main() -> None:
    """Run `fedring` under watch."""
    watch(Path(sys.argv[1]))
    sys.argv = ["fedring", *sys.argv[6:]]
    from fedring.shared.cli import main as fedring  # noqa: PLC0415 - watched from its import on

    fedring()
