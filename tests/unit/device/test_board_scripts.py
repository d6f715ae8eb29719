"""Programs that boards run as root: plain POSIX sh, without what shellcheck warns of."""

import subprocess
from pathlib import Path

import pytest

BOARD = Path(__file__).parents[3] / "device" / "fedring" / "device" / "board"
SCRIPTS = [path for path in sorted(BOARD.iterdir()) if path.read_bytes().startswith(b"#!")]


def test_the_scripts_are_found() -> None:
    names = {path.name for path in SCRIPTS}
    assert {"install.sh", "uninstall.sh", "vendor-data", "fedring-update"} <= names


@pytest.mark.shellcheck
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_a_script_is_plain_sh_without_a_warning(script: Path) -> None:
    assert script.read_text().startswith("#!/bin/sh\n")
    checked = subprocess.run(
        ["shellcheck", "--shell=sh", "--norc", script], capture_output=True, text=True, check=False
    )
    assert checked.stdout == ""
    assert checked.returncode == 0
