"""RBAC matching and covering."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.server.authz.rules import (
    compile_rule,
    compile_rules,
    describe_rule,
    matches_path,
    matches_resource,
    uncovered,
)


def rule(verbs: str, groups: str, resources: str, names: str = "") -> dict[str, Any]:
    raw: dict[str, Any] = {
        "verbs": verbs.split(),
        "apiGroups": ["" if group == "core" else group for group in groups.split()],
        "resources": resources.split(),
    }
    if names:
        raw["resourceNames"] = names.split()
    return raw


@pytest.mark.parametrize(
    ("raw", "asked", "expected"),
    [
        (rule("get", "core", "pods"), ("get", "", "pods", ""), True),
        (rule("get", "core", "pods"), ("list", "", "pods", ""), False),
        (rule("get", "core", "pods"), ("get", "apps", "pods", ""), False),
        (rule("get", "core", "pods"), ("get", "", "pods", "log"), False),
        (rule("get", "core", "pods/log"), ("get", "", "pods", "log"), True),
        (rule("get", "core", "pods/log"), ("get", "", "pods", ""), False),
        (rule("get", "core", "pods/*"), ("get", "", "pods", "log"), False),
        (rule("get", "core", "*/log"), ("get", "", "pods", "log"), True),
        (rule("get", "core", "*/log"), ("get", "", "pods", ""), False),
        (rule("get", "core", "*"), ("get", "", "pods", "exec"), True),
        (rule("*", "*", "*"), ("impersonate", "x", "y", "z"), True),
        (rule("get", "*", "deployments"), ("get", "apps", "deployments", ""), True),
    ],
)
def test_matches_as_upstream(
    raw: dict[str, Any], asked: tuple[str, str, str, str], expected: bool
) -> None:
    verb, group, resource, subresource = asked
    assert matches_resource(compile_rule(raw), verb, group, resource, subresource) is expected


@pytest.mark.parametrize(
    ("urls", "path", "expected"),
    [
        (["/healthz"], "/healthz", True),
        (["/healthz"], "/healthz/x", False),
        (["/healthz/*"], "/healthz/x/y", True),
        (["/healthz/*"], "/healthz", False),
        (["*"], "/anything", True),
        (["/a*c"], "/abc", False),
    ],
)
def test_paths(urls: list[str], path: str, expected: bool) -> None:
    compiled = compile_rule({"verbs": ["get"], "nonResourceURLs": urls})
    assert matches_path(compiled, "get", path) is expected
    assert not matches_path(compiled, "post", path)


def test_what_is_missing_is_named_and_compacted() -> None:
    held = compile_rules([rule("get list", "core", "pods")])
    wanted = compile_rules([rule("get list watch delete", "core", "pods")])
    missing = uncovered(held, wanted)
    assert [describe_rule(raw) for raw in missing] == [
        '{APIGroups:[""], Resources:["pods"], Verbs:["watch" "delete"]}'
    ]


@pytest.mark.parametrize(
    ("held", "wanted"),
    [
        (rule("get", "core", "*"), rule("get", "core", "pods pods/log")),
        (rule("*", "*", "*"), rule("*", "*", "*", "a")),
        (rule("get", "core", "pods"), rule("get", "core", "pods", "a b")),
        (rule("get", "core", "*/scale"), rule("get", "core", "things/scale")),
    ],
)
def test_covered(held: dict[str, Any], wanted: dict[str, Any]) -> None:
    assert uncovered(compile_rules([held]), compile_rules([wanted])) == []


@pytest.mark.parametrize(
    ("held", "wanted"),
    [
        (rule("get", "core", "pods", "a"), rule("get", "core", "pods")),
        (rule("get", "core", "pods", "a"), rule("get", "core", "pods", "a b")),
        (rule("get list", "core", "pods"), rule("*", "core", "pods")),
        (rule("get", "core", "pods secrets"), rule("get", "core", "*")),
        (rule("get", "core apps", "pods"), rule("get", "*", "pods")),
    ],
)
def test_not_covered(held: dict[str, Any], wanted: dict[str, Any]) -> None:
    assert uncovered(compile_rules([held]), compile_rules([wanted])) != []


VERBS, GROUPS, NAMES = ("get", "list", "*"), ("", "apps", "*"), ("", "a", "b")
RESOURCES = ("pods", "pods/log", "*/log", "*")


def subsets(values: tuple[str, ...]) -> st.SearchStrategy[list[str]]:
    return st.lists(st.sampled_from(values), min_size=1, max_size=2, unique=True)


RULES = st.lists(
    st.fixed_dictionaries(
        {
            "verbs": subsets(VERBS),
            "apiGroups": subsets(GROUPS),
            "resources": subsets(RESOURCES),
            "resourceNames": st.lists(st.sampled_from(("a", "b")), max_size=2, unique=True),
        }
    ),
    max_size=3,
)


def granted(rules: list[dict[str, Any]]) -> set[tuple[str, str, str, str, str]]:
    """Every concrete request the rules allow, in a world a bit larger than what they name."""
    world = product(
        ("get", "list", "other"),
        ("", "apps", "other"),
        ("pods", "other"),
        ("", "log", "other"),
        ("", "a", "b", "other"),
    )
    return {
        (verb, group, resource, subresource, name)
        for verb, group, resource, subresource, name in world
        for item in compile_rules(rules)
        if matches_resource(item, verb, group, resource, subresource)
        and (not item.names or name in item.names)
    }


@given(RULES, RULES)
def test_covered_rules_grant_nothing_new(
    held: list[dict[str, Any]], wanted: list[dict[str, Any]]
) -> None:
    if not uncovered(compile_rules(held), compile_rules(wanted)):
        assert granted(wanted) <= granted(held)
