"""/debug/api_priority_and_fairness: what waits where, as upstream dumps it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from sampan.api.times import format_time

from ..exchange import Request, Response

if TYPE_CHECKING:
    from .fairness import Fairness
    from .levels import Entry, Level, Queue

ROOT = "/debug/api_priority_and_fairness/"
NONE = "<none>"

Row = tuple[str, ...]

LEVELS: Row = (
    "PriorityLevelName", "ActiveQueues", "IsIdle", "IsQuiescing", "WaitingRequests",
    "ExecutingRequests", "DispatchedRequests", "RejectedRequests", "TimedoutRequests",
    "CancelledRequests",
)  # fmt: skip
QUEUES: Row = (
    "PriorityLevelName", "Index", "PendingRequests", "ExecutingRequests", "SeatsInUse",
    "NextDispatchR", "InitialSeatsSum", "MaxSeatsSum", "TotalWorkSum",
)  # fmt: skip
REQUESTS: Row = (
    "PriorityLevelName", "FlowSchemaName", "QueueIndex", "RequestIndexInQueue", "FlowDistingsher",
    "ArriveTime", "InitialSeats", "FinalSeats", "AdditionalLatency", "StartTime",
)  # fmt: skip
DETAILS: Row = (
    "UserName", "Verb", "APIPath", "Namespace", "Name", "APIVersion", "Resource", "SubResource",
)  # fmt: skip


def dump(fairness: Fairness, request: Request) -> Response | None:
    """The answer to a debug path; None for any other."""
    what = request.path.removeprefix(ROOT)
    detailed = bool(request.query.get("includeRequestDetails"))
    if what == "dump_priority_levels":
        head, rows = LEVELS, _levels(fairness)
    elif what == "dump_queues":
        head, rows = QUEUES, _queues(fairness)
    elif what == "dump_requests":
        head = REQUESTS + DETAILS if detailed else REQUESTS
        rows = _requests(fairness, detailed)
    else:
        return None
    return Response(200, _text([head, *rows]).encode(), content_type="text/plain; charset=utf-8")


def _text(rows: list[Row]) -> str:
    """Columns as Go's tabwriter sets them: each as wide as its longest cell and a comma."""
    widths = [0] * max(map(len, rows))
    for row in rows:
        for position, cell in enumerate(row):
            widths[position] = max(widths[position], len(cell) + 2, 8)
    lines = []
    for row in rows:
        cells = [f"{cell}," for cell in row[:-1]] + [row[-1]]
        padded = (cell.ljust(width) for cell, width in zip(cells, widths, strict=False))
        lines.append("".join(padded).rstrip())
    return "\n".join(lines) + "\n"


def _sorted(fairness: Fairness) -> list[Level]:
    return sorted(fairness.levels.values(), key=lambda item: item.name)


def _levels(fairness: Fairness) -> Iterator[Row]:
    dispatched: dict[str, int] = {}
    for (_, level_name), count in fairness.dispatched().items():
        dispatched[level_name] = dispatched.get(level_name, 0) + count
    for level in _sorted(fairness):
        served = str(dispatched.get(level.name, 0))
        if not level.queues:
            yield (level.name, *(NONE,) * 5, served, *(NONE,) * 3)
            continue
        active = sum(bool(queue.waiting) for queue in level.queues)
        idle = not level.waiting and not level.executing
        refused = fairness.metrics.refused(level.name)
        yield (
            level.name, str(active), str(idle).lower(), "false", str(level.waiting),
            str(level.executing), served, *map(str, refused),
        )  # fmt: skip


def _queues(fairness: Fairness) -> Iterator[Row]:
    for level in _sorted(fairness):
        if not level.queues:
            yield (level.name, *(NONE,) * 8)
        for queue in level.queues:
            seats = sum(entry.seats for entry in queue.waiting)
            yield (
                level.name, str(queue.index), str(len(queue.waiting)), str(queue.executing),
                str(queue.seats), f"{queue.virtual:.8f}ss", str(seats), str(seats),
                f"{seats * 1.0:.8f}ss",
            )  # fmt: skip


def _requests(fairness: Fairness, detailed: bool) -> Iterator[Row]:
    for level in _sorted(fairness):
        for queue in level.queues:
            for position, entry in enumerate(queue.waiting):
                row = _request(fairness, level, queue, entry, position)
                yield row + _details(entry) if detailed else row


def _request(fairness: Fairness, level: Level, queue: Queue, entry: Entry, position: int) -> Row:
    seats = str(fairness.width(entry.attributes))
    arrived = format_time(fairness.wall(entry.arrived))
    return (
        level.name, entry.schema, str(queue.index), str(position), entry.flow, arrived, seats,
        "0", "0s", "0001-01-01T00:00:00Z",
    )  # fmt: skip


def _details(entry: Entry) -> Row:
    attributes = entry.attributes
    target = attributes.resource
    return (
        attributes.user.name, attributes.verb, attributes.path, attributes.namespace,
        attributes.name, target.api_version if target else "", target.plural if target else "",
        attributes.subresource,
    )  # fmt: skip
