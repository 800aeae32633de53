"""Who may go on now: classification, seats, turns of the loop, and the queues for both.

A turn of the event loop answers at most `TURN_S` of what is answered at once; what comes then
waits for its fair share of later turns. Requests that wait for something hold a seat of their
level meanwhile; `SEATS` are shared out among the levels. Exempt requests, and those of the process
itself, neither wait nor count.

Bounds: the levels' queues; a request waits `WAIT_S` at most; `REMEMBERED` classifications.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from sampan.api.errors import Details, Object, StatusError, TooManyRequests
from sampan.api.resources import resource

from ..exchange import Attributes
from .defaults import GROUP, default_levels, default_schemas, ensure, found_condition
from .levels import SEATS, Entry, Level, Pool, charge, enqueue, level_of, pick, share_out
from .metrics import FairnessMetrics
from .schemas import Schema, in_order

if TYPE_CHECKING:
    from ..app import Server

Work = Coroutine[Any, Any, Any]

log = logging.getLogger("sampan.fairness")

TURN_S = 0.002
"""Long against what a turn of the loop costs by itself, short against what anybody notices."""
BEGIN_S = 0.0003
"""What starting a request that will wait (a write) takes of a turn: most of its work is done
before it first waits."""
WAIT_S = 15.0
"""A quarter of the request time-out, as upstream."""
REMEMBERED = 4096
RETRY_S = 1
PER_SEAT = 100
"""Objects of a list that make up a seat, as upstream."""
MOST_SEATS = 10


class Rejected(TooManyRequests):
    """The request may not even wait, or has waited too long."""

    def __init__(self) -> None:
        super().__init__(
            "Too many requests, please try again later.", Details(retry_after_s=RETRY_S)
        )


class Flow:
    """A classification: the schema, the level, and what tells the flow apart."""

    __slots__ = ("dispatched", "head", "key", "level", "name", "schema")

    def __init__(self, schema: Schema, level: Level, name: str) -> None:
        self.schema = schema
        self.level = level
        self.name = name
        self.key = hash((schema.name, name)) & 0xFFFF_FFFF_FFFF_FFFF
        self.head = (
            f"X-Kubernetes-PF-FlowSchema-UID: {schema.uid}\r\n"
            f"X-Kubernetes-PF-PriorityLevel-UID: {level.uid}\r\n"
        ).encode("latin-1", "replace")
        """The answer's headers, ready to send."""
        self.dispatched = 0


