"""`scripts/board-lab`: boards go through their journey, and a table tells how far they came."""

from __future__ import annotations

import random
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import click

from fedring.lab.boards.boxes import demand_firmware
from fedring.lab.boards.journey import Journey, Step
from fedring.lab.boards.power_cuts import NEEDED, PowerCuts
from fedring.lab.boards.processors import AMD64, ARM64
from fedring.lab.boards.site import Site, build_trees
from fedring.lab.boards.system import CARDS, CONTAINERS, demand
from fedring.shared import cli
from fedring.shared.errors import UserError

_BOARDS = ("b01", "b02", "b03", "b04")
_PROCESSORS = {"amd64": AMD64, "arm64": ARM64}


@click.command()
@click.option("--quick", is_flag=True, help="One board: first boot, enrolment, two updates.")
@click.option("--arm64", "machine", flag_value="arm64", help="The first is a whole machine.")
@click.option("--amd64", "machine", flag_value="amd64", help="Likewise.")
@click.option("--image", is_flag=True, help="The first is a whole amd64 box with UEFI.")
@click.option("--power-cuts", is_flag=True, help="One board, at each step of an update.")
@click.option(
    "--keep",
    type=click.Path(path_type=Path),
    help="Leave all files in this folder; power cuts go on there.",
)
def main(
    *, quick: bool, machine: str | None, image: bool, power_cuts: bool, keep: Path | None
) -> int:
    """Boot boards from cards, let them enrol, learn, be updated.

    They are containers of this machine; or the first one is a whole machine.
    """
    if quick + image + bool(machine or power_cuts) > 1:
        raise click.UsageError("only --power-cuts goes with a whole machine, and with no image")
    processor = AMD64 if image else _PROCESSORS[machine] if machine else None
    needed = processor.programs if processor else CARDS if power_cuts else CONTAINERS
    demand({**needed, **NEEDED} if power_cuts else needed)
    if image:
        demand_firmware()
    with tempfile.TemporaryDirectory(prefix="fedring-boards-") as temporary:
        folder = keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        boards = _BOARDS[:1] if quick or power_cuts else _BOARDS
        whole = {boards[0]: processor} if processor else {}
        carded = boards if power_cuts and not whole else ()
        box = boards[0] if image else ""
        site = Site(folder.absolute(), boards, whole, carded, box)
        if power_cuts:
            moments = random.Random()  # noqa: S311  # no secrets
            passed = _visit(site, PowerCuts(site, boards[0], moments).steps)
        else:
            steps = [
                step
                for step in Journey(site, boards).steps
                if (step.quick or not quick)
                and (step.whole or not whole)
                and (step.boxed or not box)
            ]
            passed = _visit(site, steps)
    return 0 if passed else 1


def _visit(site: Site, steps: Sequence[Step]) -> bool:
    with ExitStack() as stack:

        def connect() -> str:
            stack.enter_context(site)
            return ""

        first = [
            Step("trees of Debian", partial(build_trees, site.whole.values())),
            Step("a network for machines", connect),
        ]
        return go_through([*first, *steps], site.last_words)


def go_through(steps: Sequence[Step], last_words: Callable[[], str]) -> bool:
    """Go through all steps, as far as they pass, and tell of each; gives whether all did."""
    width = max(len(step.name) for step in steps)
    for number, step in enumerate(steps):
        began = time.monotonic()
        try:
            measured = step.go()
        except (RuntimeError, TimeoutError, UserError) as error:
            click.echo(f"{step.name:{width}}  FAILED  {time.monotonic() - began:6.1f} s")
            for later in steps[number + 1 :]:
                click.echo(f"{later.name:{width}}  not run")
            click.echo(f"\n{error}\n\n{last_words()}", err=True)
            return False
        click.echo(f"{step.name:{width}}  passed  {time.monotonic() - began:6.1f} s  {measured}")
    return True


if __name__ == "__main__":
    cli.run(main, "scripts/board-lab", sys.argv[1:])
