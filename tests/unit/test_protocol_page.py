"""docs/protocol.md and docs/asyncapi.yaml say what the code does: tables held against the code."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_origin

import attrs
import pytest
from phe import PaillierPublicKey

from fedring.coordinator.rings import Stage
from fedring.coordinator.settings import Ring
from fedring.device.effects import State
from fedring.device.settings import Limits, Privacy
from fedring.shared.encryption import SUITES, Suite, max_values, suite
from fedring.shared.messages import MESSAGES, Message, ModelReference, Plan, RingTerms
from fedring.shared.topics import LAYOUT

PROJECT = Path(__file__).parents[2]
PAGE = (PROJECT / "docs" / "protocol.md").read_text()
ASYNCAPI = (PROJECT / "docs" / "asyncapi.yaml").read_text()
MAPS = {"model": ModelReference, "plan": Plan, "ring": RingTerms}
HEADER = [field.name for field in attrs.fields(Message)]

Table = dict[str, list[str]]


def tables(text: str, first_column: str) -> Iterator[Table]:
    """Tables below a heading cell: name in the first column (without its code marks) -> cells."""
    for table in re.findall(
        rf"^\| {first_column} \|.*\n\|[-|]+\n((?:\|.*\n)+)", text, re.MULTILINE
    ):
        rows = ([cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines())
        yield {cells[0].strip("`"): cells[1:] for cells in rows}


def table(text: str, first_column: str) -> Table:
    (found,) = tables(text, first_column)
    return found


def number(text: str) -> float:
    return float(text.replace(",", ""))


def documented() -> dict[str, tuple[type[Any], Table]]:
    """Name of a message or map -> its class, and its rows on the page."""
    found: dict[str, tuple[type[Any], Table]] = {"header": (Message, table(PAGE, "header field"))}
    for name, cls in MAPS.items():
        found[f"map {name}"] = (cls, table(PAGE, f"field of `{name}`"))
    for section in re.split(r"^#### ", PAGE, flags=re.MULTILINE)[1:]:
        kind = section.split("`")[1]
        found[kind] = (MESSAGES[kind], table(section, "field"))
    return found


def test_every_message_has_its_section() -> None:
    assert re.findall(r"^#### `(\w+)`$", PAGE, re.MULTILINE) == list(MESSAGES)


@pytest.mark.parametrize("name", documented())
def test_fields_in_their_order(name: str) -> None:
    cls, rows = documented()[name]
    fields = [field.name for field in attrs.fields(cls)]
    if name == "header":
        fields = ["kind", *fields]
    elif issubclass(cls, Message):
        fields = fields[len(HEADER) :]
    assert list(rows) == fields


TYPES = {
    "uint": "int",
    "float": "float",
    "bin": "bytes",
    "str": "str",
    "array of bin": "tuple[bytes, ...]",
    "array of uint": "tuple[int, ...]",
}


def accepted(field: Any, value: object) -> bool:
    try:
        field.validator(None, field, value)
    except ValueError:
        return False
    return True


def borders(kind: str, limit: str) -> Iterator[tuple[object, bool]]:
    """Values at and beyond a limit as the page writes it, and whether they must be accepted."""
    if "{" in limit:
        low, high = map(int, re.findall(r"\{(\d+),(\d+)\}", limit)[0])
        yield from (("a" * n, low <= n <= high) for n in (low - 1, low, high, high + 1))
        yield "A", False
        return
    if " to " not in limit and kind != "bin":
        yield from ((int(c) if kind == "uint" else c, True) for c in limit.split(", "))
        yield (-1 if kind == "uint" else "other"), False
        return
    low_text, _, high_text = limit.partition(" to ")
    least, most = number(low_text), number(high_text or low_text)
    if kind == "float":
        tiny = 1 + 1e-9
        yield from (
            (least, True),
            (most, True),
            (most * tiny, False),
            (least / tiny - 1e-99, False),
        )
        return
    unit: dict[str, Any] = {"bin": b"x", "str": "x", "array of bin": (b"x",), "array of uint": (1,)}
    for n in (int(least) - 1, int(least), int(most), int(most) + 1):
        if kind == "uint" or n >= 0:
            yield (n if kind == "uint" else unit[kind] * n), least <= n <= most


@pytest.mark.parametrize("name", documented())
def test_types_and_limits_of_fields(name: str) -> None:
    cls, rows = documented()[name]
    for field_name, (kind, limit, *_) in rows.items():
        if kind == "map" or field_name == "kind":
            continue
        field = getattr(attrs.fields(cls), field_name)
        # The codec resolves annotations in place: before its first use they are still text.
        told = field.type if isinstance(field.type, str) else _text(field.type)
        assert told == TYPES[kind], field_name
        for value, good in borders(kind, limit.strip("`")):
            assert accepted(field, value) == good, f"{name}.{field_name}: {value!r:.60}"


def _text(kind: Any) -> str:
    return str(kind) if get_origin(kind) else str(kind.__name__)


def test_constants() -> None:
    for name, (value, _) in table(PAGE, "constant").items():
        module, _, constant = name.rpartition(".")
        assert getattr(importlib.import_module(f"fedring.{module}"), constant) == number(value), (
            name
        )


def test_suites() -> None:
    assert re.findall(r"^### Suite `(\w+)`$", PAGE, re.MULTILINE) == list(SUITES)
    assert list(table(PAGE, "suite")) == list(SUITES)


def test_sizes_of_suite_paillier() -> None:
    for key_bits, (*slots, longest) in table(PAGE, r"bits of \*n\*").items():
        n = PaillierPublicKey((1 << int(number(key_bits))) - 1)
        for bits, cell in zip((16, 8), slots, strict=True):
            fits = int(number(cell))
            for n_values, n_ciphertexts in ((fits, 1), (fits + 1, 2)):
                assert _paillier(n, n_values, bits).n_ciphertexts == n_ciphertexts
        assert _paillier(n, max_values("paillier"), 16).release_bytes == number(longest)


def _paillier(public_key: PaillierPublicKey, n_values: int, bits: int) -> Suite:
    return suite(
        "paillier",
        public_key=public_key,
        announce_digest=bytes(32),
        n_values=n_values,
        bits=bits,
    )


def test_default_settings() -> None:
    privacy, limits = Privacy(threshold=1), Limits()
    for title, defaults in (
        (r"`\[ring\]` setting", attrs.asdict(Ring())),
        (r"`\[privacy\]` or `\[limits\]` setting", attrs.asdict(privacy) | attrs.asdict(limits)),
    ):
        for name, (value, _) in table(PAGE, title).items():
            assert defaults[name] == number(value), name


def test_the_topic_tree() -> None:
    rows = table(PAGE, "topic")
    assert {name: cells[:3] for name, cells in rows.items()} == {
        row.pattern: [row.writer.value, "yes" if row.retained else "no", row.payload.value]
        for row in LAYOUT
    }


@pytest.mark.parametrize("states", [State, Stage])
def test_states_in_pictures(states: type[State] | type[Stage]) -> None:
    pictures = re.findall(r"```mermaid\nstateDiagram-v2\n(.*?)```", PAGE, re.DOTALL)
    named = [dict(re.findall(r'state "(.+)" as (\w+)', picture)) for picture in pictures]
    assert {state.value: state.name for state in states} in named


def test_what_is_hashed_and_derived_is_written_as_in_the_code() -> None:
    """Every text that separates one use of a key or hash from another, byte for byte."""
    sources = (PROJECT / "shared" / "fedring").rglob("*.py")
    tags = {
        tag for file in sources for tag in re.findall(r'b"(fedring/1 [^"]+)"', file.read_text())
    }
    assert len(tags) >= 6
    assert {tag for tag in tags if f'"{tag}"' not in PAGE} == set()


def test_references_to_sections_hold() -> None:
    sections = set(re.findall(r"^## (\d+)\. ", PAGE, re.MULTILINE))
    steps = set(re.findall(r"^### Step (\d)\. ", PAGE, re.MULTILINE))
    for part in ("coordinator", "device", "shared", "fleet", "lab"):
        for file in (PROJECT / part).rglob("*.py"):
            for match in re.finditer(r"docs/protocol\.md[^.\n]*(?:\n[^.\n]*)?", file.read_text()):
                cited = match.group().removeprefix("docs/protocol.md")
                step = re.search(r"steps? ([\d, toand\s]+)", cited)
                if step:
                    assert set(re.findall(r"\d", step.group(1))) <= steps, f"{file}: {cited}"
                    cited = cited.replace(step.group(), "")
                assert set(re.findall(r"\b\d+\b", cited)) <= sections, f"{file}: {cited}"


def test_asyncapi_lists_the_same_topics() -> None:
    addresses = re.findall(r"^    address: '(.+)'$", ASYNCAPI, re.MULTILINE)
    found = [re.sub(r"\{\w+\}", "+", address) for address in addresses]
    assert found == [f"+/+/{row.filter}" for row in LAYOUT]


def test_asyncapi_lists_the_same_messages() -> None:
    listed = set(
        re.findall(r"^      (\w+): \{ \$ref: '#/components/messages/", ASYNCAPI, re.MULTILINE)
    )
    assert set(MESSAGES) <= listed
