"""After a restart a client goes on from where it watched, or is told cleanly to list again."""

from __future__ import annotations

from contextlib import aclosing
from pathlib import Path

from sampan.store.sqlite import SqliteStore
from tests.kit.cluster import Cluster, api_cluster

CM = "/api/v1/namespaces/default/configmaps"


async def create(cluster: Cluster, name: str) -> int:
    answer = await cluster.http("POST", CM, {"metadata": {"name": name}})
    return int(answer.json["metadata"]["resourceVersion"])


async def first_seen(cluster: Cluster, version: int) -> tuple[str, str]:
    path = f"{CM}?watch=1&resourceVersion={version}"
    async with aclosing(cluster.stream(path)) as events:
        event = await anext(events)
    obj = event["object"]
    return event["type"], obj.get("reason") or obj["metadata"]["name"]


async def test_a_watch_goes_on_behind_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    store = SqliteStore.open(path)
    async with api_cluster(store=store) as cluster:
        seen = await create(cluster, "seen")
        await create(cluster, "missed")
        page = (await cluster.http("GET", f"{CM}?limit=1")).json["metadata"]
        compacted = await create(cluster, "late")
    await store.close()
    store = SqliteStore.open(path)
    async with api_cluster(store=store) as cluster:
        assert await first_seen(cluster, seen) == ("ADDED", "missed")
        rest = await cluster.http("GET", f"{CM}?continue={page['continue']}")
        assert [item["metadata"]["name"] for item in rest.json["items"]] == ["seen"]
        await store.compact(compacted + 1)
        await create(cluster, "after")
    await store.close()
    store = SqliteStore.open(path)
    async with api_cluster(store=store) as cluster:
        # What was compacted may still be there whole, or be gone; nothing lies in between.
        expired = ("ERROR", "Expired")
        found = await first_seen(cluster, seen)
        assert found in (("ADDED", "missed"), expired)
        assert await first_seen(cluster, store.revision - 1) != expired
        again = await cluster.http("GET", f"{CM}?continue={page['continue']}")
        assert again.status == (410 if found == expired else 200)
    await store.close()
