"""What the coordinator knows of its devices: who they are, their cohorts, who sits out.

The rules of cohorts and bench are in `rosters`; here they survive a restart.
"""

from __future__ import annotations

from collections.abc import Mapping

from attrs import frozen

from fedring.coordinator.records import now_text
from fedring.coordinator.tables import last_round
from fedring.shared.errors import ProtocolError
from fedring.shared.state import Database


@frozen
class Device:
    """A device that the coordinator has met.

    Attributes:
        number: from its certificate.
        name: from its certificate.
        seen: when it was last heard of, UTC, ISO 8601.
    """

    number: int
    name: str
    seen: str


class DeviceTable:
    """The devices of a coordinator's store. Each method is one transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def cohorts(self) -> dict[int, int]:
        """Device number -> cohort, of this epoch."""
        return dict(
            self._database.rows(
                "SELECT device, cohort FROM cohort WHERE epoch = (SELECT max(epoch) FROM epoch)"
            )
        )

    def save_cohorts(self, table: Mapping[int, int]) -> None:
        """Store the cohorts of this epoch.

        Raises:
            ProtocolError: a device would change its cohort within the epoch.
        """
        with self._database.transaction() as connection:
            epoch, _ = last_round(connection)
            connection.executemany(
                "INSERT OR IGNORE INTO cohort (epoch, device, cohort) VALUES (?, ?, ?)",
                [(epoch, device, cohort) for device, cohort in table.items()],
            )
            stored = dict(
                connection.execute("SELECT device, cohort FROM cohort WHERE epoch = ?", (epoch,))
            )
            if any(stored[device] != cohort for device, cohort in table.items()):
                raise ProtocolError("cohorts are fixed for an epoch")

    def all(self) -> list[Device]:
        """All devices ever met, by number."""
        rows = self._database.rows("SELECT number, name, seen FROM device ORDER BY number")
        return [Device(*row) for row in rows]

    def note(self, names: Mapping[int, str]) -> None:
        """Note that these devices, number -> name, were just heard of: once a round is enough."""
        with self._database.transaction() as connection:
            connection.executemany(
                "INSERT OR REPLACE INTO device (number, name, seen) VALUES (?, ?, ?)",
                [(number, name, now_text()) for number, name in names.items()],
            )

    def bench(self) -> tuple[dict[int, int], dict[int, int]]:
        """Strikes, and the first round that they may join again, by device number."""
        rows = self._database.rows("SELECT device, strikes, until FROM bench")
        strikes = {device: strikes for device, strikes, _ in rows if strikes}
        return strikes, {device: until for device, _, until in rows if until}

    def save_bench(self, strikes: Mapping[int, int], until: Mapping[int, int]) -> None:
        """Store what `bench` gives back, in place of what it gave before."""
        with self._database.transaction() as connection:
            connection.execute("DELETE FROM bench")
            connection.executemany(
                "INSERT INTO bench (device, strikes, until) VALUES (?, ?, ?)",
                [(d, strikes.get(d, 0), until.get(d, 0)) for d in {*strikes, *until}],
            )
