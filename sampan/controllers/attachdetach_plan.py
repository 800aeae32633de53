"""Which volume belongs on which node, and when it may be taken away. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from msgspec import Struct, field

from sampan.api.errors import Object

from .node_plan import OUT_OF_SERVICE
from .runtime.conditions import condition
from .runtime.pods import is_finished

UNMOUNT_WAIT_S = 360.0
"""How long a node that does not answer may have a volume mounted (maxWaitForUnmountDuration)."""
SHARED = {"ReadOnlyMany", "ReadWriteMany"}


class Wish(Struct):
    """Pods of one node that use the volume."""

    node: str
    pods: list[Object] = field(default_factory=list)


def source_of(volume: Object) -> Object:
    """The volume's csi source, {} for other types."""
    source: Object = volume["spec"].get("csi") or {}
    return source


def node_of(attachment: Object) -> str:
    return str(attachment["spec"].get("nodeName") or "")


def is_exclusive(volume: Object) -> bool:
    """May it be on one node only?"""
    return SHARED.isdisjoint(volume["spec"].get("accessModes") or ())


def nodes_of(pods: Iterable[Object], nodes: Collection[str]) -> dict[str, Wish]:
    """Of pods that may still run: one that has finished needs its volumes no more."""
    out: dict[str, Wish] = {}
    for pod in pods:
        name = pod["spec"].get("nodeName") or ""
        if name in nodes and not is_finished(pod):
            out.setdefault(name, Wish(name)).pods.append(pod)
    return out


def detach_at(node: Object, unique: str, since: float) -> float | None:
    """When the volume may be taken from a node whose pods use it no more `since` then; None while
    the node has it mounted and is well."""
    if unique not in ((node.get("status") or {}).get("volumesInUse") or ()):
        return since
    taints = (node.get("spec") or {}).get("taints") or ()
    if any(item.get("key") == OUT_OF_SERVICE for item in taints):
        return since
    ready = condition((node.get("status") or {}).get("conditions"), "Ready")
    if ready is not None and ready.get("status") == "True":
        return None
    return since + UNMOUNT_WAIT_S


def with_attached(node: Object, unique: str, path: str) -> list[Object] | None:
    """The node's volumesAttached with the volume at `path`, or without it ("" as the path); None
    when it says so already."""
    known = (node.get("status") or {}).get("volumesAttached") or []
    others = [item for item in known if item.get("name") != unique]
    wanted = [*others, {"name": unique, "devicePath": path}] if path else others
    if path and len(others) < len(known):
        return None
    return None if wanted == known else wanted
