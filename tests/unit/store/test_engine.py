"""The store against a model that keeps every state it ever had."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sampan.store import engine
from sampan.store.interface import (
    Compacted,
    FutureRevision,
    Record,
    RevisionMismatch,
    StoreError,
)
from sampan.store.memory import MemoryStore, NoJournal
from sampan.store.mvcc import State

KEYS = st.sampled_from([f"/registry/{kind}/ns/{name}" for kind in "ab" for name in "xyz"])
STEP = st.tuples(st.sampled_from(["put", "create", "delete", "stale"]), KEYS)


class Model:
    """All states by revision, and all events."""

    def __init__(self) -> None:
        self.states: list[dict[str, Record]] = [{}]

    @property
    def now(self) -> dict[str, Record]:
        return self.states[-1]

    def put(self, key: str, value: bytes) -> None:
        revision = len(self.states)
        old = self.now.get(key)
        record = Record(key, value, old.created if old else revision, revision)
        self.states.append(self.now | {key: record})

    def delete(self, key: str) -> None:
        self.states.append({other: rec for other, rec in self.now.items() if other != key})


async def step(store: MemoryStore, model: Model, verb: str, key: str) -> None:
    old = model.now.get(key)
    value = f"{len(model.states)}".encode()
    if verb == "put":
        await store.put(key, value)
        model.put(key, value)
    elif verb == "create" and old is None:
        await store.put(key, value, expected=0)
        model.put(key, value)
    elif verb == "delete" and old is not None:
        record = await store.delete(key, expected=old.modified)
        assert record.value == old.value
        model.delete(key)
    else:
        with pytest.raises(RevisionMismatch) as caught:
            await store.put(key, value, expected=0 if old else 999)
        assert caught.value.current == old


@settings(max_examples=60, deadline=None)
@given(st.lists(STEP, max_size=40), st.integers(0, 39), st.integers(0, 4))
def test_store_agrees_with_the_model(steps: list[tuple[str, str]], start: int, limit: int) -> None:
    async def run() -> None:
        store, model = MemoryStore(), Model()
        for verb, key in steps:
            await step(store, model, verb, key)
        assert store.revision == len(model.states) - 1
        for revision, state in enumerate(model.states):
            expected = [state[key] for key in sorted(state) if key.startswith("/registry/a/")]
            found = store.range("/registry/a/", revision=revision or 0)
            if revision:
                assert list(found.records) == expected
            pages, after = [], ""
            while revision and limit:
                page = store.range("/registry/a/", after=after, limit=limit, revision=revision)
                pages += page.records
                assert page.remaining == len(expected) - len(pages)
                if not page.more:
                    break
                after = page.records[-1].key
            if revision and limit:
                assert pages == expected
        follow(store, model, min(start, store.revision))

    asyncio.run(run())


def follow(store: MemoryStore, model: Model, after: int) -> None:
    """The history since `after` turns that state into the present one."""
    state = {k: r for k, r in model.states[after].items() if k.startswith("/registry/b/")}
    last = after
    for event in store.history("/registry/b/", after):
        assert event.revision > last
        last = event.revision
        record = event.record or event.previous
        assert record is not None
        assert state.get(record.key) == event.previous
        if event.record is None:
            del state[record.key]
        else:
            state[record.key] = event.record
    assert state == {k: r for k, r in model.now.items() if k.startswith("/registry/b/")}


async def test_reads_show_only_what_is_durable() -> None:
    class Held(NoJournal):
        held: list[asyncio.Future[None]] = []

        def append(self, *_: object) -> asyncio.Future[None]:
            done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self.held.append(done)
            return done

    journal = Held()
    store = engine.Engine(State(), journal)
    seen: list[int] = []
    store.subscribe("/registry/", lambda events: seen.extend(e.revision for e in events))
    first = asyncio.ensure_future(store.put("/registry/a", b"1", expected=0))
    for _ in range(3):
        await asyncio.sleep(0)
    assert store.get("/registry/a") is None
    pending = store.get("/registry/a", pending=True)
    assert pending is not None
    assert pending.value == b"1"
    second = asyncio.ensure_future(store.put("/registry/a", b"2", expected=1))
    for _ in range(3):
        await asyncio.sleep(0)
    assert len(journal.held) == 1
    journal.held[0].set_result(None)
    assert (await first).modified == 1
    assert seen == [1]
    found = store.get("/registry/a")
    assert found is not None
    assert found.value == b"1"
    journal.held[1].set_result(None)
    assert (await second).modified == 2


async def test_a_write_that_hangs_is_trouble(monkeypatch: pytest.MonkeyPatch) -> None:
    class Held(NoJournal):
        def append(self, *_: object) -> asyncio.Future[None]:
            return held

    held: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    store = engine.Engine(State(), Held())
    assert store.trouble() == ""
    write = asyncio.ensure_future(store.put("/registry/a", b"1"))
    await asyncio.sleep(0)
    assert store.trouble() == ""
    monkeypatch.setattr(engine, "STUCK_S", -1.0)
    assert "not become durable" in store.trouble()
    held.set_result(None)
    await write
    await asyncio.sleep(0)
    assert store.trouble() == ""


async def test_a_journal_that_takes_no_batch_ends_the_store() -> None:
    class Refusing(NoJournal):
        def append(self, *_: object) -> asyncio.Future[None]:
            raise OverflowError("too large to be sealed")

    store = engine.Engine(State(), Refusing())
    for _ in range(2):
        with pytest.raises(StoreError):
            await asyncio.wait_for(store.put("/registry/a", b"1"), 5)
    with pytest.raises(StoreError):
        await asyncio.wait_for(store.failed(), 5)


async def test_a_failed_journal_is_never_asked_again() -> None:
    class Broken(NoJournal):
        calls = 0

        def append(self, *_: object) -> asyncio.Future[None]:
            self.calls += 1
            done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            done.set_exception(OSError("no space left on device"))
            return done

    journal = Broken()
    store = engine.Engine(State(), journal)
    for _ in range(2):
        with pytest.raises(StoreError):
            await store.put("/registry/a", b"1")
    assert journal.calls == 1
    assert "no space left on device" in store.trouble()
    assert store.get("/registry/a") is None
    with pytest.raises(StoreError):
        await store.failed()


async def test_a_subscriber_that_fails_ends_the_store() -> None:
    """It would go on with less than what is stored; and nobody may wait for ever."""
    store = engine.Engine(State(), NoJournal())

    def fail(_: object) -> None:
        raise TypeError("a fault in what listens")

    store.subscribe("/registry/", fail)
    for number in range(2):
        with pytest.raises(StoreError):
            await asyncio.wait_for(store.put(f"/registry/{number}", b"1"), 5)
    with pytest.raises(StoreError):
        await asyncio.wait_for(store.failed(), 5)


async def test_history_ends_at_compaction() -> None:
    store = MemoryStore()
    for number in range(10):
        await store.put("/registry/a", b"%d" % number)
    await store.compact(6)
    assert store.oldest == 6
    with pytest.raises(Compacted):
        store.history("/registry/", 4)
    with pytest.raises(Compacted):
        store.range("/registry/", revision=5)
    # As etcd: who has seen revision 5 misses nothing that is kept, but nobody lists it any more.
    assert [event.revision for event in store.history("/registry/", 5)] == [6, 7, 8, 9, 10]
    with pytest.raises(FutureRevision):
        store.history("/registry/", 11)
    assert [r.value for r in store.range("/registry/", revision=6).records] == [b"5"]


async def test_what_is_compacted_to_can_be_read_until_the_next_compaction() -> None:
    store = MemoryStore()
    for number in range(3):
        await store.put("/registry/a", b"%d" % number)
    await store.compact(99)
    await store.put("/registry/a", b"3")
    assert [r.value for r in store.range("/registry/", revision=3).records] == [b"2"]
    with pytest.raises(Compacted):
        store.range("/registry/", revision=2)


async def test_the_window_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "WINDOW_EVENTS", 10)
    store = MemoryStore()
    for number in range(50):
        await store.put("/registry/a", b"%d" % number)
    assert store.oldest == 41
