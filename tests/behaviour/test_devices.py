"""Device claims from template to device and back, seen over the API (resource.k8s.io/v1)."""

from __future__ import annotations

import copy
from typing import Any

from sampan.api.errors import Object
from sampan.api.resources import resource
from sampan.testing.cluster import Cluster, Options

DRIVER = "gpu.example.com"
API = {"apiVersion": "resource.k8s.io/v1"}


def device(name: str, memory: str) -> Object:
    return {"name": name, "capacity": {"memory": {"value": memory}}}


async def offered(cluster: Cluster, **nodes: list[Object]) -> None:
    """A class of all devices of the driver, and a slice for each node."""
    cel = {"cel": {"expression": f'device.driver == "{DRIVER}"'}}
    kind = {**API, "kind": "DeviceClass", "metadata": {"name": "gpu"}}
    await cluster.create({**kind, "spec": {"selectors": [cel]}})
    for name, devices in nodes.items():
        node = name.replace("_", "-")
        pool = {"name": node, "generation": 1, "resourceSliceCount": 1}
        spec = {"driver": DRIVER, "nodeName": node, "pool": pool, "devices": devices}
        await cluster.create(
            {**API, "kind": "ResourceSlice", "metadata": {"name": f"slice-{node}"}, "spec": spec}
        )


def wanted(memory: str = "", **exactly: Any) -> Object:
    request = {"deviceClassName": "gpu", **exactly}
    if memory:
        text = f'device.capacity["{DRIVER}"].memory.compareTo(quantity("{memory}")) >= 0'
        request["selectors"] = [{"cel": {"expression": text}}]
    return {"devices": {"requests": [{"name": "gpu", "exactly": request}]}}


def pod(name: str, **claim: str) -> Object:
    container = {"name": "c", "image": "web:1", "resources": {"claims": [{"name": "gpu"}]}}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"containers": [container], "resourceClaims": [{"name": "gpu", **claim}]},
    }


async def made(cluster: Cluster, name: str, spec: Object) -> None:
    meta = {"name": name, "namespace": "default"}
    await cluster.create({**API, "kind": "ResourceClaim", "metadata": meta, "spec": spec})


async def why(cluster: Cluster, name: str) -> str:
    listed = (await cluster.get("pod", name))["status"].get("conditions") or ()
    return next((item.get("message", "") for item in listed if item["type"] == "PodScheduled"), "")


async def test_templates_become_claims_and_devices_come_back() -> None:
    options = Options(nodes=2, virtual_time=True)
    async with await Cluster.start(options) as cluster:
        await offered(cluster, node_1=[device("g0", "8Gi"), device("g1", "32Gi")])
        meta = {"name": "large", "namespace": "default"}
        template = {**API, "kind": "ResourceClaimTemplate", "metadata": meta}
        await cluster.create({**template, "spec": {"spec": wanted("16Gi")}})
        await cluster.create(pod("first", resourceClaimTemplateName="large"))
        await cluster.advance(2)
        await cluster.create(pod("second", resourceClaimTemplateName="large"))
        await cluster.advance(2)
        first = await cluster.get("pod", "first")
        assert (first["spec"]["nodeName"], first["status"]["phase"]) == ("node-1", "Running")
        # Before its claim was made nobody looked at it.
        said = [item["reason"] for item in await cluster.list("events")
                if item["involvedObject"]["name"] == "first"]  # fmt: skip
        assert "Scheduled" in said
        assert "FailedScheduling" not in said
        name = first["status"]["resourceClaimStatuses"][0]["resourceClaimName"]
        claim = await cluster.get("resourceclaim", name)
        results = claim["status"]["allocation"]["devices"]["results"]
        assert results == [{"request": "gpu", "driver": DRIVER, "pool": "node-1", "device": "g1"}]
        assert [item["name"] for item in claim["status"]["reservedFor"]] == ["first"]
        assert "0/2 nodes are available: 2 cannot allocate all claims." in await why(
            cluster, "second"
        )
        await cluster.delete("pod", "first")
        await cluster.advance(60)
        second = await cluster.get("pod", "second")
        assert second["spec"].get("nodeName") == "node-1"
        assert len(await cluster.list("resourceclaims")) == 1


