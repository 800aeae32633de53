"""Resource quotas (as upstream's test/e2e/apimachinery/resource_quota.go)."""

from __future__ import annotations

from typing import Any

import pytest

from .bench import CORE, STRATEGIC, Bench, Obj, config, controller, holds, template

NS = f"{CORE}/namespaces/quota"
PODS = f"{NS}/pods"
REPLICASETS = "/apis/apps/v1/namespaces/quota/replicasets"
QUOTAS = f"{NS}/resourcequotas"
DONGLE = "requests.example.com/dongle"
HARD = {
    "pods": "5",
    "services": "10",
    "services.nodeports": "1",
    "services.loadbalancers": "1",
    "replicationcontrollers": "10",
    "resourcequotas": "1",
    "configmaps": "10",
    "secrets": "10",
    "persistentvolumeclaims": "10",
    "requests.storage": "10Gi",
    "cpu": "1",
    "memory": "500Mi",
    "requests.ephemeral-storage": "50Gi",
    "count/replicasets.apps": "5",
    "gold.storageclass.storage.k8s.io/persistentvolumeclaims": "10",
    "gold.storageclass.storage.k8s.io/requests.storage": "10Gi",
    DONGLE: "3",
}
NOTHING = dict.fromkeys(HARD, "0") | {"resourcequotas": "1"}
COMPUTE = {"cpu": "500m", "memory": "500Mi"}


def quota(name: str = "test-quota", hard: Obj | None = None, **spec: Any) -> Obj:
    return {"metadata": {"name": name}, "spec": {"hard": hard or HARD, **spec}}


async def used(bench: Bench, name: str = "test-quota", /, **values: str) -> None:
    """Wait until the quota's status tells of this usage (`_` stands for what a keyword cannot)."""
    wanted = {key.replace("__", "."): value for key, value in values.items()}
    await bench.state(
        f"{QUOTAS}/{name}",
        lambda obj: obj["status"].get("used") and holds(obj["status"]["used"], wanted),
    )


async def settled(bench: Bench) -> None:
    """A namespace of the test's own: `default` has a service."""
    await bench.create(f"{CORE}/namespaces", {"metadata": {"name": "quota"}})
    await bench.state(f"{NS}/serviceaccounts/default", lambda obj: True)


async def begun(bench: Bench) -> None:
    """The quota, once its status is whole: the root CA's config map is there already."""
    await settled(bench)
    await bench.state(f"{NS}/configmaps/kube-root-ca.crt", lambda obj: True)
    await bench.create(QUOTAS, quota())
    made = await bench.state(
        f"{QUOTAS}/test-quota", lambda obj: obj["status"].get("used", {}).keys() == HARD.keys()
    )
    assert made["status"]["hard"] == HARD
    assert made["status"]["used"] == {**NOTHING, "configmaps": "1"}


def pod(name: str = "test-pod", requests: Obj | None = None, **spec: Any) -> Obj:
    resources: Obj = {"requests": requests} if requests else {}
    if requests and "example.com/dongle" in requests:
        resources["limits"] = {"example.com/dongle": requests["example.com/dongle"]}
    container = {"name": "pause", "image": "pause:1", "resources": resources}
    return {"metadata": {"name": name}, "spec": {"containers": [container], **spec}}


async def test_its_status_is_calculated_at_once(bench: Bench) -> None:
    await begun(bench)


async def test_the_life_of_a_service(bench: Bench) -> None:
    await begun(bench)

    def service(name: str, kind: str) -> Obj:
        return {"metadata": {"name": name}, "spec": {"type": kind, "ports": [{"port": 80}]}}

    services = f"{NS}/services"
    await bench.create(services, service("test-service", "ClusterIP"))
    await bench.create(services, service("test-service-np", "NodePort"))
    refused = await bench.refused(
        403, "POST", services, service("test-service-lbnp", "LoadBalancer")
    )
    assert "exceeded quota: test-quota" in refused.message
    await used(bench, services="2", services__nodeports="1", services__loadbalancers="0")
    await bench.delete(f"{services}/test-service")
    await bench.delete(f"{services}/test-service-np")
    await used(bench, services="0", services__nodeports="0")


