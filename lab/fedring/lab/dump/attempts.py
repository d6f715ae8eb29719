"""Every way that we could think of to make more of a recording than sums that were agreed to.

- Bodies one by one, by subtracting each token from the next; then alone, in differences and in
  sums: without any key, under every key and sum of keys that the adversary holds, and solved
  against the public polynomials as if they carried no noise.
- Releases, unsealed with whatever key fits, decrypted, with all pads taken off that a known round
  key gives (or one of low order, that gives everybody the same): every subset and every combination
  with signs, within a list and across lists, rosters, laps and rounds.
- Whatever looks like a combination of keys is tried on the same combination of bodies.
"""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache

import gmpy2
import numpy as np
from attrs import field, frozen
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from phe import PaillierPrivateKey

from fedring.lab.dump.algebra import Algebra, Vector, algebra
from fedring.lab.dump.evidence import Asked, Evidence, Given, Participant
from fedring.lab.dump.knowledge import Knowledge
from fedring.shared.encryption import paillier
from fedring.shared.errors import FedringError
from fedring.shared.numbers import SumVector
from fedring.shared.pairwise import RoundKey, pads, unseal

MAX_SIGNED = 7
"""Releases that are combined with every choice of -1, 0 and 1: 2,187 combinations."""
MAX_SUBSETS = 12
"""Releases that are combined in every subset: 4,096 of them."""
MAX_FRIENDS = 4
"""Keys of friends that are added up."""

Combination = frozenset[tuple[Participant, int]]
"""Whose contributions, and how often each, without the adversary's own."""


@frozen
class Finding:
    """Something that the adversary has read.

    Attributes:
        how: what led to it.
        combination: of whose contributions.
        values: int64, the combination of their contributions; None when only the combination of
            keys came out, which is as bad.
    """

    how: str
    combination: Combination
    values: SumVector | None = field(eq=False, repr=False)

    @property
    def numbers(self) -> dict[int, int]:
        """Device number -> how often its contribution is in it."""
        counts: Counter[int] = Counter()
        for participant, factor in self.combination:
            counts[participant.number] += factor
        return dict(sorted(counts.items()))


def recover(evidence: Evidence, knowledge: Knowledge) -> list[Finding]:
    """Try everything.

    Args:
        evidence: out of the recording.
        knowledge: what the adversary has beside it.

    Returns:
        What came out, each combination once; sums that all agreed to are among it.
    """
    attempt = _Attempt(evidence, knowledge)
    found: dict[Combination, Finding] = {}
    for finding in itertools.chain(attempt.with_releases(), attempt.with_bodies()):
        known = found.get(finding.combination)
        if finding.combination and (known is None or known.values is None):
            found[finding.combination] = finding
    return list(found.values())


def own_values(
    evidence: Evidence, knowledge: Knowledge, participant: Participant
) -> SumVector | None:
    """What a device that is in on it contributed, read with its own key; None when it cannot be.

    Args:
        evidence: holds its body.
        knowledge: holds its draws, and the Paillier key.
        participant: one that `knowledge` owns.
    """
    attempt = _Attempt(evidence, knowledge)
    for key in attempt.own_keys(participant):
        for body in attempt.bodies[participant]:
            values = attempt.algebra[participant.announce].read(body, key, 1)
            if values is not None:
                return values
    return None


@frozen
class _Opened:
    """A release without its seal, its encryption and every pad that is known."""

    by: Participant
    asked: Asked
    plaintexts: tuple[int, ...] = field(repr=False)


