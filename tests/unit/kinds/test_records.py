"""Field errors of events, leases and storage drivers, in the words of upstream."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from sampan.api.resources import resource

CORE = resource("events").rules
EVENT = resource("events", "events.k8s.io").rules
WHEN = "2026-01-01T00:00:00.000000Z"
NEW: dict[str, Any] = {
    "metadata": {"name": "e", "namespace": "n"}, "eventTime": WHEN, "type": "Normal",
    "reason": "R", "action": "A", "reportingController": "e.com/c", "reportingInstance": "i",
    "regarding": {"namespace": "n", "name": "p"},
}  # fmt: skip


def errors(rules: Any, obj: dict[str, Any], old: dict[str, Any] | None = None) -> list[str]:
    obj, old = copy.deepcopy(obj), copy.deepcopy(old)
    rules.default(obj)
    if old is not None:
        rules.default(old)
    return [str(cause) for cause in rules.validate(obj, old)]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"involvedObject": {"namespace": "n"}}, []),
        (
            {"involvedObject": {"namespace": "m"}},
            ['involvedObject.namespace: Invalid value: "m": does not match event.namespace'],
        ),
        (
            {"involvedObject": {}},
            ['involvedObject.namespace: Invalid value: "": does not match event.namespace'],
        ),
        (
            # With a time it is of the new kind, whatever API it comes by.
            {"involvedObject": {"namespace": "m"}, "eventTime": WHEN, "message": "x" * 1025},
            ["reportingController: Required value",
             'reportingController: Invalid value: "": name part must be non-empty',
             "reportingController: Invalid value: \"\": name part must consist of alphanumeric "
             "characters, '-', '_' or '.', and must start and end with an alphanumeric character "
             "(e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is "
             "'([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')",
             "reportingInstance: Required value",
             "action: Required value",
             "reason: Required value",
             'message: Invalid value: "": can have at most 1024 characters'],
        ),
    ],
)  # fmt: skip
def test_core_events(change: dict[str, Any], expected: list[str]) -> None:
    obj = {"metadata": {"name": "e", "namespace": "n"}} | change
    assert errors(CORE, obj) == expected
    # A core event may change as it likes.
    assert errors(CORE, obj, NEW) == expected


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, []),
        (
            {"eventTime": None, "type": "Bad", "deprecatedCount": 1},
            ["eventTime: Required value",
             'type: Invalid value: "": has invalid value: Bad',
             'count: Invalid value: "": needs to be unset'],
        ),
        (
            {"deprecatedSource": {"component": "c"}, "deprecatedFirstTimestamp": WHEN},
            ['firstTimestamp: Invalid value: "": needs to be unset',
             'source: Invalid value: "": needs to be unset'],
        ),
        (
            {"series": {"count": 1}},
            ['series.count: Invalid value: "": should be at least 2',
             "series.lastObservedTime: Required value"],
        ),
        (
            {"reason": "r" * 129},
            ['reason: Invalid value: "": can have at most 128 characters'],
        ),
    ],
)  # fmt: skip
def test_events(change: dict[str, Any], expected: list[str]) -> None:
    assert errors(EVENT, NEW | change) == expected


def test_only_the_series_of_an_event_goes_on() -> None:
    series = {"count": 2, "lastObservedTime": WHEN}
    assert errors(EVENT, NEW | {"series": series}, NEW) == []
    changed = NEW | {"note": "new", "action": "B", "regarding": {"namespace": "n", "name": "q"}}
    assert errors(EVENT, changed, NEW) == [
        'involvedObject: Invalid value: {"namespace":"n","name":"q"}: field is immutable',
        'message: Invalid value: "new": field is immutable',
        'action: Invalid value: "B": field is immutable',
    ]


@pytest.mark.parametrize(
    ("plural", "group", "obj", "expected"),
    [
        (
            "leases", "coordination.k8s.io",
            {"spec": {"leaseDurationSeconds": 0, "leaseTransitions": -1, "preferredHolder": "a"}},
            ["spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0",
             "spec.leaseTransitions: Invalid value: -1: must be greater than or equal to 0",
             "spec.preferredHolder: Forbidden: may only be specified if `strategy` is defined"],
        ),
        (
            "csidrivers", "storage.k8s.io",
            {"spec": {
                "fsGroupPolicy": "All", "volumeLifecycleModes": ["Forever"],
                "tokenRequests": [
                    {"audience": "a", "expirationSeconds": 5}, {"audience": "a"},
                ],
                "nodeAllocatableUpdatePeriodSeconds": 9,
            }},
            ['spec.fsGroupPolicy: Unsupported value: "All": supported values: "File", "None", '
             '"ReadWriteOnceWithFSType"',
             "spec.tokenRequests[0].expirationSeconds: Invalid value: 5: may not specify a "
             "duration less than 10 minutes",
             'spec.tokenRequests[1].audience: Duplicate value: "a"',
             'spec.volumeLifecycleModes: Unsupported value: "Forever": supported values: '
             '"Persistent", "Ephemeral"',
             "spec.nodeAllocatableUpdatePeriodSeconds: Invalid value: 9: must be greater than or "
             "equal to 10 seconds"],
        ),
        (
            "csinodes", "storage.k8s.io",
            {"spec": {"drivers": [
                {"name": "d.e.com", "nodeID": "n" * 193, "topologyKeys": ["a", "a"]},
                {"name": "d.e.com", "allocatable": {"count": -1}},
            ]}},
            [f'spec.drivers[0].nodeID: Invalid value: "{"n" * 193}": must be 192 characters or '
             "less",
             'spec.drivers[0]: Duplicate value: "a"',
             "spec.drivers[1].nodeID: Required value",
             "spec.drivers[1].allocatable.count: Invalid value: -1: must be greater than or equal "
             "to 0",
             'spec.drivers[1].name: Duplicate value: "d.e.com"'],
        ),
        (
            "volumeattachments", "storage.k8s.io",
            {"spec": {"attacher": "d.e.com", "nodeName": "n", "source": {}}},
            ["spec.source: Required value: must specify exactly one of inlineVolumeSpec and "
             "persistentVolumeName"],
        ),
        (
            "csistoragecapacities", "storage.k8s.io",
            {"storageClassName": "c", "capacity": "-1"},
            ['capacity: Invalid value: "-1": must be greater than or equal to 0'],
        ),
    ],
)  # fmt: skip
def test_drivers_and_leases(
    plural: str, group: str, obj: dict[str, Any], expected: list[str]
) -> None:
    whole = {"metadata": {"name": "a", "namespace": "n"}} | obj
    found = errors(resource(plural, group).rules, whole)
    assert sorted(found) == sorted(expected)
