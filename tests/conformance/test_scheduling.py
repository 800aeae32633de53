"""Scheduling (as upstream's test/e2e/scheduling: predicates.go, preemption.go, limit_range.go)."""

from __future__ import annotations

from typing import Any

from .bench import CORE, MERGE, NS, PODS, REPLICASETS, STRATEGIC, Bench, Obj

NODE = f"{CORE}/nodes/node-0"
CLASSES = "/apis/scheduling.k8s.io/v1/priorityclasses"
RANGES = f"{NS}/limitranges"
FOO = "scheduling.k8s.io/foo"
FAKE = "example.com/fakecpu"
LIMITS = {
    "type": "Container",
    "min": {"cpu": "50m", "memory": "100Mi", "ephemeral-storage": "100Gi"},
    "max": {"cpu": "500m", "memory": "500Mi", "ephemeral-storage": "500Gi"},
    "default": {"cpu": "500m", "memory": "500Mi", "ephemeral-storage": "500Gi"},
    "defaultRequest": {"cpu": "100m", "memory": "200Mi", "ephemeral-storage": "200Gi"},
}


def pause(name: str, requests: Obj | None = None, meta: Obj | None = None, **spec: Any) -> Obj:
    resources = {"requests": requests, "limits": requests} if requests else {}
    container = {"name": "pause", "image": "pause:3", "resources": resources}
    return {"metadata": {"name": name, **(meta or {})}, "spec": {"containers": [container], **spec}}


async def has(bench: Bench, **amounts: str) -> None:
    """The node offers this much of an extended resource."""
    offered = {"capacity": amounts, "allocatable": amounts}
    await bench.expect(200, "PATCH", f"{NODE}/status", {"status": offered}, content_type=STRATEGIC)


async def priorities(bench: Bench, **values: int) -> None:
    for name, value in values.items():
        await bench.create(CLASSES, {"metadata": {"name": name}, "value": value})


async def running(bench: Bench, path: str) -> Obj:
    return await bench.state(path, lambda pod: pod.get("status", {}).get("phase") == "Running")


async def refused(bench: Bench, path: str) -> str:
    """Wait until the scheduler says why it has no node."""

    def said(pod: Obj) -> str:
        listed = pod.get("status", {}).get("conditions") or ()
        found = [item for item in listed if item.get("reason") == "Unschedulable"]
        return str(found[0]["message"]) if found else ""

    return said(await bench.state(path, said))


async def test_no_more_is_promised_than_a_node_has(bench: Bench) -> None:
    await bench.create(PODS, pause("filler", {"cpu": "5600m"}))
    await running(bench, f"{PODS}/filler")
    await bench.create(PODS, pause("additional", {"cpu": "4"}))
    message = await refused(bench, f"{PODS}/additional")
    assert message.startswith("0/1 nodes are available: 1 Insufficient cpu.")


async def test_a_selector_keeps_a_pod_from_nodes_without_its_label(bench: Bench) -> None:
    await bench.create(PODS, pause("restricted", nodeSelector={"label": "nonempty"}))
    message = await refused(bench, f"{PODS}/restricted")
    assert "1 node(s) didn't match Pod's node affinity/selector." in message


async def test_a_selector_finds_the_node_with_its_label(bench: Bench) -> None:
    wanted = {"kubernetes.io/e2e-1": "42"}
    await bench.expect(200, "PATCH", NODE, {"metadata": {"labels": wanted}}, content_type=MERGE)
    await bench.create(PODS, pause("with-labels", nodeSelector=wanted))
    found = await running(bench, f"{PODS}/with-labels")
    assert found["spec"]["nodeName"] == "node-0"


async def test_a_port_of_all_addresses_is_in_the_way_of_one_of_them(bench: Bench) -> None:
    def listening(name: str, **port: str) -> Obj:
        made = pause(name)
        ports = [{"containerPort": 8080, "hostPort": 54322, "protocol": "TCP", **port}]
        made["spec"]["containers"][0]["ports"] = ports
        return made

    await bench.create(PODS, listening("pod4"))
    await running(bench, f"{PODS}/pod4")
    await bench.create(PODS, listening("pod5", hostIP="10.0.0.7"))
    message = await refused(bench, f"{PODS}/pod5")
    assert "1 node(s) didn't have free ports for the requested pod ports." in message


