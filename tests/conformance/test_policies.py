"""Admission policies (as upstream's validatingadmissionpolicy.go and mutatingadmissionpolicy.go in
test/e2e/apimachinery)."""

from __future__ import annotations

from typing import Any

from .bench import CORE, Bench, Obj, deployment, die, discovered, live_through

GROUP = "admissionregistration.k8s.io"
BASE = f"/apis/{GROUP}/v1"
LABEL = {"policies": "true"}
HERE = "/apis/apps/v1/namespaces/marked/deployments"
RULE = {
    "operations": ["CREATE", "UPDATE"],
    "apiGroups": ["apps"],
    "apiVersions": ["v1"],
    "resources": ["deployments"],
}
MATCHING = {"namespaceSelector": {"matchLabels": LABEL}, "resourceRules": [RULE]}


async def installed(bench: Bench, kind: str, spec: Obj, **binding: Any) -> None:
    """A policy, bound in a namespace that is marked for it."""
    namespace = {"metadata": {"name": "marked", "labels": LABEL}}
    await bench.create(f"{CORE}/namespaces", namespace)
    plural = f"{kind}admissionpolicies"
    body = {"metadata": {"name": "p.example.com"}, "spec": {"matchConstraints": MATCHING, **spec}}
    await bench.create(f"{BASE}/{plural}", body)
    chosen = {"namespaceSelector": {"matchLabels": LABEL}}
    bound = {"policyName": "p.example.com", "matchResources": chosen, **binding}
    await bench.create(
        f"{BASE}/{kind}admissionpolicybindings", {"metadata": {"name": "b"}, "spec": bound}
    )


async def denied(bench: Bench, replicas: int, words: str) -> None:
    answer = await bench.refused(422, "POST", HERE, deployment(replicas=replicas))
    assert words in answer.message


async def test_a_policy_validates_deployments(bench: Bench) -> None:
    validations = [
        {"expression": "object.spec.replicas > 1", "messageExpression": "'wants more than 1'"},
        {"expression": "namespaceObject.metadata.name == 'marked'", "message": "Internal error!"},
    ]
    spec = {"failurePolicy": "Fail", "validations": validations}
    await installed(bench, "validating", spec, validationActions=["Deny"])
    await denied(bench, 1, "wants more than 1")
    await bench.create(HERE, deployment(replicas=2))
    # Not where the binding does not choose the namespace.
    await bench.create("/apis/apps/v1/namespaces/default/deployments", deployment(replicas=1))


async def test_expressions_refer_to_variables(bench: Bench) -> None:
    spec = {
        "variables": [
            {"name": "replicas", "expression": "object.spec.replicas"},
            {"name": "oddReplicas", "expression": "variables.replicas % 2 == 1"},
        ],
        "validations": [
            {"expression": "variables.replicas > 1"},
            {"expression": "variables.oddReplicas"},
        ],
    }
    await installed(bench, "validating", spec, validationActions=["Deny"])
    await denied(bench, 1, "failed expression: variables.replicas > 1")
    await denied(bench, 4, "failed expression: variables.oddReplicas")
    await bench.create(HERE, deployment(replicas=3))


async def statuses(bench: Bench, path: str) -> None:
    """get, patch and update of the status of a policy."""
    read = await bench.get(f"{path}/status")
    condition = {"type": "PatchStatusFailed", "status": "False", "reason": "e2e",
                 "message": "Set", "lastTransitionTime": "2026-01-01T00:00:00Z"}  # fmt: skip
    patched = await bench.patch(f"{path}/status", {"status": {"conditions": [condition]}})
    assert condition in patched["status"]["conditions"]
    assert patched["metadata"]["uid"] == read["metadata"]["uid"]
    patched["status"]["conditions"] = [{**condition, "type": "StatusUpdated"}]
    updated = await bench.put(f"{path}/status", patched)
    assert [item["type"] for item in updated["status"]["conditions"]] == ["StatusUpdated"]


async def test_validating_policies(bench: Bench) -> None:
    plural = "validatingadmissionpolicies"
    await discovered(bench, GROUP, "v1", plural, f"{plural}/status")
    spec = {"validations": [{"expression": "object.spec.replicas <= 100"}],
            "matchConstraints": MATCHING}  # fmt: skip
    name = await live_through(
        bench,
        f"{BASE}/{plural}",
        {"spec": spec},
        {"spec": {"failurePolicy": "Ignore"}},
        {"spec": {"failurePolicy": "Fail"}},
    )
    await statuses(bench, f"{BASE}/{plural}/{name}")
    await die(bench, f"{BASE}/{plural}", name)


async def test_bindings_of_validating_policies(bench: Bench) -> None:
    path = f"{BASE}/validatingadmissionpolicybindings"
    await discovered(bench, GROUP, "v1", "validatingadmissionpolicybindings")
    spec = {"policyName": "replicalimit-policy.example.com", "validationActions": ["Deny"]}
    change = {"spec": {"validationActions": ["Warn", "Audit"]}}
    back = {"spec": {"validationActions": ["Deny"]}}
    await die(bench, path, await live_through(bench, path, {"spec": spec}, change, back))


async def test_a_policy_mutates_deployments(bench: Bench) -> None:
    mutation = {
        "patchType": "ApplyConfiguration",
        "applyConfiguration": {"expression": "Object{spec: Object.spec{replicas: 1337}}"},
    }
    await installed(bench, "mutating", {"reinvocationPolicy": "Never", "mutations": [mutation]})
    # Held back from making all of them.
    made = await bench.create(HERE, {**deployment(), "spec": {**deployment()["spec"],
                                                              "paused": True}})  # fmt: skip
    assert made["spec"]["replicas"] == 1337


async def test_a_policy_annotates_deployments(bench: Bench) -> None:
    expression = (
        'Object{metadata: Object.metadata{annotations: {"mutated-by": "admission-policy"}}}'
    )
    mutation = {
        "patchType": "ApplyConfiguration",
        "applyConfiguration": {"expression": expression},
    }
    await installed(bench, "mutating", {"reinvocationPolicy": "Never", "mutations": [mutation]})
    made = await bench.create(HERE, deployment())
    assert made["metadata"]["annotations"]["mutated-by"] == "admission-policy"
    assert made["spec"]["replicas"] == 1


async def test_mutating_policies(bench: Bench) -> None:
    path = f"{BASE}/mutatingadmissionpolicies"
    await discovered(bench, GROUP, "v1", "mutatingadmissionpolicies")
    mutation = {
        "patchType": "ApplyConfiguration",
        "applyConfiguration": {"expression": "Object{spec: Object.spec{replicas: 100}}"},
    }
    spec = {"reinvocationPolicy": "Never", "mutations": [mutation], "matchConstraints": MATCHING}
    change = {"spec": {"reinvocationPolicy": "IfNeeded"}}
    back = {"spec": {"reinvocationPolicy": "Never"}}
    await die(bench, path, await live_through(bench, path, {"spec": spec}, change, back))


async def test_bindings_of_mutating_policies(bench: Bench) -> None:
    path = f"{BASE}/mutatingadmissionpolicybindings"
    await discovered(bench, GROUP, "v1", "mutatingadmissionpolicybindings")
    spec = {"policyName": "replicalimit-policy.example.com"}
    change = {"spec": {"policyName": "new-policy.example.com"}}
    await die(bench, path, await live_through(bench, path, {"spec": spec}, change, {"spec": spec}))
