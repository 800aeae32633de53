"""Slices and Endpoints from pods: who is in, on which ports, and how little is written."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

import pytest

from sampan.api.errors import Object
from sampan.api.resources import resource
from sampan.controllers.endpoints import body_of
from sampan.controllers.endpoints_plan import backends, fingerprint, resolve_ports
from sampan.controllers.endpointslice_plan import MAX_ENDPOINTS, Plan, is_automatic, placed, plan

SERVICES = resource("services")


def service(**spec: Any) -> Object:
    ports = [{"name": "http", "protocol": "TCP", "port": 80, "targetPort": "web"}]
    return {
        "metadata": {"name": "web", "namespace": "ns", "uid": "s", "labels": {"team": "a"}},
        "spec": {"selector": {"app": "web"}, "clusterIP": "10.96.0.5", "ports": ports, **spec},
    }


def pod(number: int, *, ready: bool = True, port: int = 8080, **changes: Any) -> Object:
    ip = f"10.244.{number // 250}.{number % 250 + 1}"
    status = {
        "phase": "Running",
        "podIPs": [{"ip": ip}, {"ip": f"fd00::{number:x}"}],
        "conditions": [{"type": "Ready", "status": str(ready)}],
    }
    ports = [{"name": "web", "containerPort": port}]
    spec = {"nodeName": "n1", "containers": [{"ports": ports}]}
    meta = {"name": f"p{number:03}", "namespace": "ns", "uid": f"u{number}"}
    for part in (meta, spec, status):
        part |= changes.pop(
            {id(meta): "meta", id(spec): "spec", id(status): "status"}[id(part)], {}
        )
    return {"metadata": meta, "spec": spec, "status": status}


def make(
    owner: Object, pods: Iterable[Object], existing: Iterable[Object] = (), *families: str
) -> Plan:
    found = {family: backends(owner, pods, family) for family in families or ("IPv4",)}
    nodes = {"n1": {"metadata": {"labels": {"topology.kubernetes.io/zone": "z1"}}}}
    return plan(owner, SERVICES, found, existing, nodes)


def stored(found: Plan) -> list[Object]:
    """What was created, as the server gives it back."""
    out = copy.deepcopy(found.create)
    for number, body in enumerate(out):
        body["metadata"] |= {"name": f"web-{number:05}", "uid": f"slice{number}"}
    return out


def uids(body: Object) -> list[str]:
    return [item["targetRef"]["uid"] for item in body["endpoints"]]


def test_a_slice_has_upstreams_shape() -> None:
    [made] = make(service(), [pod(0)]).create
    assert made == {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "generateName": "web-",
            "namespace": "ns",
            "labels": {
                "team": "a",
                "kubernetes.io/service-name": "web",
                "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
            },
            "ownerReferences": [
                {
                    "apiVersion": "v1", "kind": "Service", "name": "web", "uid": "s",
                    "controller": True, "blockOwnerDeletion": True,
                }
            ],
        },
        "addressType": "IPv4",
        "endpoints": [
            {
                "addresses": ["10.244.0.1"],
                "conditions": {"ready": True, "serving": True, "terminating": False},
                "targetRef": {"kind": "Pod", "namespace": "ns", "name": "p000", "uid": "u0"},
                "nodeName": "n1",
                "zone": "z1",
            }
        ],
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
    }  # fmt: skip


def test_conditions_tell_ready_serving_and_terminating_apart() -> None:
    going = {"deletionTimestamp": "2026-01-01T00:00:00Z"}
    pods = [
        pod(0),
        pod(1, ready=False),
        pod(2, meta=going),
        pod(3, ready=False, meta=going),
        pod(4, status={"phase": "Succeeded"}),
        pod(5, status={"podIPs": []}),
    ]

    def conditions(owner: Object) -> list[tuple[str, ...]]:
        [made] = make(owner, pods).create
        return [
            tuple(key for key, value in item["conditions"].items() if value)
            for item in made["endpoints"]
        ]

    rest = [(), ("serving", "terminating"), ("terminating",)]
    assert conditions(service()) == [("ready", "serving"), *rest]
    published = conditions(service(publishNotReadyAddresses=True))
    assert all("ready" in item for item in published)
    # Endpoints have no word for terminating: those pods are left out.
    subsets = body_of(service(), backends(service(), pods, "IPv4"))["subsets"]
    [subset] = subsets
    assert [item["ip"] for item in subset["addresses"]] == ["10.244.0.1"]
    assert [item["ip"] for item in subset["notReadyAddresses"]] == ["10.244.0.2"]
    assert subset["ports"] == [{"name": "http", "port": 8080, "protocol": "TCP"}]


def test_hundred_endpoints_a_slice_and_few_writes() -> None:
    pods = [pod(number) for number in range(250)]
    first = make(service(), pods)
    assert [len(body["endpoints"]) for body in first.create] == [100, 100, 50]
    assert MAX_ENDPOINTS == 100
    slices = stored(first)
    same = make(service(), pods, slices)
    assert (same.create, same.update, same.delete) == ([], [], [])
    # One pod changes: one slice is written.
    pods[120] = pod(120, ready=False)
    found = make(service(), pods, slices)
    assert (found.create, found.delete) == ([], [])
    assert [body["metadata"]["name"] for body in found.update] == ["web-00001"]
    # One goes and one comes: the newcomer fills the slice that is written anyway.
    found = make(service(), [*pods[:120], *pods[121:], pod(999)], slices)
    [body] = found.update
    assert "u999" in uids(body)
    assert "u120" not in uids(body)
    # The last slice is emptied: it goes.
    found = make(service(), pods[:200], slices)
    assert [body["metadata"]["name"] for body in found.delete] == ["web-00002"]


def test_one_empty_slice_stays() -> None:
    slices = stored(make(service(), [pod(number) for number in range(150)]))
    found = make(service(), [], slices)
    assert [body["metadata"]["name"] for body in found.delete] == ["web-00001"]
    assert [(body["endpoints"], body["ports"]) for body in found.update] == [([], [])]
    [empty] = make(service(), []).create
    assert (empty["endpoints"], empty["ports"]) == ([], [])


def test_pods_with_other_ports_have_a_slice_of_their_own() -> None:
    made = make(service(), [pod(0), pod(1, port=9090), pod(2)]).create
    ports = [(body["ports"][0]["port"], uids(body)) for body in made]
    assert ports == [(8080, ["u0", "u2"]), (9090, ["u1"])]


def test_families_hostnames_and_headless_labels() -> None:
    owner = service(clusterIP="None", ports=None)
    found = [pod(0, spec={"hostname": "db-0", "subdomain": "web"}), pod(1, spec={"hostname": "x"})]
    made = make(owner, found, (), "IPv4", "IPv6").create
    assert [body["addressType"] for body in made] == ["IPv4", "IPv6"]
    assert made[1]["endpoints"][0]["addresses"] == ["fd00::0"]
    assert [item.get("hostname") for item in made[0]["endpoints"]] == ["db-0", None]
    assert made[0]["metadata"]["labels"]["service.kubernetes.io/headless"] == ""
    assert made[0]["ports"] == []
    # The service is no longer dual-stack: its IPv6 slice goes.
    slices = [
        {**body, "metadata": {**body["metadata"], "name": body["addressType"]}} for body in made
    ]
    assert [body["addressType"] for body in make(owner, found, slices).delete] == ["IPv6"]


def test_named_ports_are_looked_up_by_protocol() -> None:
    owner = service()
    udp = pod(0)
    udp["spec"]["containers"][0]["ports"][0]["protocol"] = "UDP"
    assert resolve_ports(owner, udp) == ()
    plain = service(ports=[{"port": 80, "protocol": "UDP", "appProtocol": "h2c"}])
    assert resolve_ports(plain, udp) == (("", "UDP", 80, "h2c"),)


def test_a_pod_without_the_port_has_a_name_and_no_connections() -> None:
    """It is in slices, where names of headless services come from, and not in Endpoints."""
    owner, nameless = service(), pod(0)
    nameless["spec"]["containers"][0]["ports"][0]["name"] = "other"
    bare, full = sorted(make(owner, [nameless, pod(1)]).create, key=lambda body: len(body["ports"]))
    assert (bare["ports"], len(bare["endpoints"])) == ([], 1)
    assert (full["ports"][0]["port"], len(full["endpoints"])) == (8080, 1)
    (subset,) = body_of(owner, backends(owner, [nameless, pod(1)], "IPv4"))["subsets"]
    assert [item["ip"] for item in subset["addresses"]] == ["10.244.0.2"]


def test_pods_go_with_their_node() -> None:
    owner, pods = service(), [pod(0), pod(1, spec={"nodeName": "gone"})]
    found = {"IPv4": backends(owner, pods, "IPv4")}
    assert [item.node for item in placed(owner, found, {"n1": {}})["IPv4"]] == ["n1"]
    everyone = service(publishNotReadyAddresses=True)
    assert placed(everyone, found, {"n1": {}}) == found


def test_the_older_annotation_of_topology_counts_more() -> None:
    for given, wanted in (
        ({"service.kubernetes.io/topology-mode": "Auto"}, True),
        ({"service.kubernetes.io/topology-aware-hints": "auto"}, True),
        ({"service.kubernetes.io/topology-aware-hints": "Disabled",
          "service.kubernetes.io/topology-mode": "Auto"}, False),
    ):  # fmt: skip
        owner = service()
        owner["metadata"]["annotations"] = given
        assert is_automatic(owner) is wanted


def test_what_endpoints_do_not_depend_on_wakes_nobody() -> None:
    before = pod(0)
    after = copy.deepcopy(before)
    after["metadata"]["annotations"] = {"a": "b"}
    after["status"]["startTime"] = "now"
    assert fingerprint(before) == fingerprint(after)
    assert fingerprint(before) != fingerprint(pod(0, ready=False))


@pytest.mark.parametrize(
    ("distribution", "hints"),
    [
        (None, None),
        ("PreferClose", {"forZones": [{"name": "z1"}]}),
        ("PreferSameZone", {"forZones": [{"name": "z1"}]}),
        ("PreferSameNode", {"forZones": [{"name": "z1"}], "forNodes": [{"name": "n1"}]}),
    ],
)
def test_hints_say_for_whom_an_endpoint_is(distribution: str | None, hints: Object | None) -> None:
    wish = {"trafficDistribution": distribution} if distribution else {}
    found = make(service(**wish), [pod(1), pod(2, ready=False)])
    ready, unready = sorted(
        found.create[0]["endpoints"], key=lambda item: not item["conditions"]["ready"]
    )
    assert ready.get("hints") == hints
    assert "hints" not in unready


def test_slices_that_are_written_say_since_when() -> None:
    owner = service()
    nodes: dict[str, Object] = {"n1": {"metadata": {}}}
    key = "endpoints.kubernetes.io/last-change-trigger-time"

    def written(pods: list[Object], existing: list[Object], since: str) -> list[Object]:
        found = {"IPv4": backends(owner, pods, "IPv4")}
        todo = plan(owner, SERVICES, found, existing, nodes, since=since)
        return [*todo.create, *todo.update]

    [made] = written([pod(0)], [], "t1")
    assert made["metadata"]["annotations"] == {key: "t1"}
    made["metadata"] |= {"name": "web-1", "annotations": {key: "t1", "other": "stays"}}
    assert written([pod(0)], [made], "t2") == []
    [again] = written([pod(0), pod(1)], [made], "t2")
    assert again["metadata"]["annotations"] == {key: "t2", "other": "stays"}
    [again] = written([], [made], "")
    assert again["metadata"]["annotations"] == {"other": "stays"}
