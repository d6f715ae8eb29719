"""Coordinators and devices as processes of this machine, and their settings files."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Literal, TypeAlias

from fedring.lab.processes import Child

Tables: TypeAlias = Mapping[str, Mapping[str, Any]]
"""Settings by table and name."""

# -P: what lies in the current folder is not ours to import.
FEDRING: Final = (sys.executable, "-P", "-c", "from fedring.shared.cli import main; main()")
"""The `fedring` command of this very interpreter."""

ONE_THREAD: Final = MappingProxyType(
    {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
)
"""Environment of a process that is one board of many: threads of BLAS would slow the others."""


def start_part(
    part: Literal["coordinator", "device"],
    name: str,
    settings: Path,
    logs: Path,
    under: Sequence[str | Path] = (),
) -> Child:
    """Start a coordinator or a device.

    Args:
        part: which of both.
        name: for people and for its log.
        settings: its TOML file.
        logs: folder for its log, `<name>.log`.
        under: a program with its arguments that runs it, such as a tracer.
    """
    return Child.start(
        [*under, *FEDRING, part, "run", "--config", settings],
        name=name,
        log=logs / f"{name}.log",
        environment=os.environ | ONE_THREAD,
    )


def write_toml(file: Path, tables: Tables) -> None:
    """Write settings; JSON's spelling of texts, numbers, truth and lists is TOML's as well."""
    lines: list[str] = []
    for table, settings in tables.items():
        lines.append(f"[{table}]")
        for name, value in settings.items():
            lines.append(f"{name} = {json.dumps(value, ensure_ascii=False)}")
    file.write_text("\n".join(lines) + "\n", "utf-8")
