"""Warnings about doubtful objects go with the answer, on create and update alike."""

from __future__ import annotations

from typing import Any

from tests.kit.cluster import api_cluster
from tests.kit.definitions import DEFINITIONS, MERGE, WIDGETS, definition, version, widget

SERVICES = "/api/v1/namespaces/default/services"
DEPRECATED = (
    '299 - "spec.trafficDistribution: \\"PreferClose\\" is deprecated; use \\"PreferSameZone\\""'
)


async def test_warnings_go_with_the_answer() -> None:
    async with api_cluster() as cluster:
        body: dict[str, Any] = {
            "metadata": {"name": "a"},
            "spec": {"ports": [{"port": 80}], "trafficDistribution": "PreferClose"},
        }
        made = await cluster.http("POST", SERVICES, body)
        assert (made.status, made.headers.get("Warning")) == (201, DEPRECATED)
        shown = made.json | {"metadata": made.json["metadata"] | {"labels": {"a": "b"}}}
        changed = await cluster.http("PUT", f"{SERVICES}/a", shown)
        assert (changed.status, changed.headers.get("Warning")) == (200, DEPRECATED)
        status = await cluster.http("PUT", f"{SERVICES}/a/status", changed.json)
        assert (status.status, status.headers.get("Warning")) == (200, None)
        body["spec"]["ports"] = []
        refused = await cluster.http("POST", SERVICES, body)
        assert (refused.status, refused.headers.get("Warning")) == (422, None)


async def test_finalizers_of_custom_resources_should_have_a_path() -> None:
    def doubt(name: str) -> str:
        return (
            f'299 - "metadata.finalizers: \\"{name}\\": prefer a domain-qualified finalizer name '
            'including a path (/) to avoid accidental conflicts with other finalizer writers"'
        )

    async with api_cluster() as cluster:
        await cluster.http("POST", DEFINITIONS, definition(version()))
        body = widget("a")
        body["metadata"]["finalizers"] = ["orphan", "example.com/fine", "mine.example.com"]
        made = await cluster.http("POST", WIDGETS, body)
        assert made.headers.get("Warning") == doubt("mine.example.com")
        patch = {"metadata": {"finalizers": [*body["metadata"]["finalizers"], "x"]}}
        more = await cluster.http("PATCH", f"{WIDGETS}/a", patch, content_type=MERGE)
        assert more.headers.get("Warning") == doubt("x")
        patch["metadata"]["finalizers"].pop()
        less = await cluster.http("PATCH", f"{WIDGETS}/a", patch, content_type=MERGE)
        assert (less.status, less.headers.get("Warning")) == (200, None)
