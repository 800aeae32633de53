"""Claims of devices: who may have administrators' access, and write which part of a status."""

from __future__ import annotations

from typing import Any

from sampan.server.exchange import User
from tests.behaviour.test_rbac import grant, rule
from tests.kit.cluster import Answer, Cluster, api_cluster

GROUP = "resource.k8s.io"
CLAIMS = f"/apis/{GROUP}/v1/namespaces/default/resourceclaims"
MERGE = "application/merge-patch+json"
NODE = "authentication.kubernetes.io/node-name"
EVERYBODY = ("system:authenticated",)
DRIVER = User("system:serviceaccount:default:driver", EVERYBODY, "", {NODE: ("n1",)})
DEVICE = {"driver": "gpu.example", "pool": "p", "device": "d"}
ON_N1 = {"nodeSelectorTerms": [
    {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n1"]}]}
]}  # fmt: skip
RESULT = {"request": "r", **DEVICE}
ALLOCATION = {"devices": {"results": [RESULT]}, "nodeSelector": ON_N1}


def claim(**exactly: Any) -> dict[str, Any]:
    request = {"name": "r", "exactly": {"deviceClassName": "c", **exactly}}
    return {"metadata": {"name": "a"}, "spec": {"devices": {"requests": [request]}}}


async def status(cluster: Cluster, user: User, **parts: Any) -> Answer:
    path = f"{CLAIMS}/a/status"
    return await cluster.http("PATCH", path, {"status": parts}, user=user, content_type=MERGE)


async def test_administrators_access_needs_a_label_of_the_namespace() -> None:
    async with api_cluster() as cluster:
        refused = await cluster.http("POST", CLAIMS, claim(adminAccess=True))
        assert (refused.status, refused.message) == (
            422,
            'ResourceClaim.resource.k8s.io "a" is invalid: spec.devices.requests[0].adminAccess: '
            "Forbidden: admin access to devices requires the `resource.kubernetes.io/admin-access: "
            "true` label on the containing namespace",
        )
        template = {"metadata": {"name": "t"}, "spec": {"spec": claim(adminAccess=True)["spec"]}}
        path = CLAIMS.replace("resourceclaims", "resourceclaimtemplates")
        assert (await cluster.http("POST", path, template)).status == 422
        label = {"metadata": {"labels": {"resource.kubernetes.io/admin-access": "true"}}}
        await cluster.http("PATCH", "/api/v1/namespaces/default", label, content_type=MERGE)
        assert (await cluster.http("POST", path, template)).status == 201
        assert (await cluster.http("POST", CLAIMS, claim(adminAccess=True))).status == 201


async def test_binding_a_claim_is_a_right_of_its_own() -> None:
    async with api_cluster() as cluster:
        made = await cluster.http("POST", CLAIMS, claim())
        assert made.status == 201, made.message
        bob = User("bob", EVERYBODY)
        await grant(cluster, "s", "bob", [rule("patch", "resourceclaims/status", GROUP)])
        refused = await status(cluster, bob, allocation=ALLOCATION)
        assert (refused.status, refused.message) == (
            422,
            'ResourceClaim.resource.k8s.io "a" is invalid: status: Forbidden: changing '
            'status.allocation or status.reservedFor requires resource="resourceclaims/binding", '
            'verb="patch" permission: resourceclaims.resource.k8s.io is forbidden: User "bob" '
            'cannot patch resource "resourceclaims/binding" in API group "resource.k8s.io" at the '
            "cluster scope",
        )
        await grant(cluster, "b", "bob", [rule("patch", "resourceclaims/binding", GROUP)])
        bound = await status(cluster, bob, allocation=ALLOCATION)
        assert bound.status == 200, bound.message


async def test_a_driver_writes_of_its_own_devices_on_its_node() -> None:
    async with api_cluster() as cluster:
        assert (await cluster.http("POST", CLAIMS, claim())).status == 201
        admin = User("admin", ("system:masters",))
        assert (await status(cluster, admin, allocation=ALLOCATION)).status == 200
        rules = [rule("patch", "resourceclaims/status", GROUP)]
        await grant(cluster, "s", DRIVER.name, rules)
        refused = await status(cluster, DRIVER, devices=[DEVICE])
        assert refused.status == 422
        assert (
            "status.devices: Forbidden: changing status.devices requires "
            'resource="resourceclaims/driver", '
            'verb="[associated-node:patch arbitrary-node:patch]" permission: '
            'resourceclaims.resource.k8s.io "gpu.example" is forbidden' in refused.message
        )
        beside = rule("associated-node:patch", "resourceclaims/driver", GROUP, "gpu.example")
        await grant(cluster, "d", DRIVER.name, [beside])
        elsewhere = User(DRIVER.name, DRIVER.groups, "", {NODE: ("n2",)})
        assert (await status(cluster, elsewhere, devices=[DEVICE])).status == 422
        assert (await status(cluster, DRIVER, devices=[DEVICE])).status == 200
        # The same again changes nothing, and needs no right.
        assert (await status(cluster, elsewhere, devices=[DEVICE])).status == 200
        assert (await status(cluster, elsewhere, devices=[])).status == 422
