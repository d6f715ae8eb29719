"""The library against tests/vectors/encryption: known answers of a plain-integer reference."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from phe import PaillierPrivateKey, PaillierPublicKey

from fedring.shared.contributions import read_sum
from fedring.shared.encryption import SUITES, Body, Parameters, suite
from fedring.shared.encryption.paillier import encode_ciphertexts
from fedring.shared.errors import BodyError, ReleaseError, SumError
from fedring.shared.numbers import IntVector, SumVector, largest_value
from fedring.shared.pairwise import RoundKey, pads

FILES = sorted((Path(__file__).parents[2] / "vectors" / "encryption").glob("*.txt"))
OUTCOMES = {"sum", "body", "release", "padding", "count", "zero", "range"}


class Vector:
    """A file, and what the library makes of it."""

    def __init__(self, file: Path) -> None:
        head, payload = file.read_text().split("\n\n")
        self.lines = [line.split(": ", 1) for line in f"{head}\n{payload}".splitlines()]
        self.expect = self.only("expect")
        self.bits = int(self.only("bits"))
        self.values = [self._vector(text) for text in self.all("values")]
        p, q = int(self.only("p"), 16), int(self.only("q"), 16)
        self.key = PaillierPrivateKey(PaillierPublicKey(p * q), p, q)
        dimensions = [int(text) for text in self.all("dimension")]
        self.suite = suite(
            self.only("suite"),
            public_key=self.key.public_key,
            announce_digest=bytes.fromhex(self.only("announce")),
            n_values=len(self.values[0]),
            bits=self.bits,
            parameters=Parameters(dimension=dimensions[0]) if dimensions else Parameters(),
        )

    def all(self, name: str) -> list[str]:
        return [text for known, text in self.lines if known == name]

    def only(self, name: str) -> str:
        (text,) = self.all(name)
        return text

    def _vector(self, text: str) -> IntVector:
        if "from" not in text:
            return np.array(text.split(), np.int32)
        count, first, step = (int(text.split()[place]) for place in (0, 3, 5))
        largest = largest_value(self.bits)
        terms = first + step * np.arange(count)
        return (np.mod(terms + largest, 2 * largest + 1) - largest).astype(np.int32)

    def encrypted(self) -> tuple[list[bytes], list[bytes]]:
        """The bodies and releases that values, seeds and pads give."""
        bodies, releases = [], []
        for values, seeds, own in self._contributors():
            left = list(seeds)
            mask = self.suite.prepare(lambda _, left=left: left.pop(0))  # type: ignore[misc]
            bodies.append(self.suite.encode_body(mask.body(values)))
            releases.append(mask.release(own))
        return bodies, releases

    def _contributors(self) -> Iterator[tuple[IntVector, list[bytes], list[int]]]:
        seeds = [[bytes.fromhex(seed) for seed in text.split()] for text in self.all("seeds")]
        if self.all("times"):
            rows = self._pads()
            for number in range(int(self.only("times"))):
                numbered = [seed + number.to_bytes(4, "big") for seed in seeds[0]]
                yield self.values[0], [hashlib.sha256(s).digest() for s in numbered], rows[0]
        else:
            yield from zip(self.values, seeds, self._pads(), strict=True)

    def _pads(self) -> list[list[int]]:
        if not self.all("list"):
            return [[int(pad, 16) for pad in text.split()] for text in self.all("pads")]
        pairs = [text.split() for text in self.all("round key")]
        keys = {int(i): RoundKey.generate(lambda _, k=k: bytes.fromhex(k)) for i, k in pairs}  # type: ignore[misc]
        return [
            pads(
                key,
                number,
                {other: its.public for other, its in keys.items()},
                roster_digest=bytes.fromhex(self.only("roster")),
                list_digest=bytes.fromhex(self.only("list")),
                n_pieces=self.suite.n_ciphertexts,
                modulus=self.suite.n,
            )
            for number, key in keys.items()
        ]

    def total(self, bodies: list[bytes]) -> Body:
        total, *others = (self.suite.decode_body(body) for body in bodies)
        for body in others:
            self.suite.add(total, body)
        return total

    def open(self, bodies: list[bytes], releases: list[bytes]) -> SumVector:
        total = self.total(bodies)
        for release in releases:
            self.suite.check_release(release)
        values = self.suite.open(self.key, total, self.suite.product(releases), len(bodies))
        if self.all("contribution"):
            read_sum(values, len(bodies), self.bits)
        return values

    def outcome(self) -> str:
        """ "sum", or the name of what is wrong, of the bodies and releases in the file."""
        stated = ([bytes.fromhex(text) for text in self.all(name)] for name in ("body", "release"))
        try:
            self.open(*stated)
        except BodyError:
            return "body"
        except ReleaseError:
            return "release"
        except SumError as failure:
            return failure.check
        return "sum"


def written(data: bytes) -> str:
    """As in a file: all, or length, digest, beginning and end."""
    if len(data) <= 2048:
        return data.hex()
    digest = hashlib.sha256(data).hexdigest()
    return f"{len(data)} bytes {digest} {data[:16].hex()}..{data[-16:].hex()}"


@pytest.mark.parametrize("name", SUITES)
def test_there_are_vectors_of_every_outcome(name: str) -> None:
    outcomes = {Vector(file).expect for file in FILES if file.stem.startswith(name)}
    checks = {"hybrid": {"key range", "noise"}, "paillier": {"plaintext range"}}
    assert outcomes == OUTCOMES | checks[name]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_vector(file: Path) -> None:
    vector = Vector(file)
    if vector.expect != "sum":
        assert vector.outcome() == vector.expect
        return
    bodies, releases = vector.encrypted()
    if not vector.all("times"):
        assert [written(body) for body in bodies] == vector.all("body")
        assert [written(release) for release in releases] == vector.all("release")
    assert written(vector.suite.encode_body(vector.total(bodies))) == vector.only("total")
    product = encode_ciphertexts(vector.suite.product(releases), vector.suite.n)
    assert written(product) == vector.only("product")
    values = vector.open(bodies, releases)
    assert written(values.astype("<i8").tobytes()) == vector.only("sum")
