"""A board's bundle on the processor of a Raspberry Pi, translated by qemu: it imports, and counts.

The tree of Python for arm64 is built when it is missing.
"""

import json
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedring.fleet.bundles.slots import fill_slot
from fedring.fleet.bundles.targets import Target
from fedring.lab.boards import arithmetic
from fedring.lab.boards.foreign import run_python
from fedring.lab.boards.trees import ARM_PYTHON, tree

PROJECT = Path(__file__).parents[2]
VECTORS = PROJECT / "tests" / "vectors"
PROGRAM = Path(arithmetic.__file__)
PURE = ("pytest", "pluggy", "iniconfig", "packaging", "pygments")
"""What our test runner is made of; all of it is plain Python, so that it runs anywhere."""

pytestmark = pytest.mark.arm_programs


@pytest.fixture(scope="module")
def slot(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a Raspberry Pi's bundle unpacks into."""
    folder = tmp_path_factory.mktemp("bundle") / "slot"
    fill_slot(Target("3.11", "aarch64"), folder, version="0.1.0")
    return folder


@pytest.fixture(scope="module")
def here() -> dict[str, Any]:
    return facts(
        subprocess.run(
            [sys.executable, "-s", "-P", PROGRAM, VECTORS],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    )


@pytest.fixture(scope="module")
def there(slot: Path) -> dict[str, Any]:
    said = run_python(
        tree(ARM_PYTHON),
        *("-s", "-P", f"/program/{PROGRAM.name}", "/vectors"),
        visible={slot / "site": "/site", VECTORS: "/vectors", PROGRAM.parent: "/program"},
        python_path="/site",
    )
    return facts(said)


def facts(said: str) -> dict[str, Any]:
    read: dict[str, Any] = json.loads(said)
    return read


def test_every_module_of_a_board_imports(here: dict[str, Any], there: dict[str, Any]) -> None:
    assert there["machine"] == "aarch64"
    assert there["modules"] == here["modules"]
    assert {"fedring.device.agent", "fedring.shared.mqtt"} <= set(there["modules"])


def test_integers_are_the_same_and_floats_nearly(
    here: dict[str, Any], there: dict[str, Any]
) -> None:
    assert here["machine"] != there["machine"]
    assert there["integers"] == here["integers"]
    assert np.ptp(here["floats"]) > 0.1
    np.testing.assert_allclose(there["floats"], here["floats"], rtol=0, atol=1e-5)


def test_known_answers_of_the_encryption_hold(slot: Path, tmp_path: Path) -> None:
    """All but the largest, which take minutes here."""
    files = [file.stem for file in (VECTORS / "encryption").glob("*.txt")]
    small = [name for name in files if name.split("-")[1] not in {"full", "most"}]
    runner = tmp_path / "runner"
    for name in PURE:
        for file in metadata.files(name) or []:
            source = Path(str(file.locate()))
            if file.suffix != ".pyc" and ".." not in file.parts:
                target = runner / file
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, target)
    arguments = "-m pytest -q -c /dev/null --noconftest --import-mode=importlib"
    said = run_python(
        tree(ARM_PYTHON),
        *("-s", "-P", *arguments.split(), "-p", "no:cacheprovider"),
        *("-k", "not full and not most and not outcome", "/tests/unit/shared/test_vectors.py"),
        visible={slot / "site": "/site", runner: "/runner", PROJECT / "tests": "/tests"},
        python_path="/site:/runner",
    )
    assert said.splitlines()[-1].startswith(f"{len(small)} passed")
