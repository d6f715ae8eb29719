"""One connection to the broker, kept up: the only module that knows aiomqtt.

    async with Connection(broker, "b01", subscriptions=[topics.inbox_of("b01")]) as connection:
        async for event in connection.events():
            ...

A `Connection` connects, connects again when it is lost, and tells its owner in order what happened:
`Connected`, `Message`, `Disconnected`. It relies on MQTT 3.1.1 and QoS 1 only.

What it promises, and what it leaves to the protocol:
- Publishes of one connection reach the broker in the order of the calls, `window` at a time.
- A publish is acknowledged (True) or given up when the connection is lost (False). A broker that
  answers pings and no publish is left: nobody waits for room in the window for ever. Nothing is
  kept to be sent later: whoever needs an answer repeats, and retained state is published anew at
  each `Connected`.
- Delivery is at least once. An incoming message can be lost although the broker was told that it
  came: the client library reads whatever arrives, so when the owner is slow the waiting messages
  are bounded here by dropping the newest. The ring repeats its messages until they are answered.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from functools import partial
from typing import Any, Final

import aiomqtt
from attrs import define, frozen

from fedring.shared.arrivals import Arrivals, Connected, Disconnected, Event, Message
from fedring.shared.backoff import Backoff
from fedring.shared.broker import Broker, at_some_name, probe, unreachable
from fedring.shared.errors import BrokerError
from fedring.shared.packet_log import PacketLog
from fedring.shared.traffic import Traffic

__all__ = [
    "MAX_PAYLOAD_BYTES",
    "Backoff",
    "Connected",
    "Connection",
    "Disconnected",
    "Event",
    "Message",
    "Will",
]

MAX_PAYLOAD_BYTES: Final = 128 * 1024
"""Most that we publish at once: hosted brokers take no more (AWS IoT: 128 KiB)."""
MAX_PACKET_BYTES: Final = MAX_PAYLOAD_BYTES + 4096
"""What is kept of a packet from the broker, which may announce 256 MB; with topic and header."""
_WAITING_MESSAGES: Final = 256  # inside aiomqtt, between two turns of the event loop
_BACKOFF: Final = Backoff()
_WINDOW: Final = 8  # aiomqtt warns above ten
_UNANSWERED: Final = 4  # keepalives without an answer to any publish, although some wait for one
_CONNECT_TIMEOUT_S: Final = 5.0  # to be reached, and again to be let in
_FAREWELL_S: Final = 1.0
_NODELAY: Final = (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # 60 times faster round trips

_log = logging.getLogger(__name__)


@frozen
class Will:
    """What the broker publishes, retained, when the connection ends without a farewell."""

    topic: str
    payload: bytes


class Connection:
    """A connection to a broker that comes back when it is lost.

    Args:
        broker: where; its other names are tried in turn.
        client_id: stable name of this client; the broker keeps its session under it.
        subscriptions: filters to subscribe to at every connect.
        will: the last will, if any.
        persistent: the broker queues messages while we are away.
        fail_fast: raise at start when the broker cannot be used at any name, instead of trying on.
        classify: topic class of a topic, for the byte counters.
        keepalive_s: a dead connection is noticed within twice this time.
        window: most publishes without acknowledgement.
        backoff: waits between attempts.

    Raises:
        BrokerError: on entering, with `fail_fast`: why the broker cannot be used.
    """

    def __init__(
        self,
        broker: Broker,
        client_id: str,
        *,
        subscriptions: Iterable[str] = (),
        will: Will | None = None,
        persistent: bool = True,
        fail_fast: bool = False,
        classify: Callable[[str], str] = lambda _: "all",
        keepalive_s: int = 15,
        window: int = _WINDOW,
        backoff: Backoff = _BACKOFF,
    ) -> None:
        self.broker = broker
        self.client_id = client_id
        self.traffic = Traffic(classify)
        self._will = will
        self._persistent = persistent
        self._fail_fast = fail_fast
        self._keepalive_s = keepalive_s
        self._backoff = backoff
        self._filters = dict.fromkeys(subscriptions)  # a set that keeps its order
        self._abandoned: set[str] = set()  # filters to take back once we are connected
        self._window = asyncio.Semaphore(window)
        self._arrivals = Arrivals()
        self._packets = PacketLog(self.traffic)
        self._session: _Session | None = None
        self._keeper: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Connection:
        if self._fail_fast:
            self.broker = await asyncio.to_thread(at_some_name, self.broker, self._probe)
        self._keeper = asyncio.create_task(self._keep_up(), name=f"mqtt {self.client_id}")
        self._keeper.add_done_callback(self._arrivals.close)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.wait({self._keeper})

    @property
    def connected(self) -> bool:
        return self._session is not None

    @property
    def proven_alive(self) -> float:
        """`time.monotonic()` of the last packet from the broker; minus infinity before the first.

        The answer to a publish or a ping and any message count. An idle connection is proven
        every `keepalive_s`, one that waits for an answer at each repeat.
        """
        return self._packets.heard

    async def events(self) -> AsyncIterator[Event]:
        """What happens, in order, until the connection is closed; for one reader."""
        while (event := await self._arrivals.take()) is not None:
            yield event
        if self._keeper is not None and not self._keeper.cancelled():
            self._keeper.result()  # it ends by itself only when it raises

    # Sending

    async def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> bool:
        """Publish and wait for the broker's acknowledgement.

        Returns:
            True when the broker has it; False when we are not connected, or no longer.
        """
        return await (await self.send(topic, payload, retain=retain))

    async def send(
        self, topic: str, payload: bytes, *, retain: bool = False
    ) -> asyncio.Future[bool]:
        """Publish, waiting only for room in the window.

        Many small messages go out faster so than with `publish`. The future, which need not be
        awaited, gives what `publish` returns.

        Raises:
            ValueError: a topic with a wildcard, or too large a payload.
        """
        if "+" in topic or "#" in topic:
            raise ValueError(f"cannot publish to the filter {topic}")
        if len(payload) > MAX_PAYLOAD_BYTES:
            raise ValueError(f"{len(payload)} bytes to {topic}, at most {MAX_PAYLOAD_BYTES}")
        await self._window.acquire()
        if self._session is None:
            self._window.release()
            answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
            answer.set_result(False)
            return answer
        self.traffic.count_sent(topic, len(payload))
        publish = partial(self._session.client.publish, topic, payload, qos=1, retain=retain)
        task = self._session.publish(partial(publish, timeout=math.inf), f"publish {topic}")
        task.add_done_callback(lambda _: self._window.release())
        return _outcome(task)

    # Subscribing

    async def subscribe(self, topic_filter: str) -> None:
        """Subscribe now, or as soon as we are connected, and at every connect from then on."""
        self._filters[topic_filter] = None
        self._abandoned.discard(topic_filter)
        if self._session is not None:
            work = partial(_subscribe, self._session.client, [topic_filter])
            await _outcome(self._session.start(work, f"subscribe {topic_filter}"))

    def unsubscribe(self, topic_filter: str) -> None:
        """Take a subscription back, also one that an earlier process left in our session.

        Does not wait: messages may still come, and some brokers never answer when there was no
        such subscription. It is tried again at the next connect until the broker has answered.
        """
        self._filters.pop(topic_filter, None)
        self._abandoned.add(topic_filter)
        if self._session is not None:
            self._take_back(self._session, topic_filter)

    def _take_back(self, session: _Session, topic_filter: str) -> None:
        def answered(task: asyncio.Task[bool]) -> None:
            if not task.cancelled() and task.exception() is None and task.result():
                self._abandoned.discard(topic_filter)

        work = partial(session.client.unsubscribe, topic_filter)
        session.start(work, f"unsubscribe {topic_filter}").add_done_callback(answered)

    # Keeping up

    async def _keep_up(self) -> None:
        failures = 0
        told: set[str] = set()
        while True:
            client = self._new_client()
            try:
                await _enter(client)
            except aiomqtt.MqttError as error:
                reason = await self._why_not(error)
                self.broker = self.broker.next
            else:
                began = time.monotonic()
                reason = await self._hold(client)
                if time.monotonic() - began >= self._backoff.steady_s:
                    failures = 0
                    told.clear()
            failures += 1
            wait_s = self._backoff.wait_s(failures, random.random())  # noqa: S311
            level = logging.DEBUG if reason in told else logging.WARNING
            _log.log(level, "%s: %s; next try in %.1f s", self.client_id, reason, wait_s)
            told.add(reason)
            await asyncio.sleep(wait_s)

    async def _hold(self, client: aiomqtt.Client) -> str:
        """Stay connected; return why that ended."""
        welcomed = False
        lost = f"lost the connection to the broker at {self.broker}"
        try:
            async with _Leaving(client), asyncio.TaskGroup() as tasks:
                self._session = _Session(client, tasks)
                tasks.create_task(self._session.watch(self._keepalive_s), name="mqtt watch")
                try:
                    if self._filters:
                        await _subscribe(client, list(self._filters))
                    for topic_filter in self._abandoned:
                        self._take_back(self._session, topic_filter)
                    welcomed = self._arrivals.put(Connected())
                    await self._read(client)
                finally:
                    self._session = None
        except* aiomqtt.MqttError as group:
            _log.debug("%s: %s: %r", self.client_id, lost, group.exceptions)
        if welcomed:
            self._arrivals.put(Disconnected(lost))
        return lost

    def _new_client(self) -> aiomqtt.Client:
        will = self._will
        return _Client(
            self.broker.host,
            self.broker.port,
            tls_context=self.broker.tls,
            identifier=self.client_id,
            clean_session=not self._persistent,
            will=aiomqtt.Will(will.topic, will.payload, qos=1, retain=True) if will else None,
            keepalive=self._keepalive_s,
            timeout=_CONNECT_TIMEOUT_S,
            max_queued_incoming_messages=_WAITING_MESSAGES,
            socket_options=[_NODELAY],
            logger=self._packets,
        )

    async def _read(self, client: aiomqtt.Client) -> None:
        async for received in client.messages:
            message = Message(received.topic.value, received.payload, received.retain)
            self.traffic.count_received(message.topic, len(message.payload))
            if not self._arrivals.put(message):
                self.traffic.dropped += 1
                _log.warning("%s: too slow, dropped a message on %s", self.client_id, message.topic)

    async def _why_not(self, error: aiomqtt.MqttError) -> str:
        if isinstance(error.__context__, socket.gaierror):
            # Asked again, name servers that do not answer take as long again.
            return unreachable(self.broker, error.__context__).text
        try:
            await asyncio.to_thread(self._probe, self.broker)
        except BrokerError as found:
            return found.text
        return f"cannot connect to the broker at {self.broker}: {error}"

    def _probe(self, broker: Broker) -> None:
        probe(broker, self.client_id, persistent=self._persistent)


class _Client(aiomqtt.Client):
    """aiomqtt's, but for what a broker of its own kind can do to it.

    - A socket that is closed before the event loop gets to watch it: aiomqtt 2.5 has the loop watch
      the number that the socket had, an error with a traceback in the log at every loss of a
      connection, or somebody else's file, which has that number now.
    - A malformed message: aiomqtt counts the connection as lost, and leaves its socket open.
    - A packet of any length: paho 2 keeps it all.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        _cut_packets(self._client)

    async def __aexit__(self, *args: Any) -> None:
        try:
            await super().__aexit__(*args)
        finally:
            self._client._sock_close()  # noqa: SLF001 - whose public way out waits for a broker

    def _on_socket_register_write(self, client: Any, userdata: Any, sock: Any) -> None:  # noqa: ARG002
        def write() -> None:
            try:
                client.loop_write()
            except Exception as error:  # as aiomqtt: the connection is lost
                if not self._disconnected.done():
                    self._disconnected.set_exception(error)

        def watch() -> None:
            if sock.fileno() >= 0:
                self._loop.add_writer(sock.fileno(), write)

        self._loop.call_soon_threadsafe(watch)  # we may be in the thread that connects


