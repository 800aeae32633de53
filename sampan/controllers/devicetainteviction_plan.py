"""When taints of devices drive away those who use them (KEP-5055). Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from sampan.api.errors import Object
from sampan.api.placement import tolerates
from sampan.api.times import parse_time

NO_EXECUTE = "NoExecute"


def pool_name(driver: str, pool: str) -> str:
    return f"{driver}/{pool}"


def pool_of(item: Object) -> Iterable[str]:
    """Index of ResourceSlices."""
    return (pool_name(item["spec"]["driver"], item["spec"]["pool"]["name"]),)


def pools_of(claim: Object) -> Iterable[str]:
    """Index of ResourceClaims: the pools whose devices they have."""
    return [*{pool_name(item["driver"], item["pool"]) for item in results_of(claim)}]


def results_of(claim: Object) -> Sequence[Object]:
    """The devices a claim has."""
    allocation = (claim.get("status") or {}).get("allocation") or {}
    return (allocation.get("devices") or {}).get("results") or ()


def has_taints(item: Object) -> bool:
    """Does a slice drive anybody away?"""
    return any(_strong(device) for device in item["spec"].get("devices") or ())


def taints_of(slices: Sequence[Object], device: str) -> list[Object]:
    """The NoExecute taints of a device, as the newest generation of its pool has it."""
    newest = max((_generation(item) for item in slices), default=0)
    for item in slices:
        if _generation(item) == newest:
            for found in item["spec"].get("devices") or ():
                if found["name"] == device:
                    return _strong(found)
    return []


def eviction_s(claim: Object, taints: Callable[[Object], Sequence[Object]]) -> float | None:
    """When the users of a claim are to go, in seconds since the epoch; None if they may stay.
    `taints` gives those of an allocated device."""
    times: list[float] = []
    for result in results_of(claim):
        for taint in taints(result):
            # The server sets the time of a taint that comes without one.
            since = parse_time(taint["timeAdded"]) if taint.get("timeAdded") else 0.0
            used = [item for item in result.get("tolerations") or () if tolerates(item, taint)]
            if any(item.get("tolerationSeconds") is None for item in used):
                continue
            given = (max(0.0, float(item["tolerationSeconds"])) for item in used)
            times.append(since + min(given, default=0.0))
    return min(times, default=None)


def _generation(item: Object) -> int:
    return int(item["spec"]["pool"].get("generation") or 0)


def _strong(device: Object) -> list[Object]:
    return [item for item in device.get("taints") or () if item.get("effect") == NO_EXECUTE]
