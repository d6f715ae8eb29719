"""Configuration files: what is read, and what people are told about their mistakes."""

import textwrap
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated

import pytest
from attrs import frozen
from hypothesis import given
from hypothesis import strategies as st

from fedring.shared.config import (
    BrokerSettings,
    ConfigMistakesError,
    choice,
    choices,
    flag,
    load,
    names,
    number,
    path,
    text,
    whole,
    wholes,
)
from fedring.shared.config.lines import statements
from fedring.shared.errors import ConfigError


@frozen(kw_only=True)
class Ring:
    size: Annotated[int, whole(2, 64, "devices")] = 16
    patience_s: Annotated[float, number(0.2, 600, "seconds")] = 5.0
    least: Annotated[int, whole(0, 64)] = 2

    def contradictions(self) -> Iterator[tuple[str, str]]:
        if self.least > self.size:
            yield "least", f"at most the ring's size, {self.size}"


@frozen(kw_only=True)
class Model:
    features: Annotated[tuple[str, ...], names("column names", 1, 3)]
    kind: Annotated[str, choice("mlp", "softmax")] = "mlp"
    hidden: Annotated[tuple[int, ...], wholes("layer widths", 1, 100, 2)] = (64,)
    forbidden: Annotated[frozenset[str], choices("hybrid", "paillier")] = frozenset()
    label: Annotated[str, text("a column name", "[a-z]+")] = "label"
    note: Annotated[Path | None, path("a note")] = None


