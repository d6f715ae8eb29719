"""Which kind of board this is, as bundles name it."""

from __future__ import annotations

import platform
import sys


def python_tag() -> str:
    """Tag of this Python, such as "cp311"."""
    return f"cp{sys.version_info.major}{sys.version_info.minor}"


def processor() -> str:
    """This processor, such as "aarch64"."""
    return platform.machine()
