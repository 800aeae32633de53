"""Quotas: never exceeded by whoever comes together, given back when things go, free of drift."""

from __future__ import annotations

import asyncio
from typing import Any

from sampan.api.resources import resource
from sampan.controllers import resourcequota as controller
from tests.behaviour.workload_kit import World, world
from tests.kit.cluster import Answer, Cluster, api_cluster
from tests.kit.definitions import DEFINITIONS, WIDGETS, definition, widget

CORE = "/api/v1/namespaces/default"
CM = f"{CORE}/configmaps"
PODS = f"{CORE}/pods"
QUOTAS = f"{CORE}/resourcequotas"
MERGE = "application/merge-patch+json"
Object = dict[str, Any]


async def limit(cluster: Cluster, name: str = "q", **spec: Any) -> None:
    """A quota whose status the test keeps itself."""
    body = {"metadata": {"name": name}, "spec": spec}
    assert (await cluster.http("POST", QUOTAS, body)).status == 201
    status = {"hard": spec["hard"], "used": dict.fromkeys(spec["hard"], "0")}
    answer = await cluster.http(
        "PATCH", f"{QUOTAS}/{name}/status", {"status": status}, content_type=MERGE
    )
    assert answer.status == 200, answer.message


async def used(cluster: Cluster, name: str = "q") -> Object:
    quota: Object = (await cluster.http("GET", f"{QUOTAS}/{name}")).json
    found: Object = quota["status"]["used"]
    return found


async def account(cluster: Cluster) -> None:
    await cluster.http("POST", f"{CORE}/serviceaccounts", {"metadata": {"name": "default"}})


def pod(name: str, **requests: str) -> Object:
    container = {"name": "c", "image": "i", "resources": {"requests": requests}}
    return {"metadata": {"name": name}, "spec": {"containers": [container]}}


async def test_fifty_at_once_get_no_more_than_there_is() -> None:
    async with api_cluster() as cluster:
        await limit(cluster, "few", hard={"count/configmaps": "20"})
        await limit(cluster, "more", hard={"configmaps": "30"})

        async def create(number: int) -> Answer:
            return await cluster.http("POST", CM, {"metadata": {"name": f"c{number}"}})

        answers = await asyncio.gather(*map(create, range(50)))
        assert sorted(answer.status for answer in answers) == [201] * 20 + [403] * 30
        assert len((await cluster.http("GET", CM)).json["items"]) == 20
        # The second quota is not charged for what the first one refused.
        assert await used(cluster, "few") == {"count/configmaps": "20"}
        assert await used(cluster, "more") == {"configmaps": "20"}
        refused = next(answer for answer in answers if answer.status == 403)
        assert refused.message.endswith(
            "is forbidden: exceeded quota: few, requested: count/configmaps=1, "
            "used: count/configmaps=20, limited: count/configmaps=20"
        )


async def test_pods_are_told_what_upstream_tells_them() -> None:
    async with api_cluster() as cluster:
        await account(cluster)
        await limit(cluster, hard={"pods": "1", "requests.cpu": "1"})
        silent = await cluster.http("POST", PODS, pod("p"))
        assert (silent.status, silent.message) == (
            403, 'pods "p" is forbidden: failed quota: q: must specify requests.cpu for: c',
        )  # fmt: skip
        dry = await cluster.http("POST", f"{PODS}?dryRun=All", pod("p", cpu="1"))
        assert dry.status == 201
        assert (await used(cluster))["pods"] == "0"
        assert (await cluster.http("POST", PODS, pod("p", cpu="100m"))).status == 201
        assert await used(cluster) == {"pods": "1", "requests.cpu": "100m"}
        over = await cluster.http("POST", PODS, pod("x", cpu="1"))
        assert over.message == (
            'pods "x" is forbidden: exceeded quota: q, requested: pods=1,requests.cpu=1, '
            "used: pods=1,requests.cpu=100m, limited: pods=1,requests.cpu=1"
        )
        # What the quota says nothing of is free, and so is another namespace.
        assert (await cluster.http("POST", CM, {"metadata": {"name": "a"}})).status == 201


