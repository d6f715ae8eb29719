"""A fleet in suite `paillier`: a device whose owner forbids it stays out, and the others go on."""

from pathlib import Path

from fedring.lab.brokers import start_broker
from fedring.lab.fleets import LocalFleet
from fedring.lab.spy import Spy

SHY = "b04"


def test_a_suite_that_an_owner_forbids_is_told_on_the_status_topic(tmp_path: Path) -> None:
    with (
        start_broker(tmp_path / "broker") as broker,
        LocalFleet(
            tmp_path, broker.address, coordinator={"ring": {"size": 4, "suite": "paillier"}}
        ) as fleet,
        Spy(broker.address, fleet.topics, fleet.check) as spy,
    ):
        settings = fleet.device_file(SHY)
        text = settings.read_text()
        settings.write_text(
            text.replace("threshold = 2", 'threshold = 2\nforbidden_suites = ["paillier"]')
        )
        fleet.start()
        reason = "suite paillier is not allowed on this device"
        spy.status(SHY, 0, state="refused", reason=reason)
        spy.event("declined", 0, device=SHY, reason=reason)
        spy.event("model published", 0, contributors=3)
