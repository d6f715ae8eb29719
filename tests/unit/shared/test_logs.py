"""Whoever makes us log cannot fill a disk with it."""

import logging

from fedring.shared.logs import MOST_LINES, WINDOW_S, Thrift


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
