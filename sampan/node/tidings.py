"""What a node tells of itself by events, as kubelet does (pkg/kubelet/nodestatus). Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from sampan.api.errors import Object

# Condition -> the event when it holds, and when it does not.
EVENTS = {
    "MemoryPressure": ("NodeHasInsufficientMemory", "NodeHasSufficientMemory"),
    "DiskPressure": ("NodeHasDiskPressure", "NodeHasNoDiskPressure"),
    "PIDPressure": ("NodeHasInsufficientPID", "NodeHasSufficientPID"),
    "Ready": ("NodeReady", "NodeNotReady"),
}
NORMAL, WARNING = "Normal", "Warning"


class Tiding(NamedTuple):
    kind: str
    reason: str
    text: str


def reference(name: str) -> Object:
    """Whom the events are about: kubelet takes the name for the uid, and kubectl looks for both."""
    return {"kind": "Node", "name": name, "uid": name, "apiVersion": "v1"}


STARTING = (
    Tiding(NORMAL, "Starting", "Starting kubelet."),
    Tiding(NORMAL, "NodeAllocatableEnforced", "Updated Node Allocatable limit across pods"),
)


def of_address(own: str, seen: str) -> Iterator[Tiding]:
    """Of a node that joined from `own`, and that the server hears from `seen`."""
    if seen and seen != own:
        text = (
            f"The server hears this node from {seen}, not from its own address {own}: its pods and"
            " those of other machines reach each other only where both machines have WireGuard"
        )
        yield Tiding(WARNING, "BehindNAT", text)


def of_start(name: str, old: Object, new: Mapping[str, Any]) -> Iterator[Tiding]:
    """Of an agent that has begun: `old` is the node as the API had it, {} for a new one, and `new`
    the status it wrote. What is scarce is always told, readiness of an old node where it is written
    (`of_status`)."""
    known = (old.get("status") or {}) if old else {}
    ready = [{"type": "Ready", "status": "True"}] if old else []
    yield from of_status(name, {"conditions": ready}, new)
    boot_id = new["nodeInfo"]["bootID"]
    before = (known.get("nodeInfo") or {}).get("bootID")
    if before and before != boot_id:
        text = f"Node {name} has been rebooted, boot id: {boot_id}"
        yield Tiding(WARNING, "Rebooted", text)


def of_status(name: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Tiding]:
    """Of a status that is written, after another."""
    before = {item["type"]: item["status"] for item in old.get("conditions") or ()}
    for item in new.get("conditions") or ():
        if item["type"] in EVENTS and before.get(item["type"]) != item["status"]:
            reason = EVENTS[item["type"]][item["status"] != "True"]
            yield Tiding(NORMAL, reason, f"Node {name} status is now: {reason}")
