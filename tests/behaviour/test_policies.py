"""Admission policies, end to end: what they refuse, warn about and change, in upstream's words."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from sampan.api.resources import resource
from sampan.server.exchange import User
from tests.behaviour.workload_kit import world
from tests.kit.cluster import Cluster, api_cluster
from tests.kit.definitions import DEFINITIONS, WIDGETS, definition, version, widget

POLICIES = "/apis/admissionregistration.k8s.io/v1/"
MAPS = "/api/v1/namespaces/default/configmaps"
RULE = {
    "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"],
    "resources": ["configmaps"],
}  # fmt: skip


@pytest.fixture
async def cluster() -> AsyncIterator[Cluster]:
    async with api_cluster() as found:
        yield found


def policy(name: str = "p", **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": name},
        "spec": {"matchConstraints": {"resourceRules": [RULE]}, **spec},
    }


def binding(name: str = "b", of: str = "p", **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": name},
        "spec": {"policyName": of, "validationActions": ["Deny"], **spec},
    }


async def put(cluster: Cluster, *objects: dict[str, Any], prefix: str = "validating") -> None:
    for obj in objects:
        tail = "bindings" if obj["kind"].endswith("Binding") else ""
        plural = f"{prefix}admissionpolic{'y' if tail else 'ies'}{tail}"
        answer = await cluster.http("POST", POLICIES + plural, obj)
        assert answer.status == 201, answer.json


def config_map(name: str = "x", **data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


async def test_a_policy_denies_from_the_next_write_on(cluster: Cluster) -> None:
    await put(cluster, policy(validations=[{"expression": "has(object.data.a)"}]))
    assert (await cluster.http("POST", MAPS, config_map("free"))).status == 201
    await put(cluster, binding())
    answer = await cluster.http("POST", MAPS, config_map(b="1"))
    assert answer.status == 422
    assert answer.json["reason"] == "Invalid"
    assert answer.message == (
        "configmaps \"x\" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied"
        " request: failed expression: has(object.data.a)"
    )
    assert (await cluster.http("POST", MAPS, config_map(a="1"))).status == 201
    await cluster.http("DELETE", f"{POLICIES}validatingadmissionpolicybindings/b")
    assert (await cluster.http("POST", MAPS, config_map("y", b="1"))).status == 201


async def test_messages_and_reasons(cluster: Cluster) -> None:
    validation = {
        "expression": "object.data.n != '1'", "reason": "Forbidden", "message": "plain",
        "messageExpression": "'n of ' + object.metadata.name",
    }  # fmt: skip
    await put(cluster, policy(validations=[validation]), binding())
    answer = await cluster.http("POST", MAPS, config_map(n="1"))
    assert answer.status == 403
    assert answer.message.endswith("denied request: n of x")


async def test_what_fails_denies_unless_the_policy_says_ignore(cluster: Cluster) -> None:
    await put(cluster, policy(validations=[{"expression": "object.data.gone == 'x'"}]), binding())
    answer = await cluster.http("POST", MAPS, config_map(a="1"))
    assert answer.message.endswith(
        "expression 'object.data.gone == 'x'' resulted in error: no such key: gone"
    )
    path = f"{POLICIES}validatingadmissionpolicies/p"
    patch = {"spec": {"failurePolicy": "Ignore"}}
    kind = "application/merge-patch+json"
    assert (await cluster.http("PATCH", path, patch, content_type=kind)).status == 200
    assert (await cluster.http("POST", MAPS, config_map(a="1"))).status == 201


async def test_variables_conditions_params_and_authorizer(cluster: Cluster) -> None:
    await cluster.http("POST", MAPS, config_map("limits", most="2"))
    await put(
        cluster,
        policy(
            paramKind={"apiVersion": "v1", "kind": "ConfigMap"},
            variables=[
                {"name": "most", "expression": "int(params.data.most)"},
                {"name": "fits", "expression": "size(object.data) <= variables.most"},
            ],
            matchConditions=[{"name": "named", "expression": "request.name != 'free'"}],
            validations=[
                {
                    "expression": "variables.fits || authorizer.group('').resource('nodes')"
                    ".check('delete').allowed()",
                    "messageExpression": "'at most ' + string(variables.most)",
                }
            ],
        ),
        binding(paramRef={"name": "limits", "namespace": "default",
                          "parameterNotFoundAction": "Deny"}),
    )  # fmt: skip
    full = {"a": "1", "b": "2", "c": "3"}
    some = User("someone", ("writers", "system:authenticated"))
    await allow(cluster, some)
    answer = await cluster.http("POST", MAPS, config_map(**full), user=some)
    assert answer.message.endswith("denied request: at most 2")
    assert (await cluster.http("POST", MAPS, config_map("free", **full), user=some)).status == 201
    assert (await cluster.http("POST", MAPS, config_map("mine", **full))).status == 201
    await cluster.http("DELETE", f"{MAPS}/limits")
    answer = await cluster.http("POST", MAPS, config_map("y"), user=some)
    assert answer.message.endswith(
        "failed to configure binding: no params found for policy binding with `Deny`"
        " parameterNotFoundAction"
    )


async def allow(cluster: Cluster, user: User) -> None:
    rbac = "/apis/rbac.authorization.k8s.io/v1/clusterrole"
    rules = [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["*"]}]
    await cluster.http("POST", f"{rbac}s", {"metadata": {"name": "maps"}, "rules": rules})
    subject = {"kind": "User", "name": user.name, "apiGroup": "rbac.authorization.k8s.io"}
    reference = {"kind": "ClusterRole", "name": "maps", "apiGroup": "rbac.authorization.k8s.io"}
    body = {"metadata": {"name": "maps"}, "subjects": [subject], "roleRef": reference}
    await cluster.http("POST", f"{rbac}bindings", body)


async def test_warn_and_selectors(cluster: Cluster) -> None:
    await put(
        cluster,
        policy(validations=[{"expression": "false", "message": "no"}]),
        binding(
            validationActions=["Warn", "Audit"],
            matchResources={"objectSelector": {"matchLabels": {"a": "b"}}},
        ),
    )
    answer = await cluster.http("POST", MAPS, config_map("plain"))
    assert answer.status == 201
    assert "Warning" not in answer.headers
    labelled = config_map()
    labelled["metadata"]["labels"] = {"a": "b"}
    answer = await cluster.http("POST", MAPS, labelled)
    assert answer.status == 201
    assert (
        "Validation failed for ValidatingAdmissionPolicy 'p' with binding 'b': no"
        in answer.headers["Warning"]
    )


async def test_an_expression_costs_at_most_its_budget(cluster: Cluster) -> None:
    loop = "[0,1,2,3,4,5,6,7,8,9]"
    deep = "true"
    for name in "abcdef":
        deep = f"{loop}.all({name}, {deep})"
    await put(cluster, policy(validations=[{"expression": deep}]), binding())
    answer = await cluster.http("POST", MAPS, config_map())
    assert answer.status == 422
    assert "operation cancelled: actual cost limit exceeded" in answer.message


@pytest.mark.parametrize(
    ("expression", "error"),
    [
        ("object.x", "must evaluate to bool but got dyn"),
        ("nothing == 1", "undeclared reference to 'nothing' (in container '')"),
        ("object.x +", "Syntax error: mismatched input '<EOF>'"),
        ("request.nothing == ''", "undefined field 'nothing'"),
    ],
)
async def test_expressions_are_compiled_when_written(
    cluster: Cluster, expression: str, error: str
) -> None:
    body = policy(validations=[{"expression": expression}])
    answer = await cluster.http("POST", f"{POLICIES}validatingadmissionpolicies", body)
    assert answer.status == 422
    assert "spec.validations[0].expression: Invalid value: " in answer.message
    assert error in answer.message


def mutating(name: str = "m", **spec: Any) -> list[dict[str, Any]]:
    own = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingAdmissionPolicy",
        "metadata": {"name": name},
        "spec": {
            "matchConstraints": {"resourceRules": [RULE]},
            "reinvocationPolicy": "Never",
            **spec,
        },
    }
    bound = {**binding(name, name), "kind": "MutatingAdmissionPolicyBinding"}
    bound["spec"].pop("validationActions")
    return [own, bound]


async def test_a_mutating_policy_applies_and_patches(cluster: Cluster) -> None:
    apply = (
        "Object{metadata: Object.metadata{labels: {'by': request.userInfo.username}},"
        " data: {'seen': string(size(object.data))}}"
    )
    patch = (
        "[JSONPatch{op: 'add', path: '/metadata/labels/' + jsonpatch.escapeKey('a/b'), value: 'c'}]"
    )
    await put(
        cluster,
        *mutating(
            mutations=[
                {"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": apply}},
                {"patchType": "JSONPatch", "jsonPatch": {"expression": patch}},
            ]
        ),
        prefix="mutating",
    )
    answer = await cluster.http("POST", MAPS, config_map(a="1"))
    assert answer.status == 201, answer.json
    assert answer.json["data"] == {"a": "1", "seen": "1"}
    assert answer.json["metadata"]["labels"] == {"by": "admin", "a/b": "c"}


async def test_a_mutating_policy_that_fails_refuses(cluster: Cluster) -> None:
    bad = "Object{metadata: Object.metadata{name: 'other'}}"
    mutation = {"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": bad}}
    await put(cluster, *mutating(mutations=[mutation]), prefix="mutating")
    answer = await cluster.http("POST", MAPS, config_map())
    assert answer.status == 422
    assert "may not mutate metadata.name" in answer.message


async def test_containers_are_merged_by_name(cluster: Cluster) -> None:
    add = (
        "Object{spec: Object.spec{initContainers: [Object.spec.initContainers{name: 'mesh',"
        " image: 'm', restartPolicy: 'Always'}]}}"
    )
    mutation = {"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": add}}
    rule = {**RULE, "resources": ["pods"], "operations": ["CREATE"]}
    have = "object.spec.initContainers"
    condition = f"!has({have}) || {have}.all(c, c.name != 'mesh')"
    await put(
        cluster,
        *mutating(
            matchConstraints={"resourceRules": [rule]},
            matchConditions=[{"name": "once", "expression": condition}],
            mutations=[mutation],
        ),
        prefix="mutating",
    )
    account = {"metadata": {"name": "default"}}
    await cluster.http("POST", "/api/v1/namespaces/default/serviceaccounts", account)
    pod = {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    answer = await cluster.http("POST", "/api/v1/namespaces/default/pods", pod)
    assert answer.status == 201, answer.json
    assert [item["name"] for item in answer.json["spec"]["initContainers"]] == ["mesh"]


async def test_the_status_says_what_cannot_be_right() -> None:
    async with world() as there:
        rule = {**RULE, "resources": ["configmaps"]}
        body = policy(
            matchConstraints={"resourceRules": [rule]},
            validations=[{"expression": "object.date.size() < 3"}],
        )
        group = "admissionregistration.k8s.io"
        policies = resource("validatingadmissionpolicies", group)
        cache = there.cache(policies.plural, group)
        await there.client.create(policies, body)

        def checked() -> Any:
            found = cache.get("", "p") or {}
            return (found.get("status") or {}).get("typeChecking")

        warnings = (await there.until(checked))["expressionWarnings"]
        assert warnings[0]["fieldRef"] == "spec.validations[0].expression"
        assert (
            "/v1, Kind=ConfigMap: ERROR: <input>:1:7: undefined field 'date'"
            in (warnings[0]["warning"])
        )


async def test_the_status_is_made_anew_when_a_definition_comes() -> None:
    async with world() as there:
        rule = {"apiGroups": ["example.com"], "apiVersions": ["v1"], "resources": ["widgets"],
                "operations": ["CREATE"]}  # fmt: skip
        body = policy(
            matchConstraints={"resourceRules": [rule]},
            validations=[{"expression": "object.spec.size == 'big'"}],
        )
        group = "admissionregistration.k8s.io"
        policies = resource("validatingadmissionpolicies", group)
        cache = there.cache(policies.plural, group)
        await there.client.create(policies, body)

        def status() -> Any:
            return (cache.get("", "p") or {}).get("status") or {}

        await there.until(lambda: status().get("observedGeneration") == 1)
        assert not status()["typeChecking"]
        number = {"type": "object", "properties": {"size": {"type": "integer"}}}
        made = await there.cluster.http("POST", DEFINITIONS, definition(version(spec=number)))
        assert made.status == 201, made.message
        warnings = await there.until(lambda: status()["typeChecking"].get("expressionWarnings"))
        assert (
            "no matching overload for '_==_' applied to '(int, string)'" in warnings[0]["warning"]
        )
        body = made.json
        body["spec"]["versions"] = [
            version(spec={"type": "object", "properties": {"size": {"type": "string"}}})
        ]
        await there.cluster.http("PUT", f"{DEFINITIONS}/widgets.example.com", body)
        await there.until(lambda: not status()["typeChecking"])


LISTS = {
    "type": "object",
    "properties": {
        "ports": {
            "type": "array",
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["number", "protocol"],
            "items": {
                "type": "object",
                "required": ["number"],
                "properties": {
                    "number": {"type": "integer"},
                    "protocol": {"type": "string", "default": "TCP"},
                    "note": {"type": "string"},
                },
            },
        },
        "tags": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
        "steps": {"type": "array", "items": {"type": "string"}},
        "whole": {
            "type": "object",
            "x-kubernetes-map-type": "atomic",
            "additionalProperties": {"type": "string"},
        },
    },
}  # fmt: skip


async def test_custom_resources_are_merged_by_their_schema(cluster: Cluster) -> None:
    made = await cluster.http("POST", DEFINITIONS, definition(version(spec=LISTS)))
    assert made.status == 201, made.message
    rule = {**RULE, "apiGroups": ["example.com"], "resources": ["widgets"]}
    where = {"matchConstraints": {"resourceRules": [rule]}}
    apply = (
        "Object{metadata: Object.metadata{labels: {'by': 'policy'}}, spec: Object.spec{"
        "ports: [Object.spec.ports{number: 80, note: 'web'},"
        " Object.spec.ports{number: 80, protocol: 'UDP'}], tags: ['b', 'c']}}"
    )
    mutation = {"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": apply}}
    await put(cluster, *mutating(mutations=[mutation], **where), prefix="mutating")
    given = widget(ports=[{"number": 443}, {"number": 80}], tags=["a", "b"])
    given["metadata"]["labels"] = {"own": "x"}
    answer = await cluster.http("POST", WIDGETS, given)
    assert answer.status == 201, answer.json
    assert answer.json["spec"] == {
        "ports": [
            {"number": 443, "protocol": "TCP"},
            {"number": 80, "protocol": "TCP", "note": "web"},
            {"number": 80, "protocol": "UDP"},
        ],
        "tags": ["a", "b", "c"],
    }
    assert answer.json["metadata"]["labels"] == {"own": "x", "by": "policy"}


ATOMIC = "invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: "
UNKNOWN = "failed to convert patch object to typed object: "


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("steps: ['x']", f"{ATOMIC}.spec.steps"),
        ("whole: {'a': 'b'}", f"{ATOMIC}.spec.whole"),
        ("nope: 1", f"{UNKNOWN}.spec.nope: field not declared in schema"),
    ],
)
async def test_what_an_apply_configuration_may_not_say(
    cluster: Cluster, spec: str, words: str
) -> None:
    await cluster.http("POST", DEFINITIONS, definition(version(spec=LISTS)))
    rule = {**RULE, "apiGroups": ["example.com"], "resources": ["widgets"]}
    apply = f"Object{{spec: Object.spec{{{spec}}}}}"
    mutation = {"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": apply}}
    match = {"matchConstraints": {"resourceRules": [rule]}}
    await put(cluster, *mutating(mutations=[mutation], **match), prefix="mutating")
    answer = await cluster.http("POST", WIDGETS, widget())
    assert answer.status == 422
    assert answer.message.endswith(f"denied request: error applying patch: {words}")
