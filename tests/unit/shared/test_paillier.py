import json
import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import cast

import phe
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedring.shared.encryption import paillier
from fedring.shared.encryption.keyfile import load_key, save_key
from fedring.shared.encryption.streams import Stream
from fedring.shared.errors import KeyFileError, PublicKeyError, ReleaseError

KEY = paillier.generate_key(512, random=Stream(b"paillier tests, 512 bits".ljust(32)).read)
N = int(KEY.public_key.n)
BASE = paillier.fixed_base(N)
SMALL_KEYS = {
    bits: paillier.generate_key(bits, random=Stream(b"small keys".ljust(32)).read)
    for bits in (64, 66, 96, 130)
}

plaintexts = st.integers(0, N - 1)
seeds = st.binary(min_size=32, max_size=32)


def by_phe(ciphertext: int) -> phe.EncryptedNumber:
    return phe.EncryptedNumber(KEY.public_key, ciphertext)


@given(plaintexts, seeds)
def test_phe_itself_decrypts_our_ciphertexts(plaintext: int, seed: bytes) -> None:
    ciphertext = BASE.encrypt(plaintext, Stream(seed).read)
    assert KEY.raw_decrypt(ciphertext) == plaintext
    assert paillier.decrypt(KEY, [ciphertext]) == [plaintext]


@given(st.integers(-(10**30), 10**30), st.integers(-(10**30), 10**30), seeds)
def test_phe_adds_its_ciphertexts_to_ours(own: int, other: int, seed: bytes) -> None:
    ours = BASE.encrypt(own % N, Stream(seed).read)
    theirs = KEY.public_key.encrypt(other)
    assert KEY.decrypt(by_phe(ours) + theirs) == own + other
    ((total,),) = [paillier.product([(ours,), (theirs.ciphertext(),)], N)]
    assert paillier.decrypt(KEY, [total]) == [(own + other) % N]


@given(st.lists(st.tuples(plaintexts, plaintexts), min_size=1, max_size=4), seeds)
def test_plain_values_are_added_under_encryption(pairs: list[tuple[int, int]], seed: bytes) -> None:
    stream = Stream(seed)
    ciphertexts = [BASE.encrypt(plaintext, stream.read) for plaintext, _ in pairs]
    padded = paillier.add_plain(ciphertexts, [pad for _, pad in pairs], N)
    assert paillier.decrypt(KEY, padded) == [(plaintext + pad) % N for plaintext, pad in pairs]


