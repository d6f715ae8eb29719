"""What the doctor looks at once all libraries load: each part of a board that rounds rest on.

Nothing is changed, and a running agent is not disturbed: the broker is spoken to by TLS alone,
since an MQTT connection under our name would throw the agent's own off.
"""

from __future__ import annotations

import os
import ssl
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from fedring.device.data import source_of
from fedring.device.doctor.findings import Finding
from fedring.device.enrolment.bootstrap import Bootstrap
from fedring.device.room import free_bytes
from fedring.device.settings import DeviceSettings
from fedring.device.trainers import trainer_of
from fedring.device.update.places import Places
from fedring.shared.broker import Broker, failed_everywhere, probe_tls
from fedring.shared.certificates import read_certificate, validity
from fedring.shared.credentials import Credentials
from fedring.shared.errors import BrokerError, UserError
from fedring.shared.identity import Authority, Role
from fedring.shared.state import prepare_folder
from fedring.shared.tls import nameless_context

LEAST_ROOM_BYTES: Final = 64 * 2**20
"""For the state, the model and a journal. An update asks for more when it comes."""
RENEWAL_DUE: Final = timedelta(days=30)
"""The agent renews long before; so late it must have failed."""

Examiner = Callable[[DeviceSettings], Iterator[Finding]]


def examine_board(config: Path) -> Iterator[Finding]:
    """Look at all that settings name.

    Args:
        config: the device's settings.
    """
    try:
        settings = DeviceSettings.load(config)
    except UserError as mistake:
        yield wrong("settings", mistake)
        return
    yield Finding("settings", f"{config} can be used")
    examiners: dict[str, Examiner] = {
        "clock": examine_clock,
        "certificate": examine_certificate,
        "broker": examine_broker,
        "data": examine_data,
        "training": examine_trainer,
        "state": examine_state,
        "room": examine_room,
        "update": examine_update,
    }
    for subject, examiner in examiners.items():
        try:
            yield from examiner(settings)
        except UserError as mistake:
            yield wrong(subject, mistake)


def wrong(subject: str, mistake: UserError) -> Finding:
    """What a mistake that the owner can mend looks like."""
    return Finding(subject, f"{mistake.text} [{mistake.name}]", good=False, remedy=mistake.hint)


def examine_clock(settings: DeviceSettings) -> Iterator[Finding]:
    """Hold the clock against times that are over: when the card was written, certificates began."""
    now = datetime.now(UTC)
    event, latest = max(_begun(settings), key=lambda one: one[1], default=("", now))
    if now < latest:
        yield Finding(
            "clock",
            f"it is {now:%Y-%m-%d %H:%M} here, before {event} ({latest:%Y-%m-%d})",
            good=False,
            remedy="sudo timedatectl set-ntp true (rounds go on, but times in logs are wrong)",
        )
    else:
        yield Finding("clock", f"{now:%Y-%m-%d %H:%M} UTC")


def _begun(settings: DeviceSettings) -> Iterator[tuple[str, datetime]]:
    """Times that are over; files that cannot be read are told elsewhere."""
    files = settings.fleet
    with suppress(UserError):
        yield "the fleet was made", validity(read_certificate(files.ca))[0]
    with suppress(UserError):
        yield "the certificate was made", validity(read_certificate(files.certificate))[0]
    with suppress(UserError):
        if files.bootstrap is not None:
            yield "the card was written", Bootstrap.load(files.bootstrap).flashed_at


def examine_certificate(settings: DeviceSettings) -> Iterator[Finding]:
    """See who this board is; before enrolment, that it can ask."""
    files = settings.fleet
    if not files.certificate.exists() and files.bootstrap is not None:
        bootstrap = Bootstrap.load(files.bootstrap)
        if bootstrap.code is None:
            yield Finding(
                "certificate",
                f"{bootstrap.name} has none, and its one-time code was used",
                good=False,
                remedy=f"fedring fleet reset {bootstrap.name}, then flash the card again",
            )
            return
        fleet = Authority.load(files.ca).fleet
        yield Finding(
            "certificate",
            f"{bootstrap.name} asks for its certificate of fleet {fleet}",
            remedy="the owner gives it: fedring fleet sign",
        )
        return
    identity = Credentials.load(files, Role.DEVICE).identity
    ends = validity(read_certificate(files.certificate))[1]
    text = f"{identity.name}, number {identity.number} of fleet {identity.fleet}, until {ends:%F}"
    left = ends - datetime.now(UTC)
    if left < RENEWAL_DUE:
        over = "it is over" if left < timedelta() else f"it ends in {left.days} days"
        yield Finding(
            "certificate",
            f"{text}: {over}, and was not renewed",
            good=False,
            remedy="on the owner's machine: fedring fleet sign --watch; if it is over: fedring"
            f" fleet reset {identity.name}, then flash the card again",
        )
    else:
        yield Finding("certificate", text)


