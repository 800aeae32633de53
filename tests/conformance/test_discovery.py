"""Discovery, in single documents and aggregated (as upstream's discovery.go and
aggregated_discovery.go in test/e2e/apimachinery)."""

from __future__ import annotations

from typing import Any

from tests.kit.definitions import DEFINITIONS, definition

from .bench import Bench

V2 = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
LEGACY = {"": {"v1": {"namespaces"}}}
BUILT_IN = {
    "admissionregistration.k8s.io": {"v1": {"validatingwebhookconfigurations"}},
    "apiextensions.k8s.io": {"v1": {"customresourcedefinitions"}},
    "apiregistration.k8s.io": {"v1": {"apiservices"}},
    "apps": {"v1": {"deployments"}},
    "authentication.k8s.io": {"v1": {"tokenreviews"}},
    "authorization.k8s.io": {"v1": {"selfsubjectaccessreviews"}},
    "autoscaling": {"v1": {"horizontalpodautoscalers"}, "v2": {"horizontalpodautoscalers"}},
    "batch": {"v1": {"jobs"}},
    "certificates.k8s.io": {"v1": {"certificatesigningrequests"}},
    "coordination.k8s.io": {"v1": {"leases"}},
    "discovery.k8s.io": {"v1": {"endpointslices"}},
    "events.k8s.io": {"v1": {"events"}},
    "networking.k8s.io": {"v1": {"ingresses"}},
    "node.k8s.io": {"v1": {"runtimeclasses"}},
    "policy": {"v1": {"poddisruptionbudgets"}},
    "scheduling.k8s.io": {"v1": {"priorityclasses"}},
    "storage.k8s.io": {"v1": {"csinodes"}},
}
Served = dict[str, dict[str, set[str]]]


async def aggregated(bench: Bench, path: str) -> Served:
    document = await bench.get(path, accept=V2)
    assert document["kind"] == "APIGroupDiscoveryList"
    assert document["apiVersion"] == "apidiscovery.k8s.io/v2"
    return {
        group["metadata"].get("name", ""): {
            version["version"]: {item["resource"] for item in version["resources"]}
            for version in group["versions"]
        }
        for group in document["items"]
    }


async def client_view(bench: Bench) -> Served:
    """What client-go's aggregated interface makes of both documents, with its own header."""
    client = f"{V2},application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList"
    served: Served = {}
    for path in ("/api", "/apis"):
        answer = await bench.http("GET", path, accept=f"{client},application/json")
        assert answer.json["kind"] == "APIGroupDiscoveryList"
        served |= await aggregated(bench, path)
    return served


def covers(served: Served, wanted: Any) -> bool:
    return all(
        resources <= served[group][version]
        for group, versions in wanted.items()
        for version, resources in versions.items()
    )


async def test_aggregated_discovery_by_its_accept_header(bench: Bench) -> None:
    assert covers(await aggregated(bench, "/apis"), BUILT_IN)
    assert covers(await aggregated(bench, "/api"), LEGACY)


async def test_aggregated_discovery_as_clients_ask_for_it(bench: Bench) -> None:
    assert covers(await client_view(bench), BUILT_IN | LEGACY)


async def test_definitions_are_in_the_aggregated_document(bench: Bench) -> None:
    await bench.create(DEFINITIONS, definition(plural="testcrds", group="a.example.com"))
    assert covers(await aggregated(bench, "/apis"), {"a.example.com": {"v1": {"testcrds"}}})


async def test_definitions_are_in_what_clients_make_of_it(bench: Bench) -> None:
    await bench.create(DEFINITIONS, definition(plural="testcrds", group="a.example.com"))
    assert covers(await client_view(bench), {"a.example.com": {"v1": {"testcrds"}}})


async def test_every_group_prefers_one_of_its_versions(bench: Bench) -> None:
    groups = (await bench.get("/apis"))["groups"]
    assert groups
    for group in groups:
        one = await bench.get(f"/apis/{group['name']}")
        assert one["preferredVersion"] in one["versions"]
        assert one["preferredVersion"] == group["preferredVersion"]


async def test_every_group_version_has_resources(bench: Bench) -> None:
    for group in (await bench.get("/apis"))["groups"]:
        for version in group["versions"]:
            assert version["groupVersion"] == f"{group['name']}/{version['version']}"
            listed = await bench.get(f"/apis/{version['groupVersion']}")
            assert listed["groupVersion"] == version["groupVersion"]
            assert all(item["name"] and item["verbs"] for item in listed["resources"])
            assert listed["resources"]
