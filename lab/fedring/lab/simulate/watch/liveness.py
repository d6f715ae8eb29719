"""Invariant 7: rings end in sums unless something went wrong that explains why not, and in time.

Where nothing at all went wrong, every ring ends in a sum, and on a calm network over all its
members. Where something did, a void ring needs a cause at a moment that explains it:

- *no release*: whoever gave none has died since it answered the call, or there was no `CALM_S` in
  which it, the coordinator and their links were sound;
- *too few left*: each member that was dropped has died, or something was wrong with it while the
  ring ran, or it could not be heard when it was called, or it asks for more company than is left
  without those;
- *a lap in vain*: whoever was silent at its call has died, or something was wrong with it or the
  coordinator just then, and nothing of its answers could get through in the end: no `CALM_S`, or
  two messages lost. Without a call: something was wrong with a member or the coordinator in that
  very lap, or messages were lost, more than one;
- *no ring at all*: too few were sound and seen all the while to meet each other's thresholds, or
  until the deadline there was no `WORK_AND_READY_S` in which the coordinator was sound.

What the coordinator did not live to end is no ring's affair: the round is void, and the next one
goes on.
"""

from __future__ import annotations

from collections.abc import Iterable

from fedring.coordinator.announcing import Announcing
from fedring.coordinator.rings import MAX_CALLS
from fedring.coordinator.rounds import Effect
from fedring.lab.simulate.coordinators import Concluded
from fedring.lab.simulate.fleet import QUICK, SimulatedFleet
from fedring.lab.simulate.network import CALM, PING_S
from fedring.lab.simulate.reading import message_in
from fedring.lab.simulate.watch.causes import Causes, Span
from fedring.lab.simulate.watch.checks import Check, require, round_of
from fedring.lab.simulate.watch.courses import Course, Courses, LapCourse
from fedring.shared.effects import Report
from fedring.shared.messages import COORDINATOR_NAME, MAX_LAPS, Message, Ready, Roster

CALM_S = 2.5
"""Time for a question to be asked three times and answered, each way half a second and more."""
WORK_AND_READY_S = 3.0 + CALM_S
"""Time for the longest work, and to be told that it is done."""
LEAST_LOST = 2
"""Messages between two whose loss leaves a question of one patience unanswered."""
LONGEST_RING_S = (
    MAX_LAPS * (QUICK.lap_s + MAX_CALLS * QUICK.patience_s + 2 * PING_S) + QUICK.release_s + PING_S
)
"""From roster to end; the time in which the coordinator itself is in trouble comes on top. Silence
counts from the last time a connection was proven alive, so each question may take a ping longer."""


def can_form_a_ring(thresholds: Iterable[int]) -> bool:
    """Whether some of the devices with these thresholds can meet each other's."""
    return any(size > 1 and need < size for size, need in enumerate(sorted(thresholds), start=1))


