"""Deaths in the midst of a call, in real processes: the next round succeeds.

Here those that stand for the promises; `scripts/faults` goes through all of them and writes
docs/faults.md.
"""

from collections.abc import Iterator

import pytest
from tests.integration.deaths import VICTIM, Doomed, die, doomed

HERE = (
    (VICTIM, "training"),
    (VICTIM, "joined, committed"),
    (VICTIM, "chunk 2"),
    (VICTIM, "release count, committed"),
    ("coordinator", "round number, committed"),
    ("coordinator", "list 3"),
    ("coordinator", "version, not committed"),
    ("coordinator", "version, committed"),
)


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Doomed]:
    with doomed(tmp_path_factory.mktemp("deaths")) as one:
        yield one
    for name, log in one.stage.fleet.logs():
        assert "Traceback" not in log, f"something unforeseen happened to {name}"


@pytest.mark.parametrize(("who", "moment"), HERE)
def test_a_death_costs_one_round_at_most(fleet: Doomed, who: str, moment: str) -> None:
    die(fleet, who, moment)
