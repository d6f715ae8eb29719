"""Become a program that the kernel ends together with the process that started it.

    python -I -S tether.py PARENT_PID PROGRAM [ARGUMENT ...]

Started as a script and by its path, it imports nothing of ours: it is gone after a few
milliseconds, replaced by PROGRAM, which keeps process id and death signal. A function between fork
and exec (`preexec_fn`) could do the same, but not safely in a parent with threads.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
EXIT_ORPHANED = 125
EXIT_NOT_STARTED = 126


def end_with(parent: int) -> None:
    """From now on the kernel kills this process when the thread that started it ends.

    Args:
        parent: process id of whoever started this one.

    Raises:
        OSError: the kernel does not do it.
        SystemExit: the parent has died before the kernel knew.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl: {os.strerror(ctypes.get_errno())}")
    if os.getppid() != parent:
        sys.exit(EXIT_ORPHANED)


def main(parent: int, command: list[str]) -> int:
    try:
        end_with(parent)
        os.execv(command[0], command)  # noqa: S606  # no shell is what we want
    except OSError as error:
        sys.stderr.write(f"{command[0]}: {error.strerror}\n")
    return EXIT_NOT_STARTED


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2:]))
