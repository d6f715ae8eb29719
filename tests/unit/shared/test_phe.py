"""What phe itself makes of releases: it adds them, decrypts them, and nothing else is needed."""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from phe import EncryptedNumber, PaillierPrivateKey, PaillierPublicKey

from fedring.shared.encryption import SUITES, Parameters, Suite, generate_key, suite
from fedring.shared.encryption.streams import Stream
from fedring.shared.numbers import IntVector

VECTORS = Path(__file__).parents[2] / "vectors" / "encryption"
KEY = generate_key(512, random=Stream(b"phe tests, 512 bits".ljust(32)).read)
N = KEY.public_key.n
DIGEST = bytes(32)
DIMENSION = 64


def suite_of(name: str, n_values: int) -> Suite:
    return suite(
        name,
        public_key=KEY.public_key,
        announce_digest=DIGEST,
        n_values=n_values,
        bits=16,
        parameters=Parameters(dimension=DIMENSION),
    )


def encrypted(release: bytes) -> list[EncryptedNumber]:
    """The ciphertexts of a release, from the wire."""
    parts = [release[start : start + 128] for start in range(0, len(release), 128)]
    return [EncryptedNumber(KEY.public_key, int.from_bytes(part, "big")) for part in parts]


def added(releases: Sequence[bytes]) -> list[EncryptedNumber]:
    first, *others = [encrypted(release) for release in releases]
    for other in others:
        first = [total + number for total, number in zip(first, other, strict=True)]
    return first


def masked(suite_: Suite, values: Sequence[IntVector]) -> tuple[list[list[int]], list[bytes]]:
    """Bodies as words, and releases whose pads cancel."""
    masks = [suite_.prepare(os.urandom) for _ in values]
    bodies = [mask.body(vector).tolist() for mask, vector in zip(masks, values, strict=True)]
    pads = [N - 9 * (len(values) - 1), *[9] * (len(values) - 1)]
    releases = [
        mask.release([pad % N] * suite_.n_ciphertexts)
        for mask, pad in zip(masks, pads, strict=True)
    ]
    return bodies, releases


def digits(number: int, radix: int, count: int) -> list[int]:
    """Balanced, lowest first; nothing may stand above them."""
    found = []
    for _ in range(count):
        digit = (number + radix // 2) % radix - radix // 2
        found.append(digit)
        number = (number - digit) // radix
    assert number == 0
    return found


def test_phe_and_plain_integers_open_a_sum_of_suite_hybrid() -> None:
    values = np.random.default_rng(1).integers(-32767, 32768, (3, 40)).astype(np.int32)
    bodies, releases = masked(suite_of("hybrid", 40), list(values))
    low, high = (KEY.raw_decrypt(number.ciphertext(be_secure=False)) for number in added(releases))
    key = [
        *digits(low if low < N // 2 else low - N, 2347, 45),
        *digits(high if high < N // 2 else high - N, 2347, DIMENSION - 45),
    ]
    assert 0 < max(abs(value) for value in key) <= 3 * 21
    seed = hashlib.sha256(b"fedring/1 lattice\0" + DIGEST).digest()
    public = Stream(seed).words(DIMENSION).tolist()
    opened = []
    for place in range(len(bodies[0])):
        product = sum(
            coefficient * (key[place - i] if i <= place else -key[place - i])  # X**64 = -1
            for i, coefficient in enumerate(public)
        )
        word = (sum(body[place] for body in bodies) - product) % 2**64
        word -= 2**64 if word >= 2**63 else 0
        noise = (word + 2**11) % 2**12 - 2**11
        assert abs(noise) <= 3 * 21
        opened += digits((word - noise) >> 12, 1 << 26, 2)
    assert opened[:40] == values.sum(axis=0).tolist()
    assert not any(opened[40:])


@pytest.mark.parametrize("name", SUITES)
@given(n_contributors=st.integers(2, 5), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=10)
def test_what_phe_added_and_hid_anew_opens_the_sum(
    name: str, n_contributors: int, seed: int
) -> None:
    suite_ = suite_of(name, 25)
    rng = np.random.default_rng(seed)
    values = rng.integers(-32767, 32768, (n_contributors, 25)).astype(np.int32)
    bodies, releases = masked(suite_, list(values))
    total = np.array(bodies[0], np.uint64)
    for body in bodies[1:]:
        suite_.add(total, np.array(body, np.uint64))
    product = tuple(number.ciphertext() for number in added(releases))  # phe's own randomness
    assert product != suite_.product(releases)
    opened = suite_.open(KEY, total, product, n_contributors)
    assert opened.tolist() == values.sum(axis=0).tolist()


@pytest.mark.parametrize(("vector", "key_bits"), [("full-16", 3072), ("full-8", 2048)])
def test_keys_of_production_sizes_work_in_phe(vector: str, key_bits: int) -> None:
    """With a number that phe encrypted by itself, added to ours."""
    lines = (VECTORS / f"paillier-{vector}.txt").read_text().splitlines()
    p, q = (int(line[3:], 16) for line in lines if line[:3] in ("p: ", "q: "))
    key = PaillierPrivateKey(PaillierPublicKey(p * q), p, q)
    assert key.public_key.n.bit_length() == key_bits
    suite_ = suite(
        "paillier", public_key=key.public_key, announce_digest=DIGEST, n_values=1, bits=16
    )
    mask = suite_.prepare(os.urandom)
    residue = int.from_bytes(suite_.encode_body(mask.body(np.array([-7], np.int32))), "little")
    ours = EncryptedNumber(key.public_key, int.from_bytes(mask.release([100]), "big"))
    theirs = EncryptedNumber(key.public_key, key.public_key.raw_encrypt(2000))
    total = key.raw_decrypt((ours + theirs).ciphertext(be_secure=False))
    assert total == (residue + 7 + 100 + 2000) % suite_.n
