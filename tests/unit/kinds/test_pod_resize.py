"""What /resize takes of a pod, and what it says of the rest (KEP-1287)."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from sampan.api.resources import resource

POD = resource("pods").rules
ONLY = "spec: Forbidden: only cpu and memory resources are mutable"
BEST = {"requests": {"cpu": "1", "memory": "1Gi"}}


def made(container: dict[str, Any], annotations: dict[str, str], **spec: Any) -> dict[str, Any]:
    obj: dict[str, Any] = {
        "metadata": {"name": "p", "namespace": "n", "annotations": annotations},
        "spec": {"containers": [{"name": "c", "image": "i", **container}], **spec},
    }
    assert POD.prepare is not None
    POD.prepare(obj, None)
    obj = copy.deepcopy(obj)
    POD.default(obj)
    return obj


def resized(old: dict[str, Any], **changes: Any) -> list[str]:
    new = copy.deepcopy(old)
    new["spec"] |= copy.deepcopy(changes)
    POD.prepare_parts["resize"](new, old)
    POD.default(new)
    return [str(cause) for cause in POD.validate_parts["resize"](new, old)]


def container(resources: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"name": "c", "image": "i", "resources": resources, **more}


@pytest.mark.parametrize(
    ("resources", "expected"),
    [
        ({"requests": {"cpu": "2", "memory": "1Gi"}}, []),
        ({"requests": {"cpu": "2", "memory": "1Gi"}, "limits": {"cpu": "3"}}, []),
        (
            {"requests": {"cpu": "2"}},
            ["spec.containers[0].resources.requests: Forbidden: resource requests cannot be "
             "removed"],
        ),
        ({**BEST, "requests": {**BEST["requests"], "ephemeral-storage": "1Gi"}}, [ONLY]),
        (
            {"requests": {"cpu": "2", "memory": "1Gi"}, "limits": {"cpu": "1"}},
            ['spec.containers[0].resources.requests: Invalid value: "2": must be less than or '
             "equal to cpu limit of 1"],
        ),
        (
            {"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"cpu": "1", "memory": "1Gi"}},
            ['spec: Invalid value: "Burstable": Pod QOS Class may not change as a result of '
             "resizing"],
        ),
    ],
)  # fmt: skip
def test_resources_of_a_container(resources: dict[str, Any], expected: list[str]) -> None:
    old = made({"resources": BEST}, {})
    assert resized(old, containers=[container(resources)]) == expected


def test_limits_stay_once_they_are_there() -> None:
    old = made({"resources": {**BEST, "limits": {"cpu": "2"}}}, {})
    assert resized(old, containers=[container(BEST)]) == [
        "spec.containers[0].resources.limits: Forbidden: resource limits cannot be removed"
    ]


def test_a_resize_policy_does_not_change() -> None:
    policy = [{"resourceName": "cpu", "restartPolicy": "NotRequired"}]
    old = made({"resources": BEST, "resizePolicy": policy}, {})
    other = [{"resourceName": "cpu", "restartPolicy": "RestartContainer"}]
    assert resized(old, containers=[container(BEST, resizePolicy=policy)]) == []
    assert resized(old, containers=[container(BEST, resizePolicy=other)]) == [ONLY]


def test_what_else_was_sent_is_left_out() -> None:
    old = made({"resources": BEST}, {}, tolerations=[{"operator": "Exists"}])
    new = copy.deepcopy(old)
    new["spec"] |= {
        "nodeName": "x",
        "tolerations": [],
        "containers": [
            {"name": "added", "image": "i"},
            container({"requests": {"cpu": "3", "memory": "1Gi"}}, image="other"),
        ],
    }
    POD.prepare_parts["resize"](new, old)
    only = old["spec"]["containers"][0]
    changed = {**only, "resources": {"requests": {"cpu": "3", "memory": "1Gi"}}}
    assert new["spec"] == {**old["spec"], "containers": [changed]}


@pytest.mark.parametrize(("policy", "whose"), [("Always", " for sidecar containers"), ("", "")])
def test_init_containers_are_resized_too(policy: str, whose: str) -> None:
    init: dict[str, Any] = {"name": "s", "image": "i", "resources": BEST}
    if policy:
        init["restartPolicy"] = policy
    old = made({"resources": BEST}, {}, initContainers=[init])
    more = {"requests": {"cpu": "3", "memory": "1Gi"}}
    assert resized(old, initContainers=[{**init, "resources": more}]) == []
    odd = {**BEST, "limits": {"ephemeral-storage": "1Gi"}}
    assert resized(old, initContainers=[{**init, "resources": odd}]) == [
        f"spec: Forbidden: only cpu and memory resources{whose} are mutable"
    ]
    less = {"requests": {"cpu": "1"}}
    assert (
        "spec.initContainers[0].resources.requests: Forbidden: resource requests cannot be removed"
        in resized(old, initContainers=[{**init, "resources": less}])
    )


@pytest.mark.parametrize(("policy", "refused"), [("Always", False), ("", True)])
def test_what_runs_once_does_not_restart_to_be_resized(policy: str, refused: bool) -> None:
    """1.36 refuses it (kubernetes/kubernetes#137458)."""
    wish = [{"resourceName": "cpu", "restartPolicy": "RestartContainer"}]
    init = container({}, name="s", resizePolicy=wish) | (
        {"restartPolicy": policy} if policy else {}
    )
    pod = made({}, {}, initContainers=[init])
    path = "spec.initContainers[0].resizePolicy[0].restartPolicy"
    why = "must not be set to 'RestartContainer' for non-sidecar initContainers"
    expected = [f'{path}: Invalid value: "RestartContainer": {why}'] if refused else []
    assert [str(cause) for cause in POD.validate(pod, None)] == expected


def test_the_pod_itself_is_resized() -> None:
    old = made({}, {}, resources=copy.deepcopy(BEST))
    assert resized(old, resources={"requests": {"cpu": "2", "memory": "1Gi"}}) == []
    assert resized(old, resources={"requests": {"cpu": "2"}}) == [
        "spec.resources.requests: Forbidden: resource requests cannot be removed"
    ]


@pytest.mark.parametrize(
    ("annotations", "spec", "expected"),
    [
        ({"kubernetes.io/config.mirror": "x"}, {}, ": Forbidden: static pods cannot be resized"),
        ({}, {"os": {"name": "windows"}}, ": Forbidden: windows pods cannot be resized"),
    ],
)
def test_pods_that_cannot_be_resized(
    annotations: dict[str, str], spec: dict[str, Any], expected: str
) -> None:
    old = made({"resources": BEST}, annotations, nodeName="n", **spec)
    assert resized(old) == [expected]


def test_a_static_pod_has_no_ephemeral_containers() -> None:
    old = made({}, {"kubernetes.io/config.mirror": "x"}, nodeName="n")
    new = copy.deepcopy(old)
    new["spec"]["ephemeralContainers"] = [{"name": "d", "image": "i"}]
    POD.default(new)
    assert [str(cause) for cause in POD.validate_parts["ephemeralcontainers"](new, old)] == [
        ": Forbidden: static pods do not support ephemeral containers"
    ]
