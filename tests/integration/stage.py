"""A fleet of real processes that a test leads into a step of a round, and holds there.

A step is held open by freezing a device that it waits for; so whatever happens then happens in that
very step, not just about then.
"""

from collections.abc import Callable
from contextlib import closing

from fedring.coordinator.records import Outcome, Version, check_chain
from fedring.lab.brokers import LocalBroker
from fedring.lab.fleets import LocalFleet
from fedring.lab.spy import Heard, Spy

ALL = ("b01", "b02", "b03", "b04")


class Stage:
    """A fleet that takes its breath between rounds until a test lets it go on."""

    def __init__(self, broker: LocalBroker, fleet: LocalFleet, spy: Spy) -> None:
        self.broker = broker
        self.fleet = fleet
        self.spy = spy

    def revive(self) -> None:
        """Let everybody run, and rounds begin."""
        self.wake()
        self.fleet.set_paused(False)

    def wake(self) -> None:
        """Let everybody run."""
        assert self.fleet.coordinator is not None
        if not self.fleet.coordinator.running:
            self.fleet.start_coordinator()
        for name, child in self.fleet.devices.items():
            if not child.running:
                self.fleet.start_device(name)
        self.fleet.thaw()

    def pause(self) -> None:
        """Wait until no round is running and none begins."""
        since = self.spy.now
        self.fleet.set_paused(True)
        if self._told_state() != "paused":
            self.spy.status("coordinator", since, state="paused")

    def resume(self) -> int:
        """Let rounds begin; gives the moment before."""
        since = self.spy.now
        self.fleet.set_paused(False)
        return since

    def started(self) -> None:
        """Wait until all are there, one after the other, and have learned once."""
        for name in ("coordinator", *ALL):  # so many programs may take their time to start
            self.spy.status(name, 0)
        self.published(0)

    def published(self, since: int) -> Heard:
        """Wait for a model that all devices contributed to."""
        return self.spy.event("model published", since, contributors=len(ALL))

    def history(self) -> list[Version]:
        """All versions, oldest first, from a store that opens whole."""
        with closing(self.fleet.store()) as store:
            versions = store.versions()[::-1]
        check_chain(versions)
        return versions

    def last_round(self) -> int:
        """The highest round number taken."""
        with closing(self.fleet.store()) as store:
            return store.last_round()

    def forgive(self) -> None:
        """Let nobody be benched for what befell it earlier; between rounds."""
        with closing(self.fleet.store()) as store:
            store.devices.save_bench({}, {})

    def kill_coordinator(self) -> tuple[int, int]:
        """As a power cut would: nothing is said, nothing cleaned up.

        Gives the last round number taken, and a moment after its last word.
        """
        since = self.spy.now
        assert self.fleet.coordinator is not None
        self.fleet.coordinator.kill()
        self.spy.status("coordinator", since, state="offline")  # the broker says so, its last will
        since = self.spy.now
        self.fleet.thaw()
        return self.last_round(), since

    def last_event(self, before: int) -> object:
        """What the coordinator told last before a moment."""
        events = [heard for heard in self.spy.heard[:before] if heard.topic == "event"]
        return events[-1].facts["event"]

    def pids(self) -> dict[str, int]:
        """Process of each device that runs."""
        return {name: one.pid for name, one in self.fleet.devices.items() if one.running}

    def all_pids(self) -> dict[str, int]:
        """Process of everybody."""
        assert self.fleet.coordinator is not None
        children = {"broker": self.broker.child, "coordinator": self.fleet.coordinator}
        return {name: one.pid for name, one in (children | self.fleet.devices).items()}

    def see_recovery(self, before: dict[str, int], since: int) -> None:
        """See that the first round announced after everybody is back is a sum over all.

        Args:
            before: `all_pids` before somebody was hurt.
            since: the moment before whoever was hurt was revived.

        Raises:
            AssertionError: that round ended otherwise.
        """
        now = self.all_pids()
        for name in ("coordinator", *ALL):
            is_new = now[name] != before[name] or now["broker"] != before["broker"]
            self._back(name, since if is_new else None)
        known = self.last_round()
        told = self.spy.first(
            lambda heard: (
                heard.topic == "event"
                and heard.facts.get("event") in {"model published", "round void"}
                and heard.facts["round"] > known
            ),
            since,
            what=f"the end of round {known + 1}",
        )
        facts = {name: told.facts.get(name) for name in ("event", "round", "contributors")}
        expected = {"event": "model published", "round": known + 1, "contributors": len(ALL)}
        assert facts == expected, f"the first round with everybody back: {told.facts}"

    def _back(self, name: str, since: int | None) -> None:
        """Wait until the broker has a word of `name` that is no last will, from this moment on.

        None for the moment: its last word counts.
        """
        topic = "coordinator/status" if name == "coordinator" else f"device/{name}/status"
        start = since
        if start is None:
            start = max(at for at, heard in enumerate(self.spy.heard) if heard.topic == topic)
        self.spy.first(
            lambda heard: (
                heard.topic == topic
                and heard.facts.get("state") != "offline"
                and (since is None or not heard.retained)
            ),
            start,
            what=f"a word of {name}",
        )

    def outcome(self, number: int) -> Outcome | None:
        """How a round ended, once it has."""
        with closing(self.fleet.store()) as store:
            return next(one.outcome for one in store.rounds() if one.round == number)

    def announced_rounds(self) -> list[int]:
        """Round numbers in the order they were announced, one for each announce."""
        announces = dict.fromkeys(
            heard.payload
            for heard in self.spy.heard
            if heard.topic == "round" and heard.message and heard.message.kind == "announce"
        )
        messages = [Heard("round", raw).message for raw in announces]
        return [message.round for message in messages if message]

    def _told_state(self) -> object:
        told = [heard for heard in self.spy.heard if heard.topic == "coordinator/status"]
        return told[-1].facts.get("state") if told else None


