"""Deployments, sets and jobs: defaults, field errors, what may change."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from sampan.api.kinds.batch.schedule import schedule_problem
from sampan.api.resources import resource

TEMPLATE = {
    "metadata": {"labels": {"app": "a"}},
    "spec": {"containers": [{"name": "c", "image": "i"}]},
}
SELECTOR = {"matchLabels": {"app": "a"}}
UNFIT = (
    "spec.template.metadata.labels: Invalid value: {}: `selector` does not match template `labels`"
)


def made(plural: str, group: str = "apps", **spec: Any) -> dict[str, Any]:
    rules = resource(plural, group).rules
    obj: dict[str, Any] = {
        "metadata": {"name": "x", "namespace": "n", "uid": "u1"},
        "spec": copy.deepcopy(spec),
    }
    if rules.prepare is not None:
        rules.prepare(obj, None)
    rules.default(obj)
    return obj


def errors(
    obj: dict[str, Any], plural: str, group: str = "apps", old: dict[str, Any] | None = None
) -> list[str]:
    return [str(cause) for cause in resource(plural, group).rules.validate(obj, old)]


def test_deployment_defaults() -> None:
    obj = made("deployments", selector=SELECTOR, template=TEMPLATE)
    spec = obj["spec"]
    assert obj["status"] == {}
    assert spec["replicas"] == 1
    assert spec["strategy"] == {
        "type": "RollingUpdate",
        "rollingUpdate": {"maxUnavailable": "25%", "maxSurge": "25%"},
    }
    assert (spec["revisionHistoryLimit"], spec["progressDeadlineSeconds"]) == (10, 600)
    pod = spec["template"]["spec"]
    assert pod["restartPolicy"] == "Always"
    assert "enableServiceLinks" not in pod, "that default is a Pod's own"
    assert errors(obj, "deployments") == []


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (
            {"selector": None},
            ["spec.selector: Required value", UNFIT.format('{"app":"a"}')],
        ),
        (
            {"selector": None, "template": None},
            [
                "spec.selector: Required value",
                UNFIT.format("null"),
                "spec.template.spec.containers: Required value",
            ],
        ),
        (
            {"selector": {}},
            ["spec.selector: Invalid value: {}: empty selector is invalid for deployment"],
        ),
        (
            {"selector": {"matchLabels": {"app": "b"}}},
            [UNFIT.format('{"app":"a"}')],
        ),
        (
            {"replicas": -1},
            ["spec.replicas: Invalid value: -1: must be greater than or equal to 0"],
        ),
        (
            {"strategy": {"type": "Recreate", "rollingUpdate": {}}},
            [
                "spec.strategy.rollingUpdate: Forbidden: may not be specified when strategy "
                "`type` is 'Recreate'"
            ],
        ),
        (
            {"strategy": {"rollingUpdate": {"maxSurge": 0, "maxUnavailable": "0%"}}},
            [
                'spec.strategy.rollingUpdate.maxUnavailable: Invalid value: "0%": may not be 0 '
                "when `maxSurge` is 0"
            ],
        ),
        (
            {"progressDeadlineSeconds": 5, "minReadySeconds": 5},
            [
                "spec.progressDeadlineSeconds: Invalid value: 5: must be greater than "
                "minReadySeconds"
            ],
        ),
    ],
)
def test_deployment_errors(spec: dict[str, Any], expected: list[str]) -> None:
    fields = {"selector": SELECTOR, "template": TEMPLATE, **spec}
    fields = {key: value for key, value in fields.items() if value is not None}
    assert errors(made("deployments", **fields), "deployments") == expected


def test_what_selects_nothing_fits_nothing() -> None:
    unfit = UNFIT.format('{"app":"a"}')
    obj = made("daemonsets", template=TEMPLATE)
    assert errors(obj, "daemonsets") == [unfit], "upstream asks no daemon set for a selector"
    bad = {"matchExpressions": [{"key": "app", "operator": "Is"}]}
    found = errors(made("deployments", selector=bad), "deployments")
    assert found[1:] == [
        'spec.selector: Invalid value: {"matchExpressions":[{"key":"app","operator":"Is"}]}: '
        "invalid label selector"
    ], "its template is not looked at"


def test_template_errors_name_their_place() -> None:
    template = {**TEMPLATE, "spec": {"containers": [{"name": "c"}], "restartPolicy": "Never"}}
    obj = made("deployments", selector=SELECTOR, template=template)
    assert errors(obj, "deployments") == [
        "spec.template.spec.containers[0].image: Required value",
        'spec.template.spec.restartPolicy: Unsupported value: "Never": supported values: "Always"',
    ]


@pytest.mark.parametrize("plural", ["deployments", "replicasets", "daemonsets"])
def test_selectors_are_immutable(plural: str) -> None:
    old = made(plural, selector=SELECTOR, template=TEMPLATE)
    new = copy.deepcopy(old)
    new["spec"]["selector"] = {"matchLabels": {"app": "b"}}
    new["spec"]["template"]["metadata"]["labels"]["app"] = "b"
    assert errors(new, plural, old=old) == [
        'spec.selector: Invalid value: {"matchLabels":{"app":"b"}}: field is immutable'
    ]


def test_statefulset() -> None:
    claim = {"metadata": {"name": "d"}, "spec": {"accessModes": ["ReadWriteOnce"]}}
    old = made("statefulsets", selector=SELECTOR, template=TEMPLATE, volumeClaimTemplates=[claim])
    spec = old["spec"]
    assert spec["podManagementPolicy"] == "OrderedReady"
    assert spec["updateStrategy"] == {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}}
    assert spec["volumeClaimTemplates"][0]["status"] == {"phase": "Pending"}
    assert old["status"] == {"replicas": 0, "availableReplicas": 0}
    new = copy.deepcopy(old)
    new["spec"]["replicas"] = 5
    assert errors(new, "statefulsets", old=old) == []
    new["spec"]["serviceName"] = "other"
    assert errors(new, "statefulsets", old=old) == [
        "spec: Forbidden: updates to statefulset spec for fields other than 'replicas', "
        "'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', "
        "'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden"
    ]


JOB_TEMPLATE = {"spec": {"containers": [{"name": "c", "image": "i"}], "restartPolicy": "Never"}}


def test_job_selects_by_its_own_uid() -> None:
    obj = made("jobs", "batch", template=JOB_TEMPLATE)
    assert obj["spec"]["selector"] == {"matchLabels": {"batch.kubernetes.io/controller-uid": "u1"}}
    assert obj["spec"]["template"]["metadata"]["labels"] == {
        "batch.kubernetes.io/controller-uid": "u1",
        "batch.kubernetes.io/job-name": "x",
        "controller-uid": "u1",
        "job-name": "x",
    }
    assert {key: obj["spec"][key] for key in ("completions", "parallelism", "backoffLimit")} == {
        "completions": 1,
        "parallelism": 1,
        "backoffLimit": 6,
    }
    assert errors(obj, "jobs", "batch") == []


def test_job_errors() -> None:
    always = {"spec": {"containers": [{"name": "c", "image": "i"}]}}
    assert errors(made("jobs", "batch", template=always), "jobs", "batch") == [
        'spec.template.spec.restartPolicy: Required value: valid values: "OnFailure", "Never"'
    ]
    old = made("jobs", "batch", template=JOB_TEMPLATE)
    new = copy.deepcopy(old)
    new["spec"]["template"]["spec"]["containers"][0]["image"] = "other"
    (error,) = errors(new, "jobs", "batch", old)
    assert error.startswith("spec.template: Invalid value: ")
    assert error.endswith(": field is immutable")
    old["spec"]["suspend"] = new["spec"]["suspend"] = True
    new["spec"]["template"]["spec"]["containers"][0]["image"] = "i"
    new["spec"]["template"]["spec"]["nodeSelector"] = {"a": "b"}
    assert errors(new, "jobs", "batch", old) == []


@pytest.mark.parametrize(
    ("schedule", "problem"),
    [
        ("*/5 0-3 1,15 jan-MAR mon", ""),
        ("@hourly", ""),
        ("@every 1h", ""),
        ("TZ=UTC 0 0 * * *", ""),
        ("* * * *", "expected exactly 5 fields, found 4: [* * * *]"),
        ("60 * * * *", "end of range (60) above maximum (59): 60"),
        ("* * 0 * *", "beginning of range (0) below minimum (1): 0"),
        ("5-1 * * * *", "beginning of range (5) beyond end of range (1): 5-1"),
        (
            "x * * * *",
            'failed to parse int from x: strconv.Atoi: parsing "x": invalid syntax',
        ),
        ("*/0 * * * *", "step of range should be a positive number: */0"),
        ("@often", "unrecognized descriptor: @often"),
    ],
)
def test_schedules(schedule: str, problem: str) -> None:
    assert schedule_problem(schedule) == problem


def test_cronjob() -> None:
    obj = made(
        "cronjobs", "batch", schedule="* * * * *", jobTemplate={"spec": {"template": JOB_TEMPLATE}}
    )
    spec = obj["spec"]
    assert (spec["concurrencyPolicy"], spec["suspend"]) == ("Allow", False)
    assert (spec["successfulJobsHistoryLimit"], spec["failedJobsHistoryLimit"]) == (3, 1)
    assert errors(obj, "cronjobs", "batch") == []
    obj["metadata"]["name"] = "x" * 53
    spec["timeZone"] = "Nowhere/Land"
    spec["schedule"] = ""
    assert errors(obj, "cronjobs", "batch") == [
        f'metadata.name: Invalid value: "{"x" * 53}": must be no more than 52 characters',
        "spec.schedule: Required value",
        'spec.timeZone: Invalid value: "Nowhere/Land": unknown time zone Nowhere/Land',
    ]
