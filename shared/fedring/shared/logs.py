"""Logs of the long-running commands: one line an event on stderr, for journals and people."""

from __future__ import annotations

import logging
import os
import sys

LEVEL_VARIABLE = "FEDRING_LOG"


def start_logging() -> None:
    """Log to stderr; `FEDRING_LOG=debug` shows more, `warning` less."""
    level = os.environ.get(LEVEL_VARIABLE, "info").upper()
    logging.basicConfig(
        stream=sys.stderr,
        level=level if level in logging.getLevelNamesMapping() else "INFO",
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
