"""The coordinator's queue of boards that ask: bounded, fair after a flood, empty in the end."""

import random
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedring.coordinator.enrolment.queue import (
    FORGET_S,
    MAX_WAITING,
    SHOW_S,
    SHOWN,
    Effects,
    HandOn,
    Queue,
    Show,
    TakeBack,
)
from fedring.lab.fuzzing import people
from fedring.shared.enrolment import (
    MAX_PER_NAME,
    Certified,
    Declined,
    Enrolment,
    ask_first,
    digest_of,
    encode,
    serial_of,
)
from fedring.shared.errors import IdentityError, MessageError

BOARD = people.device(1)
ASKED = ask_first(people.key(11), people.FLEET, "b01", bytes(16))
CERTIFIED = encode(Certified(request=digest_of(ASKED), certificate=BOARD.certificate))
DECLINED = encode(Declined(request=digest_of(ASKED), reason="wrong code"))


def queue(seed: int = 1) -> Queue:
    return Queue(people.authority(), random.Random(seed).randrange)


def garbage(name: str, number: int) -> bytes:
    """A request as strangers make them: in form, and worth nothing."""
    csr = number.to_bytes(4, "big") * 100
    return encode(Enrolment(fleet=people.FLEET, name=name, csr=csr, proof=bytes(32)))


def waiting(queue: Queue, name: str = "b01") -> list[bytes]:
    return [raw for named, raw in queue.carried.items if named == name]


def flood(queue: Queue, seconds: int) -> Effects:
    """Let strangers ask in 500 new names a second; gives what the owner was shown."""
    shows: Effects = []
    for number in range(500 * seconds):
        now = number / 500
        queue.receive(f"x{number}", garbage(f"x{number}", number), now)
        shows += queue.tick(now)
    return shows


def with_earlier(shows: Effects) -> Iterator[tuple[set[str], Show]]:
    """Give each together with the names that were shown before it."""
    before: set[str] = set()
    for effect in shows:
        assert isinstance(effect, Show)
        yield before, effect
        before.add(effect.name)


class TestOneBoard:
    def test_from_the_request_to_the_status(self) -> None:
        q = queue()
        assert q.receive("b01", ASKED, 0.0) == []
        assert q.tick(0.0) == [Show("b01", (ASKED,))]
        assert q.answer("b01", CERTIFIED, 1.0) == [HandOn("b01", CERTIFIED)]
        assert q.tick(2.0) == [Show("b01", ())]
        assert q.saw("b01", serial_of(BOARD.certificate)) == [TakeBack("b01")]
        assert len(q) == 0
        assert q.deadline is None

    def test_it_asks_again_and_is_shown_once(self) -> None:
        q = queue()
        for second in range(0, 600, 60):
            q.receive("b01", ASKED, float(second))
            assert len(q.tick(float(second))) == (second == 0)
        assert waiting(q) == [ASKED]

    def test_an_answer_that_it_missed_is_given_again_to_whatever_it_asks(self) -> None:
        """Its card lost the request, not the key: another request, the same certificate."""
        q = queue()
        q.answer("b01", CERTIFIED, 0.0)
        again = ask_first(people.key(11), people.FLEET, "b01", bytes(16))
        assert q.receive("b01", ASKED, 10.0) == [HandOn("b01", CERTIFIED)]
        assert q.receive("b01", again, 20.0) == [HandOn("b01", CERTIFIED)]
        assert waiting(q) == [again]  # in case that its key is another

    def test_an_answer_is_not_given_again_at_every_message(self) -> None:
        q = queue()
        q.answer("b01", CERTIFIED, 0.0)
        given = [q.receive("b01", garbage("b01", n), 10.0 + n / 1000) for n in range(500)]
        assert sum(bool(effects) for effects in given) == 1

    def test_declined_is_told_once_and_not_kept(self) -> None:
        q = queue()
        q.receive("b01", ASKED, 0.0)
        assert q.answer("b01", DECLINED, 1.0) == [HandOn("b01", DECLINED)]
        assert waiting(q) == []
        assert q.receive("b01", ASKED, 60.0) == []
        assert waiting(q) == [ASKED]

    def test_seen_before_the_answer_came_back_from_the_broker(self) -> None:
        """A coordinator that starts anew gets both as retained messages, in any order."""
        q = queue()
        assert q.saw("b01", serial_of(BOARD.certificate)) == []
        assert q.answer("b01", CERTIFIED, 0.0) == [TakeBack("b01")]

    def test_seen_with_another_certificate_changes_nothing(self) -> None:
        q = queue()
        q.answer("b01", CERTIFIED, 0.0)
        assert q.saw("b01", 1) == []
        assert q.receive("b01", ASKED, 5.0) == [HandOn("b01", CERTIFIED)]

    def test_what_the_owner_sees_in_a_file(self) -> None:
        q = queue()
        q.receive("b01", ASKED, 0.0)
        q.saw("b02", 7)
        assert q.carried.items == (("b01", ASKED),)
        assert q.carried.seen == (("b02", 7),)

    def test_a_request_that_is_not_repeated_is_forgotten(self) -> None:
        q = queue()
        q.receive("b01", ASKED, 0.0)
        q.tick(0.0)
        assert q.tick(FORGET_S - 1) == []
        assert q.tick(FORGET_S) == [Show("b01", ())]


