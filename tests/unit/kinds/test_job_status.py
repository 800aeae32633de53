"""What a job's status may say and how it may change, and rules of the small kinds."""

from __future__ import annotations

from typing import Any

import pytest

from sampan.api.resources import resource

START, END = "2026-01-01T00:00:00Z", "2026-01-01T00:01:00Z"


def holds(*kinds: str) -> list[dict[str, str]]:
    return [{"type": kind, "status": "True"} for kind in kinds]


def problems(
    status: dict[str, Any], before: dict[str, Any] | None = None, **spec: Any
) -> list[str]:
    rules = resource("jobs", "batch").rules
    obj = {"metadata": {"name": "x"}, "spec": spec, "status": status}
    old = {"metadata": {"name": "x"}, "spec": spec, "status": before or {}}
    return [str(cause) for cause in rules.validate_status(obj, old)]


DONE = {
    "conditions": holds("SuccessCriteriaMet", "Complete"),
    "startTime": START,
    "completionTime": END,
}
CASES: list[tuple[dict[str, Any], dict[str, Any], list[str]]] = [
    (DONE, {}, []),
    ({"active": -1}, {}, ["status.active: Invalid value: -1: must be greater than or equal to 0"]),
    (
        {**DONE, "active": 1},
        {},
        ["status.active: Invalid value: 1: active>0 is invalid for finished job"],
    ),
    ({**DONE, "active": 1}, {**DONE, "active": 1}, []),
    (
        {"conditions": holds("Complete")},
        {},
        [
            "status.conditions: Invalid value: cannot set Complete=True condition without the "
            "SuccessCriteriaMet=true condition",
            "status.completionTime: Required value: completionTime is required for Complete jobs",
            "status.startTime: Required value: startTime is required for finished job",
        ],
    ),
    (
        {"completionTime": END},
        {},
        [
            f'status.completionTime: Invalid value: "{END}": cannot set completionTime when there '
            "is no Complete=True condition"
        ],
    ),
    (
        {**DONE, "startTime": END, "completionTime": START},
        {},
        [
            f'status.completionTime: Invalid value: "{START}": completionTime cannot be set before '
            "startTime"
        ],
    ),
    (
        {"failed": 1},
        {"failed": 2},
        ["status.failed: Invalid value: 1: cannot decrease the failed counter"],
    ),
    (
        {},
        {"startTime": START},
        ["status.startTime: Required value: startTime cannot be removed for unsuspended job"],
    ),
    (
        {"uncountedTerminatedPods": {"succeeded": ["a"], "failed": ["a"]}},
        {},
        ['status.uncountedTerminatedPods.failed[0]: Duplicate value: "a"'],
    ),
    (
        {"conditions": holds("Failed"), "startTime": START},
        {},
        [
            "status.conditions: Invalid value: cannot set Failed=True condition without the "
            "FailureTarget=true condition"
        ],
    ),
    ({"conditions": holds("FailureTarget", "Failed"), "startTime": START}, {}, []),
    (
        {**DONE, "terminating": 1},
        {},
        ["status.terminating: Invalid value: 1: terminating>0 is invalid for finished job"],
    ),
    (
        {"ready": 2, "active": 1},
        {},
        ["status.ready: Invalid value: 2: cannot set more ready pods than active"],
    ),
    (
        {"completedIndexes": "0"},
        {},
        [
            'status.completedIndexes: Invalid value: "0": cannot set non-empty completedIndexes '
            "when non-indexed completion mode"
        ],
    ),
]


@pytest.mark.parametrize(("status", "before", "expected"), CASES)
def test_job_status(status: dict[str, Any], before: dict[str, Any], expected: list[str]) -> None:
    assert sorted(problems(status, before)) == sorted(expected)


def test_indexes_have_not_both_failed_and_succeeded() -> None:
    spec = {"completionMode": "Indexed", "completions": 9, "backoffLimitPerIndex": 1}
    both = {"completedIndexes": "0,2-4,8", "failedIndexes": "1,3-5"}
    assert problems(both, **spec) == [
        'status.failedIndexes: Invalid value: "1,3-5": failedIndexes and completedIndexes overlap '
        "at index: 3"
    ]
    assert problems({"completedIndexes": "0,2-4", "failedIndexes": "1,5-7"}, **spec) == []


def test_a_job_with_a_success_policy_meets_it_first() -> None:
    (text,) = problems(
        {**DONE, "conditions": holds("Complete")},
        {**DONE, "conditions": holds("Complete")},
        successPolicy={"rules": [{"succeededCount": 1}]},
    )
    assert text == (
        "status.conditions: Invalid value: cannot set Complete=True for Job with SuccessPolicy "
        "unless SuccessCriteriaMet=True"
    )


