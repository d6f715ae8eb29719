"""`fedring demo`: a whole fleet on this machine, as real processes."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from typing import Final, NoReturn

import click
from rich.console import Console

from fedring.lab.demo.curve import blocks
from fedring.lab.demo.play import play
from fedring.lab.demo.progress import Lines, Picture
from fedring.lab.demo.report import Report
from fedring.lab.demo.wishes import Wishes
from fedring.shared.broker import Broker
from fedring.shared.cli import MissingPackageError
from fedring.shared.encryption import SUITES
from fedring.shared.errors import StateError
from fedring.shared.messages import MAX_ROSTER, MAX_UINT32

PICTURE: Final = "learning-curve.png"

_WIDTH: Final = 80


@click.command(epilog="Example: fedring demo --devices 8 --rounds 5")
@click.option(
    "--devices",
    type=click.IntRange(2),
    default=24,
    metavar="N",
    help="Devices, each with the data of one person.",
)
@click.option("--rounds", type=click.IntRange(1), default=20, metavar="N", help="Training rounds.")
@click.option(
    "--ring-size",
    type=click.IntRange(2, MAX_ROSTER),
    default=12,
    metavar="N",
    help="Most devices in one ring.",
)
@click.option(
    "--threshold",
    type=click.IntRange(1, MAX_ROSTER - 1),
    metavar="N",
    help="Devices share only in sums of more than so many.  [default: 3, from 16 devices on 7]",
)
@click.option("--suite", type=click.Choice(SUITES), default=SUITES[0], help="Encryption suite.")
@click.option(
    "--model",
    type=click.Choice(["mlp", "softmax"]),
    default="mlp",
    help="A network with a hidden layer, or without.",
)
@click.option("--litert", is_flag=True, help="LiteRT on every other device, beside numpy.")
@click.option(
    "--broker",
    "url",
    metavar="URL",
    help="A running broker, such as mqtt://localhost:1883.  [default: start one]",
)
@click.option(
    "--seed",
    type=click.IntRange(0, MAX_UINT32),
    default=1,
    metavar="N",
    help="Repeats first weights, shuffles and roundings.",
)
@click.option(
    "--report",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Also write what came out to FILE, as JSON.",
)
@click.option(
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    default="fedring-demo",
    metavar="FOLDER",
    help="Where the picture of the learning curve goes.",
)
@click.option("--plain", is_flag=True, help="Lines instead of a live picture.")
def command(
    *,
    devices: int,
    rounds: int,
    ring_size: int,
    threshold: int | None,
    suite: str,
    model: str,
    litert: bool,
    url: str | None,
    seed: int,
    report: Path | None,
    output: Path,
    plain: bool,
) -> None:
    """See a whole fleet learn on this machine.

    A coordinator and one process for each device, over a real MQTT broker, with recordings of
    people's movements. All is stopped and removed at the end, but for the picture.
    """
    wishes = Wishes(
        devices=devices,
        rounds=rounds,
        ring_size=ring_size,
        threshold=threshold,
        suite=suite,
        model=model,
        litert=litert,
        seed=seed,
    )
    contradiction = wishes.contradiction()
    if contradiction is not None:
        option, reason = contradiction
        raise click.BadParameter(reason, param_hint=f"--{option}")
    broker = Broker.from_url(url) if url is not None else None
    _check_end(output, report)
    console = Console(stderr=True)
    show = Lines if plain or not console.is_terminal else Picture
    with (
        _told_to_stop(),
        TemporaryDirectory(prefix="fedring-demo-", ignore_cleanup_errors=True) as stage,
        show(console, rounds) as progress,
    ):
        result = play(wishes, broker, Path(stage), progress)
    _hand_over(result, output / PICTURE, report)


def _check_end(output: Path, report: Path | None) -> None:
    """Find out now what would spoil the end of a long demo: no way to draw, nowhere to write."""
    if find_spec("matplotlib") is None:
        raise MissingPackageError("demo", "matplotlib")
    if report is not None and report.is_dir():
        raise click.BadParameter(f"{report} is a folder", param_hint="--report")
    with _mendable():
        for folder in (output, *([report.parent] if report is not None else [])):
            folder.mkdir(parents=True, exist_ok=True)
            TemporaryFile(dir=folder).close()


def _hand_over(result: Report, picture: Path, report: Path | None) -> None:
    from fedring.lab.demo.picture import draw  # noqa: PLC0415 - matplotlib takes a second

    with _mendable():
        draw(result, picture)
        if report is not None:
            result.write(report)
    shares = [share for _, share in result.curve("accuracy")]
    click.echo(f"Accuracy after each round\n{blocks(shares, _WIDTH)}\n")
    for line in result.summary():
        click.echo(line)
    click.echo(f"Picture: {picture}")
    if report is not None:
        click.echo(f"Report: {report}")


@contextmanager
def _mendable() -> Iterator[None]:
    """Tell of files that cannot be written as the user's to mend."""
    try:
        yield
    except OSError as error:
        raise StateError(f"{error.filename}: {error.strerror}", name="state.unusable") from error


@contextmanager
def _told_to_stop() -> Iterator[None]:
    """Turn the signals that end a process at once into an end with everything put away."""

    def leave(number: int, _: object) -> NoReturn:
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, leave) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
