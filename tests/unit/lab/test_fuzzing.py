"""The fuzzer finds what is planted, makes it small, and tells it so that it can be seen again."""

import random
import zipfile
from pathlib import Path

import msgpack
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from fedring.lab.fuzzing import __main__, target
from fedring.lab.fuzzing.campaign import Campaign, smallest
from fedring.lab.fuzzing.corpus import Corpus
from fedring.lab.fuzzing.mutations import MOST_BYTES, Form, Mutator, zip_members, zip_of
from fedring.lab.fuzzing.target import Fault, Read, Target, demand, judged, same
from fedring.shared.errors import MessageError, PeerError

WHOLE = [b"a long line of bytes that is whole", b"\x00\x01\x02\x03" * 20]


def a_target(read: Read, name: str = "planted") -> Target:
    return Target(name, read, (MessageError,))


def campaign(read: Read, seed: int = 1) -> Campaign:
    return Campaign(a_target(read), Mutator(Form.BYTES, WHOLE), seed)


def reads_well(data: bytes) -> None:
    if len(data) % 2:
        raise MessageError("odd")


def overlooks_the_end(data: bytes) -> None:
    """Thirty bytes stand behind the first 0xff, it believes."""
    reads_well(data)
    if b"\xff" in data:
        assert data[data.index(b"\xff") + 30] >= 0


def forgets(data: bytes) -> None:
    same(data.replace(b"l", b""), data)


def keeps_all(data: bytes) -> None:
    demand(len(bytearray(8 * 2**20)) > 0, "")


def never_ends(data: bytes) -> None:
    while True:
        pass


def swallows(data: bytes) -> None:
    try:
        never_ends(data)
    except Exception:
        raise MessageError("slow") from None


def gives_another_error(data: bytes) -> None:
    raise PeerError("not one of those that were named")


# -- the judge -------------------------------------------------------------------------------


def test_a_value_and_a_named_refusal_are_well() -> None:
    assert judged(a_target(reads_well), b"even") is True
    assert judged(a_target(reads_well), b"odd") is False
    assert campaign(reads_well).tried(range(200)) is None


