"""Are the devices of a claim ready for a pod to be bound (KEP-5007)? A device may name conditions
that its driver sets when it is, or when that has failed. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from sampan.api.errors import Object
from sampan.api.times import parse_time


def waiting(claim: Object) -> Iterator[Object]:
    """Results of the claim's allocation that name conditions."""
    allocation = (claim.get("status") or {}).get("allocation") or {}
    for result in (allocation.get("devices") or {}).get("results") or ():
        if result.get("bindingConditions"):
            yield result


def is_ready(claim: Object) -> bool:
    return all(
        _holds(claim, result, name) is not None
        for result in waiting(claim)
        for name in result["bindingConditions"]
    )


def failure_of(claim: Object) -> str:
    """Why its devices will not be ready; "" if that is not said."""
    for result in waiting(claim):
        for name in result.get("bindingFailureConditions") or ():
            found = _holds(claim, result, name)
            if found is not None:
                return (
                    f"claim {claim['metadata']['name']} binding failed: "
                    f'reason={found.get("reason", "")}, message="{found.get("message", "")}"'
                )
    return ""


def is_given_up(claim: Object, now_s: float, within_s: float) -> bool:
    """Has it failed, or taken too long? Then other devices are to be tried."""
    if not any(True for _ in waiting(claim)) or is_ready(claim):
        return False
    since = claim["status"]["allocation"].get("allocationTimestamp")
    late = bool(since) and parse_time(since) + within_s < now_s
    return late or bool(failure_of(claim))


def _holds(claim: Object, result: Object, name: str) -> Object | None:
    """The condition that the driver has set to True for the device."""
    keys = ("driver", "pool", "device", "shareID")
    for device in claim["status"].get("devices") or ():
        if all(device.get(key) == result.get(key) for key in keys):
            for item in device.get("conditions") or ():
                if item.get("type") == name and item.get("status") == "True":
                    found: Object = item
                    return found
    return None
