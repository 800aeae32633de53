"""Ages, lists and the pod's one-word status, as kubectl shows them."""

from __future__ import annotations

from typing import Any

import pytest

from sampan.api.kinds.printing import human_duration, shortened, since
from sampan.api.resources import resource
from sampan.api.times import format_time

NOW_S = 1_700_000_000.0
M, H, D = 60, 3600, 86400


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-2, "<invalid>"), (-1, "0s"), (0, "0s"), (1.9, "1s"), (119, "119s"), (2 * M, "2m"),
        (2 * M + 5, "2m5s"), (10 * M + 5, "10m"), (3 * H - 1, "179m"), (3 * H, "3h"),
        (3 * H + 4 * M, "3h4m"), (8 * H + 5 * M, "8h"), (47 * H, "47h"), (2 * D, "2d"),
        (2 * D + 3 * H, "2d3h"), (8 * D + 3 * H, "8d"), (700 * D, "700d"), (730 * D, "2y"),
        (800 * D, "2y70d"), (365 * 9 * D, "9y"),
    ],
)  # fmt: skip
def test_human_duration(seconds: float, text: str) -> None:
    assert human_duration(seconds) == text


def test_since_and_shortened() -> None:
    assert since(None, NOW_S) == "<unknown>"
    assert since("not a time", NOW_S) == "<unknown>"
    assert since(format_time(NOW_S - 90), NOW_S) == "90s"
    assert shortened(["a", "b", "c"]) == "a,b,c"
    assert shortened(["a", "b", "c", "d", "e"]) == "a,b,c + 2 more..."


def pod(status: dict[str, Any], *, deleting: bool = False, **spec: Any) -> list[Any]:
    metadata = {"name": "p", "creationTimestamp": format_time(NOW_S - 300)}
    if deleting:
        metadata["deletionTimestamp"] = format_time(NOW_S)
    spec = {"containers": [{"name": "a"}, {"name": "b"}], **spec}
    rules = resource("pods").rules
    assert rules.cells is not None
    return rules.cells({"metadata": metadata, "spec": spec, "status": status}, NOW_S)


def container(state: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"name": more.pop("name", "a"), "state": state, "restartCount": 0, **more}


RUNNING: dict[str, Any] = {"running": {}}
COMPLETED = {"terminated": {"exitCode": 0, "reason": "Completed"}}
LAST = {"terminated": {"finishedAt": format_time(NOW_S - 300)}}
INIT = [{"name": "i"}, {"name": "j"}]


@pytest.mark.parametrize(
    ("status", "more", "ready", "text", "restarts"),
    [
        ({"phase": "Pending"}, {}, "0/2", "Pending", "0"),
        (
            {"phase": "Running", "containerStatuses": [container(RUNNING, ready=True)]},
            {}, "1/2", "Running", "0",
        ),
        (
            {"phase": "Running", "containerStatuses": [
                container({"waiting": {"reason": "CrashLoopBackOff"}}, restartCount=2,
                          lastState=LAST)]},
            {}, "0/2", "CrashLoopBackOff", "2 (5m ago)",
        ),
        ({"phase": "Succeeded", "containerStatuses": [container(COMPLETED)]}, {}, "0/2",
         "Completed", "0"),
        (
            {"phase": "Running", "containerStatuses": [container(COMPLETED),
                                                       container(RUNNING, ready=True)]},
            {}, "1/2", "NotReady", "0",
        ),
        ({"phase": "Failed", "containerStatuses": [
            container({"terminated": {"exitCode": 137, "signal": 9}})]}, {}, "0/2", "Signal:9",
         "0"),
        ({"phase": "Running", "containerStatuses": [container(RUNNING, ready=True)]},
         {"deleting": True}, "1/2", "Terminating", "0"),
        ({"phase": "Running", "reason": "NodeLost"}, {"deleting": True}, "0/2", "Unknown", "0"),
        ({"phase": "Failed", "reason": "Evicted"}, {}, "0/2", "Evicted", "0"),
        (
            {"phase": "Pending", "initContainerStatuses": [container(RUNNING, name="i")]},
            {"initContainers": INIT}, "0/2", "Init:0/2", "0",
        ),
        (
            {"phase": "Pending", "initContainerStatuses": [
                container(COMPLETED, name="i"), container({"waiting": {
                    "reason": "ImagePullBackOff"}}, name="j")]},
            {"initContainers": INIT}, "0/2", "Init:ImagePullBackOff", "0",
        ),
        (
            {"phase": "Pending", "initContainerStatuses": [
                container({"terminated": {"exitCode": 1, "reason": "Error"}}, name="i",
                          restartCount=3)]},
            {"initContainers": INIT}, "0/2", "Init:Error", "3",
        ),
        (
            {"phase": "Running", "initContainerStatuses": [
                container(RUNNING, name="s", started=True, ready=True)],
             "containerStatuses": [container(RUNNING, ready=True)]},
            {"initContainers": [{"name": "s", "restartPolicy": "Always"}]}, "2/3", "Running", "0",
        ),
        (
            {"phase": "Pending", "conditions": [
                {"type": "PodScheduled", "status": "False", "reason": "SchedulingGated"}]},
            {}, "0/2", "SchedulingGated", "0",
        ),
    ],
)  # fmt: skip
def test_pod_row(
    status: dict[str, Any], more: dict[str, Any], ready: str, text: str, restarts: str
) -> None:
    assert pod(status, **more)[1:5] == [ready, text, restarts, "5m"]


