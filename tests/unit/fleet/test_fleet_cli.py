"""`fedring fleet` as its owner meets it: what is typed, what comes back."""

import json
import os
import pty
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from attrs import frozen

from fedring.fleet import cli as fleet_cli
from fedring.fleet import passphrases
from fedring.fleet.authority import Fleet
from fedring.shared import cli
from fedring.shared.identity import Authority

TODAY = datetime.now(UTC).date().isoformat()


@frozen
class Transcript:
    """What a command left behind."""

    status: int | str | None
    out: str
    err: str


Run = Callable[..., Transcript]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Types a command, with a fast passphrase in the environment, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FEDRING_FLEET_PASSPHRASE", "correct horse")
    monkeypatch.setattr(passphrases, "_SCRYPT_N", 2**10)

    def run(line: str) -> Transcript:
        with pytest.raises(SystemExit) as ended:
            cli.main(line.split())
        return Transcript(ended.value.code, *capsys.readouterr())

    return run


@pytest.fixture
def greenhouse(run: Run) -> Path:
    assert run("fleet init greenhouse --broker broker.local,192.168.1.10").status == 0
    return Path("greenhouse")


def test_init_says_what_it_made_and_what_comes_next(run: Run) -> None:
    assert run("fleet init greenhouse --broker broker.local,192.168.1.10") == Transcript(
        0,
        "made fleet greenhouse in greenhouse\n",
        "next: copy greenhouse/broker to the broker's machine, as broker_config/mosquitto.conf"
        " says\n"
        "next: copy greenhouse/coordinator to the coordinator's machine, edit its"
        " coordinator.toml, run: fedring coordinator run --config coordinator.toml\n"
        "next: fedring fleet add --fleet greenhouse b01..b04\n",
    )
    assert Fleet(Path("greenhouse")).broker == ("broker.local", "192.168.1.10")


def test_init_takes_another_name(run: Run) -> None:
    assert run("fleet init here --name greenhouse --broker localhost").status == 0
    assert Fleet(Path("here")).name == "greenhouse"


def test_init_overwrites_nothing(run: Run, greenhouse: Path) -> None:
    before = (greenhouse / "authority" / "ca.key").read_bytes()
    assert run("fleet init greenhouse --broker localhost") == Transcript(
        2,
        "",
        "fedring: error: greenhouse exists and will not be overwritten [fleet.exists]\n"
        "fedring: hint: choose another folder for the new fleet\n",
    )
    assert (greenhouse / "authority" / "ca.key").read_bytes() == before


def test_add_gives_numbers_and_folders(run: Run, greenhouse: Path) -> None:
    assert run("fleet add --fleet greenhouse porch b09..b10 --threshold 4") == Transcript(
        0,
        "added porch with number 1: greenhouse/devices/porch\n"
        "added b09 with number 2: greenhouse/devices/b09\n"
        "added b10 with number 3: greenhouse/devices/b10\n",
        "next: move each folder to its board, edit its device.toml,"
        " run: fedring device run --config device.toml\n",
    )
    settings = (greenhouse / "devices" / "b10" / "device.toml").read_text()
    assert "\nthreshold = 4\n" in settings


@pytest.mark.parametrize("name", ["b09..b01", "a1..b2", "b1..b99999"])
def test_add_refuses_what_is_no_range(run: Run, greenhouse: Path, name: str) -> None:
    transcript = run(f"fleet add --fleet {greenhouse} {name}")
    assert transcript.status == 2
    assert transcript.err == (
        f"fedring: error: {name} is no range of names [fleet.name]\n"
        "fedring: hint: like b01..b20: the same letters, a smaller and a greater number\n"
    )


