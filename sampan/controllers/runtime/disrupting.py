"""Ending a pod that did nothing wrong: its status says why before it goes (KEP-3329)."""

from __future__ import annotations

from sampan.api.descriptor import Descriptor
from sampan.api.errors import NotFound, Object
from sampan.api.times import format_time
from sampan.client.api import Client

from .conditions import with_condition


def disrupted(pod: Object, reason: str, message: str, now_s: float) -> Object:
    """The pod's status with the condition DisruptionTarget."""
    status, meta = pod.get("status") or {}, pod["metadata"]
    new = {
        "type": "DisruptionTarget",
        "observedGeneration": meta.get("generation", 1),
        "status": "True",
        "lastTransitionTime": format_time(now_s),
        "reason": reason,
        "message": message,
    }
    return {**status, "conditions": with_condition(status.get("conditions"), new)}


async def delete_disrupted(client: Client, pods: Descriptor, pod: Object, status: Object) -> bool:
    """Write the status and delete the pod, gracefully; False if it is gone already. Raises what
    the client raises: Conflict when the pod is not as it was seen."""
    meta = pod["metadata"]
    try:
        if status.get("conditions") != (pod.get("status") or {}).get("conditions"):
            await client.update(pods, {**pod, "status": status}, "status")
        options = {"preconditions": {"uid": meta["uid"]}}
        await client.delete(pods, meta["name"], meta["namespace"], options)
    except NotFound:
        return False
    return True
