"""The coordinator beside the broker: the shell around `Round`.

One loop takes what comes next (a message, a round opened, a deadline), gives it to the state
machine, and carries its effects out in order. Between rounds it re-reads the store and the
revocation list, so that `pause`, `rollback` and a new list are noticed without a restart.

Whatever may take longer than 50 ms is done in a thread while the loop waits for it, so that the
connection is kept alive and there is still one step at a time: every look at the store or at a
whole model, a new key, steps with large bodies. Only the opening of a round runs beside the loop.

Source: docs/protocol.md, section 4; the order of what is durable and what leaves, section 5.
"""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, ParamSpec, TypeAlias

from attrs import evolve

from fedring.coordinator.announcing import announced_round, make_rest
from fedring.coordinator.beginning import begin
from fedring.coordinator.bulletin import Bulletin
from fedring.coordinator.doors import ClosedDoor
from fedring.coordinator.ending import Concluded, end
from fedring.coordinator.enrolment.desk import EnrolmentDesk
from fedring.coordinator.lap_times import LinkRate
from fedring.coordinator.position import Position
from fedring.coordinator.presence import Presence
from fedring.coordinator.records import Version
from fedring.coordinator.rounds import Announced, Dealt, Effects, Ended
from fedring.coordinator.running import NO_RING, Running
from fedring.coordinator.settings import CoordinatorSettings
from fedring.coordinator.standing import Standing, prepare
from fedring.coordinator.store import CoordinatorStore
from fedring.coordinator.strategies import FedAvg, doubtful_ranges
from fedring.shared.effects import Fact, Report, Send
from fedring.shared.errors import CertificateError, PeerError, mistakes_alone
from fedring.shared.identity import Identity
from fedring.shared.logs import start_logging
from fedring.shared.memory import forbid_core_dumps, keep_what_is_loaded
from fedring.shared.messages import COORDINATOR_NAME
from fedring.shared.mqtt import Connected, Connection, Disconnected, Event, Message, Will
from fedring.shared.topics import (
    COORDINATOR,
    DeviceStatus,
    EnrolmentAnswer,
    EnrolmentRequest,
    Inbox,
    Topics,
)
from fedring.shared.topics import Round as RoundTopic
from fedring.shared.turns import Turns

SETTLE_S = 1.0
"""After a connect: time for retained status messages to come in before anything is announced."""
IDLE_S = 1.0
"""How often the store is looked at while no round is running."""
FAREWELL_S = 2.0
LEAST_WAIT_S = 0.05
MOST_BACK_OFF_S = 60.0
SLOW_BODY_BYTES = 1 << 20
"""Bodies from this size on are put together in a thread."""

_log = logging.getLogger(__name__)

P = ParamSpec("P")
Happening: TypeAlias = Event | Concluded


def run(settings: CoordinatorSettings) -> None:
    """Run rounds until told to stop by SIGINT or SIGTERM.

    Raises:
        UserError: what the owner has to mend: files, broker, state.
    """
    start_logging()
    forbid_core_dumps()
    with prepare(settings) as standing, mistakes_alone():
        keep_what_is_loaded()
        asyncio.run(_serve(settings, standing, Position.read(standing.store)))


async def _serve(settings: CoordinatorSettings, standing: Standing, position: Position) -> None:
    topics = Topics(standing.credentials.identity.fleet)
    away = json.dumps({"state": "offline", "fleet": topics.fleet}).encode()
    connection = Connection(
        standing.credentials.broker(settings.broker, judge_dates=True),
        COORDINATOR_NAME,
        subscriptions=[
            topics.round,
            topics.inbox_of(COORDINATOR),
            *topics.everywhere(DeviceStatus),
            *topics.everywhere(EnrolmentRequest),
            *topics.everywhere(EnrolmentAnswer),
        ],
        will=Will(topics.coordinator_status, away),
        fail_fast=True,
        classify=topics.classify,
        keepalive_s=settings.broker.keepalive_s,
    )
    async with connection:
        coordinator = Coordinator(settings, standing, position, topics, connection)
        serving = asyncio.create_task(coordinator.serve(), name="coordinator")
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, serving.cancel)
        try:
            with suppress(asyncio.CancelledError):
                await serving
        finally:
            with suppress(TimeoutError):
                async with asyncio.timeout(FAREWELL_S):
                    await connection.publish(topics.coordinator_status, away, retain=True)


