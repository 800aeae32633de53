"""Watches: what happened since a version, in order, as each watcher selected."""

from __future__ import annotations

import asyncio
from base64 import b64decode
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import pytest
from orjson import loads

from sampan.api.errors import Expired
from sampan.api.resources import resource
from sampan.server import watching
from sampan.server.exchange import Stream
from tests.kit.clock import FakeClock, settle
from tests.kit.cluster import ADMIN, Cluster, api_cluster, request_of

CM = "/api/v1/namespaces/default/configmaps"
MERGE = "application/merge-patch+json"


async def create(cluster: Cluster, name: str, **labels: str) -> None:
    body = {"metadata": {"name": name, "labels": labels}}
    assert (await cluster.http("POST", CM, body)).status == 201


async def relabel(cluster: Cluster, name: str, **labels: str | None) -> None:
    body = {"metadata": {"labels": labels}}
    assert (await cluster.http("PATCH", f"{CM}/{name}", body, content_type=MERGE)).status == 200


async def take(stream: AsyncIterator[Any], count: int) -> list[tuple[str, str]]:
    out = []
    while len(out) < count:
        event = await asyncio.wait_for(anext(stream), 5)
        out.append((event["type"], event["object"]["metadata"].get("name", "")))
    return out


async def test_replay_then_live_without_gap() -> None:
    async with api_cluster() as cluster:
        version = cluster.store.revision
        await create(cluster, "a")
        async with aclosing(cluster.stream(f"{CM}?watch=1&resourceVersion={version}")) as events:
            assert await take(events, 1) == [("ADDED", "a")]
            await relabel(cluster, "a", x="1")
            await cluster.http("DELETE", f"{CM}/a")
            assert await take(events, 2) == [("MODIFIED", "a"), ("DELETED", "a")]


async def test_versions_rise_and_a_deletion_has_its_own() -> None:
    async with api_cluster() as cluster:
        async with aclosing(cluster.stream(f"{CM}?watch=1")) as events:
            await create(cluster, "a", x="1")
            first = await anext(events)
            await cluster.http("DELETE", f"{CM}/a")
            last = await anext(events)
        assert last["type"] == "DELETED"
        assert last["object"]["metadata"]["labels"] == {"x": "1"}
        versions = [int(event["object"]["metadata"]["resourceVersion"]) for event in (first, last)]
        assert versions[1] == cluster.store.revision > versions[0]


async def test_without_a_version_what_is_there_comes_first() -> None:
    async with api_cluster() as cluster:
        await create(cluster, "a")
        for query in ("watch=1", "watch=true&resourceVersion=0"):
            async with aclosing(cluster.stream(f"{CM}?{query}")) as events:
                assert await take(events, 1) == [("ADDED", "a")]


async def test_a_selector_turns_changes_into_coming_and_going() -> None:
    async with api_cluster() as cluster:
        version = cluster.store.revision
        query = f"watch=1&resourceVersion={version}&labelSelector=app%3Dweb"
        async with aclosing(cluster.stream(f"{CM}?{query}")) as events:
            await create(cluster, "other", app="db")
            await create(cluster, "a", app="web")
            await relabel(cluster, "a", n="1")
            await relabel(cluster, "a", app="db")
            await relabel(cluster, "a", app="web")
            await cluster.http("DELETE", f"{CM}/a")
            expected = [
                ("ADDED", "a"), ("MODIFIED", "a"), ("DELETED", "a"), ("ADDED", "a"),
                ("DELETED", "a"),
            ]  # fmt: skip
            assert await take(events, 5) == expected
        # The same from history, where objects have to be decoded again.
        async with aclosing(cluster.stream(f"{CM}?{query}")) as events:
            assert await take(events, 5) == expected


async def test_one_object_by_name() -> None:
    async with api_cluster() as cluster:
        query = "watch=1&fieldSelector=metadata.name%3Dhot"
        async with aclosing(cluster.stream(f"{CM}?{query}")) as events:
            await create(cluster, "cold")
            await create(cluster, "hot")
            assert await take(events, 1) == [("ADDED", "hot")]


async def test_initial_events_end_with_a_bookmark() -> None:
    async with api_cluster() as cluster:
        await create(cluster, "a")
        query = "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan"
        async with aclosing(cluster.stream(f"{CM}?{query}&allowWatchBookmarks=true")) as events:
            assert (await anext(events))["type"] == "ADDED"
            mark = await anext(events)
        assert mark["type"] == "BOOKMARK"
        metadata = mark["object"]["metadata"]
        assert metadata["annotations"]["k8s.io/initial-events-end"] == "true"
        blueprint = metadata["annotations"]["kubernetes.io/initial-events-list-blueprint"]
        assert loads(b64decode(blueprint))["kind"] == "ConfigMapList"
        assert metadata["resourceVersion"] == str(cluster.store.revision)
        bad = await cluster.http("GET", f"{CM}?watch=1&sendInitialEvents=true")
        assert bad.status == 422


async def test_bookmarks_and_the_end_come_by_the_clock() -> None:
    clock = FakeClock()
    async with api_cluster(clock=clock) as cluster:
        path = f"{CM}?watch=1&timeoutSeconds=100&allowWatchBookmarks=true&resourceVersion=1"
        events = cluster.stream(path)
        waiting = asyncio.create_task(anext(events))
        await settle()
        await create_elsewhere(cluster)
        await clock.advance(90)
        mark = await waiting
        assert mark["type"] == "BOOKMARK"
        assert mark["object"]["metadata"]["resourceVersion"] == str(cluster.store.revision)
        rest = asyncio.create_task(drain(events))
        await settle()
        await clock.advance(20)
        assert {event["type"] for event in await rest} <= {"BOOKMARK"}
        assert not cluster.server.watchers