async def test_the_life_of_a_secret(bench: Bench) -> None:
    await begun(bench)
    await bench.create(f"{NS}/secrets", {"metadata": {"name": "s"}, "stringData": {"a": "b"}})
    await used(bench, secrets="1")
    await bench.delete(f"{NS}/secrets/s")
    await used(bench, secrets="0")


async def test_the_life_of_a_config_map(bench: Bench) -> None:
    await begun(bench)
    await bench.create(f"{NS}/configmaps", config("test-configmap", a="b"))
    await used(bench, configmaps="2")
    await bench.delete(f"{NS}/configmaps/test-configmap")
    await used(bench, configmaps="1")


async def test_the_life_of_a_replication_controller(bench: Bench) -> None:
    await begun(bench)
    await bench.create(f"{NS}/replicationcontrollers", controller("test-rc", 0))
    await used(bench, replicationcontrollers="1")
    # Upstream orphans its pods here; none are there.
    await bench.delete(f"{NS}/replicationcontrollers/test-rc")
    await used(bench, replicationcontrollers="0")


async def test_the_life_of_a_replica_set(bench: Bench) -> None:
    await begun(bench)
    body = {
        "metadata": {"name": "test-rs"},
        "spec": {
            "replicas": 0,
            "selector": {"matchLabels": {"a": "b"}},
            "template": template(a="b"),
        },
    }
    await bench.create(REPLICASETS, body)
    await used(bench, **{"count/replicasets__apps": "1"})
    await bench.delete(f"{REPLICASETS}/test-rs")
    await used(bench, **{"count/replicasets__apps": "0"})


async def test_the_life_of_a_pod(bench: Bench) -> None:
    await begun(bench)
    requests = {"cpu": "500m", "memory": "252Mi", "ephemeral-storage": "30Gi",
                "example.com/dongle": "2"}  # fmt: skip
    made = await bench.create(PODS, pod(requests=requests))
    taken = {"pods": "1", "cpu": "500m", "memory": "252Mi", "requests__ephemeral-storage": "30Gi",
             DONGLE.replace(".", "__"): "2"}  # fmt: skip
    await used(bench, **taken)
    more = pod("fail-pod", {"cpu": "600m", "memory": "100Mi", "ephemeral-storage": "1Gi"})
    assert "exceeded quota" in (await bench.refused(403, "POST", PODS, more)).message
    more = pod("fail-pod-extended", {**requests, "cpu": "100m", "memory": "10Mi",
                                     "ephemeral-storage": "1Gi"})  # fmt: skip
    assert DONGLE in (await bench.refused(403, "POST", PODS, more)).message
    made = await bench.get(f"{PODS}/{made['metadata']['name']}")
    made["spec"]["containers"][0]["resources"]["requests"] |= {"cpu": "100m", "memory": "100Mi"}
    # The scheduler may write its condition meanwhile.
    del made["metadata"]["resourceVersion"]
    await bench.refused(422, "PUT", f"{PODS}/test-pod", made)
    await used(bench, **taken)
    await bench.delete(f"{PODS}/test-pod", gracePeriodSeconds=0)
    await used(bench, **dict.fromkeys(taken, "0"))


async def scoped(bench: Bench, hard: Obj, *scopes: str) -> None:
    await settled(bench)
    for scope in scopes:
        await bench.create(QUOTAS, quota(f"quota-{scope.lower()}", hard, scopes=[scope]))
        await used(bench, f"quota-{scope.lower()}", pods="0")


async def test_scopes_of_best_effort(bench: Bench) -> None:
    await scoped(bench, {"pods": "5"}, "BestEffort", "NotBestEffort")
    for body, takes, leaves in (
        (pod("test-pod-1"), "besteffort", "notbesteffort"),
        (pod("test-pod-2", {"cpu": "500m", "memory": "200Mi"}), "notbesteffort", "besteffort"),
    ):
        made = await bench.create(PODS, body)
        await used(bench, f"quota-{takes}", pods="1")
        await used(bench, f"quota-{leaves}", pods="0")
        await bench.delete(f"{PODS}/{made['metadata']['name']}", gracePeriodSeconds=0)
        await used(bench, f"quota-{takes}", pods="0")


