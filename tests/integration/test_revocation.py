"""A board is thrown out: what the broker's side of it does to a real Mosquitto, and what can fail.

Each fault is put between the new files and the reload, where nothing that looks at files before or
after can see it: only trying the broker tells.
"""

import os
import signal
import socket
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from attrs import Factory, define, field
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from tests.integration.conftest import BROKER_CONFIG, await_port, free_port
from tests.integration.test_broker_config import V5, Client

from fedring.coordinator.apply import broker_side
from fedring.coordinator.apply.broker_machine import BrokerMachine
from fedring.coordinator.apply.broker_side import apply_broker
from fedring.coordinator.apply.placing import place_file
from fedring.fleet.authority import Fleet
from fedring.fleet.folders import identity_files, pem
from fedring.fleet.issuing import Issuer, new_key
from fedring.lab.fleets import LocalFleet
from fedring.lab.processes import Child
from fedring.lab.programs import Tables
from fedring.lab.spy import Spy
from fedring.shared.access_lists import access_list
from fedring.shared.broker import Broker, enter, probe
from fedring.shared.cli import command as fedring
from fedring.shared.errors import BrokerError, StateError, UserError
from fedring.shared.state import lock_folder
from fedring.shared.tls import tls_context

INBOX = "fedring/greenhouse/device/{}/inbox/coordinator"
PATIENCE_S = 2.0


class Owner:
    """The owner's machine: certificates, and the broker's part of the folder for the server."""

    def __init__(self, folder: Path, names: list[str]) -> None:
        self.issuer = Issuer.create("greenhouse")
        self.folder = folder
        self.serials: dict[str, list[int]] = {}
        self.revoked: list[int] = []
        self.denied: set[str] = set()
        self.lost: list[str] = []
        self.number = 0
        ca = pem(self.issuer.certificate)
        key = new_key()
        certificate = self.issuer.broker(key.public_key(), ["localhost"])
        self._files = {
            f"broker/{name}": content
            for name, content in identity_files("broker", key, certificate, ca).items()
        }
        self._files["broker/mosquitto.conf"] = (BROKER_CONFIG / "mosquitto.conf").read_bytes()
        for role, certify in (("canary", self.issuer.canary), ("probe", self.issuer.probe)):
            key = new_key()
            certificate = certify(key.public_key())
            for name, content in identity_files(role, key, certificate, ca).items():
                self._files[f"canary/{name}"] = content
            if role == "canary":
                self.revoked.append(certificate.serial_number)
        self._certify("coordinator", self.issuer.coordinator)
        for number, name in enumerate(names, start=1):
            self.add(name, number)

    def add(self, name: str, number: int) -> None:
        self._certify(name, lambda key: self.issuer.device(key, name, number))
        self.denied.discard(name)

    def _certify(self, name: str, certify: Callable[..., x509.Certificate]) -> None:
        key = new_key()
        certificate = certify(key.public_key())
        self.serials.setdefault(name, []).append(certificate.serial_number)
        (self.folder / name).mkdir(exist_ok=True, parents=True)
        for file, content in identity_files(
            "member", key, certificate, pem(self.issuer.certificate)
        ).items():
            (self.folder / name / file).write_bytes(content)

    def renew(self, name: str, number: int = 0) -> None:
        """Give somebody another certificate under the same name; what it had counts no more."""
        for serial in self.serials.pop(name):
            self.revoked.append(serial)
            self.lost.append(f"{name} {serial:x}")
        if name == "coordinator":
            self._certify(name, self.issuer.coordinator)
        else:
            self.add(name, number)

    def tls(self, name: str) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        folder = self.folder / name
        context.load_verify_locations(folder / "ca.crt")
        context.load_cert_chain(folder / "member.crt", folder / "member.key")
        return context

    def revoke(self, *names: str) -> None:
        for name in names:
            self.denied.add(name)
            for serial in self.serials.pop(name):
                self.revoked.append(serial)
                self.lost.append(f"{name} {serial:x}")

    def crl(self, valid_from: timedelta = timedelta(), days: float = 3650) -> bytes:
        start = datetime.now(UTC) - timedelta(days=1) + valid_from
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self.issuer.certificate.subject)
            .last_update(start)
            .next_update(start + timedelta(days=days))
            .add_extension(x509.CRLNumber(self.number), critical=False)
        )
        for serial in self.revoked:
            entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(start)
            builder = builder.add_revoked_certificate(entry.build())
        return builder.sign(self.issuer.key, hashes.SHA256()).public_bytes(Encoding.PEM)

    def files(self, crl: bytes | None = None) -> dict[str, bytes]:
        self.number += 1
        crl = crl or self.crl()
        template = (BROKER_CONFIG / "acl").read_text()
        return self._files | {
            "broker/crl.pem": crl,
            "broker/acl": access_list(template, self.denied, crl),
            "broker/lost": "\n".join([*sorted(self.lost), ""]).encode(),
        }


