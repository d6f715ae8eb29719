"""What is measured with, how much of it, and what was hoped for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal, TypeAlias

from attrs import field, frozen
from benchmarks.encryption.parties import Sum, contributions, make_suite
from phe import PaillierPrivateKey

from fedring.shared.numbers import IntVector

SIZES: Final = (10_000, 100_000, 1_000_000)
WIDTHS: Final = (16, 8)
KEY_BITS: Final = (3072, 2048)
RINGS: Final = (8, 16, 64)

# Goals and dreams by weights and width; the table "Figures to reach" of the project's design.
ONLINE: Final = {(100_000, 16): (1.0, 0.5), (1_000_000, 16): (1.0, 0.5)}
COLD: Final = {(100_000, 16, 3072): (160.0, 50.0)}
HOP: Final = {(100_000, 16): (12.0, 5.0), (1_000_000, 16): (2.0, 1.5)}
WIRE: Final = {
    (100_000, 16): (1.05, 0.86),
    (1_000_000, 16): (1.01, None),
    (100_000, 8): (0.75, None),
}
NO_GOAL: Final = (None, None)
TEMPORARIES: Final = 0.5
"""Of the 4 MB of 1M float32 values: a few blocks, whatever the length."""

Kind: TypeAlias = Literal["random", "extreme"]


@frozen
class Same:
    """Vectors that TenSEAL's BFV adds up as well.

    Attributes:
        n_contributors: one vector each.
        n_values: of a vector.
        bits: width of a value.
        kind: random ones, or all at the ends of their range, so that sums are there too.
    """

    n_contributors: int
    n_values: int
    bits: int
    kind: Kind = "random"


@frozen
class Extent:
    """How much is measured.

    Attributes:
        n_turns: of everything.
        n_by_phe: weights that phe encrypts, and decrypts, in a turn.
        against_phe: sizes of the keys with which phe is timed.
        opened: weights of sums of few and many contributors.
        sums: size of the key, width of the values, and contributors, of sums that are opened.
        packed: weights under suite `paillier`.
        packed_by_phe: whether phe is timed beside suite `paillier`.
        same: sums that are compared with TenSEAL's.
    """

    n_turns: int
    n_by_phe: int
    against_phe: tuple[int, ...]
    opened: int
    sums: tuple[tuple[int, int, int], ...]
    packed: tuple[int, ...]
    packed_by_phe: bool
    same: tuple[Same, ...]


FULL: Final = Extent(
    n_turns=9,
    n_by_phe=5,
    against_phe=KEY_BITS,
    opened=100_000,
    sums=tuple(
        (key_bits, bits, n)
        for key_bits in KEY_BITS
        for bits, n in ((16, 1), (16, 16), (16, 1024), (8, 512))
    ),
    packed=(1_000, 9_600),
    packed_by_phe=True,
    same=(
        Same(16, 100_000, 16),
        Same(16, 100_000, 8),
        Same(1024, 4096, 16, "extreme"),
    ),
)
QUICK: Final = Extent(
    n_turns=3,
    n_by_phe=10,
    against_phe=(3072,),
    opened=1_000,
    sums=((3072, 16, 1), (3072, 16, 1024), (2048, 16, 1)),
    packed=(200,),
    packed_by_phe=False,
    same=(Same(4, 10_000, 16), Same(4, 10_000, 8), Same(64, 4096, 16, "extreme")),
)


@frozen
class Bench:
    """What is measured with.

    Attributes:
        extent: how much.
        keys: by size in bits.
        exact: of each sum that was opened, whether it was right.
    """

    extent: Extent
    keys: dict[int, PaillierPrivateKey]
    exact: list[bool] = field(factory=list)

    def sum_of(
        self, key_bits: int, n_values: int, bits: int, n_contributors: int, name: str = "hybrid"
    ) -> Sum:
        """A sum of random vectors, opened once to see that it is exact."""
        suite = make_suite(self.keys[key_bits], n_values, bits, name)
        return self._opened(
            Sum.of(suite, self.keys[key_bits], contributions(suite, n_contributors))
        )

    def sum_of_these(self, vectors: Sequence[IntVector], bits: int) -> Sum:
        """A sum of these vectors, likewise."""
        suite = make_suite(self.keys[3072], len(vectors[0]), bits)
        return self._opened(Sum.of(suite, self.keys[3072], vectors))

    def _opened(self, made: Sum) -> Sum:
        self.exact.append(made.exact)
        return made


def weights(n_values: int) -> str:
    """How many, in short."""
    millions, rest = divmod(n_values, 1_000_000)
    return f"{n_values // 1000}k weights" if rest else f"{millions}M weights"


def by_phe(extent: Extent) -> str:
    """How phe was timed, for the name of a row."""
    return f"phe, each weight by itself, {extent.n_turns * extent.n_by_phe} timed and scaled"