async def test_what_changes_is_charged_what_it_adds() -> None:
    async with api_cluster() as cluster:
        await limit(cluster, hard={"services.nodeports": "1", "services": "5"})
        service = {"metadata": {"name": "s"}, "spec": {"ports": [{"port": 80}]}}
        assert (await cluster.http("POST", f"{CORE}/services", service)).status == 201
        ports = [{"name": "a", "port": 80}, {"name": "b", "port": 81}]
        wide = {"spec": {"type": "NodePort", "ports": ports}}
        path = f"{CORE}/services/s"
        refused = await cluster.http("PATCH", path, wide, content_type=MERGE)
        assert refused.message.endswith(
            "exceeded quota: q, requested: services.nodeports=2, used: services.nodeports=0, "
            "limited: services.nodeports=1"
        )
        one = {"spec": {"type": "NodePort"}}
        assert (await cluster.http("PATCH", path, one, content_type=MERGE)).status == 200
        assert await used(cluster) == {"services": "1", "services.nodeports": "1"}
        back = {"spec": {"type": "ClusterIP", "ports": [{"port": 80, "nodePort": None}]}}
        assert (await cluster.http("PATCH", path, back, content_type=MERGE)).status == 200
        assert await used(cluster) == {"services": "1", "services.nodeports": "0"}


async def test_what_is_limited_by_default() -> None:
    limited = ({"resource": "secrets", "matchContains": ["secrets"]},)
    async with api_cluster(quota_limited=limited) as cluster:
        refused = await cluster.http("POST", f"{CORE}/secrets", {"metadata": {"name": "a"}})
        assert refused.message == (
            'secrets "a" is forbidden: insufficient quota to consume: count/secrets,secrets'
        )
        await limit(cluster, hard={"secrets": "1", "count/secrets": "1"})
        assert (
            await cluster.http("POST", f"{CORE}/secrets", {"metadata": {"name": "a"}})
        ).status == 201


async def test_a_claim_grows_where_its_class_lets_it() -> None:
    async with api_cluster() as cluster:
        for name, grows in (("fixed", False), ("elastic", True)):
            body = {"metadata": {"name": name}, "provisioner": "x", "allowVolumeExpansion": grows}
            await cluster.http("POST", "/apis/storage.k8s.io/v1/storageclasses", body)
        claims = f"{CORE}/persistentvolumeclaims"
        more = {"spec": {"resources": {"requests": {"storage": "2Gi"}}}}
        for name in ("fixed", "elastic"):
            spec = {"storageClassName": name, "accessModes": ["ReadWriteOnce"],
                    "volumeName": "v", "resources": {"requests": {"storage": "1Gi"}}}  # fmt: skip
            await cluster.http("POST", claims, {"metadata": {"name": name}, "spec": spec})
            early = await cluster.http("PATCH", f"{claims}/{name}", more, content_type=MERGE)
            assert early.status in (403, 422)
            bound = {"status": {"phase": "Bound", "capacity": {"storage": "1Gi"}}}
            await cluster.http("PATCH", f"{claims}/{name}/status", bound, content_type=MERGE)
        refused = await cluster.http("PATCH", f"{claims}/fixed", more, content_type=MERGE)
        assert refused.message == (
            'persistentvolumeclaims "fixed" is forbidden: only dynamically provisioned pvc can be '
            "resized and the storageclass that provisions the pvc must support resize"
        )
        grown = await cluster.http("PATCH", f"{claims}/elastic", more, content_type=MERGE)
        assert grown.status == 200, grown.message


def status_is(w: World, hard: Object, wanted: Object) -> Any:
    cache = w.cache("resourcequotas")

    def holds() -> bool:
        quota = cache.get("default", "q")
        status = (quota or {}).get("status") or {}
        return status.get("hard") == hard and status.get("used") == wanted

    return holds


