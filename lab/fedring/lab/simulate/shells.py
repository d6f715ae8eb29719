"""What carries out the effects of a state machine: a thin shell, as the real ones are.

One thing after the other: a message, a deadline, an effect. While a record is being synced all
else waits. Before each step the shell may die, and everything that is not on its disk is gone.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import ClassVar, Generic, Protocol, TypeVar

from fedring.lab.simulate.network import Network
from fedring.lab.simulate.reading import message_in
from fedring.shared.effects import Send
from fedring.shared.errors import PeerError

LEAST_WAIT_S = 0.05
"""Between two ticks without news: a deadline that cannot be acted on yet must not stop time."""

SYNC = " sync"
"""Behind the name of a record's step: between writing and syncing it."""

E = TypeVar("E")


class PowerCut(Exception):  # noqa: N818  # nothing is wrong with the program
    """The party has died in the middle of a step; nothing of the step is left."""


Step = Callable[[], Iterable[E]]


class Machine(Protocol):
    """A state machine with a deadline."""

    @property
    def deadline(self) -> float | None: ...


class Shell(Generic[E]):
    """One party: its state machine, while it runs, and its connection.

    Args:
        name: of the party.
        network: where it hangs on.
        sync_s: how long a record takes to be synced.

    Attributes:
        alive: whether it runs.
        lives: how often it has died.
        dies_at: the step before which it dies next; "" for none. A step is the kind of a message
            about to be sent, or the name of an effect; with `SYNC` behind it, the moment between
            writing and syncing a record.
        on_death: kills it at that step.
    """

    watches: ClassVar[bool] = False

    def __init__(self, name: str, network: Network, sync_s: float) -> None:
        self.name = name
        self.network = network
        self.sync_s = sync_s
        self.alive = False
        self.dies_at = ""
        self.on_death: Callable[[], None] = lambda: None
        self.lives = 0
        self._todo: deque[E] = deque()
        self._steps: deque[Step[E]] = deque()
        self._pauses = False
        self._wakes_at: float | None = None
        self._is_frozen = False
        self._overdue: list[Callable[[], None]] = []

    # -- what a kind of shell adds -----------------------------------------------------------

    @property
    def machine(self) -> Machine | None:
        """The running state machine, or None."""
        raise NotImplementedError

    def tick(self) -> Iterable[E]:
        """The machine's deadline is here."""
        raise NotImplementedError

    def did(self, effect: E) -> None:
        """Tell the observer what is about to be done."""
        raise NotImplementedError

    def complained(self, fault: PeerError) -> None:
        """Tell the observer what a peer did wrong."""
        raise NotImplementedError

    def write(self, effect: E) -> bool:
        """Write an effect's record, if it has one; tells whether it did."""
        raise NotImplementedError

    def sync(self) -> None:
        """What was written is durable now."""
        raise NotImplementedError

    def carry_out(self, effect: E) -> None:
        """Do what else an effect asks for."""
        raise NotImplementedError

    # -- running -----------------------------------------------------------------------------

    def stop(self) -> None:
        """Die: what was under way is gone."""
        self.alive = False
        self.lives += 1
        self._todo.clear()
        self._steps.clear()
        self._pauses = False
        self._wakes_at = None
        self._is_frozen = False
        self._overdue.clear()
        self.dies_at = ""

    def freeze(self) -> None:
        """Stop in the middle, alive."""
        self._is_frozen = self.alive

    def thaw(self) -> None:
        """Go on, first with what was due meanwhile, before anything that came is read."""
        self._is_frozen = False
        overdue, self._overdue = self._overdue, []
        for action in overdue:
            action()

    def later(self, time: float, action: Callable[[], None]) -> None:
        """Do something at a time, if still in the same life, or later when standing still."""
        life = self.lives

        def due() -> None:
            if life != self.lives:
                return
            if self._is_frozen:
                self._overdue.append(action)
            else:
                action()

        self.network.at(time, due)

    def take(self, step: Step[E]) -> None:
        """Take a step, and do what it asks for, as soon as all that came before is done."""
        if not self.alive:
            return
        self._steps.append(step)
        if not self._pauses and not self._todo:
            self._go_on()

    def dies(self, step: str) -> bool:
        """Die, if this is the step to die at."""
        if step != self.dies_at:
            return False
        self.on_death()
        return True

    def pause(self, seconds: float, then: Callable[[], None]) -> None:
        """Do nothing for a while, then go on with `then`."""
        if not seconds:
            then()
            return

        def go_on() -> None:
            self._pauses = False
            then()
            if not self._pauses:
                self._go_on()

        self._pauses = True
        self.later(self.network.now + seconds, go_on)

    def _go_on(self, *, not_before: float = 0.0) -> None:
        try:
            self._do_all()
        except PowerCut:
            return
        self._arm(not_before)

    def _do_all(self) -> None:
        while (self._todo or self._steps) and not self._pauses:
            if not self._todo:
                try:
                    self._todo.extend(self._steps.popleft()())
                except PeerError as fault:
                    self.complained(fault)
                continue
            effect = self._todo[0]
            if self.dies_at and self.dies(step_of(effect)):
                return
            self.did(effect)
            self._todo.popleft()
            if self.write(effect):
                if self.dies(step_of(effect) + SYNC):
                    return
                self.pause(self.sync_s, self.sync)
            self.carry_out(effect)

    @property
    def _deadline(self) -> float | None:
        machine = self.machine
        return None if machine is None else machine.deadline

    def _arm(self, not_before: float) -> None:
        """See that the machine is woken at its deadline."""
        deadline = self._deadline
        if deadline is None:
            return
        wakes_at = max(deadline, not_before)
        if self._wakes_at is not None and self._wakes_at <= wakes_at:
            return
        self._wakes_at = wakes_at
        self.later(wakes_at, self._wake)

    def _wake(self) -> None:
        """Tick, if it is time to; an earlier alarm may have been overtaken."""
        self._wakes_at = None
        deadline = self._deadline
        if deadline is None or self._pauses:
            return
        if self.network.now < deadline:
            self._arm(0.0)
            return
        self._steps.append(self.tick)
        self._go_on(not_before=self.network.now + LEAST_WAIT_S)


def step_of(effect: object) -> str:
    """What doing this is called: the kind of a message, or the effect's own name."""
    if isinstance(effect, Send):
        return message_in(effect.data).kind
    return type(effect).__name__.lower()
