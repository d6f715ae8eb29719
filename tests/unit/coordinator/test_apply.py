"""`fedring coordinator apply`, the coordinator's part: whose folders are taken, what is written."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from attrs import frozen

from fedring.fleet.authority import Fleet, create_fleet
from fedring.shared import cli
from fedring.shared.identity import Authority, Identity
from fedring.shared.state import lock_folder


@frozen
class Transcript:
    """What a command left behind."""

    status: int | str | None
    out: str
    err: str


Apply = Callable[..., Transcript]


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    return create_fleet(tmp_path / "greenhouse", "greenhouse", ["broker.local"])


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "machine" / "etc" / "fedring"


@pytest.fixture
def apply(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Apply:
    """Applies the coordinator's part of a folder to a machine that is a folder."""

    def apply(folder: Path, *options: str) -> Transcript:
        options = options or ("--only", "coordinator")
        with pytest.raises(SystemExit) as ended:
            cli.main(
                ["coordinator", "apply", str(folder), "--root", str(tmp_path / "machine"), *options]
            )
        return Transcript(ended.value.code, *capsys.readouterr())

    return apply


def test_the_first_folder_is_trusted_and_said_to_be(fleet: Fleet, apply: Apply, home: Path) -> None:
    fingerprint = Authority.load(fleet.ca_file).fingerprint
    assert apply(fleet.server_folder) == Transcript(
        0,
        f"this machine trusts fleet greenhouse from now on: {fingerprint}\n"
        "that must be what `fedring fleet init` said\n"
        f"wrote into {home}: coordinator.key, coordinator.crt, revoked, coordinator.toml\n"
        "number 1 of fleet greenhouse is in place\n",
        f"next: describe the model in {home}/coordinator.toml\n"
        "next: sudo systemctl enable --now fedring-coordinator\n",
    )
    identity = Identity.load(home / "coordinator.key", home / "coordinator.crt")
    assert Authority.load(home / "ca.crt").peer(identity.certificate).name == "coordinator"
    modes = {path.name: path.stat().st_mode & 0o777 for path in home.iterdir()}
    assert modes == {
        "ca.crt": 0o644,
        "applied": 0o644,
        "lock": 0o600,
        "coordinator.toml": 0o644,
        "coordinator.key": 0o600,
        "coordinator.crt": 0o600,
        "revoked": 0o600,
    }
    assert home.stat().st_mode & 0o777 == 0o755


def test_a_strict_umask_does_not_keep_the_coordinator_out(
    fleet: Fleet, apply: Apply, home: Path
) -> None:
    before = os.umask(0o077)
    try:
        apply(fleet.server_folder)
    finally:
        os.umask(before)
    assert home.stat().st_mode & 0o777 == 0o755
    assert (home / "ca.crt").stat().st_mode & 0o777 == 0o644


def test_only_what_changed_is_written_and_settings_stay(
    fleet: Fleet, apply: Apply, home: Path
) -> None:
    apply(fleet.server_folder)
    (home / "coordinator.toml").write_text("# mine\n")
    fleet.next_epoch()
    assert apply(fleet.server_folder) == Transcript(
        0,
        f"{home}/coordinator.toml is yours, and stays as it is\n"
        f"wrote into {home}: revoked\n"
        "number 2 of fleet greenhouse is in place\n",
        "",
    )
    assert (home / "coordinator.toml").read_text() == "# mine\n"
    revoked = Authority.load(home / "ca.crt").revocation((home / "revoked").read_bytes())
    assert (revoked.number, revoked.epoch) == (2, 2)
    assert "nothing, all was there" in apply(fleet.server_folder).out


def test_renewed_keys_want_a_restart(fleet: Fleet, apply: Apply) -> None:
    apply(fleet.server_folder)
    fleet.renew_servers()
    assert apply(fleet.server_folder).err == "next: sudo systemctl restart fedring-coordinator\n"


