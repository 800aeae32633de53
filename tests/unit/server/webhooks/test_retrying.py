"""A call that failed in a way that may pass is made again, a few times, and no other."""

from __future__ import annotations

import asyncio

import pytest

from sampan.api.errors import Object
from sampan.server.webhooks import retrying
from sampan.server.webhooks.retrying import TRIES, ask_again
from sampan.server.webhooks.target import CallFailed
from tests.kit.clock import FakeClock, settle

BUSY = CallFailed("busy", 429)


class Script:
    """Fails with each of the errors, then answers."""

    def __init__(self, *errors: CallFailed) -> None:
        self.errors, self.asked = list(errors), 0

    async def __call__(self) -> Object:
        self.asked += 1
        if self.errors:
            raise self.errors.pop(0)
        return {"ok": True}


async def test_what_may_pass_is_asked_again_after_longer_and_longer_pauses(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(retrying, "random", lambda: 0.5)
    reset = CallFailed('Post "x": read: connection reset by peer')
    later = CallFailed("later", 503, asks_to_wait=True)
    script, clock = Script(CallFailed("broken", 500), reset, later), FakeClock()
    task = asyncio.create_task(ask_again(script, clock))
    await settle()
    for number, pause in enumerate((0.55, 0.825, 1.2375), 1):
        await clock.advance(pause - 0.05)
        assert script.asked == number
        await clock.advance(0.06)
    assert await task == {"ok": True}
    assert script.asked == 4


async def test_the_last_failure_is_told() -> None:
    script, clock = Script(*[BUSY] * 9), FakeClock()
    task = asyncio.create_task(ask_again(script, clock))
    await settle()
    for _ in range(TRIES):
        await clock.advance(5)
    with pytest.raises(CallFailed, match="busy"):
        await task
    assert script.asked == TRIES


@pytest.mark.parametrize("error", [CallFailed("gone", 404), CallFailed("no", 503),
                                   CallFailed("context deadline exceeded")])  # fmt: skip
async def test_what_will_not_pass_is_told_at_once(error: CallFailed) -> None:
    script = Script(error)
    with pytest.raises(CallFailed):
        await ask_again(script, FakeClock())
    assert script.asked == 1
