"""Defaults of pods, as upstream's server answers a minimal manifest."""

from __future__ import annotations

from typing import Any

import pytest

from sampan.api.kinds.core.podspec.default import pull_policy
from sampan.api.kinds.core.podspec.quality import qos_class
from sampan.api.resources import resource

POD = resource("pods").rules


def created(**spec: Any) -> dict[str, Any]:
    obj: dict[str, Any] = {"metadata": {"name": "p", "namespace": "n"}, "spec": spec}
    assert POD.prepare is not None
    POD.prepare(obj, None)
    POD.default(obj)
    return obj


def test_minimal_pod() -> None:
    pod = created(containers=[{"name": "c", "image": "nginx"}])
    assert pod["status"] == {"phase": "Pending", "qosClass": "BestEffort"}
    assert pod["spec"] == {
        "containers": [
            {
                "name": "c",
                "image": "nginx",
                "imagePullPolicy": "Always",
                "resources": {},
                "terminationMessagePath": "/dev/termination-log",
                "terminationMessagePolicy": "File",
            }
        ],
        "dnsPolicy": "ClusterFirst",
        "enableServiceLinks": True,
        "restartPolicy": "Always",
        "schedulerName": "default-scheduler",
        "securityContext": {},
        "terminationGracePeriodSeconds": 30,
    }


@pytest.mark.parametrize(
    ("image", "policy"),
    [
        ("nginx", "Always"),
        ("nginx:latest", "Always"),
        ("nginx:1.25", "IfNotPresent"),
        ("host:5000/nginx", "Always"),
        ("host:5000/nginx:1", "IfNotPresent"),
        ("nginx@sha256:" + "0" * 64, "IfNotPresent"),
        ("nginx:latest@sha256:" + "0" * 64, "IfNotPresent"),
        ("", "Always"),
    ],
)
def test_pull_policy(image: str, policy: str) -> None:
    assert pull_policy(image) == policy


def test_probe_port_and_hook() -> None:
    pod = created(
        hostNetwork=True,
        containers=[
            {
                "name": "c",
                "image": "a:1",
                "ports": [{"containerPort": 80}],
                "livenessProbe": {"httpGet": {"port": 80}},
                "readinessProbe": {"grpc": {"port": 1}, "timeoutSeconds": 5},
                "lifecycle": {"preStop": {"httpGet": {"port": "web"}}},
                "resources": {"limits": {"cpu": "1"}, "requests": {"memory": "1Mi"}},
            }
        ],
    )
    container = pod["spec"]["containers"][0]
    assert container["ports"] == [{"containerPort": 80, "hostPort": 80, "protocol": "TCP"}]
    assert container["livenessProbe"] == {
        "httpGet": {"port": 80, "path": "/", "scheme": "HTTP"},
        "timeoutSeconds": 1,
        "periodSeconds": 10,
        "successThreshold": 1,
        "failureThreshold": 3,
    }
    assert container["readinessProbe"]["timeoutSeconds"] == 5
    assert container["readinessProbe"]["grpc"] == {"port": 1, "service": ""}
    assert container["lifecycle"]["preStop"]["httpGet"]["scheme"] == "HTTP"
    assert container["resources"]["requests"] == {"memory": "1Mi", "cpu": "1"}


@pytest.mark.parametrize(
    ("volume", "expected"),
    [
        ({}, {"emptyDir": {}}),
        ({"secret": {"secretName": "s"}}, {"secret": {"secretName": "s", "defaultMode": 420}}),
        ({"configMap": {"name": "s"}}, {"configMap": {"name": "s", "defaultMode": 420}}),
        ({"hostPath": {"path": "/x"}}, {"hostPath": {"path": "/x", "type": ""}}),
        (
            {"projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}},
            {
                "projected": {
                    "sources": [{"serviceAccountToken": {"path": "t", "expirationSeconds": 3600}}],
                    "defaultMode": 420,
                }
            },
        ),
        (
            {"downwardAPI": {"items": [{"path": "l", "fieldRef": {"fieldPath": "metadata.name"}}]}},
            {
                "downwardAPI": {
                    "items": [
                        {
                            "path": "l",
                            "fieldRef": {"fieldPath": "metadata.name", "apiVersion": "v1"},
                        }
                    ],
                    "defaultMode": 420,
                }
            },
        ),
        (
            {"image": {"reference": "a:latest"}},
            {"image": {"reference": "a:latest", "pullPolicy": "Always"}},
        ),
    ],
)
def test_volumes(volume: dict[str, Any], expected: dict[str, Any]) -> None:
    pod = created(containers=[], volumes=[{"name": "v", **volume}])
    assert pod["spec"]["volumes"] == [{"name": "v", **expected}]


def resources(requests: dict[str, str], limits: dict[str, str]) -> dict[str, Any]:
    return {"resources": {"requests": requests, "limits": limits}}


@pytest.mark.parametrize(
    ("containers", "expected"),
    [
        ([{}], "BestEffort"),
        ([resources({"cpu": "0"}, {})], "BestEffort"),
        ([resources({"cpu": "1"}, {})], "Burstable"),
        ([resources({}, {"cpu": "1", "memory": "1Gi"})], "Guaranteed"),
        ([resources({"cpu": "1000m"}, {"cpu": "1", "memory": "1Gi"})], "Guaranteed"),
        ([resources({"cpu": "500m"}, {"cpu": "1", "memory": "1Gi"})], "Burstable"),
        ([resources({}, {"cpu": "1", "memory": "1Gi"}), {}], "Burstable"),
        ([resources({"nvidia.com/gpu": "1"}, {"nvidia.com/gpu": "1"})], "BestEffort"),
    ],
)
def test_quality_of_service(containers: list[dict[str, Any]], expected: str) -> None:
    assert qos_class({"containers": containers}) == expected


def test_scheduling_gates_are_a_condition_from_birth() -> None:
    pod = created(containers=[], schedulingGates=[{"name": "a/b"}])
    assert pod["status"]["conditions"] == [
        {
            "type": "PodScheduled",
            "status": "False",
            "reason": "SchedulingGated",
            "message": "Scheduling is blocked due to non-empty scheduling gates",
        }
    ]


def test_label_keys_become_selectors() -> None:
    spread = {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}
    obj: dict[str, Any] = {
        "metadata": {"name": "p", "namespace": "n", "labels": {"rev": "7"}},
        "spec": {
            "containers": [{"name": "c", "image": "i"}],
            "topologySpreadConstraints": [
                {**spread, "labelSelector": {}, "matchLabelKeys": ["rev", "absent"]}
            ],
            "affinity": {
                "podAntiAffinity": {
                    "requiredDuringSchedulingIgnoredDuringExecution": [
                        {"topologyKey": "z", "labelSelector": {}, "mismatchLabelKeys": ["rev"]}
                    ]
                }
            },
        },
    }
    assert POD.prepare is not None
    POD.prepare(obj, None)
    POD.default(obj)
    assert POD.validate(obj, None) == []
    spec = obj["spec"]
    assert spec["topologySpreadConstraints"][0]["labelSelector"]["matchExpressions"] == [
        {"key": "rev", "operator": "In", "values": ["7"]}
    ]
    (term,) = spec["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    assert term["labelSelector"]["matchExpressions"][0]["operator"] == "NotIn"