async def test_a_high_priority_sends_a_low_one_away(bench: Bench) -> None:
    await has(bench, **{FOO: "5"})
    await priorities(bench, high=1000, medium=100, low=1)
    for name, of in (("pod0-low", "low"), ("pod1-medium", "medium")):
        await bench.create(PODS, pause(name, {FOO: "2"}, priorityClassName=of))
        await running(bench, f"{PODS}/{name}")
    await bench.create(PODS, pause("preemptor", {FOO: "2"}, priorityClassName="high"))
    await running(bench, f"{PODS}/preemptor")
    assert await bench.names(PODS) == ["pod1-medium", "preemptor"]


async def test_a_critical_pod_sends_a_low_one_away(bench: Bench) -> None:
    await has(bench, **{FOO: "5"})
    await priorities(bench, medium=100, low=1)
    for name, of in (("pod0-low", "low"), ("pod1-medium", "medium")):
        await bench.create(PODS, pause(name, {FOO: "2"}, priorityClassName=of))
        await running(bench, f"{PODS}/{name}")
    system = f"{CORE}/namespaces/kube-system/pods"
    critical = pause("critical-pod", {FOO: "2"}, priorityClassName="system-cluster-critical")
    await bench.create(system, critical)
    await running(bench, f"{system}/critical-pod")
    assert await bench.names(PODS) == ["pod1-medium"]


async def test_who_is_sent_away_says_that_it_is_disrupted(bench: Bench) -> None:
    await has(bench, **{FOO: "1"})
    await priorities(bench, high=1000, low=1)
    held = {"finalizers": ["example.com/test-finalizer"]}
    await bench.create(PODS, pause("victim", {FOO: "1"}, held, priorityClassName="low"))
    await running(bench, f"{PODS}/victim")
    await bench.create(PODS, pause("preemptor", {FOO: "1"}, priorityClassName="high"))
    victim = await bench.state(
        f"{PODS}/victim", lambda pod: pod["metadata"].get("deletionTimestamp")
    )
    mark = next(
        item for item in victim["status"]["conditions"] if item["type"] == "DisruptionTarget"
    )
    assert (mark["status"], mark["reason"]) == ("True", "PreemptionByScheduler")
    released = {"metadata": {"finalizers": None}}
    await bench.expect(200, "PATCH", f"{PODS}/victim", released, content_type=MERGE)
    await running(bench, f"{PODS}/preemptor")


async def test_replica_sets_preempt_one_another(bench: Bench) -> None:
    """Of four tiers on 1000 of a resource, the last takes what the lower ones have."""
    await has(bench, **{FAKE: "1000"})
    await priorities(bench, p1=1, p2=2, p3=3, p4=4)
    tiers = {"rs-pod1": (5, "p1"), "rs-pod2": (4, "p2"), "rs-pod3": (4, "p3")}
    for name, (replicas, of) in tiers.items():
        await bench.create(REPLICASETS, replica_set(name, replicas, of, "40"))
        path = f"{REPLICASETS}/{name}"
        await bench.state(path, lambda obj, n=replicas: obj["status"].get("availableReplicas") == n)
    # 520 are taken; the last asks for 500 and one tier has to give 20: one pod of the lowest.
    await bench.create(PODS, pause("pod4", {FAKE: "500"}, priorityClassName="p4"))
    await running(bench, f"{PODS}/pod4")
    for name, left in (("rs-pod1", 4), ("rs-pod2", 4), ("rs-pod3", 4)):
        await available(bench, name, left)


async def available(bench: Bench, name: str, count: int) -> None:
    await bench.state(
        f"{REPLICASETS}/{name}", lambda obj: obj["status"].get("availableReplicas") == count
    )


def replica_set(name: str, replicas: int, priority: str, amount: str) -> Obj:
    labels = {"name": name}
    pod = pause("", {FAKE: amount}, priorityClassName=priority)
    pod["metadata"] = {"labels": labels}
    spec = {"replicas": replicas, "selector": {"matchLabels": labels}, "template": pod}
    return {"metadata": {"name": name}, "spec": spec}


