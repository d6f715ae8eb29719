"""Exact: what the coordinator decrypts is, integer for integer, the sum of what devices recorded.

Through the whole protocol: announce, ready, roster, tokens, call, list, releases. The sum to
compare with is taken in plain Python integers, over the vectors as they were before masking.
"""

from collections.abc import Callable

import numpy as np
import pytest
from attrs import evolve

from fedring.lab.simulate.cast import device
from fedring.lab.simulate.coordinators import Concluded
from fedring.lab.simulate.devices import SimulatedDevice
from fedring.lab.simulate.fleet import QUICK, SMALL, SimulatedFleet
from fedring.lab.simulate.rehearsal import small_model
from fedring.shared import contributions
from fedring.shared.effects import Send
from fedring.shared.encryption import PRODUCTION, SUITES, Parameters, max_values
from fedring.shared.envelopes import (
    MAX_ENVELOPE_BYTES,
    Signed,
    encode,
    open_envelope,
    pack_envelope,
    sign,
)
from fedring.shared.messages import CHUNK_BYTES, Announce, Chunk, Refused, Release
from fedring.shared.numbers import IntVector, largest_value


def fleet_of(
    n_devices: int,
    n_weights: int,
    *,
    bits: int = 16,
    parameters: Parameters = SMALL,
    key_bits: int = 256,
    extreme: bool = False,
    ring_size: int = 8,
    suite_name: str = SUITES[0],
) -> SimulatedFleet:
    """A fleet whose devices contribute random values, or the largest that there are."""
    rng = np.random.default_rng(n_weights)

    def contribute(_name: str, announce: Signed[Announce], evaluate: bool) -> IntVector:
        largest = largest_value(announce.message.bits)
        drawn = rng.integers(-largest, largest + 1, n_weights)
        values = np.where(drawn < 0, -largest, largest) if extreme else drawn
        return contributions.contribution(
            values.astype(np.int32),
            evaluated=evaluate,
            correct=127 if evaluate else 0,
            loss=4.0 if evaluate else 0.0,
        )

    return SimulatedFleet(
        [1] * n_devices,
        small_model(n_weights),
        contribute,
        suite_name=suite_name,
        bits=bits,
        parameters=parameters,
        key_bits=key_bits,
        terms=evolve(QUICK, size=ring_size),
        seed=n_weights,
    )


def recorded_sum(fleet: SimulatedFleet, names: tuple[int, ...], round_number: int) -> list[int]:
    """The vectors that these devices recorded before masking, added up one integer at a time."""
    total = [0] * len(next(iter(fleet.record.contributions.values()))[0])
    for name in names:
        (vector,) = fleet.record.contributions[round_number, device(name).name]
        for place, value in enumerate(vector.tolist()):
            total[place] += value
    return total


def is_exact(fleet: SimulatedFleet, conclusion: Concluded | None, n_devices: int) -> bool:
    assert conclusion is not None
    opened = conclusion.opened
    if opened is None or opened.bad_rings:
        return False
    assert len(opened.names) == n_devices
    number = conclusion.announce.message.round
    return bool(opened.total.tolist() == recorded_sum(fleet, opened.names, number))


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("n_weights", [1, 2, 3, 93, 4038, 100_000])
def test_any_shape_of_model_is_summed_exactly(n_weights: int, bits: int) -> None:
    fleet = fleet_of(5, n_weights, bits=bits)
    assert is_exact(fleet, fleet.run_round(), 5)


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("n_weights", [1, 93, 4038])
def test_production_parameters_sum_exactly(n_weights: int, bits: int) -> None:
    fleet = fleet_of(3, n_weights, bits=bits, parameters=PRODUCTION, key_bits=2048)
    assert is_exact(fleet, fleet.run_round(), 3)


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("n_weights", [1, 2, 3, 93, 4038])
def test_suite_paillier_sums_any_shape_exactly(n_weights: int, bits: int) -> None:
    fleet = fleet_of(5, n_weights, bits=bits, suite_name="paillier")
    assert is_exact(fleet, fleet.run_round(), 5)


