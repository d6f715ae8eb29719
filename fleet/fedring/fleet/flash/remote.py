"""A board that already runs and answers to ssh: asked what it is, sent files, told to install.

One connection serves all steps, so that a password is asked for once.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from attrs import frozen

from fedring.fleet.bundles.targets import ARCHS, PYTHONS, Target
from fedring.fleet.flash.plans import Plan, fit
from fedring.shared.errors import FlashError

_PIECE: Final = 64 * 1024
_BLOCK_BYTES: Final = 4096  # of usual file systems: each file may waste most of one
_PLACE: Final = ".fedring-payload"

_ASK: Final = """\
command -v python3 >/dev/null || { echo "no python3"; exit 0; }
python3 -c 'import sys, sysconfig
abi = (sysconfig.get_config_var("SOABI") or "?-?-?").split("-")
print("%d.%d" % sys.version_info[:2], abi[2])'
df -Pk . | awk 'NR == 2 { print $4 }'
"""
_TAKE: Final = (
    f"umask 077 && rm -rf {_PLACE} && mkdir {_PLACE} && tar -xf - -C {_PLACE}"  # in its home folder
)
_INSTALL: Final = (
    'if [ "$(id -u)" = 0 ]; then run="sh"; else run="sudo sh"; fi;'
    f" $run {_PLACE}/install.sh; status=$?; rm -rf {_PLACE}; exit $status"
)


@frozen
class Board:
    """What a board says of itself.

    Attributes:
        target: which bundle it runs.
        free_bytes: room where it takes files.
    """

    target: Target
    free_bytes: int

    def plan(self, title: str, sizes: Mapping[str, int]) -> Plan:
        """See whether a payload fits beside what is there; nothing is sent.

        Room for two slots in /opt is seen to by `install.sh`, before it changes anything.

        Args:
            title: of the board.
            sizes: bytes of the payload's files by name.

        Raises:
            FlashError: no room.
        """
        return fit(
            title,
            sizes,
            needed_bytes=sum(sizes.values()) + _BLOCK_BYTES * len(sizes),
            free_bytes=self.free_bytes,
            hint="make room on the board, in the home folder of whom you log in as",
        )


class Remote:
    """A connection to a board by ssh; a context manager.

    Args:
        address: `user@host`, or a name of ssh's own settings.

    Raises:
        FlashError: this machine has no ssh.
    """

    def __init__(self, address: str) -> None:
        self._address = address
        self._folder = tempfile.TemporaryDirectory(prefix="fedring-ssh-")
        if shutil.which("ssh") is None:
            raise FlashError(
                "there is no ssh on this machine",
                name="flash.missing-program",
                hint="sudo apt-get install openssh-client",
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        subprocess.run(  # noqa: S603 - no shell
            self._ssh("-O", "exit"), capture_output=True, check=False
        )
        self._folder.cleanup()

    def ask(self) -> Board:
        """Ask what it is.

        Raises:
            FlashError: not reached, or no bundle runs there.
        """
        done = subprocess.run(  # noqa: S603 - no shell here; the board's gets our text
            [*self._ssh(), _ASK], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, check=False
        )
        if done.returncode != 0:
            raise FlashError(
                f"{self._address} cannot be reached by ssh",
                name="flash.unreachable",
                hint=f"try it by hand: ssh {self._address}",
            )
        said = done.stdout.decode(errors="replace").split()
        if (
            len(said) != 3
            or said[0] not in PYTHONS
            or said[1] not in ARCHS
            or not said[2].isdigit()
        ):
            raise FlashError(
                f"no bundle runs on {self._address}: it says {' '.join(said) or 'nothing'!r}",
                name="flash.unfit",
                hint=f"fedring needs Python {PYTHONS[0]} to {PYTHONS[-1]} for {' or '.join(ARCHS)}",
            )
        return Board(Target(said[0], said[1]), int(said[2]) * 1024)

    def send(self, archive: bytes, progress: Callable[[int], None]) -> None:
        """Send a payload, as a tar archive; nobody else on the board can read it.

        Args:
            archive: what it holds.
            progress: called with bytes sent.

        Raises:
            FlashError: it did not arrive.
        """
        with subprocess.Popen(  # noqa: S603 - no shell here
            [*self._ssh(), _TAKE], stdin=subprocess.PIPE
        ) as process:
            assert process.stdin is not None  # noqa: S101
            try:
                for start in range(0, len(archive), _PIECE):
                    piece = archive[start : start + _PIECE]
                    process.stdin.write(piece)
                    progress(len(piece))
                process.stdin.close()
            except BrokenPipeError:
                pass  # the status tells
        if process.returncode != 0:
            raise FlashError(
                f"{self._address} did not take the payload",
                name="flash.unreachable",
                hint="see what ssh said above; is there room in its home folder?",
            )

    def install(self, *, terminal: bool) -> None:
        """Run `install.sh` there, as root; then the payload is removed, whatever came of it.

        Args:
            terminal: that sudo may ask for a password on ours.

        Raises:
            FlashError: it failed; what it said was shown.
        """
        options = ["-t"] if terminal else []
        done = subprocess.run(  # noqa: S603 - no shell here
            [*self._ssh(*options), _INSTALL], check=False
        )
        if done.returncode != 0:
            raise FlashError(
                f"install.sh failed on {self._address}",
                name="flash.not-installed",
                hint="what it said above tells why; again is no harm",
            )

    def _ssh(self, *options: str) -> list[str]:
        control = Path(self._folder.name) / "c"  # sockets have short paths, folders of macOS long
        shared = ["-o", "ControlMaster=auto", "-o", f"ControlPath={control}"]
        return ["ssh", *shared, "-o", "ControlPersist=60", *options, "--", self._address]
