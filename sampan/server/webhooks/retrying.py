"""Asking once more: what the authorising and the authenticating webhook do when a call failed in a
way that may pass (upstream's WithExponentialBackoff and DefaultShouldRetry).

No task and no queue: whoever asks waits, `TRIES` calls and less than five seconds of pauses at
most, each call with a time-out of its own.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from random import random

from sampan.aio.clock import Clock
from sampan.api.errors import Object

from .target import CallFailed

TRIES = 5
FIRST_PAUSE_S = 0.5
FACTOR = 1.5
JITTER = 0.2
"""Each pause is longer than it need be by up to this share, so that callers do not come at once."""
PASSING = frozenset({429, 500, 504})
"""Too many requests, an internal error, a time-out on the webhook's side."""
RESET = "connection reset by peer"


async def ask_again(
    ask: Callable[[], Awaitable[Object]], clock: Clock, pause_s: float = FIRST_PAUSE_S
) -> Object:
    """What `ask` answers, at the first or a later try. Raises CallFailed, the last."""
    for left in reversed(range(TRIES)):
        try:
            return await ask()
        except CallFailed as error:
            if not left or not may_pass(error):
                raise
        await clock.sleep(pause_s * (1 + JITTER * random()))
        pause_s *= FACTOR
    raise AssertionError("the last try returns or raises")


def may_pass(error: CallFailed) -> bool:
    """Could the same call go well in a moment?"""
    return error.code in PASSING or error.asks_to_wait or RESET in error.message