async def test_claims_share_a_device_as_long_as_it_has_capacity() -> None:
    async with await Cluster.start(Options(nodes=2, virtual_time=True)) as cluster:
        large = {**device("g0", "10Gi"), "allowMultipleAllocations": True}
        await offered(cluster, node_1=[large])
        for name in ("a", "b", "c"):
            await made(cluster, name, wanted(capacity={"requests": {"memory": "4Gi"}}))
            await cluster.create(pod(name, resourceClaimName=name))
            await cluster.advance(2)
        results = [
            (await cluster.get("resourceclaim", name))["status"]["allocation"]["devices"]["results"]
            for name in ("a", "b")
        ]
        assert [one["consumedCapacity"] for (one,) in results] == [{"memory": "4Gi"}] * 2
        assert results[0][0]["shareID"] != results[1][0]["shareID"]
        assert "cannot allocate all claims" in await why(cluster, "c")
        await cluster.delete("pod", "a")
        await cluster.advance(60)
        assert (await cluster.get("pod", "c"))["spec"].get("nodeName") == "node-1"


async def say(cluster: Cluster, name: str, condition: str) -> None:
    """The driver sets a condition of the claim's device."""
    claim = copy.deepcopy(await cluster.get("resourceclaim", name))
    (result,) = claim["status"]["allocation"]["devices"]["results"]
    about = {key: result[key] for key in ("driver", "pool", "device")}
    meant = {"type": condition, "status": "True", "reason": "Said", "message": "it is so",
             "lastTransitionTime": "2026-01-01T00:00:00Z"}  # fmt: skip
    claim["status"]["devices"] = [{**about, "conditions": [meant]}]
    kind = resource("resourceclaims", "resource.k8s.io")
    await cluster.client.update(kind, claim, "status")
    await cluster.settle()


async def test_a_pod_is_bound_when_its_device_is_ready_and_gets_another_when_it_fails() -> None:
    async with await Cluster.start(Options(nodes=2, virtual_time=True)) as cluster:
        slow = {"bindingConditions": ["a.b/ready"], "bindingFailureConditions": ["a.b/bad"],
                "bindsToNode": True}  # fmt: skip
        await offered(cluster, node_1=[{**device(name, "8Gi"), **slow} for name in ("g0", "g1")])
        await made(cluster, "mine", wanted())
        await cluster.create(pod("waits", resourceClaimName="mine"))
        await cluster.advance(60)
        assert not (await cluster.get("pod", "waits"))["spec"].get("nodeName")
        allocation = (await cluster.get("resourceclaim", "mine"))["status"]["allocation"]
        assert allocation["allocationTimestamp"]
        (result,) = allocation["devices"]["results"]
        assert (result["device"], result["bindingConditions"]) == ("g0", ["a.b/ready"])
        said = [item for item in await cluster.list("events")
                if item["reason"] == "BindingConditionsPending"]  # fmt: skip
        assert [item["message"] for item in said] == [
            "waiting for binding conditions for device on node node-1"
        ]
        # It fails, and its driver takes it out of use: the claim gets the other one.
        slices = resource("resourceslices", "resource.k8s.io")
        found = copy.deepcopy(await cluster.get("resourceslice", "slice-node-1"))
        found["spec"]["devices"][0]["taints"] = [{"key": "bad", "effect": "NoSchedule"}]
        await cluster.client.update(slices, found)
        await say(cluster, "mine", "a.b/bad")
        await cluster.advance(30)
        allocation = (await cluster.get("resourceclaim", "mine"))["status"]["allocation"]
        assert allocation["devices"]["results"][0]["device"] == "g1"
        assert not (await cluster.get("pod", "waits"))["spec"].get("nodeName")
        await say(cluster, "mine", "a.b/ready")
        await cluster.advance(2)
        assert (await cluster.get("pod", "waits"))["spec"]["nodeName"] == "node-1"


