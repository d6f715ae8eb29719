"""Each check of a sum alone: damage that it finds, and that would pass without it.

"Without it" is shown, not said: the check is taken out of the library, every `raise` by itself, and
what was refused opens as a wrong sum. So no other check looks at that damage, and none may be left
out.

Whoever holds the token can always add to the values, and no check can tell; so where the damage
that is looked for is a bad key or a mark in the padding, a value was changed with it.
"""

import __future__

import ast
import hashlib
import inspect
import textwrap
from collections.abc import Callable, Iterator
from types import FunctionType, ModuleType
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
from fedring.shared.errors import SumCheck, SumError

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
    """`raise SumError(check, detail)` with these words in the detail is for other checks only."""

    def __init__(self, check: str, says: str) -> None:
        self.check = check
        self.says = says

    def visit_Raise(self, node: ast.Raise) -> ast.stmt:
        match node.exc:
            case ast.Call(func=ast.Name(id="SumError"), args=[check, detail]):
                if self.says in words(detail):
                    another = ast.Compare(check, [ast.NotEq()], [ast.Constant(self.check)])
                    return ast.If(another, [node], [])
        return node


def words(detail: ast.expr) -> str:
    """What is always said, whatever the figures are."""
    parts = detail.values if isinstance(detail, ast.JoinedStr) else [detail]
    return "".join(str(part.value) for part in parts if isinstance(part, ast.Constant))


MODULES: dict[str, tuple[ModuleType, ...]] = {
    "hybrid": (hybrid, packing, contributions),
    "paillier": (packed, packing, contributions),
}
"""Where the checks are that a sum of a suite goes through."""


def functions_that_check(module: ModuleType) -> Iterator[FunctionType]:
    classes = [value for value in vars(module).values() if inspect.isclass(value)]
    for owner in (module, *classes):
        for value in vars(owner).values():
            its_own = inspect.isfunction(value) and value.__module__ == module.__name__
            if its_own and "raise SumError(" in inspect.getsource(value):
                yield value


def source_of(function: FunctionType) -> ast.Module:
    return ast.parse(textwrap.dedent(inspect.getsource(function)))


def take_out(case: "Case", monkeypatch: pytest.MonkeyPatch) -> None:
    for module in MODULES[case.suite]:
        for function in functions_that_check(module):
            tree = TakeOut(case.check, case.says).visit(source_of(function))
            code = compile(
                ast.fix_missing_locations(tree),
                "without",
                "exec",
                __future__.annotations.compiler_flag,
            )
            scope = dict(function.__globals__)
            exec(code, scope)
            monkeypatch.setattr(function, "__code__", scope[function.__name__].__code__)


# -- the checks -------------------------------------------------------------------------------


@frozen
class Case:
    """What is done in which suite, and the only check that notices.

    Attributes:
        says: words of its detail; two checks may have one name.
        alone: the suite opens it, and nobody looks whether it is a sum of contributions.
    """

    suite: str
    check: str
    says: str
    damage: Damage
    alone: bool = False

    def open(self, suite_: Suite, ring: RingSum) -> list[int]:
        """The sum.

        Raises:
            SumError: the reason why there is none.
        """
        product = suite_.product(ring.releases)
        total = suite_.open(KEY, ring.body, product, len(ring.names))
        if not self.alone:
            contributions.read_sum(total, len(ring.names), suite_.bits)
        opened: list[int] = total.tolist()
        return opened


ABOVE = {"hybrid": 2347**45, "paillier": 1 << 27 * 18}
"""What a digit above the top one of a plaintext would count."""
BEHIND_KEY = 2347**19
"""What a digit counts behind the last one that a key of 64 values has in its second plaintext."""

