"""The agent's service as systemd sees it."""

from __future__ import annotations

import subprocess
from typing import Final

from attrs import frozen

UNIT: Final = "fedring-device.service"
_SHOWN: Final = ("ActiveState", "NRestarts", "Result", "StatusText")
_COMMAND_S: Final = 150  # systemd kills an agent that does not end after 90 s
_LAST_WORDS: Final = 400


@frozen
class ServiceState:
    """How the agent is.

    Attributes:
        ready: it has said READY, and runs.
        restarts: how often systemd has started it again by itself.
        told: what it says of itself, and how it ended last.
    """

    ready: bool
    restarts: int
    told: str


class Service:
    """The agent's service."""

    def start_anew(self) -> None:
        """End the agent, and start that of the current slot; does not wait for READY.

        Restarts count from here. In two commands: right after one `restart` that does not wait,
        the old agent may still be shown as ready.
        """
        _run("systemctl", "stop", UNIT)
        _run("systemctl", "start", "--no-block", UNIT)

    def state(self) -> ServiceState:
        """Look at it."""
        shown = _run("systemctl", "show", f"--property={','.join(_SHOWN)}", UNIT)
        facts = dict(line.partition("=")[::2] for line in shown.splitlines())
        told = [facts.get("StatusText", ""), facts.get("Result", "")]
        return ServiceState(
            ready=facts.get("ActiveState") == "active",
            restarts=int(facts.get("NRestarts") or 0),
            told=", ".join(part for part in told if part not in {"", "success"}),
        )

    def last_words(self) -> str:
        """The last line that the agent wrote."""
        # Not `--unit`: that has the words of systemd about it, too.
        own = f"_SYSTEMD_UNIT={UNIT}"
        line = _run("journalctl", own, "--lines=1", "--output=cat", "--no-pager")
        return line.strip()[-_LAST_WORDS:]


def _run(*command: str) -> str:
    done = subprocess.run(  # noqa: S603 - fixed words
        command, capture_output=True, text=True, errors="replace", check=True, timeout=_COMMAND_S
    )
    return done.stdout
