from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.wire import yaml as wire_yaml

SCALARS: list[tuple[str, Any]] = [
    ("yes", True), ("N", False), ("off", False), ("~", None), ("", None), ("010", 8), ("0o10", 8),
    ("0x1F", 31), ("08", 8), ("1e3", 1000), ("1.5", 1.5), (".5", 0.5), ("1:30", "1:30"),
    ("2001-01-01", "2001-01-01"), ("1_000", 1000), ("-3", -3), ('"1"', "1"), ("'yes'", "yes"),
    ("!!str 1", "1"), ('!!int "3"', 3), ("1.2.3", "1.2.3"), ("10Mi", "10Mi"), ("-", [None]),
    ("100m", "100m"), ("+1", 1), (".", "."), ("0b11", 3),
    ("12345678901234567890", 12345678901234567890),
]  # fmt: skip


@pytest.mark.parametrize(("text", "want"), SCALARS)
def test_scalars_mean_what_goyaml_takes_them_for(text: str, want: Any) -> None:
    got = wire_yaml.loads(f"a: {text}")["a"] if text != "-" else wire_yaml.loads("-")
    assert got == want
    assert type(got) is type(want)


def test_keys_become_strings() -> None:
    assert wire_yaml.loads("1: a\ntrue: b\n1.5: c\nnull: d") == {
        "1": "a", "true": "b", "1.5": "c", "null": "d",
    }  # fmt: skip


def test_only_the_first_document_counts() -> None:
    assert wire_yaml.loads("a: 1\n---\nb: 2") == {"a": 1}


def test_anchors_merges_and_no_shared_values() -> None:
    value = wire_yaml.loads("a: &x {k: 1, l: [1]}\nb: *x\nc: {<<: *x, k: 2}")
    assert value["b"] == value["a"]
    assert value["b"] is not value["a"]
    assert value["c"] == {"k": 2, "l": [1]}


def test_aliases_cannot_explode() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 9)]
    with pytest.raises(wire_yaml.YAMLError, match="excessive aliasing"):
        wire_yaml.loads("\n".join(lines))
    with pytest.raises(wire_yaml.YAMLError, match="contains itself"):
        wire_yaml.loads("a: &a [*a]")
    with pytest.raises(wire_yaml.YAMLError, match="max depth"):
        wire_yaml.loads("[" * 10_000)


def test_duplicate_keys_are_told() -> None:
    found: list[str] = []
    assert wire_yaml.loads("a: 1\nb: 2\na: 3", found) == {"a": 3, "b": 2}
    assert found == ['line 3: key "a" already set in map']


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: b: c", "yaml: line 1: mapping values are not allowed in this context"),
        ("a:\n\t- b", "yaml: line 2: found character that cannot start any token"),
        ("*x", "yaml: unknown anchor 'x' referenced but not defined"),
        ("{a: .inf}", "json: unsupported value: .inf"),
    ],
)
def test_errors_read_as_upstreams(text: str, message: str) -> None:
    with pytest.raises(wire_yaml.YAMLError) as caught:
        wire_yaml.loads(text)
    assert str(caught.value) == message


TEXT = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")))
KEYS = st.sampled_from(["a", "yes", "1", "x y"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)


@given(JSON)
def test_what_is_dumped_reads_back(value: Any) -> None:
    assert wire_yaml.loads(b"---\n" + wire_yaml.dumps(value)) == value


@given(st.text(alphabet="ab:-?[]{}&*!|>'\"#%@`,\n \t0.~<=", max_size=30))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        json.dumps(wire_yaml.loads(text))
    except wire_yaml.YAMLError:
        pass
