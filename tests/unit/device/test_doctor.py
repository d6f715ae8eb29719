"""What the doctor finds, one thing after the other."""

from __future__ import annotations

import json
import os
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
from attrs import define
from click.testing import CliRunner

from fedring.device.cli import command
from fedring.device.doctor import examination
from fedring.device.doctor.cli import examine
from fedring.device.doctor.findings import Finding
from fedring.device.doctor.libraries import examine_libraries
from fedring.fleet.authority import Fleet, create_fleet
from fedring.lab.fleets import write_samples
from fedring.lab.programs import write_toml


@define
class Patient:
    """A board with all that it needs."""

    folder: Path
    tables: dict[str, dict[str, object]]

    @property
    def config(self) -> Path:
        file = self.folder / "device.toml"
        write_toml(file, self.tables)
        return file

    def examine(self) -> dict[str, Finding]:
        return {finding.subject: finding for finding in examine(self.config)}

    @property
    def complaints(self) -> list[str]:
        return [subject for subject, finding in self.examine().items() if not finding.good]


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Fleet:
    fleet = create_fleet(
        tmp_path_factory.mktemp("fleet") / "f",
        "greenhouse",
        ["127.0.0.1"],
    )
    fleet.unlock(None)
    fleet.add("b01")
    return fleet


@pytest.fixture(scope="module")
def broker_port(fleet: Fleet) -> Iterator[int]:
    with tls_server(fleet, fleet.ca_file) as port:
        yield port


class tls_server:  # noqa: N801 - used as a function
    """Something that speaks TLS as the fleet's broker does, and no MQTT."""

    def __init__(
        self, fleet: Fleet, trusted: Path, address: tuple[str, int] = ("127.0.0.1", 0)
    ) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        files = fleet.broker_folder
        context.load_cert_chain(files / "broker.crt", files / "broker.key")
        context.load_verify_locations(trusted)
        context.verify_mode = ssl.CERT_REQUIRED
        self._context = context
        self._listener = socket.create_server(address)
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> int:
        self._thread.start()
        port: int = self._listener.getsockname()[1]
        return port

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()

    def _serve(self) -> None:
        while True:
            try:
                plain, _ = self._listener.accept()
            except OSError:
                return
            plain.settimeout(10)
            try:
                with self._context.wrap_socket(plain, server_side=True) as connection:
                    connection.recv(1)
            except OSError:
                plain.close()


@pytest.fixture
def patient(fleet: Fleet, broker_port: int, tmp_path: Path) -> Patient:
    files = fleet.device_folder("b01")
    write_samples(tmp_path / "data.csv", seed="b01")
    (tmp_path / "state").mkdir(mode=0o700)
    return Patient(
        tmp_path,
        {
            "fleet": {
                "ca": str(files / "ca.crt"),
                "key": str(files / "device.key"),
                "certificate": str(files / "device.crt"),
            },
            "broker": {"host": "127.0.0.1", "port": broker_port},
            "state": {"folder": str(tmp_path / "state")},
            "privacy": {"threshold": 2},
            "data": {"file": str(tmp_path / "data.csv")},
        },
    )


def test_a_board_that_is_well(patient: Patient) -> None:
    found = patient.examine()
    assert list(found) == [
        "libraries",
        "settings",
        "clock",
        "certificate",
        "broker",
        "data",
        "training",
        "state",
        "room",
    ]
    assert patient.complaints == []
    assert found["certificate"].text.startswith("b01, number 1 of fleet greenhouse, until 20")
    assert found["broker"].text.endswith("answers over TLS")
    assert list((patient.folder / "state").iterdir()) == [], "nothing was left behind"


def test_every_complaint_has_a_remedy_and_the_command_a_status(patient: Patient) -> None:
    runner = CliRunner()
    well = runner.invoke(command, ["doctor", "--config", str(patient.config)])
    assert well.exit_code == 0, well.output
    assert "WRONG" not in well.output
    (patient.folder / "data.csv").unlink()
    ill = runner.invoke(command, ["doctor", "--config", str(patient.config)])
    assert ill.exit_code == 1
    lines = ill.output.splitlines()
    (at,) = (index for index, line in enumerate(lines) if line.startswith("WRONG"))
    assert lines[at].startswith("WRONG  data: ")
    assert lines[at + 1].startswith("       do: ")
    assert lines[at + 2].startswith("ok     training: "), "the rest is looked at all the same"


