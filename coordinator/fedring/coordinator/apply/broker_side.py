"""The broker's side of `fedring coordinator apply`: new files into place, and proof that they hold.

In this order, so that a power cut anywhere leaves a broker that refuses too much rather than too
little:

1. The folders become root's: Mosquitto's user, who talks to strangers, may read its files and
   change nothing, since root starts Mosquitto by them.
2. Everything is judged while nothing is changed yet: a CRL or an access list that Mosquitto could
   not use never gets near it.
3. Each file is written beside the old one and renamed; the CRL before the access list, whose last
   line belongs to it. Either alone keeps a revoked board out at the next start.
4. The broker is told: reload, or restart where a reload would not do.
5. Canary and probe look at it (`enforcement.py`). Lists with which it was seen to let in or allow
   too much, or nobody at all, make way for the last ones that were seen to hold, the broker is told
   again, and the whole ends with an error, even when the old ones do hold. A CRL goes back alone,
   so that the new deny lines stay. Nothing goes back because a broker could not be looked at:
   whoever keeps it busy would otherwise undo what throws him out.
6. Live connections of those who lost a certificate are closed (`eviction.py`). Where that fails and
   their names have rights, since they were given again or renewed, Mosquitto is started anew.

Doing it again with the same files looks again, and mends what somebody changed meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NoReturn

from fedring.coordinator.apply.broker_check import look
from fedring.coordinator.apply.broker_machine import (
    ACCESS_LIST,
    AUTHORITY,
    CRL,
    FOLDER,
    LOST,
    PLACES,
    PROBES,
    SETTINGS,
    SITE,
    BrokerMachine,
)
from fedring.coordinator.apply.crl import Touchstones, check_crl
from fedring.coordinator.apply.enforcement import Finding
from fedring.coordinator.apply.eviction import evict, new_losses
from fedring.coordinator.apply.placing import lies_right, own_folder, place_file, read_own
from fedring.shared.access_lists import check_access_list, denied_names
from fedring.shared.errors import BrokerError
from fedring.shared.state import PRIVATE_FILE, PRIVATE_FOLDER, lock_folder

_FOR_PROBES: Final = ("canary.key", "canary.crt", "probe.key", "probe.crt")
_LISTS: Final = frozenset({CRL, ACCESS_LIST})
_NEED_RESTART: Final = frozenset({SETTINGS, AUTHORITY, "enrolment.conf"})
_READ_BY_ALL: Final = 0o644
_FOLDER_READ_BY_ALL: Final = 0o755
_READ_BY_GROUP: Final = 0o640
_FOLDER_READ_BY_GROUP: Final = 0o750
_NAMED: Final = 5
_GOOD: Final = ".good"
_BEFORE: Final = ".before"


def apply_broker(
    files: Mapping[str, bytes], machine: BrokerMachine, tell: Callable[[str], None]
) -> None:
    """Put the broker's part of a signed folder into place, and see that it is in force.

    Args:
        files: contents by path in the folder, verified.
        machine: where.
        tell: is told, for people, what was done.

    Raises:
        BrokerError: nothing was changed, since a file is unfit; or the broker does not do what the
            files say, and the last good ones are back.
        StateError: a file could not be written, or another process is at it.
    """
    with closing(lock_folder(machine.settings)):
        _Applying(files, machine, tell).run()


class _Applying:
    def __init__(
        self, files: Mapping[str, bytes], machine: BrokerMachine, tell: Callable[[str], None]
    ) -> None:
        self._machine = machine
        self._tell = tell
        self._new = {place: files[path] for path, place in PLACES.items() if path in files}
        self._probes = {name: files[f"canary/{name}"] for name in _FOR_PROBES}
        self._lost = files["broker/lost"]
        self._access_list = self._new[ACCESS_LIST]

    def run(self) -> None:
        self._own_folders()
        earlier = self._earlier_site()
        evicted = self._there(LOST) or b""
        losses = new_losses(self._lost, evicted)
        self._check()
        self._prepare()
        for file, content in earlier.items():
            self._write(f"{SITE}/{file.name}", content)
        changed = self._place(self._new)
        restarted = self._inform(changed)
        what = ", ".join(place for place in self._new if place in changed) or "nothing new"
        self._tell(f"in {self._machine.settings}: {what}; Mosquitto goes by it")
        if not restarted and losses:
            self._evict(losses)
            more = f" and {len(losses) - _NAMED} others" if len(losses) > _NAMED else ""
            self._tell(f"closed what was still open of {', '.join(losses[:_NAMED])}{more}")
        self._write(LOST, self._lost)
        for file in earlier:
            file.unlink()

    def _evict(self, losses: Sequence[str]) -> None:
        try:
            evict(self._machine.eviction_socket, losses)
        except BrokerError as error:
            denied = set(denied_names(self._access_list.decode("ascii").splitlines()))
            keep = [name for name in losses if name not in denied]
            if not keep:
                raise BrokerError(
                    f"{error.text}; they can read and write nothing",
                    name=error.name,
                    hint=error.hint,
                ) from error
            finding = self._after_all(self._machine.restart)
            if not finding.holds:
                raise BrokerError(
                    f"{error.text}; who was {', '.join(keep[:_NAMED])} can read and write as"
                    f" before, since Mosquitto could not be started anew either: {finding}",
                    name=error.name,
                    hint=error.hint,
                ) from error
            self._tell(f"Mosquitto was started anew, since {error.text}")

    def _own_folders(self) -> None:
        """Make the folders root's, also where an earlier fedring left them to Mosquitto's user."""
        own_folder(self._path(FOLDER), _FOLDER_READ_BY_GROUP, self._machine.owner)
        own_folder(self._path(SITE), _FOLDER_READ_BY_ALL)
        probes = self._path(PROBES)
        if probes.is_symlink():  # he could put it there, and cannot any more
            probes.unlink()
        own_folder(probes, PRIVATE_FOLDER)

    def _earlier_site(self) -> dict[Path, bytes]:
        """Give the settings of this one machine that lie where they were before `SITE`."""
        found = {}
        for file in sorted(self._path(FOLDER).glob("*.conf")):
            content = read_own(file)
            if content is None:
                raise BrokerError(
                    f"{file} may be of Mosquitto's own user, and root would go by it",
                    name="broker.foreign-file",
                    hint=f"nothing else was changed; look at it, then move it to"
                    f" {self._path(SITE)} as root's file, or remove it",
                )
            found[file] = content
        return found

    def _check(self) -> None:
        """Judge the new files."""
        now = datetime.now(UTC)
        touchstones = Touchstones.read(
            self._probes["canary.crt"], self._probes["probe.crt"], self._new[AUTHORITY]
        )
        touchstones.check(now)
        before = self._there(CRL) if self._there(AUTHORITY) == self._new[AUTHORITY] else None
        check_crl(self._new[CRL], touchstones, now, before=before)
        check_access_list(self._new[ACCESS_LIST], self._new[CRL])

    def _prepare(self) -> None:
        """Keep what is there: for people, and as the last good files, if none were seen to hold."""
        for place in self._new:
            there = self._there(place)
            if there is not None and self._there(place + _GOOD) is None:
                self._write(place + _BEFORE, there)
                self._write(place + _GOOD, there)
        for name, content in {**self._probes, "ca.crt": self._new[AUTHORITY]}.items():
            place_file(self._path(f"{PROBES}/{name}"), content)

    def _place(self, files: Mapping[str, bytes]) -> set[str]:
        """Write what differs; gives which."""
        changed = [place for place, content in files.items() if self._there(place) != content]
        for place in files:
            if place in changed or not lies_right(self._path(place), *_right(place, self._machine)):
                self._write(place, files[place])
        return set(changed)

    def _inform(self, changed: set[str]) -> bool:
        """Tell the broker and see what it does; gives whether it was started anew."""
        restart = bool(changed & _NEED_RESTART)
        if restart:
            finding = self._after_all(self._machine.restart)
        elif changed:
            finding = self._after(self._machine.reload)
        else:
            finding = self._look()
            if not finding.holds:  # somebody may have reloaded it with other files
                finding = self._after(self._machine.reload)
        if finding.stale and not finding.is_open:  # the file, or the word, was lost on the way
            self._place(self._new)
            finding = self._after(self._machine.reload)
        if not finding.holds:
            self._rescue(finding, changed)
        for place, content in self._new.items():
            if self._there(place + _GOOD) != content:
                self._write(place + _GOOD, content)
        return restart

    def _rescue(self, found: Finding, changed: set[str]) -> NoReturn:
        """Put the last good files back, as few as will do, and raise what was found."""
        finding = found
        for places, tell in self._ways_back(found, changed):
            there = {place: self._there(place + _GOOD) for place in places}
            good = {place: content for place, content in there.items() if content is not None}
            self._place(good)
            self._access_list = good.get(ACCESS_LIST, self._access_list)
            finding = self._after_all(tell)
            if finding.holds:
                raise BrokerError(
                    f"with the new files {found}. The last good ones of {', '.join(places)} are"
                    " back and in force; what is new in them is not",
                    name="broker.restored",
                    hint="see `journalctl -u mosquitto` and the disk of this machine, then apply"
                    " the folder again",
                )
        if found.is_open or finding.is_open:
            raise BrokerError(
                f"the broker does not keep revoked boards out: {found}. With the last good files:"
                f" {finding}",
                name="broker.not-in-force",
                hint="stop it until this is mended: sudo systemctl stop mosquitto",
            )
        raise BrokerError(
            f"Mosquitto was not seen to go by its new files: {finding}",
            name="broker.not-told",
            hint="they are in place: see `journalctl -u mosquitto`, try `sudo systemctl restart"
            " mosquitto`, then apply the folder again",
        )

    def _ways_back(
        self, found: Finding, changed: set[str]
    ) -> Iterator[tuple[list[str], Callable[[], None]]]:
        machine = self._machine
        if AUTHORITY in changed:
            yield list(self._new), machine.restart
        elif changed - _LISTS:  # they were not judged before, as the lists were
            yield [place for place in self._new if place not in _LISTS], machine.restart
        if found.crl:
            yield [CRL], machine.reload
        if found.is_open:
            yield [CRL, ACCESS_LIST], machine.reload
            yield [CRL, ACCESS_LIST], machine.restart

    def _after(self, tell: Callable[[], None]) -> Finding:
        tell()
        return self._look()

    def _after_all(self, tell: Callable[[], None]) -> Finding:
        try:
            return self._after(tell)
        except BrokerError as error:  # that it did not even start is a finding, too
            return Finding(unreachable=error.text)

    def _look(self) -> Finding:
        # Not by what lies there: somebody may have changed it a moment ago.
        return look(self._machine, self._access_list)

    def _path(self, place: str) -> Path:
        return self._machine.settings / place

    def _there(self, place: str) -> bytes | None:
        return self._machine.read(place)

    def _write(self, place: str, content: bytes) -> None:
        place_file(self._path(place), content, *_right(place, self._machine))


def _right(place: str, machine: BrokerMachine) -> tuple[int, tuple[int, int] | None]:
    """Permissions and owner of a file."""
    if place in PLACES.values():  # read again by the service's user at each reload
        return (_READ_BY_ALL if place == SETTINGS else _READ_BY_GROUP), machine.owner
    return (_READ_BY_ALL if place.startswith(f"{SITE}/") else PRIVATE_FILE), None
