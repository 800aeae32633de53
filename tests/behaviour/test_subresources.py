"""scale, binding, eviction and finalize."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.kit.cluster import Answer, Cluster, api_cluster

NS = "/api/v1/namespaces/default"
APPS = "/apis/apps/v1/namespaces/default"
MERGE = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"


async def post(cluster: Cluster, path: str, body: Any) -> Answer:
    return await cluster.http("POST", path, body)


async def make_pod(cluster: Cluster, name: str, labels: dict[str, str] | None = None) -> None:
    account = {"metadata": {"name": "default"}}
    await post(cluster, f"{NS}/serviceaccounts", account)
    spec = {"containers": [{"name": "c", "image": "x"}]}
    body = {"metadata": {"name": name, "labels": labels or {}}, "spec": spec}
    answer = await post(cluster, f"{NS}/pods", body)
    assert answer.status == 201, answer.message


async def make_deployment(cluster: Cluster) -> None:
    template = {
        "metadata": {"labels": {"app": "web"}},
        "spec": {"containers": [{"name": "c", "image": "x"}]},
    }
    selector = {
        "matchLabels": {"app": "web"},
        "matchExpressions": [{"key": "tier", "operator": "NotIn", "values": ["b", "a"]}],
    }
    spec = {"replicas": 3, "selector": selector, "template": template}
    answer = await post(cluster, f"{APPS}/deployments", {"metadata": {"name": "web"}, "spec": spec})
    assert answer.status == 201, answer.message


async def test_scale_shows_and_sets_replicas() -> None:
    async with api_cluster() as cluster:
        await make_deployment(cluster)
        path = f"{APPS}/deployments/web/scale"
        scale = (await cluster.http("GET", path)).json
        assert (scale["kind"], scale["apiVersion"]) == ("Scale", "autoscaling/v1")
        assert scale["spec"] == {"replicas": 3}
        assert scale["status"] == {"replicas": 0, "selector": "app=web,tier notin (a,b)"}
        scale["spec"]["replicas"] = 5
        put = await cluster.http("PUT", path, scale)
        assert put.status == 200, put.message
        assert put.json["spec"] == {"replicas": 5}
        stale = await cluster.http("PUT", path, scale)
        assert (stale.status, stale.json["reason"]) == (409, "Conflict")
        body = {"spec": {"replicas": 0}}
        patched = await cluster.http("PATCH", path, body, content_type=MERGE)
        assert patched.json["spec"] == {}
        stored = (await cluster.http("GET", f"{APPS}/deployments/web")).json
        assert stored["spec"]["replicas"] == 0
        assert stored["metadata"]["generation"] == 3
        negative = await cluster.http("PATCH", path, {"spec": {"replicas": -1}}, content_type=MERGE)
        assert (negative.status, negative.message) == (
            422,
            'Scale.autoscaling "web" is invalid: spec.replicas: Invalid value: -1: must be greater'
            " than or equal to 0",
        )
        dry = await cluster.http(
            "PATCH", f"{path}?dryRun=All", {"spec": {"replicas": 9}}, content_type=MERGE
        )
        assert dry.json["spec"] == {"replicas": 9}
        assert (await cluster.http("GET", path)).json["spec"] == {}
        for bad in ({"spec": "x"}, [], {"kind": "Pod", "spec": {}}):
            assert (await cluster.http("PUT", path, bad)).status == 400


async def test_binding_happens_once() -> None:
    async with api_cluster() as cluster:
        await make_pod(cluster, "p")
        nothing = await post(cluster, f"{NS}/pods/p/binding", {"target": {}})
        assert nothing.status == 422
        body = {"metadata": {"annotations": {"a": "b"}}, "target": {"kind": "Node", "name": "n1"}}
        answers = await asyncio.gather(
            *(post(cluster, f"{NS}/pods/p/binding", body) for _ in range(4))
        )
        assert sorted(answer.status for answer in answers) == [201, 409, 409, 409]
        lost = next(answer for answer in answers if answer.status == 409)
        assert lost.message == (
            'Operation cannot be fulfilled on pods/binding "p": pod p is already assigned to node'
            ' "n1"'
        )
        pod = (await cluster.http("GET", f"{NS}/pods/p")).json
        assert pod["spec"]["nodeName"] == "n1"
        assert pod["metadata"]["annotations"] == {"a": "b"}
        [condition] = [
            item for item in pod["status"]["conditions"] if item["type"] == "PodScheduled"
        ]
        assert condition["status"] == "True"
        missing = await post(cluster, f"{NS}/pods/q/binding", body)
        assert missing.status == 404


async def test_bindings_by_collection() -> None:
    zone = {"topology.kubernetes.io/zone": "z1"}
    async with api_cluster() as cluster:
        await make_pod(cluster, "p")
        node = {"metadata": {"name": "n1", "labels": {**zone, "other": "x"}}}
        await post(cluster, "/api/v1/nodes", node)
        body = {"metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n1"}}
        assert (await post(cluster, f"{NS}/bindings", body)).status == 201
        pod = (await cluster.http("GET", f"{NS}/pods/p")).json
        assert pod["spec"]["nodeName"] == "n1"
        assert pod["metadata"]["labels"] == zone


async def test_a_pod_with_gates_or_on_its_way_out_is_not_bound() -> None:
    async with api_cluster() as cluster:
        await make_pod(cluster, "gated")
        path = f"{NS}/pods"
        spec = {"containers": [{"name": "c", "image": "x"}], "schedulingGates": [{"name": "g"}]}
        await post(cluster, path, {"metadata": {"name": "g"}, "spec": spec})
        body = {"target": {"kind": "Node", "name": "n1"}}
        refused = await post(cluster, f"{path}/g/binding", body)
        assert refused.status == 409
        assert "schedulingGates" in refused.message


async def evictable(cluster: Cluster, name: str) -> None:
    await make_pod(cluster, name, {"app": "web"})
    status = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
    path = f"{NS}/pods/{name}/status"
    answer = await cluster.http("PATCH", path, {"status": status}, content_type=MERGE)
    assert answer.status == 200, answer.message


async def test_eviction_takes_from_the_budget() -> None:
    policy = "/apis/policy/v1/namespaces/default/poddisruptionbudgets"
    async with api_cluster() as cluster:
        for name in ("a", "b", "c"):
            await evictable(cluster, name)
        free = await post(cluster, f"{NS}/pods/c/eviction", {"metadata": {"name": "c"}})
        assert free.status == 201
        spec = {"minAvailable": 1, "selector": {"matchLabels": {"app": "web"}}}
        await post(cluster, policy, {"metadata": {"name": "b"}, "spec": spec})

        refused = await post(cluster, f"{NS}/pods/a/eviction", {})
        assert refused.status == 429
        assert refused.message == (
            "Cannot evict pod as it would violate the pod's disruption budget."
        )
        [cause] = refused.json["details"]["causes"]
        assert cause["reason"] == "DisruptionBudget"
        assert "still being processed" in cause["message"]

        status = {"observedGeneration": 1, "disruptionsAllowed": 1, "desiredHealthy": 1,
                  "currentHealthy": 2, "expectedPods": 2}  # fmt: skip
        path = f"{policy}/b/status"
        await cluster.http("PATCH", path, {"status": status}, content_type=MERGE)
        dry = await post(cluster, f"{NS}/pods/a/eviction?dryRun=All", {})
        assert dry.status == 201
        both = [await post(cluster, f"{NS}/pods/{name}/eviction", {}) for name in ("a", "b")]
        assert [answer.status for answer in both] == [201, 429]
        [cause] = both[1].json["details"]["causes"]
        assert cause["message"] == (
            "The disruption budget b needs 1 healthy pods and has 2 currently"
        )
        budget = (await cluster.http("GET", f"{policy}/b")).json
        assert budget["status"]["disruptionsAllowed"] == 0
        assert list(budget["status"]["disruptedPods"]) == ["a"]
        assert (await cluster.http("GET", f"{NS}/pods/b")).status == 200
        await post(cluster, policy, {"metadata": {"name": "second"}, "spec": spec})
        twice = await post(cluster, f"{NS}/pods/b/eviction", {})
        assert twice.status == 500
        assert "more than one PodDisruptionBudget" in twice.message


async def test_a_namespace_goes_when_its_last_finalizer_does() -> None:
    async with api_cluster() as cluster:
        made = await post(cluster, "/api/v1/namespaces", {"metadata": {"name": "n"}})
        assert made.json["spec"]["finalizers"] == ["kubernetes"]
        await cluster.http("DELETE", "/api/v1/namespaces/n")
        found = (await cluster.http("GET", "/api/v1/namespaces/n")).json
        assert found["status"]["phase"] == "Terminating"
        found["spec"]["finalizers"] = []
        done = await cluster.http("PUT", "/api/v1/namespaces/n/finalize", found)
        assert done.status == 200, done.message
        assert (await cluster.http("GET", "/api/v1/namespaces/n")).status == 404


async def test_a_proxy_is_no_way_to_its_object() -> None:
    async with api_cluster() as cluster:
        service = (await cluster.http("GET", "/api/v1/namespaces/default/services/kubernetes")).json
        before = cluster.store.revision
        path = "/api/v1/namespaces/default/services/kubernetes/proxy"
        labels = {"metadata": {"labels": {"a": "b"}}}
        for method, body in (
            ("GET", None), ("PUT", {**service, **labels}), ("PATCH", labels), ("POST", labels),
            ("DELETE", None),
        ):  # fmt: skip
            media = MERGE if method == "PATCH" else "application/json"
            answer = await cluster.http(method, path, body, content_type=media)
            # It goes to the endpoints, of which there are none that answer here.
            assert (answer.status, answer.json["reason"]) == (503, "ServiceUnavailable"), method
        assert cluster.store.revision == before


async def test_a_part_of_a_pod_changes_by_its_own_rules() -> None:
    async with api_cluster() as cluster:
        await make_pod(cluster, "p")
        path = "/api/v1/namespaces/default/pods/p"
        limit = {"name": "c", "resources": {"limits": {"cpu": "1"}}}
        for part, spec, message in (
            ("resize", {"containers": [limit]}, "Pod QOS Class may not change"),
            (
                "resize",
                {"containers": [{"name": "c", "resources": {"requests": {"example.com/a": "1"}}}]},
                "Limit must be set for non overcommitable resources",
            ),
            (
                "ephemeralcontainers",
                {"ephemeralContainers": [{"name": "c", "image": "i"}]},
                'Duplicate value: "c"',
            ),
        ):
            before = cluster.store.revision
            answer = await cluster.http(
                "PATCH", f"{path}/{part}", {"spec": spec}, content_type=STRATEGIC
            )
            assert (answer.status, answer.json.get("reason")) == (422, "Invalid"), (part, spec)
            assert message in answer.message
            assert cluster.store.revision == before
        debugger = {"spec": {"ephemeralContainers": [{"name": "e", "image": "i"}]}}
        added = await cluster.http(
            "PATCH", f"{path}/ephemeralcontainers", debugger, content_type=STRATEGIC
        )
        assert (added.status, added.json["metadata"]["generation"]) == (200, 2), added.message
        status = {"status": {"phase": "Failed"}}
        kept = await cluster.http("PATCH", f"{path}/resize", status, content_type=MERGE)
        assert (kept.status, kept.json["status"]["phase"]) == (200, "Pending")


async def test_what_is_posted_is_checked_as_strictly_as_it_is_asked_for() -> None:
    async with api_cluster() as cluster:
        await make_pod(cluster, "p")
        account = f"{NS}/serviceaccounts/default/token"
        review = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
        asked = {"resourceAttributes": {"verb": "get", "resource": "pods"}}
        for path, kind, body in (
            (f"{NS}/pods/p/binding", "v1 Binding", {"target": {"name": "n"}}),
            (f"{NS}/pods/p/eviction", "policy/v1 Eviction", {}),
            (account, "authentication.k8s.io/v1 TokenRequest", {"spec": {"audiences": ["a"]}}),
            (review, "authorization.k8s.io/v1 SelfSubjectAccessReview", {"spec": asked}),
        ):
            version, name = kind.split()
            body |= {"apiVersion": version, "kind": name, "extra": 1}
            refused = await post(cluster, f"{path}?fieldValidation=Strict&dryRun=All", body)
            assert (refused.status, refused.message) == (
                400,
                f'{name} in version "{version.rpartition("/")[2]}" cannot be handled as a '
                f'{name}: strict decoding error: unknown field "extra"',
            ), path
            warned = await post(cluster, f"{path}?dryRun=All", body)
            assert warned.status == 201, warned.message
            assert warned.headers["Warning"] == '299 - "unknown field \\"extra\\""'
            quiet = await post(cluster, f"{path}?fieldValidation=Ignore&dryRun=All", body)
            assert (quiet.status, quiet.headers.get("Warning")) == (201, None)
