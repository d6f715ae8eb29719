"""What the coordinator must know after a crash: rounds, models and how each came about.

Rules kept here (docs/protocol.md, sections 2, 5 and 6):

- **Never a round number twice.** `next_round` is durable before it returns, thus before the
  announce. Numbers only grow within an epoch, epochs only grow.
- **Never a sum twice, never half a version.** Model, history record and outcome of the round are
  one transaction. A round is settled once: applied or void.
- **A whole chain.** Versions only grow, each names its parent and is linked to it (`records`).
  A rollback adds a version with older arrays; a round that was announced before it is not applied
  on top of it.
- **Lost or restored state.** Devices may have joined later rounds than a restored store knows. It
  therefore refuses to begin a round until the fleet authority's revocation list carries a higher
  epoch (`enter_epoch`). A *lost* store, begun anew in the same epoch, cannot know that: devices
  then refuse its rounds with the reason, and its own retained announce, where the broker still has
  it, tells (`check_announced`). The remedy is the same: `fedring fleet epoch`.

One process *runs* on a state folder (`open_to_run` holds its lock). Others may open the store
beside it, to look, to roll back or to pause; the running one reads anew before every round.
History records are never dropped; arrays of old versions are, beyond `KEPT_MODEL_BYTES`.

The Paillier key of an epoch is a file of its own, see `key_file`; other modules read and write it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from attrs import evolve

from fedring.coordinator import tables, versions
from fedring.coordinator.device_table import DeviceTable
from fedring.coordinator.records import Outcome, Round, Task, Version, check_chain, now_text
from fedring.coordinator.tables import STORE_FILE, open_database
from fedring.shared.errors import MessageError, ProtocolError, StateError
from fedring.shared.models import Model
from fedring.shared.state import Database, FolderLock, lock_folder, prepare_folder

KEPT_MODEL_BYTES = 256 * 2**20
"""Most bytes of models kept: all versions of a model of 4,000 weights for 15,000 rounds, and still
four of the largest model that there can be. The current version is kept whatever its size."""

INTERRUPTED = "the coordinator stopped in this round"
OVERTAKEN = "the model was rolled back while this round ran"


class CoordinatorStore:
    """The state of one coordinator. Each method is one transaction; any thread may call it.

    Attributes:
        devices: what is known of the devices of the fleet.
        database: the file itself, for `backups`.
    """

    def __init__(
        self, database: Database, lock: FolderLock | None, kept_model_bytes: int = KEPT_MODEL_BYTES
    ) -> None:
        self.database = database
        self.devices = DeviceTable(database)
        self._lock = lock
        self._kept_model_bytes = kept_model_bytes

    # -- opening ---------------------------------------------------------------------------

    @classmethod
    def open_to_run(
        cls, folder: Path, *, fleet: str, kept_model_bytes: int = KEPT_MODEL_BYTES
    ) -> CoordinatorStore:
        """Open the state for the one process that runs rounds; begins it in an empty folder.

        Args:
            folder: made when it is not there.
            fleet: name of the fleet, as in the coordinator's certificate.
            kept_model_bytes: most bytes of models kept.

        Raises:
            StateError: in use by another process, of another fleet, damaged, or not readable.
        """
        prepare_folder(folder)
        lock = lock_folder(folder)
        try:
            store = cls(open_database(folder / STORE_FILE, create=True), lock, kept_model_bytes)
        except BaseException:
            lock.close()
            raise
        try:
            store._claim(fleet)
            check_chain(reversed(store.versions()))
        except BaseException:
            store.close()
            raise
        return store

    @classmethod
    def open_beside(cls, folder: Path) -> CoordinatorStore:
        """Open an existing state to look at it or to steer it, whether or not it is running.

        Raises:
            StateError: there is none, or it is not readable.
        """
        return cls(open_database(folder / STORE_FILE, create=False), None)

    def _claim(self, fleet: str) -> None:
        with self.database.transaction() as connection:
            owner = tables.setting(connection, "fleet")
            if owner is None:
                tables.set_setting(connection, "fleet", fleet)
            elif owner != fleet:
                raise StateError(
                    f"{self.database.path} belongs to fleet '{owner}', not to '{fleet}'",
                    name="state.foreign",
                    hint="give each fleet's coordinator its own state folder",
                )

    # -- epochs and rounds -----------------------------------------------------------------

    def epoch(self) -> int:
        """The epoch that rounds are counted in; 0 before `enter_epoch` was first called."""
        ((epoch,),) = self.database.rows("SELECT coalesce(max(epoch), 0) FROM epoch")
        return int(epoch)

    def last_round(self) -> int:
        """The highest round number ever taken in this epoch; 0 when there was none."""
        with self.database.snapshot() as connection:
            return tables.last_round(connection)[1]

    def enter_epoch(self, epoch: int) -> bool:
        """Go by the epoch of the fleet authority's revocation list, at every start of `run`.

        A new epoch begins with round 1, no cohorts and nobody benched.

        Args:
            epoch: from the verified list, >= 1.

        Returns:
            Whether it is a new one (and a new Paillier key is due).

        Raises:
            StateError: the list is older than this state, or this state was restored and the list
                carries no higher epoch yet.
        """
        with self.database.transaction() as connection:
            current, _ = tables.last_round(connection)
            tables.check_epoch(connection, epoch)
            if epoch < current:
                raise StateError(
                    f"the revocation list carries epoch {epoch}, this state is in epoch {current}",
                    name="state.old-epoch",
                    hint="give the coordinator the newest list that `fedring fleet` wrote",
                )
            if epoch == current:
                return False
            connection.execute(
                "INSERT INTO epoch (epoch, begun) VALUES (?, ?)", (epoch, now_text())
            )
            connection.execute("DELETE FROM bench")
            connection.execute("DELETE FROM setting WHERE key = 'restored'")
            return True

    def next_round(self) -> tuple[int, int]:
        """Take the next round number, durably; a round left open by a crash is settled as void.

        Returns:
            Epoch and round; never the same twice.

        Raises:
            StateError: this state was restored and has no higher epoch yet.
        """
        with self.database.transaction() as connection:
            epoch, last = tables.last_round(connection)
            tables.check_epoch(connection, epoch)
            open_rounds = connection.execute(
                "SELECT epoch, round FROM round WHERE outcome IS NULL"
            ).fetchall()
            for open_epoch, open_round in open_rounds:
                tables.settle(
                    connection, Outcome(epoch=open_epoch, round=open_round, reason=INTERRUPTED)
                )
            connection.execute(
                "INSERT INTO round (epoch, round, announced) VALUES (?, ?, ?)",
                (epoch, last + 1, now_text()),
            )
            return epoch, last + 1

    def check_announced(self, epoch: int, round_number: int) -> None:
        """Compare with the coordinator's own announce that the broker still retains.

        Raises:
            StateError: it is of a later round than this state knows: the state is an old one.
        """
        known = self.epoch(), self.last_round()
        if (epoch, round_number) > known:
            raise StateError(
                f"the broker has an announce of round {round_number} of epoch {epoch}, but this "
                f"state ends at round {known[1]} of epoch {known[0]}: it is lost or outdated",
                name="state.outdated",
                hint=f"use the right state folder, or raise the epoch: {tables.NEW_EPOCH}",
            )

    def rounds(self, limit: int = 1_000_000) -> list[Round]:
        """The latest rounds, newest first."""
        rows = self.database.rows(
            "SELECT epoch, round, announced, ended, outcome, version FROM round "
            "ORDER BY epoch DESC, round DESC LIMIT ?",
            (limit,),
        )
        return [
            Round(
                epoch=epoch,
                round=number,
                announced=announced,
                ended=ended,
                outcome=Outcome.from_record(outcome) if outcome else None,
                version=version,
            )
            for epoch, number, announced, ended, outcome, version in rows
        ]

    # -- versions --------------------------------------------------------------------------

    def current_version(self) -> Version | None:
        """The newest version, read anew; None before `commit_initial`."""
        with self.database.snapshot() as connection:
            return versions.current(connection)

    def version(self, number: int) -> Version:
        """One version of the history.

        Raises:
            StateError: there is none of that number.
        """
        with self.database.snapshot() as connection:
            return versions.version_of(connection, number)

    def versions(self, limit: int = 1_000_000) -> list[Version]:
        """The latest versions, newest first."""
        rows = self.database.rows(
            "SELECT record, link FROM version ORDER BY version DESC LIMIT ?", (limit,)
        )
        return [Version.from_record(*row) for row in rows]

    def n_versions(self, task: Task) -> int:
        """How many versions came about by a task: `train` for the training rounds done."""
        ((count,),) = self.database.rows("SELECT count(*) FROM version WHERE task = ?", (task,))
        return int(count)

    def chunks(self, version: Version) -> tuple[bytes, ...]:
        """A version's model as it travels.

        Raises:
            StateError: its arrays were dropped to make room, or are damaged.
        """
        with self.database.snapshot() as connection:
            return versions.chunks_of(connection, version)

    def has_arrays(self, version: Version) -> bool:
        """Whether a version's model is still kept."""
        return bool(
            self.database.rows("SELECT 1 FROM model WHERE digest = ?", (version.digest.hex(),))
        )

    def model(self, version: Version) -> Model:
        """A version's model; raises as `chunks` does."""
        try:
            return Model.from_chunks(self.chunks(version))
        except MessageError as error:
            raise versions.damaged(version) from error

    def commit_initial(self, model: Model, *, note: str = "") -> Version:
        """Begin the history, or begin it again while nothing has been learned.

        Raises:
            ProtocolError: a round has made a model.
        """
        with self.database.transaction() as connection:
            current = versions.current(connection)
            if current is not None and current.task != "initial":
                raise ProtocolError("the model history has begun already")
            return versions.append(connection, model.digest, "initial", model=model, note=note)

    def commit_version(
        self,
        model: Model,
        outcome: Outcome,
        *,
        parent: int,
        metrics: Mapping[str, Any] | None = None,
        plan: Mapping[str, Any] | None = None,
        note: str = "",
    ) -> Version | None:
        """Store what a round made: model, history record and outcome, in one transaction.

        Args:
            model: after the strategy step.
            outcome: of the round that made it.
            parent: the version that the round was announced with.
            metrics: of this model, what JSON can hold; no NaN.
            plan: what devices were asked to do.
            note: for people.

        Returns:
            The new version; the same one again when this very result was stored before. None when
            the history moved on meanwhile (a rollback): the round is stored as void then.

        Raises:
            ProtocolError: the round was never announced, or is settled with another result.
            StateError: it could not be written; nothing was changed.
        """
        with self.database.transaction() as connection:
            done = versions.made_by(connection, outcome)
            if done is not None and done.digest == model.digest and done.parent == parent:
                return done
            current = versions.current(connection)
            if current is None or current.version != parent:
                tables.settle(connection, evolve(outcome, contributors=0, reason=OVERTAKEN))
                return None
            version = versions.append(
                connection,
                model.digest,
                outcome.task,
                model=model,
                at=(outcome.epoch, outcome.round),
                contributors=outcome.contributors,
                metrics=metrics or {},
                plan=plan or {},
                note=note,
            )
            tables.settle(connection, outcome, version.version)
            versions.drop_oldest(connection, self._kept_model_bytes)
            return version

    def commit_void(self, outcome: Outcome) -> None:
        """Store how a round ended that gave nothing; `outcome.reason` says why.

        Raises:
            ProtocolError: the round was never announced, or is settled.
        """
        with self.database.transaction() as connection:
            tables.settle(connection, outcome)

    def rollback(self, number: int) -> Version:
        """Make an older model the current one, as a new version.

        Raises:
            StateError: there is no such version, it is the current one, or its arrays were dropped.
        """
        with self.database.transaction() as connection:
            source = versions.version_of(connection, number)
            current = versions.current(connection)
            if current is None or current.digest == source.digest:
                raise StateError(
                    f"version {number} is the current model already", name="state.no-such-version"
                )
            versions.chunks_of(connection, source)
            return versions.append(
                connection,
                source.digest,
                "rollback",
                metrics=source.metrics,
                source=source.version,
                note=f"back to version {source.version}",
            )

    # -- settings --------------------------------------------------------------------------

    def paused(self) -> bool:
        """Whether the owner wants no further rounds for now, read anew."""
        with self.database.snapshot() as connection:
            return bool(tables.setting(connection, "paused"))

    def set_paused(self, paused: bool) -> None:
        """Note, durably, whether the owner wants further rounds."""
        with self.database.transaction() as connection:
            tables.set_setting(connection, "paused", int(paused))

    def mark_restored(self, epoch: int) -> None:
        """Demand an epoch above this one before the next round: for `backups`."""
        with self.database.transaction() as connection:
            tables.set_setting(
                connection, "restored", max(epoch, tables.setting(connection, "restored") or 0)
            )

    def close(self) -> None:
        """Close the file and let the folder go."""
        self.database.close()
        if self._lock is not None:
            self._lock.close()

    def __enter__(self) -> CoordinatorStore:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