@given(plaintexts, seeds)
def test_the_table_computes_what_the_paper_says(plaintext: int, seed: bytes) -> None:
    exponent = int.from_bytes(Stream(seed).read(32), "big")
    square = N * N
    h = int(BASE._base())
    assert pow(-h % N, (N + 1 - KEY.p - KEY.q) // 4, N) == 1  # -h is a square
    expected = (1 + N * plaintext) * pow(pow(h, N, square), exponent, square) % square
    assert BASE.encrypt(plaintext, Stream(seed).read) == expected


@pytest.mark.parametrize("bits", [64, 66, 96, 130])
@given(seed=seeds)
def test_the_table_computes_powers_under_keys_of_any_size(bits: int, seed: bytes) -> None:
    n = int(SMALL_KEYS[bits].public_key.n)
    base = paillier.fixed_base(n)
    h_s = pow(base._base(), n, n * n)
    exponent = paillier._uniform_bits(bits // 2, Stream(seed).read)
    assert base.obfuscator(Stream(seed).read) == pow(h_s, exponent, n * n)
    ones = (1 << bits // 2) - 1
    assert base.obfuscator(lambda n_bytes: b"\xff" * n_bytes) == pow(h_s, ones, n * n)
    assert base.obfuscator(bytes) == 1
    one_by_one, together = Stream(seed), Stream(seed)
    assert base.obfuscators(3, together.read) == [
        base.obfuscator(one_by_one.read) for _ in range(3)
    ]


def test_a_key_under_which_nothing_is_hidden_is_refused() -> None:
    with pytest.raises(PublicKeyError, match="small factor"):
        paillier.FixedBase(3**301)  # for one power in three, h has the factor 3 as well


def test_half_of_the_bits_of_n_are_drawn_for_a_ciphertext() -> None:
    drawn = []

    def random(n_bytes: int) -> bytes:
        drawn.append(n_bytes)
        return b"\xff" * n_bytes

    BASE.encrypt(0, random)
    assert drawn == [512 // 2 // 8]


def test_two_ciphertexts_of_one_value_differ() -> None:
    assert BASE.encrypt(7, os.urandom) != BASE.encrypt(7, os.urandom)


@pytest.mark.parametrize("bits", [64, 130, 512, 1024])
def test_keys_have_their_size_and_shape(bits: int) -> None:
    key = paillier.generate_key(bits, random=os.urandom)
    assert key.public_key.n.bit_length() == bits
    assert paillier.is_admissible(key.p, key.q)
    assert str(key.p) not in repr(key)
    with pytest.raises(ValueError, match="even number of bits"):
        paillier.generate_key(bits + 1, random=os.urandom)


@pytest.mark.parametrize(
    ("p", "q"),
    [(7, 7), (7, 13), (13, 7), (7, 15), (7, 19)],
    ids=["same", "1mod4", "1mod4", "odd", "common"],
)
def test_primes_that_the_fixed_base_cannot_use(p: int, q: int) -> None:
    assert not paillier.is_admissible(p, q)
    assert paillier.is_admissible(7, 11)


def test_a_product_is_of_rows_as_they_come() -> None:
    n = 143
    assert paillier.product(iter([(2, 3, 143), (5, 7, 144), (1, 1, n * n - 1)]), n) == (
        10,
        21,
        -143 * 144 % n**2,
    )
    assert paillier.product([(9,)], n) == (9,)
    with pytest.raises(ValueError, match="nothing"):
        paillier.product([], n)
    with pytest.raises(ValueError, match=r"shorter|longer"):
        paillier.product([(1, 2), (1,)], n)


def test_decrypting_again_starts_no_more_threads() -> None:
    """gmpy2 keeps some numbers for each thread and forgets to free them when it ends."""
    seen: list[threading.Thread] = []

    class Key:
        public_key = phe.PaillierPublicKey((1 << 2047) + 1)

        def raw_decrypt(self, ciphertext: int) -> int:
            seen.append(threading.current_thread())
            return ciphertext

    for _ in range(5):
        assert paillier.decrypt(cast(phe.PaillierPrivateKey, Key()), [1, 2, 3]) == [1, 2, 3]
    assert len(set(seen)) <= (os.cpu_count() or 1)


def test_other_threads_run_while_one_decrypts() -> None:
    """No thread is interrupted here: another one runs when it is let, or not at all.

    The key is of the least size that devices accept, so that all goes the way of production,
    through threads of its own.
    """
    key = paillier.generate_key(2048, random=Stream(b"threads".ljust(32)).read)
    steps, during, done = 0, [], threading.Event()
    decrypting: set[threading.Thread] = set()

    class Watched:
        public_key = key.public_key

        def raw_decrypt(self, ciphertext: int) -> int:
            decrypting.add(threading.current_thread())
            before = steps
            plaintext: int = key.raw_decrypt(ciphertext)
            during.append(steps - before)
            return plaintext

    def step() -> None:
        nonlocal steps
        while not done.wait(0.0001):
            steps += 1

    other = threading.Thread(target=step)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1000)
    try:
        other.start()
        ciphertexts = [key.public_key.raw_encrypt(plain) for plain in range(4)]
        for _ in range(100):
            opened = paillier.decrypt(cast(phe.PaillierPrivateKey, Watched()), ciphertexts)
            assert opened == [0, 1, 2, 3]
            if any(during):
                break
    finally:
        done.set()
        sys.setswitchinterval(interval)
        other.join()
    assert any(during)
    assert threading.current_thread() not in decrypting


def test_the_table_is_built_once() -> None:
    n = int(paillier.generate_key(256, random=os.urandom).public_key.n)
    with ThreadPoolExecutor(4) as pool:
        tables = list(pool.map(paillier.fixed_base, [n] * 8))
    assert all(table is tables[0] for table in tables)


@pytest.mark.parametrize("n", [1 << 2047 | 1, (1 << 3072) - 1, (1 << 4096) - 1])
def test_public_keys_that_a_device_uses(n: int) -> None:
    paillier.check_public_key(n)


@pytest.mark.parametrize(
    ("n", "reason"),
    [
        (0, "0 bits"),
        (-(1 << 3000) - 1, "3001 bits"),
        ((1 << 2047) - 1, "2047 bits, not 2048 to 4096"),
        (1 << 4096 | 1, "4097 bits"),
        (1 << 3071, "even"),
    ],
)
def test_public_keys_that_a_device_refuses(n: int, reason: str) -> None:
    with pytest.raises(PublicKeyError, match=reason):
        paillier.check_public_key(n)


def test_small_keys_are_for_tests() -> None:
    paillier.check_public_key(N, minimum_bits=512)
    with pytest.raises(PublicKeyError, match="not 513"):
        paillier.check_public_key(N, minimum_bits=513)


def test_ciphertexts_on_the_wire() -> None:
    ciphertexts = (1, N + 1, N * N - 1)
    wire = paillier.encode_ciphertexts(ciphertexts, N)
    assert len(wire) == 3 * 128
    assert paillier.decode_ciphertexts(wire, 3, N) == ciphertexts
    paillier.check_ciphertexts(ciphertexts, N)


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (0, r"not in \[1"),
        (N * N, r"not in \[1"),
        (N, "factor"),
        (KEY.p, "factor"),
        (KEY.q * 5, "factor"),
        (N * (N - 1), "factor"),
    ],
    ids=["0", "n**2", "n", "p", "5q", "n(n-1)"],
)
@pytest.mark.parametrize("index", [0, 1, 2])
def test_what_is_no_ciphertext(bad: int, reason: str, index: int) -> None:
    ciphertexts = [5, 6, 7]
    ciphertexts[index] = bad
    with pytest.raises(ReleaseError, match=reason):
        paillier.check_ciphertexts(tuple(ciphertexts), N)


@given(st.binary(max_size=400))
def test_any_bytes_are_ciphertexts_or_refused(data: bytes) -> None:
    try:
        paillier.check_ciphertexts(paillier.decode_ciphertexts(data, 2, N), N)
    except ReleaseError:
        return
    assert len(data) == 2 * 128


def test_a_key_file_is_for_its_owner(tmp_path: Path) -> None:
    path = tmp_path / "paillier.json"
    save_key(KEY, path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert load_key(path) == KEY
    assert [entry.name for entry in tmp_path.iterdir()] == ["paillier.json"]

    with pytest.raises(KeyFileError, match="never overwritten") as caught:
        save_key(KEY, path)
    assert caught.value.name == "paillier-key.exists"

    path.chmod(0o640)
    with pytest.raises(KeyFileError, match="others may read") as caught:
        load_key(path)
    assert caught.value.hint == f"chmod 600 {path}"


def test_a_save_that_was_cut_short_is_done_again(tmp_path: Path) -> None:
    path = tmp_path / "paillier.json"
    path.with_name("paillier.json.partial").write_text('{"form')
    save_key(KEY, path)
    assert load_key(path) == KEY


def test_a_key_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match="No such file") as caught:
        load_key(tmp_path / "paillier.json")
    assert caught.value.name == "paillier-key.missing"
    with pytest.raises(KeyFileError, match="cannot be written"):
        save_key(KEY, tmp_path / "missing" / "paillier.json")


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "7",
        "[" * 8000,
        "not json",
        '{"format": "fedring paillier key 2", "p": "7", "q": "b"}',
        '{"format": "fedring paillier key 1", "p": "7"}',
        '{"format": "fedring paillier key 1", "p": 7, "q": 11}',
        '{"format": "fedring paillier key 1", "p": "7", "q": "d"}',
        '{"format": "fedring paillier key 1", "p": "-7", "q": "b"}',
        json.dumps({"format": "fedring paillier key 1", "p": f"{KEY.p:x}", "q": f"{KEY.q + 2:x}"}),
        json.dumps({"format": "fedring paillier key 1", "p": f"{KEY.p:X}", "q": f"{KEY.q:x}"}),
        json.dumps({"format": "fedring paillier key 1", "p": f"{KEY.p:#x}", "q": f"{KEY.q:x}"}),
        json.dumps({"format": "fedring paillier key 1", "p": f" {KEY.p:x}", "q": f"{KEY.q:x}"}),
        json.dumps({"format": "fedring paillier key 1", "p": "f" * 1000, "q": "d" * 1000}),
        b"\xff\xfe",
    ],
)
def test_a_damaged_key_file(tmp_path: Path, content: str | bytes) -> None:
    path = tmp_path / "paillier.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    path.chmod(0o600)
    with pytest.raises(KeyFileError, match="not a Paillier key") as caught:
        load_key(path)
    assert caught.value.name == "paillier-key.damaged"
