"""FLEET/server: all that the machines of broker and coordinator get, as one signed folder.

    manifest, manifest.sig       purpose "server", number = that of the revocation list
    ca.crt                       the authority's certificate
    broker/                      ca.crt, broker.key, broker.crt, crl.pem, lost
           mosquitto.conf, acl   of this release, the access list without those who are revoked
           enrolment.conf, enrolment.acl, enrolment-coordinator.acl
    canary/                      canary.key, .crt: revoked from the beginning; probe.key, .crt: good
    coordinator/                 ca.crt, coordinator.key, .crt, revoked
                coordinator.toml to start from

Only the files that are named here are signed and handed out: no code, no key of the authority, no
device's. Keys are made once, and live here and on their machine alone; lists are made anew with
each change, and the manifest with them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from fedring.fleet.folders import identity_files, pem, settings
from fedring.fleet.issuing import Issuer, new_key
from fedring.fleet.register import Register
from fedring.shared.access_lists import access_list
from fedring.shared.signed_folders import (
    MANIFEST_FILE,
    SIGNATURE_FILE,
    File,
    Manifest,
    sign_manifest,
)
from fedring.shared.state import prepare_folder, write_file

PURPOSE: Final = "server"
IDENTITIES: Final = ("broker/broker", "coordinator/coordinator", "canary/canary", "canary/probe")
"""Paths of keys and certificates, without `.key` and `.crt`."""
CANARY_CERTIFICATE: Final = "canary/canary.crt"
RENEWED: Final = ("broker/broker.crt", "coordinator/coordinator.crt", "canary/probe.crt")
"""What a renewal makes anew; the canary may stay."""
BROKER_FILES: Final = (
    "mosquitto.conf",
    "enrolment.conf",
    "enrolment.acl",
    "enrolment-coordinator.acl",
)
"""Files of this release that go to the broker as they are."""
_ACCESS_LIST: Final = "acl"


def new_identity(issuer: Issuer, path: str, addresses: Sequence[str]) -> dict[str, bytes]:
    """Make key and certificate of one of `IDENTITIES`.

    Args:
        issuer: the fleet authority.
        path: which.
        addresses: of the broker.
    """
    certify: dict[str, Callable[[ec.EllipticCurvePublicKey], x509.Certificate]] = {
        "broker": lambda key: issuer.broker(key, addresses),
        "coordinator": issuer.coordinator,
        "canary": issuer.canary,
        "probe": issuer.probe,
    }
    folder, name = path.split("/")
    key = new_key()
    certificate = certify[name](key.public_key())
    files = identity_files(name, key, certificate, pem(issuer.certificate))
    return {f"{folder}/{file}": content for file, content in files.items()}


def new_identities(issuer: Issuer, addresses: Sequence[str]) -> dict[str, bytes]:
    """Make all of `IDENTITIES`."""
    files: dict[str, bytes] = {}
    for path in IDENTITIES:
        files |= new_identity(issuer, path, addresses)
    return files


def read_identities(folder: Path, register: Register) -> dict[str, bytes]:
    """Give those of `IDENTITIES` that are in FLEET/server and not retired.

    The canary's is always retired, and does well so.
    """
    found: dict[str, bytes] = {}
    for path in IDENTITIES:
        files = [folder / f"{path}{suffix}" for suffix in (".key", ".crt")]
        if not all(file.exists() for file in files):
            continue
        key, certificate = (file.read_bytes() for file in files)
        if register.is_retired(serial_of(certificate)) == (f"{path}.crt" == CANARY_CERTIFICATE):
            found |= {f"{path}.key": key, f"{path}.crt": certificate}
    return found


def owner_files(issuer: Issuer) -> dict[str, bytes]:
    """Make key and certificate with which the owner's machine enters the broker."""
    key = new_key()
    certificate = issuer.owner(key.public_key())
    return identity_files("owner", key, certificate, pem(issuer.certificate))


def serial_of(certificate: bytes) -> int:
    """Serial number of a certificate in PEM."""
    return x509.load_pem_x509_certificate(certificate).serial_number


def server_files(
    issuer: Issuer, register: Register, identities: Mapping[str, bytes]
) -> dict[str, bytes]:
    """Give the whole signed folder, by path.

    Args:
        issuer: the fleet authority.
        register: of the fleet; the canary's serial number is among the retired ones.
        identities: keys and certificates, all of `IDENTITIES`.

    Raises:
        BrokerError: no access list can be made of it.
    """
    ca = pem(issuer.certificate)
    crl = issuer.crl(register.list_number, register.revoked_serials())
    lost = sorted(f"{name} {serial:x}\n" for name, serial in register.lost())
    files = {
        "ca.crt": ca,
        **{f"{part}/ca.crt": ca for part in ("broker", "canary", "coordinator")},
        **identities,
        "broker/crl.pem": crl,
        "broker/lost": "".join(lost).encode(),
        "broker/acl": access_list(_template(register.fleet), register.denied_names(), crl),
        **{f"broker/{name}": _shipped(name) for name in BROKER_FILES},
        "coordinator/revoked": issuer.revocation(register.revocation()),
        "coordinator/coordinator.toml": settings(
            "coordinator",
            {
                'host = "localhost"': f'host = "{register.broker[0]}"',
                'folder = "state"': 'folder = "/var/lib/fedring"',
                "#[enrolment]": "[enrolment]",
            },
        ),
    }
    manifest = Manifest(
        PURPOSE,
        register.fleet,
        register.list_number,
        {},
        {path: File.of(content) for path, content in files.items()},
    )
    encoded, signature = sign_manifest(manifest, issuer.key)
    return {**files, MANIFEST_FILE: encoded, SIGNATURE_FILE: signature}


def write_server_files(folder: Path, files: Mapping[str, bytes]) -> None:
    """Bring FLEET/server to this state; what has not changed is not touched.

    A crash leaves a folder whose manifest does not hold: nobody applies it, and the next change
    mends it.

    Raises:
        StateError: nothing can be written there.
    """
    for path, content in files.items():
        file = folder / path
        if file.is_file() and file.read_bytes() == content:
            continue
        prepare_folder(file.parent)
        write_file(file, content)


def _template(fleet: str) -> str:
    """The shipped access list, for this fleet's topics alone."""
    return _shipped(_ACCESS_LIST).decode("ascii").replace("fedring/+/", f"fedring/{fleet}/")


def _shipped(name: str) -> bytes:
    """A wheel carries the broker's files in this package; a checkout has them in broker_config/."""
    packed = Path(__file__).parent / "broker" / name
    file = packed if packed.is_file() else Path(__file__).parents[3] / "broker_config" / name
    return file.read_bytes()