def _cut_packets(client: Any) -> None:
    """Keep the first `MAX_PACKET_BYTES` of a packet, and read the rest away.

    Refusing it would not help: the broker would send it again at each connect. What is cut so is
    longer than anything that a reader of ours takes.

    Args:
        client: paho's; it asks for all that is still missing of a packet at once.
    """
    receive = client._sock_recv  # noqa: SLF001 - nothing public knows a packet before it is whole

    def receive_bounded(n_bytes: int) -> bytes:
        data: bytes = receive(min(n_bytes, MAX_PACKET_BYTES))
        packet = client._in_packet  # noqa: SLF001
        room = max(1, MAX_PACKET_BYTES - len(packet["packet"]))  # without a byte, paho gives up
        packet["to_process"] -= len(data[room:])
        return data[:room]

    client._sock_recv = receive_bounded  # noqa: SLF001


@define(eq=False)
class _Session:
    """One connection from the broker's welcome to its loss; what is under way ends with it."""

    client: aiomqtt.Client
    tasks: asyncio.TaskGroup
    _n_waiting: int = 0
    _is_answered: bool = False

    def start(self, work: Callable[[], Awaitable[object]], name: str) -> asyncio.Task[bool]:
        """Start `work`; the task gives whether the broker answered, or is cancelled at the loss."""
        return self.tasks.create_task(_answered(work), name=name)

    def publish(self, work: Callable[[], Awaitable[object]], name: str) -> asyncio.Task[bool]:
        """Start a publish, whose answer `watch` waits for."""
        self._n_waiting += 1
        task = self.start(work, name)
        task.add_done_callback(self._publish_answered)
        return task

    def _publish_answered(self, _: object) -> None:
        self._n_waiting -= 1
        self._is_answered = True

    async def watch(self, keepalive_s: float) -> None:
        """End the session of a broker that answers our pings and none of our publishes.

        Whole keepalives are counted, not seconds: after we stood still there is time to read.
        """
        unanswered = 0
        while unanswered < _UNANSWERED:
            await asyncio.sleep(keepalive_s)
            unanswered = unanswered + 1 if self._n_waiting and not self._is_answered else 0
            self._is_answered = False
        raise aiomqtt.MqttError(f"no publish answered for {_UNANSWERED} keepalives")


