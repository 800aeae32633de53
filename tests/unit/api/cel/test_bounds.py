"""However an expression is written, it ends: by its cost, its depth or its size."""

from __future__ import annotations

import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sampan.api.cel import (
    PER_CALL_LIMIT,
    Budget,
    CompileError,
    CostExceeded,
    EvaluationError,
    compile,
    kubernetes,
)
from sampan.api.cel.types import DYN

ENVIRONMENT = kubernetes().extend({"object": DYN})
LOOP = "[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]"
BIG = {"items": [{"a": index, "b": "x" * 10} for index in range(20_000)]}
LONGEST_S = 20.0
"""Far above what any of these takes (a second), far below what they take without bounds."""


def nested(levels: int, body: str) -> str:
    for name in "abcdefgh"[:levels]:
        body = f"{LOOP}.all({name}, {body})"
    return body


@pytest.mark.parametrize(
    "source",
    [
        nested(7, "true"),
        nested(5, "object == object"),
        nested(5, "'%s'.format([object]) != ''"),
        nested(5, "!(object in object.items)"),
        nested(6, "!'aaaaaaaa'.matches('(a|aa)+' + string(a) + string(b) + '{900}')"),
        nested(6, f"'{'a' * 500}'.replace('', '{'b' * 5000}').size() > 0"),
        "".join(f"cel.bind(v{i}, {f'v{i - 1} + v{i - 1}' if i else repr('x' * 64)}, "
                for i in range(40)) + "size(v39) > 0" + ")" * 40,
        f"object.items.map(x, {LOOP}.map(y, '{'a' * 500}'.replace('', '{'b' * 500}'))).size() > 0",
    ],
)  # fmt: skip
def test_what_would_never_end_costs_too_much(source: str) -> None:
    program, budget = compile(source, ENVIRONMENT), Budget()
    began = time.process_time()
    with pytest.raises(CostExceeded):
        program.evaluate({"object": BIG}, budget)
    assert time.process_time() - began < LONGEST_S
    assert budget.left == Budget().left - PER_CALL_LIMIT


def test_patterns_take_linear_time() -> None:
    program = compile("object.text.matches('^(a+)+$')", ENVIRONMENT)
    began = time.process_time()
    assert program.evaluate({"object": {"text": "a" * 50_000 + "!"}}) is False
    assert time.process_time() - began < LONGEST_S


def test_a_budget_is_shared() -> None:
    program, budget = compile(nested(4, "true"), ENVIRONMENT), Budget(90_000)
    program.evaluate({}, budget)
    assert 0 < budget.left < 70_000
    program.evaluate({}, budget)
    with pytest.raises(CostExceeded):
        program.evaluate({}, budget)
    assert budget.left == 0


@pytest.mark.parametrize(
    "source",
    [
        "(" * 300 + "1" + ")" * 300,
        "[" * 100_000,
        "!" * 99_999,
        "1" + " + 1" * 400,
        "a" * 100_001,
        "object" + ".a" * 400,
    ],
)
def test_what_is_too_deep_or_long_does_not_compile(source: str) -> None:
    with pytest.raises(CompileError):
        compile(source, ENVIRONMENT)


def test_long_conjunctions_are_not_deep() -> None:
    source = " && ".join(["object.a == 1"] * 2000)
    assert compile(source, ENVIRONMENT).evaluate({"object": {"a": 1}}) is True


WORDS = st.sampled_from(
    (
        "object", ".", "?", "(", ")", "[", "]", "{", "}", ",", ":", "+", "-", "*", "/", "%", "==",
        "!=", "<", ">=", "&&", "||", "!", "in", "1", "2u", "1.5", "'a'", "b'x'", "true", "null",
        "x", "a", "all", "exists", "map", "filter", "has", "size", "int", "string", "duration",
        "matches", "optional", "cel", "bind", "format", "type",
    )
)  # fmt: skip


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(WORDS, max_size=25))
def test_any_tokens_compile_or_are_refused(words: list[str]) -> None:
    try:
        program = compile("".join(words), ENVIRONMENT)
        program.evaluate({"object": {"a": [1, "x"], "x": None}}, Budget())
    except (CompileError, EvaluationError, CostExceeded):
        pass


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=60))
def test_any_text_compiles_or_is_refused(text: str) -> None:
    try:
        compile(text, ENVIRONMENT).evaluate({"object": {}}, Budget())
    except (CompileError, EvaluationError, CostExceeded):
        pass


DIGITS = "1" * 5000


@pytest.mark.parametrize(
    ("source", "why"),
    [
        (f"{DIGITS} == 1", "invalid int literal"),
        (f"0x{DIGITS} == 1", "invalid int literal"),
        (f"{DIGITS}u == 1u", "invalid uint literal"),
        ("1e999 == 1.0", "invalid double literal"),
        ("\u0663 == 3", "token recognition error"),
    ],
)
def test_numbers_that_fit_nowhere_do_not_compile(source: str, why: str) -> None:
    with pytest.raises(CompileError, match=why):
        compile(source, ENVIRONMENT)


@pytest.mark.parametrize(
    "source",
    [
        "duration(object + 's')",
        "duration(object)",
        "double('1e999') > 0.0",
        "[1][dyn(1.0 / 0.0)]",
        "[1][dyn(0.0 / 0.0)]",
        "{1: 2}[dyn(1.0 / 0.0)]",
        "timestamp('0001-01-01T00:00:00Z').getHours('-07:00')",
        "timestamp('9999-12-31T23:59:59Z').getFullYear('+07:00')",
        "'\u00e9'.find('\\\\C')",
    ],
)
def test_values_that_fit_nowhere_are_errors_of_the_expression(source: str) -> None:
    with pytest.raises(EvaluationError):
        compile(source, ENVIRONMENT).evaluate({"object": DIGITS})


def test_values_at_the_bounds_are_found() -> None:
    for source in (
        "!(dyn(1.0 / 0.0) in {1: 2})",
        "dyn(1.0) in {1: 2} && [5][dyn(0.0)] == 5",
        "0000000000000000000000000000000000000000000000000000007 == 7",
        f"duration('0.{DIGITS}s') < duration('112ms')",
        "double('inf') > 0.0 && 'C'.matches('\\\\\\\\C') == false",
    ):
        assert compile(source, ENVIRONMENT).evaluate({"object": 1}) is True, source


def test_what_is_no_number_is_told_in_linear_time() -> None:
    began = time.process_time()
    with pytest.raises(EvaluationError, match="invalid syntax"):
        compile("double(object)", ENVIRONMENT).evaluate({"object": "1" * 300_000 + "!"})
    assert time.process_time() - began < 5
