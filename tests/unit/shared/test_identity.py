"""Certificates and signatures: what is believed, and what each lie is answered with."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgpack
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from fedring.fleet.issuing import Issuer, new_key
from fedring.shared.envelopes import pack_envelope
from fedring.shared.errors import CertificateError, IdentityError
from fedring.shared.identity import Authority, Identity, RevocationList, Role, sign, signed_bytes
from fedring.shared.messages import MAX_CERTIFICATE_BYTES

ISSUER = Issuer.create("greenhouse")
AUTHORITY = Authority(ISSUER.certificate.public_bytes(Encoding.DER))
Key = ec.EllipticCurvePrivateKey


def identity(name: str = "b01", number: int = 1, issuer: Issuer = ISSUER) -> Identity:
    key = new_key()
    certificate = issuer.device(key.public_key(), name, number)
    return Identity(key, certificate.public_bytes(Encoding.DER))


DEVICE = identity()
DEVICE_SUBJECT = {
    NameOID.ORGANIZATION_NAME: "greenhouse",
    NameOID.ORGANIZATIONAL_UNIT_NAME: "device",
    NameOID.SERIAL_NUMBER: "1",
    NameOID.COMMON_NAME: "b01",
}


def certificate(
    *,
    changed: dict[x509.ObjectIdentifier, str | None] | None = None,
    doubled: x509.ObjectIdentifier | None = None,
    key: Key | rsa.RSAPrivateKey | None = None,
    ca: bool | None = False,
    issuer: Issuer = ISSUER,
    digest: hashes.SHA256 | hashes.SHA512 = hashes.SHA256(),  # noqa: B008 - holds nothing
    notes: int = 0,
) -> bytes:
    """A device's certificate, signed by the authority although something about it is wrong."""
    subject = {**DEVICE_SUBJECT, **(changed or {})}
    attributes = [x509.NameAttribute(oid, value) for oid, value in subject.items() if value]
    if doubled:
        attributes.append(x509.NameAttribute(doubled, "b02"))
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name(attributes))
        .issuer_name(issuer.certificate.subject)
        .public_key((key or new_key()).public_key())
        .serial_number(7)
        .not_valid_before(datetime(2020, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(2020, 1, 2, tzinfo=UTC))
    )
    if ca is not None:
        builder = builder.add_extension(x509.BasicConstraints(ca, None), critical=True)
    for note in range(notes):
        oid = x509.ObjectIdentifier(f"1.3.6.1.4.1.99999.{note}")
        builder = builder.add_extension(x509.UnrecognizedExtension(oid, bytes(64)), critical=False)
    return builder.sign(issuer.key, digest).public_bytes(Encoding.DER)


def test_a_certified_device_is_known_by_name_number_and_role() -> None:
    peer = AUTHORITY.peer(DEVICE.certificate)
    assert peer == DEVICE.peer
    assert (peer.name, peer.number, peer.role) == ("b01", 1, Role.DEVICE)
    assert peer.fleet == AUTHORITY.fleet == "greenhouse"


def test_the_coordinator_is_known() -> None:
    key = new_key()
    coordinator = Identity(key, ISSUER.coordinator(key.public_key()).public_bytes(Encoding.DER))
    assert AUTHORITY.peer(coordinator.certificate) == coordinator.peer
    assert (coordinator.name, coordinator.number) == ("coordinator", 0)
    assert coordinator.role is Role.COORDINATOR


def test_dates_are_not_judged() -> None:
    assert AUTHORITY.peer(certificate()).name == "b01"


def test_the_greatest_names_and_numbers_still_fit_a_message() -> None:
    issuer = Issuer.create("f" * 32)
    authority = Authority(issuer.certificate.public_bytes(Encoding.DER))
    greatest = identity("d" * 32, 2**32 - 1, issuer)
    assert authority.peer(greatest.certificate).number == 2**32 - 1
    assert len(greatest.certificate) <= MAX_CERTIFICATE_BYTES


