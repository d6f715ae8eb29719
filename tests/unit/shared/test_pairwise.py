"""Pads and seals: they cancel, they bind, and they are what the protocol says, bit for bit."""

import hashlib
import hmac
import random
import struct
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedring.shared.errors import IdentityError, ProtocolError
from fedring.shared.pairwise import (
    SEAL_BYTES,
    RoundKey,
    check_public_key,
    pads,
    seal,
    unseal,
)

P = 2**255 - 19
MODULUS = 2**2048 - 1942289
ROSTER, LIST = b"r" * 32, b"l" * 32


def seeded(seed: int) -> Callable[[int], bytes]:
    return random.Random(seed).randbytes


def ring(*numbers: int) -> dict[int, RoundKey]:
    return {number: RoundKey.generate(seeded(number)) for number in numbers}


def publics(keys: dict[int, RoundKey]) -> dict[int, bytes]:
    return {number: key.public for number, key in keys.items()}


def pads_of(
    keys: dict[int, RoundKey],
    number: int,
    *,
    roster: bytes = ROSTER,
    list_: bytes = LIST,
    n_pieces: int = 3,
    modulus: int = MODULUS,
) -> list[int]:
    return pads(
        keys[number],
        number,
        publics(keys),
        roster_digest=roster,
        list_digest=list_,
        n_pieces=n_pieces,
        modulus=modulus,
    )


def total(rows: list[list[int]], modulus: int = MODULUS) -> list[int]:
    return [sum(column) % modulus for column in zip(*rows, strict=True)]


class TestPads:
    @given(
        st.sets(st.integers(1, 2**32 - 1), min_size=2, max_size=6),
        st.integers(1, 4),
        st.integers(2, 2**300),
    )
    def test_they_cancel_over_the_whole_list(
        self, numbers: set[int], n_pieces: int, modulus: int
    ) -> None:
        keys = ring(*numbers)
        rows = [pads_of(keys, name, n_pieces=n_pieces, modulus=modulus) for name in numbers]
        assert total(rows, modulus) == [0] * n_pieces
        assert all(0 <= pad < modulus for row in rows for pad in row)

    def test_they_do_not_cancel_when_a_name_is_missing(self) -> None:
        keys = ring(1, 2, 3, 4)
        assert 0 not in total([pads_of(keys, number) for number in (1, 2, 3)])

    @pytest.mark.parametrize("other", [{"roster": b"R" * 32}, {"list_": b"L" * 32}], ids=str)
    def test_they_do_not_cancel_over_two_rosters_or_lists(self, other: dict[str, bytes]) -> None:
        keys = ring(1, 2, 3)
        rows = [pads_of(keys, 1, **other), pads_of(keys, 2), pads_of(keys, 3)]  # type: ignore[arg-type]
        assert 0 not in total(rows)

    def test_a_copied_round_key_cancels_nothing(self) -> None:
        keys = ring(1, 2, 3)
        keys[3] = keys[1]  # would cancel the pads of 2 if they did not know the numbers
        assert 0 not in pads_of(keys, 2)

    def test_the_order_of_names_does_not_matter(self) -> None:
        keys = ring(1, 2, 3)
        turned = dict(reversed(keys.items()))
        assert pads_of(keys, 2) == pads_of(turned, 2)

    @pytest.mark.parametrize("numbers", [(1,), ()])
    def test_alone_there_are_none(self, numbers: tuple[int, ...]) -> None:
        with pytest.raises(ProtocolError, match="a list of one name"):
            pads(
                RoundKey.generate(seeded(1)),
                1,
                publics(ring(*numbers)),
                roster_digest=ROSTER,
                list_digest=LIST,
                n_pieces=1,
                modulus=MODULUS,
            )

    def test_digests_have_their_width(self) -> None:
        with pytest.raises(ValueError, match="32 bytes"):
            pads_of(ring(1, 2), 1, roster=b"r" * 33, list_=b"l" * 31)

    def test_they_are_what_the_protocol_says(self) -> None:
        keys = ring(7, 70_000, 5)
        expected = [0, 0]
        for other, sign in ((5, -1), (70_000, 1)):
            low, high = sorted((7, other))
            info = b"fedring/1 pad\0" + ROSTER + LIST + struct.pack(">II", low, high)
            secret = plain_x25519(random.Random(7).randbytes(32), keys[other].public)
            stream = plain_chacha20(plain_hkdf(secret, info), 2 * 272)
            for piece in range(2):
                piece_bytes = stream[272 * piece : 272 * (piece + 1)]
                expected[piece] += sign * int.from_bytes(piece_bytes, "big")
        found = pads_of(keys, 7, n_pieces=2)
        assert found == [value % MODULUS for value in expected]
        assert hashlib.sha256(repr(found).encode()).hexdigest()[:16] == "30d148efd9094759"