class Coordinator:
    """The coordinator on its connection.

    Args:
        settings: the owner's.
        standing: identity, store, keys and data, loaded and checked.
        position: where the history stands.
        topics: of the fleet.
        connection: to the broker, entered.
    """

    def __init__(
        self,
        settings: CoordinatorSettings,
        standing: Standing,
        position: Position,
        topics: Topics,
        connection: Connection,
    ) -> None:
        self._settings = settings
        self._standing = standing
        self._position = position
        self._topics = topics
        self._connection = connection
        self._store: CoordinatorStore = standing.store
        self._identity: Identity = standing.credentials.identity
        self._enrolment = EnrolmentDesk(settings, standing.credentials, topics, connection)
        self._bulletin = Bulletin(topics, connection, standing.store)
        self._presence = Presence()
        self._turns: Turns[Happening] = Turns(LEAST_WAIT_S)
        self._strategy = FedAvg()
        self._running: Running | None = None
        self._door = ClosedDoor(self._identity, standing.credentials.authority)
        self._shown: Version | None = None
        self._resting: tuple[tuple[int, int], int] | None = None
        self._not_before = 0.0
        self._voids_in_a_row = 0
        self._rate = LinkRate()
        self._state = "waiting"
        self._note = ""

    async def serve(self) -> None:
        """Run rounds until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            tasks.create_task(self._pump(), name="connection")
            tasks.create_task(self._enrolment.serve(), name="enrolment")
            while True:
                happening = await self._turns.next(self._deadline())
                now = time.monotonic()
                if happening is None:
                    await self._tick(now)
                else:
                    await self._consider(happening, now)
                if self._running is None and now >= self._not_before and self._connection.connected:
                    await self._between_rounds(now)
                await self._bulletin.show_status(
                    self._status,
                    headline=self._headline(),
                    now=now,
                    anew=isinstance(happening, Connected),
                )

    async def _pump(self) -> None:
        async for event in self._connection.events():
            await self._turns.put(event)

    def _deadline(self) -> float | None:
        running = self._running
        deadlines = [
            running.round.deadline if running else time.monotonic() + IDLE_S,
            self._bulletin.status_due,
        ]
        return min((one for one in deadlines if one is not None), default=None)

    async def _tick(self, now: float) -> None:
        if self._running is not None:
            # A deadline may form all rings of a large fleet at once.
            tick, alive_at = self._running.round.tick, self._connection.proven_alive
            await self._carry_out(await asyncio.to_thread(tick, now, alive_at), now)

    async def _consider(self, happening: Happening, now: float) -> None:
        match happening:
            case Message(topic, payload):
                await self._carry_out(await self._received(topic, payload, now), now)
            case Concluded():
                await self._publish(happening, now)
            case Connected():
                _log.info("connected to the broker at %s", self._connection.broker)
                self._not_before = max(self._not_before, now + SETTLE_S)
                await self._show_everything(now)
            case Disconnected(reason):
                _log.warning("%s", reason)

    async def _received(self, topic: str, payload: bytes, now: float) -> Effects:
        try:
            match self._topics.parse(topic):
                case Inbox(receiver, sender) if receiver == COORDINATOR:
                    if self._running is None:
                        return [*self._door.receive(sender, payload, self._position.last)]
                    receive = self._running.round.receive
                    return await self._step(self._running, receive, sender, payload, now)
                case (EnrolmentRequest() | EnrolmentAnswer()) as enrolment:
                    self._enrolment.hear(enrolment, payload)
                case DeviceStatus(name):
                    self._enrolment.saw(name, payload)
                    return self._seen(name, payload, now)
                case RoundTopic() if payload:
                    await asyncio.to_thread(self._check_own, payload)
        except PeerError as fault:
            _log.warning("ignored a message on %s: %s", topic, fault)
        return []

    @staticmethod
    async def _step(
        running: Running, step: Callable[P, Effects], *args: P.args, **kwargs: P.kwargs
    ) -> Effects:
        """Let the state machine take a step; in a thread where it may be a slow one."""
        slow = running.body_bytes >= SLOW_BODY_BYTES
        return await asyncio.to_thread(step, *args, **kwargs) if slow else step(*args, **kwargs)

    def _seen(self, name: str, payload: bytes, now: float) -> Effects:
        number = self._presence.saw(name, payload)
        if number is None or self._running is None:
            return []
        online = number in self._presence.online
        return self._running.round.present(number, name, online=online, now=now)

    def _check_own(self, raw: bytes) -> None:
        """The broker still retains an announce of ours: it must not be newer than our state."""
        self._store.check_announced(*announced_round(raw, self._identity))

    # -- between rounds --------------------------------------------------------------------

    async def _between_rounds(self, now: float) -> None:
        before = self._note
        try:
            renewed, self._position = await asyncio.to_thread(self._look)
        except CertificateError as mistake:  # perhaps it is just being copied
            self._state, self._note = "waiting", mistake.text
            if self._note != before:
                _log.error("%s: %s", self._note, mistake.hint)
            return
        if renewed:
            await self._bulletin.show_revoked(self._standing.revocation_raw)
            await self._bulletin.show_key(self._standing.key.public_key, self._position.epoch)
        version, done = self._position.version, self._position.rounds_done
        if self._shown is None or version.version != self._shown.version:
            await self._bulletin.show_model(version)
            self._shown = version
        wanted = 2 if self._position.has_cohorts else self._settings.ring.min_devices
        online = len(self._present())
        if self._position.paused:
            self._state, self._note = "paused", "`fedring coordinator resume` goes on"
        elif done >= self._settings.training.rounds:
            self._state, self._note = "finished", f"{done} training rounds are done"
        elif online < wanted:
            self._state, self._note = "waiting", f"{online} devices online, {wanted} wanted"
        else:
            await self._begin(version, now)
            return
        if self._note != before:
            _log.info("%s: %s", self._state, self._note)
        await self._rest()

    def _look(self) -> tuple[bool, Position]:
        """Whether there is a new revocation list, and where the history stands."""
        return self._standing.refresh(self._settings), Position.read(self._store)

    async def _rest(self) -> None:
        """Say on the announce topic that no round is running, once for each new model."""
        position = self._position
        here = (position.last, position.version.version)
        if position.round == 0 or self._resting == here:
            return
        self._resting = here

        def make() -> bytes:
            version = position.version
            model = self._store.model(version)
            return make_rest(
                self._identity,
                *position.last,
                model,
                version=version.version,
                parent=version.parent,
            ).raw

        await self._bulletin.show_round(await asyncio.to_thread(make))

    def _present(self) -> dict[int, str]:
        return {
            number: name
            for number, name in self._presence.online.items()
            if number not in self._standing.revocation.revoked
        }

    async def _begin(self, version: Version, now: float) -> None:
        """Take a round number, durably, and announce the round."""
        self._running = running = await asyncio.to_thread(
            begin,
            self._settings,
            self._standing,
            version,
            present=self._present(),
            rate=self._rate.bytes_per_s,
            now=now,
            bytes_before=self._bytes(),
        )
        where = running.announcing.announce.message
        self._position = evolve(self._position, epoch=where.epoch, round=where.round)
        self._resting = None
        self._state, self._note = "announced", ""
        await self._carry_out(running.round.start(), now)

    # -- in a round ------------------------------------------------------------------------

    async def _carry_out(self, effects: Effects, now: float) -> None:
        running = self._running
        for effect in effects:
            match effect:
                case Send(to, data):
                    await self._connection.send(self._topics.inbox(to, COORDINATOR), data)
                case Announced(data):
                    await self._bulletin.show_round(data)
                case Dealt(table):
                    await asyncio.to_thread(self._store.devices.save_cohorts, table)
                case Report(event, facts):
                    await self._report(event, facts, now)
                case Ended() if running is not None:
                    running.ended = now
                    self._state = "opening"
                    work = self._conclude(running, effect)
                    self._tasks.create_task(work, name="conclude")

    async def _report(self, event: str, facts: Mapping[str, Fact], now: float) -> None:
        running = self._running
        if running is not None:
            facts = {**running.where, **facts}
            match event, facts:
                case "ring formed", _:
                    running.rings += 1
                    running.formed = now
                    self._state = "rings"
                case "token round", _:
                    self._rate.learn(running.body_bytes, facts)
        _log.info("%s %s", event, " ".join(f"{k}={v}" for k, v in facts.items()))
        await self._bulletin.tell(event, facts)

    async def _conclude(self, running: Running, ended: Ended) -> None:
        standing, strategy = self._standing, self._strategy
        work = asyncio.to_thread(end, running, ended, standing, strategy, bytes_now=self._bytes())
        await self._turns.put(await work)

    def _bytes(self) -> dict[str, int]:
        """Payload bytes of the coordinator so far, both ways, by topic class."""
        traffic = self._connection.traffic
        names = {*traffic.sent, *traffic.received}
        return {name: traffic.sent[name].bytes + traffic.received[name].bytes for name in names}

    async def _publish(self, concluded: Concluded, now: float) -> None:
        running, self._running = self._running, None
        if running is None:
            return
        facts = running.where
        version = concluded.version
        self._position = concluded.position
        if version is None:
            self._voids_in_a_row += 1
            wait_s = min(MOST_BACK_OFF_S, self._settings.ring.patience_s * self._voids_in_a_row)
            self._not_before = now + wait_s
            self._state, self._note = "waiting", f"round {running.round.number} was void"
            voids = concluded.conclusion.voids
            reasons = [void.reason for void in voids] or [NO_RING]
            _log.warning("%s: %s", self._note, "; ".join(reasons))
            await self._bulletin.tell("round void", {**facts, "reasons": reasons})
            return
        self._voids_in_a_row = 0
        self._shown = version
        await self._bulletin.show_model(version)
        contributors = len(concluded.conclusion.contributors)
        facts |= {"version": version.version, "contributors": contributors}
        numbers = {k: v for k, v in version.metrics.items() if isinstance(v, float)}
        _log.info(
            "round %d: version %d from %d contributors %s",
            running.round.number,
            version.version,
            contributors,
            " ".join(f"{name}={value:.4f}" for name, value in numbers.items()),
        )
        await self._bulletin.tell("model published", {**facts, **numbers})
        if version.task == "statistics" and concluded.conclusion.model is not None:
            for feature, doubt in doubtful_ranges(concluded.conclusion.model).items():
                _log.warning("feature %s %s: see `feature_ranges`", feature, doubt)

    async def _show_everything(self, now: float) -> None:
        """A broker may have lost all it retained."""
        self._enrolment.reconnected()
        await self._bulletin.show_revoked(self._standing.revocation_raw)
        self._position = await asyncio.to_thread(Position.read, self._store)
        await self._bulletin.show_key(self._standing.key.public_key, self._position.epoch)
        await self._bulletin.show_whole_history()
        await self._bulletin.show_model(self._position.version)
        self._shown = self._position.version
        self._resting = None
        if self._running is not None:
            reconnected = self._running.round.reconnected
            await self._carry_out(await asyncio.to_thread(reconnected, now), now)

    def _headline(self) -> tuple[object, ...]:
        """What of the status is told without delay."""
        round_ = self._running.round if self._running else None
        version = self._shown.version if self._shown else None
        stages = (round_.number, round_.stages) if round_ else ()
        return self._state, self._note, version, stages

    def _status(self) -> dict[str, Any]:
        running = self._running
        version = self._shown
        return {
            "state": self._state,
            "fleet": self._identity.fleet,
            "epoch": self._position.epoch,
            "round": self._position.round,
            "task": running.task if running else "",
            "version": version.version if version else None,
            "rounds_done": self._position.rounds_done,
            "rounds_planned": self._settings.training.rounds,
            "devices": self._presence.by_state(),
            "rings": {str(k): v for k, v in running.round.stages.items()} if running else {},
            "note": self._note,
        }
