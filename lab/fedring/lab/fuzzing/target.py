"""One decoder of bytes from outside, the rule that it keeps, and the judge of both."""

from __future__ import annotations

import signal
import traceback
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Final, TypeAlias

from attrs import frozen

from fedring.lab.fuzzing.mutations import Form
from fedring.shared.errors import FedringError

Read: TypeAlias = Callable[[bytes], object]

LONGEST_S: Final = 20.0
"""Processor time after which a decoder counts as hanging; all of them take milliseconds."""
SPARE_BYTES: Final = 2 * 2**20
"""Memory that decoding may take beside what the input is long: caches, buffers of libraries."""
BYTES_A_BYTE: Final = 300
"""Memory for each byte of input: `tomllib` takes 150 for each digit of a number."""


class Broken(Exception):  # noqa: N818 - no error of the program's
    """A decoder took what it should not, or gave what does not survive being written."""


class _HangError(BaseException):
    """The time is up; no decoder may catch it."""


@frozen
class Target:
    """A decoder, and the errors by which it may refuse.

    Attributes:
        name: of its folder in the corpus.
        read: decodes and checks what came out, by `same` and `demand`.
        refusals: the package's own errors that it may raise; empty when it never raises.
        form: what its inputs look like.
        tokens: pieces that mean something to it.
        inputs: how many a short run tries.
        spare_bytes: memory that it may take beside what its input is long.
    """

    name: str
    read: Read
    refusals: tuple[type[FedringError], ...]
    form: Form = Form.BYTES
    tokens: tuple[bytes, ...] = ()
    inputs: int = 400
    spare_bytes: int = SPARE_BYTES


@frozen
class Fault:
    """What was wrong; equal ones have one cause.

    Attributes:
        kind: the exception, or what else happened.
        place: innermost place in the package, file and line.
        text: all that is known, for people.
    """

    kind: str
    place: str
    text: str

    def like(self, other: Fault | bool) -> bool:
        """Whether it is the same fault, as far as one can tell from outside."""
        return isinstance(other, Fault) and (self.kind, self.place) == (other.kind, other.place)


def same(read_again: object, value: object) -> None:
    """Demand that what was written and read again is what it was."""
    demand(read_again == value, "another value when it is written and read again")


def demand(holds: bool, what_it_breaks: str) -> None:
    """Demand something of what was decoded."""
    if not holds:
        raise Broken(what_it_breaks)


def judged(target: Target, data: bytes) -> bool | Fault:
    """Whether a decoder took an input (True), refused it (False), or broke the rule."""
    try:
        with _limited(target, len(data)):
            target.read(data)
    except target.refusals:
        return False
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt | SystemExit):
            raise
        return _fault(error)
    return True


@contextmanager
def _limited(target: Target, length: int) -> Iterator[None]:
    """Look after the clock and the memory; memory only where it is traced."""
    tracemalloc.reset_peak()
    before, _ = tracemalloc.get_traced_memory()
    old = signal.signal(signal.SIGVTALRM, _hangs)
    signal.setitimer(signal.ITIMER_VIRTUAL, LONGEST_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, old)
        _, peak = tracemalloc.get_traced_memory()
        if peak - before > target.spare_bytes + BYTES_A_BYTE * length:
            raise Broken(f"{peak - before} bytes of memory for {length} bytes of input")


def _hangs(_number: int, _frame: FrameType | None) -> None:
    raise _HangError(f"{LONGEST_S:g} s of processor time, and no end")


def _fault(error: BaseException) -> Fault:
    frames = traceback.extract_tb(error.__traceback__)
    ours = [one for one in frames if any(part in one.filename for part in _OURS)]
    place = f"{Path(ours[-1].filename).name}:{ours[-1].lineno}" if ours else ""
    kind = str(error) if isinstance(error, Broken) else type(error).__name__
    text = "".join(traceback.format_exception(error, limit=-6)).rstrip()
    return Fault(kind.translate(_NO_DIGITS), place, text)


_OURS: Final = tuple(f"/fedring/{part}/" for part in ("coordinator", "device", "fleet", "shared"))
_NO_DIGITS: Final = dict.fromkeys(range(ord("0"), ord("9") + 1))
