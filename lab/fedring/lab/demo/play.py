"""From wishes to a report: broker, files, processes, rounds, and nothing left behind."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Iterable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Final

from attrs import define, field

from fedring.fleet.listening import find_fleets
from fedring.fleet.view import OFFLINE
from fedring.lab.brokers import LocalBroker, start_broker
from fedring.lab.demo.observer import Observer, Story
from fedring.lab.demo.progress import Lines
from fedring.lab.demo.report import Report
from fedring.lab.demo.scenario import Company, Files, check_running, ending, write_files
from fedring.lab.demo.wishes import Wishes
from fedring.shared.broker import Broker, probe
from fedring.shared.errors import BrokerError, UserError
from fedring.shared.mqtt import Connected, Connection
from fedring.shared.topics import COORDINATOR

LOOK_S: Final = 0.25
"""How often the demo looks at its processes and draws."""
CLEAN_UP_S: Final = 15.0
"""Longest time to leave a broker of others as it was."""


def play(wishes: Wishes, broker: Broker | None, folder: Path, progress: Lines) -> Report:
    """Let a fleet learn.

    Args:
        wishes: what to show.
        broker: one that runs already; None to start one.
        folder: for files of the demo; empty.
        progress: is told how it goes.

    Raises:
        UserError: broker, coordinator or too many devices have failed.
    """
    demo = Demo(wishes, folder, progress)
    with ExitStack() as stack:
        if broker is not None:
            return asyncio.run(demo.on_broker_of_others(broker))
        own = stack.enter_context(start_broker(folder / "broker"))
        progress.say(f"Started a broker for this demo: {own.description}.")
        return asyncio.run(demo.on_own_broker(own))


@define(eq=False)
class Demo:
    """One demo.

    Args:
        wishes: what to show.
        folder: for its files.
        progress: is told how it goes.
    """

    wishes: Wishes
    folder: Path
    progress: Lines
    _began: float = field(factory=time.monotonic)
    _lost: dict[str, str] = field(factory=dict)

    async def on_own_broker(self, broker: LocalBroker) -> Report:
        """Let a fleet learn on a broker that nobody else uses."""
        files = self._prepare(broker.address)
        async with Observer(broker.address, files.topics) as observer:
            return await self._perform(files, observer, broker.description, broker)

    async def on_broker_of_others(self, broker: Broker) -> Report:
        """Let a fleet learn on a broker that may serve others, and take back all it was given."""
        await _check_vacant(broker)
        self.progress.say(f"Using the broker at {broker}.")
        files = self._prepare(broker)
        async with Observer(broker, files.topics) as observer:
            try:
                return await self._perform(files, observer, f"the broker at {broker}")
            finally:
                with suppress(BrokerError, TimeoutError):  # it may be the broker that has gone
                    async with asyncio.timeout(CLEAN_UP_S):
                        await _clean_up(broker, observer.story.retained, files.devices)

    def _prepare(self, broker: Broker) -> Files:
        files = write_files(self.folder, self.wishes, broker)
        self.progress.say(
            f"Made a fleet authority, and certificates, data and settings for"
            f" {self.wishes.devices} devices: fleet {files.topics.fleet}."
        )
        return files

    async def _perform(
        self, files: Files, observer: Observer, broker: str, own: LocalBroker | None = None
    ) -> Report:
        first_result_s = 0.0
        story = observer.story
        with Company(files, self.folder / "logs") as company:
            self.progress.say(f"Started the coordinator and {len(company.devices)} devices.")
            while True:
                try:
                    await asyncio.sleep(LOOK_S)
                except asyncio.CancelledError:
                    self.progress.say("Stopping all processes.")
                    raise
                self.progress.show(story, observer.take_news(), observer.trouble)
                rounds = story.training_rounds
                if rounds and not first_result_s:
                    first_result_s = time.monotonic() - self._began
                if len(rounds) >= self.wishes.rounds:
                    break
                if own is not None:
                    check_running(own.child)
                check_running(company.coordinator)
                self._check_devices(company, story)
            total_s = time.monotonic() - self._began
        return Report(
            wishes=self.wishes,
            broker=broker,
            rounds=rounds,
            untrained=story.untrained,
            lost=self._lost,
            first_result_s=first_result_s,
            total_s=total_s,
            uncounted=observer.uncounted,
        )

    def _check_devices(self, company: Company, story: Story) -> None:
        """Tell of devices that have ended, and whether the others can go on."""
        for name, child in company.ended_devices().items():
            if name not in self._lost:
                self._lost[name] = ending(child)
                left = len(company.devices) - len(self._lost)
                self.progress.say(f"{name} has {ending(child)}; going on with {left} devices.")
        left = len(company.devices) - len(self._lost)
        begun = bool(story.view.versions)
        needed = self.wishes.effective_threshold + 1 if begun else self.wishes.devices
        if left < needed:
            name = next(iter(self._lost))
            raise UserError(
                f"{left} devices are left of the demo, and it needs {needed}; the last words of"
                f" {name}:\n{company.devices[name].last_words()}",
                name="process.ended",
            )


async def _check_vacant(broker: Broker) -> None:
    """Make sure that no other coordinator works there: the broker would throw one of both off."""
    for fleet, coordinator in (await find_fleets(broker)).items():
        if coordinator.state != OFFLINE:
            raise BrokerError(
                f"the broker at {broker} serves fleet {fleet}, whose coordinator is at work",
                name="broker.in-use",
                hint="the demo needs a broker without one; without --broker it starts its own",
            )


async def _clean_up(broker: Broker, topics: Iterable[str], devices: Iterable[str]) -> None:
    """Clear what the broker retains, and end the sessions that it keeps for our processes."""
    client_id = f"fedring-demo-{secrets.token_hex(4)}"
    async with Connection(broker, client_id, persistent=False, fail_fast=True) as connection:
        async for event in connection.events():
            if isinstance(event, Connected):
                break
        for topic in sorted(topics):
            await connection.publish(topic, b"", retain=True)
    for name in (COORDINATOR, *devices):
        await asyncio.to_thread(probe, broker, name, persistent=False)
