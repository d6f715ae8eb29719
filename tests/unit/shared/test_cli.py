"""The `fedring` command as a user meets it: what is typed, what comes back."""

from collections.abc import Callable
from importlib.metadata import version

import click
import pytest
from attrs import frozen

from fedring.shared import cli
from fedring.shared.errors import ConfigError


@frozen
class Transcript:
    """What a command left behind."""

    status: int | str | None
    out: str
    err: str


Run = Callable[..., Transcript]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*arguments: str) -> Transcript:
        with pytest.raises(SystemExit) as ended:
            cli.main(arguments)
        return Transcript(ended.value.code, *capsys.readouterr())

    return run


class Entry:
    """Stands for the entry point of a part."""

    def __init__(self, command: click.Command | Exception) -> None:
        self._command = command

    def load(self) -> click.Command:
        if isinstance(self._command, Exception):
            raise self._command
        return self._command


@pytest.fixture
def register(monkeypatch: pytest.MonkeyPatch) -> Callable[[click.Command | Exception], None]:
    """Puts a command, or the failure to import it, in the place of `fedring watch`."""

    def register(command: click.Command | Exception) -> None:
        monkeypatch.setattr(cli, "entry_points", lambda **_: [Entry(command)])

    return register


Register = Callable[[click.Command | Exception], None]


def failing_with(error: BaseException) -> click.Command:
    @click.command
    def command() -> None:
        raise error

    return command


def test_version(run: Run) -> None:
    assert run("--version") == Transcript(0, f"fedring {version('fedring')}\n", "")


def test_help_names_every_part_fits_a_screen_and_ends_with_an_example(run: Run) -> None:
    done = run("--help")
    assert done.status == 0
    assert done.err == ""
    lines = done.out.splitlines()
    assert len(lines) <= 24
    assert all(len(line) <= 80 for line in lines)
    assert lines[-1].strip() == "Example: fedring demo --devices 8 --rounds 5"
    for part in cli.PARTS:
        assert f"\n  {part} " in done.out


def test_no_command_shows_the_help(run: Run) -> None:
    done = run()
    assert done.status == 2
    assert "Commands:" in done.err


def test_an_unknown_command(run: Run) -> None:
    done = run("dance")
    assert done == Transcript(
        2,
        "",
        "fedring: error: no such command 'dance' [cli.usage]\nfedring: hint: fedring --help\n",
    )


def test_a_mistake_of_the_user_is_told_without_traceback(run: Run, register: Register) -> None:
    register(
        failing_with(
            ConfigError("a.toml:3: bad", name="config.bad-value", hint="try this\nor that")
        )
    )
    assert run("watch") == Transcript(
        2,
        "",
        "fedring: error: a.toml:3: bad [config.bad-value]\n"
        "fedring: hint: try this\nfedring: hint: or that\n",
    )


def test_what_a_file_says_orders_no_terminal(run: Run, register: Register) -> None:
    @click.command()
    def watch() -> None:
        raise ConfigError("a.toml: \x1b[2J\u202e\nline two", name="config.bad", hint="try \x9b1m")

    register(watch)
    done = run("watch")
    assert done.err.splitlines() == [
        "fedring: error: a.toml: \\x1b[2J\\u202e [config.bad]",
        "line two",
        "fedring: hint: try \\x9b1m",
    ]


@pytest.mark.parametrize("where", ["while it is imported", "while it runs"])
def test_a_missing_package_names_the_extra(run: Run, register: Register, where: str) -> None:
    missing = ModuleNotFoundError("No module named 'rich'", name="rich.live")
    register(missing if where == "while it is imported" else failing_with(missing))
    assert run("watch") == Transcript(
        2,
        "",
        "fedring: error: `fedring watch` needs the package rich, which is not installed "
        "[cli.missing-package]\n"
        "fedring: hint: pip install 'fedring[fleet]'\n",
    )


def test_a_module_of_our_own_that_is_missing_is_a_bug(register: Register) -> None:
    register(ModuleNotFoundError("No module named 'fedring.fleet.x'", name="fedring.fleet.x"))
    with pytest.raises(ModuleNotFoundError):
        cli.main(["watch"])


def test_a_bug_shows_its_traceback(register: Register) -> None:
    register(failing_with(ZeroDivisionError()))
    with pytest.raises(ZeroDivisionError):
        cli.main(["watch"])


def test_ctrl_c_ends_quietly(run: Run, register: Register) -> None:
    register(failing_with(KeyboardInterrupt()))
    done = run("watch")
    assert done.status == 130
    assert "Traceback" not in done.err


def test_a_command_may_choose_its_exit_status(run: Run, register: Register) -> None:
    @click.command
    @click.pass_context
    def command(context: click.Context) -> None:
        context.exit(3)

    register(command)
    assert run("watch").status == 3
