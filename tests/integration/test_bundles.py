"""Bundles for boards, made here from wheels: what is in them, and what must not be."""

import ast
import io
import struct
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fedring.fleet.authority import Fleet, create_fleet
from fedring.fleet.bundles.building import bundle_file, pack_bundle
from fedring.fleet.bundles.packages import install_packages
from fedring.fleet.bundles.targets import Target
from fedring.shared.bundles import open_bundle
from fedring.shared.errors import BundleError, SignedFolderError
from fedring.shared.identity import Authority

Slot = Callable[[Target], Path]

BOARDS = [Target("3.11", "aarch64"), Target("3.13", "aarch64")]
HERE = Target(f"3.{sys.version_info.minor}", "x86_64")
MACHINES = {"aarch64": 183, "x86_64": 62}  # e_machine, ELF-64 Object File Format, table 4

PACKAGES = {
    *("aiomqtt", "attrs", "cattrs", "cffi", "click", "cryptography", "fedring", "gmpy2"),
    *("msgpack", "numpy", "paho_mqtt", "phe", "pycparser", "typing_extensions"),
}
MAX_SLOT_BYTES = 80 * 2**20
"""The room that docs/boards.md promises for a slot, with the bytecode that the board makes."""
BYTECODE = 1.13


def imported(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_bytes())):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            yield node.module.split(".")[0]


@pytest.mark.parametrize("target", BOARDS, ids=str)
def test_a_bundle_holds_what_the_device_imports_and_nothing_of_the_laptop(
    board_slot: Slot, target: Target
) -> None:
    site = board_slot(target) / "site"
    packages = {path.name.split("-")[0] for path in site.glob("*.dist-info")}
    assert packages == PACKAGES  # no rich, typer, pydantic, matplotlib, iotcore
    assert {path.name for path in (site / "fedring").iterdir()} == {"device", "shared"}
    here = {path.name.split(".")[0] for path in site.iterdir()}
    optional = {"ai_edge_litert", "tflite_runtime"}
    for file in (site / "fedring").rglob("*.py"):
        missing = set(imported(file)) - here - sys.stdlib_module_names - optional
        assert not missing, file


@pytest.mark.parametrize("target", BOARDS, ids=str)
def test_all_programs_in_it_are_for_the_board(board_slot: Slot, target: Target) -> None:
    libraries = [path for path in board_slot(target).rglob("*.so*") if path.is_file()]
    assert len(libraries) > 20
    for path in libraries:
        head = path.read_bytes()[:20]
        assert head[:4] == b"\x7fELF", path
        assert struct.unpack_from("<H", head, 18) == (MACHINES[target.arch],), path
        if ".cpython-" in path.name:
            assert f".cpython-{target.tag[2:]}-{target.arch}" in path.name


@pytest.mark.parametrize("target", BOARDS, ids=str)
def test_a_slot_is_small(board_slot: Slot, target: Target) -> None:
    files = [path for path in board_slot(target).rglob("*") if path.is_file()]
    blocks = sum(-(-path.stat().st_size // 4096) * 4096 for path in files)
    assert blocks * BYTECODE < MAX_SLOT_BYTES
    left = {part for path in files for part in path.parts if part in {"tests", "__pycache__"}}
    assert left == set()


def test_a_slot_starts_from_anywhere_and_says_its_version(board_slot: Slot, tmp_path: Path) -> None:
    link = tmp_path / "current"
    link.symlink_to(board_slot(HERE))
    fedring = link / "fedring"
    (tmp_path / "click.py").write_text("raise SystemExit('taken from the working folder')")

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [fedring, *arguments],
            cwd=tmp_path,
            env={"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin"},
            capture_output=True,
            text=True,
            check=False,
        )

    version = board_slot(HERE).joinpath("site").glob("fedring-*.dist-info")
    assert run("--version").stdout == f"fedring {next(version).name[8:-10]}\n"
    assert "fedring device run" in run("device", "--help").stdout
    assert "[cli.usage]" in run("fleet", "list").stderr


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    return create_fleet(tmp_path / "greenhouse", "greenhouse", ["broker.local"])


def test_a_signed_bundle_is_read_by_boards_of_its_fleet_alone(fleet: Fleet, tmp_path: Path) -> None:
    slot = tmp_path / "slot"
    (slot / "site").mkdir(parents=True)
    (slot / "site" / "module.py").write_text("x = 1\n")
    (slot / "fedring").write_text("#!/bin/sh\n")
    target = BOARDS[0]
    path = bundle_file(fleet, target)
    path.parent.mkdir()
    path.write_bytes(pack_bundle(fleet, target, slot, version="0.2.0", floor="0.1.1"))
    bundle = open_bundle(path, Authority.load(fleet.ca_file))
    assert (bundle.version, bundle.python, bundle.arch) == ("0.2.0", "cp311", "aarch64")
    assert bundle.floor == "0.1.1"
    with path.open("rb") as file:
        file.seek(bundle.offset)
        with tarfile.open(fileobj=io.BytesIO(file.read(bundle.size))) as archive:
            assert archive.getnames() == ["fedring", "site", "site/module.py"]
    other = create_fleet(tmp_path / "other", "greenhouse", ["broker.local"])
    with pytest.raises(SignedFolderError):
        open_bundle(path, Authority.load(other.ca_file))


def test_pips_own_words_tell_what_was_not_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "fedring.fleet.bundles.packages.requirements", lambda *, litert: ["numpy==0.0.1"]
    )
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    with pytest.raises(BundleError, match=r"numpy==0\.0\.1") as failure:
        install_packages(BOARDS[0], tmp_path / "site")
    assert failure.value.name == "bundle.packages"


def test_a_python_without_pip_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The interpreter itself, without site: it has no pip, as environments of some tools have none.
    lonely = tmp_path / "python"
    lonely.write_text(f'#!/bin/sh\nexec "{sys.executable}" -S "$@"\n')
    lonely.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(lonely))
    with pytest.raises(BundleError) as failure:
        install_packages(BOARDS[0], tmp_path / "site")
    assert failure.value.name == "bundle.no-pip"
