"""A printed row of every kind that can be listed, as upstream's printers lay it out."""

from __future__ import annotations

from typing import Any

import pytest

from sampan.api.resources import builtin, resource
from sampan.api.times import format_time
from sampan.server import table
from tests.unit.kinds.test_printing import ROWS as WORKLOAD_ROWS

NOW_S = 1_700_000_000.0
CREATED = format_time(NOW_S - 300)
Object = dict[str, Any]

ADMISSION = "admissionregistration.k8s.io"
STORAGE = "storage.k8s.io"
NETWORK = "networking.k8s.io"
FLOW = "flowcontrol.apiserver.k8s.io"
RBAC = "rbac.authorization.k8s.io"
DEVICES = "resource.k8s.io"
TEMPLATE = {"spec": {"containers": [{"name": "a", "image": "i"}, {"name": "b", "image": "j"}]}}
PARAM = {"paramKind": {"apiVersion": "v1", "kind": "ConfigMap"}}

ROWS: tuple[tuple[str, str, Object, list[Any]], ...] = (
    ("componentstatuses", "", {"conditions": [
        {"type": "Healthy", "status": "False", "message": "m", "error": "e"}]},
     ["x", "Unhealthy", "m", "e"]),
    ("componentstatuses", "", {}, ["x", "Unknown", "", ""]),
    ("limitranges", "", {}, ["x", CREATED]),
    ("persistentvolumes", "",
     {"spec": {"capacity": {"storage": "1024Mi"}, "accessModes": ["ReadWriteOncePod"],
               "persistentVolumeReclaimPolicy": "Retain", "storageClassName": "s",
               "claimRef": {"namespace": "n", "name": "c"}, "volumeMode": "Block"},
      "status": {"phase": "Bound", "reason": "r"}},
     ["x", "1Gi", "RWOP", "Retain", "Bound", "n/c", "s", "<unset>", "r", "5m", "Block"]),
    ("podtemplates", "",
     {"template": {**TEMPLATE, "metadata": {"labels": {"b": "2", "a": "1"}}}},
     ["x", "a,b", "i,j", "a=1,b=2"]),
    ("replicationcontrollers", "",
     {"spec": {"replicas": 3, "selector": {"a": "b"}, "template": TEMPLATE},
      "status": {"replicas": 2, "readyReplicas": 1}},
     ["x", 3, 2, 1, "5m", "a,b", "i,j", "a=b"]),
    ("resourcequotas", "",
     {"status": {"hard": {"pods": "5", "limits.cpu": "2", "cpu": "1000m"},
                 "used": {"pods": "3"}}},
     ["x", "cpu: 0/1, pods: 3/5", "limits.cpu: 0/2", "5m"]),
    ("mutatingadmissionpolicies", ADMISSION, {"spec": {"mutations": [{}, {}], **PARAM}},
     ["x", 2, "v1/ConfigMap", "5m"]),
    ("mutatingadmissionpolicybindings", ADMISSION,
     {"spec": {"policyName": "p", "paramRef": {"name": "q"}}}, ["x", "p", "*/q", "5m"]),
    ("mutatingwebhookconfigurations", ADMISSION, {"webhooks": [{}]}, ["x", 1, "5m"]),
    ("validatingadmissionpolicies", ADMISSION, {"spec": {"validations": [{}]}},
     ["x", 1, "<unset>", "5m"]),
    ("validatingadmissionpolicybindings", ADMISSION,
     {"spec": {"policyName": "p", "paramRef": {"name": "q", "namespace": "n"}}},
     ["x", "p", "n/q", "5m"]),
    ("validatingadmissionpolicybindings", ADMISSION, {"spec": {"policyName": "p"}},
     ["x", "p", "<unset>", "5m"]),
    ("validatingwebhookconfigurations", ADMISSION, {}, ["x", 0, "5m"]),
    ("customresourcedefinitions", "apiextensions.k8s.io", {}, ["x", CREATED]),
    ("apiservices", "apiregistration.k8s.io",
     {"spec": {"service": {"namespace": "n", "name": "s"}},
      "status": {"conditions": [{"type": "Available", "status": "False", "reason": "R"}]}},
     ["x", "n/s", "False (R)", "5m"]),
    ("apiservices", "apiregistration.k8s.io",
     {"spec": {}, "status": {"conditions": [{"type": "Available", "status": "True"}]}},
     ["x", "Local", "True", "5m"]),
    ("controllerrevisions", "apps",
     {"revision": 4, "metadata": {"ownerReferences": [
         {"apiVersion": "apps/v1", "kind": "DaemonSet", "name": "d", "controller": True}]}},
     ["x", "daemonset.apps/d", 4, "5m"]),
    ("leases", "coordination.k8s.io", {"spec": {"holderIdentity": "h"}}, ["x", "h", "5m"]),
    ("endpointslices", "discovery.k8s.io", {"addressType": "IPv6"},
     ["x", "IPv6", "<unset>", "<unset>", "5m"]),
    ("flowschemas", FLOW,
     {"spec": {"priorityLevelConfiguration": {"name": "p"}, "matchingPrecedence": 9,
               "distinguisherMethod": {"type": "ByUser"}},
      "status": {"conditions": [{"type": "Dangling", "status": "False"}]}},
     ["x", "p", 9, "ByUser", "5m", "False"]),
    ("flowschemas", FLOW, {"spec": {"priorityLevelConfiguration": {"name": "p"},
                                    "matchingPrecedence": 9}},
     ["x", "p", 9, "<none>", "5m", "?"]),
    ("prioritylevelconfigurations", FLOW, {"spec": {"type": "Exempt"}},
     ["x", "Exempt", "<none>", "<none>", "<none>", "<none>", "5m"]),
    ("prioritylevelconfigurations", FLOW,
     {"spec": {"type": "Limited", "limited": {
         "nominalConcurrencyShares": 30, "limitResponse": {"type": "Queue", "queuing": {
             "queues": 64, "handSize": 6, "queueLengthLimit": 50}}}}},
     ["x", "Limited", 30, 64, 6, 50, "5m"]),
    ("ipaddresses", NETWORK,
     {"spec": {"parentRef": {"resource": "services", "namespace": "n", "name": "s"}}},
     ["x", "services/n/s", "5m"]),
    ("ingressclasses", NETWORK,
     {"spec": {"controller": "c", "parameters": {"apiGroup": "g", "kind": "K", "name": "p"}}},
     ["x", "c", "K.g/p", "5m"]),
    ("ingressclasses", NETWORK, {"spec": {"controller": "c"}}, ["x", "c", "<none>", "5m"]),
    ("networkpolicies", NETWORK, {"spec": {"podSelector": {}}}, ["x", "<none>", "5m"]),
    ("servicecidrs", NETWORK, {"spec": {"cidrs": ["10.0.0.0/8", "fd00::/8"]}},
     ["x", "10.0.0.0/8,fd00::/8", "5m"]),
    ("runtimeclasses", "node.k8s.io", {"handler": "h"}, ["x", "h", "5m"]),
    ("poddisruptionbudgets", "policy",
     {"spec": {"minAvailable": "50%"}, "status": {"disruptionsAllowed": 2}},
     ["x", "50%", "N/A", 2, "5m"]),
    ("storageversionmigrations", "storagemigration.k8s.io", {}, ["x", CREATED]),
    ("clusterroles", RBAC, {}, ["x", CREATED]),
    ("roles", RBAC, {}, ["x", CREATED]),
    ("clusterrolebindings", RBAC,
     {"roleRef": {"kind": "ClusterRole", "name": "r"},
      "subjects": [{"kind": "Group", "name": "g"}, {"kind": "Group", "name": "h"}]},
     ["x", "ClusterRole/r", "5m", "", "g, h", ""]),
    ("deviceclasses", DEVICES, {}, ["x", "5m"]),
    ("resourceclaims", DEVICES, {}, ["x", "pending", "5m"]),
    ("resourceclaims", DEVICES, {"status": {"allocation": {}, "reservedFor": [{}]}},
     ["x", "allocated,reserved", "5m"]),
    ("resourceclaimtemplates", DEVICES, {}, ["x", "5m"]),
    ("resourceslices", DEVICES,
     {"spec": {"nodeName": "n", "driver": "d", "pool": {"name": "p"}}},
     ["x", "n", "d", "p", "5m"]),
    ("priorityclasses", "scheduling.k8s.io", {"value": 7, "preemptionPolicy": "Never"},
     ["x", 7, False, "5m", "Never"]),
    ("csidrivers", STORAGE, {"spec": {}},
     ["x", True, False, False, "<unset>", False, "<none>", "5m"]),
    ("csidrivers", STORAGE,
     {"spec": {"attachRequired": False, "podInfoOnMount": True, "storageCapacity": True,
               "tokenRequests": [{"audience": "a"}, {"audience": "b"}],
               "volumeLifecycleModes": ["Persistent", "Ephemeral"]}},
     ["x", False, True, True, "a,b", False, "Persistent,Ephemeral", "5m"]),
    ("csinodes", STORAGE, {"spec": {"drivers": [{}, {}]}}, ["x", 2, "5m"]),
    ("csistoragecapacities", STORAGE, {"storageClassName": "s"}, ["x", "s", "<unset>"]),
    ("storageclasses", STORAGE,
     {"provisioner": "p",
      "metadata": {"annotations": {"storageclass.kubernetes.io/is-default-class": "true"}}},
     ["x (default)", "p", "Delete", "Immediate", False, "5m"]),
    ("volumeattachments", STORAGE,
     {"spec": {"attacher": "a", "nodeName": "n", "source": {"persistentVolumeName": "p"}},
      "status": {"attached": True}},
     ["x", "a", "p", "n", True, "5m"]),
    ("volumeattributesclasses", STORAGE, {"driverName": "d"}, ["x", "d", "5m"]),
    ("jobs", "batch",
     {"spec": {"parallelism": 3},
      "status": {"conditions": [{"type": "Suspended", "status": "True"}]}},
     ["x", "Suspended", "0/1 of 3", "", "5m", "", "", "<none>"]),
    ("services", "",
     {"spec": {"type": "LoadBalancer", "externalIPs": ["9.9.9.9"], "clusterIPs": ["1.1.1.1"]},
      "status": {"loadBalancer": {"ingress": [{"hostname": "b"}, {"ip": "2.2.2.2"}]}}},
     ["x", "LoadBalancer", "1.1.1.1", "2.2.2.2,b,9.9.9.9", "<none>", "5m", "<none>"]),
    ("ingresses", NETWORK, {"spec": {"ingressClassName": "c", "rules": [
        {"host": "a"}, {"host": "b"}, {"host": "c"}, {"host": "d"}, {"host": "e"}]}},
     ["x", "c", "a,b,c + 2 more...", "", "80", "5m"]),
)  # fmt: skip


