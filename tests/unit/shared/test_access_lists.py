"""An access list is read to its end by Mosquitto, or it is refused before it gets there."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedring.shared.access_lists import access_list, check_access_list, denied_names, proof_topic
from fedring.shared.errors import BrokerError
from fedring.shared.identity import RESERVED_NAMES

SHIPPED = (Path(__file__).parents[3] / "broker_config" / "acl").read_text()
CRL = b"a list"
NAMES = st.from_regex(r"[a-z0-9-]{1,32}", fullmatch=True)


@given(st.sets(NAMES.filter(lambda name: name not in RESERVED_NAMES), max_size=20))
def test_whoever_is_denied_stands_in_it_and_nobody_else(denied: set[str]) -> None:
    content = access_list(SHIPPED, denied, CRL)
    check_access_list(content, CRL)
    assert list(denied_names(content.decode().splitlines())) == sorted(denied)
    assert content.decode().startswith(SHIPPED)


def test_no_two_lists_share_their_proof() -> None:
    lists = [
        access_list(SHIPPED, [], CRL),
        access_list(SHIPPED, ["b01"], CRL),
        access_list(SHIPPED, ["b01"], b"another"),
        access_list(SHIPPED + "# more\n", [], CRL),
    ]
    assert len({proof_topic(content) for content in lists}) == len(lists)
    assert proof_topic(SHIPPED.encode()) is None


@given(st.data())
def test_a_list_that_was_changed_anywhere_is_refused(data: st.DataObject) -> None:
    content = access_list(SHIPPED, ["b01"], CRL)
    place = data.draw(st.integers(0, len(content) - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda byte: byte != content[place]))
    changed = content[:place] + bytes([byte]) + content[place + 1 :]
    with pytest.raises(BrokerError):
        check_access_list(changed, CRL)
    with pytest.raises(BrokerError):
        check_access_list(content[:place], CRL)
    with pytest.raises(BrokerError):
        check_access_list(content, b"another")


@pytest.mark.parametrize(
    "line",
    [
        "broken line",
        "user",
        "user b01 ",
        "user b 01",
        "topic",
        "topic  read fedring/x",
        "topic raed fedring/x",
        "topic read",
        "topic read fedring/#/x",
        "pattern read fedring/x y",
        "\ttopic read fedring/x",
        "topic read fedring/ü",
        "topic read fedring/x\r",
        "topic read fedring/x\0",
        "# no \x85 ASCII",
    ],
)
def test_a_line_that_mosquitto_might_not_read_is_refused(line: str) -> None:
    with pytest.raises(BrokerError) as caught:
        access_list(f"user coordinator\n{line}\n", [], CRL)
    assert caught.value.name == "broker.access-list"
    assert "line 2 " in caught.value.text


@pytest.mark.parametrize("name", sorted(RESERVED_NAMES))
def test_what_a_fleet_needs_is_not_taken_away(name: str) -> None:
    with pytest.raises(BrokerError, match=name):
        access_list(SHIPPED, [name], CRL)


@pytest.mark.parametrize("name", ["", "b 01", "B01", "b01\ntopic read #", "x" * 33])
def test_no_name_brings_lines_of_its_own(name: str) -> None:
    with pytest.raises(BrokerError):
        access_list(SHIPPED, [name], CRL)
