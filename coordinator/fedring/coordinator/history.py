"""The model history for people: the list of versions, and one of them as a file to take away."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from fedring.coordinator.records import FIRST_VERSION, Version
from fedring.coordinator.store import CoordinatorStore
from fedring.shared.errors import StateError
from fedring.shared.models import save_npz
from fedring.shared.state import refuse_overwrite, sync_folder

COLUMNS = ("version", "parent", "how", "round", "contributors", "accuracy", "when", "note")


def models_table(store: CoordinatorStore) -> str:
    """All versions, newest first, as a table; versions without arrays say so."""
    rows = [COLUMNS, *(_row(store, version) for version in store.versions())]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(_line(row, widths) for row in rows)


def models_json(store: CoordinatorStore) -> list[dict[str, Any]]:
    """All versions, newest first, with all that the history says of them."""
    return [
        version.facts() | {"arrays_kept": store.has_arrays(version)} for version in store.versions()
    ]


def export(store: CoordinatorStore, number: int, file: Path, *, force: bool = False) -> Version:
    """Write a version as an npz file: arrays, normalisation, and a note of how it came about.

    Args:
        store: open beside a running coordinator, or by itself.
        number: of the version.
        file: to be written; appears whole or not at all.
        force: overwrite an older file.

    Raises:
        StateError: no such version, its arrays were dropped, or the file cannot be written.
    """
    version = store.version(number)
    model = store.model(version)
    refuse_overwrite(file, force=force)
    try:
        save_npz(file, model, provenance(version, store.versions()))
        sync_folder(file.parent)
    except OSError as error:
        raise StateError(f"{file}: {error.strerror}", name="state.unusable") from error
    return version


def provenance(version: Version, history: Iterable[Version]) -> dict[str, Any]:
    """How a version came about.

    Args:
        version: the one to explain.
        history: all versions; those that did not lead to it are passed over, also those that a
            rollback left behind.

    Returns:
        What JSON can hold: the record of the version, counts over the versions that its arrays
        were made by, and their digests and links from the first model to this one.
    """
    line = _line_of_descent(version, {record.version: record for record in history})
    trained = [record for record in line if record.task == "train"]
    return {
        **version.facts(),
        "training_rounds": len(trained),
        "contributions": sum(record.contributors for record in trained),
        "smallest_sum": min((record.contributors for record in trained), default=None),
        "chain": [
            {
                "version": record.version,
                "task": record.task,
                "epoch": record.epoch,
                "round": record.round,
                "contributors": record.contributors,
                "digest": record.digest.hex(),
                "link": record.link.hex(),
            }
            for record in line
        ],
    }


def _line_of_descent(version: Version, history: dict[int, Version]) -> list[Version]:
    """The versions that the arrays went through, oldest first; a rollback leads to its source."""
    line = [version]
    while line[-1].version != FIRST_VERSION:
        last = line[-1]
        line.append(history[last.parent if last.source is None else last.source])
    return line[::-1]


def _row(store: CoordinatorStore, version: Version) -> Sequence[str]:
    accuracy = version.metrics.get("accuracy")
    note = version.note if store.has_arrays(version) else f"{version.note} (arrays dropped)".strip()
    return (
        str(version.version),
        str(version.parent) if version.version != FIRST_VERSION else "-",
        version.task,
        f"{version.epoch}/{version.round}" if version.round else "-",
        str(version.contributors) if version.contributors else "-",
        f"{accuracy:.1%}" if isinstance(accuracy, float) else "-",
        version.created,
        note,
    )


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