class TestRefusals:
    def test_an_older_folder_changes_nothing(
        self, fleet: Fleet, apply: Apply, home: Path, tmp_path: Path
    ) -> None:
        old = tmp_path / "old"
        fleet.add("b01")
        shutil.copytree(fleet.server_folder, old)
        fleet.revoke("b01")
        apply(fleet.server_folder)
        before = contents(home)
        assert apply(old) == Transcript(
            2,
            "",
            f"fedring: error: {old} is number 1, and this machine was given number 2 already"
            " [signed-folder.older]\n"
            "fedring: hint: copy the newest one from the owner's machine: FLEET/server\n",
        )
        assert contents(home) == before

    @pytest.mark.parametrize("gone", [None, "applied"], ids=["", "without the record of it"])
    def test_an_older_folder_is_older_also_when_the_newer_one_failed(
        self, fleet: Fleet, apply: Apply, home: Path, tmp_path: Path, gone: str | None
    ) -> None:
        old = tmp_path / "old"
        fleet.add("b01")
        shutil.copytree(fleet.server_folder, old)
        apply(old)
        fleet.revoke("b01")
        (home.parent / "mosquitto").mkdir()
        (home.parent / "mosquitto" / "fedring").touch()  # the broker's part fails: no folder
        both = ("--reload", "false")
        assert "[state.unusable]" in apply(fleet.server_folder, *both).err
        assert revoked_numbers(home) == {1}
        if gone is not None:
            (home / gone).unlink()
        assert "[signed-folder.older]" in apply(old).err
        assert revoked_numbers(home) == {1}

    def test_it_is_older_before_anything_is_in_place(
        self, fleet: Fleet, apply: Apply, home: Path, tmp_path: Path
    ) -> None:
        """A power cut may come at any moment from the first file on."""
        apply(fleet.server_folder)
        old = tmp_path / "old"
        shutil.copytree(fleet.server_folder, old)
        fleet.next_epoch()
        (home / "revoked").unlink()
        (home / "revoked").mkdir()  # the first file that is new cannot be put into place
        assert apply(fleet.server_folder).status == 2
        (home / "revoked").rmdir()
        assert "[signed-folder.older]" in apply(old).err

    def test_another_authority_changes_nothing(
        self, fleet: Fleet, apply: Apply, home: Path, tmp_path: Path
    ) -> None:
        apply(fleet.server_folder)
        before = contents(home)
        other = create_fleet(tmp_path / "barn", "greenhouse", ["broker.local"])
        for _ in range(3):
            other.next_epoch()
        transcript = apply(other.server_folder)
        assert transcript.status == 2
        assert "[signed-folder.foreign]" in transcript.err
        assert Authority.load(fleet.ca_file).fingerprint in transcript.err
        assert contents(home) == before

    @pytest.mark.parametrize(
        ("file", "told"),
        [
            ("coordinator/revoked", "is not what was signed"),
            ("manifest", "not signed by the authority"),
            ("ca.crt", "not a certificate in PEM"),
        ],
    )
    def test_a_changed_file_changes_nothing(
        self, fleet: Fleet, apply: Apply, home: Path, file: str, told: str
    ) -> None:
        with (fleet.server_folder / file).open("r+b") as opened:
            opened.write(b"#")
        transcript = apply(fleet.server_folder)
        assert transcript.status == 2
        assert told in transcript.err
        assert contents(home) == {}

    def test_what_lies_beside_is_told(self, fleet: Fleet, apply: Apply, home: Path) -> None:
        (fleet.coordinator_folder / "state").symlink_to("/etc")
        assert "state is neither file nor folder" in apply(fleet.server_folder).err
        assert contents(home) == {}

    def test_two_at_once_do_not_mix_their_files(
        self, fleet: Fleet, apply: Apply, home: Path
    ) -> None:
        home.mkdir(parents=True)
        lock = lock_folder(home)
        assert "[state.in-use]" in apply(fleet.server_folder).err
        assert contents(home) == {}
        lock.close()
        assert apply(fleet.server_folder).status == 0

    def test_a_payload_is_no_folder_for_a_server(
        self, fleet: Fleet, apply: Apply, tmp_path: Path
    ) -> None:
        payload = tmp_path / "payload"
        payload.mkdir()
        shutil.copy(fleet.ca_file, payload)
        fleet.sign_folder(payload, purpose="payload", number=9, facts={})
        assert "purpose is payload, not server" in apply(payload).err

    def test_the_part_of_another_machine_may_be_left_out(
        self, fleet: Fleet, apply: Apply, tmp_path: Path
    ) -> None:
        partial = tmp_path / "partial"
        shutil.copytree(fleet.server_folder, partial, ignore=shutil.ignore_patterns("broker"))
        assert apply(partial).status == 0
        (partial / "coordinator" / "revoked").unlink()
        assert "coordinator/revoked is missing" in apply(partial).err

    def test_nobody_but_root_writes_into_etc(
        self, fleet: Fleet, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("os.geteuid", lambda: 1000)
        with pytest.raises(SystemExit):
            cli.main(["coordinator", "apply", str(fleet.server_folder)])
        assert "[apply.not-root]" in capsys.readouterr().err

    def test_the_services_user_must_be_there(
        self, fleet: Fleet, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def nobody(_: str) -> None:
            raise KeyError

        monkeypatch.setattr("os.geteuid", lambda: 0)
        monkeypatch.setattr("pwd.getpwnam", nobody)
        with pytest.raises(SystemExit):
            cli.main(["coordinator", "apply", str(fleet.server_folder), "--only", "coordinator"])
        assert "[apply.no-user]" in capsys.readouterr().err


def revoked_numbers(home: Path) -> frozenset[int]:
    """By the coordinator's list."""
    return Authority.load(home / "ca.crt").revocation((home / "revoked").read_bytes()).revoked


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "lock"}
