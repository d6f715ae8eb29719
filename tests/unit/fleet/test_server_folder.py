"""FLEET/server: what the machines of broker and coordinator get, and what stays here."""

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from fedring.fleet.authority import Fleet, create_fleet
from fedring.fleet.issuing import new_key
from fedring.fleet.server_folder import BROKER_FILES
from fedring.shared.access_lists import check_access_list, denied_names
from fedring.shared.certificates import read_certificate, read_private_key
from fedring.shared.errors import IdentityError, SignedFolderError
from fedring.shared.identity import Authority, Identity
from fedring.shared.signed_folders import Manifest, verify_folder
from fedring.shared.state import write_file

BROKER_CONFIG = Path(__file__).parents[3] / "broker_config"


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    return create_fleet(tmp_path / "greenhouse", "greenhouse", ["broker.local"])


def verified(fleet: Fleet) -> Manifest:
    return verify_folder(fleet.server_folder, Authority.load(fleet.ca_file), "server")


def test_it_is_signed_from_the_beginning(fleet: Fleet) -> None:
    manifest = verified(fleet)
    assert (manifest.fleet, manifest.number) == ("greenhouse", 1)


@pytest.mark.parametrize(
    ("change", "grows"),
    [
        (lambda fleet: fleet.revoke("b01"), True),
        (lambda fleet: fleet.reset("b01"), True),
        (lambda fleet: fleet.next_epoch(), True),
        (lambda fleet: fleet.renew_servers(), True),
        (lambda fleet: fleet.certify("b02", new_key().public_key()), False),
        (lambda fleet: fleet.add("b04"), False),
        (lambda fleet: fleet.invite(["b04"]), False),
    ],
)
def test_it_is_whole_after_every_change(
    fleet: Fleet, change: Callable[[Fleet], object], grows: bool
) -> None:
    fleet.add("b01")
    fleet.invite(["b02"])
    change(fleet)
    assert verified(fleet).number == fleet.list_number == 1 + grows
    numbers = {
        x509.load_pem_x509_crl((fleet.broker_folder / "crl.pem").read_bytes())
        .extensions.get_extension_for_class(x509.CRLNumber)
        .value.crl_number,
        Authority.load(fleet.ca_file)
        .revocation((fleet.coordinator_folder / "revoked").read_bytes())
        .number,
    }
    assert numbers == {fleet.list_number}


def test_nothing_that_must_stay_is_in_it(fleet: Fleet) -> None:
    """Neither the authority's key, nor a code, nor the key of a board or of the owner."""
    fleet.add("b01")
    fleet.invite(["b02", "b03"])
    fleet.certify("b02", new_key().public_key())
    fleet.revoke("b01")
    secrets = {
        fleet.folder / "authority" / "ca.key",
        fleet.folder / "codes" / "b02",
        fleet.folder / "codes" / "b03",
        fleet.owner_folder / "owner.key",
        fleet.device_folder("b01") / "device.key",
    }
    told = [_heart(file.read_bytes()) for file in secrets]
    authority = load_pem_private_key((fleet.folder / "authority" / "ca.key").read_bytes(), None)
    for file in fleet.server_folder.rglob("*"):
        if file.is_dir():
            continue
        content = file.read_bytes()
        assert not [secret for secret in told if secret in content], file
        if file.suffix == ".key":
            assert read_private_key(file).private_numbers() != authority.private_numbers()  # type: ignore[union-attr]
    signed = set(verified(fleet).files) | {"manifest", "manifest.sig"}
    assert {
        str(file.relative_to(fleet.server_folder))
        for file in fleet.server_folder.rglob("*")
        if file.is_file()
    } == signed


def _heart(secret: bytes) -> bytes:
    """The part of a key or code that makes it secret, as it is written."""
    lines = [line for line in secret.splitlines() if not line.startswith(b"-----")]
    return b"\n".join(lines)


def test_what_somebody_left_there_is_not_signed(fleet: Fleet) -> None:
    (fleet.server_folder / "ca.key").write_text("by mistake")
    fleet.next_epoch()
    with pytest.raises(SignedFolderError, match=r"ca\.key is not in the manifest"):
        verified(fleet)


