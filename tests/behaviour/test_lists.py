"""Lists: selectors, pages of one moment, versions."""

from __future__ import annotations

from tests.kit.cluster import Cluster, api_cluster

CM = "/api/v1/namespaces/default/configmaps"


async def fill(cluster: Cluster, count: int = 10) -> None:
    for number in range(count):
        labels = {"parity": "odd" if number % 2 else "even", "number": str(number)}
        body = {"metadata": {"name": f"c{number}", "labels": labels}}
        assert (await cluster.http("POST", CM, body)).status == 201


async def names(cluster: Cluster, query: str) -> list[str]:
    answer = await cluster.http("GET", f"{CM}?{query}")
    assert answer.status == 200, answer.message
    return [item["metadata"]["name"] for item in answer.json["items"]]


async def test_selectors_pick_what_they_say() -> None:
    async with api_cluster() as cluster:
        await fill(cluster)
        assert await names(cluster, "labelSelector=number%3D3") == ["c3"]
        assert await names(cluster, "labelSelector=parity%3Deven,number!%3D4") == [
            "c0", "c2", "c6", "c8",
        ]  # fmt: skip
        assert await names(cluster, "labelSelector=number in (1,2,12)") == ["c1", "c2"]
        assert await names(cluster, "labelSelector=!parity") == []
        assert await names(cluster, "fieldSelector=metadata.name%3Dc7") == ["c7"]
        assert await names(cluster, "fieldSelector=metadata.name!%3Dc7&labelSelector=parity=odd") \
            == ["c1", "c3", "c5", "c9"]  # fmt: skip


async def test_an_index_follows_every_write() -> None:
    async with api_cluster() as cluster:
        await fill(cluster, 4)
        assert await names(cluster, "labelSelector=parity%3Dodd") == ["c1", "c3"]
        patch = {"metadata": {"labels": {"parity": "odd"}}}
        await cluster.http("PATCH", f"{CM}/c0", patch, content_type="application/merge-patch+json")
        await cluster.http("DELETE", f"{CM}/c3")
        await cluster.http("POST", CM, {"metadata": {"name": "n", "labels": {"parity": "odd"}}})
        assert await names(cluster, "labelSelector=parity%3Dodd") == ["c0", "c1", "n"]


async def test_pages_show_one_moment() -> None:
    async with api_cluster() as cluster:
        await fill(cluster)
        first = (await cluster.http("GET", f"{CM}?limit=4")).json
        assert first["metadata"]["remainingItemCount"] == 6
        await cluster.http("DELETE", f"{CM}/c5")
        await cluster.http("POST", CM, {"metadata": {"name": "c55"}})
        seen = [item["metadata"]["name"] for item in first["items"]]
        token = first["metadata"]["continue"]
        while token:
            page = (await cluster.http("GET", f"{CM}?limit=4&continue={token}")).json
            assert page["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]
            seen += [item["metadata"]["name"] for item in page["items"]]
            token = page["metadata"].get("continue")
        assert seen == [f"c{number}" for number in range(10)]


async def test_a_token_that_is_too_old_says_how_to_go_on() -> None:
    async with api_cluster() as cluster:
        await fill(cluster)
        first = (await cluster.http("GET", f"{CM}?limit=4")).json
        await fill_more(cluster)
        await cluster.store.compact(cluster.store.revision)
        token = first["metadata"]["continue"]
        gone = await cluster.http("GET", f"{CM}?limit=100&continue={token}")
        assert gone.status == 410
        assert gone.json["reason"] == "Expired"
        token = gone.json["metadata"]["continue"]
        rest = await cluster.http("GET", f"{CM}?limit=100&continue={token}")
        assert [item["metadata"]["name"] for item in rest.json["items"]][:2] == ["c4", "c5"]


async def fill_more(cluster: Cluster) -> None:
    for number in range(3):
        await cluster.http("POST", CM, {"metadata": {"name": f"x{number}"}})


async def test_selected_pages_go_on_where_they_stopped() -> None:
    async with api_cluster() as cluster:
        await fill(cluster)
        for selector in ("labelSelector=parity%3Dodd", "labelSelector=parity in (odd)"):
            first = (await cluster.http("GET", f"{CM}?limit=2&{selector}")).json
            token = first["metadata"]["continue"]
            rest = await names(cluster, f"{selector}&continue={token}")
            assert rest == ["c5", "c7", "c9"]


async def test_a_list_at_a_version_shows_that_moment() -> None:
    async with api_cluster() as cluster:
        await fill(cluster, 3)
        version = cluster.store.revision
        await cluster.http("DELETE", f"{CM}/c0")
        exact = f"resourceVersion={version}&resourceVersionMatch=Exact"
        assert await names(cluster, exact) == ["c0", "c1", "c2"]
        assert await names(cluster, f"{exact}&labelSelector=parity=even") == ["c0", "c2"]
        assert await names(cluster, f"resourceVersion={version}") == ["c1", "c2"]
        assert await names(cluster, "resourceVersion=0") == ["c1", "c2"]
        # Whatever version there is comes whole, as from upstream's watch cache.
        for more in ("", "&resourceVersionMatch=NotOlderThan"):
            answer = (await cluster.http("GET", f"{CM}?limit=1&resourceVersion=0{more}")).json
            assert len(answer["items"]) == 2
            assert "continue" not in answer["metadata"]
        ahead = await cluster.http("GET", f"{CM}?resourceVersion={version + 100}")
        assert ahead.status == 504
        assert ahead.message.startswith("Timeout: Too large resource version: ")
        assert ahead.json["details"]["causes"][0]["reason"] == "ResourceVersionTooLarge"


async def test_all_namespaces_and_one() -> None:
    async with api_cluster() as cluster:
        await fill(cluster, 2)
        await cluster.http(
            "POST", "/api/v1/namespaces/kube-public/configmaps", {"metadata": {"name": "p"}}
        )
        everywhere = (await cluster.http("GET", "/api/v1/configmaps")).json["items"]
        assert {"c0", "c1", "p"} <= {item["metadata"]["name"] for item in everywhere}
        assert await names(cluster, "") == ["c0", "c1"]


async def test_a_remembered_page_never_outlives_a_change() -> None:
    async with api_cluster() as cluster:
        for number in range(5):
            body = {"metadata": {"name": f"big{number}"}, "data": {"k": "v" * 10_000}}
            await cluster.http("POST", CM, body)
        first = await cluster.http("GET", f"{CM}?limit=3")
        await cluster.http(
            "POST", "/api/v1/namespaces/default/secrets", {"metadata": {"name": "s"}}
        )
        again = await cluster.http("GET", f"{CM}?limit=3")
        assert again.json["items"] == first.json["items"]
        # The page is the old one, its moment is now.
        assert again.json["metadata"]["resourceVersion"] == str(cluster.store.revision)
        await cluster.http("DELETE", f"{CM}/big0")
        assert (await names(cluster, "limit=3")) == ["big1", "big2", "big3"]
        token = again.json["metadata"]["continue"]
        assert (await names(cluster, f"limit=3&continue={token}")) == ["big3", "big4"]
