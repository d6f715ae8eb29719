"""Each check of a sum alone: damage that it finds, and that would pass without it.

"Without it" is shown, not said: the check is taken out of the library, and what was refused opens,
mostly as a wrong sum. So no other check looks at that damage, and none may be left out.
"""

import __future__

import ast
import hashlib
import inspect
import textwrap
from collections.abc import Callable, Iterator
from types import FunctionType
from typing import TypeAlias, get_args

import numpy as np
import pytest
from attrs import evolve, frozen

from fedring.coordinator.sums import RingSum, open_rings
from fedring.shared import contributions
from fedring.shared.contributions import Check, contribution
from fedring.shared.encryption import (
    Parameters,
    Suite,
    generate_key,
    hybrid,
    packed,
    packing,
    suite,
)
from fedring.shared.encryption.streams import Stream
from fedring.shared.errors import SumCheck

KEY = generate_key(512, random=Stream(b"sum checks, 512 bits".ljust(32)).read)
N = KEY.public_key.n
RANDOM = Stream(b"sum checks, masks".ljust(32)).read
DIGEST = hashlib.sha256(b"sum checks").digest()
DIMENSION = 64
UPDATES = ([32767, -5, 2, 1], [-32767, 5, 3, 1], [1, 9, 9, 1])
LENGTH = 4 + len(Check)
"""Odd: a slot is left over in the last coefficient."""
USED = 6
"""Coefficients that hold values."""


# -- a ring of three -----------------------------------------------------------------------


def suite_of(name: str, n_values: int = LENGTH) -> Suite:
    return suite(
        name,
        public_key=KEY.public_key,
        announce_digest=DIGEST,
        n_values=n_values,
        bits=16,
        parameters=Parameters(dimension=DIMENSION),
    )