def test_a_crash_at_any_file_is_mended_by_the_next_change(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place in range(5):  # three lists, manifest, signature
        written: list[Path] = []

        def crash(
            path: Path, data: bytes, place: int = place, written: list[Path] = written
        ) -> None:
            if len(written) == place:
                raise KeyboardInterrupt
            written.append(path)
            write_file(path, data)

        with monkeypatch.context() as patched:
            patched.setattr("fedring.fleet.server_folder.write_file", crash)
            with pytest.raises(KeyboardInterrupt):
                fleet.next_epoch()
        if place == 0:
            assert verified(fleet).number == fleet.list_number - 1
        else:
            with pytest.raises(SignedFolderError):
                verified(fleet)
        fleet.next_epoch()
        assert verified(fleet).number == fleet.list_number


def test_the_broker_gets_the_files_of_this_release(fleet: Fleet) -> None:
    for name in BROKER_FILES:
        given = (fleet.broker_folder / name).read_bytes()
        assert given == (BROKER_CONFIG / name).read_bytes()
    crl, access_list = ((fleet.broker_folder / name).read_bytes() for name in ("crl.pem", "acl"))
    check_access_list(access_list, crl)
    shipped = (BROKER_CONFIG / "acl").read_bytes()
    assert access_list.startswith(shipped.replace(b"fedring/+/", b"fedring/greenhouse/"))


def test_the_access_list_denies_those_whose_name_is_free(fleet: Fleet) -> None:
    fleet.add_all(["b01", "b02"])
    fleet.revoke("b01")
    lines = (fleet.broker_folder / "acl").read_text().splitlines()
    assert list(denied_names(lines)) == ["b01"]


def test_owner_canary_and_probe_have_no_role_in_the_protocol(fleet: Fleet) -> None:
    for folder, name in (
        ("owner", "owner"),
        ("server/canary", "canary"),
        ("server/canary", "probe"),
    ):
        stem = fleet.folder / folder / name
        with pytest.raises(Exception, match=re.escape(f"OU='{name}'")) as caught:
            Identity.load(stem.with_suffix(".key"), stem.with_suffix(".crt"))
        assert isinstance(caught.value.__cause__, IdentityError)


class TestRenewal:
    def test_all_keys_are_new_and_the_old_certificates_refused(self, fleet: Fleet) -> None:
        names = ["server/broker/broker", "server/coordinator/coordinator", "server/canary/probe"]
        files = [fleet.folder / f"{name}.crt" for name in (*names, "owner/owner")]
        before = [read_certificate(file) for file in files]
        canary = (fleet.server_folder / "canary" / "canary.crt").read_bytes()
        fleet.renew_servers()
        crl = x509.load_pem_x509_crl((fleet.broker_folder / "crl.pem").read_bytes())
        refused = {entry.serial_number for entry in crl}
        for file, old in zip(files, before, strict=True):
            new = read_certificate(file)
            assert new.public_key() != old.public_key()
            assert new.serial_number not in refused
            assert old.serial_number in refused
            key = read_private_key(file.with_suffix(".key"))
            assert key.public_key() == new.public_key()
        assert (fleet.server_folder / "canary" / "canary.crt").read_bytes() == canary
        # A thief's connections end, the servers' own begin anew.
        lost = (fleet.broker_folder / "lost").read_text().splitlines()
        assert lost == sorted(
            f"{name} {old.serial_number:x}"
            for name, old in zip(("broker", "coordinator", "probe", "owner"), before, strict=True)
            if name in {"coordinator", "owner"}
        )

    def test_the_broker_may_have_moved(self, fleet: Fleet) -> None:
        fleet.renew_servers(["mqtt.local", "192.168.1.11"])
        assert Fleet(fleet.folder).broker == ("mqtt.local", "192.168.1.11")
        certificate = read_certificate(fleet.broker_folder / "broker.crt")
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert names.get_values_for_type(x509.DNSName) == ["mqtt.local"]

    def test_a_crash_on_the_way_is_mended_by_the_next_change(
        self, fleet: Fleet, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        before = read_certificate(fleet.coordinator_folder / "coordinator.crt")
        with monkeypatch.context() as patched:
            patched.setattr(os, "fsync", _crash_after(4))
            with pytest.raises(KeyboardInterrupt):
                fleet.renew_servers()
        fleet.next_epoch()
        verified(fleet)
        after = read_certificate(fleet.coordinator_folder / "coordinator.crt")
        assert after.serial_number != before.serial_number
        key = read_private_key(fleet.coordinator_folder / "coordinator.key")
        assert key.public_key() == after.public_key()


def _crash_after(n_calls: int) -> Callable[[int], None]:
    left = [n_calls]

    def fsync(_: int) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt

    return fsync