def examine_broker(settings: DeviceSettings) -> Iterator[Finding]:
    """See that the broker is there, is the fleet's, and takes our certificate; at which names."""
    broker = _broker(settings)
    there, failures = [], []
    for named in broker.at_each_name():
        try:
            probe_tls(named)
        except BrokerError as failure:
            if failure.name == "broker.certificate-refused":
                raise
            failures.append(failure)
        else:
            there.append(str(named))
    if not there:
        raise failed_everywhere(failures)
    how = "without TLS" if broker.tls is None else "over TLS"
    answers = f"{' and '.join(there)} {'answer' if there[1:] else 'answers'} {how}"
    text = "; ".join([answers, *(one.text for one in failures)])
    yield Finding("broker", text, remedy=failures[0].hint if failures else "")


def _broker(settings: DeviceSettings) -> Broker:
    """The broker that this board has to do with now: of rounds, or of its enrolment."""
    files = settings.fleet
    if files.certificate.exists() or files.bootstrap is None:
        credentials = Credentials.load(files, Role.DEVICE)
        return credentials.broker(settings.broker, judge_dates=False)
    bootstrap = Bootstrap.load(files.bootstrap)
    tls: ssl.SSLContext = nameless_context(files.ca, earliest=bootstrap.flashed_at)
    first, *others = bootstrap.hosts
    return Broker(first, bootstrap.port, tls, tuple(others))


def examine_data(settings: DeviceSettings) -> Iterator[Finding]:
    """See that there is something to learn from."""
    source_of(settings.data).check()
    yield Finding("data", "can be read")


def examine_trainer(settings: DeviceSettings) -> Iterator[Finding]:
    """See that this board can learn in the way its owner chose."""
    trainer_of(settings.training)
    yield Finding("training", "can begin")


def examine_state(settings: DeviceSettings) -> Iterator[Finding]:
    """See that what must survive a crash can be written."""
    folder = settings.state.folder
    if not folder.exists():
        above = next(one for one in folder.parents if one.exists())
        if os.access(above, os.W_OK):
            yield Finding("state", f"{folder} will be made")
        else:
            yield _not_writable(folder, "is not there, and cannot be made")
        return
    prepare_folder(folder)
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"state")
            os.fsync(file.fileno())
    except OSError as error:
        yield _not_writable(folder, (error.strerror or "cannot be written to").lower())
    else:
        yield Finding("state", f"{folder} can be written to")


def _not_writable(folder: Path, why: str) -> Finding:
    return Finding(
        "state",
        f"{folder}: {why}",
        good=False,
        remedy=f"run this as the agent's user (sudo -u fedring ...); if it is the agent's own:"
        f" sudo install -d -m 700 -o fedring -g fedring {folder}; a disk that became read-only is"
        " often a card at its end",
    )


def examine_room(settings: DeviceSettings) -> Iterator[Finding]:
    """See that the disk is not full."""
    folder = settings.state.folder
    there = next(one for one in (folder, *folder.parents) if one.exists())
    free = free_bytes(there)
    text = f"{free / 2**20:,.0f} MiB are free for {folder}"
    if free < LEAST_ROOM_BYTES:
        yield Finding(
            "room",
            f"{text}, {LEAST_ROOM_BYTES / 2**20:.0f} MiB are needed",
            good=False,
            remedy="make room on that disk: sudo journalctl --vacuum-size=32M, sudo apt-get clean",
        )
    else:
        yield Finding("room", text)


def examine_update(settings: DeviceSettings) -> Iterator[Finding]:
    """Tell how the last update of the agent ended, where there was one."""
    places = Places.around(settings.state.folder)
    outcome = None if places is None else places.read_outcome()
    if outcome is not None:
        reason = f": {outcome.reason}" if outcome.reason else ""
        versions = f"from {outcome.from_version} to {outcome.to_version or 'another version'}"
        yield Finding("update", f"the last one, {versions}: {outcome.state}{reason}")
