"""Answers that are carried in files: the three commands, as an owner types them."""

from collections.abc import Callable
from pathlib import Path

import pytest
from attrs import frozen

from fedring.coordinator.enrolment.files import ANSWERS, FOLDER, REQUESTS
from fedring.fleet.authority import Fleet, create_fleet
from fedring.fleet.issuing import new_key
from fedring.shared.cli import main
from fedring.shared.enrolment import Carried, Certified, ask_first, decode_answer, serial_of


@frozen
class Transcript:
    """What a command said, and its exit status."""

    status: int
    out: str
    err: str


Run = Callable[..., Transcript]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*arguments: str | Path) -> Transcript:
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        said = capsys.readouterr()
        return Transcript(int(str(ended.value.code)), said.out, said.err)

    return run


@pytest.fixture
def fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fleet:
    monkeypatch.chdir(tmp_path)
    fleet = create_fleet(tmp_path / "greenhouse", "greenhouse", ["localhost"])
    settings = fleet.coordinator_folder / "coordinator.toml"
    state = str(tmp_path / "state")
    settings.write_text(settings.read_text().replace("/var/lib/fedring", state))
    return fleet


@pytest.fixture
def config(fleet: Fleet) -> tuple[str, Path]:
    return "--config", fleet.coordinator_folder / "coordinator.toml"


def waits(tmp_path: Path, carried: Carried) -> None:
    """What a running coordinator keeps."""
    folder = tmp_path / "state" / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    (folder / REQUESTS).write_bytes(carried.encode())


def asked(fleet: Fleet) -> Carried:
    """b01 asks with its code, and a stranger in its name."""
    (invitation,) = fleet.invite(["b01"])
    raws = [ask_first(new_key(), "greenhouse", "b01", code) for code in (invitation.code, b"x")]
    return Carried(fleet="greenhouse", items=tuple(("b01", raw) for raw in raws))


def test_there_and_back(run: Run, fleet: Fleet, config: tuple[str, Path], tmp_path: Path) -> None:
    waits(tmp_path, asked(fleet))
    there = run("coordinator", "requests", "r.bin", *config)
    assert (there.status, there.out) == (0, "2 requests of 1 boards: r.bin\n  b01\n")
    assert there.err == "next: on the owner's machine: fedring fleet sign r.bin\n"
    signed = run("fleet", "sign", "r.bin", "--fleet", fleet.folder)
    assert signed.status == 0
    assert signed.out.splitlines()[0].startswith("certified b01, serial number ")
    assert signed.out.splitlines()[1].startswith("declined b01: made with another code")
    back = run("coordinator", "answers", "r.bin.answers", *config)
    assert (back.status, back.out) == (
        0,
        "1 answers are with the coordinator, which gives them out\n",
    )
    (file,) = (tmp_path / "state" / FOLDER).glob(f"{ANSWERS}*")
    ((name, raw),) = Carried.load(file).items
    answer = decode_answer(raw)
    assert name == "b01"
    assert isinstance(answer, Certified)
    seen = Carried(fleet="greenhouse", seen=(("b01", serial_of(answer.certificate)), ("x", 7)))
    waits(tmp_path, seen)
    assert run("coordinator", "requests", "r.bin", "--force", *config).status == 0
    burnt = run("fleet", "sign", "r.bin", "--force", "--fleet", fleet.folder)
    assert burnt.out == "b01 was seen with its certificate; its code is burnt\n"


def test_nothing_is_overwritten(
    run: Run, fleet: Fleet, config: tuple[str, Path], tmp_path: Path
) -> None:
    waits(tmp_path, asked(fleet))
    for _ in range(2):
        there = run("coordinator", "requests", "r.bin", *config)
        signed = run("fleet", "sign", "r.bin", "--fleet", fleet.folder)
    assert [there.status, signed.status] == [2, 2]
    assert "[state.file-exists]" in there.err
    assert "r.bin.answers is there already" in signed.err


def test_before_any_board_has_asked(run: Run, config: tuple[str, Path]) -> None:
    there = run("coordinator", "requests", "r.bin", *config)
    assert there.status == 2
    assert "[enrolment.nothing-waits]" in there.err


@pytest.mark.parametrize("content", [None, b"", b"text, converted by a mail program"])
def test_a_damaged_file(
    run: Run, fleet: Fleet, config: tuple[str, Path], tmp_path: Path, content: bytes | None
) -> None:
    if content is not None:
        (tmp_path / "r.bin").write_bytes(content)
    for command in (
        ("fleet", "sign", "r.bin", "--fleet", fleet.folder),
        ("coordinator", "answers", "r.bin", *config),
    ):
        said = run(*command)
        assert said.status == 2
        assert "[enrolment.file]" in said.err


def test_a_file_of_another_fleet(
    run: Run, fleet: Fleet, config: tuple[str, Path], tmp_path: Path
) -> None:
    (tmp_path / "r.bin").write_bytes(Carried(fleet="barn").encode())
    for command in (
        ("fleet", "sign", "r.bin", "--fleet", fleet.folder),
        ("coordinator", "answers", "r.bin", *config),
    ):
        said = run(*command)
        assert said.status == 2
        assert "of fleet barn" in said.err


def test_the_broker_is_away(run: Run, fleet: Fleet) -> None:
    said = run("fleet", "sign", "--fleet", fleet.folder, "--port", "9")
    assert said.status == 2
    assert "[broker.unreachable]" in said.err