@define
class Site:
    """A machine with Mosquitto, and the owner who sends it folders."""

    root: Path
    owner: Owner
    program: Path
    port: int = field(factory=free_port)
    child: Child | None = None
    reloads: int = 0
    reload: Callable[[], None] = field(default=Factory(lambda self: self.hang_up, takes_self=True))
    before_reload: Callable[[], object] = lambda: None
    told: list[str] = field(factory=list)
    deaf: bool = False

    @property
    def settings(self) -> Path:
        return self.root / "etc" / "mosquitto"

    @property
    def machine(self) -> BrokerMachine:
        return BrokerMachine(self.root, self.reload, self.restart, None, PATIENCE_S)

    def hang_up(self) -> None:
        """What systemctl reload does: send SIGHUP."""
        self.reloads += 1
        self.before_reload()
        assert self.child is not None
        self.child.send(signal.SIGHUP)

    def restart(self) -> None:
        if self.deaf:
            raise BrokerError("it does not restart", name="broker.not-told")
        self.before_reload()
        self.stop()
        self.child = Child.start(
            ["env", f"--chdir={self.root}", self.program, "-c", "etc/mosquitto/mosquitto.conf"],
            name="mosquitto",
            log=self.root / "log",
        )
        try:
            await_port(self.child, self.port)
        except AssertionError as error:
            raise BrokerError(str(error), name="broker.not-told") from None

    def stop(self) -> None:
        if self.child is not None:
            self.child.stop()

    def apply(self, files: Mapping[str, bytes] | None = None) -> None:
        apply_broker(files or self.owner.files(), self.machine, self.told.append)

    def fails(self, files: Mapping[str, bytes] | None = None) -> BrokerError:
        with pytest.raises(BrokerError) as caught:
            self.apply(files)
        return caught.value

    def client(self, name: str) -> Client:
        return Client(self.port, self.owner.tls(name), name, V5)

    def enters(self, name: str) -> bool:
        """Tell whether a board gets in; being refused otherwise than for its certificate fails."""
        try:
            probe(Broker("localhost", self.port, self.owner.tls(name)), name, persistent=False)
        except BrokerError as error:
            if error.name != "broker.certificate-refused":
                raise
            return False
        return True

    def write(self, place: str, content: bytes | None) -> None:
        path = self.settings / place
        path.unlink()
        if content is not None:
            path.write_bytes(content)

    def snapshot(self) -> dict[str, bytes]:
        return {str(path): path.read_bytes() for path in self.settings.rglob("*") if path.is_file()}


@pytest.fixture
def bare(mosquitto: Path, tmp_path: Path) -> Iterator[Site]:
    """A machine on which Debian has put Mosquitto."""
    root = tmp_path / "machine"
    for made_by_debian in ("etc/mosquitto/site", "var/lib/mosquitto", "run/mosquitto"):
        (root / made_by_debian).mkdir(parents=True)
    owner = Owner(tmp_path / "owner", ["b01", "b02", "b03"])
    site = Site(root, owner, mosquitto)
    user = "user root\n" if os.geteuid() == 0 else ""
    (site.settings / "site" / "port.conf").write_text(
        f"port {site.port}\nbind_address 127.0.0.1\n{user}"
    )
    with ExitStack() as ending:
        ending.callback(site.stop)
        yield site


@pytest.fixture
def site(bare: Site) -> Site:
    """The same after its first folder."""
    bare.apply()
    return bare


def delivered(sender: Client, receiver: Client, name: str, payload: bytes) -> None:
    """See that what the coordinator sends to a board gets there."""
    sender.publish(INBOX.format(name), payload)
    assert payload in [one for _, one in receiver.take(until=payload)]


