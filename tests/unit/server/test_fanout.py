"""Whom a change reaches: by namespace, name, label and field, once, in rounds."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import orjson

from sampan.api import selectors
from sampan.api.resources import resource
from sampan.server.cache import Cache
from sampan.server.changes import Note
from sampan.server.fanout import (
    BYTES_EACH,
    DIRECT,
    FIRST,
    LAG,
    ROUND_BYTES,
    SLICE,
    Batch,
    Entry,
    Group,
    Pump,
)
from sampan.server.selection import Selection
from sampan.store.memory import MemoryStore
from tests.kit.clock import settle

PODS = resource("pods")
FIELDS = frozenset({"spec.nodeName"})


class Ear:
    """A member that remembers what it was offered."""

    def __init__(self) -> None:
        self.batches: list[Batch] = []

    def offer(self, batch: Batch) -> None:
        self.batches.append(batch)

    @property
    def heard(self) -> list[tuple[str, str]]:
        return [
            (entry.kind, entry.change.key.rpartition("/")[2])
            for batch in self.batches
            for entry in batch.entries
        ]


def select(labels: str = "", fields: str = "") -> Selection:
    return Selection(
        PODS,
        selectors.parse_labels(labels) if labels else None,
        selectors.parse_fields(fields, FIELDS) if fields else None,
    )


def opened() -> tuple[MemoryStore, Cache]:
    store = MemoryStore()
    cache = Cache(store)
    cache.open()
    return store, cache


async def put(
    store: MemoryStore, name: str, node: str = "", namespace: str = "n", **labels: str
) -> None:
    obj: dict[str, Any] = {
        "kind": "Pod",
        "apiVersion": "v1",
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
        "spec": {"nodeName": node},
    }
    key = PODS.key(namespace, name)
    record = store.get(key)
    before = orjson.loads(record.value) if record is not None else None
    await store.put(key, orjson.dumps(obj), note=Note(obj, before))


async def test_a_change_reaches_those_it_concerns() -> None:
    store, cache = opened()
    ears = {name: Ear() for name in ("n", "other", "all", "name", "node", "label", "both")}
    cache.join(select(), "n", ears["n"])
    cache.join(select(), "other", ears["other"])
    cache.join(select(), "", ears["all"])
    cache.join(select(fields="metadata.name=b"), "n", ears["name"])
    cache.join(select(fields="spec.nodeName=one"), "", ears["node"])
    cache.join(select(labels="app=web"), "", ears["label"])
    cache.join(select("app=web,tier!=back", "spec.nodeName!=one"), "n", ears["both"])
    await put(store, "a", app="web")
    await put(store, "a", "one", app="web")
    await put(store, "b", app="db")
    await put(store, "a", "one", app="db")
    everything = [("ADDED", "a"), ("MODIFIED", "a"), ("ADDED", "b"), ("MODIFIED", "a")]
    assert ears["n"].heard == ears["all"].heard == everything
    assert ears["other"].heard == []
    assert ears["name"].heard == [("ADDED", "b")]
    assert ears["node"].heard == [("ADDED", "a"), ("MODIFIED", "a")]
    assert ears["label"].heard == [("ADDED", "a"), ("MODIFIED", "a"), ("DELETED", "a")]
    assert ears["both"].heard == [("ADDED", "a"), ("DELETED", "a")]


async def test_what_was_written_together_is_told_together() -> None:
    store, cache = opened()
    ears = [Ear() for _ in range(DIRECT)]
    for ear in ears:
        cache.join(select(), "n", ear)
    await asyncio.gather(*(put(store, name) for name in "abc"))
    await put(store, "d")
    for ear in ears:
        assert [len(batch.entries) for batch in ear.batches] == [3, 1]
        assert [name for _, name in ear.heard] == [*"abcd"]
    assert ears[0].batches == ears[1].batches
    # A flood comes in parts: no reader is sent all of it in one write.
    filler = "x" * (ROUND_BYTES // 4)
    await asyncio.gather(*(put(store, f"big-{n}", filler=filler) for n in range(20)))
    parts = [len(batch.entries) for batch in ears[0].batches[2:]]
    assert sum(parts) == 20
    assert max(parts) <= 6


async def test_watches_of_other_values_are_not_even_looked_at() -> None:
    store, cache = opened()
    looked = 0
    for number in range(500):
        group = cache.join(select(fields=f"spec.nodeName=node-{number}"), "", Ear())
        matches = group.selection.matches

        def count(obj: Any, matches: Any = matches) -> bool:
            nonlocal looked
            looked += 1
            return bool(matches(obj))

        object.__setattr__(group, "selection", _Spy(count))
    await put(store, "a", "node-7")
    assert looked == 1


class _Spy:
    def __init__(self, matches: Any) -> None:
        self.matches = matches


async def test_many_equal_watches_share_one_batch_and_leave_room_for_others() -> None:
    store, cache = opened()
    ears = [Ear() for _ in range(3 * FIRST)]
    group = None
    for ear in ears:
        group = cache.join(select(), "n", ear)
    assert group is not None
    await put(store, "a")
    # The writer is answered once the first were told, and before everybody was.
    assert sum(bool(ear.batches) for ear in ears) == FIRST
    assert not group.idle
    await put(store, "b")
    await put(store, "c")
    await settle()
    assert group.idle
    assert all(ear.heard == [("ADDED", "a"), ("ADDED", "b"), ("ADDED", "c")] for ear in ears)
    assert len({id(batch) for ear in ears for batch in ear.batches}) <= 3


def waiting(count: int, size: int) -> tuple[Group, list[Ear]]:
    """A group that is told in slices, and has `count` events of `size` bytes to tell."""
    group = Group(select())
    ears = [Ear() for _ in range(10 * FIRST)]
    group.members = dict.fromkeys(ears)
    group.pending = [Entry("ADDED", _change(size))] * count
    return group, ears


def _change(size: int) -> Any:
    return SimpleNamespace(size=size, revision=1)


def test_large_events_make_slices_of_fewer_members() -> None:
    group, ears = waiting(1, BYTES_EACH * SLICE)
    assert group.deliver(SLICE) == 0
    assert sum(len(ear.batches) for ear in ears) == 1


def test_a_round_tells_a_part_of_what_waits() -> None:
    group, ears = waiting(9, ROUND_BYTES // 2)
    while not group.idle:
        group.deliver(SLICE)
    assert all([len(batch.entries) for batch in ear.batches] == [3, 3, 3] for ear in ears)


async def test_who_is_far_behind_is_told_in_larger_slices() -> None:
    for count, first, then in ((1, FIRST, SLICE), (2 * LAG, 4 * FIRST, 4 * SLICE)):
        group, ears = waiting(count, 1)
        Pump().add(group)
        for told in (first, first + then):
            await asyncio.sleep(0)
            assert sum(len(ear.batches) for ear in ears) == told
            # As many wait as before.
            group.pending = group.pending or [Entry("ADDED", _change(1))] * count


async def test_groups_take_turns() -> None:
    pump = Pump()
    large, _ = waiting(1, 1)
    small, ears = waiting(1, 1)
    pump.add(large)
    pump.add(small)
    for _ in range(2):
        await asyncio.sleep(0)
    assert any(ear.batches for ear in ears)


async def test_a_few_are_told_at_once() -> None:
    store, cache = opened()
    ears = [Ear() for _ in range(DIRECT)]
    for ear in ears:
        cache.join(select(), "n", ear)
    write = asyncio.ensure_future(store.put("/registry/pods/n/a", b'{"metadata":{}}'))
    await asyncio.wait_for(write, 5)
    assert all(ear.batches for ear in ears)


async def test_who_left_hears_nothing_and_is_forgotten() -> None:
    store, cache = opened()
    fanout = cache.collection(PODS).fanout
    wanted = [select(), select("a=b"), select(fields="metadata.name=a")]
    ears = [Ear() for _ in wanted]
    groups = [cache.join(item, "n", ear) for item, ear in zip(wanted, ears, strict=True)]
    for group, ear in zip(groups, ears, strict=True):
        cache.leave(group, "n", ear)
        cache.leave(group, "n", ear)
    assert not fanout
    await put(store, "a", a="b")
    assert not any(ear.batches for ear in ears)


async def test_a_batch_is_cut_behind_a_revision() -> None:
    store, cache = opened()
    ear = Ear()
    cache.join(select(), "n", ear)
    for name in "abc":
        await put(store, name)
    entries = [entry for batch in ear.batches for entry in batch.entries]
    batch = Batch(entries)
    assert [entry.change.revision for entry in batch.after(2).entries] == [3]
    assert batch.after(0) is batch
