"""The library against tests/vectors: known answers made by a plain-integer reference."""

import runpy
from pathlib import Path

import numpy as np
import pytest
from attrs import frozen
from phe import PaillierPrivateKey, PaillierPublicKey

from fedring.shared.encryption import Body, OneTimeMask, Parameters, Suite, suite
from fedring.shared.errors import BodyError, ReleaseError, SumError
from fedring.shared.numbers import IntVector, SumVector

FOLDER = Path(__file__).parents[2] / "vectors"
FILES = sorted(FOLDER.glob("hybrid-*.txt"))


@frozen
class Contributor:
    values: IntVector
    seeds: list[bytes]
    pads: list[int]
    body: bytes
    release: bytes


class Scenario:
    def __init__(self, text: str) -> None:
        head, payload = (
            [line.split(": ", 1) for line in part.splitlines()] for part in text.split("\n\n")
        )
        fields: dict[str, str] = {line[0]: line[1] for line in head}
        columns = [
            [value for name, value in [*head, *payload] if name == column]
            for column in ("values", "seeds", "pads", "body", "release")
        ]
        self.contributors = [
            Contributor(
                np.array(values.split(), np.int32),
                [bytes.fromhex(seed) for seed in seeds.split()],
                [int(pad, 16) for pad in pads.split()],
                bytes.fromhex(body),
                bytes.fromhex(release),
            )
            for values, seeds, pads, body, release in zip(*columns, strict=True)
        ]
        self.expect = fields["expect"]
        p, q = int(fields["p"], 16), int(fields["q"], 16)
        self.key = PaillierPrivateKey(PaillierPublicKey(p * q), p, q)
        self.suite: Suite = suite(
            fields["suite"],
            public_key=self.key.public_key,
            announce_digest=bytes.fromhex(fields["announce"]),
            n_values=len(self.contributors[0].values),
            bits=int(fields["bits"]),
            parameters=Parameters(dimension=int(fields["dimension"])),
        )

    def mask(self, contributor: Contributor) -> OneTimeMask:
        seeds = list(contributor.seeds)
        return self.suite.prepare(lambda _: seeds.pop(0))

    def open(self) -> SumVector:
        bodies: list[Body] = [self.suite.decode_body(one.body) for one in self.contributors]
        for body in bodies[1:]:
            self.suite.add(bodies[0], body)
        for one in self.contributors:
            self.suite.check_release(one.release)
        product = self.suite.product([one.release for one in self.contributors])
        return self.suite.open(self.key, bodies[0], product, len(bodies))

    def expected(self) -> SumVector:
        total: SumVector = np.sum([one.values for one in self.contributors], 0, np.int64)
        return total


def test_there_are_vectors_of_every_outcome() -> None:
    outcomes = {Scenario(file.read_text()).expect for file in FILES}
    assert outcomes == {"bytes", "sum", "noise", "padding", "key range", "body", "release"}


@pytest.mark.parametrize("file", FILES, ids=[file.stem for file in FILES])
def test_vector(file: Path) -> None:
    scenario = Scenario(file.read_text())
    if scenario.expect == "bytes":
        for one in scenario.contributors:
            mask = scenario.mask(one)
            assert scenario.suite.encode_body(mask.body(one.values)) == one.body
            assert mask.release(one.pads) == one.release
    elif scenario.expect == "sum":
        assert (scenario.open() == scenario.expected()).all()
    elif scenario.expect in ("body", "release"):
        with pytest.raises({"body": BodyError, "release": ReleaseError}[scenario.expect]):
            scenario.open()
    else:
        with pytest.raises(SumError) as caught:
            scenario.open()
        assert caught.value.check == scenario.expect


def test_the_generator_still_writes_these_files() -> None:
    generator = runpy.run_path(str(FOLDER / "make.py"))
    written = {one.name: one.text() for one in generator["scenarios"]()}
    assert written == {file.stem: file.read_text() for file in FILES}