@frozen(kw_only=True)
class Settings:
    model: Model
    ring: Ring = Ring()
    trace: Annotated[bool, flag()] = False
    bits: Annotated[int, choice(16, 8)] = 16
    broker: BrokerSettings | None = None


Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Writes a file and gives its path as a user in its folder would type it."""
    monkeypatch.chdir(tmp_path)

    def write(source: str) -> Path:
        Path("settings.toml").write_text(textwrap.dedent(source))
        return Path("settings.toml")

    return write


def complaint(file: Path) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        load(file, Settings)
    return caught.value


def test_values_and_defaults(write: Write, tmp_path: Path) -> None:
    file = write(
        """
        trace = true
        ring.patience_s = 3        # an integer is a number too
        [model]
        features = [
            "mean",
            "spread",
        ]
        hidden = []
        forbidden = ["paillier"]
        note = "notes/first.txt"
        [broker]
        host = "broker.example.org"
        """
    )
    settings = load(file, Settings)
    assert settings == Settings(
        trace=True,
        ring=Ring(size=16, patience_s=3.0),
        model=Model(
            features=("mean", "spread"),
            hidden=(),
            forbidden=frozenset({"paillier"}),
            note=tmp_path / "notes/first.txt",
        ),
        broker=BrokerSettings(host="broker.example.org", port=8883),
    )
    assert type(settings.ring.patience_s) is float


def test_all_mistakes_at_once_with_line_and_remedy(write: Write) -> None:
    file = write(
        """\
        bits = 12
        [ring]
        # comments and blank lines count as lines

        sise = 12                     # a slip
        patience_s = "5 # seconds"    # quoted
        size = 65
        [modle]
        kind = "mlp"
        """
    )
    error = complaint(file)
    assert isinstance(error, ConfigMistakesError)
    assert error.name == "config.several-mistakes"
    assert str(error).splitlines() == [
        "settings.toml has 6 mistakes",
        "  settings.toml:1: bits = 12: expected 16 or 8 [config.bad-value]",
        "  settings.toml:5: sise = 12: no known key; did you mean `size`? [config.unknown-key]",
        '  settings.toml:6: patience_s = "5 # seconds": expected a number from 0.2 to 600 '
        "(seconds) [config.wrong-type]",
        "  settings.toml:7: size = 65: expected a whole number from 2 to 64 (devices) "
        "[config.bad-value]",
        "  settings.toml:8: [modle]: no known key; did you mean `model`? [config.unknown-key]",
        "  settings.toml: the table [model] is missing [config.missing-key]",
    ]


MODEL = '[model]\nfeatures = ["a"]\n'


@pytest.mark.parametrize(
    ("source", "name", "told"),
    [
        ("[model]\n", "missing-key", ":1: `model.features` is missing: expected a list of 1 to 3"),
        ("trace = 1\n" + MODEL, "wrong-type", ":1: trace = 1: expected true or false"),
        ("[ring]\nsize = true\n" + MODEL, "wrong-type", ":2: size = true: expected a whole number"),
        ("[ring]\nsize = 8.0\n" + MODEL, "wrong-type", "expected a whole number from 2 to 64"),
        ("[ring]\npatience_s = nan\n" + MODEL, "bad-value", "patience_s = nan: expected a number"),
        ("[ring]\nleast = 20\n" + MODEL, "bad-value", ":2: least = 20: expected at most the ring"),
        ("ring = 5\n" + MODEL, "wrong-type", ":1: ring = 5: expected a table [ring]"),
        ('[model]\nfeatures = ["a", "a"]', "bad-value", "1 to 3 different column names"),
        ('[model]\nfeatures = ["a", 1]', "wrong-type", "1 to 3 different column names"),
        (MODEL + 'kind = "tree"', "bad-value", ':3: kind = "tree": expected "mlp" or "softmax"'),
        (MODEL + "hidden = [1, 0]", "bad-value", "at most 2 layer widths, each from 1 to 100"),
        (MODEL + "hidden = [1, 1, 1]", "bad-value", "at most 2 layer widths"),
        (MODEL + 'forbidden = ["x"]', "bad-value", 'a list of: "hybrid", "paillier"'),
        (MODEL + 'label = "A"', "bad-value", "expected a column name"),
        (MODEL + 'note = ""', "bad-value", "expected the path of a note"),
        (
            MODEL + "size = 3",
            "unknown-key",
            ":3: size = 3: no known key here; it belongs",
        ),
        (MODEL + "zzz = 3", "unknown-key", "no known key; known here: `features`, `forbidden`"),
        (MODEL + "[broker]\nhost = 'h'\ntls = false", "bad-value", "h is another machine"),
        (MODEL + "[broker]\nhost = 'h h'", "bad-value", "expected a host name or address"),
        (MODEL + "[broker]\nhost = 'h:8883'", "bad-value", "expected a host name or address"),
        *(
            (
                f"{MODEL}[broker]\nhost = 'h'\nothers = {others}",
                "bad-value",
                "expected a list of at most 7 host names and addresses",
            )
            for others in (
                '[""]',
                '["h", "h:8883"]',
                '["127.0.0.1:8883"]',
                '["[::1]"]',
                '["a..b"]',
                '["."]',
                f'["{"a" * 64}"]',
                f'["{".".join("a" * 127)}.b"]',
                '["a", "b", "c", "d", "e", "f", "g", "h"]',
            )
        ),
        (
            MODEL + "[broker]\nhost = 'h'\nothers = 'h'",
            "wrong-type",
            "others = 'h': expected a list",
        ),
        (
            MODEL + "[broker]\nhost = 'h'\nothers = [1]",
            "wrong-type",
            "others = [1]: expected a list",
        ),
        (
            MODEL + "[broker]\nhost = 'localhost'\nothers = ['::1', 'h']\ntls = false",
            "bad-value",
            "h is another machine",
        ),
    ],
)
def test_one_mistake(write: Write, source: str, name: str, told: str) -> None:
    error = complaint(write(source))
    assert error.name == f"config.{name}"
    assert told in str(error)
    assert str(error).startswith("settings.toml:")


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.8.9.1", "::1"])
def test_plain_mqtt_stays_on_this_machine(write: Write, host: str) -> None:
    file = write(f'{MODEL}[broker]\nhost = "{host}"\ntls = false')
    broker = load(file, Settings).broker
    assert broker is not None
    assert broker.port == 1883


def test_other_names_of_the_broker(write: Write) -> None:
    others = (
        "b",
        "b.local",
        "b_1.example.org.",
        "192.168.1.10",
        "::1",
        "fe80::1",
        "::ffff:10.0.0.1",
    )
    quoted = ", ".join(f'"{host}"' for host in others)
    broker = load(write(f'{MODEL}[broker]\nhost = "h"\nothers = [{quoted}]'), Settings).broker
    assert broker is not None
    assert broker.others == others


def test_plain_mqtt_elsewhere_must_be_insisted_on(write: Write) -> None:
    file = write(f'{MODEL}[broker]\nhost = "10.0.0.1"\ntls = false\nallow_plain = true')
    assert load(file, Settings).broker == BrokerSettings(
        host="10.0.0.1", tls=False, allow_plain=True
    )


def test_broken_toml_names_line_and_column(write: Write) -> None:
    error = complaint(write("[ring]\nsize 16\n"))
    assert error.name == "config.broken-toml"
    assert str(error) == "settings.toml:2:6: not TOML: expected '=' after a key in a key/value pair"


def test_broken_to_the_end_names_the_last_line(write: Write) -> None:
    error = complaint(write("[ring]\nsize = 16\nnote = "))
    assert error.name == "config.broken-toml"
    assert str(error).startswith("settings.toml:3:")


def test_doubled_keys_are_broken_toml(write: Write) -> None:
    assert complaint(write("trace = true\ntrace = false\n")).name == "config.broken-toml"


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("[" * 5000, "nested too deep"),
        ("[" * 2000 + "]" * 2000, "nested too deep"),
        ("{a=" * 2000 + "1" + "}" * 2000, "nested too deep"),
        ("1" * 5000, "a number of too many digits"),
    ],
    ids=["open", "arrays", "tables", "digits"],
)
def test_toml_that_the_parser_cannot_take(write: Write, value: str, reason: str) -> None:
    error = complaint(write(f"{MODEL}\na = {value}\n"))
    assert error.name == "config.broken-toml"
    assert str(error) == f"settings.toml: not TOML: {reason}"


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("ring.patience_s = " + "9" * 400, "expected a number from 0.2 to 600 (seconds)"),
        ('model.note = "~nobody-of-this-name/x"', "expected the path of a note"),
    ],
    ids=["no float", "no home"],
)
def test_values_that_python_cannot_take(write: Write, line: str, told: str) -> None:
    error = complaint(write(f'model.features = ["a"]\n{line}\n'))
    assert error.name == "config.bad-value"
    assert str(error).startswith("settings.toml:2: ")
    assert told in str(error)


def test_lines_end_where_toml_says(write: Write) -> None:
    """Python has more ends of lines: they may stand in comments and texts."""
    error = complaint(write('# one\u2028line\x85only\n[model]\nfeatures = ["a\u2029b"]\nx = 1\n'))
    assert str(error).startswith("settings.toml:4: x = 1: no known key")


def test_not_text(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_bytes(b"trace = true # caf\xe9\n")
    error = complaint(tmp_path / "a.toml")
    assert error.name == "config.broken-toml"
    assert "byte 18 is not UTF-8" in str(error)


def test_missing_file(tmp_path: Path) -> None:
    error = complaint(tmp_path / "nowhere.toml")
    assert error.name == "config.missing-file"
    assert str(tmp_path / "nowhere.toml") in str(error)
    assert "--config" in error.hint


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    assert complaint(tmp_path).name == "config.unreadable-file"


def test_statements_of_several_lines() -> None:
    source = textwrap.dedent(
        '''\
        first = """
        second = 2  # text, not a statement
        """
        "quoted key" = 1
        list = [ # begins
          1, 2,
        ]
        [table.inner] # comment
        a.b = {c = 1, d = "#"} # comment
        '''
    )
    assert {key: (at.line, at.written) for key, at in statements(source).items()} == {
        ("first",): (1, 'first = """'),
        ("quoted key",): (4, '"quoted key" = 1'),
        ("list",): (5, "list = [ # begins"),
        ("table",): (8, "[table.inner]"),
        ("table", "inner"): (8, "[table.inner]"),
        ("table", "inner", "a"): (9, 'a.b = {c = 1, d = "#"}'),
        ("table", "inner", "a", "b"): (9, 'a.b = {c = 1, d = "#"}'),
        ("table", "inner", "a", "b", "c"): (9, 'a.b = {c = 1, d = "#"}'),
        ("table", "inner", "a", "b", "d"): (9, 'a.b = {c = 1, d = "#"}'),
    }


KEYS = st.from_regex(r"[a-z]{1,4}", fullmatch=True)
VALUES = st.one_of(
    st.integers(0, 9).map(str),
    st.just("[\n1,\n\n2]"),
    st.just("'''\nx = 1\n[y]\n'''"),
    st.just('"#"  # note'),
)


@given(st.dictionaries(KEYS, st.dictionaries(KEYS, VALUES, max_size=3), max_size=3))
def test_every_key_is_found_on_its_own_line(tables: dict[str, dict[str, str]]) -> None:
    source = "# first line\n" + "".join(
        f"[{table}]\n" + "".join(f"{key} = {value}\n" for key, value in keys.items())
        for table, keys in tables.items()
    )
    assert tomllib.loads(source).keys() == tables.keys()
    found = statements(source)
    lines = source.splitlines()
    for table, keys in tables.items():
        assert lines[found[table,].line - 1] == f"[{table}]"
        for key in keys:
            assert lines[found[table, key].line - 1].startswith(f"{key} = ")