class Fairness:
    """Flow control of one server."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self.contended = False
        """Must requests queue? While this is false, answering costs one look at it."""
        self.levels: dict[str, Level] = {}
        self.pool = Pool(())
        self.metrics = FairnessMetrics()
        self._schemas: list[Schema] = []
        self._objects: dict[str, dict[str, Object]] = {"levels": {}, "schemas": {}}
        self._flows: dict[Any, Flow] = {}
        self._totals: Counter[tuple[str, str]] = Counter()
        self._spent_s = 0.0
        self._armed = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Follow the configuration, and make what of it is missing."""
        self._loop = asyncio.get_running_loop()
        server = self._server
        for kind, plural in (
            ("levels", "prioritylevelconfigurations"), ("schemas", "flowschemas"),
        ):  # fmt: skip
            server.observe(resource(plural, GROUP), self._observer(kind))
        await ensure(server)
        self._configure()
        server.expositions.append(lambda: self.metrics.exposition(self))

    def close(self) -> None:
        for task in tuple(self._tasks):
            task.cancel()

    # Configuration.

    def _observer(self, kind: str) -> Any:
        known = self._objects[kind]

        def changed(event: str, obj: Object, old: Object | None) -> None:
            name = obj["metadata"]["name"]
            if event == "DELETED":
                known.pop(name, None)
            else:
                known[name] = obj
            if event == "MODIFIED" and old is not None and old.get("spec") == obj.get("spec"):
                return
            if self._server.ready:
                self._configure()

        return changed

    def _configure(self) -> None:
        """Levels and schemas anew. What waits or runs stays with its level."""
        objects = dict(self._objects["levels"])
        for name, spec in default_levels():
            if name in ("exempt", "catch-all"):
                # The mandatory ones count even while their objects are gone.
                objects.setdefault(name, {"metadata": {"name": name}, "spec": spec})
        levels = {name: level_of(obj, self.levels.get(name)) for name, obj in objects.items()}
        for name, level in self.levels.items():
            if name not in levels and (level.waiting or level.seats):
                # It is emptied before it goes.
                levels[name] = level
        share_out(levels.values(), objects, SEATS)
        self.levels = levels
        self.pool = Pool(levels.values())
        schemas = dict(self._objects["schemas"])
        for name, spec in default_schemas():
            if name in ("exempt", "catch-all"):
                schemas.setdefault(name, {"metadata": {"name": name}, "spec": spec})
        self._schemas = [item for item in in_order(schemas.values()) if item.level in objects]
        self._remember()
        self._flows.clear()
        self._tell_dangling()

    def _tell_dangling(self) -> None:
        """Write into FlowSchemas whether their level is there."""
        for name, obj in self._objects["schemas"].items():
            level = obj["spec"]["priorityLevelConfiguration"]["name"]
            dangling = level not in self.levels
            wanted = found_condition(level, self._server.timestamp(), dangling=dangling)
            now: Object = next(
                (item for item in (obj.get("status") or {}).get("conditions") or ()
                 if item.get("type") == "Dangling"), {},
            )  # fmt: skip
            if any(now.get(field) != wanted[field] for field in ("status", "reason", "message")):
                self._spawn(self._write_dangling(name, wanted))

    async def _write_dangling(self, name: str, condition: Object) -> None:
        def change(obj: Object) -> Object:
            status = obj.setdefault("status", {})
            others = [item for item in status.get("conditions") or ()
                      if item.get("type") != "Dangling"]  # fmt: skip
            status["conditions"] = [*others, condition]
            return obj

        target = resource("flowschemas", GROUP)
        try:
            await self._server.update_object(target, "", name, change, subresource="status")
        except StatusError as error:
            log.info("the state of FlowSchema %s was not written: %s", name, error)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # Classification.

    def classify(self, attributes: Attributes) -> Flow:
        """The flow a request belongs to; remembered, as clients repeat themselves."""
        user, target = attributes.user, attributes.resource
        key = (
            user.name,
            tuple(user.groups),
            attributes.verb,
            (target.group, target.plural) if target is not None else attributes.path,
            attributes.subresource,
            attributes.namespace,
        )
        flow = self._flows.get(key)
        if flow is None:
            if len(self._flows) >= REMEMBERED:
                self._remember()
                self._flows.clear()
            flow = self._flows[key] = self._classify(attributes)
        flow.dispatched += 1
        return flow

    def _classify(self, attributes: Attributes) -> Flow:
        # The last one, catch-all, takes what no other does.
        schema = next(
            (item for item in self._schemas if item.matches(attributes)), self._schemas[-1]
        )
        return Flow(schema, self.levels[schema.level], schema.flow(attributes))

    def _remember(self) -> None:
        for flow in self._flows.values():
            self._totals[flow.schema.name, flow.level.name] += flow.dispatched

    def dispatched(self) -> Counter[tuple[str, str]]:
        """Requests by (schema, level) since the start."""
        totals = self._totals.copy()
        for flow in self._flows.values():
            totals[flow.schema.name, flow.level.name] += flow.dispatched
        return totals

    # Turns.

    def spend(self, seconds: float) -> None:
        """A request took this much of the turn."""
        self._spent_s += seconds
        if self._spent_s > TURN_S:
            self.contended = True
        if not self._armed:
            self._armed = True
            assert self._loop is not None
            self._loop.call_soon(self._next_turn)

    def _next_turn(self) -> None:
        self._armed = False
        self._spent_s = 0.0
        if not self.contended:
            return
        self._serve()
        self.contended = any(level.waiting for level in self.levels.values())
        if self.contended and self._spent_s and not self._armed:
            # Others are heard before the next ones are served.
            self._armed = True
            assert self._loop is not None
            self._loop.call_soon(self._next_turn)

    def _serve(self) -> None:
        """Serve waiting requests, as they come, until the turn is over or none can be."""
        clock = self._server.clock
        while self._spent_s <= TURN_S:
            found = pick(self.levels.values(), self.pool)
            if found is None:
                return
            level, queue, entry = found
            began = clock.monotonic()
            if entry.seats:
                level.seats += entry.seats
                level.executing += 1
                level.running[entry.schema] += 1
                queue.seats += entry.seats
                queue.executing += 1
            waited_s = began - entry.arrived
            entry.attributes.aside_s += waited_s
            self.metrics.waited(entry.schema, level.name, waited_s)
            entry.run()
            if not entry.done.done():
                entry.done.set_result(None)
            cost = BEGIN_S if entry.seats else clock.monotonic() - began
            charge(level, queue, cost)
            self._spent_s += cost

    # Seats.

    def take(self, flow: Flow) -> bool:
        """Take a seat of the flow's level, if one is free and nobody waits before."""
        level = flow.level
        if not level.exempt and (self.contended or level.waiting or not self.pool.fits(level, 1)):
            return False
        level.seats += 1
        level.executing += 1
        level.running[flow.schema.name] += 1
        if not level.exempt:
            self.spend(BEGIN_S)
        return True

    def give_back(self, flow: Flow, entry: Entry | None = None) -> None:
        """A request that held seats has ended."""
        level = self.levels.get(flow.level.name, flow.level)
        seats = 1 if entry is None else entry.seats
        level.seats -= seats
        level.executing -= 1
        level.running[flow.schema.name] -= 1
        if entry is not None and entry.queue is not None:
            entry.queue.seats -= seats
            entry.queue.executing -= 1
        if self.contended or any(item.waiting for item in self.levels.values()):
            self.contended = True
            self.spend(0.0)

    # Waiting.

    def wait(self, flow: Flow, attributes: Attributes, seats: int, run: Any) -> Entry:
        """Queue a request; `run` is called when its turn comes. Raises Rejected."""
        level = self.levels.get(flow.level.name, flow.level)
        assert self._loop is not None
        entry = Entry(
            flow.name, flow.schema.name, seats, self._server.clock.monotonic(), run, attributes,
            self._loop.create_future(),
        )  # fmt: skip
        if not enqueue(level, entry, flow.key, self.pool):
            reason = "queue-full" if level.queues else "concurrency-limit"
            self.metrics.reject(flow.schema.name, level.name, reason)
            raise Rejected
        self.contended = True
        self.spend(0.0)
        return entry

    async def hold(self, flow: Flow, attributes: Attributes, work: Work) -> Any:
        """Do what waits for something, with a seat. Raises Rejected."""
        entry = None
        if not self.take(flow):
            try:
                entry = self.wait(flow, attributes, 1, _nothing)
                await self.turn_of(flow, entry)
            except BaseException:
                work.close()
                raise
        try:
            return await work
        finally:
            self.give_back(flow, entry)

    async def later(
        self, flow: Flow, attributes: Attributes, seats: int, run: Callable[[], Any]
    ) -> Any:
        """Answer a request when its turn has come. Raises Rejected."""
        made: list[Any] = []
        entry = self.wait(flow, attributes, seats, lambda: made.append(_outcome(run)))
        try:
            await self.turn_of(flow, entry)
        except BaseException:
            if made and isinstance(made[0], Coroutine):
                # Its turn came, but its client left.
                made[0].close()
            raise
        try:
            answer = made[0]
            if isinstance(answer, Exception):
                raise answer
            return await answer if isinstance(answer, Coroutine) else answer
        finally:
            if seats:
                self.give_back(flow, entry)

    async def turn_of(self, flow: Flow, entry: Entry) -> None:
        """Wait for the turn of a queued request. Raises Rejected when it does not come."""
        try:
            async with asyncio.timeout(WAIT_S):
                await entry.done
        except TimeoutError:
            if entry.done.done() and not entry.done.cancelled():
                # The turn came at the last moment, with its seats.
                return
            entry.gone = True
            self.metrics.reject(flow.schema.name, flow.level.name, "time-out")
            raise Rejected from None
        except BaseException:
            entry.gone = True
            self.metrics.reject(flow.schema.name, flow.level.name, "cancelled")
            if entry.seats and entry.done.done() and not entry.done.cancelled():
                self.give_back(flow, entry)
            raise

    def wall(self, monotonic: float) -> float:
        """The time of day of an instant of the monotonic clock."""
        clock = self._server.clock
        return clock.now() - (clock.monotonic() - monotonic)

    def width(self, attributes: Attributes) -> int:
        """Seats a list is worth: one for a hundred objects, as upstream estimates it."""
        target = attributes.resource
        if attributes.verb != "list" or target is None or not target.storage:
            return 1
        count = self._server.store.count(target.prefix(attributes.namespace))
        return min(MOST_SEATS, 1 + count // PER_SEAT)


def _nothing() -> None:
    return None


def _outcome(run: Callable[[], Any]) -> Any:
    try:
        return run()
    except Exception as error:
        return error
