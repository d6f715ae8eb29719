import hashlib
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st
from phe import PaillierPrivateKey

from fedring.coordinator import sums
from fedring.coordinator.sums import Opened, RingSum, open_rings
from fedring.shared.contributions import Check, contribution
from fedring.shared.encryption import Parameters, Suite, generate_key, paillier, suite
from fedring.shared.encryption.paillier import Ciphertexts
from fedring.shared.encryption.streams import Stream
from fedring.shared.numbers import IntVector, largest_value

KEY = generate_key(512, random=Stream(b"sums tests, 512 bits".ljust(32)).read)
RANDOM = Stream(b"sums tests, masks".ljust(32)).read
D = 5
N_VALUES = D + len(Check)


def suite_of(bits: int = 16, name: str = "hybrid") -> Suite:
    return suite(
        name,
        public_key=KEY.public_key,
        announce_digest=hashlib.sha256(b"sums").digest(),
        n_values=N_VALUES,
        bits=bits,
        parameters=Parameters(dimension=64),
    )


SUITE = suite_of()


def update(rng: np.random.Generator, bits: int = 16) -> IntVector:
    largest = largest_value(bits)
    return rng.integers(-largest, largest + 1, D).astype(np.int32)


def ring_sum(
    label: str, names: Sequence[int], vectors: Sequence[IntVector], suite_: Suite = SUITE
) -> RingSum:
    """A ring whose members did all as they should, with pads that cancel."""
    total = np.zeros(suite_.body_bytes // 8, np.uint64)
    releases = []
    pad = 3**200 % suite_.n
    for index, vector in enumerate(vectors):
        mask = suite_.prepare(RANDOM)
        suite_.add(total, mask.body(vector))
        part = pad if index else -pad * (len(vectors) - 1) % suite_.n
        releases.append(mask.release([part] * suite_.n_ciphertexts))
    return RingSum(label, tuple(names), total, tuple(releases))


def rings_of(*sizes: int, seed: int = 0) -> tuple[list[RingSum], list[list[IntVector]]]:
    rng = np.random.default_rng(seed)
    rings, vectors, first = [], [], 0
    for label, size in enumerate(sizes):
        mine = [contribution(update(rng)) for _ in range(size)]
        rings.append(ring_sum(str(label), range(first, first + size), mine))
        vectors.append(mine)
        first += size
    return rings, vectors


def expected(vectors: Sequence[Sequence[IntVector]]) -> list[int]:
    flat = [vector.tolist() for ring in vectors for vector in ring]
    return [sum(column) for column in zip(*flat, strict=True)]


@pytest.fixture
def decryptions(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of contributors of each decryption."""
    opened: list[int] = []
    original = type(SUITE).open

    def counted(self, private_key, body, product, n_contributors):  # type: ignore[no-untyped-def]
        opened.append(n_contributors)
        return original(self, private_key, body, product, n_contributors)

    monkeypatch.setattr(type(SUITE), "open", counted)
    return opened


@given(st.lists(st.integers(1, 4), min_size=1, max_size=4), st.integers(0, 2**32 - 1))
@settings(max_examples=25)
def test_all_rings_of_a_round_open_to_the_exact_sum(sizes: list[int], seed: int) -> None:
    rings, vectors = rings_of(*sizes, seed=seed)
    opened = open_rings(SUITE, KEY, rings)
    assert opened.total.tolist() == expected(vectors)
    assert opened.names == tuple(range(sum(sizes)))
    assert opened.bad_rings == {}


@pytest.fixture
def plaintexts(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of ciphertexts in each decryption."""
    counts: list[int] = []
    original = paillier.decrypt

    def counted(private_key: PaillierPrivateKey, ciphertexts: Ciphertexts) -> list[int]:
        counts.append(len(ciphertexts))
        return original(private_key, ciphertexts)

    monkeypatch.setattr(paillier, "decrypt", counted)
    return counts


def test_one_decryption_for_all_rings(decryptions: list[int], plaintexts: list[int]) -> None:
    rings, vectors = rings_of(*range(1, 17))
    assert open_rings(SUITE, KEY, rings).total.tolist() == expected(vectors)
    assert decryptions == [136]
    assert plaintexts == [SUITE.n_ciphertexts]


def test_opening_leaves_the_rings_as_they_are() -> None:
    rings, vectors = rings_of(2, 3)
    before = [ring.body.copy() for ring in rings]
    assert open_rings(SUITE, KEY, rings).total.tolist() == expected(vectors)
    assert all((ring.body == body).all() for ring, body in zip(rings, before, strict=True))


def test_no_ring_no_sum() -> None:
    opened = open_rings(SUITE, KEY, [])
    assert not opened.total.any()
    assert opened.names == ()
    assert opened.bad_rings == {}


# -- one bad ring among good ones: each check for itself ----------------------------------


def changed_body(ring: RingSum, place: int, change: int) -> RingSum:
    body = ring.body.copy()
    body[[place]] += np.array([change % 2**64], np.uint64)  # arrays wrap around in silence
    return evolve(ring, body=body)


def changed_value(ring: RingSum, value: int, change: int) -> RingSum:
    """A member adds to a value what it likes: all signatures and all noise are right."""
    place, slot = divmod(value, 2)
    return changed_body(ring, place, change << (12 + 26 * slot))


def without_release(ring: RingSum) -> RingSum:
    return evolve(ring, releases=(ring.releases[0], *ring.releases[:-1]))


DAMAGES: dict[str, Callable[[RingSum, int], RingSum]] = {
    "key range": lambda ring, _place: without_release(ring),
    "noise": lambda ring, place: changed_body(ring, place, 1 << 11),
    "padding": lambda ring, place: changed_body(ring, -1 - place, 1 << 12),
    "count": lambda ring, _place: changed_value(ring, D + Check.ONE, 1),
    "zero": lambda ring, _place: changed_value(ring, D + Check.ZERO, -1),
    "range": lambda ring, place: changed_value(ring, place, 1 << 24),
}
"""By the check that finds it; the places are told apart where two of a kind could make up for it:
rings are opened together, and what cancels in their sum is not damage."""


@pytest.mark.parametrize("check", DAMAGES)
@pytest.mark.parametrize("bad", [0, 1, 2])
def test_a_bad_ring_is_named_and_the_others_go_on(
    check: str, bad: int, decryptions: list[int]
) -> None:
    rings, vectors = rings_of(2, 3, 4, seed=bad)
    rings[bad] = DAMAGES[check](rings[bad], 0)
    opened = open_rings(SUITE, KEY, rings)
    assert list(opened.bad_rings) == [str(bad)]
    assert opened.bad_rings[str(bad)].startswith(f"sum check '{check}' failed: ")
    del vectors[bad]
    assert opened.total.tolist() == expected(vectors)
    assert opened.names == tuple(
        name for label, ring in enumerate(rings) if label != bad for name in ring.names
    )
    assert decryptions == [9, 2, 3, 4]


def test_a_bad_ring_is_named_in_suite_paillier_as_well() -> None:
    suite_ = suite_of(name="paillier")
    rng = np.random.default_rng(0)
    vectors = [[contribution(update(rng)) for _ in range(size)] for size in (2, 3, 2)]
    rings = [
        ring_sum(str(label), range(4 * label, 4 * label + len(mine)), mine, suite_)
        for label, mine in enumerate(vectors)
    ]
    assert open_rings(suite_, KEY, rings).total.tolist() == expected(vectors)
    rings[1] = without_release(rings[1])
    opened = open_rings(suite_, KEY, rings)
    assert list(opened.bad_rings) == ["1"]
    assert opened.bad_rings["1"].startswith("sum check 'plaintext range' failed: ")
    del vectors[1]
    assert opened.total.tolist() == expected(vectors)


@given(st.lists(st.integers(2, 4), min_size=2, max_size=D), st.data())
@settings(max_examples=25)
def test_any_bad_rings_are_named_each_with_its_check(sizes: list[int], data: st.DataObject) -> None:
    rings, vectors = rings_of(*sizes)
    checks = data.draw(
        st.dictionaries(st.integers(0, len(sizes) - 1), st.sampled_from(sorted(DAMAGES)))
    )
    for label, check in checks.items():
        rings[label] = DAMAGES[check](rings[label], label)
    opened = open_rings(SUITE, KEY, rings)
    found = {int(label): reason.split("'")[1] for label, reason in opened.bad_rings.items()}
    assert found == checks
    good = [label for label in range(len(sizes)) if label not in checks]
    assert opened.names == tuple(name for label in good for name in rings[label].names)
    assert opened.total.tolist() == (
        expected([vectors[label] for label in good]) if good else [0] * N_VALUES
    )


@pytest.mark.parametrize("bad", [[0], [31], [7, 8, 30], list(range(1, 32))])
def test_bad_rings_among_many(bad: list[int], decryptions: list[int]) -> None:
    """All at once, then each for itself: a good ring pays for a bad one with one decryption."""
    rings, vectors = rings_of(*[2] * 32)
    for label in bad:
        rings[label] = without_release(rings[label])
    opened = open_rings(SUITE, KEY, rings)
    assert list(opened.bad_rings) == [str(label) for label in bad]
    assert opened.total.tolist() == expected(
        [ring for label, ring in enumerate(vectors) if label not in bad]
    )
    assert decryptions == [64, *[2] * 32]


def test_when_every_ring_is_bad_nothing_is_left(decryptions: list[int]) -> None:
    rings, _ = rings_of(2, 2)
    opened = open_rings(SUITE, KEY, [without_release(ring) for ring in rings])
    assert not opened.total.any()
    assert opened.names == ()
    assert list(opened.bad_rings) == ["0", "1"]
    assert decryptions == [4, 2, 2]


def test_a_single_bad_ring_is_opened_once(decryptions: list[int]) -> None:
    rings, _ = rings_of(3)
    assert list(open_rings(SUITE, KEY, [without_release(rings[0])]).bad_rings) == ["0"]
    assert decryptions == [3]


# -- no more at once than cannot overflow --------------------------------------------------


def test_more_contributors_than_fit_are_opened_in_turn(decryptions: list[int]) -> None:
    suite_ = suite_of(bits=8)
    rng = np.random.default_rng(0)
    vectors = [[contribution(update(rng, bits=8)) for _ in range(64)] for _ in range(9)]
    rings = [
        ring_sum(str(label), range(64 * label, 64 * label + 64), mine, suite_)
        for label, mine in enumerate(vectors)
    ]
    rings[3] = changed_body(rings[3], 0, 1 << 12)
    opened = open_rings(suite_, KEY, rings)
    assert list(opened.bad_rings) == ["3"]
    del vectors[3]
    assert opened.total.tolist() == expected(vectors)
    assert len(opened.names) == 512
    assert decryptions == [512, *[64] * 8, 64]


def test_batches_are_filled_but_never_over() -> None:
    rings, _ = rings_of(3, 3, 2, 5)
    sizes = [[len(ring.names) for ring in batch] for batch in sums._batches(rings, 6)]
    assert sizes == [[3, 3], [2], [5]]


# -- what cannot be a ring ----------------------------------------------------------------


def test_no_device_is_in_two_rings() -> None:
    rings, _ = rings_of(2, 2)
    rings[1] = evolve(rings[1], names=(1, 2))
    with pytest.raises(ValueError, match="two rings"):
        open_rings(SUITE, KEY, rings)


def test_a_ring_has_one_release_for_each_name() -> None:
    rings, _ = rings_of(2)
    with pytest.raises(ValueError, match="3 names, but 2 releases"):
        evolve(rings[0], names=(1, 2, 3))
    with pytest.raises(ValueError, match="0 names"):
        evolve(rings[0], names=(), releases=())


def test_rings_compare_and_print_without_their_vectors() -> None:
    rings, _ = rings_of(2, 2)
    assert rings[0] == evolve(rings[0], body=rings[0].body.copy())
    assert rings[0] != evolve(rings[0], body=rings[1].body)
    assert repr(rings[0]) == "RingSum(label='0', names=(0, 1))"
    assert isinstance(open_rings(SUITE, KEY, rings), Opened)
