"""Whoever makes us log cannot fill a disk with it."""

import io
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedring.shared.logs import MOST_LINES, WINDOW_S, OneLine, Thrift


def line(name: str, level: int = logging.WARNING) -> logging.LogRecord:
    return logging.LogRecord(name, level, "", 0, "ignored %s", ("garbage",), None)


def test_a_flood_is_cut_and_counted_and_errors_are_not() -> None:
    now = 0.0
    thrift = Thrift(lambda: now)
    written = sum(thrift.filter(line("agent")) for _ in range(10 * MOST_LINES))
    assert written == MOST_LINES
    assert thrift.filter(line("agent", logging.ERROR))
    assert thrift.filter(line("mqtt"))

    now = WINDOW_S
    record = line("agent")
    assert thrift.filter(record)
    assert record.getMessage() == f"({9 * MOST_LINES} lines left out) ignored garbage"
    record = line("agent")
    assert thrift.filter(record)
    assert record.getMessage() == "ignored garbage"


def logged(message: str, *args: object, error: bool = False) -> str:
    """What a log of ours says."""
    out = io.StringIO()
    handler = logging.StreamHandler(out)
    handler.setFormatter(OneLine("%(levelname)s %(message)s"))
    logger = logging.Logger("test")
    logger.addHandler(handler)
    logger.warning(message, *args, exc_info=error)
    return out.getvalue()


@pytest.mark.parametrize(
    "stranger", ["x\nERROR root: y", "\r", "\x1b[2J", "\u202e", "\x9b1m", "\0"]
)
def test_a_stranger_writes_no_line_of_our_log_and_orders_no_terminal(stranger: str) -> None:
    said = logged("ignored a message: %s", stranger)
    assert said.startswith("WARNING ignored a message: ")
    assert said.endswith("\n")
    assert said[:-1].isprintable()
    assert stranger not in said


@given(st.text(st.characters(exclude_categories=[])))
def test_a_line_is_one_line(text: str) -> None:
    said = logged("%s", text)
    assert said[:-1].isprintable()


def test_what_prints_is_left_as_it_is() -> None:
    assert logged("a = %s, größer", "'\\n'") == "WARNING a = '\\n', größer\n"


def test_a_bug_still_shows_its_traceback() -> None:
    try:
        raise RuntimeError("two\nlines")
    except RuntimeError:
        said = logged("died", error=True)
    assert said.startswith("WARNING died\nTraceback (most recent call last):\n")
    assert said.endswith("RuntimeError: two\nlines\n")
