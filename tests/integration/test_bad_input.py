"""What is wrong is said once: file or topic, the remedy, exit status 2, no traceback, nothing lost.

Transcripts of `fedring coordinator run` and `fedring device run` as real processes.
"""

import socket
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from fedring.fleet.authority import create_fleet
from fedring.lab.brokers import start_broker
from fedring.lab.fleets import LocalFleet
from fedring.lab.processes import Child
from fedring.lab.programs import Tables
from fedring.lab.spy import Spy
from fedring.shared.broker import Broker

Change = tuple[str, str]
GOOD = ("b01", "b02", "b03", "b04")
OTHERS = "others.crt"
FLEET_COMMANDS_MAKE_THEM = (
    "fedring: hint: `fedring fleet init` and `fedring fleet add` make these files"
)


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalFleet]:
    """A fleet that has learned and was stopped; its broker is gone."""
    folder = tmp_path_factory.mktemp("learned")
    with (
        start_broker(folder / "broker") as broker,
        LocalFleet(folder, broker.address) as fleet,
        Spy(broker.address, fleet.topics) as spy,
    ):
        fleet.start()
        spy.event("model published", 0, version=1)
    barn = create_fleet(folder / "barn", "barn", ["localhost"])
    for file in (fleet.coordinator_file, fleet.device_file("b01")):
        (file.parent / OTHERS).write_bytes(barn.ca_file.read_bytes())
    with socket.socket() as nobody:  # holds the port, and does not listen
        nobody.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        nobody.bind(("127.0.0.1", broker.address.port))
        yield fleet


def kept(state: Path) -> dict[str, object]:
    """All that a state folder holds, whatever form SQLite gives it."""
    contents: dict[str, object] = {}
    for file in filter(Path.is_file, state.rglob("*")):
        if file.suffix == ".db":
            with closing(sqlite3.connect(file)) as database:
                contents[file.name] = list(database.iterdump())
        elif file.name != "lock" and not file.name.endswith(("-wal", "-shm")):
            contents[file.name] = file.read_bytes()
    return contents


