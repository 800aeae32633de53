"""What lies between verbs and store: nothing is decoded twice, nothing lags, nothing grows."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from sampan.api.resources import resource
from sampan.server import cache as cache_module
from sampan.server.cache import Cache
from sampan.server.changes import Change, Note
from sampan.store.memory import MemoryStore

PODS = resource("pods")


def pod(name: str, node: str = "", **labels: str) -> dict[str, Any]:
    return {
        "kind": "Pod",
        "apiVersion": "v1",
        "metadata": {"name": name, "namespace": "n", "labels": labels},
        "spec": {"nodeName": node},
    }


async def put(store: MemoryStore, obj: dict[str, Any], previous: Any = None) -> None:
    key = PODS.key("n", obj["metadata"]["name"])
    await store.put(key, orjson.dumps(obj), note=Note(obj, previous))


async def test_the_writers_object_is_everybodys() -> None:
    store = MemoryStore()
    cache = Cache(store)
    cache.open()
    written = pod("a")
    await put(store, written)
    record = store.get(PODS.key("n", "a"))
    assert record is not None
    assert cache.decode(record) is written
    assert written["metadata"]["resourceVersion"] == str(record.modified)


async def test_indexes_are_never_behind() -> None:
    store = MemoryStore()
    cache = Cache(store)
    cache.open()
    await put(store, pod("a", node="one", app="x"))
    key = PODS.key("n", "a")
    assert cache.keys_with_label(PODS, "app", "x") == {key}
    assert cache.keys_with_field(PODS, "spec.nodeName", "one") == {key}
    await put(store, pod("a", node="two", app="y"))
    assert cache.keys_with_label(PODS, "app", "x") == set()
    assert cache.keys_with_label(PODS, "app", "y") == {key}
    assert cache.keys_with_field(PODS, "spec.nodeName", "two") == {key}
    await store.delete(key)
    assert cache.keys_with_label(PODS, "app", "y") == set()


async def test_there_is_an_end_to_indexes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_module, "INDEXED_NAMES", 2)
    cache = Cache(MemoryStore())
    for number in range(2):
        assert cache.keys_with_label(PODS, f"l{number}", "x") == set()
    assert cache.keys_with_label(PODS, "one-more", "x") is None


async def test_the_decoded_cache_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_module, "DECODED_OBJECTS", 3)
    monkeypatch.setattr(cache_module, "RECENT_CHANGES", 2)
    store = MemoryStore()
    cache = Cache(store)
    cache.open()
    for number in range(10):
        await put(store, pod(f"p{number}"))
    assert len(cache._decoded) == 3
    assert len(cache._recent) == len(cache._by_revision) == 2
    assert cache._decoded_bytes == sum(entry[2] for entry in cache._decoded.values())


async def test_observers_hear_what_is_there_and_what_happens() -> None:
    store = MemoryStore()
    cache = Cache(store)
    cache.open()
    await put(store, pod("a"))
    heard: list[tuple[str, str, bool]] = []

    def observer(kind: str, obj: dict[str, Any], old: dict[str, Any] | None) -> None:
        heard.append((kind, obj["metadata"]["resourceVersion"], old is not None))

    cache.observe(PODS, observer)
    await put(store, pod("a", app="x"))
    await store.delete(PODS.key("n", "a"))
    assert heard == [("ADDED", "1", False), ("MODIFIED", "2", True), ("DELETED", "3", True)]


async def test_history_shares_recent_changes_and_decodes_older_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cache_module, "RECENT_CHANGES", 1)
    store = MemoryStore()
    cache = Cache(store)
    cache.open()
    await put(store, pod("a", app="x"))
    await put(store, pod("a", app="y"))
    old, new = cache.history(PODS, "n", 0)
    assert new is cache._by_revision[2]
    assert isinstance(old, Change)
    assert old.obj is not None
    assert old.obj["metadata"]["labels"] == {"app": "x"}
    assert new.previous is not None
    assert new.previous["metadata"]["resourceVersion"] == "1"
    assert list(cache.history(PODS, "other", 0)) == []
