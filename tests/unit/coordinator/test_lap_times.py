"""How long laps may take: room for slow links, nothing to gain for whoever holds a token back."""

import pytest

from fedring.coordinator.lap_times import LEAST_RATE, START_RATE, LinkRate, lap_s
from fedring.coordinator.planning import terms_of
from fedring.coordinator.settings import Ring
from fedring.device.consent import Consent
from fedring.shared.messages import MAX_ROSTER

BODY = 400_000


def test_a_lap_has_time_for_every_byte_twice_a_hop() -> None:
    assert lap_s(16, 0, 1e5) == 30
    assert lap_s(10, 500_000, 1e5) == 30 + 100


@pytest.mark.parametrize("rate", [START_RATE, LEAST_RATE])
@pytest.mark.parametrize("members", [16, MAX_ROSTER])
def test_no_lap_is_longer_than_devices_accept(members: int, rate: float) -> None:
    consent = Consent(threshold=7)
    terms = terms_of(Ring(), consent.max_values, members=members, rate=rate)
    assert terms.lap_s <= consent.max_duration_s


def test_a_lap_that_came_round_late_makes_the_next_no_longer() -> None:
    rate = LinkRate()
    for _ in range(100):
        rate.learn(BODY, {"seconds": lap_s(16, BODY, rate.bytes_per_s) - 3})
    assert rate.bytes_per_s == START_RATE


def test_a_quick_lap_makes_the_next_shorter_by_half_of_what_it_says() -> None:
    rate = LinkRate()
    rate.learn(BODY, {"seconds": 1.0})
    assert rate.bytes_per_s == (START_RATE + 2 * BODY) / 2


def test_links_that_half_of_the_members_find_slow_are_given_more_time() -> None:
    rate = LinkRate()
    rate.learn(BODY, {"seconds": 300.0, "median_s": 40.0})
    assert rate.bytes_per_s == (START_RATE + 10_000) / 2
    for _ in range(100):
        rate.learn(BODY, {"seconds": 300.0, "median_s": 3_000.0})
    assert rate.bytes_per_s == pytest.approx(LEAST_RATE)


def test_quick_laps_take_that_time_back() -> None:
    rate = LinkRate(LEAST_RATE)
    for _ in range(10):
        rate.learn(BODY, {"seconds": 1.0})
    assert rate.bytes_per_s > BODY


@pytest.mark.parametrize("facts", [{"seconds": 0.0}, {"seconds": 0.0, "median_s": 0.0}, {}])
def test_what_took_no_time_says_nothing(facts: dict[str, float]) -> None:
    rate = LinkRate()
    rate.learn(BODY, facts)
    assert rate.bytes_per_s == START_RATE