@pytest.mark.parametrize(
    ("read", "kind"),
    [
        (overlooks_the_end, "IndexError"),
        (gives_another_error, "PeerError"),
        (forgets, "another value when it is written and read again"),
        (keeps_all, " bytes of memory for "),
        (never_ends, "_HangError"),
        (swallows, "_HangError"),
    ],
)
def test_whatever_else_happens_is_a_finding(
    read: Read, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(target, "LONGEST_S", 0.02)
    finding = campaign(read).tried(range(1_000))
    assert finding is not None
    assert finding.fault.kind.startswith(kind)


def test_who_interrupts_is_obeyed() -> None:
    def interrupted(_: bytes) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        judged(a_target(interrupted), b"")


# -- the smallest input ----------------------------------------------------------------------


def test_a_finding_is_small_and_can_be_seen_again() -> None:
    finding = campaign(overlooks_the_end, seed=3).tried(range(1_000))
    assert finding is not None
    assert sorted(finding.data) == sorted(b"0\xff")
    assert "planted, seed 3, input " in str(finding)
    assert f"scripts/fuzz planted --seed 3 --input {finding.number}" in str(finding)
    assert f"2 bytes: {finding.data.hex()}" in str(finding)
    again = campaign(overlooks_the_end, seed=3).tried([finding.number])
    assert again == finding


@given(st.binary(max_size=60), st.binary(min_size=1, max_size=3))
def test_the_smallest_input_still_does_it(data: bytes, needed: bytes) -> None:
    def breaks(one: bytes) -> bool:
        return all(byte in one for byte in needed)

    whole = data + needed
    small = smallest(whole, breaks)
    assert breaks(small)
    assert len(small) == len(set(needed))


def test_another_fault_is_not_taken_for_the_same() -> None:
    one, other = Fault("IndexError", "a.py:1", "x"), Fault("IndexError", "a.py:2", "x")
    assert one.like(Fault("IndexError", "a.py:1", "y"))
    assert not one.like(other)
    assert not one.like(False)


# -- inputs ----------------------------------------------------------------------------------


@pytest.mark.parametrize("form", Form)
def test_a_seed_makes_the_same_inputs_and_another_seed_others(form: Form) -> None:
    def inputs(seed: int) -> list[bytes]:
        made = Campaign(a_target(reads_well), Mutator(form, WHOLE, (b"token",)), seed)
        return [made.input(number) for number in range(50)]

    assert inputs(1) == inputs(1)
    assert inputs(1) != inputs(2)
    assert len(set(inputs(1))) > 30


def still(form: Form, whole: bytes, holds: Read) -> float:
    """Share of damaged inputs of which `holds` does not raise."""
    mutator = Mutator(form, [whole], (b"token",))
    fine = 0
    for number in range(300):
        data = mutator.damaged(random.Random(number))
        assert len(data) <= MOST_BYTES
        try:
            holds(data)
            fine += data != whole
        except Exception:
            continue
    return fine / 300


def test_damage_from_within_gets_past_the_outer_layers() -> None:
    inner = msgpack.packb({"kind": "here", "names": [1, 2, 3], "digest": b"d" * 32})
    packed = msgpack.packb([inner, b"signature"])
    assert still(Form.MSGPACK, packed, lambda data: msgpack.unpackb(msgpack.unpackb(data)[0])) > 0.2
    assert still(Form.BYTES, packed, lambda data: msgpack.unpackb(msgpack.unpackb(data)[0])) < 0.2
    zipped = zip_of([("a.npy", b"content" * 20), ("b.npy", b"more")], zipfile.ZIP_DEFLATED)
    assert still(Form.ZIP, zipped, lambda data: zip_members(data)[0]) > 0.4
    assert still(Form.BYTES, zipped, lambda data: zip_members(data)[0]) < 0.4


# -- what is kept ----------------------------------------------------------------------------


def test_a_corpus_gives_back_what_is_kept(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path)
    corpus.keep("planted", "odd", b"odd", good=False)
    corpus.keep("planted", "even", b"even", good=True)
    corpus.keep("other", "x", b"x", good=True)
    kept = [(one.name, one.good, one.data) for one in corpus.of("planted")]
    assert kept == [("even", True, b"even"), ("odd", False, b"odd")]
    with pytest.raises(LookupError, match="nothing to start from"):
        Campaign.of(a_target(reads_well, "unknown"), corpus, 0)


def test_the_command_finds_shows_and_keeps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = Corpus(tmp_path / "corpus")
    for number, data in enumerate(WHOLE):
        corpus.keep("planted", f"whole{number}", data, good=True)
        corpus.keep("well", f"whole{number}", data, good=True)
    known = {"planted": a_target(overlooks_the_end), "well": a_target(reads_well, "well")}
    monkeypatch.setattr(__main__, "CORPUS", corpus.folder)
    monkeypatch.setattr(__main__, "targets", lambda _: known)

    def fuzz(*arguments: str) -> tuple[int, str]:
        done = CliRunner().invoke(__main__.command, arguments)
        return done.exit_code, done.output

    status, said = fuzz("well", "--seconds", "0.05", "--seed", "5")
    assert (status, said.endswith("turns, 0 findings\n")) == (0, True)
    status, said = fuzz("--seconds", "30", "--seed", "5", "planted")
    assert status == 1
    assert "1 findings" in said
    again = ("planted", "--seed", "5", "--input", said.split("--input ")[1].split()[0])
    status, said = fuzz(*again, "--keep", "no-byte-behind")
    assert status == 1
    assert (corpus.folder / "planted" / "bad" / "no-byte-behind").stat().st_size == 2
    status, said = fuzz("unknown")
    assert status == 2
    assert "no target unknown; there are planted, well" in said