class _Attempt:
    def __init__(self, evidence: Evidence, knowledge: Knowledge) -> None:
        self._evidence = evidence
        self._knowledge = knowledge
        self.algebra: dict[bytes, Algebra] = {
            digest: algebra(digest, announce, knowledge.parameters)
            for digest, announce in evidence.announces.items()
        }
        self.bodies = self._single_bodies()

    # -- bodies --------------------------------------------------------------------------------

    def _single_bodies(self) -> dict[Participant, list[Vector]]:
        """What each device added, by subtracting what was there before from what was after."""
        totals: list[tuple[frozenset[Participant], Vector]] = []
        for token in self._evidence.tokens:
            (announce, *others) = {one.announce for one in token.participants}
            if announce in self.algebra and not others:
                totals.append((token.participants, self.algebra[announce].body(token.body)))
        bodies: dict[Participant, dict[str, Vector]] = defaultdict(dict)
        for names, total in totals:
            for earlier, before in [*totals, (frozenset[Participant](), np.zeros_like(total))]:
                if earlier < names and len(names - earlier) == 1 and len(before) == len(total):
                    (added,) = names - earlier
                    body = total - before
                    bodies[added][str(body.tolist())] = body
        return defaultdict(list, {one: list(found.values()) for one, found in bodies.items()})

    def with_bodies(self) -> Iterator[Finding]:
        """Bodies without releases."""
        theirs = {
            one: bodies
            for one, bodies in self.bodies.items()
            if one.announce in self.algebra and not self._knowledge.owns(one)
        }
        yield from self._without_noise(theirs)
        keys = self._candidate_keys()
        single = [((one, 1),) for one in theirs]
        pairs = [
            ((one, 1), (other, sign))
            for one, other in itertools.combinations(theirs, 2)
            for sign in (-1, 1)
        ]
        for parts in [*single, *pairs]:
            for how, key, weight in keys if len(parts) == 1 else keys[:1]:
                yield from self._read(how, parts, key, weight)
        for one, bodies in theirs.items():  # two of them under one key: invariant 1
            known = self.algebra[one.announce]
            for first, second in itertools.combinations(bodies, 2):
                values = known.read(first - second, known.no_key, 2)
                if values is not None:
                    yield Finding("two bodies under one key", frozenset({(one, 1)}), values)

    def _without_noise(self, theirs: Mapping[Participant, Sequence[Vector]]) -> Iterator[Finding]:
        for one, bodies in theirs.items():
            for body in bodies:
                key = self.algebra[one.announce].key_without_noise(body)
                if key is not None:
                    yield from self._read("a body without noise", ((one, 1),), key, 1)

    def _candidate_keys(self) -> list[tuple[str, Vector, int]]:
        """Keys and sums of keys that the adversary holds, the absence of a key first."""
        some = next(iter(self.algebra.values()), None)
        if some is None:
            return []
        mine = [one for one in self._evidence.participants if self._knowledge.owns(one)]
        own = [key for one in mine for key in self.own_keys(one)]
        sums = [
            ("a friend's key on another's body", np.sum(chosen, axis=0), size)
            for size in range(1, min(len(own), MAX_FRIENDS) + 1)
            for chosen in itertools.combinations(own, size)
        ]
        return [("no key at all", some.no_key, 1), *sums]

    def own_keys(self, participant: Participant) -> Iterator[Vector]:
        """The key that this device has masked with, out of its own draws."""
        known = self.algebra.get(participant.announce)
        if known is None:
            return
        for seed in self._knowledge.seeds(participant.number):
            key = known.key_of_seed(seed)
            if any(known.read(body, key, 1) is not None for body in self.bodies[participant]):
                yield key

    # -- releases ------------------------------------------------------------------------------

    def with_releases(self) -> Iterator[Finding]:
        """Combinations of releases that leave a combination of keys."""
        opened = [
            one
            for given in self._evidence.releases
            if not self._knowledge.owns(given.by) and (one := self._open(given)) is not None
        ]
        opened.sort(key=lambda one: (one.by.announce, one.asked.digest, one.by.number))
        seen = set()
        for parts in map(_as_positive, _combinations(opened)):
            if parts in seen:
                continue
            seen.add(parts)
            counts: Counter[Participant] = Counter()
            for release, factor in parts:
                counts[release.by] += factor
            weight = sum(abs(factor) for _, factor in parts)
            known = self.algebra[parts[0][0].by.announce]
            key = known.key(_added(parts, known.n), weight)
            if key is None:
                continue
            combination = tuple((one, factor) for one, factor in counts.items() if factor)
            readable = list(self._read("releases", combination, key, weight))
            if readable or known.keys_are_small:
                yield from readable or [Finding("releases", frozenset(combination), None)]

    def _open(self, given: Given) -> _Opened | None:
        known = self.algebra.get(given.by.announce)
        private_key = self._knowledge.private_key
        if known is None or private_key is None or private_key.public_key.n != known.n:
            return None
        size = paillier.ciphertext_bytes(known.n)
        plain = self._unsealed(given)
        if plain is None or not plain or len(plain) % size:
            return None
        count = len(plain) // size
        ciphertexts = paillier.decode_ciphertexts(plain, count, known.n)
        totals = list(_decrypted(private_key, ciphertexts))
        for peer in given.asked.participants - {given.by}:
            off = self._pads_between(given, peer, count, known.n)
            totals = [(total - pad) % known.n for total, pad in zip(totals, off, strict=True)]
        return _Opened(given.by, given.asked, tuple(totals))

    def _unsealed(self, given: Given) -> bytes | None:
        announce = self._evidence.announces[given.by.announce]
        places = {
            "roster_digest": given.asked.roster,
            "list_digest": given.asked.digest,
            "sender": given.by.number,
        }
        ways = [
            (self._knowledge.round_keys.get(announce.exchange_key), given.by.round_key),
            (self._knowledge.round_keys.get(given.by.round_key), announce.exchange_key),
            (_without_secret(announce.exchange_key), given.by.round_key),
        ]
        for own, public in ways:
            if own is not None:
                try:
                    return unseal(own, public, given.sealed, **places)  # type: ignore[arg-type]
                except FedringError:
                    continue
        return None

    def _pads_between(self, given: Given, peer: Participant, count: int, n: int) -> Sequence[int]:
        """The pads that `given` carries for this peer, if anything known gives them; else zeros."""
        one = given.by
        for own, me, other, sign in (
            (self._knowledge.round_keys.get(peer.round_key), peer, one, -1),
            (self._knowledge.round_keys.get(one.round_key), one, peer, 1),
            (_without_secret(peer.round_key), peer, one, -1),
        ):
            if own is not None:
                known = pads(
                    own,
                    me.number,
                    {other.number: other.round_key},
                    roster_digest=given.asked.roster,
                    list_digest=given.asked.digest,
                    n_pieces=count,
                    modulus=n,
                )
                return [sign * pad for pad in known]
        return [0] * count

    # -- reading -------------------------------------------------------------------------------

    def _read(
        self,
        how: str,
        parts: Sequence[tuple[Participant, int]],
        key: Vector,
        weight: int,
    ) -> Iterator[Finding]:
        """Try a combination of keys on the same combination of bodies, under each announce."""
        choices = [self.bodies[one] for one, _ in parts]
        lengths = {len(body) for bodies in choices for body in bodies}
        if len(lengths) != 1:
            return
        for bodies in itertools.product(*choices):
            factors = [factor for _, factor in parts]
            total = sum(factor * body for factor, body in zip(factors, bodies, strict=True))
            for announce in {one.announce for one, _ in parts}:
                values = self.algebra[announce].read(np.asarray(total), key, weight + len(parts))
                if values is not None:
                    yield Finding(how, frozenset(parts), values)


