"""The fleet folder: what is made, what is never made twice, and what a crash leaves."""

import base64
import json
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID

from fedring.coordinator.settings import CoordinatorSettings
from fedring.device.settings import DeviceSettings
from fedring.fleet import authority, passphrases
from fedring.fleet.authority import Fleet, create_fleet
from fedring.shared.certificates import read_certificate
from fedring.shared.errors import CertificateError, StateError
from fedring.shared.identity import Authority, Identity, Role
from fedring.shared.state import lock_folder


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    return create_fleet(tmp_path / "greenhouse", "greenhouse", ["broker.local", "192.168.1.10"])


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def known(fleet: Fleet) -> Authority:
    return Authority.load(fleet.ca_file)


def certificate_of(fleet: Fleet, name: str) -> bytes:
    folder = fleet.device_folder(name)
    return Identity.load(folder / "device.key", folder / "device.crt").certificate


def test_a_new_fleet_has_all_that_broker_and_coordinator_need(fleet: Fleet) -> None:
    assert files(fleet.folder) == {
        "fleet.json",
        "revoked",
        "authority/ca.crt",
        "authority/ca.key",
        "owner/ca.crt",
        "owner/owner.key",
        "owner/owner.crt",
        "server/manifest",
        "server/manifest.sig",
        "server/ca.crt",
        "server/canary/ca.crt",
        "server/canary/canary.key",
        "server/canary/canary.crt",
        "server/canary/probe.key",
        "server/canary/probe.crt",
        "server/coordinator/ca.crt",
        "server/coordinator/coordinator.key",
        "server/coordinator/coordinator.crt",
        "server/coordinator/coordinator.toml",
        "server/coordinator/revoked",
        "server/broker/ca.crt",
        "server/broker/broker.key",
        "server/broker/broker.crt",
        "server/broker/crl.pem",
        "server/broker/lost",
        "server/broker/acl",
        "server/broker/mosquitto.conf",
        "server/broker/enrolment.conf",
        "server/broker/enrolment.acl",
        "server/broker/enrolment-coordinator.acl",
    }
    folder = fleet.coordinator_folder
    coordinator = Identity.load(folder / "coordinator.key", folder / "coordinator.crt")
    assert known(fleet).peer(coordinator.certificate).role is Role.COORDINATOR


def test_only_the_owner_can_read_any_of_it(fleet: Fleet) -> None:
    fleet.add("b01")
    for path in [fleet.folder, *fleet.folder.rglob("*")]:
        assert path.stat().st_mode & 0o777 == (0o700 if path.is_dir() else 0o600), path


def test_a_device_folder_is_ready(fleet: Fleet) -> None:
    folder = fleet.add("b01")
    assert files(folder) == {"ca.crt", "device.key", "device.crt", "device.toml", "revoked"}
    peer = known(fleet).peer(certificate_of(fleet, "b01"))
    assert (peer.name, peer.number, peer.role) == ("b01", 1, Role.DEVICE)
    assert known(fleet).revocation((folder / "revoked").read_bytes()).number == 1


def test_its_settings_can_be_used_once_there_is_data(fleet: Fleet) -> None:
    folder = fleet.add("b01", threshold=5)
    (folder / "data.csv").touch()
    settings = DeviceSettings.load(folder / "device.toml")
    assert settings.broker.host == "broker.local"
    assert settings.privacy.threshold == 5
    assert settings.fleet.key == folder / "device.key"


def test_the_coordinators_settings_can_be_used(fleet: Fleet) -> None:
    settings = CoordinatorSettings.load(fleet.coordinator_folder / "coordinator.toml")
    assert settings.broker.host == "broker.local"
    assert settings.fleet.revoked == fleet.coordinator_folder / "revoked"
    assert settings.state.folder == Path("/var/lib/fedring")


@pytest.mark.parametrize(("n_devices", "threshold"), [(15, 3), (16, 7)])
def test_the_threshold_suits_the_size_of_the_fleet(
    fleet: Fleet, n_devices: int, threshold: int
) -> None:
    folders = fleet.add_all([f"b{number:02}" for number in range(1, n_devices + 1)])
    assert f"\nthreshold = {threshold}\n" in (folders[0] / "device.toml").read_text()