def test_suite_paillier_sums_the_longest_vector_that_it_takes_exactly() -> None:
    n_weights = max_values("paillier") - len(contributions.Check)
    fleet = fleet_of(3, n_weights, key_bits=2048, suite_name="paillier")
    assert is_exact(fleet, fleet.run_round(), 3)
    sizes = [
        len(effect.data)
        for _, _, effect in fleet.record.device_effects
        if isinstance(effect, Send) and isinstance(open_envelope(effect.data).message, Release)
    ]
    assert 65_536 < min(sizes) <= max(sizes) < MAX_ENVELOPE_BYTES, "one message each"


@pytest.mark.parametrize("bits", [8, 16])
def test_a_million_weights_are_summed_exactly(bits: int) -> None:
    fleet = fleet_of(3, 1_000_000, bits=bits, parameters=PRODUCTION, key_bits=2048)
    assert is_exact(fleet, fleet.run_round(), 3)


@pytest.mark.parametrize("suite_name", SUITES)
@pytest.mark.parametrize("bits", [8, 16])
def test_the_largest_values_of_all_devices_do_not_overflow(suite_name: str, bits: int) -> None:
    fleet = fleet_of(24, 50, bits=bits, extreme=True, ring_size=12, suite_name=suite_name)
    assert is_exact(fleet, fleet.run_round(), 24)


def test_several_rounds_and_rings_are_exact_each_for_itself() -> None:
    fleet = fleet_of(7, 40, ring_size=4)
    for _ in range(3):
        conclusion = fleet.run_round()
        assert conclusion is not None
        assert len(conclusion.ended.sums) == 2
        assert is_exact(fleet, conclusion, 7)


# -- one flipped bit ------------------------------------------------------------------------


def with_a_flipped_bit(
    fleet: SimulatedFleet, cheat: str, place: Callable[[int], int], bit: int
) -> None:
    """Let a device flip one bit of the body in its token, and sign that as if it were right."""

    def flip(body: bytearray) -> None:
        body[place(len(body))] ^= 1 << bit

    with_changed_bodies(fleet, cheat, flip)


def with_changed_bodies(
    fleet: SimulatedFleet, cheat: str, change: Callable[[bytearray], None]
) -> None:
    """Let a device change the body in its token, and sign that as if it were right."""
    party = fleet.devices[cheat]
    original = party.member.receive if party.member else None
    assert original is not None
    identity = party.identity

    def cheating(source: str, raw: bytes, now: float) -> object:
        effects = original(source, raw, now)
        return [
            evolve(effect, data=changed(effect.data)) if isinstance(effect, Send) else effect
            for effect in effects
        ]

    def changed(data: bytes) -> bytes:
        message = open_envelope(data).message
        if not isinstance(message, Chunk):
            return data
        body = bytearray(message.data)
        change(body)
        return sign(evolve(message, data=bytes(body)), identity).raw

    party.member.receive = cheating  # type: ignore[method-assign,union-attr]


PLACES: dict[str, Callable[[int], int]] = {
    "the first byte": lambda _: 0,
    "the first value": lambda _: 2,
    "the middle": lambda size: size // 2,
    "the last byte": lambda size: size - 1,
}


@pytest.mark.parametrize("bit", [0, 4, 7])
@pytest.mark.parametrize("where", PLACES)
@pytest.mark.parametrize("cheat", ["b01", "b03", "b05"])
def test_one_flipped_bit_in_one_body_is_never_an_exact_sum(
    cheat: str, where: str, bit: int
) -> None:
    """Signed by a member that cheats. What the checks of the sum cannot tell, the comparison does:
    a change within the range of a value is a value like any other."""
    fleet = fleet_of(5, 30)
    with_a_flipped_bit(fleet, cheat, PLACES[where], bit)
    conclusion = fleet.run_round()
    assert conclusion is not None
    if conclusion.opened is None or conclusion.opened.bad_rings:
        return
    low_noise = PLACES[where](304) % 8 == 0 and bit < 6
    assert is_exact(fleet, conclusion, 5) == low_noise, "only noise below its bound rounds away"


