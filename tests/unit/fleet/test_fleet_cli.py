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
from tests.boards.page import prose

from fedring.fleet import cli as fleet_cli
from fedring.fleet import passphrases
from fedring.fleet.authority import Fleet
from fedring.fleet.issuing import new_key
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


APPLY = (
    "next: fedring coordinator apply greenhouse/server --broker USER@broker.local"
    " (or copy that folder there, and run it there without --broker)\n"
)
BOARD = (
    "next: bring code and software to each board: fedring fleet flash card --fleet greenhouse"
    " {} /dev/sdX\n"
    "next: once they are on: fedring fleet sign --fleet greenhouse --watch\n"
)


def test_init_says_what_it_made_and_what_comes_next(run: Run) -> None:
    transcript = run("fleet init greenhouse --broker broker.local,192.168.1.10")
    fingerprint = Authority.load(Path("greenhouse/authority/ca.crt")).fingerprint
    assert transcript == Transcript(
        0,
        f"made fleet greenhouse in greenhouse\nits authority: {fingerprint}\n",
        f"{APPLY}next: fedring fleet add --fleet greenhouse b01..b04\n",
    )
    assert Fleet(Path("greenhouse")).broker == ("broker.local", "192.168.1.10")


FINGERPRINT = ("-fingerprint", "-sha256")


