"""Endpoints written by hand become slices, and follow them (upstream: EndpointSliceMirroring)."""

from __future__ import annotations

from sampan.api.errors import Object
from sampan.api.resources import resource
from tests.behaviour.workload_kit import world

SERVICES, ENDPOINTS = resource("services"), resource("endpoints")
NAME = "kubernetes.io/service-name"
SUBSET = {"addresses": [{"ip": "10.1.2.3"}], "ports": [{"name": "http", "port": 9376}]}


def endpoints(*subsets: Object, **meta: Object) -> Object:
    return {"metadata": {"name": "own", "namespace": "default", **meta}, "subsets": [*subsets]}


async def test_endpoints_by_hand_are_mirrored_through_create_update_and_delete() -> None:
    async with world() as here:
        cache = here.cache("endpointslices", "discovery.k8s.io")

        def mirrors() -> list[Object]:
            found = (item for item in cache.list("default"))
            return [item for item in found if item["metadata"]["labels"].get(NAME) == "own"]

        def by_family() -> dict[str, Object]:
            return {item["addressType"]: item for item in mirrors()}

        service = {"metadata": {"name": "own"}, "spec": {"ports": [{"port": 80, "name": "http"}]}}
        await here.client.create(SERVICES, service, "default")
        labels = {"team": "x"}
        notes = {"note": "y", "kubectl.kubernetes.io/last-applied-configuration": "{}"}
        body = endpoints(SUBSET, labels=labels, annotations=notes)
        await here.client.create(ENDPOINTS, body, "default")
        (item,) = await here.until(mirrors)
        managed = "endpointslice.kubernetes.io/managed-by"
        assert item["metadata"]["labels"] == {
            "team": "x", NAME: "own", managed: "endpointslicemirroring-controller.k8s.io",
        }  # fmt: skip
        assert item["metadata"]["annotations"] == {"note": "y"}
        assert item["metadata"]["ownerReferences"][0]["kind"] == "Endpoints"
        assert item["endpoints"] == [{"addresses": ["10.1.2.3"], "conditions": {"ready": True}}]
        assert item["ports"] == [{"name": "http", "port": 9376, "protocol": "TCP"}]

        late = {**SUBSET, "notReadyAddresses": [{"ip": "10.2.3.4", "hostname": "late"}]}
        six = {**SUBSET, "addresses": [{"ip": "fd00::1"}]}
        fresh = await here.client.get(ENDPOINTS, "own", "default")
        await here.client.update(ENDPOINTS, {**fresh, "subsets": [late, six]})
        await here.until(lambda: len(mirrors()) == 2 and len(by_family()["IPv4"]["endpoints"]) == 2)
        assert by_family()["IPv4"]["metadata"]["name"] == item["metadata"]["name"]
        assert by_family()["IPv4"]["endpoints"][1] == {
            "addresses": ["10.2.3.4"], "conditions": {"ready": False}, "hostname": "late",
        }  # fmt: skip

        # Once the service selects pods, its slices are another controller's.
        change = {"spec": {"selector": {"app": "own"}}}
        await here.client.patch(SERVICES, "own", change, "default")
        await here.until(lambda: all(managed_by(item) == "endpointslice-controller.k8s.io"
                                     for item in mirrors()))  # fmt: skip
        back = {"spec": {"selector": None}}
        await here.client.patch(SERVICES, "own", back, "default")
        await here.client.delete(ENDPOINTS, "own", "default")
        await here.until(
            lambda: not [item for item in mirrors() if "mirroring" in managed_by(item)]
        )


def managed_by(item: Object) -> str:
    return str(item["metadata"]["labels"]["endpointslice.kubernetes.io/managed-by"])
