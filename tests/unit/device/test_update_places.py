"""Whether an agent lives on a board that takes bundles."""

from pathlib import Path

import pytest

from fedring.device.update.places import Places


@pytest.fixture
def home(tmp_path: Path) -> Path:
    home = tmp_path / "var/lib/fedring"
    (home / "inbox").mkdir(parents=True)
    return home


def test_what_the_agent_makes_of_its_inbox_does_not_stop_the_updater(home: Path) -> None:
    places = Places.around(home)
    assert places is not None
    inbox = home / "inbox"
    for trap in ("1.fedring", "1.fedring.folder"):
        (inbox / trap / "full").mkdir(parents=True)
    places.remove_waiting("1.fedring")
    (inbox / "1.fedring").mkdir()
    places.remove_waiting("1.fedring")
    assert places.waiting() == []
    aside = inbox.rename(home / "aside")
    (aside / "2.fedring").touch()
    inbox.symlink_to(aside)
    assert places.waiting() == [], "a link is no inbox"
    inbox.unlink()
    assert places.waiting() == []


@pytest.mark.parametrize("state", [".", "state"])
def test_a_flashed_board_takes_bundles(home: Path, state: str) -> None:
    places = Places.around(home / state)
    assert places is not None
    assert places.inbox == home / "inbox"


@pytest.mark.parametrize("state", ["..", "../elsewhere/state", "state/deeper", "/", "/state"])
def test_any_other_agent_does_not(home: Path, state: str) -> None:
    assert Places.around((home / state).resolve()) is None


def test_without_an_inbox_nobody_does(home: Path) -> None:
    (home / "inbox").rmdir()
    assert Places.around(home / "state") is None
