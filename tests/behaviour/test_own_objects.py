"""What pods find the API by is brought back when somebody takes it away."""

from __future__ import annotations

from sampan.api.resources import resource
from sampan.server.bootstrap import restore
from tests.behaviour.workload_kit import NAMESPACES, world

SERVICES = resource("services")
SLICES = resource("endpointslices", "discovery.k8s.io")
ENDPOINTS = resource("endpoints")


async def test_the_service_of_the_api_comes_back() -> None:
    calls: list[int] = []

    async def back() -> None:
        calls.append(1)
        await restore(here.cluster.server)

    async with world(restore=back) as here:
        services, slices = here.cache("services"), here.cache("endpointslices", "discovery.k8s.io")
        spaces, endpoints = here.cache("namespaces"), here.cache("endpoints")
        before = services.get("default", "kubernetes")
        led = slices.get("default", "kubernetes")
        assert before
        assert led
        for kind in (SERVICES, SLICES, ENDPOINTS):
            await here.client.delete(kind, "kubernetes", "default")
        await here.client.delete(NAMESPACES, "kube-node-lease")

        def is_new(found: dict | None, old: dict) -> bool:
            return found is not None and found["metadata"]["uid"] != old["metadata"]["uid"]

        await here.until(lambda: is_new(services.get("default", "kubernetes"), before))
        await here.until(lambda: is_new(slices.get("default", "kubernetes"), led))
        await here.until(lambda: endpoints.get("default", "kubernetes") is not None)
        found = services.get("default", "kubernetes")
        assert found
        assert found["spec"]["clusterIP"] == before["spec"]["clusterIP"]
        await here.until(
            lambda: (
                "deletionTimestamp"
                not in (
                    spaces.get("", "kube-node-lease") or {"metadata": {"deletionTimestamp": 1}}
                )["metadata"]
            )
        )
        # Where it leads is this server's to say.
        subsets = [{"addresses": [{"ip": "192.0.2.66"}], "ports": [{"port": 1}]}]
        await here.client.patch(ENDPOINTS, "kubernetes", {"subsets": subsets}, "default")
        await here.until(
            lambda: (
                (endpoints.get("default", "kubernetes") or {"subsets": subsets})["subsets"]
                != subsets
            )
        )
        # And it is at rest then: at most a call for each thing that was taken, changed or led back.
        for number in range(15):
            name = f"later-{number}"
            await here.client.create(NAMESPACES, {"metadata": {"name": name}})
            await here.until(lambda name=name: spaces.get("", name))
        assert len(calls) <= 6
