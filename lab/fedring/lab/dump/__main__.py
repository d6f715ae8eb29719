"""What can be read of a recorded broker: `python -m fedring.lab.dump RECORDING`."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from fedring.lab.dump.attempts import Finding, recover
from fedring.lab.dump.evidence import Evidence
from fedring.lab.dump.knowledge import Knowledge
from fedring.lab.dump.leaking import read_draws
from fedring.lab.dump.promise import breaks, promised
from fedring.lab.dump.recording import load
from fedring.shared.encryption.keyfile import load_key

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
SHOWN_VALUES = 6


@click.command(name="python -m fedring.lab.dump")
@click.argument("recording", type=_FILE)
@click.option("--key", type=_FILE, help="The coordinator's Paillier key.")
@click.option(
    "--draws",
    type=(click.IntRange(0), _FILE),
    multiple=True,
    metavar="NUMBER FILE",
    help="All that a device drew at random; 0 is the coordinator. May be given for several.",
)
def command(recording: Path, key: Path | None, draws: tuple[tuple[int, Path], ...]) -> None:
    """Try to read more than agreed sums from a recorded broker; status 1 when something is."""
    evidence = Evidence.of(heard.payload for heard in load(recording))
    knowledge = Knowledge(
        load_key(key) if key else None, {number: read_draws(file) for number, file in draws}
    )
    findings = recover(evidence, knowledge)
    broken = breaks(findings, promised(evidence, knowledge))
    click.echo(
        f"{len(evidence.participants)} readies, {len(evidence.tokens)} tokens, "
        f"{len(evidence.lists)} lists, {len(evidence.releases)} releases"
    )
    for finding in findings:
        click.echo(f"{'BROKEN ' if finding in broken else ''}{_line(finding)}")
    click.echo(f"{len(findings)} combinations read, {len(broken)} of them beyond the promise")
    sys.exit(1 if broken else 0)


def _line(finding: Finding) -> str:
    devices = " ".join(f"{factor:+d}x{number}" for number, factor in finding.numbers.items())
    if finding.values is None:
        return f"{finding.how}: {devices}, the keys alone"
    shown = " ".join(map(str, finding.values[:SHOWN_VALUES]))
    return f"{finding.how}: {devices}, {len(finding.values)} values, first {shown}"


if __name__ == "__main__":
    command()