class TestSeal:
    DEVICE, COORDINATOR = RoundKey.generate(seeded(1)), RoundKey.generate(seeded(2))

    def sealed(self, plaintext: bytes = b"release") -> bytes:
        return seal(
            self.DEVICE,
            self.COORDINATOR.public,
            plaintext,
            roster_digest=ROSTER,
            list_digest=LIST,
            sender=9,
        )

    def unsealed(
        self,
        sealed: bytes,
        *,
        device: bytes = DEVICE.public,
        roster: bytes = ROSTER,
        list_: bytes = LIST,
        sender: int = 9,
    ) -> bytes:
        return unseal(
            self.COORDINATOR,
            device,
            sealed,
            roster_digest=roster,
            list_digest=list_,
            sender=sender,
        )

    @given(st.binary(max_size=100))
    def test_the_coordinator_opens_it(self, plaintext: bytes) -> None:
        sealed = self.sealed(plaintext)
        assert len(sealed) == len(plaintext) + SEAL_BYTES
        assert self.unsealed(sealed) == plaintext

    @pytest.mark.parametrize(
        "other",
        [
            {"device": COORDINATOR.public},
            {"roster": LIST},
            {"list_": ROSTER},
            {"sender": 8},
        ],
        ids=str,
    )
    def test_it_holds_for_one_device_roster_list_and_number(self, other: dict[str, bytes]) -> None:
        with pytest.raises(IdentityError, match="seal does not hold"):
            self.unsealed(self.sealed(), **other)  # type: ignore[arg-type]

    @given(st.integers(0, (len(b"release") + SEAL_BYTES) * 8 - 1))
    def test_a_flipped_bit_is_found(self, bit: int) -> None:
        changed = bytearray(self.sealed())
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(IdentityError):
            self.unsealed(bytes(changed))

    @given(st.binary(max_size=40))
    def test_garbage_is_an_identity_error(self, garbage: bytes) -> None:
        with pytest.raises(IdentityError):
            self.unsealed(garbage)

    def test_nobody_seals_to_a_key_without_secret(self) -> None:
        with pytest.raises(ProtocolError):
            seal(self.DEVICE, bytes(32), b"", roster_digest=ROSTER, list_digest=LIST, sender=9)

    def test_its_bytes_are_pinned(self) -> None:
        assert self.sealed().hex() == "dcb92aa429a71aa99a6df8324674773894856668a2532f"


class TestPublicKeys:
    @given(st.integers(0, 2**64))
    def test_honest_keys_pass(self, seed: int) -> None:
        check_public_key(RoundKey.generate(seeded(seed)).public)

    # Order 1, 2, 4 and 8; found here by computing, not taken from the list in the code.
    @pytest.mark.parametrize("order", ["0", "1", "-1", "8a", "8b"])
    def test_low_order_is_refused(self, order: str) -> None:
        u = {
            "0": 0,
            "1": 1,
            "-1": P - 1,
            "8a": points_of_order_8()[0],
            "8b": points_of_order_8()[1],
        }
        raw = u[order].to_bytes(32, "little")
        assert plain_x25519(b"any scalar of thirty-two bytes..", raw) == bytes(32)
        with pytest.raises(ProtocolError, match="low order"):
            check_public_key(raw)

    @pytest.mark.parametrize("u", [P, P + 1, P + 9, 2**255 - 1, 2**255 + 9, 2**256 - 1])
    def test_other_spellings_are_refused(self, u: int) -> None:
        with pytest.raises(ProtocolError, match="canonical"):
            check_public_key(u.to_bytes(32, "little"))

    @pytest.mark.parametrize("length", [0, 31, 33, 64])
    def test_other_lengths_are_refused(self, length: int) -> None:
        with pytest.raises(ProtocolError, match=f"{length} bytes, not 32"):
            check_public_key(b"\x09" * length)

    @given(st.binary(max_size=40))
    def test_garbage_is_a_protocol_error_or_a_key(self, garbage: bytes) -> None:
        try:
            check_public_key(garbage)
        except ProtocolError:
            return
        assert len(garbage) == 32

    def test_the_secret_half_does_not_show(self) -> None:
        key = RoundKey.generate(lambda n: b"\x41" * n)
        assert repr(key) == f"RoundKey(public={key.public.hex()[:12]})"