def test_list_shows_everybody_without_a_passphrase(
    run: Run, greenhouse: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(f"fleet add --fleet {greenhouse} b01..b02")
    run(f"fleet revoke --fleet {greenhouse} b01")
    monkeypatch.delenv("FEDRING_FLEET_PASSPHRASE")
    monkeypatch.chdir(greenhouse)
    assert run("fleet list") == Transcript(
        0,
        "fleet greenhouse, epoch 1, revocation list 2\n"
        f"     1  b01                               added {TODAY}  revoked {TODAY}\n"
        f"     2  b02                               added {TODAY}  in the fleet\n",
        "",
    )
    shown = json.loads(run("fleet list --json").out)
    assert [(device["name"], device["revoked"]) for device in shown.pop("devices")] == [
        ("b01", TODAY),
        ("b02", None),
    ]
    assert shown == {"fleet": "greenhouse", "epoch": 1, "revocation_list": 2}


def test_revoke_says_where_its_lists_go(run: Run, greenhouse: Path) -> None:
    run(f"fleet add --fleet {greenhouse} b01")
    steps = (
        "next: copy greenhouse/coordinator/revoked over the coordinator's:"
        " it tells all devices\n"
        "next: copy greenhouse/broker/crl.pem over the broker's (beside it, then rename),"
        " run there: systemctl reload mosquitto\n"
    )
    revoke = "fleet revoke --fleet greenhouse b01"
    assert run(revoke) == Transcript(0, "revoked b01, number 1, with list 2\n", steps)
    assert run(revoke) == Transcript(
        0, f"b01 was revoked on {TODAY}; list 2 is written again\n", steps
    )
    authority = Authority.load(greenhouse / "authority" / "ca.crt")
    assert authority.revocation((greenhouse / "revoked").read_bytes()).revoked == {1}


def test_revoke_knows_its_devices(run: Run, greenhouse: Path) -> None:
    assert run(f"fleet revoke --fleet {greenhouse} b07") == Transcript(
        2,
        "",
        "fedring: error: fleet greenhouse has no device b07 [fleet.unknown-device]\n"
        "fedring: hint: `fedring fleet list` shows all\n",
    )


def test_epoch_begins_the_next(run: Run, greenhouse: Path) -> None:
    transcript = run(f"fleet epoch --fleet {greenhouse}")
    assert transcript.out == "fleet greenhouse is in epoch 2, list 2\n"
    assert "next: copy greenhouse/coordinator/revoked" in transcript.err


def test_another_folder_is_no_fleet(run: Run, tmp_path: Path) -> None:
    assert run("fleet list") == Transcript(
        2,
        "",
        f"fedring: error: {tmp_path} is no fleet folder: there is no fleet.json in it"
        " [fleet.missing]\n"
        "fedring: hint: make one with `fedring fleet init`, or say `--fleet FOLDER`\n",
    )


class TestPassphrase:
    def test_a_wrong_one_changes_nothing(
        self, run: Run, greenhouse: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("FEDRING_FLEET_PASSPHRASE", "wrong horse")
        assert run(f"fleet add --fleet {greenhouse} b01") == Transcript(
            2,
            "",
            "fedring: error: the passphrase does not open the fleet authority's key"
            " [fleet.passphrase]\n"
            "fedring: hint: it is the one that was asked for by `fedring fleet init`\n",
        )
        assert Fleet(greenhouse).devices == ()

    def test_a_file_comes_first(
        self, run: Run, greenhouse: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("FEDRING_FLEET_PASSPHRASE", "wrong horse")
        file = Path("passphrase")
        file.write_text("correct horse\nof the greenhouse\n")
        add = f"fleet add --fleet {greenhouse} --passphrase-file passphrase b01"
        file.chmod(0o644)
        assert "others may read this passphrase file (mode 0644)" in run(add).err
        file.chmod(0o600)
        assert run(add).status == 0

    def test_without_a_terminal_it_is_not_asked_for(
        self, run: Run, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("FEDRING_FLEET_PASSPHRASE")
        with open(os.devnull) as nothing:
            monkeypatch.setattr(sys, "stdin", nothing)
            transcript = run("fleet init greenhouse --broker localhost")
        assert transcript == Transcript(
            2,
            "",
            "fedring: error: the fleet authority's key needs a passphrase, and there is no"
            " terminal to ask on [fleet.passphrase]\n"
            "fedring: hint: use --passphrase-file FILE, or set FEDRING_FLEET_PASSPHRASE\n",
        )
        assert not Path("greenhouse").exists()

    def test_on_a_terminal_it_is_asked_for_and_not_shown(self, tmp_path: Path) -> None:
        """One run as it is: a terminal, the real cost of the key derivation."""
        controller, terminal = pty.openpty()
        code = "from fedring.shared.cli import main; main()"
        arguments = ["fleet", "init", "greenhouse", "--broker", "localhost"]
        with subprocess.Popen(
            [sys.executable, "-c", code, *arguments],
            cwd=tmp_path,
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
            start_new_session=True,
        ) as process:
            os.close(terminal)
            shown = read_until(controller, "Passphrase for the fleet's new key")
            os.write(controller, b"correct horse\n")
            shown += read_until(controller, "Repeat for confirmation")
            os.write(controller, b"correct horse\n")
            shown += read_until(controller, "made fleet greenhouse")
            assert process.wait(60) == 0
        os.close(controller)
        assert "horse" not in shown
        assert b"scrypt(n=131072," in (tmp_path / "greenhouse/authority/ca.key").read_bytes()


def read_until(terminal: int, expected: str) -> str:
    shown = ""
    deadline = time.monotonic() + 60
    while expected not in shown:
        assert time.monotonic() < deadline, shown
        shown += os.read(terminal, 1024).decode()
    return shown


@pytest.mark.parametrize("name", ["", *fleet_cli.command.commands])
def test_help_fits_a_screen_and_ends_with_an_example_that_works(run: Run, name: str) -> None:
    lines = run(f"fleet {name} --help").out.rstrip().splitlines()
    assert len(lines) <= 24
    example = lines[-1].strip().removeprefix("Example: fedring ")
    if " init " not in example:
        run("fleet init greenhouse --broker broker.local")
    if " revoke " in example:
        run("fleet add --fleet greenhouse b07")
    assert run(example).status == 0
