"""docs/boards.md, command by command: a laptop, a server and four boards, which boot for it.

The machines are containers of systemd with a network of their own (`fedring.lab.boards`); ssh,
sudo, Mosquitto and units are real. What is adapted: bundles are for this machine's processor and
the containers' Python, and the card in /dev/sdb is an image.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.boards.page import blocks, command, prose

from fedring.lab.boards.journey import AGENT, write_measurements
from fedring.lab.boards.releases import next_release
from fedring.lab.boards.site import Site

CARDS = ("b01", "b02", "b03")
BY_SSH = "b04"
NEXT = "0.2.0"
PATIENCE_S = 240.0


pytestmark = pytest.mark.boards


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with Site(tmp_path, [*CARDS, BY_SSH]) as site:
        yield site


def edit(file: Path, changes: str) -> None:
    """Change lines of a settings file as a person does: each key is there, perhaps with a #."""
    text = file.read_text()
    for change in filter(None, changes.splitlines()):
        if change.startswith("["):
            table = re.escape(change)
        else:
            line = rf"(^{table}\n(?:(?!\[).*\n)*?)#?{change.split(' = ')[0]} = .*"
            text, n_found = re.subn(line, rf"\g<1>{change}", text, count=1, flags=re.MULTILINE)
            assert n_found == 1, f"{file} has no line for {change}"
    file.write_text(text)


def await_ready(site: Site, name: str) -> None:
    board = site.boards[name]
    board.await_(lambda: board.service(AGENT, "ActiveState") == "active", "ready", PATIENCE_S)


def flash(site: Site, name: str) -> None:
    """What the page does with the first board's card, with that of another."""
    image = site.make_card(name)
    text = command("card").replace("b01", name).replace("/dev/sdb", str(image)).rstrip()
    said = site.type("laptop", f"{text} --python 3.11 --arch x86_64")
    assert f"flashed {name}" in said
    site.insert_card(name, image)


def test_the_page_leads_to_a_fleet_and_out_again(site: Site) -> None:
    site.start_server()
    site.type("laptop", command("laptop"))
    site.type("online", command("online").rstrip().replace("3.13", "3.11") + " --arch x86_64")
    (bundle,) = (site.laptop / "greenhouse" / "bundles").iterdir()
    slot = site.install_server(bundle)
    site.server.await_(lambda: site.ready("server"), "the server", PATIENCE_S)
    site.type("server", command("server"))
    site.type("laptop", command("apply"))
    (settings,) = blocks("toml")
    edit(site.server.card / settings.place.removeprefix("/"), settings.text)
    site.type("server", command("start"))

    for name in (*CARDS, BY_SSH):
        write_measurements(site.laptop / f"{name}.csv", seed=name)
    for name in CARDS:
        flash(site, name)
    site.insert_card(BY_SSH, site.make_card(BY_SSH))
    board = site.boards[BY_SSH]
    board.await_(lambda: site.ready(BY_SSH), "ssh", PATIENCE_S)
    site.type("laptop", command("ssh"))

    # The first one gets its certificate by files that are carried, the others while connected.
    carry = command("carry")
    site.boards["b01"].await_(
        lambda: "certified b01" in site.type("laptop", carry), "a request", PATIENCE_S
    )
    await_ready(site, "b01")
    signing = site.start("sign", command("sign"))
    for name in (*CARDS, BY_SSH):
        await_ready(site, name)
    site.server.await_(
        lambda: signing.log.read_text().count("was seen with its certificate") == 4,
        "all boards seen by the owner",
    )
    signing.stop()
    site.type("server", prose("sudo systemctl disable --now fedring-enrolment"))

    listed, live = command("watch").split("\n", 1)
    known = site.type("laptop", listed)
    assert known.count("certified until") == 4, known
    assert "not seen yet" not in known
    seen = site.type("laptop", live.rstrip() + " --once --json")
    assert all(f'"{name}"' in seen for name in (*CARDS, BY_SSH))
    site.server.await_(
        lambda: re.search(r"^3 +.* train ", site.type("server", command("models")), re.MULTILINE),
        "a third version of the model",
        PATIENCE_S,
    )
    for name in (*CARDS, BY_SSH):
        said = site.type(name, command("doctor").replace("systemctl", "PAGER= systemctl"))
        assert "active (running)" in said

    new = next_release(site.laptop / "greenhouse", slot, site.folder, NEXT)
    new.rename(site.laptop / "greenhouse" / "bundles" / new.name)
    said = site.type("laptop", command("update"))
    assert "4 updated" in said, said
    said = site.type("b01", prose("sudo fedring-update --outcome"))
    assert f"updated from 0.1.0 to {NEXT}" in said

    site.type("laptop", command("revoke"))
    lost, journal = site.boards["b03"], prose("journalctl -u fedring-device")
    lost.await_(
        lambda: "refuses our certificate" in lost.run(*journal.split()),
        "the end of its connection",
        PATIENCE_S,
    )
    site.type("b02", command("uninstall"))
    left = "ls -d /opt/fedring /etc/fedring /var/lib/fedring/device.* /usr/local/sbin/fedring*"
    assert site.boards["b02"].run("sh", "-c", f"{left} 2>/dev/null || true") == ""