class TestRevoked:
    def test_a_live_connection_is_cut_off_at_once_and_nobody_elses(self, site: Site) -> None:
        with_a_will = site.client("b03")
        with_a_will.will("fedring/greenhouse/device/b03/status", b"its will")
        with (
            site.client("coordinator") as coordinator,
            site.client("b01") as other,
            with_a_will as lost,
        ):
            other.subscribe("fedring/greenhouse/device/b03/status")
            for name, client in (("b01", other), ("b03", lost)):
                client.subscribe(INBOX.format(name))
                delivered(coordinator, client, name, b"before")
            site.owner.revoke("b03")
            site.apply()
            lost.wait(lambda: lost.losses > 0)
            assert not site.enters("b03")
            coordinator.publish(INBOX.format("b03"), b"after")
            coordinator.publish(INBOX.format("b01"), b"after")
            assert [one for _, one in other.take(until=b"after")] == [b"after"]
            assert lost.messages == []
            assert not lost.connected
            assert other.losses == coordinator.losses == 0
            assert site.reloads == 1
            assert site.enters("b02")

    def test_a_connection_that_cannot_be_closed_has_no_right_left(self, site: Site) -> None:
        with site.client("coordinator") as coordinator, site.client("b03") as lost:
            lost.subscribe(INBOX.format("b03"))
            coordinator.subscribe("fedring/greenhouse/coordinator/inbox/+")
            assert lost.publish("fedring/greenhouse/coordinator/inbox/b03", b"before") == 0
            coordinator.take(until=b"before")
            site.owner.revoke("b03")
            (site.root / "run" / "mosquitto" / "eviction.sock").unlink()
            error = site.fails()
            assert error.name == "broker.not-evicted"
            assert "they can read and write nothing" in error.text
            assert lost.publish("fedring/greenhouse/coordinator/inbox/b03", b"after") == 135
            coordinator.publish(INBOX.format("b03"), b"after")
            with site.client("b01") as other:
                other.publish("fedring/greenhouse/coordinator/inbox/b01", b"mark")
            assert [one for _, one in coordinator.take(until=b"mark")] == [b"mark"]
            assert lost.losses == 0
            assert lost.messages == []
        assert not site.enters("b03")

    def test_a_name_given_again_is_not_the_old_boards(self, site: Site) -> None:
        with site.client("b03") as lost:
            site.owner.revoke("b03")
            site.owner.add("b03", 4)
            site.apply()
            lost.wait(lambda: lost.losses > 0)
        assert site.enters("b03")
        with site.client("b03") as new:
            assert new.publish("fedring/greenhouse/coordinator/inbox/b03", b"") in {0, 16}
            site.apply()
            assert new.publish("fedring/greenhouse/coordinator/inbox/b03", b"") in {0, 16}
            assert new.losses == 0

    @pytest.mark.parametrize("name", ["b03", "coordinator"])
    def test_of_a_name_that_keeps_its_rights_no_old_connection_stays(
        self, site: Site, name: str
    ) -> None:
        """Reset boards and renewed servers: only closing their old connections takes rights."""
        topic = f"fedring/greenhouse/device/b01/inbox/{name}"
        with site.client(name) as old:
            assert old.publish(topic, b"before") in {0, 16}
            site.owner.renew(name, 4)
            site.apply()
            old.wait(lambda: old.losses > 0)
            assert not old.connected
        assert site.enters(name)
        assert "started anew" not in "".join(site.told)

    @pytest.mark.parametrize("name", ["b03", "coordinator"])
    def test_if_it_cannot_be_closed_alone_all_are(self, site: Site, name: str) -> None:
        with site.client(name) as old:
            site.owner.renew(name, 4)
            (site.root / "run" / "mosquitto" / "eviction.sock").unlink()
            site.apply()
            old.wait(lambda: old.losses > 0)
            assert not old.connected
        assert site.enters(name)
        assert "Mosquitto was started anew" in "".join(site.told)

    def test_if_not_even_that_helps_it_says_who_still_has_rights(self, site: Site) -> None:
        with site.client("b03") as old:
            site.owner.renew("b03", 4)
            (site.root / "run" / "mosquitto" / "eviction.sock").unlink()
            site.deaf = True
            error = site.fails()
            assert error.name == "broker.not-evicted"
            assert "who was b03 can read and write as before" in error.text
            assert old.publish("fedring/greenhouse/device/b01/inbox/b03", b"") in {0, 16}
            site.deaf = False
            site.apply()
            old.wait(lambda: old.losses > 0)

    def test_a_session_of_tls_is_not_resumed_either(self, site: Site) -> None:
        """A resumed session shows no certificate: its ticket must be worth nothing by then."""
        tls = site.owner.tls("b03")

        def resume(session: ssl.SSLSession | None) -> ssl.SSLSocket:
            plain = socket.create_connection(("localhost", site.port), 5)
            resumed = tls.wrap_socket(plain, server_hostname="localhost", session=session)
            with ExitStack() as failing:
                failing.callback(resumed.close)
                enter(resumed, "the broker", "b03", persistent=False)
                failing.pop_all()
            return resumed

        with resume(None) as first, resume(first.session) as second:
            assert second.session_reused
            site.owner.revoke("b03")
            site.apply()
            with pytest.raises(BrokerError) as caught:
                resume(second.session)
        assert caught.value.name == "broker.certificate-refused"

    def test_five_thousand_are_out(self, site: Site) -> None:
        for number in range(5_000):
            name = f"old-{number:04d}"
            site.owner.serials[name] = [x509.random_serial_number()]
            site.owner.revoke(name)
        site.owner.revoke("b03")
        with site.client("b03") as lost, site.client("b01") as other:
            site.apply()
            lost.wait(lambda: lost.losses > 0)
            assert other.publish("fedring/greenhouse/coordinator/inbox/b01", b"") in {0, 16}
            assert other.losses == 0
        assert not site.enters("b03")

    def test_the_same_folder_again_looks_and_mends(self, site: Site) -> None:
        site.owner.revoke("b03")
        files = site.owner.files()
        site.apply(files)
        reloads = site.reloads
        site.apply(files)
        assert site.reloads == reloads
        shipped = (BROKER_CONFIG / "acl").read_bytes()
        site.write("acl", shipped)
        assert site.child is not None
        site.child.send(signal.SIGHUP)
        site.apply(files)
        assert site.reloads == reloads + 1
        assert (site.settings / "acl").read_bytes() == files["broker/acl"]
        site.write("fedring/crl.pem", None)
        site.child.send(signal.SIGHUP)
        while not site.enters("b03"):
            pass
        (site.settings / "fedring" / "crl.pem").write_bytes(files["broker/crl.pem"])
        site.apply(files)
        assert not site.enters("b03")