async def create_elsewhere(cluster: Cluster) -> None:
    body = {"metadata": {"name": "s"}}
    await cluster.http("POST", "/api/v1/namespaces/default/secrets", body)


async def drain(events: AsyncIterator[Any]) -> list[Any]:
    return [event async for event in events]


async def test_a_version_that_is_gone_is_an_error_event() -> None:
    async with api_cluster() as cluster:
        await create(cluster, "a")
        await cluster.store.compact(cluster.store.revision)
        async with aclosing(cluster.stream(f"{CM}?watch=1&resourceVersion=1")) as events:
            event = await anext(events)
        assert event["type"] == "ERROR"
        assert (event["object"]["code"], event["object"]["reason"]) == (410, "Expired")
        assert event["object"]["message"].startswith("too old resource version: 1 (")
        watch = cluster.client.watch(resource("configmaps"), "default", {"resourceVersion": "1"})
        with pytest.raises(Expired):
            await anext(watch)


async def test_a_slow_watcher_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "QUEUE_CHANGES", 3)
    async with api_cluster() as cluster:
        await create(cluster, "a")
        async with aclosing(cluster.stream(f"{CM}?watch=1")) as events:
            assert (await anext(events))["type"] == "ADDED"
            for number in range(5):
                await relabel(cluster, "a", n=str(number))
            assert [event async for event in events] == []
        assert not cluster.server.watchers


async def test_all_watchers_share_one_line() -> None:
    async with api_cluster() as cluster:
        version = cluster.store.revision
        await create(cluster, "a")
        record = cluster.store.get("/registry/configmaps/default/a")
        assert record is not None
        change = cluster.server.cache._by_revision[version + 1]
        async with aclosing(cluster.stream(f"{CM}?watch=1&resourceVersion={version}")) as one:
            await anext(one)
        line = change.lines["ADDED"]
        async with aclosing(cluster.stream(f"{CM}?watch=1&resourceVersion={version}")) as two:
            await anext(two)
        assert change.lines["ADDED"] is line


async def test_a_waiting_reader_is_written_to_and_a_busy_one_is_not_overtaken() -> None:
    async with api_cluster() as cluster:
        written: list[bytes] = []
        takes = True

        def write(chunk: bytes) -> bool:
            if takes:
                written.append(chunk)
            return takes

        ask = request_of("GET", f"{CM}?watch=1&resourceVersion=1", None, ADMIN, "", "")
        answer = await cluster.server.handle(ask)
        assert isinstance(answer, Stream)
        assert answer.direct is not None
        answer.direct(write)
        async with aclosing(answer.chunks) as chunks:  # type: ignore[type-var]
            await create(cluster, "a")
            # Nobody reads yet: it is queued.
            assert b'"a"' in await anext(chunks)
            await create(cluster, "b")
            assert not written
            assert b'"b"' in await anext(chunks)
            waiting = asyncio.ensure_future(anext(chunks))
            await settle()
            await create(cluster, "c")
            assert [loads(line)["object"]["metadata"]["name"] for line in written] == ["c"]
            assert not waiting.done()
            takes = False
            await create(cluster, "d")
            assert b'"d"' in await waiting
            assert len(written) == 1


async def test_in_process_watches_share_objects() -> None:
    async with api_cluster() as cluster:
        target = resource("configmaps")
        version = str(cluster.store.revision)
        await create(cluster, "a")
        watch = cluster.client.watch(target, "default", {"resourceVersion": version})
        async with aclosing(watch) as events:  # type: ignore[type-var]
            kind, obj = await anext(events)
        assert kind == "ADDED"
        assert obj is await cluster.client.get(target, "a", "default")


async def test_closing_the_server_ends_watches() -> None:
    async with api_cluster() as cluster:
        events = cluster.stream(f"{CM}?watch=1")
        waiting = asyncio.create_task(drain(events))
        await settle()
        await cluster.server.close()
        assert await asyncio.wait_for(waiting, 5) == []


async def test_a_long_past_does_not_cut_a_watcher_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "QUEUE_CHANGES", 3)
    monkeypatch.setattr(watching, "PAST_CHANGES", 2)
    async with api_cluster() as cluster:
        version = cluster.store.revision
        await create(cluster, "a", app="web")
        for number in range(8):
            await relabel(cluster, "a", n=str(number))
        query = f"watch=1&resourceVersion={version}"
        async with aclosing(cluster.stream(f"{CM}?{query}")) as events:
            assert len(await take(events, 5)) == 5
            await relabel(cluster, "a", n="live")
            assert (await take(events, 5))[-1] == ("MODIFIED", "a")
        picky = f"{CM}?{query}&labelSelector=n%3Dlive"
        async with aclosing(cluster.stream(picky)) as events:
            assert await take(events, 1) == [("ADDED", "a")]


async def test_an_answer_nobody_reads_leaves_nothing_behind() -> None:
    async with api_cluster() as cluster:
        answer = await cluster.server.handle(
            request_of("GET", f"{CM}?watch=1", None, ADMIN, "", "")
        )
        assert isinstance(answer, Stream)
        assert not cluster.server.watchers
        await answer.chunks.aclose()  # type: ignore[attr-defined]