class TestRefused:
    def test_a_request_in_another_name(self) -> None:
        q = queue()
        with pytest.raises(MessageError, match="another name"):
            q.receive("b02", ASKED, 0.0)
        assert len(q) == 0

    def test_a_certificate_in_another_name(self) -> None:
        with pytest.raises(IdentityError, match="another name"):
            queue().answer("b02", CERTIFIED, 0.0)

    def test_a_certificate_of_nobody(self) -> None:
        answer = Certified(request=bytes(32), certificate=b"none")
        with pytest.raises(IdentityError):
            queue().answer("b01", encode(answer), 0.0)

    def test_declining_anothers_request_takes_nothing_away(self) -> None:
        q = queue()
        q.receive("b01", ASKED, 0.0)
        q.answer("b02", DECLINED, 1.0)
        assert waiting(q) == [ASKED]

    @given(st.binary(max_size=300))
    def test_garbage(self, raw: bytes) -> None:
        q = queue()
        with pytest.raises(MessageError):
            q.receive("b01", raw, 0.0)
        assert (len(q), q.changes) == (0, 0)


class TestFlood:
    @settings(max_examples=5)
    @given(st.integers(), st.integers(1, 400))
    def test_of_names_stays_bounded(self, seed: int, names: int) -> None:
        q, draw = queue(seed), random.Random(seed)
        for number in range(1_000):
            name = f"x{draw.randrange(names)}"
            q.receive(name, garbage(name, number), number / 1000)
            assert len(waiting(q, name)) <= MAX_PER_NAME
        assert len(q) <= MAX_WAITING

    def test_what_the_fleets_broker_hears_of_it_is_bounded(self) -> None:
        """Two thousand requests in a second: 32 names are shown at once, not all."""
        q = queue()
        shown = []
        for number in range(2_000):
            q.receive(f"x{number}", garbage(f"x{number}", number), number / 2_000)
            shown += q.tick(number / 2_000)
        assert len(shown) <= SHOWN * (1 + int(1 / SHOW_S))

    @pytest.mark.parametrize("names", [1, 4, 1_000], ids=lambda n: f"{n} names")
    def test_a_board_waits_again_after_it(self, names: int) -> None:
        """It is displaced perhaps, and back with its next request; the strangers' are forgotten."""
        q = queue()
        q.receive("b01", ASKED, 0.0)
        for number in range(3_000):
            name = "b01" if names == 1 else f"x{number % names}"
            q.receive(name, garbage(name, number), 1.0 + number / 1000)
        q.receive("b01", ASKED, 60.0)
        assert ASKED in waiting(q)
        q.receive("b01", ASKED, 180.0)
        q.tick(FORGET_S + 10.0)
        assert q.carried.items == (("b01", ASKED),)

    def test_during_it_a_board_gets_through(self) -> None:
        """A hundred strangers' requests a second; it asks each minute, the owner looks each second:
        in an hour it is seen by the owner, who is not where it waits in vain."""
        q, number = queue(), 0
        for second in range(3_600):
            if second % 60 == 0:
                q.receive("b01", ASKED, second + 0.5)
            for part in range(100):
                number += 1
                name = f"x{number % 5_000}"
                q.receive(name, garbage(name, number), second + part / 100)
            for effect in q.tick(second + 0.99):
                if isinstance(effect, Show) and ASKED in effect.requests:
                    return
        pytest.fail("never shown")

    def test_once_it_is_over_a_board_is_seen_as_soon_as_all_that_wait_can_be(self) -> None:
        """Names that wait no more keep nobody waiting, however many there were."""
        q = queue()
        shows = flood(q, seconds=20)
        for look in range(-(-MAX_WAITING // SHOWN)):
            q.receive("b01", ASKED, 21.0)
            shows += q.tick(21.0 + look)
            if Show("b01", (ASKED,)) in shows:
                break
        else:
            pytest.fail("not shown")

    def test_once_it_is_over_the_owner_sees_what_waits_and_nothing_else(self) -> None:
        q = queue()
        seen: dict[str, tuple[bytes, ...]] = {}
        for effect in flood(q, seconds=20):
            assert isinstance(effect, Show)
            seen[effect.name] = effect.requests
            assert sum(map(bool, seen.values())) <= MAX_WAITING + SHOWN
        now = 21.0
        while q.deadline is not None and q.deadline <= now:
            for effect in q.tick(now):
                assert isinstance(effect, Show)
                seen[effect.name] = effect.requests
            now += SHOW_S
        assert now <= 21.0 + MAX_WAITING // SHOWN + 2
        left = {name: requests for name, requests in seen.items() if requests}
        assert left == {name: tuple(waiting(q, name)) for name, _ in q.carried.items}

    def test_what_was_never_shown_is_not_withdrawn(self) -> None:
        q = queue()
        assert all(
            effect.requests or effect.name in shown
            for shown, effect in with_earlier(flood(q, seconds=3))
        )

    def test_who_changes_what_he_asks_all_the_time_is_not_always_the_first(self) -> None:
        q, number = queue(), 0
        for second in range(20):
            for name in range(SHOWN):
                number += 1
                q.receive(f"x{name}", garbage(f"x{name}", number), float(second))
            if second == 10:
                q.receive("b01", ASKED, float(second))
            if Show("b01", (ASKED,)) in q.tick(float(second)):
                assert second <= 11
                return
        pytest.fail("never shown")

    def test_answers_and_boards_seen_are_bounded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("fedring.coordinator.enrolment.queue.MAX_SEEN", 10)
        q = queue()
        for number in range(100):
            q.saw(f"b{number}", number)
        assert len(q.carried.seen) == 10
        assert q.carried.seen[-1] == ("b99", 99)
