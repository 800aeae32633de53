"""How many volumes a driver can still attach to this node, kept true in the node's CSINode
(KEP-4876): asked as often as its CSIDriver says, and at once when an attachment failed for want of
room.

Task: one per registered driver, until it goes. It waits in a watch of its CSIDriver while that
says nothing of a period.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import aclosing, suppress

from sampan.aio.backoff import Backoff
from sampan.aio.clock import Clock
from sampan.aio.grpc import RpcError
from sampan.api.descriptor import ApiResource
from sampan.api.errors import NotFound, Object, StatusError
from sampan.api.resources import api_resource
from sampan.client.api import Client

from .drivers import Driver

log = logging.getLogger("sampan.node.csi")

RESOURCE_EXHAUSTED = 8
"""The gRPC code of an attachment that finds no room."""


async def keep_counted(
    driver: Driver, client: Client, clock: Clock, tell: Callable[[], Awaitable[None]]
) -> None:
    """`tell` asks the driver and writes what it says; it may raise RpcError and what the client
    raises."""
    backoff = Backoff(1.0, 60.0)
    while True:
        try:
            period_s = await _period(driver, client)
            if period_s:
                await _wait(driver, clock, period_s)
                await tell()
                backoff.reset()
            else:
                # The watch has ended, as all do in time.
                await clock.sleep(backoff.next_s())
        except (RpcError, StatusError, OSError) as error:
            log.info("volumes of driver %s are not counted: %s", driver.name, error)
            await clock.sleep(backoff.next_s())


async def _period(driver: Driver, client: Client) -> float:
    """Seconds; 0 when the CSIDriver says nothing of them until its watch ends."""
    found: Object = {}
    with suppress(NotFound):
        found = await client.get(_objects(), driver.name)
    if period_s := _stated(found):
        return period_s
    query = {"fieldSelector": f"metadata.name={driver.name}"}
    async with aclosing(client.watch(_objects(), query=query)) as changes:  # type: ignore[type-var]
        async for change in changes:
            if period_s := _stated(change.object):
                return period_s
    return 0.0


def _stated(found: Object) -> float:
    return float((found.get("spec") or {}).get("nodeAllocatableUpdatePeriodSeconds") or 0)


async def _wait(driver: Driver, clock: Clock, period_s: float) -> None:
    """For the period, or until there is no room."""
    sleeping = asyncio.ensure_future(clock.sleep(period_s))
    asked = asyncio.ensure_future(driver.exhausted.wait())
    try:
        await asyncio.wait({sleeping, asked}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (sleeping, asked):
            task.cancel()
        await asyncio.gather(sleeping, asked, return_exceptions=True)
    driver.exhausted.clear()


def _objects() -> ApiResource:
    return api_resource("csidrivers", "storage.k8s.io")