# What follows is written from the RFCs in plain Python: slow, and independent of the library.


def plain_x25519(scalar: bytes, u: bytes) -> bytes:
    """RFC 7748, section 5."""
    k = int.from_bytes(scalar, "little") & ~7 & ~(1 << 255) | 1 << 254
    x1 = int.from_bytes(u, "little") % 2**255 % P
    x2, z2, x3, z3 = 1, 0, x1, 1
    for bit in reversed(range(255)):
        swap = k >> bit & 1
        if swap:
            x2, z2, x3, z3 = x3, z3, x2, z2
        a, b, c, d = x2 + z2, x2 - z2, x3 + z3, x3 - z3
        aa, bb, da, cb = a * a % P, b * b % P, d * a % P, c * b % P
        x3, z3 = pow(da + cb, 2, P), x1 * pow(da - cb, 2, P) % P
        e = aa - bb
        x2, z2 = aa * bb % P, e * (aa + 121665 * e) % P
        if swap:
            x2, z2, x3, z3 = x3, z3, x2, z2
    return (x2 * pow(z2, P - 2, P) % P).to_bytes(32, "little")


def plain_hkdf(secret: bytes, info: bytes) -> bytes:
    """RFC 5869, one block of output."""
    key = hmac.digest(bytes(32), secret, "sha256")
    return hmac.digest(key, info + b"\x01", "sha256")


def plain_chacha20(key: bytes, n_bytes: int) -> bytes:
    """RFC 8439, section 2.3, nonce 0, counter from 0."""

    def quarter(s: list[int], a: int, b: int, c: int, d: int) -> None:
        for x, y, z, turn in ((a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)):
            s[x] = s[x] + s[y] & 0xFFFFFFFF
            s[z] ^= s[x]
            s[z] = (s[z] << turn | s[z] >> 32 - turn) & 0xFFFFFFFF

    stream = b""
    counter = 0
    while len(stream) < n_bytes:
        start = [*struct.unpack("<4I", b"expand 32-byte k"), *struct.unpack("<8I", key)]
        start += [counter, 0, 0, 0]
        state = start.copy()
        for _ in range(10):
            for i in range(4):
                quarter(state, i, 4 + i, 8 + i, 12 + i)
            for i in range(4):
                quarter(state, i, 4 + (i + 1) % 4, 8 + (i + 2) % 4, 12 + (i + 3) % 4)
        summed = [x + y & 0xFFFFFFFF for x, y in zip(start, state, strict=True)]
        stream += struct.pack("<16I", *summed)
        counter += 1
    return stream[:n_bytes]


def points_of_order_8() -> list[int]:
    """The u whose double d is of order 4, that is 1 or -1.

    On v**2 = u**3 + A u**2 + u doubling gives d = (u**2 - 1)**2 / (4 u (u**2 + A u + 1)). With
    s = u + 1/u that is s**2 - 4 d s - 4 (1 + d A) = 0.
    """
    a = 486662
    roots = []
    for double in (1, P - 1):
        c = (4 + 4 * double * a) % P
        discriminant = (4 + c) % P
        if (s_root := square_root(discriminant)) is None:
            continue
        for s in ((2 * double + s_root) % P, (2 * double - s_root) % P):
            if (u_root := square_root((s * s - 4) % P)) is not None:
                half = pow(2, P - 2, P)
                roots += [(s + u_root) * half % P, (s - u_root) * half % P]
    return sorted(set(roots))


def square_root(value: int) -> int | None:
    """Modulo 2**255 - 19, which is 5 modulo 8."""
    for root in (
        pow(value, (P + 3) // 8, P),
        pow(value, (P + 3) // 8, P) * pow(2, (P - 1) // 4, P),
    ):
        if root * root % P == value % P:
            return root % P
    return None
