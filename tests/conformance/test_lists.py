"""Lists in chunks, tables, and the server's version (as upstream's chunking.go, table_conversion.go
and server_version.go in test/e2e/apimachinery)."""

from __future__ import annotations

from typing import Any

from .bench import MAPS, NS, Bench, config, template

TEMPLATES = f"{NS}/podtemplates"
TOTAL = 100
"""Upstream makes 400; the pages are cut in the same proportions."""


async def fill(bench: Bench) -> None:
    for number in range(TOTAL):
        body = {"metadata": {"name": f"template-{number:04}"}, "template": template(app="x")}
        await bench.create(TEMPLATES, body)


async def pages(bench: Bench, limit: int, found: int, token: str = "") -> tuple[str, int]:
    """Read page by page; gives the one version of all pages and how many objects there were."""
    versions = set()
    while True:
        listed = await bench.get(f"{TEMPLATES}?limit={limit}&continue={token}")
        versions.add(listed["metadata"]["resourceVersion"])
        names = [item["metadata"]["name"] for item in listed["items"]]
        assert len(names) <= limit
        assert names == [f"template-{found + at:04}" for at in range(len(names))]
        found += len(names)
        token = listed["metadata"].get("continue", "")
        assert listed["metadata"].get("remainingItemCount") == (TOTAL - found if token else None)
        if not token:
            (version,) = versions
            return version, found


async def test_lists_come_in_chunks(bench: Bench) -> None:
    await fill(bench)
    for _ in range(3):
        assert (await pages(bench, 17, 0))[1] == TOTAL
    whole = await bench.get(f"{TEMPLATES}?limit={TOTAL + 1}")
    assert len(whole["items"]) == TOTAL


async def test_a_list_goes_on_after_its_version_was_compacted(bench: Bench) -> None:
    await fill(bench)
    tenth = TOTAL // 10
    first = (await bench.get(f"{TEMPLATES}?limit={tenth}"))["metadata"]
    assert first["remainingItemCount"] == TOTAL - tenth
    for name in ("a", "b", "c"):
        await bench.create(MAPS, config(name))
    store = bench.cluster.store
    await store.compact(store.revision)
    again = f"{TEMPLATES}?limit={tenth}&continue={first['continue']}"
    status: Any = (await bench.refused(410, "GET", again, None)).json
    assert status["reason"] == "Expired"
    token = status["metadata"]["continue"]
    version, found = await pages(bench, tenth, tenth, token)
    assert found == TOTAL
    assert version != first["resourceVersion"]


async def test_what_cannot_be_a_table_is_not_acceptable(bench: Bench) -> None:
    review = {"spec": {"resourceAttributes": {"namespace": "kube-system", "verb": "get"}}}
    answer = await bench.http(
        "POST",
        "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
        review,
        accept="application/json;as=Table;v=v1;g=meta.k8s.io",
    )
    assert (answer.status, answer.json["reason"]) == (406, "NotAcceptable")


async def test_the_servers_version_is_of_whole_numbers(bench: Bench) -> None:
    version = await bench.get("/version")
    assert version["major"].isdigit()
    assert version["minor"].isdigit()