def ring_of_three(suite_: Suite) -> RingSum:
    body = np.zeros(suite_.body_bytes // 8, np.uint64)
    releases = []
    for update, pad in zip(UPDATES, (7, 8, N - 15), strict=True):
        mask = suite_.prepare(RANDOM)
        values = contribution(np.array(update, np.int32), evaluated=True, correct=50, loss=1.0)
        suite_.add(body, mask.body(values))
        releases.append(mask.release([pad] * suite_.n_ciphertexts))
    return RingSum("1", (3, 5, 8), body, tuple(releases))


def honest_sum() -> list[int]:
    update = [sum(column) for column in zip(*UPDATES, strict=True)]
    return [*update, 3, 3, 0, 3, 150, 3 * 32, 0]


# -- damage ---------------------------------------------------------------------------------

Damage: TypeAlias = Callable[[Suite, RingSum], RingSum]


def with_values(**changes: int) -> Damage:
    """Whoever holds the token adds to values: `v0` is the first of the update."""

    def damage(suite_: Suite, ring: RingSum) -> RingSum:
        body = ring.body.copy()
        values = np.zeros(LENGTH, np.int32)
        for name, change in changes.items():
            values[int(name[1:]) if name[0] == "v" else 4 + Check[name]] = change
        suite_.add_values(body, values)
        return evolve(ring, body=body)

    return damage


def with_value_behind(suite_: Suite, ring: RingSum) -> RingSum:
    """In the slot behind the last value, and in the first value."""
    body = ring.body.copy()
    one_more = suite_of(suite_.name, LENGTH + 1)
    assert one_more.body_bytes == suite_.body_bytes
    one_more.add_values(body, np.array([1, *[0] * (LENGTH - 1), -1], np.int32))
    return evolve(ring, body=body)


def with_coefficients(*changes: tuple[int, int]) -> Damage:
    """In suite `hybrid`: place and change of each."""

    def damage(_suite: Suite, ring: RingSum) -> RingSum:
        body = ring.body.copy()
        for place, change in changes:
            body[[place]] += np.array([change % 2**64], np.uint64)  # wraps around in silence
        return evolve(ring, body=body)

    return damage


def with_key_value_300(suite_: Suite, ring: RingSum) -> RingSum:
    """The first member's key is 300 larger in one place, in its body and in its release."""
    seed = hashlib.sha256(b"fedring/1 lattice\0" + DIGEST).digest()
    public = Stream(seed).words(DIMENSION)[: len(ring.body)]
    body = ring.body + np.uint64(300) * public
    return with_plaintext(0, 300)(suite_, evolve(ring, body=body))


def with_plaintext(row: int, change: int) -> Damage:
    """The first release carries something more, under encryption."""

    def damage(suite_: Suite, ring: RingSum) -> RingSum:
        size = suite_.release_bytes // suite_.n_ciphertexts
        place = slice(row * size, (row + 1) * size)
        release = bytearray(ring.releases[0])
        ciphertext = int.from_bytes(release[place], "big") * pow(1 + N, change, N * N) % (N * N)
        release[place] = ciphertext.to_bytes(size, "big")
        return evolve(ring, releases=(bytes(release), *ring.releases[1:]))

    return damage


def both(*damages: Damage) -> Damage:
    def damage(suite_: Suite, ring: RingSum) -> RingSum:
        for one in damages:
            ring = one(suite_, ring)
        return ring

    return damage


# -- a check taken out ------------------------------------------------------------------------


class TakeOut(ast.NodeTransformer):
    """`raise SumError(check, ...)` becomes conditional on being about another check."""

    def __init__(self, check: str) -> None:
        self.check = check

    def visit_Raise(self, node: ast.Raise) -> ast.stmt:
        match node.exc:
            case ast.Call(func=ast.Name(id="SumError"), args=[check, *_]):
                another = ast.Compare(check, [ast.NotEq()], [ast.Constant(self.check)])
                return ast.If(another, [node], [])
        return node


def functions_that_check() -> Iterator[FunctionType]:
    for module in (hybrid, packed, packing, contributions):
        classes = [value for value in vars(module).values() if inspect.isclass(value)]
        for owner in (module, *classes):
            for value in vars(owner).values():
                its_own = inspect.isfunction(value) and value.__module__ == module.__name__
                if its_own and "raise SumError(" in inspect.getsource(value):
                    yield value


def take_out(check: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for function in functions_that_check():
        tree = TakeOut(check).visit(ast.parse(textwrap.dedent(inspect.getsource(function))))
        code = compile(
            ast.fix_missing_locations(tree), "without", "exec", __future__.annotations.compiler_flag
        )
        scope = dict(function.__globals__)
        exec(code, scope)
        monkeypatch.setattr(function, "__code__", scope[function.__name__].__code__)


# -- the checks -------------------------------------------------------------------------------


@frozen
class Case:
    """What is done in which suite, and the only check that notices.

    Attributes:
        wrong: whether the sum that would open is another than the honest one.
    """

    suite: str
    check: str
    damage: Damage
    wrong: bool = True


ALIKE = {
    "count": with_values(ONE=1, v0=1),
    "padding, slot": with_value_behind,
    "zero": with_values(ZERO=-1, v0=1),
    "range, update": with_values(v1=3 * 32767),
    "range, weight": with_values(WEIGHT=-1),
    "range, clipped": with_values(CLIPPED=4),
    "range, evaluated": with_values(EVALUATED=1),
    "range, correct": with_values(CORRECT=3 * 127 - 149),
    "range, loss": with_values(LOSS=-97),
}
CASES = {
    "hybrid, key range, behind the last digit": Case(
        "hybrid", "key range", with_plaintext(1, 1 << 12 * 22), wrong=False
    ),
    "hybrid, key range, large": Case("hybrid", "key range", with_key_value_300, wrong=False),
    "hybrid, noise": Case("hybrid", "noise", with_coefficients((0, 3000))),
    "hybrid, padding, coefficient": Case(
        "hybrid", "padding", both(with_values(v0=1), with_coefficients((USED, 1 << 12)))
    ),
    "hybrid, padding, last coefficient": Case(
        "hybrid", "padding", both(with_values(v0=1), with_coefficients((-1, 1 << 63)))
    ),
    **{
        f"{name}, {what}": Case(name, what.partition(",")[0], damage)
        for name in ("hybrid", "paillier")
        for what, damage in ALIKE.items()
    },
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_only_this_check_notices(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    suite_ = suite_of(case.suite)
    ring = ring_of_three(suite_)
    assert open_rings(suite_, KEY, [ring]).total.tolist() == honest_sum()
    ring = case.damage(suite_, ring)
    for release in ring.releases:
        suite_.check_release(release)
    (reason,) = open_rings(suite_, KEY, [ring]).bad_rings.values()
    assert reason.startswith(f"sum check '{case.check}' failed: ")
    take_out(case.check, monkeypatch)
    opened = open_rings(suite_, KEY, [ring])
    assert opened.bad_rings == {}
    assert (opened.total.tolist() != honest_sum()) == case.wrong


@pytest.mark.parametrize(
    ("name", "check", "above"),
    [("hybrid", "key range", 1 << 12 * 42), ("paillier", "plaintext range", 1 << 27 * 18)],
)
@pytest.mark.parametrize("sign", [1, -1])
def test_bits_above_all_digits_are_no_sum(
    name: str, check: str, above: int, sign: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All digits are right and nothing else is wrong; without the check, reading them fails."""
    suite_ = suite_of(name)
    ring = with_plaintext(0, sign * above % N)(suite_, ring_of_three(suite_))
    (reason,) = open_rings(suite_, KEY, [ring]).bad_rings.values()
    assert reason == f"sum check '{check}' failed: bits above the top digit in plaintext 0"
    take_out(check, monkeypatch)
    with pytest.raises(ValueError, match=r"broadcast|requires x >= 0"):
        open_rings(suite_, KEY, [ring])


def test_every_check_has_its_damage() -> None:
    assert {case.check for case in CASES.values()} | {"plaintext range"} == set(get_args(SumCheck))
