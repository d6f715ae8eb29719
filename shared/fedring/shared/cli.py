"""The `fedring` command: finds the part asked for, and tells users their mistakes.

Each part of the house registers its command as an entry point of group `fedring.commands`. Only the
one asked for is imported, so a board needs nothing of what a laptop has.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib.metadata import entry_points
from typing import Any, NoReturn

import click
from attrs import frozen

from fedring.shared.errors import UserError
from fedring.shared.texts import printable

GROUP = "fedring.commands"
MENDABLE = 2
INTERRUPTED = 130
"""What a shell reports for a command ended by Ctrl-C."""

NO_COMMAND: Any = getattr(click.exceptions, "NoArgsIsHelpError", ())
"""A group without a command, where the help is the answer; click before 8.2 prints it by itself."""


@frozen
class Part:
    """What is known of a command without importing it: its extra, and a line for the help."""

    extra: str
    summary: str


PARTS = {
    "coordinator": Part("coordinator", "Run rounds beside the broker; list and export models."),
    "demo": Part("lab", "See a whole fleet learn on this machine."),
    "device": Part("device", "Take part with this board's own data; use the model."),
    "fleet": Part("fleet", "Certify, list and revoke devices: the owner's tools."),
    "simulate": Part("lab", "Try a fleet on a virtual network and clock."),
    "watch": Part("fleet", "Watch a fleet live."),
}


class MissingPackageError(UserError):
    """A command needs a package that comes with an extra of fedring."""

    def __init__(self, command: str, package: str) -> None:
        extra = PARTS[command].extra
        package = package.split(".", maxsplit=1)[0]
        super().__init__(
            f"`fedring {command}` needs the package {package}, which is not installed",
            name="cli.missing-package",
            hint=f"pip install 'fedring[{extra}]'",
        )


class Parts(click.Group):
    """The commands that installed parts registered, each imported when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*super().list_commands(ctx), *entry_points(group=GROUP).names})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        for entry in entry_points(group=GROUP, name=cmd_name):
            command = entry.load()
            if isinstance(command, click.Command):
                return command
        return super().get_command(ctx, cmd_name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        rows = [
            (name, PARTS[name].summary if name in PARTS else "") for name in self.list_commands(ctx)
        ]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


@click.group(
    cls=Parts,
    context_settings={"help_option_names": ["-h", "--help"], "show_default": True},
    epilog="Example: fedring demo --devices 8 --rounds 5",
)
@click.version_option(package_name="fedring", message="fedring %(version)s")
def command() -> None:
    """Federated learning for IoT boards over MQTT.

    Devices add their masked updates up along a ring; only the sum is ever decrypted.
    """


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line."""
    run(command, "fedring", sys.argv[1:] if arguments is None else arguments)


def run(program: click.Command, name: str, arguments: Sequence[str]) -> NoReturn:
    """Run a program's command line.

    Mistakes of the user end with exit status 2, a message and a hint on stderr, and no traceback;
    whatever else escapes is a bug and shows its traceback.
    """
    try:
        status = program.main(list(arguments), prog_name=name, standalone_mode=False)
        sys.stdout.flush()
    except UserError as error:
        _complain(error)
    except NO_COMMAND as error:
        click.echo(error.format_message(), err=True)
        sys.exit(MENDABLE)
    except click.ClickException as error:
        message = error.format_message().rstrip(".")
        message = message[:1].lower() + message[1:]
        _complain(UserError(message, name="cli.usage", hint=_help_of(error)))
    except ModuleNotFoundError as error:
        asked = next((word for word in arguments if word in PARTS), "")
        if not asked or error.name is None or error.name.split(".")[0] == "fedring":
            raise
        _complain(MissingPackageError(asked, error.name))
    except click.Abort:
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        # Whoever read our output has enough of it: `fedring coordinator models | head -1`.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    sys.exit(status if isinstance(status, int) else 0)


def _help_of(error: click.ClickException) -> str:
    context = error.ctx if isinstance(error, click.UsageError) else None
    return f"{context.command_path} --help" if context else ""


def _complain(error: UserError) -> NoReturn:
    # The name goes to the first line: a long list of mistakes may follow.
    first, *more = map(printable, error.text.splitlines())
    click.echo("\n".join([f"fedring: error: {first} [{error.name}]", *more]), err=True)
    for line in map(printable, error.hint.splitlines()):
        click.echo(f"fedring: hint: {line}", err=True)
    sys.exit(MENDABLE)