class _Worthless(RoundKey):
    """Stands for a key whose public half is of low order: its secret with anybody is zero."""

    def __init__(self) -> None:
        super().__init__(X25519PrivateKey.from_private_bytes(bytes(32)))

    def derive(self, public: bytes, info: bytes) -> bytes:  # noqa: ARG002  # the same for all
        return HKDF(hashes.SHA256(), length=32, salt=None, info=info).derive(bytes(32))


@lru_cache(maxsize=256)
def _decrypted(private_key: PaillierPrivateKey, ciphertexts: tuple[int, ...]) -> tuple[int, ...]:
    """Remembered: who asks with one friend more decrypts the same releases."""
    return tuple(paillier.decrypt(private_key, ciphertexts))


@lru_cache(maxsize=256)
def _without_secret(public: bytes) -> RoundKey | None:
    """A key for the owner of a public key of low order, or None where it is of any other."""
    try:
        X25519PrivateKey.from_private_bytes(bytes(32)).exchange(
            X25519PublicKey.from_public_bytes(public)
        )
    except ValueError:
        return _Worthless()
    return None


_Parts = tuple[tuple[_Opened, int], ...]


def _combinations(releases: Sequence[_Opened]) -> Iterator[_Parts]:
    """Combinations worth trying: all that are few enough, else those of each round and list."""
    if len(releases) <= MAX_SIGNED:
        yield from _signed(releases)
    elif len(releases) <= MAX_SUBSETS:
        yield from _subsets(releases)
    groups: dict[bytes, list[_Opened]] = defaultdict(list)
    for one in releases:
        groups[one.asked.digest].append(one)
    for group in groups.values():
        yield from _signed(group) if len(group) <= MAX_SIGNED else _subsets(group[:MAX_SUBSETS])
    for first, second in itertools.combinations(groups.values(), 2):
        both = [*first, *second]
        yield from _signed(both) if len(both) <= MAX_SIGNED else _subsets(both[:MAX_SUBSETS])
        yield tuple((one, 1) for one in first) + tuple((one, -1) for one in second)


def _as_positive(parts: _Parts) -> _Parts:
    """The same, or its negative: whichever holds more than it takes away."""
    factors = sum(factor for _, factor in parts)
    return parts if factors >= 0 else tuple((one, -factor) for one, factor in parts)


def _signed(releases: Sequence[_Opened]) -> Iterator[_Parts]:
    for factors in itertools.product((0, 1, -1), repeat=len(releases)):
        chosen = [factor for factor in factors if factor]
        if chosen and chosen[0] == 1:
            yield tuple((r, f) for r, f in zip(releases, factors, strict=True) if f)


def _subsets(releases: Sequence[_Opened]) -> Iterator[_Parts]:
    for size in range(1, len(releases) + 1):
        for chosen in itertools.combinations(releases, size):
            yield tuple((one, 1) for one in chosen)


def _added(parts: Iterable[tuple[_Opened, int]], n: int) -> list[int]:
    columns = zip(*([factor * p for p in one.plaintexts] for one, factor in parts), strict=True)
    modulus = gmpy2.mpz(n)
    return [int(sum(column) % modulus) for column in columns]