def test_openssl_agrees_with_all_certificates(fleet: Fleet) -> None:
    device = fleet.add("b01") / "device.crt"
    coordinator = fleet.coordinator_folder / "coordinator.crt"
    broker = fleet.broker_folder / "broker.crt"
    for purpose, certificates in (
        ("sslclient", [device, coordinator]),
        ("sslserver", [broker]),
    ):
        trusted = ["-CAfile", str(fleet.ca_file)]
        revoked = ["-crl_check", "-CRLfile", str(fleet.broker_folder / "crl.pem")]
        subprocess.run(
            ["openssl", "verify", "-x509_strict", "-purpose", purpose, *trusted, *revoked]
            + [str(certificate) for certificate in certificates],
            check=True,
            capture_output=True,
        )


def test_broker_and_board_cannot_play_each_other(fleet: Fleet) -> None:
    board = fleet.add("b01") / "device.crt"
    for file, usage in (
        (board, ExtendedKeyUsageOID.CLIENT_AUTH),
        (fleet.broker_folder / "broker.crt", ExtendedKeyUsageOID.SERVER_AUTH),
    ):
        found = read_certificate(file).extensions.get_extension_for_class(x509.ExtendedKeyUsage)
        assert list(found.value) == [usage]


def test_the_broker_is_named_by_host_and_address(fleet: Fleet) -> None:
    certificate = read_certificate(fleet.broker_folder / "broker.crt")
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["broker.local"]
    assert [str(ip) for ip in names.get_values_for_type(x509.IPAddress)] == ["192.168.1.10"]


def test_dates_leave_room_for_wrong_clocks(fleet: Fleet) -> None:
    now = datetime.now(UTC)
    crl = x509.load_pem_x509_crl((fleet.broker_folder / "crl.pem").read_bytes())
    assert crl.next_update_utc is not None
    spans = [(crl.last_update_utc, crl.next_update_utc)]
    for file in (
        fleet.ca_file,
        fleet.broker_folder / "broker.crt",
        fleet.add("b01") / "device.crt",
    ):
        certificate = read_certificate(file)
        spans.append((certificate.not_valid_before_utc, certificate.not_valid_after_utc))
    for start, end in spans:
        assert now - start > timedelta(hours=23)
        assert end - now > timedelta(days=3649)


