"""Try decoders for a while: the long run by hand; the short one is in tests/fuzz.

scripts/fuzz [TARGET ...] [--seconds S] [--seed N]
scripts/fuzz TARGET --seed N --input I [--keep NAME]
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import click

from fedring.lab.fuzzing.campaign import Campaign, Finding
from fedring.lab.fuzzing.corpus import Corpus
from fedring.lab.fuzzing.target import Target
from fedring.lab.fuzzing.targets import targets

CORPUS: Final = Path("tests/fuzz/corpus")


@click.command()
@click.argument("names", metavar="[TARGET]...", nargs=-1)
@click.option("--seconds", type=click.FloatRange(min=0), default=300.0, help="How long to try.")
@click.option("--seed", type=int, help="Which inputs to make.  [default: others each time]")
@click.option("--input", "number", type=int, help="Try this input of the seed alone.")
@click.option("--keep", metavar="NAME", help="Put the smallest input into the corpus, as bad.")
def command(
    names: Sequence[str], seconds: float, seed: int | None, number: int | None, keep: str | None
) -> None:
    """Try damaged inputs on the decoders TARGET, or on all of them, in turn.

    What breaks the rule is told with the smallest input that does. Exit status 1 when something
    was found.
    """
    corpus = Corpus(CORPUS)
    known = targets(corpus)
    if unknown := sorted(set(names) - known.keys()):
        raise click.UsageError(f"no target {unknown[0]}; there are {', '.join(sorted(known))}")
    chosen = [known[name] for name in names or known]
    seed = time.time_ns() % 2**32 if seed is None else seed
    if number is not None:
        found = [Campaign.of(target, corpus, seed).tried([number]) for target in chosen]
        findings = [finding for finding in found if finding is not None]
    else:
        findings = _in_turn(chosen, corpus, seed, seconds)
    for finding in findings:
        click.echo(f"\n{finding}")
        if keep is not None:
            click.echo(f"kept: {corpus.keep(finding.target, keep, finding.data, good=False)}")
    sys.exit(1 if findings else 0)


def _in_turn(chosen: Sequence[Target], corpus: Corpus, seed: int, seconds: float) -> list[Finding]:
    """Round after round over all targets, leaving out those that broke, until the time is up."""
    ends = time.monotonic() + seconds
    found: list[Finding] = []
    left, turn, tried = list(chosen), 0, 0
    while left and time.monotonic() < ends:
        for target in list(left):
            campaign = Campaign.of(target, corpus, seed)
            finding = campaign.tried(range(turn * target.inputs, (turn + 1) * target.inputs))
            tried += target.inputs
            if finding is not None:
                found.append(finding)
                left.remove(target)
        turn += 1
    click.echo(f"seed {seed}: {tried} inputs in {turn} turns, {len(found)} findings")
    return found


if __name__ == "__main__":
    command()