def test_a_signature_holds_for_its_kind_and_payload_only() -> None:
    signature = DEVICE.sign("ready", b"payload")
    DEVICE.peer.verify("ready", b"payload", signature)
    for kind, payload in (("release", b"payload"), ("ready", b"payloae"), ("ready", b"")):
        with pytest.raises(IdentityError, match="signature does not hold") as error:
            DEVICE.peer.verify(kind, payload, signature)
        assert (error.value.sender, error.value.kind) == ("b01", kind)
    with pytest.raises(IdentityError):
        identity("b02", 2).peer.verify("ready", b"payload", signature)


def test_the_signed_bytes_are_pinned() -> None:
    assert signed_bytes("ready", b"\x01\x02") == b"fedring/1 signature ready\0\x01\x02"


@given(st.binary(max_size=200))
def test_no_signature_is_no_accident(signature: bytes) -> None:
    with pytest.raises(IdentityError):
        DEVICE.peer.verify("ready", b"payload", signature)


def test_keys_do_not_show() -> None:
    shown = f"{DEVICE!r} {DEVICE.peer!r} {AUTHORITY!r} {ISSUER!r}"
    assert "b01" in shown
    assert "EllipticCurve" not in shown
    assert "0x" not in shown


LIES = {
    "no fleet": (certificate(changed={NameOID.ORGANIZATION_NAME: None}), "0 O in its subject"),
    "other fleet": (certificate(changed={NameOID.ORGANIZATION_NAME: "barn"}), "another fleet"),
    "no role": (certificate(changed={NameOID.ORGANIZATIONAL_UNIT_NAME: None}), "0 OU"),
    "broker": (
        certificate(changed={NameOID.ORGANIZATIONAL_UNIT_NAME: "broker"}),
        "no role of the protocol: OU='broker'",
    ),
    "no number": (certificate(changed={NameOID.SERIAL_NUMBER: None}), "0 serialNumber"),
    "number 0": (certificate(changed={NameOID.SERIAL_NUMBER: "0"}), "no device has"),
    "number 01": (certificate(changed={NameOID.SERIAL_NUMBER: "01"}), "no device number: '01'"),
    "negative": (certificate(changed={NameOID.SERIAL_NUMBER: "-1"}), "no device number"),
    "with a space": (certificate(changed={NameOID.SERIAL_NUMBER: " 1"}), "no device number"),
    "beyond uint32": (
        certificate(changed={NameOID.SERIAL_NUMBER: str(2**32)}),
        "no device number: '4294967296'",
    ),
    "no name": (certificate(changed={NameOID.COMMON_NAME: None}), "0 CN"),
    "two names": (certificate(doubled=NameOID.COMMON_NAME), "2 CN"),
    "capitals": (certificate(changed={NameOID.COMMON_NAME: "B01"}), "CN='B01'"),
    "wildcard": (certificate(changed={NameOID.COMMON_NAME: "+/#"}), "CN='\\+/#'"),
    "long name": (certificate(changed={NameOID.COMMON_NAME: "b" * 33}), "CN='bbb"),
    "reserved name": (
        certificate(changed={NameOID.COMMON_NAME: "coordinator"}),
        "no device has name coordinator",
    ),
    "broker as device": (
        certificate(changed={NameOID.COMMON_NAME: "broker"}),
        "no device has name broker",
    ),
    "coordinator by another name": (
        certificate(changed={NameOID.ORGANIZATIONAL_UNIT_NAME: "coordinator"}),
        "no coordinator has name b01 and number 1",
    ),
    "CA:TRUE": (certificate(ca=True), "CA:TRUE"),
    "CA not said": (certificate(ca=None), "does not say whether"),
    "the authority itself": (AUTHORITY.certificate, "CA:TRUE"),
    "other curve": (certificate(key=ec.generate_private_key(ec.SECP384R1())), "than P-256"),
    "RSA": (certificate(key=rsa.generate_private_key(65537, 2048)), "than P-256"),
    "SHA-512": (certificate(digest=hashes.SHA512()), "not signed with ECDSA and SHA-256"),
    "other authority": (certificate(issuer=Issuer.create("barn")), "names another issuer"),
    "same name, other key": (
        certificate(issuer=Issuer.create("greenhouse")),
        "was not issued by this fleet's authority",
    ),
    "empty": (b"", "no X.509 in DER"),
    "text": (b"-----BEGIN CERTIFICATE-----", "no X.509 in DER"),
    "cut short": (DEVICE.certificate[:-1], "no X.509 in DER"),
    "more behind": (DEVICE.certificate + b"\0", "no X.509 in DER"),
    "too long": (certificate(notes=12), f"at most {MAX_CERTIFICATE_BYTES}"),
    "huge": (bytes(2**20), f"at most {MAX_CERTIFICATE_BYTES}"),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_in_a_certificate_is_named(lie: str) -> None:
    hostile, told = LIES[lie]
    with pytest.raises(IdentityError, match=told):
        AUTHORITY.peer(hostile)


@given(st.integers(0, len(DEVICE.certificate) * 8 - 1))
def test_a_flipped_bit_is_never_believed(bit: int) -> None:
    flipped = bytearray(DEVICE.certificate)
    flipped[bit // 8] ^= 1 << bit % 8
    with pytest.raises(IdentityError):
        AUTHORITY.peer(bytes(flipped))


@given(st.binary(max_size=300))
def test_garbage_is_an_identity_error(garbage: bytes) -> None:
    for read in (AUTHORITY.peer, AUTHORITY.revocation, Authority, RevocationList.from_payload):
        with pytest.raises(IdentityError):
            read(garbage)


@pytest.mark.parametrize(
    ("hostile", "told"),
    [(DEVICE.certificate, "CA:FALSE"), (certificate(ca=True), "names another issuer")],
    ids=["a device's", "an intermediate authority's"],
)
def test_only_an_authority_is_one(hostile: bytes, told: str) -> None:
    with pytest.raises(IdentityError, match=told):
        Authority(hostile)


def test_a_key_needs_its_own_certificate() -> None:
    with pytest.raises(IdentityError, match="issued for another key"):
        Identity(new_key(), DEVICE.certificate)


class TestRevocation:
    LIST = RevocationList("greenhouse", 3, 2, frozenset({300, 2, 70_000}))

    def test_the_signed_list_is_read_back(self) -> None:
        assert AUTHORITY.revocation(ISSUER.revocation(self.LIST)) == self.LIST

    def test_its_bytes_are_pinned(self) -> None:
        assert self.LIST.payload().hex() == (
            "85a46b696e64aa7265766f636174696f6ea5666c656574aa677265656e686f757365"
            "a66e756d62657203a565706f636802a77265766f6b65649302cd012cce00011170"
        )

    def test_it_fits_an_envelope_with_ten_thousand_numbers(self) -> None:
        numbers = frozenset(range(2**32 - 10_000, 2**32))
        full = RevocationList("greenhouse", 3, 2, numbers)
        assert AUTHORITY.revocation(ISSUER.revocation(full)) == full

    @pytest.mark.parametrize("signer", ["device", "other authority"])
    def test_only_the_authority_signs_it(self, signer: str) -> None:
        payload = self.LIST.payload()
        if signer == "device":
            signature = DEVICE.sign("revocation", payload)
        else:
            signature = sign(Issuer.create("greenhouse").key, "revocation", payload)
        with pytest.raises(IdentityError, match="signature does not hold"):
            AUTHORITY.revocation(pack_envelope(payload, signature))

    def test_it_is_of_this_fleet(self) -> None:
        other = RevocationList("barn", 3, 2, frozenset())
        with pytest.raises(IdentityError, match="another fleet: barn"):
            AUTHORITY.revocation(ISSUER.revocation(other))

    @pytest.mark.parametrize(
        "changed",
        [
            {"kind": "ready"},
            {"number": 0},
            {"number": True},
            {"number": 2**32},
            {"number": 3.0},
            {"epoch": 0},
            {"epoch": "2"},
            {"fleet": b"greenhouse"},
            {"revoked": [0]},
            {"revoked": [2, 2]},
            {"revoked": [3, 2]},
            {"revoked": [[2]]},
            {"revoked": 2},
            {"revoked": {}},
            {"more": 1},
        ],
        ids=str,
    )
    def test_any_other_form_is_refused_although_signed(self, changed: dict[str, object]) -> None:
        fields = msgpack.unpackb(self.LIST.payload()) | changed
        payload = msgpack.packb(fields)
        envelope = pack_envelope(payload, sign(ISSUER.key, "revocation", payload))
        with pytest.raises(IdentityError, match="one form"):
            AUTHORITY.revocation(envelope)

    def test_a_missing_field_is_refused(self) -> None:
        fields = msgpack.unpackb(self.LIST.payload())
        del fields["epoch"]
        with pytest.raises(IdentityError, match="one form"):
            RevocationList.from_payload(msgpack.packb(fields))


class TestFiles:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        key = new_key()
        self.write_key(tmp_path, key)
        issued = ISSUER.device(key.public_key(), "b01", 1)
        (tmp_path / "device.crt").write_bytes(issued.public_bytes(Encoding.PEM))
        (tmp_path / "ca.crt").write_bytes(ISSUER.certificate.public_bytes(Encoding.PEM))
        return tmp_path

    @staticmethod
    def write_key(folder: Path, key: Key | rsa.RSAPrivateKey, passphrase: bytes = b"") -> None:
        encryption = BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
        path = folder / "device.key"
        path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption))
        path.chmod(0o600)

    @staticmethod
    def load(folder: Path) -> Identity:
        return Identity.load(folder / "device.key", folder / "device.crt")

    def test_an_identity_is_loaded(self, folder: Path) -> None:
        loaded = self.load(folder)
        assert Authority.load(folder / "ca.crt").peer(loaded.certificate) == loaded.peer
        loaded.peer.verify("ready", b"payload", loaded.sign("ready", b"payload"))

    @pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644])
    def test_a_key_that_others_may_read_is_refused(self, folder: Path, mode: int) -> None:
        key_file = folder / "device.key"
        key_file.chmod(mode)
        with pytest.raises(CertificateError, match=f"others may read .* {mode:04o}") as error:
            self.load(folder)
        assert error.value.name == "certificate.key-readable-by-others"
        assert error.value.hint == f"chmod 600 {key_file}"

    @pytest.mark.parametrize("missing", ["device.key", "device.crt"])
    def test_a_missing_file_is_named(self, folder: Path, missing: str) -> None:
        (folder / missing).unlink()
        with pytest.raises(CertificateError, match=f"{missing}: .* no such file") as error:
            self.load(folder)
        assert error.value.name == "certificate.missing"

    def test_a_folder_in_the_place_of_a_file_is_named(self, folder: Path) -> None:
        with pytest.raises(CertificateError, match="is a directory"):
            Authority.load(folder)

    @pytest.mark.parametrize("damaged", ["device.key", "device.crt"])
    @pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"-----BEGIN", bytes(100_000)])
    def test_a_damaged_file_is_named(self, folder: Path, damaged: str, content: bytes) -> None:
        (folder / damaged).write_bytes(content)
        with pytest.raises(CertificateError, match=damaged) as error:
            self.load(folder)
        assert error.value.name == "certificate.damaged"

    @pytest.mark.parametrize(
        ("key", "passphrase", "told"),
        [
            (ec.generate_private_key(ec.SECP384R1()), b"", "not a P-256 key"),
            (rsa.generate_private_key(65537, 2048), b"", "not a P-256 key"),
            (new_key(), b"secret", "encrypted"),
        ],
        ids=["other curve", "RSA", "encrypted"],
    )
    def test_only_a_plain_p256_key_serves(
        self, folder: Path, key: Key | rsa.RSAPrivateKey, passphrase: bytes, told: str
    ) -> None:
        self.write_key(folder, key, passphrase)
        with pytest.raises(CertificateError, match=told):
            self.load(folder)

    def test_key_and_certificate_of_two_devices_do_not_match(self, folder: Path) -> None:
        self.write_key(folder, new_key())
        with pytest.raises(CertificateError, match=r"device\.crt: .* another key .*device\.key"):
            self.load(folder)

    def test_a_device_is_no_authority(self, folder: Path) -> None:
        with pytest.raises(CertificateError, match="CA:FALSE"):
            Authority.load(folder / "device.crt")


def test_known_peers_are_not_checked_again() -> None:
    before = datetime.now(UTC)
    for _ in range(5_000):
        AUTHORITY.peer(DEVICE.certificate)
    assert datetime.now(UTC) - before < timedelta(seconds=0.5)  # 1 s and more when checked
