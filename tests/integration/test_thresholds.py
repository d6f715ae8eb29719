"""A device that wants more company than a ring offers stays out of it, and the others go on."""

from pathlib import Path

from fedring.lab.brokers import start_broker
from fedring.lab.fleets import LocalFleet
from fedring.lab.spy import Spy

SHY = "b05"


def test_a_threshold_above_the_ring_is_told_on_the_status_topic(tmp_path: Path) -> None:
    with (
        start_broker(tmp_path / "broker") as broker,
        LocalFleet(tmp_path, broker.address, 5, coordinator={"ring": {"size": 5}}) as fleet,
        Spy(broker.address, fleet.topics, fleet.check) as spy,
    ):
        settings = fleet.device_file(SHY)
        text = settings.read_text().replace("threshold = 2", "threshold = 9")
        settings.write_text(text)
        fleet.start()
        reason = "rings have 5 members, this device answers above 9"
        spy.status(SHY, 0, state="refused", reason=reason)
        spy.event("declined", 0, device=SHY, reason=reason)
        spy.event("model published", 0, contributors=4)
