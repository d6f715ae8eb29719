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
NOT_SHOWN_AS_DEFAULT = {"file", "seed", "source"}
"""Keys whose default is none, so that the template shows an example."""


def template(package: str, name: str) -> str:
    return resources.files(package).joinpath(name).read_text()


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
    shown.write_text(re.sub(r"^#(?=\w+ = |\[)", "", source, flags=re.MULTILINE))
    defaults: object = load(plain, settings)
    all_shown: object = load(shown, settings)
    for table in attrs.fields(settings):
        assert re.search(rf"^#?\[{table.name}\]$", source, re.MULTILINE), table.name
        before, after = getattr(defaults, table.name), getattr(all_shown, table.name)
        for key in attrs.fields(type(after)):
            assert re.search(rf"^#?{key.name} = ", source, re.MULTILINE), key.name
            if before is not None and key.name not in NOT_SHOWN_AS_DEFAULT:
                assert getattr(before, key.name) == getattr(after, key.name), key.name