@pytest.mark.parametrize(("plural", "group", "obj", "expected"), ROWS)
def test_row(plural: str, group: str, obj: Object, expected: list[Any]) -> None:
    metadata = {"name": "x", "creationTimestamp": CREATED, **obj.get("metadata", {})}
    made = table.table_of(
        resource(plural, group), [{**obj, "metadata": metadata}], "v1", "None", NOW_S
    )
    assert made["rows"][0]["cells"] == expected
    assert len(made["columnDefinitions"]) == len(expected)


def test_every_kind_has_a_row_here() -> None:
    shown = {(group, plural) for plural, group, _, _ in (*ROWS, *WORKLOAD_ROWS)}
    shown |= {("", "pods"), ("", "events"), ("events.k8s.io", "events")}
    listed = {(item.group, item.plural) for item in builtin() if "list" in item.verbs}
    assert listed - shown == set()


def test_columns_have_the_types_of_their_cells() -> None:
    python = {"string": str, "integer": int, "boolean": bool, "date": str}
    for plural, group, obj, _ in ROWS:
        metadata = {"name": "x", "creationTimestamp": CREATED, **obj.get("metadata", {})}
        target = resource(plural, group)
        made = table.table_of(target, [{**obj, "metadata": metadata}], "v1", "None", NOW_S)
        for column, cell in zip(made["columnDefinitions"], made["rows"][0]["cells"], strict=True):
            if column["type"] in ("integer", "boolean"):
                assert type(cell) is python[column["type"]], (plural, column["name"])


def test_finished_pods_are_marked() -> None:
    pods = [
        {"metadata": {"name": phase}, "spec": {}, "status": {"phase": phase}}
        for phase in ("Running", "Succeeded", "Failed")
    ]
    made = table.table_of(resource("pods"), pods, "v1", "None", NOW_S)
    running, succeeded, failed = made["rows"]
    assert "conditions" not in running
    assert succeeded["conditions"][0]["reason"] == "Succeeded"
    assert failed["conditions"] == [
        {"type": "Completed", "status": "True", "reason": "Failed", "message": "The pod failed."}
    ]


def test_flow_schemas_are_in_the_order_they_match() -> None:
    def schema(name: str, precedence: int) -> Object:
        spec = {"matchingPrecedence": precedence, "priorityLevelConfiguration": {"name": "p"}}
        return {"metadata": {"name": name}, "spec": spec}

    given = [schema("a", 900), schema("c", 100), schema("b", 100)]
    made = table.table_of(resource("flowschemas", FLOW), given, "v1", "None", NOW_S)
    assert [row["cells"][0] for row in made["rows"]] == ["b", "c", "a"]
