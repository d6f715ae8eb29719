"""Every command of `fedring`: its help fits a screen and ends with an example."""

from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner

from fedring.shared.cli import PARTS
from fedring.shared.cli import command as fedring

Path = tuple[str, ...]


def commands(command: click.Command, path: Path = ()) -> Iterator[Path]:
    yield path
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None
            yield from commands(below, (*path, name))


def test_every_part_is_registered() -> None:
    assert fedring.list_commands(click.Context(fedring)) == sorted(PARTS)


@pytest.mark.parametrize("part", PARTS)
def test_help_fits_a_screen_and_ends_with_an_example(part: str) -> None:
    command = fedring.get_command(click.Context(fedring), part)
    assert command is not None
    for path in commands(command, (part,)):
        shown = CliRunner().invoke(fedring, [*path, "--help"], prog_name="fedring")
        assert shown.exit_code == 0
        lines = shown.output.rstrip().splitlines()
        assert len(lines) <= 30, path
        assert all(len(line) <= 80 for line in lines), path
        assert lines[-1].strip().startswith(("Example: fedring", "fedring ")), path
