"""What goes into the folder that a board runs, and what is taken out of it."""

import configparser
from pathlib import Path

import pytest

from fedring.fleet.bundles.packages import requirements, select
from fedring.fleet.bundles.slots import copy_fedring, strip
from fedring.fleet.bundles.targets import Target


def names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_tests_types_and_what_builds_extensions_are_taken_out(tmp_path: Path) -> None:
    kept = {
        "numpy/__init__.py",
        "numpy/_core/_multiarray.so",
        "numpy/testing/__init__.py",
        "numpy-2.4.dist-info/METADATA",
        "numpy-2.4.dist-info/licenses/numpy/_core/include/LICENSE.h",
        "numpy.libs/libopenblas.so",
    }
    taken = {
        "numpy/_core/tests/test_multiarray.py",
        "numpy/_core/tests/data/deep.csv",
        "numpy/_core/include/numpy/arrayobject.h",
        "numpy/__init__.pyi",
        "numpy/__pycache__/__init__.pyc",
        "numpy/random/lib/libnpyrandom.a",
        "numpy/f2py/__init__.py",
        "pycparser/c_parser.py",
        "numpy-2.4.dist-info/RECORD",
        "bin/f2py",
    }
    for name in kept | taken:
        tmp_path.joinpath(name).parent.mkdir(parents=True, exist_ok=True)
        tmp_path.joinpath(name).touch()
    strip(tmp_path)
    assert names(tmp_path) == kept
    assert not tmp_path.joinpath("bin").exists()


def test_of_fedring_a_board_gets_the_device_and_what_all_share(tmp_path: Path) -> None:
    copy_fedring(tmp_path, "1.2.3")
    assert {path.name for path in (tmp_path / "fedring").iterdir()} == {"device", "shared"}
    assert "fedring/device/device.toml" in names(tmp_path)
    assert not [name for name in names(tmp_path) if "__pycache__" in name]
    notes = tmp_path / "fedring-1.2.3.dist-info"
    assert "\nVersion: 1.2.3\n" in (notes / "METADATA").read_text()
    commands = configparser.ConfigParser()
    commands.read(notes / "entry_points.txt")
    assert dict(commands["fedring.commands"]) == {"device": "fedring.device.cli:command"}


def test_litert_is_asked_for_where_it_is_wanted() -> None:
    plain, litert = requirements(), requirements(litert=True)
    more = [line for line in litert if line not in plain]
    assert [line.split(">=")[0] for line in more] == ["ai-edge-litert", "tflite-runtime"]
    assert not [line for line in litert if "extra" in line or "rich" in line or "iotcore" in line]


def test_requirements_of_other_extras_are_left_out_whatever_else_they_say() -> None:
    lines = [
        "attrs>=23.2",
        "tomli>=2; python_version < '3.11'",
        "rich>=13; extra == 'fleet'",
        'ai-edge-litert>=2.0; extra == "litert"',
        "tflite-runtime; platform_machine == 'armv7l' and extra == 'litert'",
        "matplotlib>=3.8; (sys_platform != 'win32') and extra == 'lab'",
    ]
    assert list(select(lines, set())) == lines[:2]
    assert list(select(lines, {"litert"})) == [
        *lines[:2],
        "ai-edge-litert>=2.0",
        "tflite-runtime; platform_machine == 'armv7l'",
    ]


@pytest.mark.parametrize(("python", "arch"), [("3.10", "aarch64"), ("3.11", "armv7l"), ("", "")])
def test_no_target_without_wheels(python: str, arch: str) -> None:
    with pytest.raises(ValueError, match="must be in"):
        Target(python, arch)