async def test_a_node_gives_what_it_has_by_itself_and_another_devices_for_it() -> None:
    name = "example.com/gpu"
    async with await Cluster.start(Options(nodes=2, virtual_time=True)) as cluster:
        await offered(cluster, node_1=[device("g0", "8Gi")])
        kind = resource("deviceclasses", "resource.k8s.io")
        found = await cluster.get("deviceclass", "gpu")
        spec = {**found["spec"], "extendedResourceName": name}
        await cluster.client.update(kind, {**found, "spec": spec})
        own = {"status": {"capacity": {name: "1"}, "allocatable": {name: "1"}}}
        await cluster.client.patch(resource("nodes"), "node-0", own, "", "status")
        for number in range(3):
            asking = pod(f"p{number}")
            asking["spec"]["containers"][0]["resources"] = {"limits": {name: "1"}}
            del asking["spec"]["resourceClaims"]
            await cluster.create(asking)
            await cluster.advance(2)
        places = [(await cluster.get("pod", f"p{n}"))["spec"].get("nodeName") for n in range(3)]
        assert places == ["node-0", "node-1", None]
        (claim,) = await cluster.list("resourceclaims")
        assert [item["name"] for item in claim["status"]["reservedFor"]] == ["p1"]
        text = await why(cluster, "p2")
        assert f"1 Insufficient {name}, 1 cannot allocate all claims" in text
        await cluster.delete("pod", "p1")
        await cluster.advance(60)
        assert (await cluster.get("pod", "p2"))["spec"].get("nodeName") == "node-1"


async def test_an_extended_resource_is_had_from_devices() -> None:
    async with await Cluster.start(Options(nodes=2, virtual_time=True)) as cluster:
        asking = pod("early")
        name = "example.com/gpu"
        amounts = {"requests": {name: "2", "cpu": "1m"}, "limits": {name: "2"}}
        asking["spec"]["containers"][0]["resources"] = amounts
        del asking["spec"]["resourceClaims"]
        await cluster.create(asking)
        await cluster.advance(2)
        assert "2 Insufficient example.com/gpu" in await why(cluster, "early")
        # A class that stands for it comes, and devices.
        await offered(cluster, node_1=[device(name, "8Gi") for name in ("g0", "g1", "g2")])
        kind = resource("deviceclasses", "resource.k8s.io")
        found = await cluster.get("deviceclass", "gpu")
        spec = {**found["spec"], "extendedResourceName": name}
        await cluster.client.update(kind, {**found, "spec": spec})
        await cluster.advance(20)
        early = await cluster.get("pod", "early")
        assert early["spec"]["nodeName"] == "node-1"
        said = early["status"]["extendedResourceClaimStatus"]
        request = "container-0-request-1"
        mapping = {"containerName": "c", "resourceName": name, "requestName": request}
        assert said["requestMappings"] == [mapping]
        (claim,) = await cluster.list("resourceclaims")
        assert claim["metadata"]["name"] == said["resourceClaimName"]
        assert claim["metadata"]["name"].startswith("early-extended-resources-")
        results = claim["status"]["allocation"]["devices"]["results"]
        assert [(item["request"], item["device"]) for item in results] == [
            (request, "g0"),
            (request, "g1"),
        ]
        assert [item["name"] for item in claim["status"]["reservedFor"]] == ["early"]
        late = copy.deepcopy(asking)
        late["metadata"]["name"] = "late"
        # Each class has a resource of its own, too.
        for amounts in late["spec"]["containers"][0]["resources"].values():
            amounts["deviceclass.resource.kubernetes.io/gpu"] = amounts.pop(name)
        await cluster.create(late)
        await cluster.advance(2)
        assert "2 cannot allocate all claims" in await why(cluster, "late")
        await cluster.delete("pod", "early")
        await cluster.advance(60)
        assert (await cluster.get("pod", "late"))["spec"].get("nodeName") == "node-1"
        assert len(await cluster.list("resourceclaims")) == 1


