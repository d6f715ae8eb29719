"""Logs of the long-running commands: one line an event on stderr, for journals and people.

Much of what is logged answers what others send. A journal on a memory card is small: so each module
writes so many lines in a while, and then how many it left out; errors are always written. And
somebody looks at it on a terminal: so an event is one line, whatever others put into it.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable

from attrs import define, field

from fedring.shared.texts import printable

LEVEL_VARIABLE = "FEDRING_LOG"

MOST_LINES = 200
"""Lines of one logger in `WINDOW_S`: a coordinator writes about six for a ring, in some seconds."""
WINDOW_S = 10.0


@define
class _Window:
    began: float
    lines: int = 0
    left_out: int = 0


@define(eq=False)
class Thrift(logging.Filter):
    """Lets no logger write more than `MOST_LINES` in `WINDOW_S`, but for errors.

    Args:
        clock: monotonic, in seconds.
    """

    clock: Callable[[], float] = time.monotonic
    _windows: dict[str, _Window] = field(factory=dict)

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether to write a line; says first how many were left out before it."""
        now = self.clock()
        window = self._windows.get(record.name)
        if window is None or now >= window.began + WINDOW_S:
            left_out = window.left_out if window else 0
            window = self._windows[record.name] = _Window(now)
            if left_out:
                record.msg = f"({left_out} lines left out) {record.getMessage()}"
                record.args = ()
        window.lines += 1
        if window.lines <= MOST_LINES or record.levelno >= logging.ERROR:
            return True
        window.left_out += 1
        return False


class OneLine(logging.Formatter):
    """Writes each event as one line of characters that print; tracebacks keep their lines."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the library's name
        return printable(super().formatMessage(record))


def start_logging() -> None:
    """Log to stderr; `FEDRING_LOG=debug` shows all, `info` and `warning` less."""
    level = os.environ.get(LEVEL_VARIABLE, "info").upper()
    logging.basicConfig(
        stream=sys.stderr,
        level=level if level in logging.getLevelNamesMapping() else "INFO",
    )
    for handler in logging.getLogger().handlers:
        handler.setFormatter(OneLine("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        if not logging.getLogger().isEnabledFor(logging.DEBUG):
            handler.addFilter(Thrift())
