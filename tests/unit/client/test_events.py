"""The recorder counts repeats, combines the similar, drops rather than waits."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from sampan.aio.tasks import Supervisor
from sampan.api.errors import AlreadyExists, NotFound, Object
from sampan.client import events
from sampan.client.api import Client
from sampan.client.events import EventRecorder
from tests.kit.clock import FakeClock, settle

POD = {
    "apiVersion": "v1", "kind": "Pod",
    "metadata": {"namespace": "ns", "name": "p", "uid": "u", "resourceVersion": "7"},
}  # fmt: skip


class Recorded:
    """A transport that keeps Events as the server would."""

    def __init__(self) -> None:
        self.stored: dict[str, Object] = {}
        self.fail: list[Exception] = []

    async def request(self, method: str, path: str, *, body: Any = None, **_: Any) -> Object:
        if self.fail:
            raise self.fail.pop()
        name = path.rsplit("/", 1)[-1]
        if method == "POST":
            assert path == "/api/v1/namespaces/ns/events"
            self.stored[body["metadata"]["name"]] = dict(body)
            return dict(body)
        if name not in self.stored:
            raise NotFound(name)
        self.stored[name] |= body
        return self.stored[name]

    async def close(self) -> None:
        pass


class Rig:
    def __init__(self) -> None:
        self.transport = Recorded()
        self.clock = FakeClock()
        self.recorder = EventRecorder(Client(self.transport), "kubelet", "node", self.clock)  # type: ignore[arg-type]
        self.supervisor = Supervisor(self.clock)
        self.supervisor.start("events", self.recorder.run)

    async def say(self, message: str, **more: str) -> None:
        self.recorder.event(POD, "Normal", "Pulled", message, **more)
        await settle()

    def counts(self) -> list[tuple[str, int]]:
        return [(item["message"], item["count"]) for item in self.transport.stored.values()]


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    made = Rig()
    yield made
    await made.supervisor.stop()


async def test_an_event_has_upstreams_fields(rig: Rig) -> None:
    await rig.say("image is present", field_path="spec.containers{c}")
    [(name, event)] = rig.transport.stored.items()
    assert name.startswith("p.17979cfe")
    assert event == {
        "apiVersion": "v1", "kind": "Event", "metadata": {"name": name, "namespace": "ns"},
        "involvedObject": {
            "apiVersion": "v1", "kind": "Pod", "namespace": "ns", "name": "p", "uid": "u",
            "resourceVersion": "7", "fieldPath": "spec.containers{c}",
        },
        "reason": "Pulled", "message": "image is present", "type": "Normal", "count": 1,
        "source": {"component": "kubelet", "host": "node"},
        "firstTimestamp": "2023-11-14T22:13:20Z", "lastTimestamp": "2023-11-14T22:13:20Z",
        "eventTime": None, "reportingComponent": "kubelet", "reportingInstance": "node",
    }  # fmt: skip


async def test_repeats_are_counted_on_the_event_there_is(rig: Rig) -> None:
    await rig.say("a")
    await rig.clock.advance(60)
    await rig.say("a")
    [event] = rig.transport.stored.values()
    assert (event["count"], event["lastTimestamp"]) == (2, "2023-11-14T22:14:20Z")
    rig.transport.stored.clear()
    await rig.say("a")
    assert rig.counts() == [("a", 1)]


async def test_many_similar_messages_are_combined(rig: Rig) -> None:
    for number in range(13):
        await rig.say(f"message {number}")
    assert rig.counts()[-1] == ("(combined from similar events): message 12", 3)
    assert len(rig.counts()) == 11


async def test_one_object_cannot_flood(rig: Rig) -> None:
    for _ in range(40):
        await rig.say("again")
    assert rig.counts() == [("again", 25)]
    assert rig.recorder.limited == 15
    await rig.clock.advance(301)
    await rig.say("again")
    assert rig.counts() == [("again", 26)]


async def test_an_unreachable_server_is_tried_again_a_refusal_is_not(rig: Rig) -> None:
    rig.transport.fail = [OSError("down")]
    await rig.say("a")
    assert rig.counts() == []
    await rig.clock.advance(1)
    assert rig.counts() == [("a", 1)]
    rig.transport.fail = [NotFound("no namespace")]
    await rig.say("b")
    await rig.clock.advance(60)
    assert rig.counts() == [("a", 1)]


async def test_a_name_that_is_taken_is_changed(rig: Rig) -> None:
    rig.transport.fail = [AlreadyExists("taken")]
    await rig.say("a")
    assert rig.counts() == [("a", 1)]


async def test_a_full_queue_drops(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "QUEUE_LENGTH", 2)
    recorder = EventRecorder(Client(Recorded()), "x")  # type: ignore[arg-type]
    for _ in range(5):
        recorder.event(POD, "Normal", "R", "m")
    assert recorder.dropped == 3
