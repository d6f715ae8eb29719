"""Boards with nothing but a code become members of a fleet: real Mosquittos, real processes."""

import json
import shutil
import socket
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path

import pytest
from tests.integration.enrolment_site import FLASHED_AT, Site, spied
from tests.integration.test_broker_config import V5, Client

from fedring.coordinator.enrolment.queue import MAX_WAITING
from fedring.device.enrolment.renewing import take_over
from fedring.device.settings import DeviceSettings
from fedring.fleet import authority
from fedring.fleet.signing import judge
from fedring.lab.processes import Child
from fedring.lab.programs import write_toml
from fedring.lab.spy import Spy
from fedring.shared.enrolment import MAX_REQUEST_BYTES, Carried, Enrolment, encode
from fedring.shared.identity import Identity

Start = Callable[..., tuple[Child, int]]
BOARDS = ("b01", "b02", "b03")


@pytest.fixture(scope="module")
def site(
    shipped_mosquitto: Start, mosquitto: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    """Both brokers and a coordinator; each test brings boards of its own."""
    made = Site(tmp_path_factory.mktemp("site"), shipped_mosquitto, mosquitto)
    try:
        made.start_coordinator()
        yield made
    finally:
        made.stop()


@pytest.fixture(autouse=True)
def boards_of_one_test(site: Site) -> Iterator[None]:
    """No board of one test takes part in the rounds of the next, however it ended."""
    yield
    site.stop_boards()


@pytest.fixture
def spy(site: Site) -> Iterator[Spy]:
    with spied(site) as hearing:
        yield hearing


@pytest.fixture
def signing(site: Site) -> Iterator[Child]:
    child = site.sign_watching()
    yield child
    child.stop()


def test_boards_with_a_code_enrol_and_take_part(site: Site, spy: Spy, signing: Child) -> None:
    """Nobody carries a key: they are made on the boards, and stay there."""
    for invitation in site.fleet.invite(BOARDS):
        site.flash(invitation)
        site.boot(invitation.name)
    for name in BOARDS:
        told = spy.status(name, 0, state="idle")
        assert told.facts["certificate"] == f"{site.serial(name):x}"
    spy.event("model published", 0, contributors=len(BOARDS))
    for name in BOARDS:
        key, certificate = (site.card(name) / "own" / f"device.{end}" for end in ("key", "crt"))
        assert [stat.S_IMODE(one.stat().st_mode) for one in (key, certificate)] == [0o600, 0o600]
        site.await_log("sign", f"{name} was seen")
        bootstrap = json.loads((site.card(name) / "bootstrap.json").read_text())
        assert "code" not in bootstrap
        assert bootstrap["flashed_at"] == FLASHED_AT
        assert not (site.fleet.folder / "codes" / name).exists()
        assert site.log("sign").count(f"certified {name}") == 1
        assert site.log("coordinator").count(f"{name} was seen with its certificate") == 1
    assert signing.running


def test_who_does_not_know_the_code_stays_outside(site: Site, spy: Spy, signing: Child) -> None:
    """Until its owner mends the file: the key that it made is kept."""
    first, second = site.fleet.invite(["b11", "b12"])
    card = site.flash(first, code=second.code)
    child = site.boot("b11")
    site.await_log("b11", "declined: made with another code")
    key = (card / "own" / "device.key").read_bytes()
    assert not (card / "own" / "device.crt").exists()
    child.kill()
    assert signing.running
    bootstrap = card / "bootstrap.json"
    bootstrap.write_text(bootstrap.read_text().replace(second.code.hex(), first.code.hex()))
    site.boot("b11")
    spy.status("b11", 0, certificate=f"{awaited_serial(site, 'b11'):x}")
    assert (card / "own" / "device.key").read_bytes() == key


def test_a_code_serves_once(site: Site, spy: Spy, signing: Child) -> None:
    """A copy of a card: who comes second is declined, and the first one stays."""
    (invitation,) = site.fleet.invite(["b13"])
    site.flash(invitation)
    site.boot("b13")
    site.await_log("sign", "b13 was seen")
    site.boards["b13"].stop()
    site.card("b13").rename(site.folder / "boards" / "b13-first")
    site.flash(invitation)
    thief = site.boot("b13")
    site.await_log("b13", "declined: the code of b13 was burnt")
    thief.kill()
    assert signing.running
    assert not (site.card("b13") / "own" / "device.crt").exists()


def test_answers_that_are_carried_in_files(site: Site, spy: Spy) -> None:
    """Nobody is connected; the board is killed while it waits, and finds its answer later."""
    (invitation,) = site.fleet.invite(["b14"])
    card = site.flash(invitation)
    child = site.boot("b14")
    site.await_request("b14")
    child.kill()
    config = ["--config", str(site.coordinator_file)]
    owner = ["--fleet", str(site.fleet.folder)]
    assert "b14" in succeeded(site, "coordinator", "requests", "carried", *config)
    assert "certified b14" in succeeded(site, "fleet", "sign", "carried", *owner)
    succeeded(site, "coordinator", "answers", "carried.answers", *config)
    key = (card / "own" / "device.key").read_bytes()
    site.boot("b14")
    serial = awaited_serial(site, "b14")
    spy.status("b14", 0, certificate=f"{serial:x}")
    assert (card / "own" / "device.key").read_bytes() == key
    # On the next way the owner learns that it came, and burns the code.
    site.wait(lambda: dict(site.carried().seen).get("b14") == serial, "b14 is told of")
    succeeded(site, "coordinator", "requests", "again", *config)
    assert "b14 was seen" in succeeded(site, "fleet", "sign", "again", *owner)
    assert not (site.fleet.folder / "codes" / "b14").exists()


def test_a_board_whose_clock_is_years_back(
    site: Site, spy: Spy, signing: Child, libfaketime: Path
) -> None:
    """2020: before its authority was made, and before its card was flashed."""
    (invitation,) = site.fleet.invite(["b15"])
    site.flash(invitation)
    clock = [f"LD_PRELOAD={libfaketime}", "FAKETIME=@2020-01-01 00:00:00"]
    site.boot("b15", ["env", *clock, "FAKETIME_DONT_FAKE_MONOTONIC=1"])
    told = spy.status("b15", 0, state="idle")
    assert told.facts["since"].startswith("2020-01-01")
    assert told.facts["certificate"] == f"{site.serial('b15'):x}"
    assert signing.running


def test_renewal(site: Site, spy: Spy, monkeypatch: pytest.MonkeyPatch) -> None:
    """The board asks by itself, tries the new pair, and goes on with it; killed, it starts over."""
    (invitation,) = site.fleet.invite(["b16"])
    card = site.flash(invitation)
    site.boot("b16")
    raw = site.await_request("b16")
    with monkeypatch.context() as short_lived:
        short_lived.setattr(authority, "RENEWED_LIFETIME", timedelta(hours=8))
        answer = judge(site.fleet, "b16", raw).raw
    carried = site.folder / "short.answers"
    carried.write_bytes(Carried(fleet=site.fleet.name, items=(("b16", answer),)).encode())
    succeeded(site, "coordinator", "answers", str(carried), "--config", str(site.coordinator_file))
    before = awaited_serial(site, "b16")
    number = spy.status("b16", 0, certificate=f"{before:x}").facts["number"]
    new_key = card / "own" / "device.key.new"
    site.wait(new_key.exists, "b16 asks for its next certificate")
    site.boards["b16"].kill()
    key = new_key.read_bytes()
    site.boot("b16")
    signing = site.sign_watching()
    site.await_log("b16", "b16 goes on with its new certificate")
    after = site.serial("b16")
    told = spy.status("b16", 0, state="idle", certificate=f"{after:x}")
    assert (told.facts["number"], after != before) == (number, True)
    assert (card / "own" / "device.key").read_bytes() == key
    assert not [file.name for file in (card / "own").iterdir() if file.suffix == ".new"]
    assert site.boards["b16"].running
    signing.stop()


@pytest.mark.parametrize("first", ["127.0.0.2", "127.0.0.3", "no-such-host.invalid"])
def test_a_new_pair_is_tried_at_each_name_of_the_broker(
    site: Site, tmp_path: Path, first: str
) -> None:
    """At 127.0.0.2 nobody listens, at 127.0.0.3 somebody else, who would like it to be dropped."""
    own = tmp_path / "own"
    own.mkdir(mode=0o700)
    site.fleet.add(name := f"renews-{first[-1]}")
    for ending, owner in (("", "watcher"), (".new", name)):
        for file in ("device.key", "device.crt"):
            shutil.copy(site.fleet.device_folder(owner) / file, own / f"{file}{ending}")
    write_toml(
        tmp_path / "device.toml",
        {
            "fleet": {
                "ca": str(site.fleet.ca_file),
                "key": "own/device.key",
                "certificate": "own/device.crt",
            },
            "broker": {"host": first, "others": ["localhost"], "port": site.port},
            "state": {"folder": "own"},
            "privacy": {"threshold": 2},
            "data": {"file": "data.csv"},
        },
    )
    with refusing_everybody("127.0.0.3", site.port):
        assert take_over(DeviceSettings.load(tmp_path / "device.toml")) == 0.0
    assert Identity.load(own / "device.key", own / "device.crt").name == name
    assert sorted(file.name for file in own.iterdir()) == ["device.crt", "device.key"]


def test_a_coordinator_tries_each_name_of_its_brokers(site: Site) -> None:
    """At its start, and at the door where boards ask."""
    assert site.coordinator is not None
    site.coordinator.stop()
    site.start_coordinator(host="127.0.0.2", others=["localhost"])
    (invitation,) = site.fleet.invite(["b19"])
    site.flash(invitation)
    site.boot("b19")
    site.await_request("b19")


@contextmanager
def refusing_everybody(host: str, port: int) -> Iterator[None]:
    """Somebody who is no broker, and says to all TLS that its certificate is not known."""

    def serve() -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                with connection:
                    connection.recv(4096)
                    connection.sendall(b"\x15\x03\x03\x00\x02\x02\x2e")

    with socket.create_server((host, port)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def test_a_flood_of_strangers(site: Site, spy: Spy, signing: Child) -> None:
    """In invented names, and in the name of the board that waits: it gets in, nothing fills up."""
    assert site.coordinator is not None
    site.await_log("sign", "connected")
    invitations = site.fleet.invite(["b17", "b18"])
    resident = []
    # What a process needs to stand a flood it may keep; the next, four times as long, adds nothing.
    for invitation, requests in zip(invitations, (2_000, 8_000), strict=True):
        flood(site, invitation.name, requests)
        site.flash(invitation)
        site.boot(invitation.name)
        serial = awaited_serial(site, invitation.name)
        spy.status(invitation.name, 0, certificate=f"{serial:x}")
        site.boards[invitation.name].stop()
        resident.append([rss(one.pid) for one in (site.coordinator, site.enrolment)])
    grown = [after - before for before, after in zip(*resident, strict=True)]
    assert max(grown) < 8_000 * 800 / 2, grown
    waiting = site.folder / "state" / "enrolment"
    assert sum(file.stat().st_size for file in waiting.iterdir()) < MAX_WAITING * MAX_REQUEST_BYTES
    assert not any("x1" in line for line in site.log("coordinator").splitlines())
    assert signing.running


def flood(site: Site, name: str, requests: int) -> None:
    """Ask for certificates with keys of 800 bytes, half of them in the name of a waiting board."""
    with Client(site.board_port, site.stranger, "stranger", V5) as stranger:
        for number in range(requests):
            lie = Enrolment(
                fleet=site.fleet.name,
                name=name if number % 2 else f"x{number}",
                csr=number.to_bytes(4, "big") * 200,
                proof=bytes(32),
            )
            stranger.publish(site.topics.enrolment_request(lie.name), encode(lie))


def rss(pid: int) -> int:
    """Resident memory of a process, bytes."""
    pages = Path(f"/proc/{pid}/statm").read_text().split()[1]
    return int(pages) * 4096


def awaited_serial(site: Site, name: str) -> int:
    """Serial number of the certificate of a board, once it has one."""
    site.wait((site.card(name) / "own" / "device.crt").exists, f"{name} gets its certificate")
    return site.serial(name)


def succeeded(site: Site, *arguments: str) -> str:
    """Run `fedring`, which must succeed; gives what it says."""
    done = site.command(*arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout
