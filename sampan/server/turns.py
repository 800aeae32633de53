"""Work whose length somebody else decides (rules, policies), without making others wait for it.

What is not done after `cel.program.QUICK_COST` is begun again in a thread, with the whole budget:
the loop has the interpreter every few milliseconds then. There is one thread for all, since more
would not compute more and would take the interpreter from the loop one after the other. At most as
many wait for it as requests are under way, and each ends with its budget.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor, Future
from contextvars import ContextVar, copy_context
from functools import cache
from typing import Any, TypeVar

from sampan.api.turns import HURRIED, Unfinished

Made = TypeVar("Made")

ASKING_S = 5.0
"""How long the thread waits for the loop, which only a loop that has ended takes."""

_HOME: ContextVar[asyncio.AbstractEventLoop | None] = ContextVar("home", default=None)
"""The loop that work in the thread belongs to; None in the loop itself."""


async def in_turns(work: Callable[..., Made], *arguments: Any) -> Made:
    """`work(*arguments)`, which looks at what nobody changes and may be begun twice. Raises what it
    raises."""
    token = HURRIED.set(True)
    try:
        return work(*arguments)
    except Unfinished:
        pass
    finally:
        HURRIED.reset(token)
    return await aside(work, *arguments)


async def aside(work: Callable[..., Made], *arguments: Any) -> Made:
    """`work(*arguments)` in the thread."""
    loop = asyncio.get_running_loop()
    context = copy_context()
    context.run(_HOME.set, loop)
    return await loop.run_in_executor(_thread(), context.run, work, *arguments)


def at_home(ask: Callable[[], Made]) -> Made:
    """`ask()` in the loop, which alone may look at what it changes. Raises what it raises, and
    TimeoutError when the loop has ended."""
    loop = _HOME.get()
    if loop is None:
        return ask()
    answer: Future[Made] = Future()

    def run() -> None:
        token = _HOME.set(None)
        try:
            answer.set_result(ask())
        except BaseException as error:
            answer.set_exception(error)
        finally:
            _HOME.reset(token)

    loop.call_soon_threadsafe(run)
    return answer.result(ASKING_S)


@cache
def _thread() -> Executor:
    from concurrent.futures import ThreadPoolExecutor

    return ThreadPoolExecutor(1, thread_name_prefix="expressions")
