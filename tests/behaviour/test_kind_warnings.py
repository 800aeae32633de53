"""Warnings about doubtful objects go with the answer, on create and update alike."""

from __future__ import annotations

from typing import Any

from tests.kit.cluster import api_cluster

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
