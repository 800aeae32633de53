"""Field errors of roles, flow control, priority and runtime classes, in upstream's words."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from sampan.api.kinds.flowcontrol.mandatory import CATCH_ALL_LEVEL, MANDATORY_SCHEMAS
from sampan.api.kinds.flowcontrol.prioritylevelconfiguration import entropy_bits
from sampan.api.resources import resource
from sampan.server.fairness.defaults import default_levels, default_schemas

RBAC, FLOW = "rbac.authorization.k8s.io", "flowcontrol.apiserver.k8s.io"
RULE: dict[str, Any] = {
    "subjects": [{"kind": "User", "user": {"name": "u"}}],
    "resourceRules": [
        {"verbs": ["get"], "apiGroups": [""], "resources": ["pods"], "namespaces": ["*"]}
    ],
}


def errors(
    kind: tuple[str, str], obj: dict[str, Any], old: dict[str, Any] | None = None
) -> list[str]:
    rules = resource(*kind).rules
    obj = copy.deepcopy({"metadata": {"name": "a", "namespace": "n"}} | obj)
    rules.default(obj)
    return [str(cause) for cause in rules.validate(obj, old)]


@pytest.mark.parametrize(
    ("kind", "rule", "expected"),
    [
        ("roles", {"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}, []),
        (
            "roles",
            {"nonResourceURLs": ["/a"], "resources": ["pods"]},
            ["rules[0].verbs: Required value: verbs must contain at least one value",
             'rules[0].nonResourceURLs: Invalid value: ["/a"]: namespaced rules cannot apply to '
             "non-resource URLs",
             'rules[0].nonResourceURLs: Invalid value: ["/a"]: rules cannot apply to both regular '
             "resources and non-resource URLs"],
        ),
        (
            "clusterroles",
            {"verbs": ["get"]},
            ["rules[0].apiGroups: Required value: resource rules must supply at least one api "
             "group",
             "rules[0].resources: Required value: resource rules must supply at least one "
             "resource"],
        ),
    ],
)  # fmt: skip
def test_rules_of_roles(kind: str, rule: dict[str, Any], expected: list[str]) -> None:
    assert errors((kind, RBAC), {"rules": [rule]}) == expected


def test_aggregation() -> None:
    path = "aggregationRule.clusterRoleSelectors"
    assert errors(("clusterroles", RBAC), {"aggregationRule": {}}) == [
        f"{path}: Required value: at least one clusterRoleSelector required if aggregationRule is "
        "non-nil"
    ]
    odd = {"clusterRoleSelectors": [{"matchExpressions": [{"key": "a", "operator": "Is"}]}]}
    assert errors(("clusterroles", RBAC), {"aggregationRule": odd}) == [
        f'{path}[0].matchExpressions[0].operator: Invalid value: "Is": not a valid selector '
        "operator"
    ]


ROLE = {"kind": "ClusterRole", "name": "r", "apiGroup": RBAC}


@pytest.mark.parametrize(
    ("kind", "change", "expected"),
    [
        (
            "clusterrolebindings",
            {"roleRef": {"kind": "Role", "apiGroup": "x", "name": "a/b"}},
            [f'roleRef.apiGroup: Unsupported value: "x": supported values: "{RBAC}"',
             'roleRef.kind: Unsupported value: "Role": supported values: "ClusterRole"',
             "roleRef.name: Invalid value: \"a/b\": may not contain '/'"],
        ),
        (
            "clusterrolebindings",
            {"subjects": [{"kind": "ServiceAccount", "name": "s", "apiGroup": "x"}]},
            ['subjects[0].apiGroup: Unsupported value: "x": supported values: ""',
             "subjects[0].namespace: Required value"],
        ),
        (
            "rolebindings",
            {"subjects": [{"kind": "User"}, {"kind": "Robot", "name": "r"}]},
            ["subjects[0].name: Required value",
             'subjects[0].name: Invalid value: "": user name cannot be empty',
             'subjects[1].kind: Unsupported value: "Robot": supported values: "ServiceAccount", '
             '"User", "Group"'],
        ),
    ],
)  # fmt: skip
def test_bindings(kind: str, change: dict[str, Any], expected: list[str]) -> None:
    assert errors((kind, RBAC), {"roleRef": ROLE} | change) == expected


def test_a_binding_keeps_its_role() -> None:
    other = ROLE | {"name": "s"}
    found = errors(("rolebindings", RBAC), {"roleRef": other}, {"roleRef": ROLE})
    assert [text.rpartition(": ")[2] for text in found] == ["cannot change roleRef"]


def schema_errors(name: str = "a", **spec: Any) -> list[str]:
    whole = {"priorityLevelConfiguration": {"name": "p"}, "rules": [RULE]} | spec
    return errors(("flowschemas", FLOW), {"metadata": {"name": name}, "spec": whole})


R = "spec.rules[0]"


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({}, []),
        (
            {"matchingPrecedence": -1},
            ["spec.matchingPrecedence: Invalid value: -1: must be a positive value"],
        ),
        (
            {"matchingPrecedence": 10001},
            ["spec.matchingPrecedence: Invalid value: 10001: must not be greater than 10000"],
        ),
        (
            {"matchingPrecedence": 1},
            ["spec.matchingPrecedence: Invalid value: 1: only the schema named 'exempt' may have "
             "matchingPrecedence 1"],
        ),
        (
            {"rules": [{"subjects": [{"kind": "User", "group": {"name": "g"}}]}]},
            [f"{R}.subjects[0].user: Required value: user is required when subject kind is 'User'",
             f"{R}.subjects[0].group: Forbidden: group is forbidden when subject kind is not "
             "'Group'",
             f"{R}: Required value: at least one of resourceRules and nonResourceRules has to be "
             "non-empty"],
        ),
        (
            {"rules": [RULE | {"subjects": [
                {"kind": "ServiceAccount", "serviceAccount": {"name": "*"}}
            ]}]},
            [f"{R}.subjects[0].serviceAccount.namespace: Required value: must specify namespace "
             "for service account"],
        ),
        (
            {"rules": [RULE | {"resourceRules": [
                {"verbs": ["*", "get"], "apiGroups": ["*", "a"], "resources": []}
            ]}]},
            [f'{R}.resourceRules[0].verbs: Invalid value: ["*","get"]: if \'*\' is present, must '
             "not specify other verbs",
             f'{R}.resourceRules[0].apiGroups: Invalid value: ["*","a"]: if \'*\' is present, must '
             "not specify other api groups",
             f"{R}.resourceRules[0].resources: Required value: resource rules must supply at least "
             "one resource",
             f"{R}.resourceRules[0].namespaces: Required value: resource rules that are not "
             "cluster scoped must supply at least one namespace"],
        ),
        (
            {"rules": [RULE | {"nonResourceRules": [
                {"verbs": ["get"], "nonResourceURLs": ["a", "/a b", "/a//b", "/a*", "/*"]}
            ]}]},
            [f'{R}.nonResourceRules[0].nonResourceURLs[{position}]: Invalid value: "{url}": {why}'
             for position, (url, why) in enumerate((
                 ("a", "must start with slash"),
                 ("/a b", "must not contain white-space"),
                 ("/a//b", "must not contain double slash"),
                 ("/a*", "wildcard can only do suffix matching"),
             ))],
        ),
    ],
)  # fmt: skip
def test_schemas(spec: dict[str, Any], expected: list[str]) -> None:
    assert schema_errors(**spec) == expected


def test_what_the_server_relies_on_is_fixed() -> None:
    schemas = dict(default_schemas())
    for name, spec in MANDATORY_SCHEMAS.items():
        assert schemas[name] == spec
        assert schema_errors(name, **spec) == []
        (said,) = schema_errors(name, **(spec | {"rules": [RULE]}))
        assert said.endswith(f"spec of '{name}' must equal the fixed value")
    assert dict(default_levels())["catch-all"] == CATCH_ALL_LEVEL


QUEUE = {"type": "Queue", "queuing": {"queues": 4, "handSize": 5, "queueLengthLimit": -1}}
Q = "spec.limited.limitResponse.queuing"


@pytest.mark.parametrize(
    ("name", "spec", "expected"),
    [
        ("a", {"type": "Limited", "limited": {"limitResponse": {"type": "Reject"}}}, []),
        (
            "a",
            {"type": "Exempt"},
            ['spec.type: Invalid value: "Exempt": type must be \'Exempt\' if and only if name is '
             "'exempt'"],
        ),
        (
            "exempt",
            {"type": "Limited"},
            ['spec.type: Invalid value: "Limited": type must be \'Exempt\' if and only if name is '
             "'exempt'",
             "spec.limited: Required value: must not be empty when type is Limited"],
        ),
        (
            "a",
            {"type": "Limited", "limited": {"limitResponse": QUEUE}},
            [f"{Q}.queueLengthLimit: Invalid value: -1: must be positive",
             f"{Q}.handSize: Invalid value: 5: should not be greater than queues (4)"],
        ),
        (
            "a",
            {"type": "Limited", "limited": {
                "nominalConcurrencyShares": -1, "lendablePercent": 101,
                "borrowingLimitPercent": -1,
                "limitResponse": {"type": "Queue", "queuing": {"queues": 512, "handSize": 8}},
            }},
            ["spec.limited.nominalConcurrencyShares: Invalid value: -1: must be a non-negative "
             "integer",
             "spec.limited.lendablePercent: Invalid value: 101: must be between 0 and 100, "
             "inclusive",
             "spec.limited.borrowingLimitPercent: Invalid value: -1: if specified, must be a "
             "non-negative integer",
             f"{Q}.handSize: Invalid value: 8: required entropy bits of deckSize 512 and handSize "
             "8 should not be greater than 60"],
        ),
    ],
)  # fmt: skip
def test_levels(name: str, spec: dict[str, Any], expected: list[str]) -> None:
    kind = ("prioritylevelconfigurations", FLOW)
    assert errors(kind, {"metadata": {"name": name}, "spec": spec}) == expected


def test_entropy_is_that_of_upstream() -> None:
    # From upstream's own tests.
    assert [entropy_bits(*pair) for pair in ((1024, 6), (512, 8), (128, 8), (10, 2))] == [
        60, 72, 56, 7,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "fields", "expected"),
    [
        ("system-node-critical", {"value": 2_000_001_000}, []),
        (
            "system-x",
            {"value": 1},
            ["metadata.name: Forbidden: priority class names with 'system-' prefix are reserved "
             "for system use only. error: system-x is not a known system priority class"],
        ),
        (
            "system-node-critical",
            {"value": 1},
            ["metadata.name: Forbidden: priority class names with 'system-' prefix are reserved "
             "for system use only. error: value of system-node-critical PriorityClass must be "
             "2000001000"],
        ),
        (
            "a",
            {"value": 1_000_000_001, "preemptionPolicy": "Sometimes"},
            ["value: Forbidden: maximum allowed value of a user defined priority is 1000000000",
             'preemptionPolicy: Unsupported value: "Sometimes": supported values: '
             '"PreemptLowerPriority", "Never"'],
        ),
    ],
)  # fmt: skip
def test_priorities(name: str, fields: dict[str, Any], expected: list[str]) -> None:
    kind = ("priorityclasses", "scheduling.k8s.io")
    assert errors(kind, {"metadata": {"name": name}} | fields) == expected


def test_a_runtime_class_keeps_its_handler() -> None:
    kind = ("runtimeclasses", "node.k8s.io")
    assert errors(kind, {"handler": "b"}, {"handler": "a"}) == [
        'handler: Invalid value: "b": field is immutable'
    ]