def test_a_terminal_condition_stays() -> None:
    assert any(
        text.endswith("cannot disable the terminal Failed=True condition")
        for text in problems({}, {"conditions": holds("Failed")})
    )
    both = {**DONE, "conditions": holds("Complete", "Failed")}
    assert any("Complete=True and Failed=true" in text for text in problems(both))


SMALL: list[tuple[str, str, dict[str, Any], dict[str, Any] | None, list[str]]] = [
    (
        "leases", "coordination.k8s.io", {"spec": {"preferredHolder": "a"}}, None,
        ["spec.preferredHolder: Forbidden: may only be specified if `strategy` is defined"],
    ),
    (
        "csidrivers", "storage.k8s.io",
        {"metadata": {"name": "a.b"}, "spec": {"nodeAllocatableUpdatePeriodSeconds": 9}}, None,
        [
            "spec.nodeAllocatableUpdatePeriodSeconds: Invalid value: 9: must be greater than or "
            "equal to 10 seconds"
        ],
    ),
    (
        "csinodes", "storage.k8s.io",
        {"spec": {"drivers": [{"name": "a.b", "nodeID": "n", "topologyKeys": ["k", "k"],
                               "allocatable": {"count": -1}}]}}, None,
        [
            "spec.drivers[0].allocatable.count: Invalid value: -1: must be greater than or equal "
            "to 0",
            'spec.drivers[0]: Duplicate value: "k"',
        ],
    ),
    (
        "csinodes", "storage.k8s.io",
        {"spec": {"drivers": [{"name": "a.b", "nodeID": "m", "allocatable": {"count": 2}}]}},
        {"spec": {"drivers": [{"name": "a.b", "nodeID": "n", "allocatable": {"count": 1}}]}},
        [
            'spec.drivers: Invalid value: {"name":"a.b","nodeID":"m"}: field is immutable'
        ],
    ),
    (
        "storageclasses", "storage.k8s.io",
        {"provisioner": "a.b/c", "allowedTopologies": [
            {"matchLabelExpressions": [{"key": "k"}, {"key": "k", "values": ["a", "a"]}]},
        ]}, None,
        [
            "allowedTopologies[0].matchLabelExpressions[0].values: Required value",
            'allowedTopologies[0].matchLabelExpressions[1].values[1]: Duplicate value: "a"',
            'allowedTopologies[0].matchLabelExpressions[1].key: Duplicate value: "k"',
        ],
    ),
    (
        "volumeattributesclasses", "storage.k8s.io",
        {"driverName": "b.c", "parameters": {"a": "b"}},
        {"driverName": "a.b", "parameters": {"a": "b"}},
        ["driverName: Forbidden: updates to driverName are forbidden."],
    ),
    (
        "ipaddresses", "networking.k8s.io",
        {"metadata": {"name": "10.0.0.1"},
         "spec": {"parentRef": {"resource": "a/b", "name": "n"}}}, None,
        ["spec.parentRef.resource: Invalid value: \"a/b\": may not contain '/'"],
    ),
    (
        "servicecidrs", "networking.k8s.io",
        {"spec": {"cidrs": ["10.0.0.0/24", "10.1.0.0/24"]}}, None,
        [
            'spec.cidrs: Invalid value: {"cidrs":["10.0.0.0/24","10.1.0.0/24"]}: may specify no '
            "more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64"
        ],
    ),
]  # fmt: skip


@pytest.mark.parametrize(("plural", "group", "obj", "old", "expected"), SMALL)
def test_small_kinds(
    plural: str, group: str, obj: dict[str, Any], old: dict[str, Any] | None, expected: list[str]
) -> None:
    rules = resource(plural, group).rules
    obj.setdefault("metadata", {"name": "x"})
    rules.default(obj)
    assert sorted(map(str, rules.validate(obj, old))) == sorted(expected)


def test_an_unknown_data_source_is_dropped_as_ever() -> None:
    rules = resource("persistentvolumeclaims", "").rules
    assert rules.prepare is not None
    obj: dict[str, Any] = {"spec": {"dataSource": {"apiGroup": "a.b", "kind": "C", "name": "n"}}}
    rules.prepare(obj, None)
    assert obj["spec"] == {}
    snapshot = {"apiGroup": "snapshot.storage.k8s.io", "kind": "VolumeSnapshot", "name": "n"}
    obj = {"spec": {"dataSource": snapshot}}
    rules.prepare(obj, None)
    assert obj["spec"]["dataSourceRef"] == snapshot
