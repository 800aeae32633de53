"""The informer against a scripted transport: order, deletions on relist, resumption, staleness."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest
from msgspec.structs import replace

from sampan.aio.tasks import Supervisor
from sampan.api.descriptor import Descriptor, Kind
from sampan.api.errors import Expired, Object
from sampan.client.api import Client
from sampan.client.informer import Informer, Informers
from sampan.client.interface import WatchEvent
from tests.kit.clock import FakeClock, settle

THINGS = Descriptor(
    group="", version="v1", kind="Thing", plural="things", singular="thing", namespaced=True,
    verbs=("list", "watch"), subresources={}, definition="", rules=Kind("", "v1", "Thing"),
    storage="/registry/things/", has_status=False, counts_generation=False,
)  # fmt: skip


def thing(name: str, version: int, uid: str = "", **labels: str) -> Object:
    return {
        "metadata": {
            "namespace": "ns", "name": name, "uid": uid or name,
            "resourceVersion": str(version), "labels": labels,
        }
    }  # fmt: skip


class Script:
    """A transport that answers lists and watches from queues the test fills."""

    def __init__(self) -> None:
        self.lists: asyncio.Queue[Any] = asyncio.Queue()
        self.events: asyncio.Queue[Any] = asyncio.Queue()
        self.watched: list[str] = []
        self.closed = 0

    async def request(self, method: str, path: str, **_: Any) -> Object:
        answer = await self.lists.get()
        if isinstance(answer, Exception):
            raise answer
        revision, items = answer
        return {"metadata": {"resourceVersion": str(revision)}, "items": items}

    async def watch(self, path: str, query: Mapping[str, str]) -> AsyncIterator[WatchEvent]:
        self.watched.append(query["resourceVersion"])
        try:
            while True:
                event = await self.events.get()
                if event is None:
                    return
                if isinstance(event, Exception):
                    raise event
                yield WatchEvent(*event)
        finally:
            self.closed += 1

    async def close(self) -> None:
        pass


class Rig:
    def __init__(self) -> None:
        self.script = Script()
        self.clock = FakeClock()
        self.supervisor = Supervisor(self.clock)
        informers = Informers(Client(self.script), self.supervisor, self.clock)
        self.informer: Informer = informers.informer(THINGS)
        assert informers.informer(THINGS) is self.informer
        self.seen: list[str] = []
        self.informer.on_change(self.note)

    def note(self, old: Object | None, new: Object | None) -> None:
        sign = "~" if old and new else "+" if new else "-"
        meta = (new or old or {})["metadata"]
        self.seen.append(f"{sign}{meta['name']}@{meta['resourceVersion']}")

    def take(self) -> str:
        out, self.seen = " ".join(self.seen), []
        return out

    async def list(self, revision: int, *items: Object) -> None:
        self.script.lists.put_nowait((revision, list(items)))
        await settle()

    async def send(self, *events: Any) -> None:
        for event in events:
            self.script.events.put_nowait(event)
        await settle()


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    made = Rig()
    yield made
    await made.supervisor.stop()


async def test_lists_then_follows_in_order(rig: Rig) -> None:
    assert not rig.informer.has_synced
    await rig.list(5, thing("a", 3), thing("b", 5))
    await rig.informer.synced()
    assert rig.take() == "+a@3 +b@5"
    await rig.send(
        ("MODIFIED", thing("a", 6)), ("ADDED", thing("c", 7)), ("DELETED", thing("b", 8))
    )
    assert rig.take() == "~a@6 +c@7 -b@5"
    assert rig.informer.revision == 8
    late: list[str] = []
    rig.informer.on_change(lambda old, new: late.append((new or {})["metadata"]["name"]))
    assert late == ["a", "c"]


async def test_resumes_from_the_last_revision_it_heard_of(rig: Rig) -> None:
    await rig.list(5, thing("a", 3))
    await rig.send(("BOOKMARK", {"metadata": {"resourceVersion": "40"}}), None)
    assert rig.script.watched == ["5", "40"]
    await rig.send(OSError("gone"))
    await rig.clock.advance(1)
    assert rig.script.watched == ["5", "40", "40"]
    assert rig.informer.lists == 1
    assert rig.script.closed == 2


async def test_an_expired_watch_lists_again_and_finds_what_it_missed(rig: Rig) -> None:
    await rig.list(5, thing("a", 3), thing("b", 4), thing("d", 5, uid="first"))
    rig.take()
    await rig.send(Expired("too old resource version"))
    await rig.clock.advance(1)
    await rig.list(9, thing("a", 3), thing("c", 8), thing("d", 9, uid="second"))
    assert rig.take() == "+c@8 -d@5 +d@9 -b@4"


async def test_never_delivers_what_is_older_than_the_cache(rig: Rig) -> None:
    await rig.list(5, thing("a", 5))
    rig.take()
    await rig.send(
        ("MODIFIED", thing("a", 4)), ("ADDED", thing("z", 5)), ("DELETED", thing("a", 4))
    )
    assert rig.take() == ""
    assert rig.informer.dropped == 3
    assert [obj["metadata"]["name"] for obj in rig.informer.list("ns")] == ["a"]


async def test_a_list_that_goes_back_is_refused_until_it_proves_true(rig: Rig) -> None:
    await rig.list(9, thing("a", 9))
    await rig.send(Expired("compacted"))
    rig.take()
    for _ in range(6):
        await rig.clock.advance(60)
        assert rig.take() == ""
        await rig.list(2, thing("old", 2))
    assert rig.take() == "+old@2 -a@9"


async def test_indexes_follow_changes(rig: Rig) -> None:
    rig.informer.add_index("color", lambda obj: obj["metadata"]["labels"].values())
    await rig.list(2, thing("a", 1, color="red"), thing("b", 2, color="red"))

    def names(color: str) -> list[str]:
        return [obj["metadata"]["name"] for obj in rig.informer.by_index("color", color)]

    assert names("red") == ["a", "b"]
    await rig.send(("MODIFIED", thing("a", 3, color="blue")), ("DELETED", thing("b", 4)))
    assert (names("red"), names("blue")) == ([], ["a"])


async def test_a_failing_handler_harms_nobody_else(rig: Rig) -> None:
    def fail(old: Object | None, new: Object | None) -> None:
        raise ValueError("no")

    rig.informer.on_change(fail)
    heard: list[Object | None] = []
    rig.informer.on_change(lambda old, new: heard.append(new))
    await rig.list(1, thing("a", 1))
    assert len(heard) == 1
    assert rig.informer.handler_errors == 1


async def test_an_informer_may_come_back_in_the_turn_in_which_it_was_stopped() -> None:
    """As when a definition gets another singular name: the same path, and another resource."""
    supervisor = Supervisor(FakeClock())
    script = Script()
    informers = Informers(Client(script), supervisor, FakeClock())
    informers.informer(THINGS)
    informers.stop(THINGS)
    again = informers.informer(replace(THINGS, singular="it"))
    script.lists.put_nowait((5, [thing("a", 3)]))
    await settle()
    assert again.has_synced
    await supervisor.stop()
