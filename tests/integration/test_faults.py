"""Faults in the midst of each step of a round, in real processes: the next round succeeds.

Here every step meets one fault; `scripts/faults` goes through all pairs and writes docs/faults.md.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.integration.deaths import COORDINATOR, DEVICE
from tests.integration.faults import FAULTS, Site, befall, site
from tests.integration.faults_page import BEGIN, BROKEN, END, PAGE
from tests.integration.stage import STEPS
from tests.integration.sums import check_sum

ONE_A_STEP = {
    "between rounds": "broker killed, its store lost",
    "ready": "device's link cut",
    "lap": "device killed",
    "call": "device's clock a year back",
    "list": "coordinator restarts on a read-only disk",
    "opening": "coordinator's disk full",
}


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory, libfaketime: Path) -> Iterator[Site]:
    with site(tmp_path_factory.mktemp("faults"), libfaketime) as one:
        yield one
    for name, log in one.stage.fleet.logs():
        assert "Traceback" not in log, f"something unforeseen happened to {name}"


@pytest.mark.mosquitto
@pytest.mark.root
@pytest.mark.parametrize("step", ONE_A_STEP)
def test_a_fault_in_a_step_costs_one_round_at_most(fleet: Site, step: str) -> None:
    befall(fleet, step, ONE_A_STEP[step])


@pytest.mark.mosquitto
@pytest.mark.root
def test_a_sum_without_one_of_its_devices_would_be_noticed(fleet: Site) -> None:
    stage = fleet.stage
    stage.revive()
    stage.pause()
    newest = stage.history()[-1]
    check_sum(stage.fleet, stage.spy.heard, newest)
    file = stage.fleet.data_file("b03")
    content = file.read_text()
    file.write_text(content.replace("day", "dusk").replace("night", "day").replace("dusk", "night"))
    with pytest.raises(AssertionError, match="is a wrong sum"):
        check_sum(stage.fleet, stage.spy.heard, newest)
    file.write_text(content)


def rows_of(table: str) -> list[list[str]]:
    """Cells of a table of the page, without its head."""
    _, _, rest = PAGE.read_text("utf-8").partition(BEGIN.format(table))
    rows, end, _ = rest.partition(END.format(table))
    assert end
    lines = rows.strip().splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def test_the_page_has_every_pair_and_none_is_broken() -> None:
    assert list(ONE_A_STEP) == list(STEPS)
    rows = rows_of("faults")
    assert [row[0] for row in rows] == list(FAULTS)
    assert all(len(row) == 1 + len(STEPS) for row in rows)
    assert not [row for row in rows if BROKEN in row]


def test_the_page_has_every_death_and_none_broke_anything() -> None:
    rows = rows_of("deaths")
    expected = [("device", one.words) for one in DEVICE]
    expected += [("coordinator", one.words) for one in COORDINATOR]
    assert [(row[0], row[1]) for row in rows] == expected
    assert not [row for row in rows if BROKEN in row]
