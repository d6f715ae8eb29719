"""`fedring coordinator apply` on another machine: the folder goes there by ssh.

Two connections: the first carries the folder as a tar on its standard input; the second applies
it, and leaves standard input to whoever types a password for sudo. Nothing is trusted on the way:
the other machine verifies the folder itself.
"""

from __future__ import annotations

import io
import re
import shlex
import subprocess
import sys
import tarfile
from collections.abc import Mapping, Sequence
from typing import Final

from fedring.shared.errors import StateError

_RECEIVE: Final = 'umask 077 && folder=$(mktemp -d) && tar -x -f - -C "$folder" && echo "$folder"'
_FOLDER: Final = re.compile(r"/[A-Za-z0-9._/+-]+")
_SSH_FAILED: Final = 255


def apply_there(
    destination: str, files: Mapping[str, bytes], program: str | None, arguments: Sequence[str]
) -> int:
    """Copy a folder to another machine, apply it there, and remove the copy.

    Args:
        destination: as ssh takes it: USER@HOST, or ssh://USER@HOST:PORT.
        files: contents by path.
        program: where fedring is there; None for its path, else /opt/fedring/bin/fedring.
        arguments: further ones for `fedring coordinator apply`.

    Returns:
        Exit status of the command there, which has said all itself.

    Raises:
        StateError: ssh is not installed, does not get there, or cannot copy.
    """
    if destination.startswith("-"):
        raise StateError(f"{destination} is no USER@HOST", name="apply.ssh")
    sent = _ssh(["--", destination, _RECEIVE], input=_tar(files), stdout=subprocess.PIPE)
    folder = sent.stdout.decode(errors="replace").strip()
    if sent.returncode or not _FOLDER.fullmatch(folder):
        raise _failed(destination, "could not copy the folder to")
    terminal = ["-t"] if sys.stdin.isatty() else []
    applied = _ssh([*terminal, "--", destination, _applying(folder, program, arguments)])
    if applied.returncode == _SSH_FAILED:
        raise _failed(destination, "lost the connection to")
    return applied.returncode


def _applying(folder: str, program: str | None, arguments: Sequence[str]) -> str:
    """The script that applies a folder there, as root, and removes it."""
    found = (
        "$(command -v fedring || echo /opt/fedring/bin/fedring)"
        if program is None
        else shlex.quote(program)
    )
    command = shlex.join(["coordinator", "apply", folder, *arguments])
    return (
        f'fedring={found}; as_root=; [ "$(id -u)" = 0 ] || as_root=sudo;'
        f' $as_root "$fedring" {command}; status=$?; rm -rf {shlex.quote(folder)}; exit $status'
    )


def _tar(files: Mapping[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for path, content in files.items():
            member = tarfile.TarInfo(path)
            member.size = len(content)
            member.mode = 0o600
            archive.addfile(member, io.BytesIO(content))
    return packed.getvalue()


def _ssh(arguments: Sequence[str], **streams: object) -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(["ssh", *arguments], check=False, **streams)  # type: ignore[call-overload, no-any-return]  # noqa: S603, S607  # the person's own ssh
    except FileNotFoundError as error:
        raise StateError(
            "there is no ssh on this machine",
            name="process.missing-program",
            hint="sudo apt-get install openssh-client, or carry the folder over by other means",
        ) from error


def _failed(destination: str, what: str) -> StateError:
    return StateError(
        f"{what} {destination}; what ssh said is above",
        name="apply.ssh",
        hint=f"try: ssh {destination}",
    )