MISTAKES: dict[str, tuple[str, list[Change], list[str]]] = {
    "broken TOML": (
        "device",
        [("threshold = 2", 'threshold = "2')],
        ["{file}:8:15: not TOML: illegal character '\\n' [config.broken-toml]"],
    ),
    "unknown keys": (
        "device",
        [("threshold", "treshold"), ("tls = false", "tsl = false")],
        [
            "{file} has 3 mistakes [config.several-mistakes]",
            "  {file}:7: `privacy.threshold` is missing: expected a whole number from 1 to 63"
            " (contributors) [config.missing-key]",
            "  {file}:8: treshold = 2: no known key; did you mean `threshold`?"
            " [config.unknown-key]",
            "  {file}:12: tsl = false: no known key; did you mean `tls`? [config.unknown-key]",
        ],
    ),
    "unknown table": (
        "coordinator",
        [("[ring]", "[rings]")],
        ["{file}:18: [rings]: no known key; did you mean `ring`? [config.unknown-key]"],
    ),
    "missing certificate": (
        "device",
        [("device.crt", "nowhere.crt")],
        [
            "{folder}/nowhere.crt: certificate file: no such file or directory"
            " [certificate.missing]",
            FLEET_COMMANDS_MAKE_THEM,
        ],
    ),
    "missing certificate of the coordinator": (
        "coordinator",
        [("coordinator.crt", "nowhere.crt")],
        [
            "{folder}/nowhere.crt: certificate file: no such file or directory"
            " [certificate.missing]",
            FLEET_COMMANDS_MAKE_THEM,
        ],
    ),
    "missing revocation list": (
        "coordinator",
        [('revoked = "revoked"', 'revoked = "gone"')],
        [
            "{folder}/gone: cannot be read: No such file or directory [certificate.missing]",
            "fedring: hint: copy the newest list that `fedring fleet` wrote",
        ],
    ),
    "authority of another fleet": (
        "device",
        [("ca.crt", OTHERS)],
        [
            "{folder}/device.crt: certificate names another issuer than the fleet's authority"
            " [certificate.foreign]",
            "fedring: hint: use files of one fleet; the authority here is {folder}/others.crt",
        ],
    ),
    "authority of another fleet for the coordinator": (
        "coordinator",
        [("ca.crt", OTHERS)],
        [
            "{folder}/coordinator.crt: certificate names another issuer than the fleet's authority"
            " [certificate.foreign]",
            "fedring: hint: use files of one fleet; the authority here is {folder}/others.crt",
        ],
    ),
    "certificate of a device": (
        "coordinator",
        [
            ("coordinator.crt", "../fleet/devices/b01/device.crt"),
            ("coordinator.key", "../fleet/devices/b01/device.key"),
        ],
        [
            "{folder}/../fleet/devices/b01/device.crt is the certificate of a device, not of a"
            " coordinator [certificate.role]",
            "fedring: hint: `fedring fleet` makes a folder for the coordinator and one for each"
            " device",
        ],
    ),
    "missing data": (
        "device",
        [("b01.csv", "b99.csv")],
        [
            "{data}/b99.csv: no such file [data.missing-file]",
            "fedring: hint: check `file` in the settings",
        ],
    ),
    "data without labels": (
        "device",
        [('b01.csv"', 'b01.csv"\nlabel = "lable"')],
        [
            "{data}/b01.csv: no column `lable` [data.missing-column]",
            "fedring: hint: `lable`: did you mean `label`?",
            "fedring: hint: columns of the file: `warmth`, `light`, `label`",
        ],
    ),
    "model too large": (
        "coordinator",
        [('kind = "softmax"', 'kind = "mlp"'), ("hidden = []", "hidden = [8192, 8192]")],
        [
            "{file}:10: hidden = [8192, 8192]: expected a model of at most 16,000,000 numbers,"
            " this one has 67,158,024 [config.bad-value]",
        ],
    ),
    "evaluation data without a column": (
        "coordinator",
        [("[ring]", '[evaluation]\nfile = "../data/b01.csv"\nlabel = "when"\n\n[ring]')],
        [
            "{folder}/../data/b01.csv: no column `when` [data.missing-column]",
            "fedring: hint: columns of the file: `warmth`, `light`, `label`",
        ],
    ),
    "another model than was learned": (
        "coordinator",
        [('"warmth"', '"wind"')],
        [
            "{folder}/state/coordinator.db holds another model than [model] describes: kind,"
            " features, classes or layers differ [config.model-changed]",
            "fedring: hint: put [model] back; or, for a new model, give [state] a new folder and"
            " run fedring fleet epoch, then start again with the new revocation list",
        ],
    ),
    "unreachable broker": (
        "device",
        [],
        [
            "no broker at 127.0.0.1:{port}: connection refused [broker.unreachable]",
            "fedring: hint: start the broker, or correct its host and port in the settings",
        ],
    ),
    "unreachable broker of the coordinator": (
        "coordinator",
        [],
        [
            "no broker at 127.0.0.1:{port}: connection refused [broker.unreachable]",
            "fedring: hint: start the broker, or correct its host and port in the settings",
        ],
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_told_and_costs_nothing(fleet: LocalFleet, mistake: str) -> None:
    part, changes, told = MISTAKES[mistake]
    good = fleet.coordinator_file if part == "coordinator" else fleet.device_file("b01")
    text = good.read_text()
    for before, after in changes:
        assert before in text
        text = text.replace(before, after)
    file = good.with_name("changed.toml")
    file.write_text(text)
    state = kept(good.parent / "state")

    done = fleet.command(part, "run", "--config", file)

    facts = {
        "file": file,
        "folder": file.parent,
        "data": fleet.data_file("b01").parent,
        "port": next(line for line in text.splitlines() if line.startswith("port"))[7:],
    }
    expected = [line.format_map(facts) for line in told]
    assert done.stderr.splitlines() == [f"fedring: error: {expected[0]}", *expected[1:]]
    assert (done.returncode, done.stdout) == (2, "")
    assert kept(good.parent / "state") == state


def test_the_others_go_on_without_those_who_cannot_take_part(tmp_path: Path) -> None:
    """b05 has a data file without a column, b06 allows no model as large as this one."""
    settings: Tables = {"ring": {"size": 6, "min_devices": 6}}
    with (
        start_broker(tmp_path / "broker") as broker,
        LocalFleet(tmp_path, broker.address, 6, coordinator=settings) as fleet,
        Spy(broker.address, fleet.topics) as spy,
    ):
        data = fleet.data_file("b05")
        data.write_text(data.read_text().replace("light", "lihgt"))
        small = fleet.device_file("b06")
        small.write_text(small.read_text() + "\n[limits]\nvalues = 12\n")
        fleet.start()

        reason = f"{data}: no column `light`"
        spy.status("b05", 0, state="offline", reason=reason)
        assert fleet.devices["b05"].wait(60) == 2
        assert fleet.devices["b05"].last_words(3).splitlines() == [
            f"fedring: error: {reason} [data.missing-column]",
            "fedring: hint: `light`: did you mean `lihgt`?",
            "fedring: hint: columns of the file: `warmth`, `lihgt`, `label`",
        ]
        spy.status("b06", 0, state="refused", reason="13 values asked, this device does 12")
        first = spy.event("model published", 0, contributors=len(GOOD)).facts["round"]
        spy.event("model published", 0, round=first + 1, contributors=len(GOOD))
        assert fleet.devices["b06"].running

        for part, file in (
            ("coordinator", fleet.coordinator_file),
            ("device", fleet.device_file("b01")),
        ):
            done = fleet.command(part, "run", "--config", file)
            child = fleet.coordinator if part == "coordinator" else fleet.devices["b01"]
            assert child is not None
            assert (done.returncode, done.stderr.splitlines()) == (
                2,
                [
                    f"fedring: error: state folder {file.parent / 'state'} is in use by process"
                    f" {child.pid} [state.in-use]",
                    "fedring: hint: stop that process first; two on one folder would undo each"
                    " other's work",
                ],
            )
        spy.event("model published", spy.now, contributors=len(GOOD))
        assert "Traceback" not in "".join(log for _, log in fleet.logs())


def test_devices_and_brokers_of_two_fleets_do_not_meet(
    shipped_mosquitto: Callable[..., tuple[Child, int]],
    tmp_path: Path,
) -> None:
    barn = create_fleet(tmp_path / "barn", "barn", ["localhost"])
    _, port = shipped_mosquitto(tmp_path / "machine", barn.broker_folder)
    tls: Tables = {"broker": {"tls": True}}
    (tmp_path / "ours").mkdir()
    with LocalFleet(tmp_path / "ours", Broker("localhost", port), device=tls) as fleet:
        done = fleet.command("device", "run", "--config", fleet.device_file("b01"))
    first, hint = done.stderr.splitlines()
    assert done.returncode == 2
    assert first.startswith(f"fedring: error: the broker at localhost:{port} is not the one we tru")
    assert first.endswith(" [broker.untrusted]")
    assert hint == (
        "fedring: hint: its certificate must come from the fleet's authority and name this host"
    )
