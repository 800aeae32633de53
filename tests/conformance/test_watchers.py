"""Watches of config maps (as upstream's test/e2e/apimachinery/watch.go)."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

from .bench import MAPS, Bench, config

KEY = "watch-this-configmap"
A, B = {KEY: "A"}, {KEY: "B"}


def chosen(*values: str) -> str:
    return f"{MAPS}?labelSelector={KEY}+in+({','.join(values)})"


async def test_every_watcher_gets_what_its_selector_takes(bench: Bench) -> None:
    async with AsyncExitStack() as stack:
        of_a, of_b, both = [
            await stack.enter_async_context(bench.watching(chosen(*values)))
            for values in ("A", "B", ("A", "B"))
        ]
        await bench.create(MAPS, config("a", A))
        await bench.patch(f"{MAPS}/a", {"data": {"mutation": "1"}})
        await bench.patch(f"{MAPS}/a", {"data": {"mutation": "2"}})
        await bench.delete(f"{MAPS}/a")
        await bench.create(MAPS, config("b", B))
        await bench.delete(f"{MAPS}/b")
        await both.count(6)
        life = [("ADDED", "a"), ("MODIFIED", "a"), ("MODIFIED", "a"), ("DELETED", "a")]
        assert of_a.names == life
        assert of_b.names == [("ADDED", "b"), ("DELETED", "b")]
        assert both.names == life + of_b.names
        assert [event["object"].get("data") for event in of_a.events] == [
            None, {"mutation": "1"}, {"mutation": "2"}, {"mutation": "2"},
        ]  # fmt: skip


async def test_a_watch_begins_at_a_version(bench: Bench) -> None:
    label = {KEY: "from-resource-version"}
    await bench.create(MAPS, config("c", label))
    first = await bench.patch(f"{MAPS}/c", {"data": {"mutation": "1"}})
    await bench.patch(f"{MAPS}/c", {"data": {"mutation": "2"}})
    await bench.delete(f"{MAPS}/c")
    since = first["metadata"]["resourceVersion"]
    async with bench.watching(f"{chosen(label[KEY])}&resourceVersion={since}") as seen:
        await seen.count(2)
        assert seen.types == ["MODIFIED", "DELETED"]
        assert seen.events[0]["object"]["data"] == {"mutation": "2"}


async def test_a_watch_goes_on_where_the_last_one_ended(bench: Bench) -> None:
    label = {KEY: "watch-closed-and-restarted"}
    async with bench.watching(chosen(label[KEY])) as first:
        await bench.create(MAPS, config("c", label))
        await bench.patch(f"{MAPS}/c", {"data": {"mutation": "1"}})
        await first.count(2)
        assert first.types == ["ADDED", "MODIFIED"]
    await bench.patch(f"{MAPS}/c", {"data": {"mutation": "2"}})
    since = first.events[-1]["object"]["metadata"]["resourceVersion"]
    async with bench.watching(f"{chosen(label[KEY])}&resourceVersion={since}") as second:
        await bench.delete(f"{MAPS}/c")
        await second.count(2)
        assert second.types == ["MODIFIED", "DELETED"]
        assert second.events[0]["object"]["data"] == {"mutation": "2"}


async def test_what_leaves_the_selection_is_deleted_to_its_watcher(bench: Bench) -> None:
    label = {KEY: "label-changed-and-restored"}
    async with bench.watching(chosen(label[KEY])) as seen:
        await bench.create(MAPS, config("c", label))
        await bench.patch(f"{MAPS}/c", {"data": {"mutation": "1"}})
        await bench.patch(f"{MAPS}/c", {"metadata": {"labels": {KEY: "other"}}})
        await bench.patch(f"{MAPS}/c", {"data": {"mutation": "2"}})
        await bench.patch(f"{MAPS}/c", {"metadata": {"labels": label}})
        await bench.patch(f"{MAPS}/c", {"data": {"mutation": "3"}})
        await bench.delete(f"{MAPS}/c")
        await seen.until(lambda events: [e["type"] for e in events].count("DELETED") == 2)
        assert seen.types == ["ADDED", "MODIFIED", "DELETED", "ADDED", "MODIFIED", "DELETED"]
        assert [event["object"].get("data", {}).get("mutation") for event in seen.events] == [
            None, "1", "1", "2", "3", "3",
        ]  # fmt: skip


async def test_watches_from_any_event_see_the_same_order(bench: Bench) -> None:
    writes = 50

    async def write() -> None:
        alive: list[str] = []
        for number in range(writes):
            # Three objects made and changed, the oldest then deleted, round and round.
            if number % 3 == 0:
                alive.append(f"c-{number}")
                await bench.create(MAPS, config(alive[-1], {KEY: "many"}))
            elif number % 3 == 1:
                await bench.patch(f"{MAPS}/{alive[-1]}", {"data": {"n": str(number)}})
            else:
                await bench.delete(f"{MAPS}/{alive.pop(0)}")

    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(bench.watching(chosen("many")))
        writing = asyncio.create_task(write())
        later = []
        for number in range(1, 12):
            events = await first.count(number)
            since = events[number - 1]["object"]["metadata"]["resourceVersion"]
            path = f"{chosen('many')}&resourceVersion={since}"
            later.append(await stack.enter_async_context(bench.watching(path)))
        await writing
        order = versions(await first.count(writes))
        assert order == sorted(order, key=int)
        for number, other in enumerate(later, 1):
            assert versions(await other.count(writes - number)) == order[number:]


def versions(events: list[dict[str, object]]) -> list[str]:
    return [event["object"]["metadata"]["resourceVersion"] for event in events]  # type: ignore[index]