def test_wide_pod_row() -> None:
    row = pod(
        {"phase": "Running", "podIPs": [{"ip": "10.1.2.3"}],
         "conditions": [{"type": "x/a", "status": "True"}]},
        nodeName="n1",
        readinessGates=[{"conditionType": "x/a"}, {"conditionType": "x/b"}],
    )  # fmt: skip
    assert row[5:] == ["10.1.2.3", "n1", "<none>", "1/2"]
    assert pod({})[5:] == ["<none>", "<none>", "<none>", "<none>"]


ROWS: list[tuple[str, str, dict[str, Any], list[Any]]] = [
    (
        "deployments", "apps",
        {"spec": {"replicas": 3, "selector": {"matchLabels": {"a": "b"}},
                  "template": {"spec": {"containers": [{"name": "x", "image": "y"}]}}},
         "status": {"readyReplicas": 2, "updatedReplicas": 3, "availableReplicas": 1}},
        ["2/3", 3, 1, "5m", "x", "y", "a=b"],
    ),
    ("replicasets", "apps", {"spec": {"replicas": 3}, "status": {"replicas": 2}},
     [3, 2, 0, "5m", "", "", "<none>"]),
    ("statefulsets", "apps", {"spec": {"replicas": 3}, "status": {"readyReplicas": 2}},
     ["2/3", "5m", "", ""]),
    (
        "services", "",
        {"spec": {"type": "NodePort", "clusterIPs": ["10.96.0.5"], "selector": {"b": "2", "a": "1"},
                  "ports": [{"port": 80, "nodePort": 30080, "protocol": "TCP"},
                            {"port": 53, "protocol": "UDP"}]}},
        ["NodePort", "10.96.0.5", "<none>", "80:30080/TCP,53/UDP", "5m", "a=1,b=2"],
    ),
    ("services", "", {"spec": {"type": "LoadBalancer"}},
     ["LoadBalancer", "<none>", "<pending>", "<none>", "5m", "<none>"]),
    ("services", "", {"spec": {"type": "ExternalName", "externalName": "a.b"}},
     ["ExternalName", "<none>", "a.b", "<none>", "5m", "<none>"]),
    (
        "nodes", "",
        {"metadata": {"labels": {"node-role.kubernetes.io/control-plane": "",
                                 "kubernetes.io/role": "a"}},
         "spec": {"unschedulable": True},
         "status": {"conditions": [{"type": "Ready", "status": "True"}],
                    "nodeInfo": {"kubeletVersion": "v1.36.0", "osImage": "Debian"},
                    "addresses": [{"type": "InternalIP", "address": "10.0.0.1"}]}},
        ["Ready,SchedulingDisabled", "a,control-plane", "5m", "v1.36.0", "10.0.0.1", "<none>",
         "Debian", "<unknown>", "<unknown>"],
    ),
    ("namespaces", "", {"status": {"phase": "Active"}}, ["Active", "5m"]),
    ("configmaps", "", {"data": {"a": "b"}, "binaryData": {"c": ""}}, [2, "5m"]),
    ("secrets", "", {"type": "Opaque", "data": {"a": "b"}}, ["Opaque", 1, "5m"]),
    ("serviceaccounts", "", {}, [0, "5m"]),
    (
        "endpoints", "",
        {"subsets": [{"addresses": [{"ip": "1.2.3.4"}, {"ip": "1.2.3.5"}],
                      "ports": [{"port": 80}, {"port": 443}]}]},
        ["1.2.3.4:80,1.2.3.5:80,1.2.3.4:443 + 1 more...", "5m"],
    ),
    ("endpoints", "", {}, ["<none>", "5m"]),
    (
        "endpointslices", "discovery.k8s.io",
        {"addressType": "IPv4", "ports": [{"port": 80}],
         "endpoints": [{"addresses": ["1.2.3.4"]}, {"addresses": ["1.2.3.5"]}]},
        ["IPv4", "80", "1.2.3.4,1.2.3.5", "5m"],
    ),
    (
        "jobs", "batch",
        {"spec": {"completions": 3},
         "status": {"succeeded": 1, "startTime": format_time(NOW_S - 60)}},
        ["Running", "1/3", "60s", "5m", "", "", "<none>"],
    ),
    (
        "cronjobs", "batch", {"spec": {"schedule": "* * * * *", "suspend": False}},
        ["* * * * *", "<none>", "False", 0, "<none>", "5m", "", "", "<none>"],
    ),
    ("daemonsets", "apps", {"status": {"desiredNumberScheduled": 2}},
     [2, 0, 0, 0, 0, "<none>", "5m", "", "", "<none>"]),
    (
        "persistentvolumeclaims", "",
        {"spec": {"volumeName": "v", "storageClassName": "s", "volumeMode": "Filesystem"},
         "status": {"phase": "Bound", "capacity": {"storage": "1024Mi"},
                    "accessModes": ["ReadOnlyMany", "ReadWriteOnce"]}},
        ["Bound", "v", "1Gi", "RWO,ROX", "s", "<unset>", "5m", "Filesystem"],
    ),
    (
        "ingresses", "networking.k8s.io",
        {"spec": {"rules": [{"host": "a.b"}], "tls": [{}]},
         "status": {"loadBalancer": {"ingress": [{"ip": "1.1.1.1"}]}}},
        ["<none>", "a.b", "1.1.1.1", "80, 443", "5m"],
    ),
    (
        "horizontalpodautoscalers", "autoscaling",
        {"spec": {"scaleTargetRef": {"kind": "Deployment", "name": "d"}, "maxReplicas": 5,
                  "minReplicas": 1, "metrics": [
                      {"type": "Resource", "resource": {
                          "name": "cpu", "target": {"averageUtilization": 80}}}]}},
        ["Deployment/d", "cpu: <unknown>/80%", "1", 5, 0, "5m"],
    ),
    (
        "certificatesigningrequests", "certificates.k8s.io",
        {"spec": {"signerName": "a/b", "username": "me", "expirationSeconds": 3600},
         "status": {"conditions": [{"type": "Approved"}], "certificate": "x"}},
        ["5m", "a/b", "me", "60m", "Approved,Issued"],
    ),
    (
        "clustertrustbundles", "certificates.k8s.io",
        {"spec": {"signerName": "a/b", "trustBundle": "x"}},
        ["a/b"],
    ),
    (
        "rolebindings", "rbac.authorization.k8s.io",
        {"roleRef": {"kind": "Role", "name": "r"},
         "subjects": [{"kind": "ServiceAccount", "name": "s", "namespace": "n"},
                      {"kind": "User", "name": "u"}]},
        ["Role/r", "5m", "u", "", "n/s"],
    ),
]  # fmt: skip


