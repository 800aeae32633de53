"""Validation of custom resources, without making others wait for a rule that takes long.

What is not done after `structural.rules.QUICK_COST` is begun again in a thread of the loop's
executor, with the whole budget: the loop has the interpreter every few milliseconds then. At most
as many checks wait for a thread as requests are under way, and each ends with its budget.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from sampan.api.turns import HURRIED, Unfinished


async def check_in_turns(check: Callable[..., None], *arguments: Any) -> None:
    """`check(*arguments)`, which looks at objects that nobody changes. Raises what it raises."""
    token = HURRIED.set(True)
    try:
        check(*arguments)
        return
    except Unfinished:
        pass
    finally:
        HURRIED.reset(token)
    await asyncio.to_thread(check, *arguments)
