"""The adversary with a recording: it reads what it may, and more only where a defence is out.

The other half of its tests is tests/simulation/test_attacks.py: what it makes of lies.
"""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedring.lab.dump import (
    Evidence,
    Finding,
    Knowledge,
    Participant,
    algebra,
    breaks,
    own_values,
    promised,
    recover,
)
from fedring.lab.dump.recording import load, save
from fedring.lab.simulate.fleet import SMALL
from fedring.lab.simulate.rehearsal import Rehearsal
from fedring.lab.spy import Heard
from fedring.shared.encryption import SUITES, hybrid, interface, lattice
from fedring.shared.envelopes import open_envelope
from fedring.shared.messages import COORDINATOR_NUMBER

EVERYBODY = (1, 2, 3, 4, 5)
MANY = 1000
"""Weights that fill eight public polynomials: nearly always one of them has an inverse."""


@pytest.fixture(autouse=True)
def no_polynomials_of_a_sabotage() -> None:
    """A sabotage changes how they come out of the digest of an announce; here all are alike."""
    algebra._public.cache_clear()


def rehearsed(rounds: int = 1, n_weights: int = 70, **stage: Any) -> Rehearsal:
    """Honest rounds of five devices."""
    rehearsal = Rehearsal((2,) * 5, n_weights=n_weights, **stage)
    for number in range(1, rounds + 1):
        made = rehearsal.announcing(number)
        rehearsal.direct(made)
        for device in rehearsal.actors:
            rehearsal.shows(made.announce.raw, device)
        rehearsal.deliver()
        assert rehearsal.ended is not None
        assert len(rehearsal.ended.sums) == 1
    return rehearsal


def knows(stage: Rehearsal, *devices: int, coordinator: bool = True) -> Knowledge:
    parties = (COORDINATOR_NUMBER, *devices) if coordinator else devices
    return Knowledge(
        stage.key if coordinator else None,
        {party: stage.draws[party] for party in parties},
        SMALL,
    )


def evidence(stage: Rehearsal) -> Evidence:
    return Evidence.of(stage.overheard)


def sums(findings: Iterable[Finding]) -> list[dict[int, int]]:
    return [finding.numbers for finding in findings]


def broken(stage: Rehearsal, *friends: int) -> list[Finding]:
    """What the coordinator reads with its friends, beyond what is promised."""
    seen, known = evidence(stage), knows(stage, *friends)
    return breaks(recover(seen, known), promised(seen, known))


@pytest.mark.parametrize("suite_name", SUITES)
@pytest.mark.parametrize("n_friends", range(5))
def test_a_coordinator_with_friends_reads_the_sum_over_the_others(
    suite_name: str, n_friends: int
) -> None:
    stage = rehearsed(suite_name=suite_name)
    friends, others = EVERYBODY[:n_friends], EVERYBODY[n_friends:]
    findings = recover(evidence(stage), knows(stage, *friends))
    assert sums(findings) == [dict.fromkeys(others, 1)]
    (finding,) = findings
    assert finding.values is not None
    assert finding.values.tolist() == stage.total(*others)
    assert broken(stage, *friends) == []


def test_with_all_but_one_in_on_it_that_one_is_read() -> None:
    """So that everything else can fail: the very same attempts, with one more friend."""
    stage = rehearsed(rounds=2)
    findings = recover(evidence(stage), knows(stage, 1, 2, 4, 5))
    assert {3: 1} in sums(findings)
    last = [one.values for one in findings if one.numbers == {3: 1} and one.values is not None]
    assert stage.total(3) in [values.tolist() for values in last]


def test_differences_of_rounds_are_differences_of_sums() -> None:
    stage = rehearsed(rounds=3)
    findings = recover(evidence(stage), knows(stage, 1, 2))
    assert {tuple(numbers) for numbers in sums(findings)} == {(3, 4, 5)}
    assert broken(stage, 1, 2) == []


@pytest.mark.parametrize("suite_name", SUITES)
def test_devices_without_the_coordinator_read_nothing_of_others(suite_name: str) -> None:
    stage = rehearsed(suite_name=suite_name)
    for devices in ((), (1,), (1, 2, 4, 5)):
        assert recover(evidence(stage), knows(stage, *devices, coordinator=False)) == []


@pytest.mark.parametrize("suite_name", SUITES)
def test_a_device_reads_its_own(suite_name: str) -> None:
    stage = rehearsed(suite_name=suite_name)
    seen, known = evidence(stage), knows(stage, 3, coordinator=False)
    (mine,) = [one for one in seen.participants if known.owns(one)]
    values = own_values(seen, known, mine)
    assert values is not None
    assert values.tolist() == stage.total(3)


def test_a_recording_in_a_file_is_the_same_afterwards(tmp_path: Path) -> None:
    stage = rehearsed()
    heard = [Heard("round", raw) for raw in stage.overheard] + [Heard("event", b"{}")]
    save(heard, tmp_path / "recording")
    assert load(tmp_path / "recording") == heard
    again = Evidence.of(one.payload for one in load(tmp_path / "recording"))
    assert again == evidence(stage)


