"""The time a client allots to its request (the query's `timeout`, upstream's WithRequestDeadline).

Client libraries send it with every request where a time-out is configured. Streams have none. What
is given up is only the waiting: the work itself goes to its end, since a write cannot be called
back once it is on its way to the disk. It stays counted as under way, and so bounded.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

from sampan.api.errors import BadRequest, Timeout
from sampan.api.times import TimeError, parse_duration_s

from .exchange import Answer, Attributes, Request

if TYPE_CHECKING:
    from collections.abc import Set

LONGEST_S = 60.0
"""Longer times are not waited for apart: upstream's default bound of every request."""
STREAMED_VERBS: Set[str] = frozenset({"watch", "proxy"})
STREAMED_PARTS: Set[str] = frozenset({"attach", "exec", "proxy", "log", "portforward"})


def allotted_s(request: Request, attributes: Attributes) -> float | None:
    """The seconds a request may take, None where nothing shorter than the usual is asked for.
    Raises BadRequest."""
    text = request.param("timeout")
    if not text or attributes.verb in STREAMED_VERBS or attributes.subresource in STREAMED_PARTS:
        return None
    try:
        limit_s = parse_duration_s(text)
    except TimeError as error:
        raise BadRequest(f"invalid timeout specified in the request URL - {error}") from None
    return limit_s if 0 < limit_s < LONGEST_S else None


async def answer_within(work: Coroutine[Any, Any, Answer], limit_s: float) -> Answer:
    """What `work` gives, if it does in time. Raises Timeout, and what it raises."""
    task = asyncio.ensure_future(work)
    done, _ = await asyncio.wait((task,), timeout=limit_s)
    if done:
        return task.result()
    task.add_done_callback(_forget)
    raise Timeout("Timeout: request did not complete within the allotted timeout")


def _forget(task: asyncio.Task[Answer]) -> None:
    """Nobody asks for the outcome any more, not even for an error."""
    if not task.cancelled():
        task.exception()
