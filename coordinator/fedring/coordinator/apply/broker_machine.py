"""The machine that Mosquitto runs on: where its files belong, and how it is told of new ones."""

from __future__ import annotations

import os
import pwd
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from types import MappingProxyType
from typing import Final, Literal

from attrs import Factory, field, frozen

from fedring.coordinator.apply.placing import is_own, read_own
from fedring.shared.errors import BrokerError

SETTINGS: Final = "mosquitto.conf"
ACCESS_LIST: Final = "acl"
CRL: Final = "fedring/crl.pem"
AUTHORITY: Final = "fedring/ca.crt"
FOLDER: Final = "fedring"
SITE: Final = "site"
LOST: Final = "fedring/lost"
PROBES: Final = "fedring/probes"

PLACES: Final = MappingProxyType(
    {
        "broker/mosquitto.conf": SETTINGS,
        "broker/enrolment.acl": "enrolment.acl",
        "broker/enrolment-coordinator.acl": "enrolment-coordinator.acl",
        "broker/enrolment.conf": "enrolment.conf",
        "broker/ca.crt": AUTHORITY,
        "broker/broker.key": "fedring/broker.key",
        "broker/broker.crt": "fedring/broker.crt",
        "broker/crl.pem": CRL,
        "broker/acl": ACCESS_LIST,
    }
)
"""Where files of the signed folder belong in /etc/mosquitto, in the order of their going there."""

_ENROLMENT: Final = "fedring-enrolment"


def _service_owner(root: Path) -> tuple[int, int] | None:
    """Root, and the group of the user that Mosquitto becomes, who reads files at a reload."""
    if os.geteuid() != 0 or root != Path("/"):
        return None
    try:
        user = pwd.getpwnam("mosquitto")
    except KeyError as error:
        raise BrokerError(
            "there is no user mosquitto on this machine",
            name="broker.missing-program",
            hint="install the broker first: sudo apt-get install mosquitto",
        ) from error
    return 0, user.pw_gid


def systemctl(verb: Literal["reload", "restart"]) -> Callable[[], None]:
    """Give what tells systemd to do this to Mosquitto, and to that for enrolment if it runs."""

    def tell() -> None:
        _systemctl(f"try-{verb}-or-restart" if verb == "reload" else f"try-{verb}", _ENROLMENT)
        said = _systemctl(verb, "mosquitto")
        if said is not None:
            raise BrokerError(
                f"`systemctl {verb} mosquitto` failed: {said}",
                name="broker.not-told",
                hint="the new files are in place: see `journalctl -u mosquitto`, start it with"
                " `sudo systemctl restart mosquitto`, then apply the folder again",
            )

    return tell


def _systemctl(verb: str, unit: str) -> str | None:
    """Give what went wrong, None if nothing."""
    try:
        done = subprocess.run(  # noqa: S603  # our own verbs and units
            ["/usr/bin/systemctl", verb, unit], check=False, capture_output=True, text=True
        )
    except FileNotFoundError:
        return "there is no systemd on this machine; see --reload and --restart"
    return done.stderr.strip() if done.returncode else None


@frozen
class BrokerMachine:
    """The machine that Mosquitto runs on.

    Attributes:
        root: where its file system begins.
        reload: makes Mosquitto read CRL, certificates and access list again; raises BrokerError.
        restart: ends and starts it; raises BrokerError.
        owner: user and group that its files belong to: root, who starts Mosquitto, and the group
            of the user that it becomes; None for our own, as in every other root.
        patience_s: how long what is wrong is put down to a reload that is not over yet, seconds.
    """

    root: Path = Path("/")
    reload: Callable[[], None] = field(factory=lambda: systemctl("reload"))
    restart: Callable[[], None] = field(factory=lambda: systemctl("restart"))
    owner: tuple[int, int] | None = field(
        default=Factory(lambda self: _service_owner(self.root), takes_self=True)
    )
    patience_s: float = 5.0

    @property
    def settings(self) -> Path:
        """The folder of Mosquitto's settings."""
        return self.root / "etc" / "mosquitto"

    @property
    def eviction_socket(self) -> Path:
        """The broker's socket for root of this machine."""
        return self.root / "run" / "mosquitto" / "eviction.sock"

    def read(self, place: str) -> bytes | None:
        """Content of a file of Mosquitto's settings, None where there is none of root's."""
        return read_own(self.settings / place)

    def foreign(self) -> Iterator[Path]:
        """Give what Mosquitto goes by, or we do, and others than root could have changed."""
        for place in (FOLDER, SITE, PROBES, *PLACES.values()):
            path = self.settings / place
            if os.path.lexists(path) and not is_own(path):
                yield path
