"""Jobs: failure and success policies, indexes, limits, and what may change."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from .test_workloads import TEMPLATE, errors, made

ONCE = {**TEMPLATE, "spec": {**TEMPLATE["spec"], "restartPolicy": "Never"}}  # type: ignore[dict-item]
INDEXED = {"completionMode": "Indexed", "completions": 5, "parallelism": 5}
RULE = "spec.podFailurePolicy.rules[0]"
SUCCESS = "spec.successPolicy.rules[0]"


def job(**spec: Any) -> dict[str, Any]:
    return made("jobs", "batch", **{"template": ONCE, **spec})


def failing(**rule: Any) -> dict[str, Any]:
    return {"podFailurePolicy": {"rules": [{"action": "Ignore", **rule}]}}


def succeeding(**rule: Any) -> dict[str, Any]:
    return {**INDEXED, "successPolicy": {"rules": [rule]}}


CASES: list[tuple[dict[str, Any], list[str]]] = [
    (failing(onExitCodes={"operator": "In", "values": [1, 2], "containerName": "c"}), []),
    (
        failing(onExitCodes={"operator": "In", "values": [2, 0, 2], "containerName": "x"}),
        [
            f'{RULE}.onExitCodes.containerName: Invalid value: "x": must be one of the container '
            "or initContainer names in the pod template",
            f"{RULE}.onExitCodes.values[1]: Invalid value: 0: must not be 0 for the In operator",
            f"{RULE}.onExitCodes.values[2]: Duplicate value: 2",
            f"{RULE}.onExitCodes.values: Invalid value: [2,0,2]: must be ordered",
        ],
    ),
    (
        failing(onExitCodes={"values": []}),
        [
            f'{RULE}.onExitCodes.operator: Required value: valid values: ["In" "NotIn"]',
            f"{RULE}.onExitCodes.values: Invalid value: []: at least one value is required",
        ],
    ),
    (
        failing(onPodConditions=[{"type": "A", "status": "Maybe"}]),
        [
            f'{RULE}.onPodConditions[0].status: Unsupported value: "Maybe": supported values: '
            '"False", "True", "Unknown"'
        ],
    ),
    (
        failing(action="FailIndex", onExitCodes={"operator": "In", "values": [1]}),
        [f'{RULE}.action: Invalid value: "FailIndex": requires the backoffLimitPerIndex to be set'],
    ),
    (
        {
            **failing(onExitCodes={"operator": "In", "values": [1]}),
            "podReplacementPolicy": "TerminatingOrFailed",
        },
        [
            'spec.podReplacementPolicy: Unsupported value: "TerminatingOrFailed": '
            'supported values: "Failed"'
        ],
    ),
    (succeeding(succeededIndexes="0,2-4", succeededCount=4), []),
    (
        succeeding(),
        [
            f"{SUCCESS}: Required value: at least one of succeededCount or succeededIndexes must "
            "be specified"
        ],
    ),
    (
        succeeding(succeededIndexes="0,2-4", succeededCount=5),
        [
            f"{SUCCESS}.succeededCount: Invalid value: 5: must be less than or equal to 4 (the "
            "number of indexes in the specified succeededIndexes field)"
        ],
    ),
    (
        succeeding(succeededCount=6),
        [
            f"{SUCCESS}.succeededCount: Invalid value: 6: must be less than or equal to 5 (the "
            "number of specified completions)"
        ],
    ),
    *(
        (
            succeeding(succeededIndexes=text),
            [
                f'{SUCCESS}.succeededIndexes: Invalid value: "{text}": error parsing '
                f"succeededIndexes: {why}"
            ],
        )
        for text, why in (
            ("5", 'too large index: "5"'),
            ("a", 'cannot convert string to integer for index: "a"'),
            ("2,1", "non-increasing order, previous: 2, current: 1"),
            ("3-3", "non-increasing order, previous: 3, current: 3"),
            (
                "1-2-3",
                'the fragment "1-2-3" violates the requirement that an index interval can have '
                "at most two parts separated by '-'",
            ),
        )
    ),
    (
        {**INDEXED, "maxFailedIndexes": 6},
        [
            "spec.maxFailedIndexes: Invalid value: 6: must be less than or equal to completions",
            "spec.backoffLimitPerIndex: Required value: when maxFailedIndexes is specified",
        ],
    ),
    (
        {**INDEXED, "completions": 100_001, "backoffLimitPerIndex": 1, "parallelism": 10_001},
        [
            "spec.maxFailedIndexes: Required value: must be specified when completions is above "
            "100000",
            "spec.parallelism: Invalid value: 10001: must be less than or equal to 10000 when "
            "completions are above 100000 and used with backoff limit per index",
        ],
    ),
    (
        {"managedBy": "me"},
        [
            'spec.managedBy: Invalid value: "me": must be a domain-prefixed path '
            '(such as "acme.io/foo")'
        ],
    ),
]


@pytest.mark.parametrize(("spec", "expected"), CASES)
def test_a_new_job(spec: dict[str, Any], expected: list[str]) -> None:
    assert sorted(errors(job(**spec), "jobs", "batch")) == sorted(expected)


def test_a_suspended_job_moves_to_other_nodes_but_not_nearer_to_pods() -> None:
    old = job(suspend=True)
    new = copy.deepcopy(old)
    new["spec"]["template"]["spec"]["affinity"] = {"nodeAffinity": {}}
    assert errors(new, "jobs", "batch", old) == []
    new["spec"]["template"]["spec"]["affinity"] = {"podAffinity": {"a": "b"}}
    assert any("spec.template" in text for text in errors(new, "jobs", "batch", old))


def test_completions_move_with_parallelism() -> None:
    old = job(**INDEXED)
    new = copy.deepcopy(old)
    new["spec"]["completions"] = 4
    assert errors(new, "jobs", "batch", old) == [
        "spec.completions: Invalid value: 4: can only be modified in tandem with spec.parallelism"
    ]
    new["spec"]["parallelism"] = 4
    assert errors(new, "jobs", "batch", old) == []