def test_settings(patient: Patient) -> None:
    del patient.tables["privacy"]
    assert patient.complaints == ["settings"]


class Years(datetime):
    """A clock that is years back, as on boards without a battery."""

    @classmethod
    def now(cls, tz: object = None) -> datetime:  # type: ignore[override]
        return datetime(2020, 1, 1, tzinfo=UTC)


def test_clock(patient: Patient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examination, "datetime", Years)
    assert patient.complaints == ["clock"]
    finding = patient.examine()["clock"]
    assert finding.text.startswith("it is 2020-01-01 00:00 here, before the ")
    assert "timedatectl" in finding.remedy


def test_a_certificate_that_ends(patient: Patient, monkeypatch: pytest.MonkeyPatch) -> None:
    class Later(datetime):
        @classmethod
        def now(cls, tz: object = None) -> datetime:  # type: ignore[override]
            return datetime.now(UTC) + timedelta(days=340)

    monkeypatch.setattr(examination, "datetime", Later)
    certificate = patient.examine()["certificate"]
    if certificate.good:  # device certificates of ten years: see further ahead
        monkeypatch.setattr(examination, "RENEWAL_DUE", timedelta(days=4_000))
        certificate = patient.examine()["certificate"]
    assert not certificate.good
    assert "was not renewed" in certificate.text
    assert "fedring fleet sign" in certificate.remedy


@pytest.mark.parametrize("file", ["ca", "key", "certificate"])
def test_files_of_the_fleet(patient: Patient, file: str) -> None:
    patient.tables["fleet"][file] = str(patient.folder / "gone")
    assert patient.complaints == ["certificate", "broker"]


def test_a_key_that_others_may_read(patient: Patient, fleet: Fleet) -> None:
    key = patient.folder / "device.key"
    key.write_bytes((fleet.device_folder("b01") / "device.key").read_bytes())
    key.chmod(0o644)
    patient.tables["fleet"]["key"] = str(key)
    assert "chmod 600" in patient.examine()["certificate"].remedy


def test_no_broker(patient: Patient) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    patient.tables["broker"]["port"] = port
    assert patient.complaints == ["broker"]
    assert "[broker.unreachable]" in patient.examine()["broker"].text


def test_a_broker_that_refuses_us(patient: Patient, fleet: Fleet, tmp_path: Path) -> None:
    foreign = create_fleet(tmp_path / "foreign", "orchard", ["127.0.0.1"])
    with tls_server(fleet, foreign.ca_file) as port:
        patient.tables["broker"]["port"] = port
        assert patient.complaints == ["broker"]
        assert "[broker.certificate-refused]" in patient.examine()["broker"].text


def test_a_broker_of_others(patient: Patient, tmp_path: Path) -> None:
    foreign = create_fleet(tmp_path / "foreign", "orchard", ["127.0.0.1"])
    with tls_server(foreign, foreign.ca_file) as port:
        patient.tables["broker"]["port"] = port
        assert "[broker.untrusted]" in patient.examine()["broker"].text


def test_names_of_the_broker_that_serve_and_that_do_not(
    patient: Patient, fleet: Fleet, tmp_path: Path, broker_port: int
) -> None:
    foreign = create_fleet(tmp_path / "foreign", "orchard", ["127.0.0.3"])
    with tls_server(foreign, foreign.ca_file, ("127.0.0.3", broker_port)):
        patient.tables["broker"] |= {
            "host": "127.0.0.2",
            "others": ["127.0.0.1", "no-such-host.invalid", "127.0.0.3"],
        }
        assert patient.complaints == []
        finding = patient.examine()["broker"]
    answers, unreachable, unknown, untrusted = finding.text.split("; ")
    assert answers == f"127.0.0.1:{broker_port} answers over TLS"
    assert unreachable == f"no broker at 127.0.0.2:{broker_port}: connection refused"
    assert unknown.startswith(f"no broker at no-such-host.invalid:{broker_port}: ")
    assert untrusted.startswith(f"the broker at 127.0.0.3:{broker_port} is not the one we trust: ")
    assert "host and port in the settings" in finding.remedy