async def test_priority_classes_by_every_verb(bench: Bench) -> None:
    await priorities(bench, p1=1, p2=2)
    found = await bench.get(f"{CLASSES}/p1")
    for method, body in (("PATCH", {"value": 2}), ("PUT", {**found, "value": 2})):
        how = {"content_type": MERGE} if method == "PATCH" else {}
        answer = await bench.expect(422, method, f"{CLASSES}/p1", body, **how)
        assert "may not be changed in an update" in answer["message"]
    told = {"description": "told"}
    changed = await bench.expect(200, "PATCH", f"{CLASSES}/p1", told, content_type=MERGE)
    changed = await bench.expect(200, "PUT", f"{CLASSES}/p1", {**changed, "description": "anew"})
    assert (changed["description"], changed["value"]) == ("anew", 1)
    assert {"p1", "p2"} <= {*await bench.names(CLASSES)}
    await bench.delete(f"{CLASSES}/p1")
    assert "p1" not in await bench.names(CLASSES)


async def test_a_limit_range_gives_defaults_and_keeps_bounds(bench: Bench) -> None:
    await bench.create(RANGES, {"metadata": {"name": "limits"}, "spec": {"limits": [LIMITS]}})
    plain = await bench.create(PODS, pause("pod-no-resources"))
    given = plain["spec"]["containers"][0]["resources"]
    assert given == {"requests": LIMITS["defaultRequest"], "limits": LIMITS["default"]}
    partial = pause("pod-partial")
    partial["spec"]["containers"][0]["resources"] = {
        "requests": {"cpu": "300m", "memory": "150Mi"},
        "limits": {"cpu": "300m"},
    }
    merged = (await bench.create(PODS, partial))["spec"]["containers"][0]["resources"]
    assert merged["requests"] == {
        "cpu": "300m", "memory": "150Mi", "ephemeral-storage": "200Gi",
    }  # fmt: skip
    assert merged["limits"] == {"cpu": "300m", "memory": "500Mi", "ephemeral-storage": "500Gi"}
    for amounts in ({"cpu": "10m", "memory": "50Mi"}, {"cpu": "600m", "memory": "600Mi"}):
        await bench.expect(403, "POST", PODS, pause("pod-out-of-bounds", amounts))
    lower = {"spec": {"limits": [{**LIMITS, "min": {"cpu": "9m", "memory": "49Mi"}}]}}
    await bench.expect(200, "PATCH", f"{RANGES}/limits", lower, content_type=MERGE)
    await bench.create(PODS, pause("pod-in-bounds", {"cpu": "10m", "memory": "50Mi"}))
    await bench.expect(403, "POST", PODS, pause("pod-above", {"cpu": "600m"}))
    await bench.delete(f"{RANGES}/limits")
    await bench.create(PODS, pause("pod-large", {"cpu": "600m"}))


async def test_limit_ranges_are_listed_patched_and_deleted_by_label(bench: Bench) -> None:
    await bench.create(f"{CORE}/namespaces", {"metadata": {"name": "second"}})
    elsewhere = f"{CORE}/namespaces/second/limitranges"
    made = {
        "metadata": {"name": "limits", "labels": {"e2e": "range"}},
        "spec": {"limits": [LIMITS]},
    }
    for path in (RANGES, elsewhere):
        await bench.create(path, made)
    everywhere = f"{CORE}/limitranges?labelSelector=e2e%3Drange"
    assert len(await bench.names(everywhere)) == 2
    change = {
        "metadata": {"labels": {"patched": "true"}},
        "spec": {"limits": [{**LIMITS, "min": {"cpu": "60m"}}]},
    }
    changed = await bench.expect(200, "PATCH", f"{RANGES}/limits", change, content_type=MERGE)
    assert changed["spec"]["limits"][0]["min"] == {"cpu": "60m"}
    await bench.delete(f"{RANGES}?labelSelector=patched%3Dtrue")
    assert await bench.names(everywhere) == ["limits"]
    await bench.expect(404, "GET", f"{RANGES}/limits")
