"""Numbers of thousands of digits, wherever a text may hold one: refused in the words of the API, or
taken as the most there is, but never a fault of the server."""

from __future__ import annotations

from typing import Any

import pytest

from tests.kit.cluster import api_cluster

DIGITS = "1" * 5000
TEMPLATE: dict[str, Any] = {
    "metadata": {"labels": {"a": "b"}},
    "spec": {"containers": [{"name": "c", "image": "i"}]},
}
SELECTED = {"selector": {"matchLabels": {"a": "b"}}, "template": TEMPLATE}
ONCE = {"template": {"spec": {**TEMPLATE["spec"], "restartPolicy": "Never"}}}
APPS = "/apis/apps/v1/namespaces/default/"
BATCH = "/apis/batch/v1/namespaces/default/"
SCALING = "/apis/autoscaling/v1/namespaces/default/horizontalpodautoscalers"
NOTES = "autoscaling.alpha.kubernetes.io/"


def rolling(**percent: str) -> dict[str, Any]:
    return {**SELECTED, "strategy": {"rollingUpdate": percent}}


def every(schedule: str) -> dict[str, Any]:
    return {"schedule": schedule, "jobTemplate": {"spec": ONCE}}


def indexes(text: str) -> dict[str, Any]:
    policy = {"rules": [{"succeededIndexes": text}]}
    return {**ONCE, "completionMode": "Indexed", "completions": 3, "successPolicy": policy}


ASKED: dict[str, tuple[str, dict[str, Any], int, str]] = {
    "unavailable": (f"{APPS}deployments", rolling(maxUnavailable=f"{DIGITS}%"), 422, "than 100%"),
    "surge": (f"{APPS}deployments", rolling(maxSurge=f"{DIGITS}%"), 201, ""),
    "step": (f"{BATCH}cronjobs", every(f"*/{DIGITS} * * * *"), 422, "value out of range"),
    "minute": (f"{BATCH}cronjobs", every(f"{DIGITS} * * * *"), 422, "value out of range"),
    "every": (f"{BATCH}cronjobs", every(f"@every {DIGITS}h"), 422, "failed to parse duration"),
    "never": (
        f"{BATCH}cronjobs",
        every("@every soon"),
        422,
        "failed to parse duration @every soon",
    ),
    "index": (f"{BATCH}jobs", indexes(DIGITS), 422, "cannot convert string to integer"),
}


@pytest.mark.parametrize("name", ASKED)
async def test_no_number_is_too_long(name: str) -> None:
    path, spec, status, words = ASKED[name]
    async with api_cluster() as cluster:
        answer = await cluster.http("POST", path, {"metadata": {"name": "n"}, "spec": spec})
        assert answer.status == status, answer.message
        assert words in answer.body.decode()


async def test_annotations_that_hold_other_things_than_metrics_hold_nothing() -> None:
    target = {"kind": "Deployment", "name": "d"}
    spec = {"maxReplicas": 3, "scaleTargetRef": target, "targetCPUUtilizationPercentage": 7}
    async with api_cluster() as cluster:
        for number, metrics in enumerate(('[1, {"type": 5}]', '[{"resource": 1}]', "{", "{}")):
            notes = {f"{NOTES}metrics": metrics, f"{NOTES}conditions": '[{"type": 1}]'}
            body = {"metadata": {"name": f"h{number}", "annotations": notes}, "spec": spec}
            made = await cluster.http("POST", SCALING, body)
            assert made.status == 201, made.message
            assert made.json["spec"]["targetCPUUtilizationPercentage"] == 7