def test_a_broker_that_none_of_its_names_leads_to(patient: Patient, broker_port: int) -> None:
    patient.tables["broker"] |= {"host": "127.0.0.2", "others": ["127.0.0.3"]}
    assert patient.complaints == ["broker"]
    assert patient.examine()["broker"].text == (
        f"no broker at 127.0.0.2:{broker_port}: connection refused; "
        f"no broker at 127.0.0.3:{broker_port}: connection refused [broker.unreachable]"
    )


def test_a_model_file_that_is_missing(patient: Patient) -> None:
    patient.tables["training"] = {"litert": str(patient.folder / "gone.tflite")}
    assert patient.complaints == ["training"]


def test_a_state_folder_that_cannot_be_written(
    patient: Patient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(**_: object) -> None:  # as root, no mode of a folder would
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("fedring.device.doctor.examination.tempfile.TemporaryFile", refuse)
    assert patient.complaints == ["state"]
    finding = patient.examine()["state"]
    assert "read-only file system" in finding.text
    assert "a card at its end" in finding.remedy


def test_a_state_folder_that_others_may_write_to(patient: Patient) -> None:
    (patient.folder / "state").chmod(0o777)
    assert patient.examine()["state"].remedy.startswith("chmod 700")


def test_no_room(patient: Patient, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = SimpleNamespace(f_bavail=2**20, f_frsize=10)
    monkeypatch.setattr("fedring.device.room.os.statvfs", lambda _: disk)
    assert patient.complaints == ["room"]
    assert "10 MiB are free" in patient.examine()["room"].text


@pytest.fixture
def newcomer(patient: Patient, fleet: Fleet) -> Patient:
    """A board that was just flashed: no certificate yet."""
    bootstrap = patient.folder / "bootstrap.json"
    bootstrap.write_text(
        json.dumps(
            {
                "fleet": "greenhouse",
                "name": "b02",
                "broker": ["127.0.0.1"],
                "port": 8883,
                "enrol_port": patient.tables["broker"]["port"],
                "code": "ab" * 16,
                "flashed_at": datetime.now(UTC).isoformat(),
            }
        )
    )
    patient.tables["fleet"] |= {
        "key": str(patient.folder / "device.key"),
        "certificate": str(patient.folder / "device.crt"),
        "bootstrap": str(bootstrap),
    }
    return patient


def test_before_enrolment(newcomer: Patient, fleet: Fleet) -> None:
    found = newcomer.examine()
    assert found["certificate"].good
    assert found["certificate"].text == "b02 asks for its certificate of fleet greenhouse"
    assert "fedring fleet sign" in found["certificate"].remedy
    # The enrolment listener asks for no certificate; this server does.
    assert "[broker.certificate-refused]" in found["broker"].text
    assert newcomer.complaints == ["broker"]


def test_a_code_that_was_used(newcomer: Patient) -> None:
    bootstrap = newcomer.folder / "bootstrap.json"
    fields = json.loads(bootstrap.read_text())
    del fields["code"]
    bootstrap.write_text(json.dumps(fields))
    finding = newcomer.examine()["certificate"]
    assert not finding.good
    assert "fedring fleet reset b02" in finding.remedy


def test_a_library_that_is_missing() -> None:
    (finding,) = examine_libraries(("numpy", "no_such_library"))
    assert not finding.good
    assert "no_such_library does not load" in finding.text
    assert "fedring fleet flash ssh" in finding.remedy


def test_the_doctor_speaks_where_numpy_does_not_load(patient: Patient, tmp_path: Path) -> None:
    """As on a system without libstdc++: every other command would end with a traceback."""
    numpy = tmp_path / "broken" / "numpy"
    numpy.mkdir(parents=True)
    (numpy / "__init__.py").write_text(
        "raise ImportError('libstdc++.so.6: cannot open shared object file: No such file')\n"
    )
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "from fedring.shared.cli import main; main()",
            "device",
            "doctor",
            "--config",
            patient.config,
        ],
        env=os.environ | {"PYTHONPATH": str(numpy.parent)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert done.stdout.splitlines() == [
        "WRONG  libraries: numpy needs libstdc++.so, which this system lacks",
        "       do: sudo apt-get install libstdc++6",
    ]
