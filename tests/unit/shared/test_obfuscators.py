"""Obfuscators made ahead: ciphertexts of zero, each handed out once, whoever asks and whenever."""

import ast
import os
import sys
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from fedring.shared.encryption import Random, generate_key, paillier
from fedring.shared.encryption.obfuscators import Obfuscators
from fedring.shared.encryption.streams import Stream

KEY = generate_key(512, random=Stream(b"obfuscator tests, 512 bits".ljust(32)).read)
N = int(KEY.public_key.n)
NEVER = threading.Event()


def stock_of(count: int) -> Obfuscators:
    stock = Obfuscators(N)
    stock.fill(count, os.urandom, NEVER)
    return stock


def no_random(_: int) -> bytes:
    raise AssertionError("nothing had to be made")


def test_an_obfuscator_is_a_ciphertext_of_zero() -> None:
    assert [KEY.raw_decrypt(one) for one in stock_of(3).take(3, no_random)] == [0, 0, 0]


def test_with_a_plaintext_it_is_what_encrypt_makes() -> None:
    seed = bytes(range(32))
    stock = Obfuscators(N)
    stock.fill(2, lambda _: seed, NEVER)
    stream = Stream(seed)
    first, second = (paillier.fixed_base(N).encrypt(plain, stream.read) for plain in (7, N - 1))
    later, sooner = stock.take(2, no_random)
    assert paillier.add_plain([sooner, later], [7, N - 1], N) == (first, second)


def test_what_is_missing_is_made_now() -> None:
    stock = stock_of(2)
    waiting = stock.take(1, no_random)
    taken = stock.take(4, os.urandom)
    assert len(stock) == 0
    assert len({*waiting, *taken}) == 5
    assert [KEY.raw_decrypt(one) for one in taken] == [0] * 4


def test_a_forked_process_takes_none_of_its_parents() -> None:
    stock = stock_of(2)
    reader, writer = os.pipe()
    if (child := os.fork()) == 0:
        taken = stock.take(2, os.urandom)
        os.write(writer, repr((len(stock), taken)).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as answer:
        left, taken = ast.literal_eval(answer.read())
    assert os.waitpid(child, 0)[1] == 0
    assert left == 0
    assert not {*taken} & {*stock.take(2, no_random)}


def test_every_filling_has_a_seed_of_its_own() -> None:
    stock = Obfuscators(N)
    asked = []

    def random(n_bytes: int) -> bytes:
        asked.append(n_bytes)
        return os.urandom(n_bytes)

    stock.fill(2, random, NEVER)
    stock.fill(4, random, NEVER)
    stock.take(4, no_random)
    stock.take(1, random)
    assert asked == [32, 32, 32]


def test_no_obfuscator_serves_twice_whoever_fills_and_takes() -> None:
    stock = Obfuscators(N)
    stops = [threading.Event() for _ in range(4)]
    begin = threading.Barrier(8)

    def fill(stop: threading.Event) -> list[int]:
        begin.wait()
        while not stop.is_set():
            stock.fill(5, os.urandom, stop)
            assert len(stock) <= 5
        return []

    def take(stop: threading.Event) -> list[int]:
        begin.wait()
        try:
            return [one for count in (0, 3, 8) * 8 for one in stock.take(count, os.urandom)]
        finally:
            stop.set()

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(8) as pool:
            filled = [pool.submit(fill, stop) for stop in stops]
            taken = [pool.submit(take, stop) for stop in stops]
            served = Counter(one for future in (*filled, *taken) for one in future.result())
    finally:
        sys.setswitchinterval(interval)
    served.update(stock.take(len(stock), no_random))
    assert served.total() >= 4 * 88
    assert set(served.values()) == {1}


def test_filling_ends_when_it_is_told_to() -> None:
    stock = Obfuscators(N)
    stop = threading.Event()
    left = [b"s" * 32]

    def random(n_bytes: int) -> bytes:
        stop.set()
        return left.pop().ljust(n_bytes)

    stock.fill(5, random, stop)
    assert len(stock) == 0


def test_filling_ends_after_the_one_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    stop = threading.Event()
    make = paillier.FixedBase.obfuscator
    made = []

    def third_is_the_last(base: paillier.FixedBase, random: Random) -> int:
        made.append(make(base, random))
        if len(made) == 3:
            stop.set()
        return made[-1]

    monkeypatch.setattr(paillier.FixedBase, "obfuscator", third_is_the_last)
    stock = Obfuscators(N)
    stock.fill(5, os.urandom, stop)
    assert len(stock) == 3


def test_erased_is_gone_with_what_was_being_made(monkeypatch: pytest.MonkeyPatch) -> None:
    stock = stock_of(2)
    make = paillier.FixedBase.obfuscator
    under_way, go_on = threading.Event(), threading.Event()

    def waits(base: paillier.FixedBase, random: Random) -> int:
        under_way.set()
        assert go_on.wait(60)
        return make(base, random)

    monkeypatch.setattr(paillier.FixedBase, "obfuscator", waits)
    with ThreadPoolExecutor(1) as pool:
        filling = pool.submit(stock.fill, 3, os.urandom, NEVER)
        assert under_way.wait(60)
        stock.erase()
        go_on.set()
        filling.result()
    assert repr(stock) == "<0 obfuscators>"
    stock.fill(3, os.urandom, NEVER)
    assert len(stock) == 0
    assert len(stock.take(2, os.urandom)) == 2
