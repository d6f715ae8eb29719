"""Mosquitto's access list with the names of those who lost their place, and a proof at its end.

Made on the owner's machine, signed with the rest, looked at once more before a broker gets it. It
is stricter than Mosquitto, for good reason: a line that Mosquitto 2.0.11 cannot read, or a file
that is missing, switches the *whole* list off at a reload (with `per_listener_settings`), and from
then on every board may read and write everything.

The last line allows one topic that nothing else allows, and that no two lists share. Whoever may
write it, and may not write `FORBIDDEN_TOPIC`, knows that the broker goes by this list to its end:

    user probe
    topic write fedring/+/probe/<digest of the lines above and of the CRL that goes with them>

`user NAME` with `topic deny #` wins over every `pattern`, for live connections as well.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from hashlib import sha256
from typing import Final

from fedring.shared.errors import BrokerError
from fedring.shared.identity import NAME_PATTERN, PROBE_NAME, RESERVED_NAMES

FORBIDDEN_TOPIC: Final = "fedring/x/probe/forbidden"
"""What no access list allows anybody to write."""

_LINE: Final = re.compile(
    r"(?:#[ -~]*)?"
    r"|user [a-z0-9-]{1,32}"
    r"|(?:topic|pattern) (?:read|write|readwrite|deny) (?:[A-Za-z0-9_%+-]+/)*(?:[A-Za-z0-9_%+-]+|#)"
)
_PROOF: Final = re.compile(r"topic write fedring/\+/probe/([0-9a-f]{32})")


def access_list(template: str, denied: Iterable[str], crl: bytes) -> bytes:
    """Write an access list.

    Args:
        template: the list of a fleet from which nobody is revoked.
        denied: names of devices none of whose certificates is valid any more.
        crl: the list of revoked certificates that goes with it, as it will be given to the broker.

    Raises:
        BrokerError: a line that Mosquitto might not read; a name that nobody may take away.
    """
    body = "\n".join([template.rstrip("\n"), *_deny_blocks(denied), *_PROBE_BLOCK]) + "\n"
    content = f"{body}topic write fedring/+/probe/{_digest(body, crl)}\n".encode()
    check_access_list(content, crl)
    return content


def check_access_list(content: bytes, crl: bytes) -> None:
    """Return if this is a list that Mosquitto reads to its end.

    Args:
        content: of the file.
        crl: the list of revoked certificates that goes with it.

    Raises:
        BrokerError: a line that it might not read, with its number; a list that was cut short or
            changed, that goes with another CRL, or that denies what a fleet cannot do without.
    """
    try:
        *lines, rest = content.decode("ascii").split("\n")
    except UnicodeDecodeError as error:
        place = content.count(b"\n", 0, error.start) + 1
        raise _unfit(f"line {place} holds something else than ASCII") from error
    for number, line in enumerate(lines, start=1):
        if not _LINE.fullmatch(line):
            raise _unfit(f"line {number} is none that Mosquitto surely reads: {line[:80]!a}")
    taken = set(denied_names(lines)) & RESERVED_NAMES
    if taken:
        raise _unfit(f"it denies everything to the {min(taken)}")
    body = "\n".join(lines[:-1]) + "\n"
    proof = _PROOF.fullmatch(lines[-1]) if lines and not rest else None
    if proof is None or lines[-len(_PROBE_BLOCK) - 1 : -1] != list(_PROBE_BLOCK):
        raise _unfit("its last lines are missing")
    if proof[1] != _digest(body, crl):
        raise _unfit("its last line belongs to another list, or to another crl.pem")


def proof_topic(content: bytes) -> str | None:
    """Give the topic that the last line of a list allows the probe to write.

    None for a list that was not made here.
    """
    lines = content.decode("ascii", "replace").splitlines()
    proof = _PROOF.fullmatch(lines[-1]) if lines else None
    return f"fedring/x/probe/{proof[1]}" if proof else None


def denied_names(lines: Iterable[str]) -> Iterator[str]:
    """Give the users to whom a list denies everything."""
    user = ""
    for line in lines:
        if line.startswith("user "):
            user = line.removeprefix("user ")
        elif line == "topic deny #":
            yield user


def _deny_blocks(names: Iterable[str]) -> Iterator[str]:
    yield ""
    yield "# --- Who lost its place: this wins over every pattern ---"
    for name in sorted(set(names)):
        if not NAME_PATTERN.fullmatch(name):
            raise _unfit(f"{name!a} is no name")
        yield f"user {name}"
        yield "topic deny #"


_PROBE_BLOCK: Final = (
    "",
    "# --- The proof that all lines above are in force ---",
    f"user {PROBE_NAME}",
    "topic deny fedring/+/device/#",
    "topic deny fedring/+/coordinator/#",
    "topic deny fedring/+/enrol/#",
)


def _digest(body: str, crl: bytes) -> str:
    return sha256(body.encode() + b"\0" + crl).hexdigest()[:32]


def _unfit(what: str) -> BrokerError:
    return BrokerError(
        f"access list: {what}",
        name="broker.access-list",
        hint="nothing was changed; make the folder anew on the owner's machine",
    )
