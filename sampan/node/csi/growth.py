"""A volume that has become larger than its claim says is grown on the node, too (NodeExpandVolume),
and then the claim says so (pkg/volume/util/operationexecutor/node_expander.go).

What is larger is decided by the driver's external-resizer, which writes the volume's capacity.
"""

from __future__ import annotations

from typing import Any

from sampan.api.errors import Object
from sampan.api.resources import api_resource
from sampan.api.volumes import capacity_of
from sampan.client.api import Client
from sampan.client.interface import STRATEGIC_PATCH
from sampan.wire.quantity import whole

from .drivers import Driver
from .schemas import EXPAND

PENDING = "FileSystemResizePending"
LOOK_S = 30.0
"""How often a volume in use is looked at: a node may not watch the claims of its pods."""


def is_behind(claim: Object, volume: Object) -> bool:
    """Does the claim offer less than its volume has?"""
    known = (claim.get("status") or {}).get("capacity") or {}
    return "storage" in known and whole(known["storage"]) < capacity_of(volume)


async def grow(
    client: Client, driver: Driver, bound: tuple[Object, Object], message: dict[str, Any]
) -> None:
    """Ask the driver, if it can, and write the claim's status. `message` is what the driver is told
    beside the size. Raises RpcError, StatusError and OSError."""
    claim, volume = bound
    if EXPAND in await driver.abilities():
        size = {"required_bytes": capacity_of(volume)}
        await driver.call("NodeExpandVolume", **message, capacity_range=size)
    status = {
        "capacity": {"storage": volume["spec"]["capacity"]["storage"]},
        "conditions": [{"type": PENDING, "$patch": "delete"}],
        "allocatedResourceStatuses": None,
    }
    meta = claim["metadata"]
    await client.patch(
        api_resource("persistentvolumeclaims"),
        meta["name"],
        {"status": status},
        meta["namespace"],
        "status",
        content_type=STRATEGIC_PATCH,
    )