class Liveness(Check):
    def __init__(self, fleet: SimulatedFleet) -> None:
        super().__init__(fleet)
        self._names = {one.identity.number: one.name for one in fleet.devices.values()}
        self._courses = Courses(fleet.coordinator)
        self._began = 0.0
        self._n_logged = 0
        self._unsound: set[str] = set()
        self._seen: set[int] = set()
        self._disturbances: int | None = None
        self._members: set[int] = set()

    def announcing(self, _: Announcing, /) -> None:
        network = self.fleet.network
        self._began, self._n_logged = network.now, len(network.log)
        self._unsound, self._seen = network.unsound, {*self.fleet.coordinator.online}
        self._disturbances = network.disturbances if network.is_whole else None
        self._members.clear()
        self._courses.clear()

    def coordinator_sent(self, message: Message, _: bytes, /) -> None:
        if isinstance(message, Roster):
            readies = [message_in(raw) for raw in message.readies]
            self._members |= {ready.sender for ready in readies if isinstance(ready, Ready)}

    def coordinator_did(self, effect: Effect, /) -> None:
        if isinstance(effect, Report):
            course = self._courses.reported(effect, self.fleet.network.now)
            if course is not None and effect.event in ("ring void", "ring closed"):
                self._in_time(course)
                if effect.event == "ring void":
                    self._explained(course, effect)

    def ended(self, concluded: Concluded, /) -> None:
        network, ended = self.fleet.network, concluded.ended
        where = round_of(concluded.announce.message)
        if not ended.sums and not ended.voids:
            self._too_few_for_a_ring(concluded)
        if network.disturbances != self._disturbances:
            return
        require(not ended.voids, "undisturbed rings end in sums", where, ended.voids)
        if network.faults == CALM:
            names = {name for ring in ended.sums for name in ring.names}
            require(names == self._members, "all members are in the sum", where, names)

    # -- void rings --------------------------------------------------------------------------

    def _explained(self, course: Course, void: Report) -> None:
        causes, why = self._causes(), str(void.facts["reason"])
        number = void.facts["ring"]
        assert isinstance(number, int)  # noqa: S101
        ring = self._courses.ring(number)
        if course.listed_at is not None:
            self._not_released(course, causes, why)
            return
        dropped = {*course.members} - ring._alive  # noqa: SLF001
        if len(course.laps) < MAX_LAPS:
            unexplained = {one for one in dropped if not self._is_explained(one, course, causes)}
            sound = {one for one in course.members if one in unexplained or one not in dropped}
            names = self._devices(unexplained - self._without_company(sound))
            require(not names, "nobody is dropped for nothing", why, *names)
        for lap in course.laps:
            self._in_vain(lap, course, causes, why)

    def _not_released(self, course: Course, causes: Causes, why: str) -> None:
        assert course.listed_at is not None  # noqa: S101
        asked = Span(course.listed_at, self.fleet.network.now)
        blamed = [name for name in self._devices(course.members) if name in why]
        require(bool(blamed), "a void ring blames somebody", why)
        for name in blamed:
            dead = causes.died(name, course.called)
            calm_s = causes.longest_calm_s((name, COORDINATOR_NAME), asked)
            released = dead or calm_s < CALM_S
            require(released, "whoever stays up gives its release", why, name, calm_s)

    def _is_explained(self, number: int, course: Course, causes: Causes) -> bool:
        """Whether something went wrong with a member for which a ring may go on without it."""
        name = self._names[number]
        ring, round_ = Span(course.began, self.fleet.network.now), Span(self._began, course.began)
        return (
            causes.died(name, round_)
            or causes.troubled(name, ring)
            or any(
                self._went_unheard(name, lap, causes) for lap in course.laps if name in lap.silent
            )
        )

    def _without_company(self, numbers: Iterable[int]) -> set[int]:
        """Those of these whose thresholds all of them together do not meet."""
        thresholds = {one: self.fleet.devices[self._names[one]].threshold for one in numbers}
        left = sorted(numbers, key=thresholds.__getitem__)
        while left and thresholds[left[-1]] >= len(left):
            left.pop()
        return {*thresholds} - {*left}

    def _in_vain(self, lap: LapCourse, course: Course, causes: Causes, why: str) -> None:
        members = self._devices(course.members)
        if lap.silent:
            for name in lap.silent:
                dead = causes.died(name, Span(self._began, lap.over))
                heard = not dead and not self._went_unheard(name, lap, causes)
                require(not heard, "whoever stays up answers the call", why, name)
            return
        when = Span(lap.began, lap.over)
        cause = (
            any(causes.died(name, Span(self._began, lap.over)) for name in members)
            or any(causes.troubled(name, when) for name in (COORDINATOR_NAME, *members))
            or causes.n_lost((COORDINATOR_NAME, *members), when) >= LEAST_LOST
        )
        require(cause, "no lap is in vain for nothing", why, lap)

    def _went_unheard(self, name: str, lap: LapCourse, causes: Causes) -> bool:
        """Whether nothing that this member said when it was called could be heard."""
        when = Span(lap.began if lap.called_at is None else lap.called_at, lap.over)
        both = (name, COORDINATOR_NAME)
        lost = causes.n_lost(both, when) >= LEAST_LOST
        troubled = any(causes.troubled(one, when) for one in both)
        return lost or (troubled and causes.longest_calm_s(both, when) < CALM_S)

    # -- rounds without a ring, and time -----------------------------------------------------

    def _too_few_for_a_ring(self, concluded: Concluded) -> None:
        causes, when = self._causes(), Span(self._began, self.fleet.network.now)
        running = concluded.running.round
        thresholds = [
            one.threshold
            for one in self.fleet.devices.values()
            if one.identity.number in self._seen
            and not causes.troubled(one.name, when)
            and not running.bench.rounds_left(one.identity.number, running.number)
        ]
        where = round_of(concluded.announce.message)
        calm_s = causes.longest_calm_s((COORDINATOR_NAME,), when)
        waited = when.end - when.begin >= QUICK.ready_s
        excused = (waited and calm_s < WORK_AND_READY_S) or not can_form_a_ring(thresholds)
        require(excused, "those who stay up form a ring", where, thresholds, calm_s)

    def _in_time(self, course: Course) -> None:
        now = self.fleet.network.now
        lasted_s = now - course.began
        if lasted_s <= LONGEST_RING_S:
            return
        calm_s = self._causes().longest_calm_s((COORDINATOR_NAME,), Span(course.began, now))
        require(calm_s <= LONGEST_RING_S, "every ring ends", course, lasted_s)

    def _devices(self, numbers: Iterable[int]) -> list[str]:
        return [self._names[number] for number in numbers]

    def _causes(self) -> Causes:
        network = self.fleet.network
        return Causes(self._unsound, self._began, network.log[self._n_logged :], network.now)
