"""TLS settings in real handshakes, in memory: who is trusted, and what a clock may not decide."""

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from fedring.fleet import issuing
from fedring.fleet.authority import Fleet, create_fleet
from fedring.shared.errors import CertificateError
from fedring.shared.tls import tls_context


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Fleet:
    made = create_fleet(tmp_path_factory.mktemp("fleets") / "greenhouse", "greenhouse", ["broker"])
    made.add("b01")
    return made


def client(fleet: Fleet, *, judge_dates: bool = True) -> ssl.SSLContext:
    board = fleet.device_folder("b01")
    return tls_context(
        board / "ca.crt", board / "device.crt", board / "device.key", judge_dates=judge_dates
    )


def server(fleet: Fleet, name: str = "server/broker") -> ssl.SSLContext:
    folder = fleet.folder / name
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(fleet.ca_file)
    key = next(folder.glob("*.key"))
    context.load_cert_chain(key.with_suffix(".crt"), key)
    return context


def shake_hands(
    client_side: ssl.SSLContext, server_side: ssl.SSLContext, name: str = "broker"
) -> str | None:
    """Let both talk until they are done; gives the version of TLS."""
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client_side.wrap_bio(down, up, server_hostname=name),
        server_side.wrap_bio(up, down, server_side=True),
    ]
    for _ in range(4):
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
    return ends[0].version()


def test_the_broker_of_the_fleet_is_trusted(fleet: Fleet) -> None:
    assert shake_hands(client(fleet), server(fleet)) == "TLSv1.3"


def test_no_other_name_is_trusted(fleet: Fleet) -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        shake_hands(client(fleet), server(fleet), "elsewhere")


def test_no_other_fleet_is_trusted(fleet: Fleet, tmp_path: Path) -> None:
    barn = create_fleet(tmp_path / "barn", "greenhouse", ["broker"])
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(client(fleet), server(barn))


def test_a_board_cannot_play_the_broker(fleet: Fleet) -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match="purpose"):
        shake_hands(client(fleet), server(fleet, "devices/b01"), "b01")


def test_older_tls_is_refused(fleet: Fleet) -> None:
    old = server(fleet)
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(ssl.SSLError):
        shake_hands(client(fleet), old)


@pytest.mark.parametrize("years", [-20, 20], ids=["long over", "not yet begun"])
def test_only_who_has_a_clock_judges_dates(
    years: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Elsewhen(datetime):
        @classmethod
        def now(cls, tz: object = None) -> datetime:  # type: ignore[override]
            return datetime.now(UTC) + timedelta(days=365 * years)

    monkeypatch.setattr(issuing, "datetime", Elsewhen)
    made = create_fleet(tmp_path / "greenhouse", "greenhouse", ["broker"])
    made.add("b01")
    broker = server(made)
    broker.verify_flags |= ssl.VerifyFlags(0x200000)  # the broker's own clock is not the subject
    assert shake_hands(client(made, judge_dates=False), broker) == "TLSv1.3"
    with pytest.raises(ssl.SSLCertVerificationError, match=r"expired|not yet valid"):
        shake_hands(client(made), broker)


def test_boards_still_judge_all_but_dates(fleet: Fleet, tmp_path: Path) -> None:
    barn = create_fleet(tmp_path / "barn", "greenhouse", ["broker"])
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(client(fleet, judge_dates=False), server(barn))
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(client(fleet, judge_dates=False), server(fleet), "elsewhere")


def test_files_of_two_fleets_are_told_apart(fleet: Fleet, tmp_path: Path) -> None:
    barn = create_fleet(tmp_path / "barn", "barn", ["broker"])
    board = fleet.device_folder("b01")
    with pytest.raises(
        CertificateError, match=r"device\.crt: .*ca\.crt belongs to fleet barn"
    ) as e:
        tls_context(barn.ca_file, board / "device.crt", board / "device.key", judge_dates=False)
    assert e.value.name == "certificate.wrong-authority"


@pytest.mark.parametrize("missing", ["ca.crt", "device.crt", "device.key"])
def test_a_missing_file_is_named(fleet: Fleet, missing: str) -> None:
    board = fleet.device_folder("b01")
    files = [board / name for name in ("ca.crt", "device.crt", "device.key")]
    there = [file if file.name != missing else file.with_name("gone") for file in files]
    with pytest.raises(CertificateError, match=r"gone: .* no such file"):
        tls_context(*there, judge_dates=True)