# Each of these leads a round into a step and holds it there. They give the moment it began.


def between_rounds(stage: Stage) -> int:
    """No round is running, and none begins."""
    stage.pause()
    return stage.spy.now


def in_ready(stage: Stage) -> int:
    """All are ready but b03."""
    stage.pause()
    stage.fleet.freeze("b03")
    since = stage.resume()
    for name in ("b01", "b02", "b04"):
        stage.spy.status(name, since, state="ready")
    return since


def in_lap(stage: Stage) -> int:
    """The ring has formed, its token is going to wait for b04."""
    since = in_ready(stage)
    stage.fleet.freeze("b04")
    stage.fleet.thaw("b03")
    stage.spy.event("lap", since)
    return since


def in_call(stage: Stage) -> int:
    """The token is home, and b01, which is in it, does not say that it is still there."""
    since = in_lap(stage)
    stage.spy.letter("passed", since, sender="b02", receiver="b01")
    stage.fleet.freeze("b01")
    stage.fleet.thaw("b04")
    stage.spy.event("token round", since, contributors=len(ALL))
    return since


def in_list(stage: Stage) -> int:
    """All are asked for their release, and b02 does not answer."""
    since = in_call(stage)
    stage.spy.letter("here", since, sender="b02", receiver="coordinator")
    stage.fleet.freeze("b02")
    stage.fleet.thaw("b01")
    stage.spy.event("list", since, contributors=len(ALL))
    return since


def in_opening(stage: Stage) -> int:
    """All releases are here. Opening the sum takes a tenth of a second, and nothing can hold it."""
    since = in_list(stage)
    stage.fleet.thaw("b02")
    stage.spy.event("ring closed", since)
    return since


STEPS: dict[str, Callable[[Stage], int]] = {
    "between rounds": between_rounds,
    "ready": in_ready,
    "lap": in_lap,
    "call": in_call,
    "list": in_list,
    "opening": in_opening,
}
"""Ways into each step of a round, by its name."""


def ended(stage: Stage, number: int) -> str:
    """How a round ended, in words."""
    outcome = stage.outcome(number)
    assert outcome is not None
    if outcome.contributors:
        return f"sum of {outcome.contributors}"
    reasons = [ring.reason for ring in outcome.void_rings] or [outcome.reason]
    return f"void: {'; '.join(reasons)}"
