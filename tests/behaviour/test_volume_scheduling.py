"""Pods and their claims find a node together: a whole cluster, scheduler and all."""

from __future__ import annotations

from typing import Any

from sampan.testing.cluster import Cluster, Options

RWO = ["ReadWriteOnce"]


def claim(name: str, **spec: Any) -> dict[str, Any]:
    asked = {"accessModes": RWO, "resources": {"requests": {"storage": "1Gi"}}} | spec
    meta = {"name": name}
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": meta, "spec": asked}


def pod(name: str, *claims: str, **more: Any) -> dict[str, Any]:
    volumes: list[Any] = [
        {"name": f"v{number}", "persistentVolumeClaim": {"claimName": item}}
        for number, item in enumerate(claims)
    ]
    volumes += more.pop("volumes", [])
    spec = {"containers": [{"name": "c", "image": "i"}], "volumes": volumes} | more
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}


def local(name: str, node: str, storage_class: str) -> dict[str, Any]:
    rule = {"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name},
        "spec": {
            "accessModes": RWO,
            "capacity": {"storage": "2Gi"},
            "storageClassName": storage_class,
            "local": {"path": "/disks/1"},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [rule]}]}},
        },
    }


def late(name: str, provisioner: str) -> dict[str, Any]:
    """A class whose claims are bound when a pod of theirs has a node."""
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": name},
        "provisioner": provisioner,
        "volumeBindingMode": "WaitForFirstConsumer",
    }


async def node_of(cluster: Cluster, name: str) -> str:
    found = await cluster.get("pods", name)
    return str(found["spec"].get("nodeName") or "")


async def reason(cluster: Cluster, name: str) -> str:
    """Why the pod has no node."""
    found = await cluster.get("pods", name)
    for item in found["status"].get("conditions") or ():
        if item["type"] == "PodScheduled":
            return str(item.get("message") or "")
    return ""


async def test_a_claim_of_class_standard_follows_its_pod() -> None:
    async with await Cluster.start(Options(nodes=3)) as cluster:
        await cluster.create(claim("data"))
        await cluster.settle()
        assert (await cluster.get("pvc", "data"))["status"]["phase"] == "Pending"
        chosen = {"nodeSelector": {"kubernetes.io/hostname": "node-2"}}
        await cluster.create(pod("first", "data", **chosen))
        await cluster.settle()
        found = await cluster.get("pvc", "data")
        assert found["status"]["phase"] == "Bound"
        mark = found["metadata"]["annotations"]["volume.kubernetes.io/selected-node"]
        assert mark == await node_of(cluster, "first") == "node-2"
        # The next pod goes where the data is, and nowhere else.
        await cluster.create(pod("second", "data"))
        elsewhere = {"nodeSelector": {"kubernetes.io/hostname": "node-0"}}
        await cluster.create(pod("third", "data", **elsewhere))
        await cluster.settle()
        assert await node_of(cluster, "second") == "node-2"
        assert await node_of(cluster, "third") == ""
        text = await reason(cluster, "third")
        assert "1 node(s) had volume node affinity conflict" in text
        # Everything goes with the claim, once nobody uses it.
        for name in ("first", "second", "third"):
            await cluster.delete("pod", name)
        await cluster.delete("pvc", "data")
        await cluster.settle()
        assert await cluster.list("pv") == []


async def test_a_pod_waits_for_its_claims() -> None:
    async with await Cluster.start() as cluster:
        await cluster.create(pod("p", "late"))
        await cluster.settle()
        start = '0/1 nodes are available: persistentvolumeclaim "late" not found. '
        assert (await reason(cluster, "p")).startswith(start)
        await cluster.create(claim("now", storageClassName=""))
        await cluster.create(pod("q", "now"))
        await cluster.settle()
        start = "0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims. "
        assert (await reason(cluster, "q")).startswith(start)
        await cluster.create(claim("late"))
        await wait_scheduled(cluster, "p")


async def wait_scheduled(cluster: Cluster, name: str) -> None:
    """Until the pod has a node; its back-off may be a second."""
    await cluster.wait("pod", name, lambda found: found and found["spec"].get("nodeName"))


