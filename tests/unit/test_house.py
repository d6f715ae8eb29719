"""Rules of the house that no tool knows: where files lie, who imports whom, what can be started."""

import ast
import importlib
import inspect
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from fedring.coordinator.announcing import make_announce
from fedring.device.member import Member
from fedring.shared.pairwise import RoundKey

PROJECT = Path(__file__).parents[2]
PARTS = ("coordinator", "device", "fleet", "lab", "shared")
ARROWS = {
    "lab": {"lab", "coordinator", "device", "fleet", "shared"},
    "coordinator": {"coordinator", "shared"},
    "device": {"device", "shared"},
    "fleet": {"fleet", "shared"},
    "shared": {"shared"},
}
ENCRYPTION_MAY_IMPORT = {
    "numpy",
    "gmpy2",
    "phe",
    "cryptography",
    "attrs",
    "fedring.shared.encryption",
    "fedring.shared.errors",
    "fedring.shared.numbers",
}


def modules() -> Iterator[tuple[str, Path]]:
    """Every module of the project with its import name."""
    for part in PARTS:
        folder = PROJECT / part
        for file in sorted(folder.rglob("*.py")):
            names = file.relative_to(folder).with_suffix("").parts
            yield ".".join(name for name in names if name != "__init__"), file


def imports(file: Path) -> Iterator[str]:
    """The full names that a module imports, at its top or inside a function."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file} imports relatively"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def within(name: str, packages: set[str]) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


@pytest.mark.parametrize("part", PARTS)
def test_the_namespace_folder_holds_its_part_and_nothing_else(part: str) -> None:
    folder = PROJECT / part / "fedring"
    assert [entry.name for entry in folder.iterdir() if entry.name != "__pycache__"] == [part]


def test_imports_point_at_shared() -> None:
    wrong = [
        f"{name} imports {imported}"
        for name, file in modules()
        for imported in imports(file)
        if imported.startswith("fedring.")
        and imported.split(".")[1] not in ARROWS[name.split(".")[1]]
    ]
    assert wrong == []


def test_encryption_knows_nothing_of_the_protocol() -> None:
    wrong = [
        f"{name} imports {imported}"
        for name, file in modules()
        if within(name, {"fedring.shared.encryption"})
        for imported in imports(file)
        if not within(imported, ENCRYPTION_MAY_IMPORT)
        and imported.split(".")[0] not in sys.stdlib_module_names
    ]
    assert wrong == []


def test_only_one_module_knows_the_mqtt_library() -> None:
    importers = {
        name for name, file in modules() if any(within(used, {"aiomqtt"}) for used in imports(file))
    }
    assert importers <= {"fedring.shared.mqtt"}


ROUND_KEY_SEAMS = {"Member", "make_announce"}
"""They take a maker of round keys. Simulations hand in one whose keys hide nothing."""


def test_weak_round_keys_are_handed_in_by_the_lab_only() -> None:
    users = {
        name
        for name, file in modules()
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Call) and makes_round_keys_its_own_way(node)
    }
    assert users == {"fedring.lab.simulate.devices", "fedring.lab.simulate.fleet"}


def makes_round_keys_its_own_way(call: ast.Call) -> bool:
    """Whether a call fills the seam, or might: by `**` or by a `partial`."""
    named = [call.func, *call.args]
    names = {getattr(one, "id", None) or getattr(one, "attr", None) for one in named}
    handed_in = {keyword.arg for keyword in call.keywords}
    return bool(names & ROUND_KEY_SEAMS) and bool(handed_in & {"round_key", None})


@pytest.mark.parametrize(
    "call", ["Member(x, round_key=k)", "partial(m.Member, round_key=k)", "f(make_announce, **all)"]
)
def test_a_filled_seam_is_seen(call: str) -> None:
    expression = ast.parse(call, mode="eval").body
    assert isinstance(expression, ast.Call)
    assert makes_round_keys_its_own_way(expression)


def test_devices_and_coordinator_make_round_keys_of_full_size() -> None:
    for seam in (Member, make_announce):
        assert inspect.signature(seam).parameters["round_key"].default == RoundKey.generate


def shop_windows() -> list[str]:
    return [
        name
        for name, file in modules()
        if file.name == "__init__.py" and "__all__" in file.read_text()
    ]


@pytest.mark.parametrize("name", shop_windows())
def test_a_shop_window_shows_what_it_lists(name: str) -> None:
    module = importlib.import_module(name)
    shown = {
        public
        for public, value in vars(module).items()
        if not public.startswith("_")
        and not isinstance(value, ModuleType)
        and public != "annotations"
    }
    assert shown == set(module.__all__)
    assert list(module.__all__) == sorted(module.__all__, key=_as_ruff_sorts)


def _as_ruff_sorts(name: str) -> tuple[int, str]:
    return (0 if name.isupper() else 1 if name[0].isupper() else 2, name)


@pytest.mark.parametrize("script", sorted([*(PROJECT / "scripts").iterdir(), PROJECT / ".ci/run"]))
def test_scripts_can_be_started(script: Path) -> None:
    assert os.access(script, os.X_OK)
    assert script.read_text().startswith("#!/usr/bin/env ")


ERROR_NAME = re.compile(r"[a-z]+(-[a-z]+)*\.[a-z]+(-[a-z]+)*")
FILE_SUFFIXES = {"acl", "conf", "crl", "crt", "csv", "db", "html", "json", "key", "log", "npz"}
FILE_SUFFIXES |= {"local", "pem", "toml", "txt"}


def documented_errors() -> list[str]:
    page = (PROJECT / "docs" / "errors.md").read_text()
    return re.findall(r"^### `(.+)`$", page, re.MULTILINE)


def error_names() -> set[str]:
    """Texts in the code that are the name of an error, by their place or by their group.

    `name="..."` in a call is one whenever it has the form; any other text is when it begins with a
    group that the page has, and does not end like a file.
    """
    groups = {name.split(".")[0] for name in documented_errors()}
    found = set()
    for _, file in modules():
        for node in ast.walk(ast.parse(file.read_text())):
            text = node.value if isinstance(node, ast.Constant) else None
            if isinstance(node, ast.keyword) and node.arg == "name":
                text = getattr(node.value, "value", None)
            elif isinstance(text, str) and text.split(".")[0] not in groups:
                continue
            if isinstance(text, str) and ERROR_NAME.fullmatch(text):
                found.add(text)
    return {name for name in found if name.split(".")[1] not in FILE_SUFFIXES}


def test_every_error_has_its_section_and_every_section_its_error() -> None:
    documented = set(documented_errors())
    assert error_names() - documented == set(), "without a section in docs/errors.md"
    assert documented - error_names() == set(), "in docs/errors.md, but raised nowhere"


def test_errors_are_in_order_and_each_says_something() -> None:
    page = (PROJECT / "docs" / "errors.md").read_text()
    assert documented_errors() == sorted(documented_errors())
    assert all(text.strip() for text in re.split(r"^##+ .*$", page, flags=re.MULTILINE))


def test_no_file_is_a_link() -> None:
    """Archives, and some ways of copying a checkout, make a text file of a link."""
    tops = [path for path in PROJECT.iterdir() if not path.name.startswith(".")]
    links = [path for top in tops for path in (top, *top.rglob("*")) if path.is_symlink()]
    assert links == []
