"""Rules of autoscalers, budgets, revisions, slices, quotas and nodes, in upstream's words."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from sampan.api.resources import resource

Object = dict[str, Any]
TARGET = {"kind": "Deployment", "name": "d"}
CPU = {"type": "Utilization", "averageUtilization": 50}
SHARE = {"type": "AverageValue", "averageValue": "1"}


def made(plural: str, group: str, obj: Object) -> Object:
    rules = resource(plural, group).rules
    obj = {"metadata": {"name": "x", "namespace": "n"}, **copy.deepcopy(obj)}
    rules.default(obj)
    return obj


def problems(plural: str, group: str, obj: Object, old: Object | None = None) -> list[str]:
    before = None if old is None else made(plural, group, old)
    found = resource(plural, group).rules.validate(made(plural, group, obj), before)
    return [str(cause) for cause in found]


def scaler(**spec: Any) -> Object:
    return {"spec": {"scaleTargetRef": TARGET, "maxReplicas": 3, **spec}}


def metric(kind: str, **source: Any) -> Object:
    return {"metrics": [{"type": kind, **source}]}


OUTSIDE = metric("External", external={"metric": {"name": "m"}, "target": SHARE})
LABEL = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and "
    "must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used "
    "for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
)
METRIC = "spec.metrics[0]"
AUTOSCALERS: list[tuple[Object, Object | None, list[str]]] = [
    (scaler(), None, []),
    (
        scaler(minReplicas=0, **OUTSIDE), None,
        ["spec.minReplicas: Invalid value: 0: must be greater than or equal to 1"],
    ),
    (scaler(minReplicas=0, **OUTSIDE, maxReplicas=4), scaler(minReplicas=0, **OUTSIDE), []),
    (
        scaler(minReplicas=0), scaler(minReplicas=0, **OUTSIDE),
        [
            "spec.metrics: Forbidden: must specify at least one Object or External metric to "
            "support scaling to zero replicas"
        ],
    ),
    (
        scaler(behavior={"scaleUp": {"stabilizationWindowSeconds": -1, "tolerance": "-1"}}), None,
        [
            "spec.behavior.scaleUp.stabilizationWindowSeconds: Invalid value: -1: must be greater "
            "than or equal to zero",
            'spec.behavior.scaleUp.tolerance: Invalid value: "-1": must be greater than or equal '
            "to 0",
        ],
    ),
    (
        scaler(behavior={"scaleDown": {"stabilizationWindowSeconds": 3601, "policies": []}}), None,
        [
            "spec.behavior.scaleDown.stabilizationWindowSeconds: Invalid value: 3601: must be less "
            "than or equal to 3600",
            "spec.behavior.scaleDown.policies: Required value: must specify at least one Policy",
        ],
    ),
    (
        scaler(**metric("Pods", resource={"name": "cpu", "target": CPU})), None,
        [
            f"{METRIC}.pods: Required value: must populate information for the given metric source"
        ],
    ),
    (
        scaler(**metric("Resource", resource={"name": "cpu", "target": CPU},
                        pods={"metric": {"name": "m"}, "target": SHARE})), None,
        [f"{METRIC}.pods: Forbidden: must populate the given metric source only"],
    ),
    (
        scaler(**metric("External", external={"metric": {"name": "m"},
                                              "target": {**SHARE, "value": "2"}})), None,
        [
            f"{METRIC}.external.target.value: Forbidden: may not set both a target value for "
            "metric and a per-pod target"
        ],
    ),
    (
        scaler(**metric("External", external={"metric": {"name": "m"}, "target": {}})), None,
        [
            f"{METRIC}.external.target.type: Required value: must specify a metric target type",
            f'{METRIC}.external.target.type: Invalid value: "": must be either Utilization, '
            "Value, or AverageValue",
            f"{METRIC}.external.target.averageValue: Required value: must set either a target "
            "value for metric or a per-pod target",
        ],
    ),
    (
        scaler(**metric("ContainerResource", containerResource={
            "name": "gold", "container": "A", "target": CPU})), None,
        [
            f'{METRIC}.containerResource.name: Invalid value: "gold": must be a standard resource '
            "type or fully qualified",
            f'{METRIC}.containerResource.name: Invalid value: "gold": must be a standard resource '
            "for containers",
            f'{METRIC}.containerResource.container: Invalid value: "A": {LABEL}',
        ],
    ),
]  # fmt: skip


@pytest.mark.parametrize(("obj", "old", "expected"), AUTOSCALERS)
def test_autoscalers(obj: Object, old: Object | None, expected: list[str]) -> None:
    assert problems("horizontalpodautoscalers", "autoscaling", obj, old) == expected


def test_an_old_autoscaler_is_checked_in_its_stored_form() -> None:
    rules = resource("horizontalpodautoscalers", "autoscaling", "v1").rules
    obj = {"metadata": {}, **scaler(targetCPUUtilizationPercentage=0)}
    rules.default(obj)
    assert [str(cause) for cause in rules.validate(obj, None)] == [
        "spec.metrics[0].resource.target.averageUtilization: Invalid value: 0: must be greater "
        "than 0"
    ]


def test_conditions_of_a_budget() -> None:
    good = {"type": "DisruptionAllowed", "status": "True", "reason": "SufficientPods",
            "lastTransitionTime": "2026-01-01T00:00:00Z", "message": ""}  # fmt: skip
    rules = resource("poddisruptionbudgets", "policy").rules

    def found(*conditions: Object) -> list[str]:
        obj = {"metadata": {}, "status": {"conditions": list(conditions)}}
        return [str(cause) for cause in rules.validate_status(obj, None)]

    assert found(good) == []
    assert found(good, good) == ['status.conditions[1].type: Duplicate value: "DisruptionAllowed"']
    path = "status.conditions[0]"
    assert found({"type": "A", "status": "Maybe", "observedGeneration": -1}) == [
        f'{path}.status: Unsupported value: "Maybe": supported values: "False", "True", "Unknown"',
        f"{path}.observedGeneration: Invalid value: -1: must be greater than or equal to zero",
        f"{path}.lastTransitionTime: Required value: must be set",
        f"{path}.reason: Required value: must be set",
    ]
    assert "a condition reason must start" in found({**good, "reason": "no spaces"})[0]


def slice_(**fields: Any) -> Object:
    return {"addressType": "IPv4", "endpoints": [{"addresses": ["10.0.0.1"], **fields}]}


def named(address: str) -> Object:
    return {"addressType": "FQDN", "endpoints": [{"addresses": [address]}]}


ENDPOINT = "endpoints[0]"
OTHERS: list[tuple[str, str, Object, Object | None, list[str]]] = [
    ("controllerrevisions", "apps", {"revision": -1}, None,
     ["data: Required value: data is mandatory",
      "revision: Invalid value: -1: must be greater than or equal to 0"]),
    ("controllerrevisions", "apps", {"data": {"a": 1}, "revision": 2}, {"data": {}, "revision": 1},
     ['data: Invalid value: {"a":1}: field is immutable']),
    ("endpointslices", "discovery.k8s.io", named("a.b."), None, []),
    ("endpointslices", "discovery.k8s.io", named("a"), None,
     [f'{ENDPOINT}.addresses[0]: Invalid value: "a": should be a domain with at least two '
      "segments separated by dots"]),
    ("endpointslices", "discovery.k8s.io",
     slice_(hints={"forZones": [{"name": "a"}, {"name": "a"}]}), None,
     [f'{ENDPOINT}.hints.forZones[1].name: Duplicate value: "a"']),
    ("endpointslices", "discovery.k8s.io",
     slice_(hints={"forNodes": [{"name": str(n)} for n in range(9)]}), None,
     [f"{ENDPOINT}.hints.forNodes: Too many: 9: must have at most 8 items"]),
    ("resourcequotas", "", {"spec": {"hard": {"storage": "1"}}}, None,
     ['spec.hard[storage]: Invalid value: "storage": must be a standard resource for quota']),
    ("resourcequotas", "", {"spec": {"hard": {"hugepages-2Mi": "2Mi"}}}, None, []),
    ("resourcequotas", "",
     {"spec": {"hard": {"limits.ephemeral-storage": "1"}, "scopes": ["NotBestEffort"]}}, None,
     ['spec.scopes: Invalid value: ["NotBestEffort"]: unsupported scope applied to resource']),
    ("resourcequotas", "", {"spec": {"hard": {"secrets": "1"}, "scopes": ["Odd"]}}, None,
     ['spec.scopes: Invalid value: ["Odd"]: unsupported scope']),
    ("resourcequotas", "", {"spec": {"hard": {"pods": "1.5"}}}, None,
     ['spec.hard[pods]: Invalid value: "1500m": must be an integer']),
    ("nodes", "", {"spec": {"externalID": "b"}}, {"spec": {"externalID": "a"}},
     ["spec.externalID: Forbidden: may not be updated"]),
    ("nodes", "", {"spec": {"providerID": "b"}}, {"spec": {"providerID": "a"}},
     ['spec.providerID: Forbidden: node updates may not change providerID except from "" to '
      "valid"]),
    ("nodes", "", {"spec": {"podCIDR": "10.0.0.0/24", "podCIDRs": ["10.1.0.0/24"]}},
     {"spec": {"podCIDR": "10.0.0.0/24"}}, []),
]  # fmt: skip


PATH = r"Invalid path (regex used for validation is '[A-Za-z0-9/\-._~%!$&'()*+,;=:]+')"
OTHERS += [
    ("ingressclasses", "networking.k8s.io", {"spec": {"controller": "a.b/c d"}}, None,
     [f'spec.controller: Invalid value: "c d": {PATH}']),
    ("ingressclasses", "networking.k8s.io", {"spec": {"controller": "a" * 251}}, None,
     ["spec.controller: Too long: may not be more than 250 bytes",
      f'spec.controller: Invalid value: "{"a" * 251}": must be a domain-prefixed path (such as '
      '"acme.io/foo")']),
    ("ingressclasses", "networking.k8s.io",
     {"spec": {"controller": "a.b/c", "parameters": {"scope": "Namespace"}}}, None,
     ["spec.parameters.kind: Required value: kind is required",
      "spec.parameters.name: Required value: name is required",
      "spec.parameters.namespace: Required value: `parameters.scope` is set to 'Namespace'"]),
]  # fmt: skip


@pytest.mark.parametrize(("plural", "group", "obj", "old", "expected"), OTHERS)
def test_others(
    plural: str, group: str, obj: Object, old: Object | None, expected: list[str]
) -> None:
    assert problems(plural, group, obj, old) == expected


def test_a_slice_forgets_topology_but_for_nodes_it_knew() -> None:
    rules = resource("endpointslices", "discovery.k8s.io").rules
    assert rules.prepare is not None
    old = slice_(deprecatedTopology={"kubernetes.io/hostname": "n"})
    new = slice_(deprecatedTopology={"kubernetes.io/hostname": "n"}, hostname="h")
    rules.prepare(new, old)
    assert new["endpoints"] == [{"addresses": ["10.0.0.1"], "hostname": "h", "nodeName": "n"}]
    rules.prepare(fresh := slice_(deprecatedTopology={"kubernetes.io/hostname": "n"}), None)
    assert fresh == slice_()


def test_a_node_is_not_configured_by_the_server() -> None:
    rules = resource("nodes").rules
    assert rules.prepare is not None
    given = {"configMap": {"name": "a"}}
    node: Object = {"spec": {"configSource": given}, "status": {"config": {"active": given}}}
    rules.prepare(node, None)
    assert node == {"spec": {}, "status": {}}
    kept: Object = {"spec": {"configSource": given}}
    rules.prepare(kept, copy.deepcopy(kept))
    assert kept["spec"]
    status: Object = {"status": {"config": {}}}
    rules.prepare_parts["status"](status, {"status": {}})
    assert status == {"status": {}}