async def test_volumes_that_were_made_by_hand() -> None:
    async with await Cluster.start(Options(nodes=3)) as cluster:
        await cluster.create(late("hand", "kubernetes.io/no-provisioner"))
        await cluster.create(local("disk-1", "node-1", "hand"))
        for name in ("one", "two"):
            await cluster.create(claim(name, storageClassName="hand"))
        await cluster.settle()
        await cluster.create(pod("a", "one"))
        await cluster.settle()
        assert await node_of(cluster, "a") == "node-1"
        assert (await cluster.get("pvc", "one"))["spec"]["volumeName"] == "disk-1"
        await cluster.create(pod("b", "two"))
        await cluster.settle()
        why = "3 node(s) didn't find available persistent volumes to bind"
        assert why in await reason(cluster, "b")
        await cluster.create(local("disk-2", "node-0", "hand"))
        await wait_scheduled(cluster, "b")
        assert await node_of(cluster, "b") == "node-0"


async def test_two_claims_of_one_pod_take_two_volumes_of_one_node() -> None:
    async with await Cluster.start(Options(nodes=3)) as cluster:
        await cluster.create(late("hand", "kubernetes.io/no-provisioner"))
        for name, node in (("x", "node-0"), ("y", "node-1"), ("z", "node-1")):
            await cluster.create(local(name, node, "hand"))
        for name in ("one", "two"):
            await cluster.create(claim(name, storageClassName="hand"))
        await cluster.settle()
        await cluster.create(pod("a", "one", "two"))
        await cluster.settle()
        assert await node_of(cluster, "a") == "node-1"
        names = {(await cluster.get("pvc", name))["spec"]["volumeName"] for name in ("one", "two")}
        assert names == {"y", "z"}


async def test_a_claim_of_one_pod_alone() -> None:
    async with await Cluster.start(Options(nodes=2)) as cluster:
        await cluster.create(claim("data", accessModes=["ReadWriteOncePod"]))
        await cluster.create(pod("first", "data"))
        await cluster.settle()
        home = await node_of(cluster, "first")
        assert home
        await cluster.create(pod("second", "data"))
        await cluster.settle()
        why = (
            "0/2 nodes are available: 2 node(s) unavailable due to PersistentVolumeClaim with "
            "ReadWriteOncePod access mode already in-use by another pod. "
        )
        assert (await reason(cluster, "second")).startswith(why)
        await cluster.delete("pod", "first")
        await wait_scheduled(cluster, "second")
        assert await node_of(cluster, "second") == home
        # One that matters more sends it away.
        important = {
            "apiVersion": "scheduling.k8s.io/v1",
            "kind": "PriorityClass",
            "metadata": {"name": "high"},
            "value": 1000,
        }
        await cluster.create(important)
        await cluster.create(pod("third", "data", priorityClassName="high"))
        await wait_scheduled(cluster, "third")
        assert await cluster.find("pod", "second") is None


async def test_ephemeral_volumes_come_and_go_with_their_pod() -> None:
    async with await Cluster.start() as cluster:
        template = {"spec": claim("x")["spec"]}
        own = {"name": "scratch", "ephemeral": {"volumeClaimTemplate": template}}
        await cluster.create(pod("p", volumes=[own]))
        await wait_scheduled(cluster, "p")
        await cluster.settle()
        assert (await cluster.get("pvc", "p-scratch"))["status"]["phase"] == "Bound"
        await cluster.delete("pod", "p")
        await cluster.settle()
        assert await cluster.list("pvc") == []
        assert await cluster.list("pv") == []


async def test_a_pod_says_where_it_is_expected_while_its_volume_is_made() -> None:
    async with await Cluster.start(Options(nodes=2)) as cluster:
        await cluster.create(late("slow", "example.com/nobody"))
        await cluster.create(claim("data", storageClassName="slow"))
        chosen = {"nodeSelector": {"kubernetes.io/hostname": "node-1"}}
        await cluster.create(pod("p", "data", **chosen))
        await cluster.settle()
        assert (await cluster.get("pod", "p"))["status"]["nominatedNodeName"] == "node-1"
        assert await node_of(cluster, "p") == ""
        found = await cluster.get("pvc", "data")
        await cluster.create(local("made", "node-1", "slow") | {"metadata": {"name": "made"}})
        await cluster.patch("pvc", "data", {"spec": {"volumeName": "made"}})
        await wait_scheduled(cluster, "p")
        assert "nominatedNodeName" not in (await cluster.get("pod", "p"))["status"]
        assert found["metadata"]["annotations"]["volume.kubernetes.io/selected-node"] == "node-1"
