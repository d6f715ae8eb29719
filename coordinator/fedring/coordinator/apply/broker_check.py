"""Whether a broker goes by the files that were put into place last; nothing is changed."""

from __future__ import annotations

from datetime import UTC, datetime

from fedring.coordinator.apply.broker_machine import (
    ACCESS_LIST,
    CRL,
    PROBES,
    SETTINGS,
    BrokerMachine,
)
from fedring.coordinator.apply.crl import Touchstones, check_crl
from fedring.coordinator.apply.enforcement import Finding, Probes, settle
from fedring.coordinator.apply.listening import listening
from fedring.shared.access_lists import check_access_list, proof_topic
from fedring.shared.errors import BrokerError, StateError


def check_broker(machine: BrokerMachine) -> None:
    """See that the broker goes by the files that were put into place last.

    Somebody may have changed them, or made it read them again while they were damaged.

    Args:
        machine: where.

    Raises:
        BrokerError: it does not, files are not the owner's any more, or not root's.
        StateError: nothing was ever put into place.
    """
    probes = machine.settings / PROBES
    if not probes.is_dir():
        raise StateError(
            f"there is no {probes}: no folder of the fleet's owner was applied on this machine",
            name="state.missing",
            hint="sudo fedring coordinator apply FOLDER",
        )
    for path in machine.foreign():
        raise BrokerError(
            f"others than root can change {path}, by which Mosquitto goes when root starts it",
            name="broker.foreign-file",
            hint="an earlier fedring left it so: apply the owner's folder again",
        )
    content = {place: machine.read(place) or b"" for place in (ACCESS_LIST, CRL)}
    touchstones = Touchstones.read(
        *((probes / name).read_bytes() for name in ("canary.crt", "probe.crt", "ca.crt"))
    )
    finding = look(machine, content[ACCESS_LIST])
    if finding.unreachable:
        raise BrokerError(
            f"the broker cannot be looked at: {finding}",
            name="broker.unreachable",
            hint="see `systemctl status mosquitto`",
        )
    if not finding.holds:
        raise BrokerError(
            f"the broker does not keep revoked boards out: {finding}",
            name="broker.not-in-force",
            hint="apply the owner's folder again; if that does not mend it, stop the broker:"
            " sudo systemctl stop mosquitto",
        )
    # What is in force is sound; what lies on the disk would be at the next reload.
    check_crl(content[CRL], touchstones, datetime.now(UTC), before=None)
    check_access_list(content[ACCESS_LIST], content[CRL])


def look(machine: BrokerMachine, access_list: bytes) -> Finding:
    """Look at the broker until all is well, or its patience is over.

    Args:
        machine: where.
        access_list: that it should go by.
    """
    probes = Probes(*listening(machine.settings / SETTINGS), machine.settings / PROBES)
    topic = proof_topic(access_list)
    return settle(lambda: probes.look(topic), machine.patience_s)
