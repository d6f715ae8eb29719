"""Suite `paillier`: layout, exactness, what phe makes of it, and each of its checks alone."""

import hashlib
import os
from collections.abc import Sequence
from contextlib import suppress

import numpy as np
import phe
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20
from hypothesis import given, settings
from hypothesis import strategies as st

from fedring.shared.encryption import Body, Product, Suite, generate_key, max_values, suite
from fedring.shared.encryption.streams import Stream
from fedring.shared.envelopes import MAX_ENVELOPE_BYTES
from fedring.shared.errors import BodyError, SumError
from fedring.shared.messages import MAX_SEALED_BYTES
from fedring.shared.numbers import IntVector, largest_value
from fedring.shared.pairwise import SEAL_BYTES

KEY = generate_key(512, random=Stream(b"packed tests, 512 bits".ljust(32)).read)
N = KEY.public_key.n
SLOTS = 18
"""Of 27 bits in a plaintext of 512 bits."""

seeds = st.integers(0, 2**32 - 1)


def packed(n_values: int, bits: int = 16, n: int = N) -> Suite:
    return suite(
        "paillier",
        public_key=phe.PaillierPublicKey(n),
        announce_digest=bytes(32),
        n_values=n_values,
        bits=bits,
    )


def residues(suite_: Suite, body: Body) -> list[int]:
    """What a body says on the wire, read without the library."""
    wire = suite_.encode_body(body)
    size = len(wire) // suite_.n_ciphertexts
    return [
        int.from_bytes(wire[start : start + size], "little") for start in range(0, len(wire), size)
    ]


def body_of(suite_: Suite, numbers: Sequence[int]) -> bytes:
    size = suite_.body_bytes // suite_.n_ciphertexts
    return b"".join(number.to_bytes(size, "little") for number in numbers)


def nothing_masked(suite_: Suite) -> Product:
    """A product of releases under which bodies are what they seem: their keys are 0."""
    return (1,) * suite_.n_ciphertexts


# -- layout -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key_bits", "bits", "slots", "n_ciphertexts", "release_bytes"),
    [
        (3072, 16, 113, 85, 65_280),
        (2048, 16, 75, 128, 65_536),
        (4096, 16, 151, 64, 65_536),
        (3072, 8, 170, 57, 43_776),
        (2048, 8, 113, 85, 43_520),
        (4096, 8, 227, 43, 44_032),
    ],
)
def test_sizes(
    key_bits: int, bits: int, slots: int, n_ciphertexts: int, release_bytes: int
) -> None:
    n = (1 << key_bits) - 1
    assert packed(slots, bits, n).n_ciphertexts == 1
    assert packed(slots + 1, bits, n).n_ciphertexts == 2
    largest = packed(9600, bits, n)
    assert largest.n_ciphertexts == n_ciphertexts
    assert largest.release_bytes == release_bytes
    assert largest.body_bytes == n_ciphertexts * key_bits // 8


def test_whatever_key_a_device_accepts_the_longest_release_is_one_message() -> None:
    most = max_values("paillier")
    longest = max(packed(most, 16, 1 << (bits - 1)).release_bytes for bits in range(2048, 4097))
    assert longest + SEAL_BYTES <= MAX_SEALED_BYTES
    assert MAX_SEALED_BYTES + 512 <= MAX_ENVELOPE_BYTES


