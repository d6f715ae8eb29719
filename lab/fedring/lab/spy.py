"""A spy on the broker: hears every message of a fleet, and waits for the one that matters.

For tests that have to act at a certain step of a round. It listens in a thread of its own, so that
the test is plain code: do something, wait for what is heard, do the next thing.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

from attrs import frozen

from fedring.shared.backoff import Backoff
from fedring.shared.broker import Broker
from fedring.shared.envelopes import open_envelope
from fedring.shared.errors import MessageError
from fedring.shared.messages import Message
from fedring.shared.mqtt import Connected, Connection
from fedring.shared.mqtt import Message as Published
from fedring.shared.topics import Topics

T = TypeVar("T")

WAIT_S = 90.0
"""Far longer than anything takes on an idle machine: only a failure waits so long."""
_QUICK = Backoff(first_s=0.05, longest_s=0.2)


@frozen
class Heard:
    """A message on the broker.

    Attributes:
        topic: below the fleet's own prefix: `round`, `device/b01/status`.
        payload: as it was published.
        retained: it was published before the spy came.
    """

    topic: str
    payload: bytes
    retained: bool = False

    @property
    def facts(self) -> dict[str, Any]:
        """What its JSON says; empty when it is none."""
        try:
            facts = json.loads(self.payload)
        except ValueError:
            return {}
        return facts if isinstance(facts, dict) else {}

    @property
    def message(self) -> Message | None:
        """The signed message in it, unverified; None when it is none."""
        try:
            return open_envelope(self.payload).message
        except MessageError:
            return None


class Spy:
    """Hears all topics of a fleet; leaving its `with` block ends it.

    Args:
        broker: where; a broker that asks for certificates must let the spy read everything.
        topics: of the fleet.
        check: called while waiting; may raise when there is nothing left to wait for.

    Attributes:
        heard: everything, in order. Where `since` is asked for, it is a length of this list.
    """

    def __init__(
        self, broker: Broker, topics: Topics, check: Callable[[], object] = lambda: None
    ) -> None:
        self.heard: list[Heard] = []
        self._check = check
        self._broker = broker
        self._prefix = f"{topics.root}/{topics.fleet}/"
        self._news = threading.Condition()
        self._connects = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="spy")

    def __enter__(self) -> Spy:
        self._thread.start()
        self.await_connection(0)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._listening.cancel)
        self._thread.join()
        self._loop.close()

    @property
    def now(self) -> int:
        """What was heard after this moment can be told from what was heard before."""
        return len(self.heard)

    @property
    def connects(self) -> int:
        """How often the connection came up."""
        return self._connects

    def await_connection(self, before: int) -> None:
        """Wait until the connection has come up more than `before` times."""
        self._wait(lambda: self._connects > before or None, "a connection", WAIT_S)

    def first(
        self, wanted: Callable[[Heard], object], since: int, *, what: str = "a message"
    ) -> Heard:
        """Wait for the first message that is wanted.

        Args:
            wanted: whether this is it.
            since: where in `heard` to begin.
            what: to be named when it does not come.

        Raises:
            TimeoutError: it does not come within `WAIT_S`; with the last events.
        """
        at = since

        def look() -> Heard | None:
            nonlocal at
            while at < len(self.heard):
                at += 1
                if wanted(self.heard[at - 1]):
                    return self.heard[at - 1]
            return None

        return self._wait(look, what, WAIT_S)

    def forget(self, through: Heard) -> None:
        """Drop what was heard up to this message, so that a long watch fits into memory."""
        with self._news:
            place = next(at for at, heard in enumerate(self.heard) if heard is through)
            del self.heard[: place + 1]

    def event(self, name: str, since: int, **facts: object) -> Heard:
        """Wait for an event of the coordinator with these facts."""

        def wanted(heard: Heard) -> bool:
            return (
                heard.topic == "event" and heard.facts.items() >= {"event": name, **facts}.items()
            )

        return self.first(wanted, since, what=f"the event `{name}` {facts or ''}")

    def status(self, of: str, since: int, **facts: object) -> Heard:
        """Wait until `coordinator` or a device says this about itself."""
        topic = "coordinator/status" if of == "coordinator" else f"device/{of}/status"
        return self.first(
            lambda heard: heard.topic == topic and heard.facts.items() >= facts.items(),
            since,
            what=f"status {facts} of {of}",
        )

    def letter(self, kind: str, since: int, *, sender: str, receiver: str) -> Heard:
        """Wait for a signed message of a kind in an inbox."""
        inbox = "coordinator" if receiver == "coordinator" else f"device/{receiver}"

        def wanted(heard: Heard) -> bool:
            if heard.topic != f"{inbox}/inbox/{sender}":
                return False
            return heard.message is not None and heard.message.kind == kind

        return self.first(wanted, since, what=f"`{kind}` from {sender} to {receiver}")

    def _wait(self, look: Callable[[], T | None], what: str, timeout_s: float) -> T:
        deadline = time.monotonic() + timeout_s
        with self._news:
            while (found := look()) is None:
                self._check()
                if time.monotonic() >= deadline:
                    raise TimeoutError(f"{what} did not come; events were:\n{self._last_events()}")
                self._news.wait(1.0)
        return found

    def _last_events(self) -> str:
        lines = [one.payload.decode() for one in self.heard if one.topic == "event"]
        return "\n".join(lines[-12:])

    def _run(self) -> None:
        self._listening = self._loop.create_task(self._listen())
        with suppress(asyncio.CancelledError):
            self._loop.run_until_complete(self._listening)

    async def _listen(self) -> None:
        connection = Connection(
            self._broker,
            f"spy-{id(self):x}",
            subscriptions=[f"{self._prefix}#"],
            persistent=False,
            backoff=_QUICK,
        )
        async with connection:
            async for event in connection.events():
                with self._news:
                    match event:
                        case Published(topic, payload, retained):
                            short = topic.removeprefix(self._prefix)
                            self.heard.append(Heard(short, payload, retained))
                        case Connected():
                            self._connects += 1
                    self._news.notify_all()