def garbage(site: Site) -> bytes | None:
    return b"garbage"


def missing(site: Site) -> bytes | None:
    return None


def expired(site: Site) -> bytes | None:
    return site.owner.crl(days=0.5)


def of_nobody(site: Site) -> bytes | None:
    site.owner.revoked.clear()
    return site.owner.crl()


@pytest.mark.parametrize("damage", [garbage, missing, expired, of_nobody])
def test_a_list_of_revoked_that_does_not_hold_is_seen_and_put_back(
    site: Site, damage: Callable[[Site], bytes | None]
) -> None:
    site.owner.revoke("b02")
    site.apply()
    good = (site.settings / "fedring" / "crl.pem").read_bytes()
    with site.client("b03") as lost:
        site.owner.revoke("b03")
        files = site.owner.files()
        content = damage(site)
        if damage is not missing:
            assert content

        def once() -> None:
            site.before_reload = lambda: None
            site.write("fedring/crl.pem", content)

        site.before_reload = once
        error = site.fails(files)
        assert error.name == "broker.restored"
        assert ("nobody gets in" in error.text) == (damage is expired)
        assert (site.settings / "fedring" / "crl.pem").read_bytes() == good
        assert lost.publish("fedring/greenhouse/coordinator/inbox/b03", b"") in {135, -1}
    assert not site.enters("b02")
    assert site.enters("b01")
    site.apply(files)
    assert not site.enters("b03")


def bad_last_line(acl: bytes) -> bytes | None:
    return acl + b"broken line\n"


def bad_first_line(acl: bytes) -> bytes | None:
    return b"broken line\n" + acl


def gone(acl: bytes) -> bytes | None:
    return None


@pytest.mark.parametrize("damage", [bad_last_line, bad_first_line, gone])
def test_an_access_list_that_does_not_hold_is_seen_and_put_back(
    site: Site, damage: Callable[[bytes], bytes | None]
) -> None:
    good = (site.settings / "acl").read_bytes()
    site.owner.revoke("b03")
    files = site.owner.files()

    def once() -> None:
        site.before_reload = lambda: None
        site.write("acl", damage(files["broker/acl"]))

    site.before_reload = once
    error = site.fails(files)
    assert error.name == "broker.restored"
    assert "no access list" in error.text
    assert (site.settings / "acl").read_bytes() == good
    with site.client("b02") as thief:
        assert thief.publish("fedring/greenhouse/round", b"forged") == 135
    site.apply(files)
    assert not site.enters("b03")


