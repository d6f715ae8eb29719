"""`fedring simulate`: the same protocol on a virtual network and clock."""

from __future__ import annotations

import json
import os
import sys
import time
from itertools import islice
from pathlib import Path

import click
from attrs import evolve

from fedring.lab.hapt import ACTIVITIES, MAIN, NAMES, RANGES, evaluation, people
from fedring.lab.simulate.campaign import Tally, run_schedules
from fedring.lab.simulate.fleet import QUICK
from fedring.lab.simulate.plaintext import FEDAVG, Summation, add_up, integer_rounds
from fedring.lab.simulate.summing import RingSummation
from fedring.shared.networks import evaluate, initialise

MOST_DEVICES = len(MAIN.devices)


@click.group(epilog="Example: fedring simulate faults --schedules 1000")
def command() -> None:
    """Try a fleet on a virtual network and clock."""


@command.command(epilog="Example: fedring simulate learn --rounds 20 --plaintext")
@click.option("--devices", type=click.IntRange(2, MOST_DEVICES), default=MOST_DEVICES)
@click.option("--rounds", type=click.IntRange(1, 10_000), default=20, help="Training rounds.")
@click.option("--ring-size", type=click.IntRange(2, 64), default=12)
@click.option("--threshold", type=click.IntRange(1, 63), default=1, help="Of every device.")
@click.option("--seed", type=click.IntRange(0), default=0)
@click.option("--bits", type=click.Choice(["8", "16"]), default="16")
@click.option("--plaintext", is_flag=True, help="Add up in the clear: no ring, no cipher.")
@click.option("--report", type=click.Path(path_type=Path), help="Write the rounds as JSON.")
def learn(
    *,
    devices: int,
    rounds: int,
    ring_size: int,
    threshold: int,
    seed: int,
    bits: str,
    plaintext: bool,
    report: Path | None,
) -> None:
    """Train the demo's activity recogniser, one person a device.

    Devices, coordinator and rings run the production protocol with small keys that hide nothing;
    with the same seed the models are those of `fedring demo`.
    """
    if not plaintext and threshold >= min(ring_size, devices):
        raise click.UsageError(f"no ring of {min(ring_size, devices)} meets threshold {threshold}")
    new = evaluation(MAIN)
    early = dict(enumerate((people()[one].early for one in MAIN.devices[:devices]), start=1))
    first = initialise(
        "mlp", NAMES, ACTIVITIES, hidden=[64], seed=seed, ranges=list(RANGES.values())
    )
    terms = evolve(QUICK, size=ring_size)
    summation: Summation = add_up
    if not plaintext:
        summation = RingSummation(devices, threshold=threshold, terms=terms, seed=seed)
    found = integer_rounds(first, early, FEDAVG, seed=seed, bits=int(bits), summation=summation)
    entries = []
    for round_ in islice(found, 1, 1 + rounds):
        scores = evaluate(round_.model, new.x, new.y)
        entries.append(
            {"round": round_.number, "accuracy": scores.accuracy, "macro_f1": scores.macro_f1}
        )
        click.echo(
            f"round {round_.number:4}   accuracy {100 * scores.accuracy:5.2f} %   "
            f"macro F1 {100 * scores.macro_f1:5.2f} %"
        )
    if report is not None:
        report.write_text(json.dumps({"rounds": entries}, indent=1) + "\n")


@command.command(epilog="Example: fedring simulate faults --schedules 10000 --json faults.json")
@click.option("--schedules", type=click.IntRange(1), default=1000, help="How many.")
@click.option("--seed", type=click.IntRange(0), default=0, help="Of the first; then one by one.")
@click.option("--json", "report", type=click.Path(path_type=Path), help="Write the counts here.")
@click.option("--processes", type=click.IntRange(1), default=os.cpu_count() or 1)
@click.option("--exit-first", "-x", is_flag=True, help="Stop at the first broken promise.")
def faults(
    *, schedules: int, seed: int, report: Path | None, processes: int, exit_first: bool
) -> None:
    """Put fleets through faults, and look at every step whether a promise breaks.

    Loss, duplicates, reordering, delay, parties that die, are cut off, deaf, mute or slow, a broker
    that restarts or forgets, a lost store. The protocol is that of production with small keys that
    hide nothing; one schedule in 500 has production's. The exit status is 1 when a promise broke;
    from 1,000 schedules on also when fewer than half of the rounds ended in a sum, or a kind of
    fault happened in fewer than 5 % of the schedules.
    """
    tally, began = Tally(), time.monotonic()
    for batch in run_schedules(seed, schedules, processes, exit_first=exit_first):
        tally.add(batch)
        for failure in batch.failures:
            click.echo(f"{failure}\n")
    seconds = time.monotonic() - began
    facts = {"seed": seed, **tally.facts(), "seconds": round(seconds, 1)}
    if report is not None:
        report.write_text(json.dumps(facts) + "\n")
    click.echo(
        f"{tally.schedules:,} schedules, {tally.full:,} of them with production's parameters, "
        f"in {seconds:.0f} s\n"
        f"{tally.rounds:,} rounds with faults: {tally.sums:,} ended in a sum "
        f"({tally.sums / max(1, tally.rounds):.0%}), {tally.rounds - tally.sums:,} void\n"
        f"{len(tally.failures):,} schedules broke a promise"
    )
    for kind, share in tally.shares.items():
        click.echo(f"  {kind:28} in {share:6.1%} of the schedules")
    for shortcoming in tally.shortcomings:
        click.echo(f"too few: {shortcoming}")
    if tally.failures or tally.shortcomings:
        sys.exit(1)
