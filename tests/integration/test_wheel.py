"""The wheel, installed with each extra into an empty environment, imports as a whole."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from fedring.fleet.flash.payload import BOARD_FILES
from fedring.fleet.server_folder import BROKER_FILES

PROJECT = Path(__file__).parents[2]
IMPORT_ALL = """
import importlib, pkgutil, sys

def broken(name):
    raise

for part in sys.argv[1:]:
    package = importlib.import_module(part)
    for module in pkgutil.walk_packages(package.__path__, part + ".", onerror=broken):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
"""


def command(*arguments: str | Path, cwd: Path = PROJECT) -> str:
    """Run a command; its output, which a failure shows."""
    done = subprocess.run(
        arguments,
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command(sys.executable, "-m", "pip", "wheel", "--no-deps", "--wheel-dir", folder, PROJECT)
    (made,) = folder.glob("fedring-*.whl")
    return made


def test_the_wheel_holds_the_parts_and_what_they_read(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names if ".dist-info/" not in name}
    assert tops == {"fedring"}
    assert "fedring/__init__.py" not in names
    for name in ("coordinator/coordinator.toml", "device/device.toml"):
        assert f"fedring/{name}" in names
    for name in (*BOARD_FILES, "vendor-data"):
        assert f"fedring/device/board/{name}" in names
    for shipped in ("acl", *BROKER_FILES):
        given = zipfile.ZipFile(wheel).read(f"fedring/fleet/broker/{shipped}")
        assert given == (PROJECT / "broker_config" / shipped).read_bytes()
    assert not [name for name in names if "__pycache__" in name]


@pytest.mark.parametrize(
    ("extra", "parts"),
    [
        ("coordinator", ["coordinator", "shared"]),
        ("device", ["device", "shared"]),
        ("fleet", ["fleet", "shared"]),
        ("lab", ["lab", "coordinator", "device", "fleet", "shared"]),
    ],
)
def test_every_module_imports_with_its_extra(
    wheel: Path, extra: str, parts: list[str], tmp_path: Path
) -> None:
    environment = tmp_path / "environment"
    command(sys.executable, "-m", "venv", "--without-pip", environment)
    python = environment / "bin" / "python"
    pip: list[str | Path] = [sys.executable, "-m", "pip", "--python", python]
    command(*pip, "install", "--no-compile", "--no-input", f"fedring[{extra}] @ {wheel.as_uri()}")
    # Not in the project's folder, where its source could stand in for what the wheel lacks.
    command(python, "-c", IMPORT_ALL, *(f"fedring.{part}" for part in parts), cwd=tmp_path)
    assert "fedring" in command(environment / "bin" / "fedring", "--help", cwd=tmp_path)