def test_when_nothing_helps_it_says_so(site: Site) -> None:
    site.owner.revoke("b03")
    site.before_reload = lambda: (site.settings / "fedring" / "crl.pem").write_bytes(b"garbage")
    error = site.fails()
    assert error.name == "broker.not-in-force"
    assert "a revoked certificate gets in" in error.text
    assert "stop mosquitto" in error.hint


@pytest.mark.parametrize("file", ["mosquitto.conf", "broker.key"])
def test_files_with_which_nobody_gets_an_answer_are_put_back_without_the_lists(
    site: Site, file: str
) -> None:
    place = file if file == "mosquitto.conf" else f"fedring/{file}"
    good = (site.settings / place).read_bytes()
    bad = good + b"broken\n" if file == "mosquitto.conf" else b"-"
    site.owner.revoke("b03")
    files = site.owner.files() | {f"broker/{file}": bad}
    assert site.fails(files).name == "broker.restored"
    assert (site.settings / place).read_bytes() == good
    assert site.enters("b01")
    assert not site.enters("b03")


def test_an_access_list_that_is_cut_short_is_written_again(site: Site) -> None:
    site.owner.revoke("b03")
    files = site.owner.files()

    def once() -> None:
        site.before_reload = lambda: None
        site.write("acl", files["broker/acl"][: files["broker/acl"].index(b"user b03")])

    site.before_reload = once
    site.apply(files)
    assert site.reloads == 2
    assert (site.settings / "acl").read_bytes() == files["broker/acl"]
    assert not site.enters("b03")


def test_a_reload_that_does_not_happen_is_not_taken_for_one(site: Site) -> None:
    site.owner.revoke("b03")
    files = site.owner.files()
    site.reload = lambda: None
    assert site.fails(files).name == "broker.not-told"
    assert site.enters("b03")
    site.reload = site.hang_up
    site.apply(files)
    assert not site.enters("b03")


def test_who_keeps_the_broker_busy_undoes_nothing(site: Site) -> None:
    """A broker that cannot be looked at keeps its new lists."""
    site.owner.revoke("b03")
    files = site.owner.files()
    assert site.child is not None
    child = site.child
    site.before_reload = child.freeze
    assert site.fails(files).name == "broker.not-told"
    site.before_reload = lambda: None
    child.thaw()
    assert (site.settings / "fedring" / "crl.pem").read_bytes() == files["broker/crl.pem"]
    while site.enters("b03"):
        pass
    site.apply(files)


def test_two_at_once_do_not_undo_each_others_work(site: Site) -> None:
    before = site.snapshot()
    with closing(lock_folder(site.settings)), pytest.raises(StateError) as caught:
        site.apply()
    assert caught.value.name == "state.in-use"
    assert site.snapshot() == before


class TestUnfit:
    @pytest.mark.parametrize(
        ("fault", "words"),
        [
            (lambda owner: owner.crl(days=0.5), "nobody would get in"),
            (lambda owner: owner.crl(timedelta(days=2)), "nobody would get in"),
            (lambda owner: owner.crl()[:-40], "damaged"),
            (lambda owner: owner.crl() * 2, "damaged"),
            (lambda owner: b"", "damaged"),
            (lambda owner: owner.revoked.clear() or owner.crl(), "canary"),
        ],
        ids=["expired", "not yet", "cut", "doubled", "empty", "without canary"],
    )
    def test_a_bad_list_of_revoked_changes_nothing(
        self, site: Site, fault: Callable[[Owner], bytes], words: str
    ) -> None:
        before = site.snapshot()
        error = site.fails(site.owner.files(fault(site.owner) or b"-"))
        assert error.name == "broker.revoked-list"
        assert words in error.text
        assert site.snapshot() == before
        assert site.reloads == 0

    def test_an_older_list_changes_nothing(self, site: Site) -> None:
        old = site.owner.files()
        site.owner.revoke("b03")
        site.apply()
        assert site.fails(old).name == "broker.revoked-list"
        assert not site.enters("b03")

    def test_an_access_list_of_another_folder_changes_nothing(self, site: Site) -> None:
        files = site.owner.files()
        site.owner.revoke("b03")
        before = site.snapshot()
        mixed = site.owner.files() | {"broker/acl": files["broker/acl"]}
        assert site.fails(mixed).name == "broker.access-list"
        assert site.snapshot() == before