async def test_scopes_of_terminating_pods(bench: Bench) -> None:
    hard = {"pods": "5", "requests.cpu": "1", "requests.memory": "500Mi", "limits.cpu": "2",
            "limits.memory": "1Gi"}  # fmt: skip
    await scoped(bench, hard, "Terminating", "NotTerminating")
    for deadline, takes, leaves in (
        ({}, "notterminating", "terminating"),
        ({"activeDeadlineSeconds": 3600}, "terminating", "notterminating"),
    ):
        body = pod("test-pod", {"cpu": "500m", "memory": "200Mi"}, **deadline)
        body["spec"]["containers"][0]["resources"]["limits"] = {"cpu": "1", "memory": "400Mi"}
        await bench.create(PODS, body)
        await used(bench, f"quota-{takes}", pods="1", requests__cpu="500m", limits__memory="400Mi")
        await used(bench, f"quota-{leaves}", pods="0", requests__cpu="0", limits__memory="0")
        await bench.delete(f"{PODS}/test-pod", gracePeriodSeconds=0)
        await used(bench, f"quota-{takes}", pods="0", requests__cpu="0", limits__memory="0")


async def test_an_update_and_a_deletion(bench: Bench) -> None:
    await settled(bench)
    made = await bench.create(QUOTAS, quota(hard={"cpu": "1", "memory": "500Mi"}))
    made = await bench.get(f"{QUOTAS}/test-quota")
    assert made["spec"]["hard"] == {"cpu": "1", "memory": "500Mi"}
    made["spec"]["hard"] = {"cpu": "2", "memory": "1Gi"}
    made["metadata"].pop("resourceVersion")
    await bench.put(f"{QUOTAS}/test-quota", made)
    assert (await bench.get(f"{QUOTAS}/test-quota"))["spec"]["hard"] == {
        "cpu": "2",
        "memory": "1Gi",
    }
    await bench.delete(f"{QUOTAS}/test-quota")
    await bench.expect(404, "GET", f"{QUOTAS}/test-quota")


async def test_the_life_of_a_quota(bench: Bench) -> None:
    await settled(bench)
    labels = {"e2e-rq-label": "x"}
    body = quota("e2e-quota", COMPUTE)
    body["metadata"]["labels"] = labels
    await bench.create(QUOTAS, body)
    chosen = "?labelSelector=e2e-rq-label%3Dx"
    assert await bench.names(f"/api/v1/resourcequotas{chosen}") == ["e2e-quota"]
    patch = {"metadata": {"labels": {"e2e-rq-label": "y"}}, "spec": {"hard": {"memory": "750Mi"}}}
    patched = await bench.patch(f"{QUOTAS}/e2e-quota", patch, STRATEGIC)
    assert patched["metadata"]["labels"] == {"e2e-rq-label": "y"}
    assert patched["spec"]["hard"] == {"cpu": "500m", "memory": "750Mi"}
    await bench.delete(f"{QUOTAS}?labelSelector=e2e-rq-label%3Dy")
    assert await bench.names("/api/v1/resourcequotas") == []


@pytest.mark.cluster(virtual_time=True)
async def test_its_status_may_be_changed_and_is_set_right(bench: Bench) -> None:
    await settled(bench)
    path = f"{QUOTAS}/test-quota"
    await bench.create(QUOTAS, quota(hard=COMPUTE))
    await bench.cluster.settle()
    made = await bench.get(path)
    assert made["status"]["hard"] == COMPUTE
    updated = await bench.put(f"{path}/status", {**made, "status": {"hard": COMPUTE}})
    assert updated["status"]["hard"] == updated["spec"]["hard"] == COMPUTE
    wider = {"cpu": "1", "memory": "1Gi"}
    patched = await bench.patch(path, {"spec": {"hard": wider}}, STRATEGIC)
    assert patched["spec"]["hard"] == wider
    patched = await bench.patch(f"{path}/status", {"status": {"hard": wider}}, STRATEGIC)
    assert patched["status"]["hard"] == wider
    assert (await bench.get(f"{path}/status"))["status"]["hard"] == wider
    other = {"cpu": "2", "memory": "2Gi"}
    patched = await bench.patch(f"{path}/status", {"status": {"hard": other}}, STRATEGIC)
    assert patched["status"]["hard"] == other
    assert patched["spec"]["hard"] == wider
    # Upstream's controller sets it right at its next full round, after five minutes.
    await bench.cluster.advance(300)
    assert (await bench.get(path))["status"]["hard"] == wider
