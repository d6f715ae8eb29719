import inspect
import re

import pytest

from fedring.shared import errors
from fedring.shared.errors import (
    FedringError,
    OneTimeError,
    PeerError,
    SumError,
    UpdateError,
    UserError,
)


def test_the_tree_in_the_module_is_the_hierarchy() -> None:
    classes = {
        name: kind
        for name, kind in inspect.getmembers(errors, inspect.isclass)
        if kind.__module__ == errors.__name__
    }
    drawn = re.findall(r"^    ([ │├└─]*)(\w+)", errors.__doc__ or "", re.MULTILINE)
    assert {name for _, name in drawn} == set(classes)
    above: list[str] = []
    for branch, name in drawn:
        depth = len(branch) // 4
        del above[depth:]
        expected = classes[above[-1]] if above else Exception
        assert classes[name].__bases__ == (expected,)
        above.append(name)


def test_a_users_error_has_a_name_and_perhaps_a_hint() -> None:
    error = UserError("fedring.toml:3: no such thing", name="config.unknown-key")
    assert str(error) == error.text == "fedring.toml:3: no such thing"
    assert (error.name, error.hint) == ("config.unknown-key", "")


@pytest.mark.parametrize(
    ("sender", "kind", "expected"),
    [
        ("", "", "too long"),
        ("hall", "", "hall: too long"),
        ("", "release", "release: too long"),
        ("hall", "release", "release from hall: too long"),
    ],
)
def test_a_peers_error_says_as_much_as_is_known(sender: str, kind: str, expected: str) -> None:
    error = PeerError("too long")
    error.sender, error.kind = sender, kind
    assert str(error) == expected
    assert str(PeerError("too long", sender=sender, kind=kind)) == expected


def test_messages_are_made_from_facts() -> None:
    assert str(SumError("noise", "40, above 32")) == "sum check 'noise' failed: 40, above 32"
    error = UpdateError(7, float("nan"))
    assert str(error) == "value 7 of the update is nan"
    error.layer = "hidden.weight"
    assert str(error) == "value 7 of layer 'hidden.weight' is nan"
    assert "reveal the key" in str(OneTimeError("release", "the key"))
    assert issubclass(OneTimeError, FedringError)
