"""Priority: a pod's priority number comes from its class, never from the user."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sampan.api.errors import Object
from sampan.api.resources import resource

from ..exchange import Write
from .plugin import Plugin, refuse

if TYPE_CHECKING:
    from ..app import Server

GROUP = "scheduling.k8s.io"
PREEMPT = "PreemptLowerPriority"


def mutate(server: Server, write: Write) -> None:
    spec: Object = write.obj.get("spec") or {}
    if write.operation == "UPDATE":
        # Older clients send pods back without the number; it never changes.
        old: Object = (write.old or {}).get("spec") or {}
        for field in ("priority", "preemptionPolicy"):
            if spec.get(field) is None and old.get(field) is not None:
                spec[field] = old[field]
        return
    name = spec.get("priorityClassName") or ""
    found = _named(server, write, name) if name else server.admission.lookups.default_priority
    priority = found.get("value", 0) if found else 0
    policy = (found.get("preemptionPolicy") if found else None) or PREEMPT
    given = spec.get("priority")
    if given is not None and given != priority:
        raise refuse(
            write,
            f"the integer value of priority ({given}) must not be provided in pod spec;"
            f" priority admission controller computed {priority} from the given PriorityClass name",
        )
    wanted = spec.get("preemptionPolicy")
    if wanted is not None and wanted != policy:
        raise refuse(
            write,
            f"the string value of PreemptionPolicy ({wanted}) must not be provided in pod spec;"
            f" priority admission controller computed {policy} from the given PriorityClass name",
        )
    spec["priority"], spec["preemptionPolicy"] = priority, policy
    if found and not name:
        spec["priorityClassName"] = found["metadata"]["name"]


def _named(server: Server, write: Write, name: str) -> Object:
    found = server.find_object(resource("priorityclasses", GROUP), "", name)
    if found is None:
        raise refuse(write, f"no PriorityClass with name {name} was found")
    return found


def validate(server: Server, write: Write) -> None:
    """Priority classes: at most one is the default."""
    if write.attributes.resource is None or write.attributes.resource.plural != "priorityclasses":
        return
    if not write.obj.get("globalDefault"):
        return
    name = write.obj["metadata"].get("name")
    found = server.admission.lookups.default_priority
    if found is not None and found["metadata"]["name"] != name:
        raise refuse(
            write,
            f"PriorityClass {found['metadata']['name']} is already marked as default. Only one"
            " default can exist",
        )


PLUGIN = Plugin(
    "Priority",
    {("", "pods"): ("CREATE", "UPDATE"), (GROUP, "priorityclasses"): ("CREATE", "UPDATE")},
    mutate,
    validate,
)
