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


async def slow_start(
    count: int, action: Callable[[], Awaitable[None]]
) -> tuple[int, Exception | None]:
    """Run `action` `count` times in batches of 1, 2, 4 ...; stop after a batch with an error.

    Returns how many succeeded, and the first error.
    """
    done, size = 0, 1
    while done < count:
        batch = min(size, count - done, AT_ONCE)
        results = await asyncio.gather(*(action() for _ in range(batch)), return_exceptions=True)
        errors = [item for item in results if isinstance(item, BaseException)]
        done += batch - len(errors)
        for error in errors:
            if not isinstance(error, Exception):
                raise error
            return done, error
        size *= 2
    return done, None
