"""The simulated network, disk and shells by themselves: what they promise to the simulations."""

import pytest
from attrs import define, field

from fedring.coordinator.store import CoordinatorStore
from fedring.lab.simulate.cast import cast, coordinator, device
from fedring.lab.simulate.diagram import diagram
from fedring.lab.simulate.disk import Disk
from fedring.lab.simulate.ledger import COMMIT, new_ledger
from fedring.lab.simulate.network import CALM, Faults, Hold, Network, Passage
from fedring.shared.envelopes import sign
from fedring.shared.errors import IdentityError
from fedring.shared.messages import Refused, tag


@define
class Recorder:
    """A party that keeps what comes to it, with the time."""

    network: Network
    watches: bool = False
    heard: list[tuple[float, str]] = field(factory=list)

    def note(self, what: str) -> None:
        self.heard.append((round(self.network.now, 3), what))

    def connected(self) -> None:
        self.note("connected")

    def deliver(self, source: str, data: bytes) -> None:
        self.note(f"{source}: {data.decode(errors='replace')}")

    def retained(self, topic: str, data: bytes) -> None:
        self.note(f"{topic}: {data.decode()}")

    def seen(self, name: str, *, online: bool) -> None:
        self.note(f"{name} {'comes' if online else 'goes'}")

    @property
    def said(self) -> list[str]:
        return [what for _, what in self.heard]


def network_of(*names: str, faults: Faults = CALM, seed: int = 0) -> tuple[Network, list[Recorder]]:
    network = Network(seed, faults)
    parties = [Recorder(network) for _ in names]
    for name, party in zip(names, parties, strict=True):
        network.join(name, party)
        party.heard.clear()
    return network, parties


def let(network: Network, seconds: float) -> None:
    network.run(lambda: False, network.now + seconds)


def numbers(n: int) -> list[str]:
    return [f"a: {number}" for number in range(n)]


def test_what_one_sends_another_arrives_once_and_in_order() -> None:
    network, (_, b) = network_of("a", "b", faults=Faults(most_delay_s=1.0))
    for number in range(50):
        network.send("a", "b", str(number).encode())
    let(network, 5)
    assert b.said == numbers(50)


@pytest.mark.parametrize(
    ("faults", "kind"),
    [
        (Faults(loss=0.3), "loss"),
        (Faults(duplicates=0.3), "duplicates"),
        (Faults(reordered=0.5, most_delay_s=1.0), "reordering"),
    ],
)
def test_faults_of_the_network_do_what_they_are_called(faults: Faults, kind: str) -> None:
    network, (_, b) = network_of("a", "b", faults=faults)
    for number in range(100):
        network.send("a", "b", str(number).encode())
    let(network, 5)
    assert network.happened[kind] > 0
    assert set(network.happened) == {kind}
    match kind:
        case "loss":
            assert set(b.said) < set(numbers(100))
            assert len(b.said) == 100 - network.happened[kind]
        case "duplicates":
            assert len(b.said) == 100 + network.happened[kind]
            assert set(b.said) == set(numbers(100))
        case "reordering":
            assert b.said != numbers(100)
            assert sorted(b.said) == sorted(numbers(100))


def test_the_same_seed_does_the_same_and_another_one_does_not() -> None:
    def heard(seed: int) -> list[tuple[float, str]]:
        faults = Faults(loss=0.2, duplicates=0.2, reordered=0.5, most_delay_s=1.0)
        network, (_, b) = network_of("a", "b", faults=faults, seed=seed)
        for number in range(30):
            network.send("a", "b", str(number).encode())
        let(network, 5)
        return b.heard

    assert heard(1) == heard(1)
    assert heard(1) != heard(2)