def damage_crl(site: Site) -> None:
    site.write("fedring/crl.pem", b"garbage")


def loosen_acl(site: Site) -> None:
    site.write("acl", (BROKER_CONFIG / "acl").read_bytes())


class TestCheck:
    def check(self, site: Site) -> str:
        """Run `fedring coordinator check-broker`; gives the name of its error."""
        arguments = ["coordinator", "check-broker", "--root", str(site.root)]
        try:
            fedring.main(arguments, standalone_mode=False)
        except UserError as error:
            return error.name
        return ""

    def test_nothing_was_ever_applied(self, bare: Site) -> None:
        assert self.check(bare) == "state.missing"

    def test_a_broker_that_is_not_there_is_not_said_to_be_open(self, site: Site) -> None:
        site.stop()
        assert self.check(site) == "broker.unreachable"

    @pytest.mark.parametrize(
        ("change", "on_disk", "in_force"),
        [
            (damage_crl, "broker.revoked-list", "broker.not-in-force"),
            (loosen_acl, "broker.access-list", "broker.access-list"),
        ],
    )
    def test_files_that_were_changed_are_seen_before_and_after_a_reload(
        self, site: Site, change: Callable[[Site], None], on_disk: str, in_force: str
    ) -> None:
        assert self.check(site) == ""
        change(site)
        assert self.check(site) == on_disk
        site.reload()
        while (found := self.check(site)) == on_disk != in_force:
            pass
        assert found == in_force
        site.apply()
        assert self.check(site) == ""


class PowerCutError(Exception):
    """The power is gone."""


def test_whenever_the_power_is_cut_it_begins_again_where_it_was(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After each single write the power goes, and the broker starts with what is there."""
    left = 0

    def cut(path: Path, *rest: object) -> None:
        nonlocal left
        if left == 0:
            raise PowerCutError
        left -= 1
        place_file(path, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(broker_side, "place_file", cut)
    crl = site.settings / "fedring" / "crl.pem"
    for n_writes in range(50):
        name = f"board-{n_writes}"
        site.owner.add(name, 10 + n_writes)
        site.owner.revoke(name)
        files = site.owner.files()
        left = n_writes
        try:
            site.apply(files)
        except PowerCutError:
            site.restart()
        else:
            break
        assert site.enters(name) == (crl.read_bytes() != files["broker/crl.pem"])
        assert site.enters("b01")
        left = -1
        site.apply(files)
        assert not site.enters(name)
    assert n_writes > 5


TLS: Tables = {"broker": {"tls": True}}
LEARNING: Tables = {"ring": {"size": 8, "min_devices": 4, "patience_s": 2, "release_s": 4}}


def server_files(fleet: Fleet) -> dict[str, bytes]:
    """What the owner hands to the broker's machine."""
    folder = fleet.server_folder
    parts = [path for part in ("broker", "canary") for path in (folder / part).iterdir()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in parts}


def test_a_revoked_board_is_out_of_the_ring_at_the_next_round(bare: Site, tmp_path: Path) -> None:
    """A whole fleet: five real boards learn, one of them is thrown out, four go on."""
    broker = Broker("localhost", bare.port)
    settings: Tables = {**TLS, **LEARNING}
    with LocalFleet(tmp_path / "fleet", broker, 5, coordinator=settings, device=TLS) as fleet:
        fleet.authority.add("watcher")
        bare.apply(server_files(fleet.authority))
        folder = fleet.authority.device_folder("watcher")
        tls = tls_context(
            folder / "ca.crt", folder / "device.crt", folder / "device.key", judge_dates=True
        )
        with Spy(Broker("localhost", bare.port, tls), fleet.topics, fleet.check) as spy:
            fleet.start()
            spy.event("model published", 0, contributors=5)
            fleet.authority.revoke("b05")
            bare.apply(server_files(fleet.authority))
            since = spy.now
            begun = spy.event("ring formed", since).facts["round"]
            published = spy.event("model published", since, round=begun + 1)
            assert published.facts["contributors"] == 4
            while "refuses our certificate" not in dict(fleet.logs())["b05"]:
                fleet.check()
                time.sleep(0.1)
            for name in ("coordinator", *fleet.names[:4]):
                assert "lost the connection" not in dict(fleet.logs())[name]
        assert "closed what was still open of b05" in bare.told
