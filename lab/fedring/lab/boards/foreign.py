"""Programs of another processor: Python of an arm64 tree, each instruction translated by qemu.

proot lets the program see the tree as its whole file system, without privileges and without telling
the kernel about foreign programs.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from fedring.lab.boards.system import program, run

_PATIENCE_S: Final = 900.0


def run_python(
    tree: Path, *arguments: str, visible: Mapping[Path, str], python_path: str = ""
) -> str:
    """Run the Python of an arm64 tree to its end, and give what it prints.

    Args:
        tree: where it and its libraries are.
        arguments: of Python.
        visible: folders of this machine, each with the path where Python sees it.
        python_path: where it looks for modules, as a path that it sees.

    Raises:
        RuntimeError: it fails; with what it said.
    """
    bound = [f"--bind={folder}:{path}" for folder, path in visible.items()]
    environment = {
        "PATH": "/usr/bin:/bin",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONPATH": python_path,
        "OPENBLAS_NUM_THREADS": "1",
    }
    return run(
        "proot",
        f"--qemu={program('qemu-aarch64-static')}",
        f"--rootfs={tree}",
        "--cwd=/",
        *bound,
        "/usr/bin/python3",
        *arguments,
        timeout_s=_PATIENCE_S,
        environment=environment,
    )