def test_what_comes_for_somebody_away_waits_and_retained_messages_come_with_the_connect() -> None:
    network, (_, b) = network_of("a", "b")
    network.publish("a", "round", b"one")
    let(network, 1)
    network.hold("b", Hold.CUT)
    network.send("a", "b", b"0")
    network.publish("a", "round", b"two")
    network.send("b", "a", b"not connected")
    let(network, 1)
    assert b.said == ["round: one"]
    network.free("b", Hold.CUT)
    let(network, 1)
    assert sorted(b.said[1:]) == ["a: 0", "connected", "round: two", "round: two"]


def test_the_deaf_hear_later_and_the_mute_are_heard_later() -> None:
    network, (a, b) = network_of("a", "b")
    network.hold("b", Hold.DEAF)
    network.hold("b", Hold.MUTE)
    network.send("a", "b", b"0")
    network.send("b", "a", b"0")
    let(network, 9)
    assert a.said == b.said == []
    assert network.is_up("b")
    assert network.alive_at("b") == 5.0
    network.free("b", Hold.DEAF)
    let(network, 1)
    assert b.said == ["a: 0"]
    assert a.said == []
    network.free("b", Hold.MUTE)
    let(network, 1)
    assert a.said == ["b: 0"]


def test_two_cuts_need_two_ends() -> None:
    network, _ = network_of("a", "b")
    for _ in range(2):
        network.hold("b", Hold.CUT)
    network.free("b", Hold.CUT)
    assert not network.is_up("b")
    assert not network.is_whole
    network.free("b", Hold.CUT)
    assert network.is_up("b")
    assert network.is_whole


def test_whoever_is_cut_off_is_not_proven_alive() -> None:
    network, _ = network_of("a", "b")
    let(network, 5)
    assert network.alive_at("b") == 5
    network.hold("b", Hold.CUT)
    let(network, 5)
    assert network.alive_at("b") == 5


def test_a_connection_is_proven_alive_by_what_comes_by_answers_and_by_pings() -> None:
    network, _ = network_of("a", "b")
    let(network, 5.0 + 1.0)
    assert network.alive_at("b") == 5.0
    network.send("b", "a", b"0")
    assert network.alive_at("b") == 6.0
    let(network, 0.5)
    network.send("a", "b", b"0")
    let(network, 1.0)
    assert network.alive_at("b") == pytest.approx(6.5, abs=0.01)


def test_whoever_stands_still_hears_nothing_until_he_goes_on() -> None:
    network, (_, b) = network_of("a", "b")
    let(network, 5)
    network.hold("b", Hold.STILL)
    network.send("a", "b", b"0")
    let(network, 20)
    assert network.is_up("b")
    assert network.alive_at("b") == 5.0
    assert b.said == []
    network.free("b", Hold.STILL)
    let(network, 0)
    assert b.said == ["a: 0"]
    assert network.alive_at("b") == 25.0


@pytest.mark.parametrize("forgets", [False, True])
def test_a_broker_that_restarts_loses_what_is_in_flight_and_maybe_what_it_kept(
    forgets: bool,
) -> None:
    network, (_, b) = network_of("a", "b")
    network.publish("a", "round", b"one")
    let(network, 1)
    b.heard.clear()
    network.hold("b", Hold.CUT)
    network.send("a", "b", b"queued")
    let(network, 1)
    network.send("a", "b", b"in flight")
    network.restart_broker(1.0, forgets=forgets)
    network.free("b", Hold.CUT)
    assert not network.is_up("b")
    let(network, 5)
    kept = [] if forgets else ["a: queued", "round: one"]
    assert sorted(b.said) == sorted(["connected", *kept])
    lost = [entry for entry in network.log if isinstance(entry, Passage) and entry.lost]
    assert [entry.data for entry in lost] == [b"in flight"]


def test_a_lame_link_is_slow_both_ways() -> None:
    network, (a, b) = network_of("a", "b")
    network.lag("b", 2.0)
    network.send("a", "b", b"0")
    network.send("b", "a", b"0")
    let(network, 5)
    assert [at for at, _ in (*a.heard, *b.heard)] == pytest.approx([2.0, 2.0], abs=0.01)


