"""What every cluster has from its first start on, and what later starts change: next to nothing."""

from __future__ import annotations

from typing import Any

from sampan.store.memory import MemoryStore
from tests.kit.cluster import Cluster, api_cluster

KUBERNETES = "/api/v1/namespaces/default/services/kubernetes"
ENDPOINTS = "/api/v1/namespaces/default/endpoints/kubernetes"
SLICE = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/kubernetes"


async def get(cluster: Cluster, path: str) -> Any:
    answer = await cluster.http("GET", path)
    assert answer.status == 200, answer.message
    return answer.json


async def test_a_new_cluster_has_what_clients_expect() -> None:
    async with api_cluster() as cluster:
        for name in ("default", "kube-system", "kube-public", "kube-node-lease"):
            namespace = await get(cluster, f"/api/v1/namespaces/{name}")
            assert namespace["spec"]["finalizers"] == ["kubernetes"]
            assert namespace["metadata"]["labels"] == {"kubernetes.io/metadata.name": name}
        service = await get(cluster, KUBERNETES)
        assert service["spec"]["clusterIP"] == "10.96.0.1"
        assert service["metadata"]["labels"] == {
            "component": "apiserver",
            "provider": "kubernetes",
        }
        [subset] = (await get(cluster, ENDPOINTS))["subsets"]
        assert subset["addresses"] == [{"ip": "10.244.0.1"}]
        endpoints = await get(cluster, SLICE)
        assert endpoints["endpoints"][0]["addresses"] == ["10.244.0.1"]
        assert endpoints["ports"][0]["port"] == 6443
        classes = await get(cluster, "/apis/scheduling.k8s.io/v1/priorityclasses")
        assert {item["metadata"]["name"]: item["value"] for item in classes["items"]} == {
            "system-cluster-critical": 2_000_000_000,
            "system-node-critical": 2_000_001_000,
        }
        roles = "/apis/rbac.authorization.k8s.io/v1/clusterroles"
        admin = await get(cluster, f"{roles}/admin")
        assert admin["aggregationRule"]["clusterRoleSelectors"]
        assert len(admin["rules"]) > len((await get(cluster, f"{roles}/edit"))["rules"]) > 15
        await get(cluster, "/api/v1/namespaces/kube-public/configmaps/cluster-info")


async def test_later_starts_write_nothing() -> None:
    store = MemoryStore()
    async with api_cluster(store=store):
        first = store.revision
    async with api_cluster(store=store):
        assert store.revision == first
    await store.close()


async def test_the_service_leads_to_where_the_server_is_now() -> None:
    store = MemoryStore()
    async with api_cluster(store=store) as cluster:
        await cluster.http("DELETE", "/api/v1/namespaces/kube-public/configmaps/cluster-info")
        uid = (await get(cluster, KUBERNETES))["metadata"]["uid"]
    async with api_cluster(store=store, advertise_host="10.9.0.1", advertise_port=7443) as cluster:
        assert (await get(cluster, KUBERNETES))["metadata"]["uid"] == uid
        [subset] = (await get(cluster, ENDPOINTS))["subsets"]
        assert subset["addresses"] == [{"ip": "10.9.0.1"}]
        assert subset["ports"][0]["port"] == 7443
        endpoints = await get(cluster, SLICE)
        assert endpoints["endpoints"][0]["addresses"] == ["10.9.0.1"]
        # What somebody deleted is there again.
        await get(cluster, "/api/v1/namespaces/kube-public/configmaps/cluster-info")
    await store.close()