CASES = {
    "hybrid, above the digits": Case(
        "hybrid",
        "key range",
        "reaches above the top digit",
        both(with_values(v0=1), with_plaintext(0, ABOVE["hybrid"])),
    ),
    "hybrid, below the digits": Case(
        "hybrid",
        "key range",
        "reaches above the top digit",
        both(with_values(v0=1), with_plaintext(0, -ABOVE["hybrid"] % N)),
    ),
    "hybrid, a digit behind the key": Case(
        "hybrid",
        "key range",
        "digits behind the last one",
        both(with_values(v0=1), with_plaintext(1, BEHIND_KEY)),
    ),
    "hybrid, a large key": Case(
        "hybrid", "key range", "a sum of keys of", both(with_values(v0=1), with_key_value_300)
    ),
    "hybrid, noise": Case("hybrid", "noise", "a residual of", with_coefficients((0, 3000))),
    "hybrid, padding, coefficient": Case(
        "hybrid",
        "padding",
        "a coefficient behind the last used one",
        both(with_values(v0=1), with_coefficients((USED, 1 << 12))),
    ),
    "hybrid, padding, last coefficient": Case(
        "hybrid",
        "padding",
        "a coefficient behind the last used one",
        both(with_values(v0=1), with_coefficients((-1, 1 << 63))),
    ),
    "hybrid, range, update": Case(
        "hybrid", "range", "an update value of magnitude", with_values(v1=3 * 32767)
    ),
    # a release that is off by this much: the first value as well
    "paillier, above the slots": Case(
        "paillier",
        "plaintext range",
        "reaches above the top digit",
        with_plaintext(0, ABOVE["paillier"] + 1),
    ),
    "paillier, below the slots": Case(
        "paillier",
        "plaintext range",
        "reaches above the top digit",
        with_plaintext(0, (1 - ABOVE["paillier"]) % N),
    ),
    "paillier, range, of whatever vectors": Case(
        "paillier", "range", "a value of magnitude", with_values(v1=3 * 32767), alone=True
    ),
    **{
        f"{name}, {what}": Case(name, check, says, damage)
        for name in ("hybrid", "paillier")
        for what, check, says, damage in (
            ("count", "count", " contributors", with_values(ONE=1, v0=1)),
            ("padding, slot", "padding", "a slot behind the last value", with_value_behind),
            ("zero", "zero", " instead of 0", with_values(ZERO=-1, v0=1)),
            ("range, weight", "range", " not in ", with_values(WEIGHT=-1)),
            ("range, clipped", "range", " not in ", with_values(CLIPPED=4)),
            ("range, evaluated", "range", " not in ", with_values(EVALUATED=1)),
            ("range, correct", "range", " not in ", with_values(CORRECT=3 * 127 - 149)),
            ("range, loss", "range", " not in ", with_values(LOSS=-97)),
        )
    },
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_only_this_check_notices(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    suite_ = suite_of(case.suite)
    ring = ring_of_three(suite_)
    assert case.open(suite_, ring) == honest_sum()
    ring = case.damage(suite_, ring)
    for release in ring.releases:
        suite_.check_release(release)
    with pytest.raises(SumError) as refused:
        case.open(suite_, ring)
    assert refused.value.check == case.check
    assert case.says in refused.value.detail
    if not case.alone:
        bad = open_rings(suite_, KEY, [ring]).bad_rings
        assert bad == {"1": f"sum check '{case.check}' failed: {refused.value.detail}"}
    take_out(case, monkeypatch)
    opened = case.open(suite_, ring)
    assert len(opened) == LENGTH
    assert opened != honest_sum()


def test_every_check_has_its_damage() -> None:
    """Every `raise` of a check by itself, in each suite whose sums come by it."""
    never = {
        # every plaintext of `paillier` is read whole, so nothing is behind the last digit
        ("paillier", "digits behind the last one"),
        # `packed` has looked at all values before
        ("paillier", "an update value of magnitude , above "),
    }
    there = {
        (name, words(detail))
        for name, modules in MODULES.items()
        for module in modules
        for function in functions_that_check(module)
        for node in ast.walk(source_of(function))
        for detail in _details(node)
    }
    assert len(there) == 18
    for name, detail in there - never:
        assert any(case.suite == name and case.says in detail for case in CASES.values()), detail
    assert {case.check for case in CASES.values()} == set(get_args(SumCheck))


def _details(node: ast.AST) -> Iterator[ast.expr]:
    match node:
        case ast.Raise(exc=ast.Call(func=ast.Name(id="SumError"), args=[_, detail])):
            yield detail