async def _answered(work: Callable[[], Awaitable[object]]) -> bool:
    try:
        await work()
    except aiomqtt.MqttError as error:
        _log.debug("no answer from the broker: %s", error)
        return False
    return True


def _outcome(task: asyncio.Task[bool]) -> asyncio.Future[bool]:
    """What a task gives, False when it is cancelled; waiting for it can be cancelled alone."""
    outcome: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    def settle(task: asyncio.Task[bool]) -> None:
        if not outcome.done():
            failed = task.cancelled() or task.exception() is not None
            outcome.set_result(False if failed else task.result())

    task.add_done_callback(settle)
    return outcome


async def _subscribe(client: aiomqtt.Client, filters: list[str]) -> None:
    codes = await client.subscribe([(topic_filter, 1) for topic_filter in filters])
    if len(codes) != len(filters):
        raise aiomqtt.MqttError(f"{len(codes)} answers to {len(filters)} subscriptions")
    for topic_filter, code in zip(filters, codes, strict=True):
        if getattr(code, "is_failure", False):  # aiomqtt's other type, int, is of paho 1
            _log.warning("the broker refuses the subscription to %s", topic_filter)


async def _enter(client: aiomqtt.Client) -> None:
    """Connect, and leave nothing behind when that fails or is cancelled.

    aiomqtt connects in a thread and is not made for being cancelled there: a connection would come
    up later, with no owner. So a cancelled attempt is waited for, at most twice its time limit.
    """
    connecting = asyncio.create_task(client.__aenter__(), name="mqtt connect")
    try:
        await asyncio.shield(connecting)
    except (aiomqtt.MqttError, asyncio.CancelledError):
        await asyncio.gather(connecting, return_exceptions=True)
        await _leave(client)
        raise


async def _leave(client: aiomqtt.Client) -> None:
    client.timeout = _FAREWELL_S
    try:
        await client.__aexit__(None, None, None)
    except aiomqtt.MqttError as error:
        _log.debug("no farewell: %s", error)


@frozen
class _Leaving:
    """Says farewell to the broker at the end, so that it does not publish the last will."""

    client: aiomqtt.Client

    async def __aenter__(self) -> None:
        pass

    async def __aexit__(self, *_: object) -> None:
        await _leave(self.client)
