"""Field errors of webhook configurations and admission policies, in upstream's words."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from sampan.api.resources import resource

GROUP = "admissionregistration.k8s.io"
HOOKS = resource("validatingwebhookconfigurations", GROUP).rules
MUTATING = resource("mutatingwebhookconfigurations", GROUP).rules
POLICY = resource("validatingadmissionpolicies", GROUP).rules
MUTATION = resource("mutatingadmissionpolicies", GROUP).rules
BINDING = resource("validatingadmissionpolicybindings", GROUP).rules
RULE: dict[str, Any] = {
    "operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"],
}  # fmt: skip
HOOK: dict[str, Any] = {
    "name": "a.b.c", "rules": [RULE], "sideEffects": "None", "admissionReviewVersions": ["v1"],
    "clientConfig": {"url": "https://e.com"},
}  # fmt: skip
H, R = "webhooks[0]", "webhooks[0].rules[0]"
SUBDOMAIN = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or "
    "'.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used "
    "for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
)


def hook_errors(*hooks: dict[str, Any], rules: Any = HOOKS) -> list[str]:
    obj = {"metadata": {"name": "a"}, "webhooks": copy.deepcopy(list(hooks))}
    rules.default(obj)
    return [str(cause) for cause in rules.validate(obj, None)]


def ruled(**rule: Any) -> dict[str, Any]:
    return {"rules": [RULE | rule]}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, []),
        ({"name": ""}, [f"{H}.name: Required value"]),
        (
            {"name": "a.b"},
            [f'{H}.name: Invalid value: "a.b": should be a domain with at least three segments '
             "separated by dots"],
        ),
        ({"name": "A.b.c"}, [f'{H}.name: Invalid value: "A.b.c": {SUBDOMAIN}']),
        (
            ruled(operations=["*", "CREATE"], apiVersions=["*", "v1"]),
            [f'{R}.operations: Invalid value: ["*","CREATE"]: if \'*\' is present, must not '
             "specify other operations",
             f'{R}.apiVersions: Invalid value: ["*","v1"]: if \'*\' is present, must not specify '
             "other API versions"],
        ),
        (
            ruled(operations=["READ"], apiVersions=[""], scope="All"),
            [f'{R}.operations[0]: Unsupported value: "READ": supported values: "*", "CONNECT", '
             '"CREATE", "DELETE", "UPDATE"',
             f"{R}.apiVersions[0]: Required value",
             f'{R}.scope: Unsupported value: "All": supported values: "*", "Cluster", '
             '"Namespaced"'],
        ),
        (
            ruled(resources=["pods/*", "pods/status", "*/scale", "x/scale", ""]),
            [f"{R}.resources[1]: Invalid value: \"pods/status\": if 'pods/*' is present, must not "
             "specify pods/status",
             f"{R}.resources[3]: Invalid value: \"x/scale\": if '*/scale' is present, must not "
             "specify x/scale",
             f"{R}.resources[4]: Required value"],
        ),
        (
            ruled(resources=["*/*", "pods", "*"]),
            [f'{R}.resources: Invalid value: ["*/*","pods","*"]: if \'*/*\' is present, must not '
             "specify other resources",
             f'{R}.resources: Invalid value: ["*/*","pods","*"]: if \'*\' is present, must not '
             "specify other resources without subresources"],
        ),
        (
            {"sideEffects": None},
            [f"{H}.sideEffects: Required value: must specify one of None, NoneOnDryRun"],
        ),
        (
            {"timeoutSeconds": 31},
            [f"{H}.timeoutSeconds: Invalid value: 31: the timeout value must be between 1 and 30 "
             "seconds"],
        ),
        (
            {"admissionReviewVersions": ["v2", "v2"]},
            [f'{H}.admissionReviewVersions[1]: Invalid value: "v2": duplicate version',
             f'{H}.admissionReviewVersions: Invalid value: ["v2","v2"]: must include at least one '
             "of v1, v1beta1"],
        ),
        (
            {"clientConfig": {}},
            [f"{H}.clientConfig: Required value: exactly one of url or service is required"],
        ),
        (
            {"matchConditions": [{"name": "a", "expression": "true"}, {"name": "a"}]},
            [f"{H}.matchConditions[1].expression: Required value",
             f'{H}.matchConditions[1].name: Duplicate value: "a"'],
        ),
    ],
)  # fmt: skip
def test_webhooks(change: dict[str, Any], expected: list[str]) -> None:
    assert hook_errors(HOOK | change) == expected


def test_webhooks_together() -> None:
    assert hook_errors(HOOK, HOOK) == ['webhooks[1].name: Duplicate value: "a.b.c"']
    assert hook_errors(HOOK | {"reinvocationPolicy": "Often"}, rules=MUTATING) == [
        'webhooks[0].reinvocationPolicy: Unsupported value: "Often": supported values: '
        '"IfNeeded", "Never"'
    ]


def policy_errors(**spec: Any) -> list[str]:
    whole = {"validations": [{"expression": "true"}], "matchConstraints": {"resourceRules": [RULE]}}
    obj = {"metadata": {"name": "p.e.com"}, "spec": copy.deepcopy(whole | spec)}
    POLICY.default(obj)
    return [str(cause) for cause in POLICY.validate(obj, None)]


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({}, []),
        # Upstream asks nobody for the message of an expression of several lines.
        ({"validations": [{"expression": "true\n&& true"}]}, []),
        (
            {"validations": [{"expression": " ", "message": "a\rb", "reason": "Gone"}]},
            ["spec.validations[0].expression: Required value: expression is not specified",
             'spec.validations[0].message: Invalid value: "a\\rb": message must not contain line '
             "breaks",
             'spec.validations[0].reason: Unsupported value: "Gone": supported values: '
             '"Forbidden", "Invalid", "RequestEntityTooLarge", "Unauthorized"'],
        ),
        (
            {"paramKind": {"apiVersion": "a/b/c", "kind": "x y"}},
            ['spec.paramKind.apiVersion: Invalid value: "a/b/c": unexpected GroupVersion string: '
             "a/b/c",
             'spec.paramKind.kind: Invalid value: "x y": may have mixed case, but should otherwise '
             "match: a DNS-1035 label must consist of lower case alphanumeric characters or '-', "
             "start with an alphabetic character, and end with an alphanumeric character (e.g. "
             "'my-name',  or 'abc-123', regex used for validation is "
             "'[a-z]([-a-z0-9]*[a-z0-9])?')"],
        ),
        (
            {"paramKind": {"apiVersion": "e.com/"}},
            ['spec.paramKind.apiVersion: Invalid value: "e.com/": version must be specified',
             "spec.paramKind.kind: Required value"],
        ),
        (
            {"matchConstraints": {}},
            ["spec.matchConstraints.resourceRules: Required value"],
        ),
        (
            {"matchConstraints": {"resourceRules": [RULE | {"resourceNames": ["a/b", "c", "c"]}]}},
            ["spec.matchConstraints.resourceRules[0].resourceNames[0]: Invalid value: \"a/b\": may "
             "not contain '/'",
             'spec.matchConstraints.resourceRules[0].resourceNames[2]: Duplicate value: "c"'],
        ),
        (
            {"validations": [], "auditAnnotations": []},
            [f"spec.{name}: Required value: validations or auditAnnotations must contain at least "
             "one item" for name in ("validations", "auditAnnotations")],
        ),
        (
            {"auditAnnotations": [{"key": "a b", "valueExpression": "'x'"}]},
            ['spec.auditAnnotations[0].key: Invalid value: "p.e.com/a b": name part must consist '
             "of alphanumeric characters, '-', '_' or '.', and must start and end with an "
             "alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for "
             "validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"],
        ),
        (
            {"auditAnnotations": [{"key": "a", "valueExpression": "'" + "x" * 5120 + "'"}]},
            ["spec.auditAnnotations[0].valueExpression: Required value: must not exceed 5120 bytes "
             "in length"],
        ),
    ],
)  # fmt: skip
def test_policies(spec: dict[str, Any], expected: list[str]) -> None:
    assert policy_errors(**spec) == expected


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({}, []),
        ({"policyName": ""}, ["spec.policyName: Required value"]),
        ({"policyName": "A"}, [f'spec.policyName: Invalid value: "A": {SUBDOMAIN}']),
        (
            {"paramRef": {"name": "a/b", "selector": {}}},
            ["spec.paramRef.name: Invalid value: \"a/b\": may not contain '/'",
             "spec.paramRef.name: Forbidden: name and selector are mutually exclusive",
             "spec.paramRef.selector: Forbidden: name and selector are mutually exclusive",
             "spec.paramRef.parameterNotFoundAction: Required value"],
        ),
        (
            {"paramRef": {"parameterNotFoundAction": "Guess"}},
            ["spec.paramRef: Required value: one of name or selector must be specified",
             'spec.paramRef.parameterNotFoundAction: Unsupported value: "Guess": supported '
             'values: "Deny", "Allow"'],
        ),
        (
            {"matchResources": {"matchPolicy": "Loose"}},
            ['spec.matchResouces.matchPolicy: Unsupported value: "Loose": supported values: '
             '"Equivalent", "Exact"'],
        ),
        (
            {"validationActions": ["Deny", "Warn", "Warn"]},
            ['spec.validationActions[2]: Duplicate value: "Warn"',
             'spec.validationActions: Invalid value: ["Deny","Warn","Warn"]: must not contain both '
             "Deny and Warn (repeating the same validation failure information in the API response "
             "and headers serves no purpose)"],
        ),
        (
            {"validationActions": []},
            ["spec.validationActions: Required value: at least one validation action is "
             "required"],
        ),
    ],
)  # fmt: skip
def test_bindings(spec: dict[str, Any], expected: list[str]) -> None:
    whole = {"policyName": "p", "validationActions": ["Deny"]}
    obj = {"metadata": {"name": "b"}, "spec": whole | spec}
    BINDING.default(obj)
    assert [str(cause) for cause in BINDING.validate(obj, None)] == expected


REMOVE = '[JSONPatch{op: "remove", path: "/metadata/labels/a"}]'
PATCH = {"patchType": "JSONPatch", "jsonPatch": {"expression": REMOVE}}


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({}, []),
        (
            {"mutations": [], "reinvocationPolicy": ""},
            ["spec.mutations: Required value: mutations must contain at least one item",
             "spec.reinvocationPolicy: Required value"],
        ),
        (
            {"mutations": [{}, {"patchType": "Merge"}]},
            ["spec.mutations[0].patchType: Required value",
             'spec.mutations[1].patchType: Unsupported value: "Merge": supported values: '
             '"ApplyConfiguration", "JSONPatch"'],
        ),
        (
            {"mutations": [PATCH | {"patchType": "ApplyConfiguration"}]},
            ['spec.mutations[0].jsonPatch: Invalid value: "{jsonPatch}": must not be specified '
             "when patchType is ApplyConfiguration",
             "spec.mutations[0].applyConfiguration: Required value: must be specified when "
             "patchType is ApplyConfiguration"],
        ),
        (
            {"mutations": [PATCH | {"jsonPatch": {"expression": " "}}]},
            ["spec.mutations[0].jsonPatch.expression: Required value"],
        ),
        (
            {"matchConstraints": {"resourceRules": [RULE | {"operations": ["DELETE"]}]}},
            ['spec.matchConstraints.resourceRules.operations: Unsupported value: "DELETE": '
             'supported values: "*", "CONNECT", "CREATE", "UPDATE"'],
        ),
    ],
)  # fmt: skip
def test_mutating_policies(spec: dict[str, Any], expected: list[str]) -> None:
    whole = {
        "matchConstraints": {"resourceRules": [RULE]}, "mutations": [PATCH],
        "reinvocationPolicy": "Never",
    }  # fmt: skip
    obj = {"metadata": {"name": "p"}, "spec": copy.deepcopy(whole | spec)}
    MUTATION.default(obj)
    assert [str(cause) for cause in MUTATION.validate(obj, None)] == expected
