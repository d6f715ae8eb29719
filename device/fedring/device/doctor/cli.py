"""`fedring device doctor`: what is wrong with this board, and what to do about it.

Nothing here, nor in what it imports at its top, needs a compiled library: one that does not load is
the first thing to be told. What needs them is in `examination.py`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import click

from fedring.device.doctor.findings import Finding
from fedring.device.doctor.libraries import examine_libraries

FOUND: Final = 1
"""Exit status when something is wrong."""


def examine(config: Path) -> Iterator[Finding]:
    """Look at everything, first what the rest rests on.

    Args:
        config: the device's settings.
    """
    libraries = list(examine_libraries())
    yield from libraries
    if all(finding.good for finding in libraries):
        from fedring.device.doctor.examination import examine_board  # noqa: PLC0415 - see above

        yield from examine_board(config)


@click.command(epilog="Example: fedring device doctor --config /etc/fedring/device.toml")
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    default="device.toml",
    metavar="FILE",
    help="The device's settings.",
)
def doctor(config: Path) -> None:
    """Find what is wrong with this board, with a remedy each.

    Looks at libraries, settings, clock, certificates, broker, data, state folder and room on the
    disk, and changes nothing. Ends with status 1 when something is wrong. The agent may run.
    """
    wrong = 0
    for finding in examine(config):
        wrong += not finding.good
        mark = click.style("ok   ", fg="green") if finding.good else click.style("WRONG", fg="red")
        click.echo(f"{mark}  {finding.subject}: {finding.text}")
        if finding.remedy:
            click.echo(f"       {'do' if not finding.good else 'note'}: {finding.remedy}")
    if wrong:
        sys.exit(FOUND)
