"""The numbers on which the security and the exactness of suite `hybrid` rest.

Security level: 128 bits and more against known classical attacks.
- The HomomorphicEncryption.org standard (Albrecht et al., 2018, table 1) allows log2 q <= 109 at
  N = 4096 for 128 bits; ours is 64, with the noise of the table (sigma 3.2) or more.
- Core-SVP estimate of the primal attack (0.292 x block size), secret and noise of sigma 3.24:
  block size 716, 2**209. Knowing the sum of two keys and noises leaves sigma 2.29 and 2**204.
  The table's own row by the same estimate: 2**95.
- Estimated 2026-11 by the formulas of Alkim, Ducas, Poeppelmann, Schwabe, "Post-quantum key
  exchange - a new hope", 2016, sections 6.1 and 6.3, the same as the Lattice Estimator finds;
  `scripts/estimate` computes it, a test holds it here. docs/encryption.md, sections 4, 5 and 10,
  has the rest. Not reviewed by outsiders.

Not protected: anything against a quantum computer as a whole (Paillier and X25519 fall to one).
"""

from __future__ import annotations

from attrs import field, frozen
from attrs.validators import ge


@frozen
class Layout:
    """How values share the 64 bits of a coefficient: `slots` above `noise_bits` of noise.

    Attributes:
        bits: width of one contributor's value.
        slots: values in a coefficient.
        slot_bits: width of a sum of values, signed and balanced: `max_contributors` values of
            the largest magnitude fit, which is all that excludes overflow.
        noise_bits: f; noise below 2**(f - 1) in magnitude rounds away. 1,024 contributors have
            sigma 104, and 2,048 is 19.7 sigma.
        max_contributors: how many may be opened together.
    """

    bits: int
    slots: int
    slot_bits: int
    noise_bits: int
    max_contributors: int


LAYOUTS = {
    16: Layout(bits=16, slots=2, slot_bits=26, noise_bits=12, max_contributors=1024),
    8: Layout(bits=8, slots=3, slot_bits=17, noise_bits=13, max_contributors=512),
}


def _power_of_two(_instance: object, _attribute: object, value: int) -> None:
    if value & (value - 1):
        raise ValueError(f"the dimension must be a power of two, not {value}")


@frozen
class Parameters:
    """The lattice: R = Z_q[X] / (X**N + 1) with q = 2**64.

    Attributes:
        dimension: N, a power of two. Anything below 4096 is for simulations and hides nothing.
        eta: keys and noise are centred binomial, within [-eta, eta]. Not ternary: the sum of two
            ternary keys gives both away wherever it is +2 or -2, in 22 % of the coefficients.
        key_radix: room for a sum of keys in one digit of a Paillier plaintext. The key check for
            1,024 contributors lets +-1,036 pass, so 2,073 is the least. 4,096 digits fill 15
            plaintexts of 3,072 bits if 274 go into each, and 2,347 is the largest radix of which
            274 do: +-1,173. (14 plaintexts would take 293 digits, of +-709 at most.) The room left
            is what tells bad releases: where one is missing or bad, what opens is uniform modulo n,
            and at 3,072 bits such a plaintext passes with probability 2**-52 for 1,024
            contributors, 2**-188 for 512, 2**-874 for 16. It needs 274 digits within the bound
            and, 2**-3 or less, nothing above them. Behind this check stand those of noise and
            padding: under a wrong key nothing of a body is small or 0.
    """

    dimension: int = field(default=4096, validator=[ge(8), _power_of_two])
    eta: int = 21
    key_radix: int = 2347

    @property
    def sigma(self) -> float:
        """Standard deviation of one key or noise value: sqrt(eta / 2), 3.24 for eta = 21."""
        return float((self.eta / 2) ** 0.5)

    def bound(self, n_contributors: int) -> float:
        """What no honest sum of keys or noises exceeds: 10 sigma, 2**-75 a value."""
        return 10 * self.sigma * float(n_contributors**0.5)


PRODUCTION = Parameters()

PADDING = 32
"""Coefficients behind the last used one; they carry nothing and must decrypt to 0."""

MAX_VALUES = (1 << 24) - 2 * PADDING
"""Longest vector of values: bounds what an announce can make a board set aside. At 16 bits, two to
a coefficient, its body has 64 MiB."""

LEAST_KEY_BITS = 2048
MOST_KEY_BITS = 4096
"""Sizes of a Paillier modulus that a device accepts: 112 bits of security, and bounded work."""