@pytest.mark.parametrize(("plural", "group", "obj", "expected"), ROWS)
def test_rows(plural: str, group: str, obj: dict[str, Any], expected: list[Any]) -> None:
    metadata = {"name": "x", "creationTimestamp": format_time(NOW_S - 300)}
    rules = resource(plural, group).rules
    assert rules.cells is not None
    row = rules.cells({**obj, "metadata": {**metadata, **obj.get("metadata", {})}}, NOW_S)
    assert row[1:] == expected


def test_event_row() -> None:
    rules = resource("events").rules
    assert rules.cells is not None
    event = {
        "metadata": {"name": "e"},
        "type": "Warning",
        "reason": "BackOff",
        "message": " Back-off \n",
        "involvedObject": {"kind": "Pod", "name": "p", "fieldPath": "spec.containers{c}"},
        "source": {"component": "kubelet", "host": "n1"},
        "firstTimestamp": format_time(NOW_S - 600),
        "lastTimestamp": format_time(NOW_S - 60),
        "count": 4,
    }
    assert rules.cells(event, NOW_S) == [
        "60s", "Warning", "BackOff", "pod/p", "spec.containers{c}", "kubelet, n1", "Back-off",
        "10m", 4, "e",
    ]  # fmt: skip


def test_columns_are_upstreams() -> None:
    def wide(plural: str, group: str = "") -> str:
        columns = resource(plural, group).rules.columns
        return " ".join(item.name + ("+" if item.priority else "") for item in columns)

    assert wide("pods") == (
        "Name Ready Status Restarts Age IP+ Node+ Nominated Node+ Readiness Gates+"
    )
    assert wide("deployments", "apps") == (
        "Name Ready Up-to-date Available Age Containers+ Images+ Selector+"
    )
    assert wide("services") == "Name Type Cluster-IP External-IP Port(s) Age Selector+"
    assert wide("nodes") == (
        "Name Status Roles Age Version Internal-IP+ External-IP+ OS-Image+ Kernel-Version+ "
        "Container-Runtime+"
    )
    assert wide("events") == (
        "Last Seen Type Reason Object Subobject+ Source+ Message First Seen+ Count+ Name+"
    )