async def test_what_a_try_that_failed_has_left_keeps_a_pod_from_no_node() -> None:
    """The claim for extended resources is there, with a device of a node that will not do now."""
    async with await Cluster.start(Options(nodes=3, virtual_time=True)) as cluster:
        resources = "example.com/gpu"
        await offered(cluster, node_1=[device("g0", "8Gi")], node_2=[device("g0", "8Gi")])
        found = await cluster.get("deviceclass", "gpu")
        spec = {**found["spec"], "extendedResourceName": resources}
        classes = resource("deviceclasses", "resource.k8s.io")
        await cluster.client.update(classes, {**found, "spec": spec})
        early = pod("early")
        amounts = {"requests": {resources: "1"}, "limits": {resources: "1"}}
        early["spec"]["containers"][0]["resources"] = amounts
        early["spec"] |= {"resourceClaims": [], "schedulingGates": [{"name": "a.b/wait"}]}
        uid = (await cluster.create(early))["metadata"]["uid"]
        request = "container-0-request-0"
        owner = {"apiVersion": "v1", "kind": "Pod", "name": "early", "uid": uid, "controller": True}
        meta = {
            "name": "left", "namespace": "default", "ownerReferences": [owner],
            "annotations": {"resource.kubernetes.io/extended-resource-claim": "true"},
            "finalizers": ["resource.kubernetes.io/delete-protection"],
        }  # fmt: skip
        asked = {"devices": {"requests": [{**wanted()["devices"]["requests"][0], "name": request}]}}
        left = await cluster.create(
            {**API, "kind": "ResourceClaim", "metadata": meta, "spec": asked}
        )
        mine = {"key": "metadata.name", "operator": "In", "values": ["node-1"]}
        result = {"request": request, "driver": DRIVER, "pool": "node-1", "device": "g0"}
        status = {
            "allocation": {
                "nodeSelector": {"nodeSelectorTerms": [{"matchFields": [mine]}]},
                "devices": {"results": [result]},
            },
            "reservedFor": [{"resource": "pods", "name": "early", "uid": uid}],
        }
        claims = resource("resourceclaims", "resource.k8s.io")
        await cluster.client.update(claims, {**left, "status": status}, "status")
        await cluster.patch("node", "node-1", {"spec": {"unschedulable": True}})
        await cluster.patch("pod", "early", {"spec": {"schedulingGates": None}})
        await cluster.advance(60)
        assert (await cluster.get("pod", "early"))["spec"].get("nodeName") == "node-2"
        (claim,) = await cluster.list("resourceclaims")
        assert claim["status"]["allocation"]["devices"]["results"][0]["pool"] == "node-2"


async def test_pods_share_a_claim_and_stay_where_its_devices_are() -> None:
    async with await Cluster.start(Options(nodes=3, virtual_time=True)) as cluster:
        await offered(cluster, node_2=[device("g0", "8Gi")])
        await made(cluster, "shared", wanted())
        for number in range(3):
            await cluster.create(pod(f"p{number}", resourceClaimName="shared"))
        await cluster.advance(30)
        nodes = [(await cluster.get("pod", f"p{n}"))["spec"].get("nodeName") for n in range(3)]
        assert nodes == ["node-2"] * 3
        claim = await cluster.get("resourceclaim", "shared")
        assert {item["name"] for item in claim["status"]["reservedFor"]} == {"p0", "p1", "p2"}
        # It may not go while it is used, and goes with its last user.
        await cluster.delete("resourceclaim", "shared")
        for number in range(3):
            assert (await cluster.get("resourceclaim", "shared"))["status"]["allocation"]
            await cluster.delete("pod", f"p{number}")
            await cluster.advance(5)
        assert await cluster.list("resourceclaims") == []


async def test_what_a_claim_lacks_is_said_and_waited_for() -> None:
    async with await Cluster.start(Options(virtual_time=True)) as cluster:
        await cluster.create(pod("p", resourceClaimName="later"))
        await cluster.advance(2)
        assert 'resourceclaim.resource.k8s.io "later" not found' in await why(cluster, "p")
        await made(cluster, "later", wanted())
        await cluster.advance(5)
        assert "request gpu: device class gpu does not exist" in await why(cluster, "p")
        await offered(cluster, node_0=[device("g0", "8Gi")])
        await cluster.advance(15)
        assert (await cluster.get("pod", "p"))["spec"]["nodeName"] == "node-0"
