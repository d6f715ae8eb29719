"""Write the known-answer vectors of the encryption; README.md tells what a file holds.

    python -m tests.vectors.encryption.make            all, beside this file: two minutes
    python -m tests.vectors.encryption.make --short --into FOLDER

The numbers come from reference.py; here is what is encrypted, and what goes wrong with it.
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from tests.vectors.encryption import reference
from tests.vectors.encryption.reference import RADIX, PaillierKey

ANNOUNCE = hashlib.sha256(b"announce of the vectors").digest()
ROSTER = hashlib.sha256(b"roster of the vectors").digest()
LIST = hashlib.sha256(b"list of the vectors").digest()
LONGEST = 2048
"""Bytes that a file spells out; of more it gives length, digest, beginning and end."""


@dataclass(frozen=True)
class Sizes:
    dimension: int
    key: PaillierKey


SMALL = Sizes(
    64,
    PaillierKey(
        0xCC5F017FE27FD6D1E8E91F088A36FA46FDF52E59DC500CC1E7254DB0E838381F,
        0xF6666C6EB467DDCFE05D91750D0F51F92D29648A0B11B9F76425B94F49C2DA17,
    ),
)
"""Hides nothing and exercises everything."""

FULL = Sizes(
    4096,
    PaillierKey(
        int(
            "e1f50f990b92b61052f06839ebfd73f24350160ea4f567cbaeb3ffffb479affcc96ac86fd4a06e905bbc2af4"
            "397c9a9891e9c74e8fb0c1fdb1a62f5e061c31c4ac48ac26e17bdad0999772028d8d0c64add0710752f43358"
            "0ac4899ff671cee5b43b14505fb77aec6a044b1a3241c53bd30fd5639d9dcf3b2b7a52a1f5dab1a6dc2b2351"
            "112386e265df4787d556be80afca25acbf6161ec7e6f7c09ed626e2f8ad523f2cc0eee171592a7cd2d0a86c0"
            "df443be09ebd6f68dc49759e0854334b",
            16,
        ),
        int(
            "f980c5d6cb8bada8a81c9deac503531bff4946691b7f86e7faf2637f8433f4f44c87ad41bff1665f25446777"
            "813e745c4685dda15ff96876d5a05b43f152e068ce8e1de392d3fa5c83e8c3390a6f062c30960ef1f2e869d8"
            "72af155a12593981f8b265c6e51b4a102f2f167840ba49e300e771216b44ae041f4d23c71b6db81f533c9c9c"
            "103492862063cfcdd49e98c842b26ca49a5023b8bd10e94a0647baaf62621242c8529de20c24e6c31bb6668e"
            "2f7cedd03f2fe413ed578ce88512d34f",
            16,
        ),
    ),
)

LEAST = Sizes(
    4096,
    PaillierKey(
        int(
            "daf49715660f8aee7c99e581c6e88cd14ac0b8b753eacefc43eb2a88e94e1484fa18d7f5a4f9e4942f383ddf"
            "583cb621f0118d354612315f25f4fd35b4baab109ce8904f0fb2b8b18003100bffd8a35af8c5a0719d80c42c"
            "9d6c8615b26aa7e23d982623885876b5a763ba41c280bb9ceca04a14532d38ac192155ab40331ff7",
            16,
        ),
        int(
            "ea2d3393018ba0b0e14ab695ea9f086cf541281ae05650d716d8d89db8606ad66cb6bcac871def232751171c"
            "cea2297247b5255d59f124a1b61297337841a31dd315cd14a2387f8c271d4545b6b64373ce2d3dfb8f70f263"
            "7e4ac3dfc6bc78e9a49ad6850c35ce675a180ab7912850794d5dd36b1345c9384aa6958b0f862b8b",
            16,
        ),
    ),
)


@dataclass
class Contributor:
    values: str
    seeds: tuple[bytes, bytes]
    plaintexts: list[int] = field(default_factory=list)
    body: bytes = b""
    release: bytes = b""


@dataclass
class Scenario:
    """Contributors, what they send, and what was done to it on the way.

    Args:
        values: what each contributes, one string for each, as README.md tells.
        times: contributors in the place of the only one; number i has seeds SHA-256(seed, i).
        round_keys: device number -> private round key, for the pads of a list.
        contribution: whether the values end with the seven check values.
        damage: what goes wrong before the coordinator has it all.
    """

    suite: str
    comment: str
    bits: int
    values: Sequence[str]
    expect: str = "sum"
    damage: Damage | None = None
    sizes: Sizes = SMALL
    times: int = 0
    round_keys: dict[int, bytes] = field(default_factory=dict)
    contribution: bool = False

    def __post_init__(self) -> None:
        self.key = self.sizes.key
        self.layout = reference.layout_of(self.suite, self.bits, self.key.n)

    def encrypt(self) -> None:
        self.contributors = [
            Contributor(values, (hashed(b"secret %d" % i), hashed(b"paillier %d" % i)))
            for i, values in enumerate(self.values)
        ]
        for one in self.contributors:
            self.mask(one)
        n_pieces = len(self.contributors[0].plaintexts)
        if self.round_keys:
            self.pads = reference.list_pads(self.round_keys, ROSTER, LIST, n_pieces, self.key.n)
        else:
            self.pads = reference.drawn_pads(len(self.values), n_pieces, self.key.n)
        for one, pads in zip(self.contributors, self.pads, strict=True):
            self.release(one, pads)
        if self.damage is not None:
            self.damage(self)

    def numbers(self, values: str) -> list[int]:
        if "from" not in values:
            return [int(value) for value in values.split()]
        count, first, step = (int(values.split()[place]) for place in (0, 3, 5))
        m = 2 ** (self.bits - 1) - 1
        return [(first + step * i + m) % (2 * m + 1) - m for i in range(count)]

    def mask(self, one: Contributor, announce: bytes = ANNOUNCE) -> None:
        packed = self.layout.packed(self.numbers(one.values))
        if self.suite == "hybrid":
            one.plaintexts, mask = reference.lattice_mask(
                one.seeds[0], len(packed), self.sizes.dimension, self.key.n, announce
            )
        else:
            one.plaintexts, mask = reference.one_time_pad(one.seeds[0], len(packed), self.key.n)
        packed += [0] * (len(mask) - len(packed))
        one.body = self.layout.wire([x + y for x, y in zip(mask, packed, strict=True)])

    def release(self, one: Contributor, pads: Sequence[int]) -> None:
        stream = reference.chacha20(one.seeds[1])
        one.release = b""
        for plaintext, pad in zip(one.plaintexts, pads, strict=True):
            ciphertext = self.key.encrypted(plaintext, stream)
            one.release += self.key.wire(self.key.plus(ciphertext, pad))

    # what goes wrong, with the first contributor

    @property
    def victim(self) -> Contributor:
        return self.contributors[0]

    def add_to_residue(self, place: int, change: int) -> None:
        one = self.victim
        residues = self.layout.residues(one.body)
        residues[place] += change
        one.body = self.layout.wire(residues)

    def add_to_value(self, value: int, change: int) -> None:
        """Under the mask: it takes no secret to do this."""
        residue, bit = self.layout.place(value)
        self.add_to_residue(residue, change << bit)

    def set_body(self, body: bytes) -> None:
        self.victim.body = body

    def set_release(self, release: bytes) -> None:
        self.victim.release = release

    def set_ciphertext(self, ciphertext: int) -> None:
        one, wire = self.victim, self.key.wire(ciphertext)
        one.release = wire + one.release[len(wire) :]

    def add_to_plaintext(self, row: int, change: int) -> None:
        """Under encryption: this takes no more than the public key."""
        one, size = self.victim, len(self.key.wire(0))
        before, after = one.release[: row * size], one.release[(row + 1) * size :]
        ciphertext = int.from_bytes(one.release[row * size : (row + 1) * size], "big")
        one.release = before + self.key.wire(self.key.plus(ciphertext, change)) + after

    # what is written

    def text(self) -> str:
        self.encrypt()
        head = [f"expect: {self.expect}", f"comment: {self.comment}"]
        head += [f"suite: {self.suite}", f"bits: {self.bits}"]
        if self.suite == "hybrid":
            head.append(f"dimension: {self.sizes.dimension}")
        head += [f"p: {self.key.p:x}", f"q: {self.key.q:x}", f"announce: {ANNOUNCE.hex()}"]
        if self.contribution:
            head.append("contribution: yes")
        if self.round_keys:
            head += [f"roster: {ROSTER.hex()}", f"list: {LIST.hex()}"]
            head += [f"round key: {i} {key.hex()}" for i, key in self.round_keys.items()]
        if self.times:
            head.append(f"times: {self.times}")
        for one, pads in zip(self.contributors, self.pads, strict=True):
            head += [f"values: {one.values}", f"seeds: {one.seeds[0].hex()} {one.seeds[1].hex()}"]
            if not self.round_keys:
                head.append(f"pads: {' '.join(f'{pad:x}' for pad in pads)}")
        return "\n".join([*head, "", *self._payload()]) + "\n"

    def _payload(self) -> Iterator[str]:
        contributors = self.contributors
        if self.times:
            contributors = [self._copy(number) for number in range(self.times)]
        else:
            for one in contributors:
                yield line("body", one.body)
                yield line("release", one.release)
        if self.expect == "sum":
            bodies = [self.layout.residues(one.body) for one in contributors]
            total = [sum(column) for column in zip(*bodies, strict=True)]
            yield line("total", self.layout.wire(total))
            yield line("product", self._product([one.release for one in contributors]))
            values = [self.numbers(one.values) for one in contributors]
            sums = [sum(column) for column in zip(*values, strict=True)]
            yield line("sum", b"".join(x.to_bytes(8, "little", signed=True) for x in sums))

    def _copy(self, number: int) -> Contributor:
        original = self.contributors[0]
        secret, paillier = (hashed(seed + number.to_bytes(4, "big")) for seed in original.seeds)
        copy = Contributor(original.values, (secret, paillier))
        self.mask(copy)
        self.release(copy, self.pads[0])
        return copy

    def _product(self, releases: Sequence[bytes]) -> bytes:
        size, whole = len(self.key.wire(0)), b""
        for start in range(0, len(releases[0]), size):
            ciphertext = 1
            for release in releases:
                ciphertext *= int.from_bytes(release[start : start + size], "big")
                ciphertext %= self.key.n**2
            whole += self.key.wire(ciphertext)
        return whole


Damage: TypeAlias = Callable[[Scenario], None]


def hashed(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def line(name: str, data: bytes) -> str:
    if len(data) <= LONGEST:
        return f"{name}: {data.hex()}"
    return f"{name}: {len(data)} bytes {hashed(data).hex()} {data[:16].hex()}..{data[-16:].hex()}"


# -- what there is ---------------------------------------------------------------------------

THREE = {
    16: ("32767 -32767 5 0 -1", "32767 -32767 -6 0 -1", "32767 -32767 7 0 -1"),
    8: ("127 -127 5 0 -1", "127 -127 -6 0 -1", "127 -127 7 0 -1"),
}
CHECKED = ("32767 -2 3 1 1 0 1 90 40 0", "-32767 5 3 1 1 1 0 0 0 0", "9 9 9 1 1 0 1 100 20 0")
"""Three values of an update, then: one, weight, clipped, evaluated, correct, loss, zero."""

ROUND_KEYS = {i: hashed(b"round key %d" % i) for i in (7, 70_000, 5)}

LONG = ("most", "full")
"""How names begin, behind the suite, of those that take seconds each."""


def good(suite: str) -> dict[str, Scenario]:
    some = {
        "contribution": Scenario(suite, "ends with check values", 16, CHECKED, contribution=True)
    }
    for bits, most in ((16, 1024), (8, 512)):
        m = 2 ** (bits - 1) - 1
        extremes = [f"{m} {m} {-m} {-m} {m} {-m} {m}"]
        table: dict[str, tuple[str, Sequence[str], dict[str, Any]]] = {
            "one": ("alone, without pads", [f"1 -2 {m} {-m} 0"], {}),
            "three": ("extremes, and pads that cancel", THREE[bits], {}),
            "list": ("pads of a list", THREE[bits], {"round_keys": ROUND_KEYS}),
            "borrow": ("negative slots below positive", [f"{m} -1 {-m}", f"{-m} -1 {m}"], {}),
            "long": ("more than one polynomial or plaintext", progressions(170, 2), {}),
            "wrap": ("every residue of the total wrapped around", extremes, {"times": 32}),
            "most": ("as many as may be opened together", extremes, {"times": most}),
        }
        for name, (comment, values, more) in table.items():
            some[f"{name}-{bits}"] = Scenario(suite, comment, bits, values, **more)
    return some


def full(suite: str) -> dict[str, Scenario]:
    """The sizes of production."""
    count = {"hybrid": 12_288, "paillier": 500}[suite]  # just into the second, the third
    return {
        f"full-{bits}": Scenario(suite, comment, bits, values, sizes=sizes, round_keys=ROUND_KEYS)
        for bits, sizes, comment, values in (
            (16, FULL, "a key of 3072 bits", THREE[16]),
            (8, LEAST, "2048 bits, more than one polynomial or plaintext", progressions(count, 3)),
        )
    }


def progressions(count: int, n_contributors: int) -> list[str]:
    return [f"{count} values from {3 * i} by {9973 - 4000 * i}" for i in range(n_contributors)]


ANY: dict[str, tuple[str, Damage]] = {
    "body-empty": ("nothing", lambda s: s.set_body(b"")),
    "body-short": ("a byte is missing", lambda s: s.set_body(s.victim.body[:-1])),
    "body-long": ("a word too many", lambda s: s.set_body(s.victim.body + bytes(8))),
    "release-empty": ("nothing", lambda s: s.set_release(b"")),
    "release-short": ("a byte is missing", lambda s: s.set_release(s.victim.release[:-1])),
    "release-long": ("a byte too many", lambda s: s.set_release(s.victim.release + bytes(1))),
    "release-zero": ("0 is no ciphertext", lambda s: s.set_ciphertext(0)),
    "release-modulus": ("nor is n", lambda s: s.set_ciphertext(s.key.n)),
    "release-factor": ("nor a multiple of p", lambda s: s.set_ciphertext(5 * s.key.p)),
    "release-square": ("nor n**2", lambda s: s.set_ciphertext(s.key.n**2)),
    "release-above": ("nor more", lambda s: s.set_ciphertext(s.key.n**2 + 1)),
    "padding-slot": ("a value behind the last", lambda s: s.add_to_value(5, 1)),
}
HYBRID: dict[str, tuple[str, Damage]] = {
    "noise-largest": ("2**11 on a coefficient", lambda s: s.add_to_residue(0, 2**11)),
    "noise-least": ("2**7: three noises have 63 at most", lambda s: s.add_to_residue(2, 2**7)),
    "noise-announce": ("masked for another", lambda s: s.mask(s.victim, hashed(b"another"))),
    "padding-residue": ("past the last used one", lambda s: s.add_to_residue(3, 2**12)),
    "padding-end": ("in the last of all", lambda s: s.add_to_residue(-1, 2**63)),
    "key range-twice": (
        "the release of another",
        lambda s: s.set_release(s.contributors[1].release),
    ),
    "key range-large": ("300 on a key value", lambda s: s.add_to_plaintext(0, 300)),
    "key range-above": ("above the 45 digits", lambda s: s.add_to_plaintext(0, RADIX**45)),
    "key range-below": ("the same, negative", lambda s: s.add_to_plaintext(0, -(RADIX**45))),
    "key range-behind": ("past the last digit", lambda s: s.add_to_plaintext(1, RADIX**19)),
}
PAILLIER: dict[str, tuple[str, Damage]] = {
    "body-modulus": ("n is no residue", lambda s: s.set_body(s.key.n.to_bytes(64, "little"))),
    "body-largest": ("nor is all ones", lambda s: s.set_body(b"\xff" * 64)),
    "plaintext range-twice": (
        "the release of another",
        lambda s: s.set_release(s.contributors[1].release),
    ),
    "plaintext range-body": ("above the slots", lambda s: s.add_to_residue(0, 1 << 27 * 18)),
    "plaintext range-release": ("likewise", lambda s: s.add_to_plaintext(0, 1 << 27 * 18)),
    "padding-last": ("in the last slot", lambda s: s.add_to_value(17, -1)),
    "range-value": ("more than three devices have", lambda s: s.add_to_value(2, 98301)),
}
CHECKS: dict[str, tuple[str, Damage]] = {
    "count": ("a device counts twice", lambda s: s.add_to_value(3, 1)),
    "zero": ("a value where none may be", lambda s: s.add_to_value(9, -1)),
    "range": ("more than three devices have", lambda s: s.add_to_value(0, 3 * 32767)),
    "range-weight": ("less than one each", lambda s: s.add_to_value(4, -1)),
    "range-correct": ("of those that nobody tried", lambda s: s.add_to_value(7, 300)),
}


def bad(suite: str) -> dict[str, Scenario]:
    """The name says what is found: a bad body or release, or the check that fails."""
    return {
        name.replace(" ", "-"): Scenario(
            suite,
            comment,
            16,
            CHECKED if name in CHECKS else THREE[16],
            expect=name.split("-")[0],
            damage=damage,
            contribution=name in CHECKS,
        )
        for table in (ANY, {"hybrid": HYBRID, "paillier": PAILLIER}[suite], CHECKS)
        for name, (comment, damage) in table.items()
    }


def scenarios() -> dict[str, Scenario]:
    """All, by the names of their files; computed when their text is asked for."""
    return {
        f"{suite}-{name}": scenario
        for suite in ("hybrid", "paillier")
        for name, scenario in {**good(suite), **full(suite), **bad(suite)}.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Write the vectors.")
    parser.add_argument("--into", type=Path, default=Path(__file__).parent)
    parser.add_argument("--short", action="store_true", help="without those that take seconds")
    arguments = parser.parse_args()
    for name, scenario in scenarios().items():
        if not (arguments.short and name.split("-")[1] in LONG):
            (arguments.into / f"{name}.txt").write_text(scenario.text())


if __name__ == "__main__":
    main()
