from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.api import selectors
from sampan.api.errors import BadRequest

MATCHING = [
    ("", {"a": "1"}, True),
    ("a=1", {"a": "1"}, True),
    ("a==1,b!=2", {"a": "1"}, True),
    ("a != 1", {}, True),
    ("a in (1, 2)", {"a": "2"}, True),
    ("a in (,1)", {"a": ""}, True),
    ("a in ()", {"a": ""}, True),
    ("a notin (1,2)", {"a": "2"}, False),
    ("a notin (1,2)", {}, True),
    ("in in (in),notin", {"in": "in", "notin": ""}, True),
    ("a", {"a": ""}, True),
    ("!a", {"a": ""}, False),
    ("! a", {}, True),
    ("a>5", {"a": "10"}, True),
    ("a<5", {"a": "x"}, False),
    ("a=", {"a": ""}, True),
    ("a=,b", {"a": "", "b": "x"}, True),
    ("example.com/a=1", {"example.com/a": "1"}, True),
]


@pytest.mark.parametrize(("text", "labels", "want"), MATCHING)
def test_matching(text: str, labels: dict[str, str], want: bool) -> None:
    assert selectors.parse_labels(text).matches(labels) is want


BAD = [
    (",", "found ',', expected: !, identifier, or 'end of string'"),
    ("a,", "found '', expected: identifier after ','"),
    ("a b", "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt"),
    ("a in", "unable to parse requirement: found '' expected: '('"),
    ("a in (", "unable to parse requirement: found '', expected: ',', ')' or identifier"),
    ("a in (b c)", "unable to parse requirement: found 'c', expected: ',' or ')'"),
    ("a=(", "unable to parse requirement: found '(', expected: identifier"),
    ("!", "unable to parse requirement: found '', expected: identifier"),
    ("a=b)", "found ')', expected: ',' or 'end of string'"),
    (
        "a>x",
        'unable to parse requirement: values[0]: Invalid value: "x": '
        "for 'Gt', 'Lt' operators, the value must be an integer",
    ),
    (
        "a/b/c",
        'unable to parse requirement: <nil>: Invalid value: "a/b/c": a valid label key must '
        "consist of alphanumeric characters, '-', '_' or '.', and must start and end with an "
        "alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for "
        "validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]') with an optional DNS subdomain "
        "prefix and '/' (e.g. 'example.com/MyName')",
    ),
]


@pytest.mark.parametrize(("text", "message"), BAD)
def test_complaints_are_upstreams(text: str, message: str) -> None:
    with pytest.raises(BadRequest) as caught:
        selectors.parse_labels(text)
    assert caught.value.message == message


def test_indexable_pairs_and_canonical_text() -> None:
    selector = selectors.parse_labels("b in (2),a=1,c notin (x,y),!d")
    assert selector.equals == [("a", "1"), ("b", "2")]
    assert str(selector) == "a=1,b in (2),c notin (x,y),!d"
    assert selectors.parse_labels("").everything
    assert not selectors.NOTHING.everything


def test_label_selector_objects() -> None:
    assert not selectors.from_label_selector(None).matches({})
    assert selectors.from_label_selector({}).matches({"a": "b"})
    selector = selectors.from_label_selector(
        {
            "matchLabels": {"app": "web"},
            "matchExpressions": [
                {"key": "tier", "operator": "In", "values": ["a", "b"]},
                {"key": "old", "operator": "DoesNotExist"},
            ],
        }
    )
    assert selector.matches({"app": "web", "tier": "b"})
    assert not selector.matches({"app": "web", "tier": "b", "old": ""})
    with pytest.raises(BadRequest, match="is not a valid label selector operator"):
        selectors.from_label_selector({"matchExpressions": [{"key": "a", "operator": "Gt"}]})


def test_label_selector_field_errors() -> None:
    causes = selectors.validate_label_selector(
        {
            "matchExpressions": [
                {"key": "a", "operator": "In"},
                {"key": "a", "operator": "Exists", "values": ["x"]},
                {"key": "a", "operator": "Near"},
            ]
        },
        "spec.selector",
    )
    assert [str(cause) for cause in causes] == [
        "spec.selector.matchExpressions[0].values: Required value: must be specified when "
        "`operator` is 'In' or 'NotIn'",
        "spec.selector.matchExpressions[1].values: Forbidden: may not be specified when "
        "`operator` is 'Exists' or 'DoesNotExist'",
        'spec.selector.matchExpressions[2].operator: Invalid value: "Near": not a valid selector '
        "operator",
    ]


def test_field_selectors() -> None:
    pods = frozenset(("metadata.name", "metadata.namespace", "status.phase", "spec.nodeName"))
    selector = selectors.parse_fields("status.phase!=Running,metadata.name==x\\,y", pods)
    assert selector.equals == [("metadata.name", "x,y")]
    assert selector.matches({"metadata.name": "x,y", "status.phase": "Failed"})
    assert not selector.matches({"metadata.name": "x,y", "status.phase": "Running"})
    assert selectors.parse_fields("spec.nodeName=", pods).matches({})
    for text, supported, message in (
        ("spec.foo=1", pods, "field label not supported: spec.foo"),
        (
            "spec.foo=1",
            frozenset[str](),
            '"spec.foo" is not a known field selector: only "metadata.name", "metadata.namespace"',
        ),
        ("foo", pods, "invalid selector: 'foo'; can't understand 'foo'"),
    ):
        with pytest.raises(BadRequest) as caught:
            selectors.parse_fields(text, supported)
        assert caught.value.message == message


KEYS = st.sampled_from(["a", "b", "x.io/c"])
VALUES = st.sampled_from(["", "1", "22", "z"])
TERMS = st.one_of(
    st.tuples(KEYS, st.sampled_from(["=", "==", "!="]), VALUES).map("".join),
    st.tuples(KEYS, st.sampled_from([" in ", " notin "]), st.lists(VALUES, min_size=1)).map(
        lambda item: f"{item[0]}{item[1]}({','.join(item[2])})"
    ),
    KEYS,
    KEYS.map("!{}".format),
)


@given(st.lists(TERMS, min_size=1, max_size=4).map(",".join), st.dictionaries(KEYS, VALUES))
def test_a_selector_survives_its_own_text(text: str, labels: dict[str, str]) -> None:
    first = selectors.parse_labels(text)
    second = selectors.parse_labels(str(first))
    assert first.requirements == second.requirements
    assert first.matches(labels) == second.matches(labels)
    if first.matches(labels):
        assert all(labels.get(key) == value for key, value in first.equals)


@given(st.text(alphabet="ab=!(),<> \\in.", max_size=12))
def test_any_text_parses_or_is_a_bad_request(text: str) -> None:
    for parse in (selectors.parse_labels, selectors.parse_fields):
        try:
            parse(text)
        except BadRequest:
            pass
