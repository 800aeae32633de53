"""The work queue: one at a time per name, nothing lost, retries by the clock."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from sampan.api.errors import Conflict
from sampan.controllers.runtime.expectations import TIMEOUT_S, Expectations
from sampan.controllers.runtime.metrics import exposition
from sampan.controllers.runtime.queue import Queue, Request, Requeue
from tests.kit.clock import FakeClock, settle

A, B, C = (Request("ns", name) for name in "abc")


class Rig:
    """A queue whose reconciles wait at a gate and answer as told."""

    def __init__(self, workers: int = 2) -> None:
        self.clock = FakeClock()
        self.queue = Queue("test", self.process, self.clock, workers)
        self.began: list[str] = []
        self.gate: asyncio.Event | None = None
        self.answers: list[Requeue | Exception | None] = []
        self.timer = asyncio.create_task(self.queue.run_timer())

    async def process(self, request: Request) -> Requeue | None:
        self.began.append(request.name)
        answer = self.answers.pop(0) if self.answers else None
        if self.gate is not None:
            await self.gate.wait()
        if isinstance(answer, Exception):
            raise answer
        return answer

    def take(self) -> str:
        out, self.began = "".join(self.began), []
        return out


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    made = Rig()
    yield made
    await made.queue.stop()
    made.timer.cancel()


async def test_waits_until_opened_and_takes_a_name_once(rig: Rig) -> None:
    for request in (A, B, A, A):
        rig.queue.add(request)
    await settle()
    assert rig.take() == ""
    rig.queue.open()
    await settle()
    assert rig.take() == "ab"
    assert rig.queue.idle


async def test_a_name_added_while_it_runs_runs_again_after(rig: Rig) -> None:
    rig.gate = asyncio.Event()
    rig.queue.open()
    rig.queue.add(A)
    await settle()
    rig.queue.add(A)
    rig.queue.add(A)
    await settle()
    assert rig.take() == "a"
    rig.gate.set()
    await settle()
    assert rig.take() == "a"
    assert rig.queue.idle


async def test_workers_are_bounded(rig: Rig) -> None:
    rig.gate = asyncio.Event()
    rig.queue.open()
    for request in (A, B, C):
        rig.queue.add(request)
    await settle()
    assert rig.take() == "ab"
    assert rig.queue.read().depth == 1
    rig.gate.set()
    await settle()
    assert rig.take() == "c"


async def test_failures_are_retried_with_growing_delays(rig: Rig) -> None:
    rig.answers = [Conflict("stale"), OSError("down"), None, OSError("down")]
    rig.queue.open()
    rig.queue.add(A)
    await settle()
    assert rig.take() == "a"
    await rig.clock.advance(0.004)
    assert rig.take() == ""
    await rig.clock.advance(0.002)
    assert rig.take() == "a"
    await rig.clock.advance(0.008)
    assert rig.take() == ""
    await rig.clock.advance(0.002)
    assert rig.take() == "a"
    # Success has forgotten the failures before.
    rig.queue.add(A)
    await settle()
    assert rig.take() == "a"
    await rig.clock.advance(0.006)
    assert rig.take() == "a"
    assert (rig.queue.metrics.conflicts, rig.queue.metrics.failures) == (1, 2)


async def test_a_requeue_comes_at_its_time_and_the_soonest_counts(rig: Rig) -> None:
    rig.answers = [Requeue(10)]
    rig.queue.open()
    rig.queue.add(A)
    await settle()
    rig.queue.add_after(B, 5)
    rig.queue.add_after(A, 30)
    rig.queue.add_after(A, 7)
    assert rig.take() == "a"
    await rig.clock.advance(6)
    assert rig.take() == "b"
    await rig.clock.advance(1)
    assert rig.take() == "a"
    await rig.clock.advance(60)
    assert rig.take() == ""


async def test_metrics_have_upstreams_names(rig: Rig) -> None:
    rig.queue.open()
    rig.queue.add(A)
    await settle()
    text = exposition([rig.queue.read()])
    for line in (
        'workqueue_depth{name="test"} 0',
        'workqueue_adds_total{name="test"} 1',
        'workqueue_work_duration_seconds_count{name="test"} 1',
        'workqueue_queue_duration_seconds_bucket{name="test",le="+Inf"} 1',
    ):
        assert line in text.splitlines()


async def test_expectations_hold_until_seen_or_overdue() -> None:
    clock = FakeClock()
    expected = Expectations(clock)
    expected.expect_creations(A, 2)
    expected.expect_deletions(A, {"u"})
    assert expected.outstanding_s(A) == TIMEOUT_S
    expected.created(A)
    expected.created(A)
    assert expected.outstanding_s(A) > 0
    expected.deleted(A, "u")
    assert expected.outstanding_s(A) == 0
    expected.expect_creations(A, 1)
    await clock.advance(TIMEOUT_S + 1)
    assert expected.outstanding_s(A) == 0
    assert expected.outstanding_s(B) == 0


async def test_a_name_at_rest_is_taken_up_once_when_its_rest_is_over(rig: Rig) -> None:
    rig.queue.open()
    rig.queue.rest(A, 0.2)
    for _ in range(5):
        rig.queue.add(A)
        await rig.clock.advance(0.03)
    assert rig.take() == ""
    rig.queue.add(B)
    await settle()
    assert rig.take() == "b"
    await rig.clock.advance(0.06)
    assert rig.take() == "a"
    rig.queue.add(A)
    await settle()
    assert rig.take() == "a"
    # Rests below what a timer is worth are none.
    rig.queue.rest(A, 0.001)
    rig.queue.add(A)
    await settle()
    assert rig.take() == "a"


async def test_a_name_that_comes_as_the_last_worker_ends_is_not_forgotten() -> None:
    rig = Rig(workers=1)
    loop = asyncio.get_running_loop()
    process = rig.process

    async def last(request: Request) -> Requeue | None:
        if request is A:
            # Between the worker's last step and the callbacks of its end.
            loop.call_soon(loop.call_soon, rig.queue.add, B)
        return await process(request)

    rig.queue._process = last
    rig.queue.add(A)
    rig.queue.open()
    await settle()
    assert rig.take() == "ab"
    await rig.queue.stop()
    rig.timer.cancel()
