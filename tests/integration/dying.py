"""Runs a part of fedring that kills itself at a named moment: a program for tests.

    python -P dying.py FILE python -P -c CODE device run --config SETTINGS

It stands before the command of a device or of the coordinator (`LocalFleet.under`). What runs is
production's code; some of its functions are wrapped, and the wrapper looks whether FILE names the
moment that has just come. If so, the process takes FILE away and kills itself by SIGKILL: nothing
is said, nothing cleaned up, and whoever is started next lives on.

Moments are
- `<record>`, `<record>, not committed` and `<record>, committed`: before a record is written, with
  all of it said to SQLite but the last word, and when it is durable;
- `<kind> <n>`: before the n-th message of this kind in a round leaves;
- `work`, `training` (after the first batch) and `opening` (of the sums).
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fedring.coordinator import service
from fedring.coordinator.device_table import DeviceTable
from fedring.coordinator.store import CoordinatorStore
from fedring.device import work
from fedring.device.store import DeviceStore
from fedring.shared.cli import main
from fedring.shared.envelopes import open_envelope
from fedring.shared.errors import MessageError
from fedring.shared.mqtt import Connection
from fedring.shared.state import Database

RECORDS: tuple[tuple[type, str, str], ...] = (
    (DeviceStore, "persist_revocation", "revocation list"),
    (DeviceStore, "persist_joined", "joined"),
    (DeviceStore, "persist_release", "release count"),
    (CoordinatorStore, "next_round", "round number"),
    (DeviceTable, "save_cohorts", "cohorts"),
    (CoordinatorStore, "commit_version", "version"),
)
"""Class, method, and what it writes."""

FILE = Path(sys.argv[1])


def reach(moment: str) -> None:
    """Die, if this is the moment to."""
    try:
        named = FILE.read_text("utf-8")
    except FileNotFoundError:
        return
    if named == moment:
        FILE.unlink()
        os.kill(os.getpid(), signal.SIGKILL)


class _Writing(threading.local):
    """Which record this thread is writing."""

    record = ""


_writing = _Writing()


def _wrap(owner: Any, name: str, wrapper: Callable[[Any], Any]) -> None:
    setattr(owner, name, wrapper(getattr(owner, name)))


def _recording(record: str) -> Callable[[Any], Any]:
    def wrapper(write: Any) -> Any:
        def writing(*args: Any, **kwargs: Any) -> Any:
            reach(record)
            _writing.record = record
            try:
                written = write(*args, **kwargs)
            finally:
                _writing.record = ""
            reach(f"{record}, committed")
            return written

        return writing

    return wrapper


def _transaction(begin: Any) -> Any:
    @contextmanager
    def transaction(database: Database) -> Iterator[Any]:
        with begin(database) as connection:
            yield connection
            if _writing.record:
                reach(f"{_writing.record}, not committed")

    return transaction


def _sending(send: Any) -> Any:
    sent: Counter[tuple[str, int, int]] = Counter()

    async def sending(connection: Connection, topic: str, payload: bytes, **kwargs: Any) -> Any:
        try:
            message = open_envelope(payload).message
        except MessageError:  # a model, a status
            return await send(connection, topic, payload, **kwargs)
        place = (message.kind, message.epoch, message.round)
        sent[place] += 1
        reach(f"{message.kind} {sent[place]}")
        return await send(connection, topic, payload, **kwargs)

    return sending


def _before(moment: str) -> Callable[[Any], Any]:
    def wrapper(call: Any) -> Any:
        def calling(*args: Any, **kwargs: Any) -> Any:
            reach(moment)
            return call(*args, **kwargs)

        return calling

    return wrapper


class _Looks(threading.Event):
    """Tells a training that goes on, and this program how far it is."""

    def __init__(self, stop: threading.Event) -> None:
        super().__init__()
        self._stop = stop
        self._looks = 0

    def is_set(self) -> bool:
        self._looks += 1
        if self._looks == 2:
            reach("training")
        return self._stop.is_set()


def _contributing(contribute: Any) -> Any:
    def contributing(*args: Any, stop: threading.Event, **kwargs: Any) -> Any:
        return contribute(*args, stop=_Looks(stop), **kwargs)

    return contributing


if __name__ == "__main__":
    for owner, method, record in RECORDS:
        _wrap(owner, method, _recording(record))
    _wrap(Database, "transaction", _transaction)
    _wrap(Connection, "send", _sending)
    _wrap(work.Workshop, "work", _before("work"))
    _wrap(work, "contribute", _contributing)
    _wrap(service, "end", _before("opening"))
    code = sys.argv.index("-c", 2)  # what python would have run: `main`, with what follows
    sys.argv = sys.argv[code : code + 1] + sys.argv[code + 2 :]
    main()
