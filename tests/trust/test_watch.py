"""TRUST row 5: a watch is ordered, unique, reliable, atomic, resumable and bookmarked.

Random writes of several writers, a history that is compacted all the time, watchers that leave and
come back, fall behind, miss their moment and list again. The judge is `tests.kit.watchcheck`; each
way to break a promise is shown to be found.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

import pytest

from sampan.server import fanout, watching
from sampan.server.events import Lines
from sampan.server.fanout import Batch
from sampan.server.watching import Watcher
from tests.kit.clock import FakeClock
from tests.kit.cluster import Cluster, api_cluster
from tests.kit.trust import SLICE, size
from tests.kit.watchcheck import Object, Seen, Segment, Selects, Truth, at, violations

EVENTS = size(5_000)
ROUND = 6
"""Most writes under way at once."""
KEPT = 60
"""Revisions of history left by each compaction: some who come back are too late."""
KEYS = 40
CM = "/api/v1/namespaces/default/configmaps"
MERGE = "application/merge-patch+json"

pytestmark = pytest.mark.trust


@dataclass(slots=True)
class Writers:
    """Makes random writes, a round at a time, and notes what was acknowledged."""

    cluster: Cluster
    dice: random.Random
    log: list[Truth] = field(default_factory=list)
    live: dict[str, Object] = field(default_factory=dict)

    async def round(self) -> None:
        keys = self.dice.sample(range(KEYS), self.dice.randint(1, ROUND))
        before = self.cluster.store.revision
        names = [f"k{key}" for key in keys]
        # The answer to a deletion names no version: with one in a round it is the one left over.
        gone = names[0] if names[0] in self.live and self.dice.random() < 0.4 else ""
        answers = await asyncio.gather(*(self._write(name, name == gone) for name in names))
        made = [Truth(int(obj["metadata"]["resourceVersion"]), name, obj)
                for name, obj in zip(names, answers, strict=True) if obj]  # fmt: skip
        if gone:
            left = set(range(before + 1, self.cluster.store.revision + 1))
            left -= {truth.revision for truth in made}
            assert len(left) == 1
            made.append(Truth(left.pop(), gone, None))
            del self.live[gone]
        for truth in made:
            if truth.obj is not None:
                self.live[truth.key] = truth.obj
        self.log += sorted(made)

    async def _write(self, name: str, delete: bool) -> Object:
        labels = {"color": self.dice.choice(("red", "green", "blue"))}
        body = {"metadata": {"name": name, "labels": labels},
                "data": {"n": str(self.dice.random())}}  # fmt: skip
        if delete:
            assert (await self.cluster.http("DELETE", f"{CM}/{name}")).status == 200
            return {}
        if name in self.live:
            answer = await self.cluster.http("PATCH", f"{CM}/{name}", body, content_type=MERGE)
        else:
            answer = await self.cluster.http("POST", CM, body)
        assert answer.status in (200, 201), answer.message
        return dict(answer.json)


@dataclass(slots=True)
class Client:
    """One who lists, watches, leaves, and comes back where it was."""

    cluster: Cluster
    dice: random.Random
    query: str
    selects: Selects
    segments: list[Segment] = field(default_factory=list)
    position: int = 0
    relists: int = 0
    bookmarks: int = 0
    done: int = 0
    """Revision at which to stop; 0 is not yet."""

    async def run(self) -> None:
        await self._list()
        while not self.done or self.position < self.done:
            if await self._watch() == "Expired":
                self.relists += 1
                await self._list()
            for _ in range(self.dice.randint(0, 20)):
                await asyncio.sleep(0)

    async def _list(self) -> None:
        answer = (await self.cluster.http("GET", f"{CM}?{self.query}")).json
        self.position = int(answer["metadata"]["resourceVersion"])
        state = {}
        for item in answer["items"]:
            typed = {"kind": "ConfigMap", "apiVersion": "v1", **item}
            state[item["metadata"]["name"]] = typed
        self.segments.append(Segment(self.position, state))

    async def _watch(self) -> str:
        segment = self.segments[-1]
        if segment.events or segment.state is None or self.dice.random() < 0.5:
            segment = Segment(self.position)
            self.segments.append(segment)
        left = self.dice.choice((1, 5, 50, 10_000))
        path = f"{CM}?watch=1&allowWatchBookmarks=true&{self.query}"
        async with aclosing(
            self.cluster.stream(f"{path}&resourceVersion={self.position}")
        ) as stream:
            async for event in stream:
                if event["type"] == "ERROR":
                    return str(event["object"]["reason"])
                seen = _seen(event)
                segment.events.append(seen)
                self.bookmarks += seen.kind == "BOOKMARK"
                self.position = max(self.position, seen.revision)
                left -= 1
                if not left or (self.done and self.position >= self.done):
                    break
                if self.dice.random() < 0.02:
                    # A slow reader: what it misses meanwhile may be too much.
                    await asyncio.sleep(0.01)
        return ""


def _seen(event: Object) -> Seen:
    obj = event["object"]
    return Seen(event["type"], int(obj["metadata"]["resourceVersion"]), obj)


def by_label(color: str) -> Selects:
    return lambda obj: obj["metadata"]["labels"]["color"] == color


SELECTIONS: tuple[tuple[str, Selects], ...] = (
    ("", lambda obj: True),
    ("labelSelector=color%3Dred", by_label("red")),
    ("labelSelector=color+in+(green)", by_label("green")),
    ("fieldSelector=metadata.name%3Dk7", lambda obj: obj["metadata"]["name"] == "k7"),
)


async def rehearse(seed: int, events: int, clients_each: int) -> tuple[Writers, list[Client]]:
    """Write `events` events under the eyes of many watchers; each has seen the end."""
    dice = random.Random(seed)
    clock = FakeClock()
    async with api_cluster(clock=clock) as cluster:
        writers = Writers(cluster, dice)
        await writers.round()
        clients = [
            Client(cluster, random.Random(dice.random()), query, selects)
            for query, selects in SELECTIONS
            for _ in range(clients_each)
        ]
        tasks = [asyncio.create_task(client.run()) for client in clients]
        first = writers.log[0].revision - 1
        count = 0
        while len(writers.log) < events:
            await writers.round()
            count += 1
            if count % 20 == 0:
                await cluster.store.compact(max(first, cluster.store.revision - KEPT))
            if count % 50 == 0:
                await clock.advance(80)
        # Bookmarks bring those who select little to the end.
        for client in clients:
            client.done = cluster.store.revision
        for _ in range(1000):
            if all(task.done() for task in tasks):
                break
            await clock.advance(80)
        await asyncio.wait_for(asyncio.gather(*tasks), 30)
        return writers, clients


def judge(writers: Writers, clients: list[Client]) -> list[str]:
    return [
        text
        for client in clients
        for text in violations(writers.log, client.segments, client.selects)
    ]


async def test_no_promise_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    # Small bounds, so that every way to lose a watch is taken.
    monkeypatch.setattr(watching, "QUEUE_CHANGES", 40)
    monkeypatch.setattr(watching, "PAST_CHANGES", 7)
    monkeypatch.setattr(fanout, "DIRECT", 1)
    monkeypatch.setattr(fanout, "SLICE", 2)
    writers, clients = await rehearse(5 + SLICE, EVENTS, 3)
    assert judge(writers, clients) == []
    assert sum(client.relists for client in clients) > 0
    assert sum(client.bookmarks for client in clients) > 0
    assert sum(len(client.segments) for client in clients) > len(clients) * 3


def lose(offer: Any, count: list[int]) -> Callable[..., None]:
    def broken(self: Watcher, batch: Batch) -> None:
        count[0] += 1
        if count[0] % 40:
            offer(self, batch)

    return broken


def repeat(offer: Any, count: list[int]) -> Callable[..., None]:
    def broken(self: Watcher, batch: Batch) -> None:
        count[0] += 1
        offer(self, batch)
        if not count[0] % 40:
            offer(self, batch)

    return broken


def reorder(offer: Any, count: list[int]) -> Callable[..., None]:
    held: dict[Watcher, Batch] = {}

    def broken(self: Watcher, batch: Batch) -> None:
        count[0] += 1
        if not count[0] % 40:
            held[self] = batch
            return
        offer(self, batch)
        if self in held:
            offer(self, held.pop(self))

    return broken


FAULTS = {"lost": lose, "repeated": repeat, "out of order": reorder}


@pytest.mark.parametrize("fault", FAULTS)
async def test_the_judge_finds_events(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    count = [0]
    monkeypatch.setattr(Watcher, "offer", FAULTS[fault](Watcher.offer, count))
    writers, clients = await rehearse(6, 300, 1)
    assert count[0] > 40
    assert judge(writers, clients) != []


async def test_the_judge_finds_bookmarks_that_lie(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = Lines.of_bookmark

    def lying(self: Lines, revision: int, initial: bool) -> bytes:
        return honest(self, revision + 3, initial)

    monkeypatch.setattr(Lines, "of_bookmark", lying)
    writers, clients = await rehearse(7, 600, 1)
    assert judge(writers, clients) != []


def test_the_judge_knows_each_promise() -> None:
    def obj(revision: int) -> Object:
        return {"metadata": {"name": "a", "resourceVersion": str(revision)}}

    log = [Truth(1, "a", obj(1)), Truth(2, "a", obj(2)), Truth(3, "a", None)]
    good = [Seen("MODIFIED", 2, obj(2)), Seen("BOOKMARK", 2, {}), Seen("DELETED", 3, at(obj(2), 3))]

    def judged(*events: Seen, start: int = 1, state: Any = None) -> list[str]:
        state = {"a": obj(1)} if state is None else state
        return violations(log, [Segment(start, state, list(events))], lambda item: True)

    assert judged(*good) == []
    assert judged(good[0], good[0], good[2]) != []  # unique
    assert judged(good[2], good[0]) != []  # ordered
    assert judged(good[2]) != []  # reliable
    assert judged(good[0]) != []  # to the end
    assert judged(Seen("MODIFIED", 2, {**obj(2), "data": {}}), good[2]) != []  # atomic
    assert judged(Seen("BOOKMARK", 2, {}), *good) != []  # bookmarked
    assert judged(*good, state={}) != []  # a list of its moment
    resumed = [Segment(1, {"a": obj(1)}, good[:1]), Segment(1, None, good[2:])]
    assert violations(log, resumed, lambda item: True) != []  # resumable
