"""How the rings of a round go, lap by lap, as the coordinator tells it."""

from __future__ import annotations

from attrs import define, field

from fedring.coordinator.rings import Ring
from fedring.lab.simulate.coordinators import SimulatedCoordinator
from fedring.lab.simulate.watch.causes import Span
from fedring.shared.effects import Report


@define
class LapCourse:
    """One lap.

    Attributes:
        began: when; the clock.
        over: when the next began, or the ring was void.
        called_at: when those in its token were called; None when there was none to go on with.
        silent: names of those who had not answered in the end.
    """

    began: float
    over: float = 0.0
    called_at: float | None = None
    silent: tuple[str, ...] = ()


@define
class Course:
    """One ring.

    Attributes:
        began: when its roster was sent; the clock.
        members: device numbers.
        laps: so far.
        listed_at: when releases were asked for, or None.
    """

    began: float
    members: tuple[int, ...]
    laps: list[LapCourse] = field(factory=list)
    listed_at: float | None = None

    @property
    def called(self) -> Span:
        """From the call that all have answered on."""
        called_at = self.laps[-1].called_at
        return Span(self.began if called_at is None else called_at, self.laps[-1].over)


class Courses:
    """The rings of a round.

    Args:
        coordinator: whose rings they are.
    """

    def __init__(self, coordinator: SimulatedCoordinator) -> None:
        self._coordinator = coordinator
        self._rings: dict[int, Course] = {}

    def clear(self) -> None:
        """A new round begins."""
        self._rings.clear()

    def ring(self, number: int) -> Ring:
        """The state machine of a ring."""
        round_ = self._coordinator.round
        assert round_ is not None  # noqa: S101
        return next(ring for ring in round_._rings if ring.number == number)  # noqa: SLF001

    def reported(self, report: Report, now: float) -> Course | None:
        """The coordinator tells of a ring; gives that ring as it stands."""
        number = report.facts.get("ring")
        if not isinstance(number, int):
            return None
        if report.event == "ring formed":
            self._rings[number] = Course(now, self.ring(number).members)
        course = self._rings[number]
        if course.laps:
            course.laps[-1].over = now
        match report.event:
            case "lap":
                course.laps.append(LapCourse(now, now))
            case "token round":
                course.laps[-1].called_at = now
            case "not there":
                silent = report.facts["devices"]
                assert isinstance(silent, list)  # noqa: S101
                course.laps[-1].silent = tuple(map(str, silent))
            case "list":
                course.listed_at = now
        return course
