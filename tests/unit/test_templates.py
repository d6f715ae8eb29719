"""The commented templates and the settings that they describe are held together."""

import re
from importlib import resources
from pathlib import Path

import attrs
import pytest

from fedring.coordinator import settings as coordinator
from fedring.device import settings as device
from fedring.shared.config import load

TEMPLATES = [
    (coordinator.CoordinatorSettings, "fedring.coordinator", "coordinator.toml"),
    (device.DeviceSettings, "fedring.device", "device.toml"),
]
NOT_SHOWN_AS_DEFAULT = {"bootstrap", "file", "seed", "source"}
"""Keys whose default is none, so that the template shows an example."""
ALTERNATIVES = [["folder", "newest"], ["database", "table", "newest"], ["function"]]
"""Keys of [data] that stand there instead of `file` and `source`."""
INSTEAD = {"folder", "database", "table", "function", "litert"}


def template(package: str, name: str) -> str:
    return resources.files(package).joinpath(name).read_text()


def with_shown(source: str, keys: set[str]) -> str:
    """The template with the lines of these keys in force."""
    return re.sub(rf"^#(?=({'|'.join(keys)}) = |\[)", "", source, flags=re.MULTILINE)


@pytest.mark.parametrize(("settings", "package", "name"), TEMPLATES)
def test_the_template_loads_as_it_is(
    settings: type, package: str, name: str, tmp_path: Path
) -> None:
    file = tmp_path / name
    file.write_text(template(package, name))
    load(file, settings)


@pytest.mark.parametrize(("settings", "package", "name"), TEMPLATES)
def test_the_template_shows_every_key_with_its_default(
    settings: type, package: str, name: str, tmp_path: Path
) -> None:
    source = template(package, name)
    plain, shown = tmp_path / "plain.toml", tmp_path / "shown.toml"
    plain.write_text(source)
    keys = set(re.findall(r"^#(\w+) = ", source, re.MULTILINE))
    shown.write_text(with_shown(source, keys - INSTEAD))
    defaults: object = load(plain, settings)
    all_shown: object = load(shown, settings)
    for table in attrs.fields(settings):
        assert re.search(rf"^#?\[{table.name}\]$", source, re.MULTILINE), table.name
        before, after = getattr(defaults, table.name), getattr(all_shown, table.name)
        for key in attrs.fields(type(after)):
            assert re.search(rf"^#?{key.name} = ", source, re.MULTILINE), key.name
            if before is not None and key.name not in NOT_SHOWN_AS_DEFAULT | INSTEAD:
                assert getattr(before, key.name) == getattr(after, key.name), key.name


@pytest.mark.parametrize("keys", ALTERNATIVES, ids=lambda keys: str(keys[0]))
def test_the_template_shows_every_place_of_data_so_that_it_loads(
    keys: list[str], tmp_path: Path
) -> None:
    source = template("fedring.device", "device.toml").replace('\nfile = "data.csv"', "")
    file = tmp_path / "device.toml"
    file.write_text(with_shown(source, set(keys)))
    data = device.DeviceSettings.load(file).data
    assert getattr(data, keys[0]) is not None
