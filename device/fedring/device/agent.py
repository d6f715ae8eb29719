"""The agent on a board: the shell around `Member`.

One loop takes what comes next (a message, work that is done, a deadline), gives it to the state
machine, and carries its effects out in order. It decides nothing about the protocol. Steps that
may take a small board long are taken in a thread, while the loop keeps the connection alive and
waits: there is one step at a time in any case. Between rounds it has the next one prepared.

What others see of it is its status topic: retained JSON, taken over by the last will when the
board goes away.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any, ParamSpec, TypeAlias

from fedring.device import notify
from fedring.device.consent import Consent
from fedring.device.data import source_of
from fedring.device.effects import (
    Abandon,
    Effects,
    Joined,
    Keep,
    Listed,
    Spent,
    State,
    Work,
)
from fedring.device.enrolment.bootstrap import forget_code
from fedring.device.enrolment.enrolling import enrol
from fedring.device.enrolment.renewing import NextPair, Renewal, take_over
from fedring.device.member import Member
from fedring.device.preparing import Preparation
from fedring.device.readiness import coordinator_answers
from fedring.device.settings import DeviceSettings
from fedring.device.store import DeviceStore
from fedring.device.trainers import Trainer, trainer_of
from fedring.device.update.fetching import Updates
from fedring.device.update.places import Places
from fedring.device.work import Failed, Kept, Library, Worked, Workshop
from fedring.shared.credentials import Credentials
from fedring.shared.effects import Report, Send
from fedring.shared.encryption import SUITES
from fedring.shared.enrolment import serial_of
from fedring.shared.envelopes import Signed
from fedring.shared.errors import PeerError, StateError, UserError, mistakes_alone
from fedring.shared.identity import Role
from fedring.shared.logs import start_logging
from fedring.shared.memory import forbid_core_dumps, keep_what_is_loaded
from fedring.shared.messages import Announce, ModelReference
from fedring.shared.mqtt import Connected, Connection, Disconnected, Event, Message, Will
from fedring.shared.topics import (
    BundleChunk,
    CoordinatorStatus,
    EnrolmentAnswer,
    Inbox,
    ModelChunk,
    Revoked,
    Round,
    Topics,
    Update,
)
from fedring.shared.turns import Turns

FAREWELL_S = 2.0
AGENT_VERSION = version("fedring")
LEAST_WAIT_S = 0.05
"""Between two ticks: a deadline that cannot be acted on yet must not spin."""

SLOW_BODY_BYTES = 1 << 20
"""Bodies from this size on are added, cut and signed in a thread: there a small board may need more
than 50 ms for one message."""

IDLE = frozenset({State.IDLE, State.RELEASED, State.REFUSED})
"""No round asks anything of the processor."""

_log = logging.getLogger(__name__)

P = ParamSpec("P")
Happening: TypeAlias = Event | Worked | Failed | Kept | NextPair


def run(settings: DeviceSettings) -> None:
    """Take part in rounds until told to stop by SIGINT or SIGTERM.

    Raises:
        UserError: what the owner has to mend: files, broker, data.
    """
    start_logging()
    forbid_core_dumps()
    if not enrol(settings):
        return
    source_of(settings.data).check()
    trainer = trainer_of(settings.training)
    while _take_part(settings, trainer):
        pass


def _take_part(settings: DeviceSettings, trainer: Trainer) -> bool:
    """Take part under the newest certificate; True when there may be a newer one."""
    pause_s = asyncio.run(_take_over(settings))
    credentials = Credentials.load(settings.fleet, Role.DEVICE)
    identity = credentials.identity
    with DeviceStore.open(
        settings.state.folder, fleet=identity.fleet, number=identity.number
    ) as store:
        keep_what_is_loaded()
        return asyncio.run(_serve(settings, credentials, store, trainer, pause_s))


async def _take_over(settings: DeviceSettings) -> float:
    """As `take_over`: many names that nobody answers at take longer than the watchdog waits."""
    notify.start_beating(asyncio.get_running_loop())
    return await asyncio.to_thread(take_over, settings)


async def _serve(
    settings: DeviceSettings,
    credentials: Credentials,
    store: DeviceStore,
    trainer: Trainer,
    pause_s: float,
) -> bool:
    identity = credentials.identity
    topics = Topics(identity.fleet)
    away = json.dumps({"state": "offline", "number": identity.number}).encode()
    notify.start_beating(asyncio.get_running_loop())
    subscriptions = [
        topics.revoked,
        topics.round,
        topics.inbox_of(identity.name),
        topics.enrolment_answer(identity.name),
    ]
    if notify.is_watched():
        subscriptions.append(topics.coordinator_status)  # until the start is over
    places = Places.around(settings.state.folder)
    if places is not None:
        subscriptions.append(topics.update)
    connection = Connection(
        credentials.broker(settings.broker, judge_dates=False),
        identity.name,
        subscriptions=subscriptions,
        will=Will(topics.device_status(identity.name), away),
        # systemd would only start us again and again, until the broker is there.
        fail_fast=not notify.is_watched(),
        classify=topics.classify,
        keepalive_s=settings.broker.keepalive_s,
    )
    async with connection:
        agent = Agent(
            settings=settings,
            credentials=credentials,
            store=store,
            topics=topics,
            connection=connection,
            places=places,
            trainer=trainer,
            pause_s=pause_s,
        )
        loop = asyncio.get_running_loop()
        serving = asyncio.create_task(agent.serve(), name="agent")
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, serving.cancel)
        renewed = False
        try:
            with suppress(asyncio.CancelledError), mistakes_alone():
                await serving
                renewed = True
        finally:
            if not renewed:
                notify.stopping()
            await agent.say_goodbye()
        return renewed


class Agent:
    """One board on its connection.

    Args:
        settings: the owner's.
        credentials: own identity, and the fleet authority.
        store: what survives a crash.
        topics: of the fleet.
        connection: to the broker, entered.
        places: where a newer agent is put; None where nobody does that.
        trainer: computes what is learned.
        pause_s: how long not to ask for the next certificate.
    """

    def __init__(
        self,
        *,
        settings: DeviceSettings,
        credentials: Credentials,
        store: DeviceStore,
        topics: Topics,
        connection: Connection,
        places: Places | None,
        trainer: Trainer,
        pause_s: float = 0.0,
    ) -> None:
        identity = self._identity = credentials.identity
        self._certificate = f"{serial_of(identity.certificate):x}"
        self._bootstrap = settings.fleet.bootstrap if settings.broker.tls else None
        self._renewal = Renewal(settings, credentials, connection.send, pause_s)
        self._has_next_pair = False
        self._store = store
        self._topics = topics
        self._connection = connection
        self._turns: Turns[Happening] = Turns(LEAST_WAIT_S)
        self._library = Library(
            topics,
            connection,
            store,
            settings.model_file,
            identity.fleet,
            check=trainer.check,
        )
        self._preparation = Preparation(os.urandom)
        self._workshop = Workshop(
            self._library,
            self._preparation,
            source_of(settings.data),
            trainer,
            number=identity.number,
            seed=settings.training.seed,
        )
        self._updates: Updates | None = None
        if places is not None:
            self._updates = Updates(
                name=identity.name,
                version=AGENT_VERSION,
                authority=credentials.authority,
                topics=topics,
                connection=connection,
                store=store,
                places=places,
            )
        self._updating: asyncio.Task[None] | None = None
        self._working: asyncio.Task[None] | None = None
        self._keeping: asyncio.Task[None] | None = None
        self._stocking: asyncio.Task[None] | None = None
        self._reason = ""
        self._status: dict[str, Any] = {}
        self._since = _now()
        self._member = _member(settings, credentials, store)

    async def serve(self) -> None:
        """Take part until cancelled, or until there is another certificate to go on with."""
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            pumping = tasks.create_task(self._pump(), name="connection")
            tasks.create_task(self._renew(), name="renewal")
            while not (self._has_next_pair and self._member.state in IDLE):
                happening = await self._turns.next(self._member.deadline)
                now = time.monotonic()
                if happening is None:
                    alive_at = self._connection.proven_alive
                    effects = await self._step(self._member.tick, now, alive_at)
                else:
                    effects = await self._consider(happening, now)
                await self._carry_out(effects)
                self._use_idle_time()
                await self._publish_status(anew=isinstance(happening, Connected))
                del happening  # may hold an update; nobody knows when the next one comes
            pumping.cancel()
            self._stop_stocking()
            self._stop_keeping()

    async def say_goodbye(self) -> None:
        """Tell the others that this board is leaving on purpose."""
        self._status |= {"state": "offline", "reason": self._reason, "since": _now()}
        topic = self._topics.device_status(self._identity.name)
        with suppress(TimeoutError):
            async with asyncio.timeout(FAREWELL_S):
                await self._connection.publish(
                    topic, json.dumps(self._status).encode(), retain=True
                )

    async def _pump(self) -> None:
        async for event in self._connection.events():
            await self._turns.put(event)

    async def _renew(self) -> None:
        await self._renewal.obtained()
        await self._turns.put(NextPair())

    def _forget_code(self) -> None:
        """The one-time code has served: this board was let in with its certificate."""
        if self._bootstrap is None:
            return
        try:
            forget_code(self._bootstrap)
        except StateError as fault:
            _log.warning("the one-time code stays where it is: %s", fault)
        self._bootstrap = None

    async def _work(self, announce: Signed[Announce], *, evaluate: bool) -> None:
        try:
            outcome = await self._workshop.work(announce, evaluate=evaluate)
        except UserError as mistake:
            self._reason = str(mistake)
            raise
        try:
            await self._turns.put(outcome)
        except asyncio.CancelledError:
            if isinstance(outcome, Worked):
                outcome.mask.erase()
            raise

    async def _keep(self, epoch: int, model: ModelReference) -> None:
        try:
            await self._library.fetch(epoch, model)
        except PeerError as fault:
            _log.warning("version %d of the model cannot be kept: %s", model.version, fault)
        else:
            await self._turns.put(Kept(model.version))

    async def _step(self, step: Callable[P, Effects], *args: P.args, **kwargs: P.kwargs) -> Effects:
        """Let the state machine take a step; in a thread where it may be a slow one."""
        # Rosters hold up to 64 certificates and signatures.
        slow = self._member.state is State.READY or self._member.body_bytes >= SLOW_BODY_BYTES
        return await asyncio.to_thread(step, *args, **kwargs) if slow else step(*args, **kwargs)

    async def _consider(self, happening: Happening, now: float) -> Effects:
        match happening:
            case Message(topic, payload):
                return await self._received(topic, payload, now)
            case Worked(announce, contribution, mask, suite):
                worked = self._member.worked
                return await asyncio.to_thread(worked, announce, contribution, mask, suite, now)
            case Failed(announce, reason):
                return self._member.failed(announce, reason)
            case Kept(version):
                _log.info("keeps version %d of the model", version)
            case Connected():
                _log.info("connected to the broker at %s", self._connection.broker)
                if self._updates is not None:
                    await self._updates.tell_again()
                await asyncio.to_thread(self._forget_code)
                return await self._step(self._member.reconnected, now)
            case NextPair():
                self._has_next_pair = True
            case Disconnected(reason):
                _log.warning("%s", reason)
        return []

    async def _received(self, topic: str, payload: bytes, now: float) -> Effects:
        try:
            match self._topics.parse(topic):
                case Inbox(receiver, sender) if receiver == self._identity.name:
                    return await self._step(self._member.receive, sender, payload, now)
                case Round() if payload:
                    return self._member.announced(payload, now)
                case Revoked() if payload:
                    return self._member.revocation(payload, now)
                case EnrolmentAnswer(name) if name == self._identity.name:
                    self._renewal.receive(payload)
                case ModelChunk(place, index):
                    self._library.receive(place, index, payload)
                case BundleChunk(digest, index) if self._updates is not None:
                    self._updates.receive(digest, index, payload)
                case Update() if self._updates is not None:
                    self._take_order(self._updates, payload)
                case CoordinatorStatus() if coordinator_answers(payload):
                    notify.ready("the coordinator answers")
                    self._connection.unsubscribe(topic)
        except PeerError as fault:
            _log.warning("ignored a message on %s: %s", topic, fault)
        return []

    async def _carry_out(self, effects: Effects) -> None:
        for effect in effects:
            match effect:
                case Send(to, data):
                    await self._publish(self._topics.inbox(to, self._identity.name), data)
                case Joined() | Spent() | Listed():
                    try:
                        await asyncio.to_thread(self._persist, effect)
                    except StateError as fault:
                        # What stands after the record in the list must not leave without it.
                        _log.error("%s", fault)
                        await self._carry_out(self._member.abandon(str(fault)))
                        return
                case Work(announce, evaluate):
                    self._stop_stocking()
                    self._stop_keeping()
                    work = self._work(announce, evaluate=evaluate)
                    self._working = self._tasks.create_task(work, name="work")
                case Keep(epoch, model):
                    self._stop_keeping()
                    keep = self._keep(epoch, model)
                    self._keeping = self._tasks.create_task(keep, name="keep model")
                case Abandon():
                    if self._working is not None:
                        self._working.cancel()
                        self._working = None
                case Report(event, facts):
                    self._reason = str(facts.get("reason", ""))
                    _log.info("%s %s", event, " ".join(f"{k}={v}" for k, v in facts.items()))

    async def _publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Send as soon as there is room; not at all if there is none until the round ends here.

        A broker may take nothing for as long as it likes: secrets must not stay here for that.
        """
        ends_at = self._member.ends_at
        wait_s = None if ends_at is None else max(0.0, ends_at - time.monotonic())
        with suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await self._connection.send(topic, payload, retain=retain)

    def _use_idle_time(self) -> None:
        """Have the next round prepared while none needs the processor; `Work` ends that."""
        under_way = self._stocking is not None and not self._stocking.done()
        if self._member.state in IDLE and not self._preparation.is_complete and not under_way:
            stocking = self._preparation.stock_up()
            self._stocking = self._tasks.create_task(stocking, name="stock up")

    def _take_order(self, updates: Updates, envelope: bytes) -> None:
        """Begin with an update that the owner ordered; an empty one takes the order back."""
        order = updates.take(envelope) if envelope else None
        if self._updating is not None and (order is not None or not envelope):
            self._updating.cancel()
            self._updating = None
        if order is not None:
            self._updating = self._tasks.create_task(updates.carry_out(order), name="update")

    def _stop_stocking(self) -> None:
        if self._stocking is not None:
            self._stocking.cancel()
            self._stocking = None

    def _stop_keeping(self) -> None:
        """A newer model is there: the broker may not have that one any more."""
        if self._keeping is not None:
            self._keeping.cancel()
            self._keeping = None

    def _persist(self, record: Joined | Spent | Listed) -> None:
        match record:
            case Joined(epoch, number):
                self._store.persist_joined(epoch, number)
            case Spent("release", total, level):
                self._store.persist_release(total, level)
            case Spent(_, total, level):
                self._store.persist_evaluation(total, level)
            case Listed(number, raw):
                self._store.persist_revocation(number, raw)

    async def _publish_status(self, *, anew: bool) -> None:
        epoch, number = self._member.round or self._member.joined
        status = {
            "state": str(self._member.state),
            "number": self._identity.number,
            "epoch": epoch,
            "round": number,
            "reason": self._reason if self._member.state in (State.REFUSED, State.IDLE) else "",
            "agent": AGENT_VERSION,
            "certificate": self._certificate,
            "model_version": self._library.version,
        }
        if not anew and status == {k: v for k, v in self._status.items() if k != "since"}:
            return
        if status["state"] != self._status.get("state"):
            self._since = _now()
            notify.status(f"{status['state']}, round {number}")
        self._status = status | {"since": self._since}
        topic = self._topics.device_status(self._identity.name)
        await self._publish(topic, json.dumps(self._status).encode(), retain=True)


def _member(settings: DeviceSettings, credentials: Credentials, store: DeviceStore) -> Member:
    privacy, limits, now = settings.privacy, settings.limits, time.monotonic()
    kept = store.revocation()
    return Member(
        identity=credentials.identity,
        authority=credentials.authority,
        consent=Consent(
            threshold=privacy.threshold,
            suites=frozenset(SUITES) - privacy.forbidden_suites,
            max_epochs=limits.epochs,
            max_values=limits.values,
            max_duration_s=limits.duration_s,
        ),
        joined=store.joined(),
        revocation=credentials.authority.revocation(kept.raw) if kept else None,
        releases=store.release_budget(
            per_day=privacy.release_budget_per_day, cap=privacy.release_budget_per_day, now=now
        ),
        evaluations=store.evaluation_budget(
            per_day=privacy.evaluation_budget_per_day,
            cap=privacy.evaluation_budget_per_day,
            now=now,
        ),
        random=os.urandom,
    )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