async def test_the_controller_counts_gives_back_and_follows_the_spec() -> None:
    async with world() as w:
        http = w.cluster.http
        for name in ("a", "b"):
            await http("POST", CM, {"metadata": {"name": name}})
        there = len((await http("GET", CM)).json["items"])
        hard = {"configmaps": "9", "pods": "5"}
        await http("POST", QUOTAS, {"metadata": {"name": "q"}, "spec": {"hard": hard}})
        await w.until(status_is(w, hard, {"configmaps": str(there), "pods": "0"}))
        await http("POST", CM, {"metadata": {"name": "c"}})
        assert (await used(w.cluster))["configmaps"] == str(there + 1)
        await http("DELETE", f"{CM}/a")
        await http("DELETE", f"{CM}/b")
        await w.until(status_is(w, hard, {"configmaps": str(there - 1), "pods": "0"}))
        hard = {"configmaps": "1", "secrets": "3"}
        spec = {"spec": {"hard": {**hard, "pods": None}}}
        await http("PATCH", f"{QUOTAS}/q", spec, content_type=MERGE)
        await w.until(status_is(w, hard, {"configmaps": str(there - 1), "secrets": "0"}))
        refused = await http("POST", CM, {"metadata": {"name": "d"}})
        assert refused.status == 403


async def test_a_pod_that_is_over_gives_back_what_it_used() -> None:
    async with world() as w:
        http = w.cluster.http
        w.node.holds = lambda found: True
        hard = {"pods": "1", "count/pods": "2"}
        await http("POST", QUOTAS, {"metadata": {"name": "q"}, "spec": {"hard": hard}})
        await w.until(status_is(w, hard, {"pods": "0", "count/pods": "0"}))
        accounts = w.cache("serviceaccounts")
        await w.until(lambda: accounts.get("default", "default"))
        assert (await http("POST", PODS, pod("one"))).status == 201
        assert (await http("POST", PODS, pod("two"))).status == 403
        over = {"status": {"phase": "Succeeded"}}
        await http("PATCH", f"{PODS}/one/status", over, content_type=MERGE)
        await w.until(status_is(w, hard, {"pods": "0", "count/pods": "1"}))
        assert (await http("POST", PODS, pod("two"))).status == 201
        await http("DELETE", f"{PODS}/one?gracePeriodSeconds=0")
        await w.until(status_is(w, hard, {"pods": "1", "count/pods": "1"}))


async def test_drift_is_found_when_the_quota_is_left_alone(monkeypatch: Any) -> None:
    monkeypatch.setattr(controller, "SETTLE_S", 0.05)
    async with world() as w:
        http = w.cluster.http
        hard = {"secrets": "9"}
        await http("POST", QUOTAS, {"metadata": {"name": "q"}, "spec": {"hard": hard}})
        await w.until(status_is(w, hard, {"secrets": "0"}))
        wrong = {"status": {"used": {"secrets": "7"}}}
        await http("PATCH", f"{QUOTAS}/q/status", wrong, content_type=MERGE)
        await w.until(status_is(w, hard, {"secrets": "0"}))
        quotas = resource("resourcequotas")
        found = await w.client.get(quotas, "q", "default")
        assert found["status"]["used"] == {"secrets": "0"}


async def test_objects_of_custom_resources_count(monkeypatch: Any) -> None:
    """Whether they were there before the quota or come later; drift is found, not made."""
    monkeypatch.setattr(controller, "SETTLE_S", 0.05)
    async with world() as w:
        http = w.cluster.http
        hard = {"count/widgets.example.com": "2"}
        assert (await http("POST", DEFINITIONS, definition())).status == 201
        await http("POST", WIDGETS, widget("a"))
        await http("POST", QUOTAS, {"metadata": {"name": "q"}, "spec": {"hard": hard}})
        await w.until(status_is(w, hard, {"count/widgets.example.com": "1"}))
        assert (await http("POST", WIDGETS, widget("b"))).status == 201
        wrong = {"status": {"used": {"count/widgets.example.com": "0"}}}
        await http("PATCH", f"{QUOTAS}/q/status", wrong, content_type=MERGE)
        await w.until(status_is(w, hard, {"count/widgets.example.com": "2"}))
        assert (await http("POST", WIDGETS, widget("c"))).status == 403
        await http("DELETE", f"{WIDGETS}/a")
        await w.until(status_is(w, hard, {"count/widgets.example.com": "1"}))
        assert (await http("POST", WIDGETS, widget("c"))).status == 201