def test_whoever_watches_hears_of_comings_and_of_goings_after_a_while() -> None:
    network = Network(0, CALM)
    watcher, other = Recorder(network, watches=True), Recorder(network)
    network.join("w", watcher)
    network.join("a", other)
    network.leave("a")
    let(network, 30)
    network.join("a", other)
    let(network, 1)
    assert watcher.said == ["connected", "a comes", "a goes", "a comes"]
    assert other.said == ["connected", "connected"]


def test_time_comes_to_its_limit_even_when_nothing_happens() -> None:
    network = Network(0, CALM)
    assert not network.run(lambda: False, 7.0)
    assert network.now == 7.0


# -- disks ----------------------------------------------------------------------------------------


def test_a_power_cut_takes_what_was_written_but_not_synced() -> None:
    disk = Disk()
    disk.write(joined=(1, 1))
    disk.sync()
    disk.write(joined=(1, 2), releases=1)
    assert (disk.written.joined, disk.synced.joined) == ((1, 2), (1, 1))
    disk.lose_power()
    assert (disk.written.joined, disk.written.releases) == ((1, 1), 0)


def test_a_store_in_memory_survives_its_process_and_a_cut_transaction_changes_nothing() -> None:
    disk = new_ledger("rehearsal")
    store = CoordinatorStore(disk, None)
    store.enter_epoch(1)
    store.next_round()

    def cut(step: str) -> None:
        if step == COMMIT:
            raise KeyboardInterrupt

    disk.on_step = cut
    with pytest.raises(KeyboardInterrupt):
        store.next_round()
    disk.on_step = lambda _: None
    again = CoordinatorStore(disk, None)
    assert again.last_round() == 1
    assert again.next_round() == (1, 2)
    assert CoordinatorStore(new_ledger("rehearsal"), None).last_round() == 0


# -- people and pictures --------------------------------------------------------------------------


def test_a_quick_cast_has_the_same_people_and_still_tells_them_apart() -> None:
    quick = device(1, quick=True)
    assert quick.certificate == device(1).certificate
    message = Refused(**tag("rehearsal", 1, 1, 1), about=bytes(32), reason="no")
    authority = cast(quick=True).authority
    signed, other = sign(message, quick), sign(message, device(2, quick=True))
    signature = quick.sign("refused", signed.payload)
    authority.peer(quick.certificate).verify("refused", signed.payload, signature)
    for kind, payload, wrong in (
        ("refused", signed.payload, device(2, quick=True).sign("refused", other.payload)),
        ("refused", signed.payload + b"x", signature),
        ("taken", signed.payload, signature),
    ):
        with pytest.raises(IdentityError, match="signature does not hold"):
            authority.peer(quick.certificate).verify(kind, payload, wrong)
    assert coordinator(quick=True).peer == coordinator().peer


def test_a_log_is_drawn_as_a_sequence_diagram() -> None:
    faults = Faults(least_delay_s=0.004, most_delay_s=0.004)
    network, _ = network_of("coordinator", "b01", "b02", "b03", faults=faults)
    network.log.clear()
    no = sign(Refused(**tag("rehearsal", 1, 1, 1), about=bytes(32), reason="no"), device(1)).raw
    network.send("b01", "b03", no)
    let(network, 1)
    network.hold("b02", Hold.CUT)
    network.send("b03", "coordinator", no)
    let(network, 1)
    network.send("b02", "coordinator", no)
    drawn = diagram(["coordinator", "b01", "b02", "b03"], network.log)
    assert [line.rstrip() for line in drawn.splitlines()] == [
        "  seconds  coord b01   b02   b03",
        "    0.004  |     |---------->|      refused: no",
        "    1.000  |     |     #     |      ## b02 cut off",
        "    1.004  |<----------------|      refused: no",
        "    2.000  |     x-----|     |      refused: no   ## not connected",
    ]