@pytest.mark.parametrize("cheat", ["b02", "b04"])
def test_a_flipped_bit_in_the_carried_bits_is_noticed_by_the_coordinator(cheat: str) -> None:
    """In the padding, or above all values: the sum is thrown away and its ring named."""
    fleet = fleet_of(5, 30)
    with_a_flipped_bit(fleet, cheat, PLACES["the last byte"], 3)
    conclusion = fleet.run_round()
    assert conclusion is not None
    assert conclusion.opened is not None
    assert list(conclusion.opened.bad_rings) == ["1"]
    assert conclusion.opened.names == ()


@pytest.mark.parametrize("cheat", ["b01", "b03", "b05"])
def test_a_residue_that_is_none_goes_no_further(cheat: str) -> None:
    """In suite `paillier` not every body of the right length is one; whoever gets it says so."""
    fleet = fleet_of(5, 30, suite_name="paillier")

    def fill(body: bytearray) -> None:
        body[:32] = bytes([255]) * 32

    with_changed_bodies(fleet, cheat, fill)
    conclusion = fleet.run_round()
    assert conclusion is not None
    effects = [effect for _, _, effect in fleet.record.device_effects]
    sends = [
        effect
        for effect in (*effects, *(effect for _, effect in fleet.record.coordinator_effects))
        if isinstance(effect, Send)
    ]
    refusals = {
        (effect.to, message.reason)
        for effect in sends
        if isinstance(message := open_envelope(effect.data).message, Refused)
    }
    assert refusals == {(cheat, "residue 0 is not below n")}
    if conclusion.opened is not None:
        assert conclusion.opened.bad_rings == {}
        assert is_exact(fleet, conclusion, len(conclusion.opened.names))


def test_a_bit_that_flips_on_the_way_never_gets_into_a_sum() -> None:
    """Nobody signed it: a chunk that is awaited is refused, and the next copy taken."""
    fleet = fleet_of(4, 30)
    flipped: list[str] = []
    for party in fleet.devices.values():
        with_flips_on_the_way_to(party, flipped, most=3)
    assert is_exact(fleet, fleet.run_round(), 4)
    assert len(flipped) == 3
    complaints = [(who, fault.reason) for who, fault in fleet.record.faults]
    assert complaints == [(who, "signature does not hold") for who in flipped]


def with_flips_on_the_way_to(party: SimulatedDevice, flipped: list[str], most: int) -> None:
    """Flip a bit in chunks that a device awaits, just before it gets them: whatever else comes is
    not even looked at."""
    deliver = party.deliver

    def flipping(source: str, data: bytes) -> None:
        unverified = open_envelope(data)
        chunk = unverified.message
        if isinstance(chunk, Chunk) and awaits(party, chunk) and len(flipped) < most:
            body = bytearray(chunk.data)
            body[len(body) // 2] ^= 1
            flipped.append(party.name)
            data = pack_envelope(encode(evolve(chunk, data=bytes(body))), unverified.signature)
        deliver(source, data)

    party.deliver = flipping  # type: ignore[method-assign]


def awaits(party: SimulatedDevice, chunk: Chunk) -> bool:
    held = party.member._round if party.member else None
    return bool(held and held.relay and held.relay.awaits(chunk.hop, chunk.sender))


def test_a_million_weights_take_many_chunks() -> None:
    fleet = fleet_of(2, 1_000_000)
    conclusion = fleet.run_round()
    assert is_exact(fleet, conclusion, 2)
    chunks = [
        effect
        for _, _, effect in fleet.record.device_effects
        if isinstance(effect, Send) and len(effect.data) > CHUNK_BYTES
    ]
    assert len(chunks) >= 2 * (4_000_000 // CHUNK_BYTES)
