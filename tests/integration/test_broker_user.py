"""What Mosquitto's own user can do to the machine: strangers talk to his process, root starts it.

Mosquitto really becomes the user `mosquitto` here, as Debian's service does, and whatever he may
change he does change. Where folders are said to be of an earlier fedring, they are as that left
them: his own.
"""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.integration.test_revocation import PATIENCE_S, Owner, Site

from fedring.coordinator.apply.broker_check import check_broker
from fedring.coordinator.apply.broker_machine import BrokerMachine
from fedring.shared.errors import BrokerError

pytestmark = pytest.mark.root

_AS_MOSQUITTO = ("setpriv", "--reuid=mosquitto", "--regid=mosquitto", "--init-groups")
SECRET = b"a secret of root\n"


class Machine(Site):
    """A machine on which Mosquitto starts as root, and goes on as its own user."""

    @property
    def machine(self) -> BrokerMachine:
        group = pwd.getpwnam("mosquitto").pw_gid
        return BrokerMachine(self.root, self.reload, self.restart, (0, group), PATIENCE_S)

    def as_mosquitto(self, script: str) -> str:
        """Run what its user would, in the folder of its settings; gives what that prints."""
        done = subprocess.run(
            [*_AS_MOSQUITTO, "sh", "-c", script],
            cwd=self.settings,
            check=False,
            capture_output=True,
            text=True,
        )
        return done.stdout

    def user(self) -> str:
        """As whom Mosquitto runs."""
        assert self.child is not None
        return Path(f"/proc/{self.child.pid}").owner()

    def find(self, test: str) -> str:
        return self.as_mosquitto(f"find . {test} ! -type l")

    def as_an_earlier_fedring_left_it(self) -> Path:
        """Give what its user owned by then; all that lies there is his."""
        folder = self.settings / "fedring"
        for name in ("mosquitto.conf", "acl"):
            (self.settings / name).write_text("# of an earlier one\n")
        (folder / "broker.key").write_text("an old key")
        (folder / "probes").mkdir()
        for path in (folder, *folder.rglob("*"), self.settings / "mosquitto.conf"):
            shutil.chown(path, "mosquitto", "mosquitto")
            path.chmod(0o700 if path.is_dir() else 0o600)
        return folder


@pytest.fixture
def machine(mosquitto: Path) -> Iterator[Machine]:
    folder = Path(tempfile.mkdtemp(prefix="fedring-broker-user-"))
    folder.chmod(0o755)  # pytest's own folders are closed to other users
    root = folder / "machine"
    for made_by_debian in ("etc/mosquitto/fedring", "var/lib/mosquitto", "run/mosquitto"):
        (root / made_by_debian).mkdir(parents=True)
    for his in ("var/lib/mosquitto", "run/mosquitto"):
        shutil.chown(root / his, "mosquitto", "mosquitto")
    made = Machine(root, Owner(folder / "owner", ["b01", "b02"]), mosquitto)
    port = f"port {made.port}\nbind_address 127.0.0.1\n"
    (made.settings / "site").mkdir()
    (made.settings / "site" / "port.conf").write_text(port)
    try:
        yield made
    finally:
        made.stop()
        shutil.rmtree(folder)


def test_he_can_read_what_he_needs_and_change_nothing(machine: Machine) -> None:
    machine.apply()
    assert machine.user() == "mosquitto"
    machine.owner.revoke("b02")
    machine.apply()  # he reads all of it at a reload, as himself
    assert not machine.enters("b02")
    assert machine.enters("b01")
    assert "./fedring/broker.key" in machine.find("-readable")
    assert machine.find("-writable") == ""
    assert machine.as_mosquitto("find . -readable -name '*.key'") == "./fedring/broker.key\n"


def test_what_he_writes_is_no_setting_of_a_process_that_root_starts(machine: Machine) -> None:
    machine.apply()
    machine.as_mosquitto(
        "for folder in . fedring site fedring/probes; do echo user root >$folder/x.conf; done"
    )
    machine.as_mosquitto("echo user root >>mosquitto.conf")
    machine.restart()
    assert machine.user() == "mosquitto"


def test_an_installation_that_was_his_is_mended(machine: Machine) -> None:
    folder = machine.as_an_earlier_fedring_left_it()
    site = (machine.settings / "site" / "port.conf").rename(folder / "site.conf")
    site.parent.parent.joinpath("site").rmdir()  # there was none
    with pytest.raises(BrokerError) as caught:
        check_broker(machine.machine)
    assert caught.value.name == "broker.foreign-file"
    machine.apply()
    assert machine.find("-writable") == ""
    assert machine.user() == "mosquitto"
    assert not site.exists()
    assert (machine.settings / "site" / "site.conf").read_text().startswith("port ")
    assert machine.enters("b01")
    check_broker(machine.machine)


def test_settings_that_he_could_have_written_are_not_taken_along(machine: Machine) -> None:
    folder = machine.as_an_earlier_fedring_left_it()
    machine.as_mosquitto("echo user root >fedring/x.conf")
    before = (machine.settings / "mosquitto.conf").read_bytes()
    error = machine.fails()
    assert error.name == "broker.foreign-file"
    assert str(folder / "x.conf") in error.text
    assert (machine.settings / "mosquitto.conf").read_bytes() == before
    (folder / "x.conf").unlink()
    machine.apply()
    assert machine.user() == "mosquitto"


@pytest.mark.parametrize("link", ["ln -s", "ln"], ids=["symbolic", "hard"])
def test_roots_hand_is_led_to_no_other_file(machine: Machine, link: str) -> None:
    """Where links of both kinds may be made: root makes them, in case the kernel forbids it him."""
    folder = machine.as_an_earlier_fedring_left_it()
    secret = machine.root.parent / "secret"
    secret.write_bytes(SECRET)
    secret.chmod(0o600)
    elsewhere = machine.root.parent / "elsewhere"
    elsewhere.mkdir()
    (folder / "probes").rmdir()
    (folder / "probes").symlink_to(elsewhere)
    names = ("broker.key", "broker.key.good", "ca.crt", ".broker.crt.new", "lost")
    for name in names:
        (folder / name).unlink(missing_ok=True)
        subprocess.run([*link.split(), secret, folder / name], check=True)
    machine.apply()
    assert secret.read_bytes() == SECRET
    assert (secret.stat().st_mode & 0o777, secret.stat().st_uid) == (0o600, 0)
    assert list(elsewhere.iterdir()) == []
    assert not (folder / "probes").is_symlink()
    for path in machine.settings.rglob("*"):
        assert path.is_dir() or path.read_bytes() != SECRET


def test_his_folder_is_his_no_more_before_anything_in_it_is_touched(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else he could put a link into it between a look and a write."""
    folder = machine.as_an_earlier_fedring_left_it()
    owners: list[int] = []
    read = BrokerMachine.read

    def watched(machine: BrokerMachine, place: str) -> bytes | None:
        owners.append(os.stat(folder).st_uid)
        return read(machine, place)

    monkeypatch.setattr(BrokerMachine, "read", watched)
    machine.apply()
    assert set(owners) == {0}