def test_what_does_not_fit_together_is_left_out() -> None:
    stage = rehearsed()
    whole = list(stage.overheard)
    stage.overheard += [b"", b"junk", bytes(99)]
    stage.overheard += [raw[: len(raw) // 2] for raw in whole]
    assert sums(recover(evidence(stage), knows(stage))) == [dict.fromkeys(EVERYBODY, 1)]
    without_rosters = [raw for raw in whole if open_envelope(raw).message.kind != "roster"]
    assert Evidence.of(without_rosters).tokens == frozenset()
    assert recover(Evidence.of(without_rosters), knows(stage)) == []


# -- it can find something: encryption with one thing left out ---------------------------------


def without_masks(patch: pytest.MonkeyPatch) -> None:
    def body(mask: interface.OneTimeMask, values: Any) -> Any:
        empty = mask._mask.take()
        empty.fill(0)
        mask._suite.add_values(empty, values)
        return empty

    patch.setattr(interface.OneTimeMask, "body", body)


def without_noise(patch: pytest.MonkeyPatch) -> None:
    """Of the two draws from a stream the first is the key, what comes then is noise."""
    seen: list[object] = []
    drawn = lattice.centred_binomial

    def quiet(stream: Any, count: int, eta: int) -> Any:
        values = drawn(stream, count, eta)
        if any(stream is one for one in seen):
            values.fill(0)
        seen.append(stream)
        return values

    patch.setattr(lattice, "centred_binomial", quiet)


def with_one_key_for_all_rounds(patch: pytest.MonkeyPatch) -> None:
    work = Rehearsal.work

    def always(stage: Rehearsal, number: int, announce: Any) -> Any:
        stage.random.seed(number)
        return work(stage, number, announce)

    patch.setattr(Rehearsal, "work", always)
    patch.setattr(lattice, "expansion_seed", lambda _: bytes(32))


def with_one_key_for_all_devices(patch: pytest.MonkeyPatch) -> None:
    prepare = hybrid.Hybrid.prepare
    patch.setattr(hybrid.Hybrid, "prepare", lambda suite, _random: prepare(suite, bytes))


def without_pads(patch: pytest.MonkeyPatch) -> None:
    def none(*_: object, n_pieces: int, **__: object) -> list[int]:
        return [0] * n_pieces

    patch.setattr("fedring.device.releases.pads", none)


SABOTAGES: dict[str, tuple[Callable[[pytest.MonkeyPatch], None], int, dict[int, int]]] = {
    "bodies without a mask": (without_masks, 1, {1: 1}),
    "masks without noise": (without_noise, 1, {1: 1}),
    "the same key and polynomials in two rounds": (with_one_key_for_all_rounds, 2, {1: 0}),
    "the same key at all devices": (with_one_key_for_all_devices, 1, {1: 1, 2: -1}),
    "releases without pads": (without_pads, 1, {1: 1}),
}


def test_an_encryption_that_leaves_nothing_out_is_not_broken() -> None:
    assert broken(rehearsed(rounds=2, n_weights=MANY)) == []


@pytest.mark.parametrize("what", SABOTAGES)
def test_an_encryption_that_leaves_something_out_is_broken(
    what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sabotage, rounds, gain = SABOTAGES[what]
    sabotage(monkeypatch)
    found = sums(broken(rehearsed(rounds, n_weights=MANY)))
    opposite = {number: -weight for number, weight in gain.items()}
    assert gain in found or opposite in found  # a difference may come out either way round


def test_a_second_body_under_one_key_is_found() -> None:
    """Whoever computes its body anew gives the difference away, releases or not."""
    stage = Rehearsal((2,) * 3)
    made = stage.announcing()
    roster = stage.roster(made.announce, stage.all_ready(made))
    for number in (1, 2):
        stage.says(number, roster)
        stage.says(number, stage.lap(roster, number))
    held = stage.actors[1].member._round
    assert held is not None
    assert held.relay is not None
    assert sums(recover(evidence(stage), knows(stage))) == []
    made.suite.add_values(held.relay.body, np.arange(12, dtype=np.int32))
    for number in (1, 2):
        stage.says(number, stage.lap(roster, number, lap=2))
    (finding,) = recover(evidence(stage), knows(stage))
    assert finding.numbers == {1: 1}
    assert finding.values is not None
    assert abs(finding.values).tolist() == list(range(12))


def test_only_combinations_of_promised_sums_are_no_break() -> None:
    stage = rehearsed()
    seen = evidence(stage)
    everybody = frozenset(seen.participants)
    assert promised(seen, knows(stage)) == [everybody]
    assert promised(seen, knows(stage, 1)) == [frozenset(p for p in everybody if p.number != 1)]

    def finding(**numbers: int) -> Finding:
        by_number: dict[int, Participant] = {one.number: one for one in everybody}
        pairs = {(by_number[int(name[1:])], factor) for name, factor in numbers.items()}
        return Finding("", frozenset(pairs), None)

    whole = finding(b1=2, b2=2, b3=2, b4=2, b5=2)
    part = finding(b1=1, b2=1, b3=1, b4=1)
    assert breaks([whole, part], promised(seen, knows(stage))) == [part]
