"""Field errors of resource.k8s.io, in upstream's words: claims, their status, classes, slices."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from sampan.api.resources import resource

GROUP = "resource.k8s.io"
CLAIM, SLICE, CLASS = (
    resource(plural, GROUP).rules
    for plural in ("resourceclaims", "resourceslices", "deviceclasses")
)
REQUEST = {"name": "r", "exactly": {"deviceClassName": "c"}}
OPAQUE = {"opaque": {"driver": "d.e.com", "parameters": {"a": 1}}}
D = "spec.devices"
REFERENCE = (
    "must be the name of a request in the claim or the name of a request and a subrequest "
    "separated by '/'"
)


def made(rules: Any, **spec: Any) -> dict[str, Any]:
    obj = {"metadata": {"name": "a", "namespace": "n"}, "spec": copy.deepcopy(spec)}
    rules.default(obj)
    return obj


def errors(
    rules: Any, obj: dict[str, Any], old: dict[str, Any] | None = None, *, status: bool = False
) -> list[str]:
    check = rules.validate_status if status else rules.validate
    return [str(cause) for cause in check(obj, old)]


def exact(**fields: Any) -> dict[str, Any]:
    return {"requests": [{"name": "r", "exactly": {"deviceClassName": "c", **fields}}]}


@pytest.mark.parametrize(
    ("devices", "expected"),
    [
        ({"requests": [REQUEST]}, []),
        ({"requests": [REQUEST, REQUEST]}, [f'{D}.requests[1]: Duplicate value: "r"']),
        (
            {"requests": [REQUEST] * 33},
            [f"{D}.requests: Too many: 33: must have at most 32 items"],
        ),
        (
            {"requests": [{"name": "r"}, {**REQUEST, "name": "s", "firstAvailable": [{}]}]},
            [f"{D}.requests[0]: Required value: exactly one of `exactly` or `firstAvailable` is "
             "required",
             f'{D}.requests[1]: Invalid value: "null": exactly one of `exactly` or '
             "`firstAvailable` is required, but multiple fields are set"],
        ),
        (
            exact(allocationMode="All", count=2),
            [f"{D}.requests[0].exactly.count: Invalid value: 2: must not be specified when "
             "allocationMode is 'All'"],
        ),
        (
            exact(tolerations=[
                {"key": "a", "value": "b", "operator": "Exists", "effect": "Maybe"},
                {"operator": "Is"},
            ]),
            [f'{D}.requests[0].exactly.tolerations[0].value: Invalid value: "b": must be empty '
             "for operator `Exists`",
             f'{D}.requests[0].exactly.tolerations[0].effect: Unsupported value: "Maybe": '
             'supported values: "NoExecute", "NoSchedule", "None"',
             f'{D}.requests[0].exactly.tolerations[1].operator: Unsupported value: "Is": '
             'supported values: "Equal", "Exists"'],
        ),
        (
            {"requests": [{"name": "r", "firstAvailable": [{"name": "s"}, {"name": "s"}]}]},
            [f"{D}.requests[0].firstAvailable[0].deviceClassName: Required value",
             f"{D}.requests[0].firstAvailable[1].deviceClassName: Required value",
             f'{D}.requests[0].firstAvailable[1]: Duplicate value: "s"'],
        ),
        (
            {"requests": [REQUEST], "constraints": [
                {"requests": ["r", "x"], "matchAttribute": "a"}, {"requests": ["r", "r"]}
            ]},
            [f'{D}.constraints[0].requests[1]: Invalid value: "x": {REFERENCE}',
             f'{D}.constraints[0].matchAttribute: Invalid value: "a": a fully qualified name must '
             "be a domain and a name separated by a slash",
             f'{D}.constraints[1].requests[1]: Duplicate value: "r"',
             f'{D}.constraints[1]: Required value: exactly one of "matchAttribute" or '
             '"distinctAttribute" is required, but multiple fields are set'],
        ),
        (
            {"requests": [REQUEST], "config": [
                {"requests": ["r/s"]}, {"opaque": {"driver": "d.e.com"}}, OPAQUE,
                {"opaque": {"driver": "d.e.com", "parameters": {"a": "x" * 10240}}},
            ]},
            [f'{D}.config[0].requests[0]: Invalid value: "r/s": {REFERENCE}',
             f"{D}.config[0].opaque: Required value",
             f"{D}.config[1].opaque.parameters: Required value",
             f"{D}.config[3].opaque.parameters: Too long: may not be more than 10240 bytes"],
        ),
    ],
)  # fmt: skip
def test_claims(devices: dict[str, Any], expected: list[str]) -> None:
    assert errors(CLAIM, made(CLAIM, devices=devices)) == expected


def test_a_claim_stays() -> None:
    old = made(CLAIM, devices={"requests": [REQUEST]})
    new = made(CLAIM, devices={})
    assert errors(CLAIM, new, old) == ['spec: Invalid value: {"devices":{}}: field is immutable']


RESULT = {"request": "r", "driver": "d.e.com", "pool": "p", "device": "x"}
ALLOCATION = {"devices": {"results": [RESULT]}}
CONSUMER = {"resource": "pods", "name": "p", "uid": "u"}


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ({}, {"allocation": ALLOCATION, "reservedFor": [CONSUMER]}, []),
        (
            {},
            {"reservedFor": [{}, CONSUMER, CONSUMER]},
            ["status.reservedFor[0].resource: Required value",
             "status.reservedFor[0].name: Required value",
             "status.reservedFor[0].uid: Required value",
             'status.reservedFor[2]: Duplicate value: "u"',
             "status.reservedFor: Forbidden: may not be specified when `allocated` is not set"],
        ),
        (
            {"allocation": ALLOCATION},
            {"allocation": {"devices": {}}},
            ['status.allocation: Invalid value: {"devices":{}}: field is immutable'],
        ),
        (
            {},
            {"allocation": {"devices": {"results": [{**RESULT, "request": "q", "pool": ""}],
                                        "config": [{"source": "Heaven", **OPAQUE}]}}},
            [f'status.allocation.devices.results[0].request: Invalid value: "q": {REFERENCE}',
             "status.allocation.devices.results[0].pool: Required value",
             'status.allocation.devices.config[0].source: Unsupported value: "Heaven": supported '
             'values: "FromClaim", "FromClass"'],
        ),
        (
            {"allocation": ALLOCATION},
            {"allocation": ALLOCATION, "devices": [
                {"driver": "d.e.com", "pool": "p", "device": "y",
                 "networkData": {"ips": ["10.0.0.1"]}}
            ]},
            ['status.devices[0]: Invalid value: "d.e.com/p/y": must be an allocated device in the '
             "claim",
             'status.devices[0].networkData.ips[0]: Invalid value: "10.0.0.1": must be a valid '
             "address in CIDR form, (e.g. 10.9.8.7/24 or 2001:db8::1/64)"],
        ),
    ],
)  # fmt: skip
def test_statuses(before: dict[str, Any], after: dict[str, Any], expected: list[str]) -> None:
    old = made(CLAIM, devices={"requests": [REQUEST]})
    new = copy.deepcopy(old)
    old["status"], new["status"] = before, after
    assert errors(CLAIM, new, old, status=True) == expected


def test_nobody_joins_a_claim_that_goes() -> None:
    old = made(CLAIM, devices={"requests": [REQUEST]})
    old["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    new = copy.deepcopy(old)
    old["status"] = {"allocation": ALLOCATION}
    new["status"] = {"allocation": ALLOCATION, "reservedFor": [CONSUMER]}
    assert errors(CLAIM, new, old, status=True) == [
        "status.reservedFor: Forbidden: new entries may not be added while "
        "`deallocationRequested` or `deletionTimestamp` are set"
    ]


def slice_errors(*devices: dict[str, Any], **spec: Any) -> list[str]:
    whole: dict[str, Any] = {
        "driver": "d.e.com", "pool": {"name": "p", "resourceSliceCount": 1}, "nodeName": "n",
    }  # fmt: skip
    if devices:
        whole["devices"] = list(devices)
    return errors(SLICE, made(SLICE, **(whole | spec)))


def shared(**policy: Any) -> dict[str, Any]:
    capacity = {"value": "10", "requestPolicy": policy}
    return {"name": "a", "allowMultipleAllocations": True, "capacity": {"m": capacity}}


V = "spec.devices[0]"
M = f"{V}.capacity[m].requestPolicy"


@pytest.mark.parametrize(
    ("device", "expected"),
    [
        ({"name": "a", "attributes": {"model": {"string": "x"}, "e.com/v": {"bool": False}}}, []),
        (
            {"name": "a", "attributes": {"/x": {"version": "1"}, "b": {"int": 1, "bool": True}}},
            [f'{V}.attributes[/x]: Invalid value: "": the domain must not be empty',
             f'{V}.attributes[/x].version: Invalid value: "1": must be a string compatible with '
             "semver.org spec 2.0.0",
             f'{V}.attributes[b]: Invalid value: {{"int":1,"bool":true}}: exactly one value must '
             "be specified"],
        ),
        (
            {"name": "a", "attributes": {f"a{i}": {"int": 1} for i in range(33)}},
            [f"{V}: Invalid value: 33: the total number of attributes and capacities must not "
             "exceed 32"],
        ),
        (
            {"name": "a", "taints": [{"key": "k"}, {"key": "k", "effect": "Burn"}]},
            [f"{V}.taints[0].effect: Required value",
             f'{V}.taints[1].effect: Unsupported value: "Burn": supported values: "NoExecute", '
             '"NoSchedule", "None"'],
        ),
        (
            {"name": "a", "consumesCounters": [{"counters": {}}], "nodeName": "x"},
            [f"{V}.consumesCounters[0].counterSet: Required value",
             f"{V}.consumesCounters[0].counters: Required value",
             f'{V}: Invalid value: "null": `nodeName`, `nodeSelector` and `allNodes` can only be '
             "set if `perDeviceNodeSelection` is set to true in the ResourceSlice spec"],
        ),
        (
            {"name": "a", "bindingConditions": ["a"], "bindingFailureConditions": ["a", "a"]},
            [f'{V}.bindingFailureConditions[0]: Invalid value: "a": bindingFailureConditions must '
             "not overlap with bindingConditions",
             f'{V}.bindingFailureConditions[1]: Duplicate value: "a"',
             f'{V}.bindingFailureConditions[1]: Invalid value: "a": bindingFailureConditions must '
             "not overlap with bindingConditions"],
        ),
        (
            {"name": "a", "capacity": {"m": {"value": "1", "requestPolicy": {}}}},
            [f"{M}: Forbidden: allowMultipleAllocations must be true"],
        ),
        (shared(validValues=["1"]), [f"{M}.default: Required value: required when validValues is "
                                     "defined"]),
        (
            shared(default="3", validValues=["2", "1", "11"]),
            [f'{M}.validValues[1]: Invalid value: "1": values must be sorted in ascending order',
             f'{M}.validValues[2]: Invalid value: "11": option is larger than capacity value: 10',
             f'{M}.validValues: Invalid value: "3": default value is not valid according to the '
             "requestPolicy"],
        ),
        (
            shared(default="1", validRange={"min": "2", "max": "7", "step": "2"}),
            [f'{M}.validRange.min: Invalid value: "1": default is less than min: 2',
             f'{M}.validRange.step: Invalid value: "1": value is not a multiple of a given step '
             "(2) from (2)",
             f'{M}.validRange.step: Invalid value: "7": value is not a multiple of a given step '
             "(2) from (2)"],
        ),
    ],
)  # fmt: skip
def test_devices(device: dict[str, Any], expected: list[str]) -> None:
    assert slice_errors(device) == expected


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (
            {"nodeName": "", "pool": {"name": "p//", "generation": -1}},
            None,
        ),
        (
            {"allNodes": True},
            ['spec: Invalid value: "{`nodeName`, `allNodes`}": exactly one of `nodeName`, '
             "`nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required, but multiple "
             "fields are set"],
        ),
        (
            {"nodeName": None, "perDeviceNodeSelection": True, "devices": [{"name": "a"}]},
            [f"{V}: Required value: exactly one of `nodeName`, `nodeSelector`, or `allNodes` is "
             "required when `perDeviceNodeSelection` is set to true in the ResourceSlice spec"],
        ),
        (
            {"devices": [], "sharedCounters": [{"name": "c"}]},
            ['spec: Invalid value: "": only one of `sharedCounters` or `devices` is allowed',
             "spec.sharedCounters[0].counters: Required value"],
        ),
        (
            {"devices": [{"name": f"d{i}", "taints": []} for i in range(129)]},
            ["spec.devices: Too many: 129: must have at most 128 items"],
        ),
        (
            {"devices": [{"name": f"d{i}", "taints": [{"key": "k"}]} for i in range(65)]},
            ["spec.devices: Too many: 65: must have at most 64 items"],
        ),
    ],
)  # fmt: skip
def test_slices(spec: dict[str, Any], expected: list[str] | None) -> None:
    found = slice_errors(**spec)
    if expected is None:
        assert [text.partition(":")[0] for text in found] == [
            "spec.pool.name", "spec.pool.name", "spec.pool.resourceSliceCount",
            "spec.pool.generation", "spec.nodeName", "spec",
        ]  # fmt: skip
    else:
        assert found == expected


def test_classes() -> None:
    obj = made(CLASS, config=[{}], extendedResourceName="cpu")
    assert errors(CLASS, obj) == [
        "spec.config[0].opaque: Required value",
        'spec.extendedResourceName: Invalid value: "cpu": must be a valid extended resource name',
    ]
