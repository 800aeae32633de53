"""The last thing a node does for a pod of which nothing is left: it takes the object away."""

from __future__ import annotations

import logging
from collections.abc import Callable

from sampan.aio.backoff import Backoff
from sampan.aio.clock import Clock
from sampan.api.errors import Conflict, NotFound, Object, StatusError
from sampan.api.resources import api_resource
from sampan.client.api import Client

log = logging.getLogger("sampan.node.deletion")


async def delete_object(
    client: Client, clock: Clock, pod: Object, uid: str, is_gone: Callable[[], bool] = bool
) -> None:
    """Ask until the object with this uid is gone, or `is_gone` says that it is."""
    meta = pod["metadata"]
    options = {"gracePeriodSeconds": 0, "preconditions": {"uid": uid}}
    backoff = Backoff(initial_s=0.1, cap_s=10.0)
    while not is_gone():
        try:
            await client.delete(api_resource("pods"), meta["name"], meta["namespace"], options)
        except (NotFound, Conflict):
            return
        except (StatusError, OSError) as error:
            log.info("pod %s/%s: delete: %s", meta["namespace"], meta["name"], error)
            await clock.sleep(backoff.next_s())
        else:
            return
