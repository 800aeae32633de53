"""Many writes at once, but not all of them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

# Writes of one reconcile under way at a time: enough for the store to commit in large groups, and
# a fraction of what the server lets in before it answers 429.
AT_ONCE = 64


async def each(
    action: Callable[[Item], Awaitable[Result]], items: Iterable[Item]
) -> list[Result | BaseException]:
    """The results, or what was raised, in the order of the items."""
    todo = [*items]
    results: list[Result | BaseException] = []
    for start in range(0, len(todo), AT_ONCE):
        batch = todo[start : start + AT_ONCE]
        results += await asyncio.gather(*map(action, batch), return_exceptions=True)
    return results


async def each_or_raise(action: Callable[[Item], Awaitable[Result]], items: Iterable[Item]) -> None:
    """Do all; then raise the first of what was raised."""
    for result in await each(action, items):
        if isinstance(result, BaseException):
            raise result
