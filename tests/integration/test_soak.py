"""The first thirty rounds of `scripts/soak`."""

from pathlib import Path

from tests.integration.soak import DEVICES, check_disk, soak


def test_thirty_rounds_of_48_devices_sum_exactly_and_fill_no_disk(tmp_path: Path) -> None:
    with soak(tmp_path) as running:
        running.run(30)
        check_disk(running.disk(), 30)
        assert running.wrong_sums == []
        assert max(running.contributors) == DEVICES
        assert set(running.memory()) == {*running.fleet.names, "coordinator", "broker"}
