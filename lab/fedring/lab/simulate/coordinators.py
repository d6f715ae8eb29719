"""The coordinator on a simulated network: the production state machine, store and conclusion."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import ClassVar, Protocol

from attrs import frozen
from phe import PaillierPrivateKey

from fedring.coordinator.announcing import Announcing, make_rest
from fedring.coordinator.doors import ClosedDoor
from fedring.coordinator.ending import Concluded as Stored
from fedring.coordinator.ending import end
from fedring.coordinator.records import Version, check_chain
from fedring.coordinator.rosters import Bench, Cohorts
from fedring.coordinator.rounds import Announced, Dealt, Effect, Effects, Ended, Round
from fedring.coordinator.running import Running
from fedring.coordinator.standing import Standing
from fedring.coordinator.store import CoordinatorStore
from fedring.coordinator.strategies import FedAvg
from fedring.coordinator.sums import Opened
from fedring.lab.simulate.devices import REVOKED_TOPIC, ROUND_TOPIC
from fedring.lab.simulate.ledger import MemoryDatabase, new_ledger
from fedring.lab.simulate.network import Network
from fedring.lab.simulate.shells import PowerCut, Shell
from fedring.shared.credentials import Credentials
from fedring.shared.effects import Send
from fedring.shared.envelopes import Signed
from fedring.shared.errors import PeerError
from fedring.shared.identity import Authority, Identity
from fedring.shared.messages import COORDINATOR_NAME
from fedring.shared.messages import Announce as AnnounceMessage
from fedring.shared.models import Model

CONCLUDE_S = 0.2
"""Opening the sums and stepping the model."""


@frozen
class NoFiles:
    """Where the credentials of a simulated coordinator come from."""

    ca = key = certificate = Path("memory")


NO_FILES = NoFiles()


@frozen
class Concluded:
    """How a round of a simulation ended.

    Attributes:
        running: the round.
        ended: its rings.
        stored: what the coordinator made of it.
    """

    running: Running
    ended: Ended
    stored: Stored

    @property
    def announce(self) -> Signed[AnnounceMessage]:
        """What was asked, signed."""
        return self.running.announcing.announce

    @property
    def opened(self) -> Opened | None:
        """The sum over all rings that were whole, or None when there were none."""
        return self.stored.conclusion.opened


class Observer(Protocol):
    """Somebody who sees all that the coordinator does."""

    def coordinator_did(self, effect: Effect, now: float) -> None: ...
    def announcing(self, announcing: Announcing) -> None: ...
    def ended(self, concluded: Concluded) -> None: ...
    def complained(self, who: str, fault: PeerError) -> None: ...


Announce = Callable[[int, int, Version, Model], Announcing]
"""(epoch, round, version, model) -> the announce of a round; its number is durable by then."""


class SimulatedCoordinator(Shell[Effect]):
    """The coordinator's machine: round, store, connection.

    Args:
        network: where it hangs on.
        observer: who looks on.
        authority: the fleet's.
        identity: the coordinator's.
        private_key: for Paillier.
        announce: makes announces.
        names: device number -> name, of all devices.
        model: the first.
        revocation: the signed revocation list.
        sync_s: how long a record takes to be synced.

    Attributes:
        stand_in: what rounds start from in place of the newest version, if anything.
        online: who is there, as far as it knows.
        running: the round under way.
    """

    watches: ClassVar[bool] = True

    def __init__(
        self,
        network: Network,
        observer: Observer,
        *,
        authority: Authority,
        identity: Identity,
        private_key: PaillierPrivateKey,
        announce: Announce,
        names: Mapping[int, str],
        model: Model,
        revocation: bytes,
        sync_s: float,
    ) -> None:
        super().__init__(COORDINATOR_NAME, network, sync_s)
        self._observer = observer
        self._authority = authority
        self._identity = identity
        self._private_key = private_key
        self._announce = announce
        self._names = dict(names)
        self._first_model = model
        self._door = ClosedDoor(identity, authority)
        self.stand_in: Model | None = None
        self.online: dict[int, str] = {}
        self.running: Running | None = None
        self.lose_store(revocation)

    @property
    def round(self) -> Round | None:
        """The state machine of the round under way."""
        return self.running.round if self.running else None

    def lose_store(self, revocation: bytes) -> None:
        """Begin with an empty store, in the epoch of a new revocation list."""
        self._disk: MemoryDatabase = new_ledger(self._identity.fleet)
        self._revocation = revocation
        self._open()
        self.store.enter_epoch(self._standing.revocation.epoch)
        self.store.commit_initial(self._first_model)

    def start(self) -> None:
        """Power on: the store is opened and checked, everything else is gone."""
        self._open()
        check_chain(reversed(self.store.versions()))
        self.alive = True
        self.network.join(self.name, self)

    def die(self) -> None:
        """Stop in the middle of whatever it does: the round is lost, its number stays used."""
        if not self.alive:
            return
        self.stop()
        self.running = None
        self.online = {}
        self.network.leave(self.name)

    def begin_round(self) -> None:
        """Take the next round number and announce the round."""
        self.take(self._begin)

    def rest(self) -> None:
        """Say on the announce topic that no round is running, if so, after the first."""
        if not self.alive or self.running is not None or not self.store.last_round():
            return
        version = self.store.current_version()
        assert version is not None  # noqa: S101
        rest = make_rest(
            self._identity,
            self.store.epoch(),
            self.store.last_round(),
            self.store.model(version),
            version=version.version,
            parent=version.parent,
        )
        self.network.publish(self.name, ROUND_TOPIC, rest.raw)

    # -- what the network brings -------------------------------------------------------------

    def connected(self) -> None:
        self.network.publish(self.name, REVOKED_TOPIC, self._revocation)
        if (round_ := self.round) is not None:
            self.take(lambda: round_.reconnected(self.network.now))

    def deliver(self, source: str, data: bytes) -> None:
        self.take(lambda: self._receive(source, data))

    def retained(self, topic: str, data: bytes) -> None:
        pass

    def seen(self, name: str, *, online: bool) -> None:
        number = next((n for n, known in self._names.items() if known == name), None)
        if number is None:
            return
        if online:
            self.online[number] = name
        else:
            self.online.pop(number, None)
        if (round_ := self.round) is not None:
            self.take(lambda: round_.present(number, name, online=online, now=self.network.now))

    # -- what the round asks for -------------------------------------------------------------

    @property
    def machine(self) -> Round | None:
        return self.round

    def tick(self) -> Effects:
        assert self.round is not None  # noqa: S101
        return self.round.tick(self.network.now, self.network.alive_at(self.name))

    def did(self, effect: Effect) -> None:
        self._observer.coordinator_did(effect, self.network.now)

    def complained(self, fault: PeerError) -> None:
        self._observer.complained(self.name, fault)

    def write(self, effect: Effect) -> bool:
        match effect:
            case Dealt(table):
                self.store.devices.save_cohorts(table)
                return True
        return False

    def sync(self) -> None:
        pass  # each transaction of the store is synced, or it is not there

    def carry_out(self, effect: Effect) -> None:
        match effect:
            case Send(to, data):
                self.network.send(self.name, to, data)
            case Announced(data):
                self.network.publish(self.name, ROUND_TOPIC, data)
            case Ended():
                self.later(
                    self.network.now + CONCLUDE_S, lambda: self.take(lambda: self._conclude(effect))
                )

    # -- rounds ------------------------------------------------------------------------------

    @property
    def store(self) -> CoordinatorStore:
        """What survives its deaths."""
        return self._standing.store

    def _open(self) -> None:
        self._disk.on_step = self._may_lose_power
        self._standing = Standing(
            Credentials(self._identity, self._authority, NO_FILES),
            CoordinatorStore(self._disk, None),
            self._authority.revocation(self._revocation),
            self._revocation,
            self._private_key,
            evaluation=None,
        )

    def _may_lose_power(self, step: str) -> None:
        if self.dies(step):
            raise PowerCut

    def _receive(self, source: str, data: bytes) -> Effects:
        if self.round is not None:
            return self.round.receive(source, data, self.network.now)
        last = self.store.epoch(), self.store.last_round()
        return [*self._door.receive(source, data, last)]

    def _begin(self) -> Effects:
        epoch, number = self.store.next_round()
        version = self.store.current_version()
        assert version is not None  # noqa: S101
        model = self.stand_in or self.store.model(version)
        announcing = self._announce(epoch, number, version, model)
        self._observer.announcing(announcing)
        round_ = Round(
            announce=announcing.announce,
            exchange_key=announcing.exchange_key,
            identity=self._identity,
            authority=self._authority,
            revoked=self._standing.revocation.revoked,
            suite=announcing.suite,
            cohorts=Cohorts(self.store.devices.cohorts()),
            bench=Bench(*self.store.devices.bench()),
            present=self.online,
        )
        self.running = Running(
            announcing, round_, model, version, began=self.network.now, bytes_before={}
        )
        return round_.start()

    def _conclude(self, ended: Ended) -> Effects:
        """Open the sums and store model, history and outcome in one transaction."""
        running = self.running
        if running is None or self.dies("conclude"):
            return []
        stored = end(running, ended, self._standing, FedAvg(), bytes_now={})
        self._observer.ended(Concluded(running, ended, stored))
        if not self.dies("concluded"):
            self.running = None
        return []