class TestNumbers:
    def test_they_grow_also_in_another_process(self, fleet: Fleet) -> None:
        fleet.add("b01")
        again = Fleet(fleet.folder)
        again.unlock(None)
        again.add("b02")
        fleet.add("b03")  # this object had not heard of b02
        assert [(device.name, device.number) for device in fleet.devices] == [
            ("b01", 1),
            ("b02", 2),
            ("b03", 3),
        ]

    def test_a_name_is_given_again_after_revocation_a_number_never(self, fleet: Fleet) -> None:
        folder = fleet.add("b01")
        lost = certificate_of(fleet, "b01")
        fleet.revoke("b01")
        with pytest.raises(StateError, match="will not be overwritten"):
            fleet.add("b01")
        folder.rename(fleet.folder / "gone")
        fleet.add("b01")
        numbers = [known(fleet).peer(der).number for der in (lost, certificate_of(fleet, "b01"))]
        assert numbers == [1, 2]
        assert known(fleet).revocation(fleet.revoked_file.read_bytes()).revoked == {1}

    def test_a_crash_before_the_folder_costs_a_number(
        self, fleet: Fleet, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def crash(*_: object) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patched:
            patched.setattr(authority, "write_folder", crash)
            with pytest.raises(KeyboardInterrupt):
                fleet.add("b01")
        fleet.add("b02")
        assert known(fleet).peer(certificate_of(fleet, "b02")).number == 2

    def test_no_number_beyond_uint32_is_given(self, fleet: Fleet) -> None:
        register = fleet.folder / "fleet.json"
        register.write_text(
            register.read_text().replace('"next_number": 1', f'"next_number": {2**32 - 1}')
        )
        with pytest.raises(StateError, match="no device number is left"):
            fleet.add_all(["b01", "b02"])
        fleet.add("b01")
        with pytest.raises(StateError, match="no device number is left"):
            fleet.add("b02")


class TestRevocation:
    def test_a_revoked_device_is_in_the_list_and_the_crl(self, fleet: Fleet) -> None:
        fleet.add_all(["b01", "b02"])
        fleet.revoke("b02")
        for file in (fleet.revoked_file, fleet.coordinator_folder / "revoked"):
            revocation = known(fleet).revocation(file.read_bytes())
            assert (revocation.number, revocation.epoch) == (2, 1)
            assert revocation.revoked == {2}
        crl = x509.load_pem_x509_crl((fleet.broker_folder / "crl.pem").read_bytes())
        certificate = read_certificate(fleet.device_folder("b02") / "device.crt")
        canary = read_certificate(fleet.server_folder / "canary" / "canary.crt")
        assert {entry.serial_number for entry in crl} == {
            certificate.serial_number,
            canary.serial_number,
        }

    def test_doing_it_again_repairs_files_and_counts_nothing(self, fleet: Fleet) -> None:
        fleet.add("b01")
        fleet.revoke("b01")
        for file in (fleet.revoked_file, fleet.broker_folder / "crl.pem"):
            file.unlink()
        fleet.revoke("b01")
        assert known(fleet).revocation(fleet.revoked_file.read_bytes()).number == 2
        assert (fleet.broker_folder / "crl.pem").exists()

    def test_an_epoch_is_a_new_list_of_the_same_devices(self, fleet: Fleet) -> None:
        fleet.add("b01")
        fleet.revoke("b01")
        assert fleet.next_epoch() == 2
        revocation = known(fleet).revocation(fleet.revoked_file.read_bytes())
        assert (revocation.number, revocation.epoch) == (3, 2)
        assert revocation.revoked == {1}


class TestRefusals:
    def test_nothing_is_overwritten(self, fleet: Fleet) -> None:
        before = fleet.ca_file.read_bytes()
        with pytest.raises(StateError, match="will not be overwritten"):
            create_fleet(fleet.folder, "greenhouse", ["broker.local"])
        assert fleet.ca_file.read_bytes() == before

    def test_an_empty_folder_may_be_used(self, tmp_path: Path) -> None:
        (tmp_path / "barn").mkdir()
        assert create_fleet(tmp_path / "barn", "barn", ["localhost"]).name == "barn"

    @pytest.mark.parametrize("name", ["", "B01", "b 1", "../b", "b" * 33, "+", "b01\n", "ä"])
    def test_no_other_names(self, fleet: Fleet, name: str) -> None:
        with pytest.raises(StateError, match="no name for a device"):
            fleet.add(name)
        with pytest.raises(StateError, match="no name for a fleet"):
            create_fleet(fleet.folder.with_name("barn"), name, ["localhost"])

    @pytest.mark.parametrize("name", ["coordinator", "broker", "owner", "canary", "probe"])
    def test_no_reserved_names(self, fleet: Fleet, name: str) -> None:
        with pytest.raises(StateError, match="it is taken"):
            fleet.add(name)

    def test_one_bad_name_and_none_is_added(self, fleet: Fleet) -> None:
        for names in (["b01", "B02"], ["b01", "b01"]):
            with pytest.raises(StateError):
                fleet.add_all(names)
        assert fleet.devices == ()
        assert not (fleet.folder / "devices").exists()

    def test_a_name_in_use_is_kept(self, fleet: Fleet) -> None:
        fleet.add("b01")
        with pytest.raises(StateError, match="has a device b01 already"):
            fleet.add("b01")

    def test_unknown_devices_are_not_revoked(self, fleet: Fleet) -> None:
        with pytest.raises(StateError, match="has no device b09"):
            fleet.revoke("b09")

    @pytest.mark.parametrize("address", ["", "mqtt://broker", "a b", "broker/", "b" * 254])
    def test_no_other_addresses(self, tmp_path: Path, address: str) -> None:
        with pytest.raises(StateError, match="no host name or address"):
            create_fleet(tmp_path / "barn", "barn", ["localhost", address])
        assert not (tmp_path / "barn").exists()

    def test_two_at_once_do_not_undo_each_others_work(self, fleet: Fleet) -> None:
        lock = lock_folder(fleet.folder)
        with pytest.raises(StateError, match="in use"):
            fleet.add("b01")
        lock.close()
        fleet.add("b01")

    def test_another_folder_is_none(self, tmp_path: Path) -> None:
        with pytest.raises(StateError, match="no fleet folder"):
            Fleet(tmp_path)

    @pytest.mark.parametrize(
        "text",
        [
            *("", "{}", "[]", '{"format": 1}', '{"format": 1, "x": 2}', '{"a":' * 50_000),
            *('{"format": 2}', '{"format": 1, "devices": [1]}', '{"format": 1, "devices": 1}'),
        ],
    )
    def test_a_damaged_register_is_told(self, fleet: Fleet, text: str) -> None:
        (fleet.folder / "fleet.json").write_text(text)
        with pytest.raises(StateError, match=r"fleet\.json is damaged"):
            Fleet(fleet.folder)

    @pytest.mark.parametrize(
        ("before", "after"),
        [
            ("greenhouse", "green\xff"),
            ("broker.local", "\\ud800"),
            ("b01", "../b01"),
            ("1", "-1"),
            ("1", "1e999"),
            ("1", "4294967297"),
            ("1", "9" * 5000),
            ('"serial": "', '"serial": "no hex'),
            ('"ends": "20', '"ends": "2o'),
            ('"added": "20', '"added": "99999'),
            ('"code_ends": null', '"code_ends": "2026-02-30T00:00Z"'),
        ],
    )
    def test_a_register_that_no_list_could_be_made_of_is_told(
        self, fleet: Fleet, before: str, after: str
    ) -> None:
        fleet.add("b01")
        path = fleet.folder / "fleet.json"
        text = path.read_text()
        assert before in text
        path.write_bytes(text.replace(before, after).encode("latin-1"))
        with pytest.raises(StateError) as caught:
            Fleet(fleet.folder)
        assert caught.value.name in ("fleet.damaged", "fleet.format")

    def test_a_register_of_the_future_is_told(self, fleet: Fleet) -> None:
        path = fleet.folder / "fleet.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 3}))
        with pytest.raises(StateError, match="another fedring"):
            Fleet(fleet.folder)


class TestPassphrase:
    @pytest.fixture
    def locked(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fleet:
        monkeypatch.setattr(passphrases, "_SCRYPT_N", 2**10)  # the file tells; half a second less
        create_fleet(tmp_path / "barn", "barn", ["localhost"], "correct horse")
        return Fleet(tmp_path / "barn")

    def test_the_key_opens_with_it_only(self, locked: Fleet) -> None:
        assert locked.needs_passphrase
        for wrong in ("Correct horse", "", None):
            with pytest.raises(CertificateError, match="does not open"):
                locked.unlock(wrong)
        locked.unlock("correct horse")
        assert not locked.needs_passphrase
        locked.add("b01")

    def test_nothing_is_signed_without(self, locked: Fleet) -> None:
        with pytest.raises(CertificateError, match="locked"):
            locked.add("b01")

    def test_it_is_not_in_the_folder(self, locked: Fleet) -> None:
        for path in locked.folder.rglob("*"):
            assert path.is_dir() or b"horse" not in path.read_bytes()

    def test_short_ones_are_refused(self, tmp_path: Path) -> None:
        with pytest.raises(CertificateError, match="has 7 characters, at least 8"):
            create_fleet(tmp_path / "barn", "barn", ["localhost"], "1234567")

    def test_a_key_that_others_may_read_is_refused(self, locked: Fleet) -> None:
        (locked.folder / "authority" / "ca.key").chmod(0o644)
        with pytest.raises(CertificateError, match="others may read"):
            locked.unlock("correct horse")

    @pytest.mark.parametrize(
        "other",
        [
            ec.generate_private_key(ec.SECP384R1()),
            ec.generate_private_key(ec.SECP256K1()),
            ed25519.Ed25519PrivateKey.generate(),
        ],
        ids=["P-384", "secp256k1", "ed25519"],
    )
    def test_a_key_of_another_kind_is_refused(
        self, other: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
    ) -> None:
        pem = other.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        with pytest.raises(CertificateError, match="no P-256 key"):
            passphrases.unprotect(pem, None)

    def test_a_key_on_a_curve_that_nobody_knows_is_refused(self) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        der = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
        p256, unknown = bytes.fromhex("2a8648ce3d030107"), bytes.fromhex("268648ce3d030107")
        assert p256 in der
        lines = base64.encodebytes(der.replace(p256, unknown)).decode()
        pem = f"-----BEGIN PRIVATE KEY-----\n{lines}-----END PRIVATE KEY-----\n".encode()
        with pytest.raises(CertificateError, match="does not open"):
            passphrases.unprotect(pem, None)