@pytest.mark.parametrize(("bits", "slot_bits"), [(16, 27), (8, 18)])
def test_the_largest_sum_leaves_the_highest_bit_of_its_slot_unused(
    bits: int, slot_bits: int
) -> None:
    suite_ = packed(2, bits)
    largest_sum = suite_.max_contributors * largest_value(bits)
    assert 2 * largest_sum < 1 << (slot_bits - 1)
    total = np.zeros(suite_.body_bytes // 8, np.uint64)
    suite_.add_values(total, np.array([0, 1], np.int32))
    assert residues(suite_, total) == [1 << slot_bits]


# -- the sum is exact ---------------------------------------------------------------------


@pytest.mark.parametrize(("key_bits", "bits"), [(3072, 16), (2048, 8)])
def test_the_longest_vector_under_a_production_key(key_bits: int, bits: int) -> None:
    key = generate_key(key_bits, random=Stream(b"the longest vector".ljust(32)).read)
    suite_ = packed(9600, bits, key.public_key.n)
    largest = largest_value(bits)
    rng = np.random.default_rng(bits)
    values = rng.integers(-largest, largest + 1, (2, 9600)).astype(np.int32)
    first, second = (suite_.prepare(os.urandom) for _ in values)
    total = first.body(values[0])
    suite_.add(total, second.body(values[1]))
    pads = range(1, suite_.n_ciphertexts + 1)
    releases = [first.release(list(pads)), second.release([suite_.n - pad for pad in pads])]
    for release in releases:
        suite_.check_release(release)
    opened = suite_.open(key, total, suite_.product(releases), 2)
    assert (opened == values.sum(axis=0, dtype=np.int64)).all()


def test_the_body_is_what_the_page_says() -> None:
    """From the seeds, in plain integers: key, packed values, their sum modulo n."""
    asked = [b"key".ljust(32), b"paillier".ljust(32)]
    values = np.arange(-20, 20, dtype=np.int32) * 1638
    suite_ = packed(len(values))
    body = suite_.prepare(lambda _: asked.pop(0)).body(values)
    drawn = (512 + 128) // 8
    keystream = Cipher(ChaCha20(b"key".ljust(32), bytes(16)), mode=None).encryptor()
    expected = []
    for first in range(0, len(values), SLOTS):
        key = int.from_bytes(keystream.update(bytes(drawn)), "big")
        digits = values[first : first + SLOTS].tolist()
        total = sum(value * 2 ** (27 * slot) for slot, value in enumerate(digits))
        expected.append((total + key) % N)
    assert residues(suite_, body) == expected


@given(seeds, st.data())
def test_bodies_add_up_modulo_n(seed: int, data: st.DataObject) -> None:
    near = st.one_of(st.integers(0, N - 1), st.sampled_from((0, 1, N - 1)))
    first, second = (data.draw(st.lists(near, min_size=3, max_size=3)) for _ in range(2))
    suite_ = packed(3 * SLOTS)
    total = suite_.decode_body(body_of(suite_, first))
    suite_.add(total, suite_.decode_body(body_of(suite_, second)))
    assert residues(suite_, total) == [(a + b) % N for a, b in zip(first, second, strict=True)]


# -- phe ----------------------------------------------------------------------------------


def test_phe_adds_and_decrypts_the_releases() -> None:
    """No line of the suite opens this sum: phe and plain integers do."""
    rng = np.random.default_rng(1)
    values = rng.integers(-32767, 32768, (3, 40)).astype(np.int32)
    suite_ = packed(40)
    masks = [suite_.prepare(os.urandom) for _ in values]
    bodies = [
        residues(suite_, mask.body(vector)) for mask, vector in zip(masks, values, strict=True)
    ]
    pads = [[5] * 3, [N - 4] * 3, [N - 1] * 3]
    releases = [mask.release(row) for mask, row in zip(masks, pads, strict=True)]

    size = suite_.release_bytes // suite_.n_ciphertexts
    opened = []
    for place in range(suite_.n_ciphertexts):
        encrypted = [
            phe.EncryptedNumber(
                KEY.public_key,
                int.from_bytes(release[place * size : (place + 1) * size], "big"),
            )
            for release in releases
        ]
        key = KEY.raw_decrypt(sum(encrypted[1:], encrypted[0]).ciphertext(be_secure=False))
        total = (sum(body[place] for body in bodies) - key) % N
        total -= N if total > N // 2 else 0
        for _ in range(SLOTS):
            value = (total + (1 << 26)) % (1 << 27) - (1 << 26)
            opened.append(value)
            total = (total - value) >> 27
        assert total == 0
    assert opened[:40] == values.sum(axis=0).tolist()
    assert not any(opened[40:])


# -- hostile bodies -----------------------------------------------------------------------


@pytest.mark.parametrize("place", [0, 2])
@pytest.mark.parametrize("number", [N, N + 1, 2**512 - 1])
def test_a_residue_that_is_not_below_n_is_refused(place: int, number: int) -> None:
    suite_ = packed(3 * SLOTS)
    numbers = [N - 1] * 3
    assert residues(suite_, suite_.decode_body(body_of(suite_, numbers))) == numbers
    numbers[place] = number
    with pytest.raises(BodyError, match=f"residue {place} is not below n"):
        suite_.decode_body(body_of(suite_, numbers))


def test_bits_above_an_odd_sized_n_are_refused() -> None:
    """A residue takes whole words; n need not fill them."""
    suite_ = packed(8, 16, N >> 12)
    assert suite_.body_bytes == 64
    with pytest.raises(BodyError, match="residue 0"):
        suite_.decode_body((1 << 511).to_bytes(64, "little"))


@given(st.one_of(st.binary(max_size=130), st.binary(min_size=128, max_size=128)))
def test_any_bytes_are_a_body_or_refused(data: bytes) -> None:
    suite_ = packed(SLOTS + 1)
    canonical = len(data) == 128 and all(
        int.from_bytes(data[start : start + 64], "little") < N for start in (0, 64)
    )
    try:
        body = suite_.decode_body(memoryview(data))
    except BodyError:
        assert not canonical
    else:
        assert canonical
        assert suite_.encode_body(body) == data


@given(seeds, st.data())
@settings(max_examples=60)
def test_a_flipped_bit_in_a_body_is_refused_noticed_or_another_value(
    seed: int, data: st.DataObject
) -> None:
    values = np.random.default_rng(seed).integers(-32767, 32768, (2, 20)).astype(np.int32)
    suite_ = packed(20)
    masks = [suite_.prepare(os.urandom) for _ in values]
    bodies = [mask.body(vector) for mask, vector in zip(masks, values, strict=True)]
    product = suite_.product([mask.release([0, 0]) for mask in masks])
    changed = bytearray(suite_.encode_body(bodies[0]))
    bit = data.draw(st.integers(0, 8 * len(changed) - 1))
    changed[bit // 8] ^= 1 << bit % 8
    if residues(suite_, np.frombuffer(changed, np.uint64))[bit // 512] >= N:
        with pytest.raises(BodyError):
            suite_.decode_body(changed)
        return
    total = suite_.decode_body(changed)
    suite_.add(total, bodies[1])
    if bit % 512 >= 27 * SLOTS:
        with pytest.raises(SumError) as caught:
            suite_.open(KEY, total, product, 2)
        assert caught.value.check == "plaintext range"
        return
    with suppress(SumError):
        assert suite_.open(KEY, total, product, 2).tolist() != values.sum(axis=0).tolist()


# -- each check of the sum alone -----------------------------------------------------------


def opening(suite_: Suite, numbers: Sequence[int], n_contributors: int = 3) -> list[int]:
    total = suite_.decode_body(body_of(suite_, [number % N for number in numbers]))
    opened: list[int] = suite_.open(KEY, total, nothing_masked(suite_), n_contributors).tolist()
    return opened


@pytest.mark.parametrize("sign", [1, -1])
def test_a_bit_above_the_top_slot(sign: int) -> None:
    """Every slot is 0, whichever way it is read."""
    suite_ = packed(2 * SLOTS)
    with pytest.raises(SumError, match="plaintext 1 reaches above the top digit") as caught:
        opening(suite_, [0, sign << 27 * SLOTS])
    assert caught.value.check == "plaintext range"


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("slot", [2, SLOTS - 1])
def test_something_in_a_slot_behind_the_last_value(slot: int, sign: int) -> None:
    suite_ = packed(SLOTS + 2)
    with pytest.raises(SumError, match="behind the last value") as caught:
        opening(suite_, [0, sign << 27 * slot])
    assert caught.value.check == "padding"


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("slot", [0, 7, SLOTS - 1])
def test_a_value_that_so_many_contributors_cannot_have(slot: int, sign: int) -> None:
    suite_ = packed(SLOTS)
    most = sign * 3 * 32767
    expected = [most if place == slot else 0 for place in range(SLOTS)]
    assert opening(suite_, [most << 27 * slot]) == expected
    with pytest.raises(SumError, match="magnitude 98302, above 98301") as caught:
        opening(suite_, [(most + sign) << 27 * slot])
    assert caught.value.check == "range"


def test_the_bound_follows_the_width_and_the_contributors() -> None:
    suite_ = packed(1, 8)
    assert opening(suite_, [4 * 127], 4) == [508]
    with pytest.raises(SumError, match="magnitude 509, above 508"):
        opening(suite_, [4 * 127 + 1], 4)


def test_opening_leaves_the_body_as_it_is() -> None:
    suite_ = packed(3)
    values: IntVector = np.array([1, -2, 3], np.int32)
    mask = suite_.prepare(os.urandom)
    body = mask.body(values)
    before = hashlib.sha256(suite_.encode_body(body)).digest()
    product = suite_.product([mask.release([0])])
    assert suite_.open(KEY, body, product, 1).tolist() == [1, -2, 3]
    assert hashlib.sha256(suite_.encode_body(body)).digest() == before
