"""Events on objects, as client-go's recorder writes them (tools/record).

Task: one per recorder (`run`, under the caller's supervisor). Queue: `QUEUE_LENGTH` events; when
it is full a new event is dropped and counted, for nobody may wait on an event. What repeats is
counted on the Event that exists (a patch of count and lastTimestamp); more than `SIMILAR_MAX`
different messages for one reason in ten minutes become one "(combined from similar events)"; and
one object gets a burst of `SPAM_BURST`, then one event in five minutes.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from msgspec import Struct, field

from sampan.aio.backoff import Backoff
from sampan.aio.clock import Clock, SystemClock
from sampan.api.errors import AlreadyExists, NotFound, Object, StatusError
from sampan.api.resources import api_resource

from .api import Client
from .interface import STRATEGIC_PATCH

log = logging.getLogger("sampan.events")

NORMAL = "Normal"
WARNING = "Warning"

# client-go's own figures: watch.DefaultChanSize of the broadcaster, maxLruCacheEntries,
# defaultAggregateMaxEvents and -IntervalInSeconds, defaultSpamBurst and -QPS, maxTriesPerEvent.
QUEUE_LENGTH = 1000
CACHE_LENGTH = 4096
SIMILAR_MAX, SIMILAR_WINDOW_S = 10, 600.0
SPAM_BURST, SPAM_REFILL_PER_S = 25, 1 / 300
TRIES = 12


class _Similar(Struct):
    """Messages seen for one (object, type, reason) within the window."""

    since_s: float
    messages: set[str] = field(default_factory=set)


class _Bucket(Struct):
    tokens: float
    filled_s: float


def reference(obj: Object, field_path: str = "") -> Object:
    """The ObjectReference of an object that carries its kind."""
    meta = obj["metadata"]
    out = {
        "kind": obj.get("kind"),
        "namespace": meta.get("namespace"),
        "name": meta.get("name"),
        "uid": meta.get("uid"),
        "apiVersion": obj.get("apiVersion"),
        "resourceVersion": meta.get("resourceVersion"),
        "fieldPath": field_path,
    }
    return {key: value for key, value in out.items() if value}


class EventRecorder:
    """Writes Events for one component. `event` never blocks and never raises."""

    def __init__(
        self, client: Client, component: str, host: str = "", clock: Clock | None = None
    ) -> None:
        self._client = client
        self._component = component
        self._host = host
        self._clock = clock or SystemClock()
        self._queue: asyncio.Queue[Object] = asyncio.Queue(QUEUE_LENGTH)
        self._known: OrderedDict[tuple[str, ...], Object] = OrderedDict()
        self._similar: OrderedDict[tuple[str, ...], _Similar] = OrderedDict()
        self._buckets: OrderedDict[tuple[str, ...], _Bucket] = OrderedDict()
        self._last_ns = 0
        self.dropped = 0
        """Events lost because the queue was full."""
        self.limited = 0
        """Events held back because their object had too many."""
        self.written = 0

    def event(
        self,
        obj: Object,
        type: str,
        reason: str,
        message: str,
        *,
        field_path: str = "",
        annotations: Mapping[str, str] | None = None,
    ) -> None:
        """Note that something happened to `obj` (any object with kind, or an ObjectReference)."""
        if self._queue.full():
            self.dropped += 1
            return
        about = reference(obj, field_path) if "metadata" in obj else {**obj}
        now = _timestamp(self._clock.now())
        event = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {
                "name": self._name(about),
                "namespace": about.get("namespace") or "default",
            }
            | ({"annotations": dict(annotations)} if annotations else {}),
            "involvedObject": about,
            "reason": reason,
            "message": message,
            "source": {"component": self._component} | ({"host": self._host} if self._host else {}),
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
            "type": type,
            "eventTime": None,
            "reportingComponent": self._component,
            "reportingInstance": self._host,
        }
        self._queue.put_nowait(event)

    async def run(self) -> None:
        """Write what is noted, one after the other, for ever."""
        while True:
            event = await self._queue.get()
            try:
                await self._record(event)
            finally:
                self._queue.task_done()

    async def flushed(self) -> None:
        """Wait until everything noted so far is written."""
        await self._queue.join()

    def _name(self, about: Object) -> str:
        return f"{about.get('name', '')}.{self._stamp():x}"

    def _stamp(self) -> int:
        """Nanoseconds of now, made unique: two events of one object may share an instant."""
        self._last_ns = max(self._last_ns + 1, int(self._clock.now() * 1e9))
        return self._last_ns

    async def _record(self, event: Object) -> None:
        if not self._admit(event):
            self.limited += 1
            return
        key = self._aggregate(event)
        backoff = Backoff(initial_s=0.5, cap_s=10.0)
        for _ in range(TRIES):
            try:
                await self._write(key, event)
            except AlreadyExists:
                # Another recorder told of another kind's object of this name at the same instant.
                event["metadata"]["name"] = self._name(event["involvedObject"])
                continue
            except StatusError as error:
                # As upstream: the server has seen it and does not want it (a namespace that is
                # terminating, say). Nobody is helped by trying again.
                log.debug("event %s not taken: %s", event["metadata"]["name"], error)
            except OSError:
                await self._clock.sleep(backoff.next_s())
                continue
            else:
                self.written += 1
            return

    async def _write(self, key: tuple[str, ...], event: Object) -> None:
        """Count up the Event of this key if there is one, else create it."""
        events = api_resource("events")
        namespace = event["metadata"]["namespace"]
        known = self._known.get(key)
        if known is not None:
            patch = {
                "count": known["count"] + 1,
                "lastTimestamp": event["lastTimestamp"],
                "message": event["message"],
            }
            try:
                answer = await self._client.patch(
                    events,
                    known["metadata"]["name"],
                    patch,
                    namespace,
                    content_type=STRATEGIC_PATCH,
                )
            except NotFound:
                del self._known[key]
            else:
                self._remember(key, answer)
                return
        self._remember(key, await self._client.create(events, event, namespace))

    def _remember(self, key: tuple[str, ...], answer: Object) -> None:
        self._known[key] = {
            "metadata": {"name": answer["metadata"]["name"]},
            "count": answer.get("count", 1),
        }
        self._known.move_to_end(key)
        _trim(self._known)

    def _admit(self, event: Object) -> bool:
        """A token bucket per object (EventSourceObjectSpamFilter)."""
        key = _object_key(event)
        now = self._clock.monotonic()
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = self._buckets[key] = _Bucket(SPAM_BURST, now)
            _trim(self._buckets)
        self._buckets.move_to_end(key)
        bucket.tokens = min(SPAM_BURST, bucket.tokens + (now - bucket.filled_s) * SPAM_REFILL_PER_S)
        bucket.filled_s = now
        if bucket.tokens < 1:
            return False
        bucket.tokens -= 1
        return True

    def _aggregate(self, event: Object) -> tuple[str, ...]:
        """The key events are counted under; changes the message of one too many (in place)."""
        group = (*_object_key(event), event["type"], event["reason"])
        now = self._clock.monotonic()
        similar = self._similar.get(group)
        if similar is None or now - similar.since_s > SIMILAR_WINDOW_S:
            similar = _Similar(now)
        similar.since_s = now
        self._similar[group] = similar
        self._similar.move_to_end(group)
        _trim(self._similar)
        message = event["message"]
        if message not in similar.messages and len(similar.messages) >= SIMILAR_MAX:
            event["message"] = f"(combined from similar events): {message}"
            return group
        similar.messages.add(message)
        return (*group, message)


def _object_key(event: Object) -> tuple[str, ...]:
    about = event["involvedObject"]
    fields = ("kind", "namespace", "name", "uid", "apiVersion", "fieldPath")
    return tuple(about.get(name, "") for name in fields)


def _trim(cache: OrderedDict[Any, Any]) -> None:
    while len(cache) > CACHE_LENGTH:
        cache.popitem(last=False)


def _timestamp(now_s: float) -> str:
    return datetime.fromtimestamp(int(now_s), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