def test_the_fingerprint_is_that_of_other_tools(run: Run, greenhouse: Path) -> None:
    shown = subprocess.run(
        [
            "openssl",
            "x509",
            "-in",
            "greenhouse/authority/ca.crt",
            "-noout",
            "-fingerprint",
            "-sha256",
        ],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    fingerprint = Authority.load(greenhouse / "authority" / "ca.crt").fingerprint
    assert shown.split("=")[1].strip().replace(":", "").lower() == fingerprint.replace(" ", "")


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


def test_add_gives_numbers_and_codes(
    run: Run, greenhouse: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FEDRING_FLEET_PASSPHRASE")
    transcript = run("fleet add --fleet greenhouse porch b09..b10")
    fleet = Fleet(greenhouse)
    ends = str(fleet.find("b10").code_ends).replace("T", " ").replace("Z", " UTC")
    assert transcript == Transcript(
        0,
        f"added porch with number 1: its code ends {ends}\n"
        f"added b09 with number 2: its code ends {ends}\n"
        f"added b10 with number 3: its code ends {ends}\n",
        BOARD.format("porch"),
    )
    assert fleet.code("b10").hex() not in transcript.out + transcript.err


def test_add_with_keys_gives_folders(run: Run, greenhouse: Path) -> None:
    line = "fleet add --fleet greenhouse --with-keys porch b09..b10 --threshold 4"
    assert run(line) == Transcript(
        0,
        "added porch with number 1: greenhouse/devices/porch\n"
        "added b09 with number 2: greenhouse/devices/b09\n"
        "added b10 with number 3: greenhouse/devices/b10\n",
        "next: move each folder to its board, edit its device.toml,"
        " run: fedring device run --config device.toml\n",
    )
    settings = (greenhouse / "devices" / "b10" / "device.toml").read_text()
    assert "\nthreshold = 4\n" in settings


def test_a_threshold_without_a_settings_file_is_refused(run: Run, greenhouse: Path) -> None:
    transcript = run("fleet add --fleet greenhouse b01 --threshold 4")
    assert transcript.status == 2
    assert "--threshold goes with --with-keys" in transcript.err
    assert Fleet(greenhouse).devices == ()


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
    run(f"fleet add --fleet {greenhouse} --with-keys b01..b02")
    run(f"fleet revoke --fleet {greenhouse} b01")
    run(f"fleet add --fleet {greenhouse} b03..b05")
    fleet = Fleet(greenhouse)
    fleet.unlock("correct horse")
    fleet.certify("b04", new_key().public_key())
    register = greenhouse / "fleet.json"
    expired = json.loads(register.read_text())
    expired["devices"][-1]["code_ends"] = "2026-01-02T03:04Z"
    register.write_text(json.dumps(expired))
    monkeypatch.delenv("FEDRING_FLEET_PASSPHRASE")
    monkeypatch.chdir(greenhouse)
    ten_years, one_year = (fleet.find(name).certificates[-1].ends for name in ("b02", "b04"))
    code_ends = str(fleet.find("b03").code_ends).replace("T", " ").replace("Z", " UTC")
    assert run("fleet list") == Transcript(
        0,
        "fleet greenhouse, epoch 1, revocation list 2\n"
        f"     1  b01                               added {TODAY}  revoked {TODAY}\n"
        f"     2  b02                               added {TODAY}"
        f"  enrolled, certified until {ten_years}\n"
        f"     3  b03                               added {TODAY}"
        f"  invited, its code ends {code_ends}\n"
        f"     4  b04                               added {TODAY}"
        f"  certified until {one_year}, not seen yet\n"
        f"     5  b05                               added {TODAY}"
        "  invited, its code expired 2026-01-02 03:04 UTC\n",
        "next: another code: fedring fleet reset --fleet . b05\n"
        + BOARD.format("b03").replace("greenhouse", "."),
    )
    shown = json.loads(run("fleet list --json").out)
    assert [
        (device["name"], device["standing"], device["revoked"]) for device in shown.pop("devices")
    ] == [
        ("b01", "revoked", TODAY),
        ("b02", "enrolled", None),
        ("b03", "invited", None),
        ("b04", "certified", None),
        ("b05", "invited", None),
    ]
    assert shown == {"fleet": "greenhouse", "epoch": 1, "revocation_list": 2}


def test_list_says_what_the_devices_wait_for(run: Run, greenhouse: Path) -> None:
    listed = f"fleet list --fleet {greenhouse}"
    add = "next: fedring fleet add --fleet greenhouse b01..b04\n"
    assert run(listed).err == add
    run(f"fleet add --fleet {greenhouse} b01")
    assert run(listed).err == BOARD.format("b01")
    fleet = Fleet(greenhouse)
    fleet.unlock("correct horse")
    fleet.certify("b01", new_key().public_key())
    assert run(listed).err == (
        "next: to see b01 come in: fedring fleet sign --fleet greenhouse --watch\n"
    )
    run(f"fleet revoke --fleet {greenhouse} b01")
    assert run(listed).err == add
    run(f"fleet add --fleet {greenhouse} --with-keys b02")
    assert run(listed).err == (
        "next: see them at work: fedring watch --broker mqtt://broker.local:8883\n"
    )


def test_reset_gives_a_new_code(run: Run, greenhouse: Path) -> None:
    run(f"fleet add --fleet {greenhouse} b01")
    fleet = Fleet(greenhouse)
    ends = str(fleet.find("b01").code_ends).replace("T", " ").replace("Z", " UTC")
    first = fleet.code("b01")
    reset = prose("fedring fleet reset NAME").removeprefix("fedring ").replace("NAME", "b01")
    reset += " --fleet greenhouse"
    assert run(reset) == Transcript(
        0, f"reset b01, number 1: its code ends {ends}\n", BOARD.format("b01")
    )
    assert Fleet(greenhouse).code("b01") != first
    fleet.unlock("correct horse")
    fleet.certify("b01", new_key().public_key())
    assert run(reset) == Transcript(
        0,
        f"reset b01, number 2: its code ends {ends}\nrevoked what it had before, with list 2\n",
        APPLY + BOARD.format("b01"),
    )


def test_renew_says_what_it_replaced(run: Run, greenhouse: Path) -> None:
    assert run("fleet renew --fleet greenhouse --broker mqtt.local") == Transcript(
        0,
        "made keys and certificates of broker, coordinator and owner of greenhouse anew,"
        " and revoked those they had, with list 2\n",
        APPLY.replace("broker.local", "mqtt.local")
        + "next: restart Mosquitto and the coordinator there\n",
    )
    assert Fleet(greenhouse).broker == ("mqtt.local",)


def test_revoke_says_where_its_lists_go(run: Run, greenhouse: Path) -> None:
    run(f"fleet add --fleet {greenhouse} b01")
    typed = prose("fedring fleet revoke --fleet greenhouse NAME").replace("NAME", "b01")
    revoke = typed.removeprefix("fedring ")
    cut_off = APPLY.replace("next: ", "next: cut it off: ")
    assert run(revoke) == Transcript(0, "revoked b01, number 1, with list 2\n", cut_off)
    assert run(revoke) == Transcript(
        0, f"b01 was revoked on {TODAY}; list 2 is written again\n", cut_off
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
    assert transcript.err == APPLY


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
        assert run(f"fleet add --with-keys --fleet {greenhouse} b01") == Transcript(
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
        add = f"fleet add --with-keys --fleet {greenhouse} --passphrase-file passphrase b01"
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

    def test_programs_that_are_started_do_not_get_it(
        self, run: Run, greenhouse: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        ssh = tmp_path / "bin" / "ssh"
        ssh.parent.mkdir()
        ssh.write_text(f"#!/bin/sh\nenv >{tmp_path}/environment\nexit 255\n")
        ssh.chmod(0o755)
        monkeypatch.setenv("PATH", f"{ssh.parent}:{os.environ['PATH']}")
        run(f"fleet add --fleet {greenhouse} b01")
        run(f"fleet flash ssh --fleet {greenhouse} b01 pi@192.168.1.21")
        environment = Path("environment").read_text()
        assert "PATH=" in environment
        assert "correct horse" not in environment
        # It is there for the next command.
        assert run(f"fleet add --with-keys --fleet {greenhouse} b02").status == 0

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
    if name in {"bundle", "flash", "sign", "update"}:
        return  # test_bundles.py, test_flashing.py, test_enrolment.py, test_fleet_update.py
    if " init " not in example:
        run("fleet init greenhouse --broker broker.local")
    if " revoke " in example or " reset " in example:
        run("fleet add --fleet greenhouse b07")
    assert run(example).status == 0
