"""What is left in a namespace that is going, as its conditions say it. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from msgspec import Struct, field

from sampan.api.errors import Object
from sampan.api.times import format_time

from .runtime.conditions import condition


class Remaining(Struct):
    """Objects left by resource ("pods.", "replicasets.apps"), and by finalizer."""

    resources: Counter[str] = field(default_factory=Counter)
    finalizers: Counter[str] = field(default_factory=Counter)
    errors: list[str] = field(default_factory=list)

    def count(self, resource: str, objects: Sequence[Object]) -> None:
        if objects:
            self.resources[resource] += len(objects)
        for obj in objects:
            self.finalizers.update(obj["metadata"].get("finalizers") or ())


# type -> (reason, message) while all is well.
QUIET = {
    "NamespaceDeletionDiscoveryFailure": (
        "ResourcesDiscovered",
        "All resources successfully discovered",
    ),
    "NamespaceDeletionGroupVersionParsingFailure": (
        "ParsedGroupVersions",
        "All legacy kube types successfully parsed",
    ),
    "NamespaceDeletionContentFailure": (
        "ContentDeleted",
        "All content successfully deleted, may be waiting on finalization",
    ),
    "NamespaceContentRemaining": ("ContentRemoved", "All content successfully removed"),
    "NamespaceFinalizersRemaining": (
        "ContentHasNoFinalizers",
        "All content-preserving finalizers finished",
    ),
}


def status_of(namespace: Object, remaining: Remaining, now_s: float) -> Object:
    """The status of a terminating namespace (namespaced_resources_deleter's conditions)."""
    loud: dict[str, tuple[str, str]] = {}
    if remaining.errors:
        total = sum(remaining.resources.values())
        text = f"Failed to delete all resource types, {total} remaining: "
        loud["NamespaceDeletionContentFailure"] = (
            "ContentDeletionFailed",
            text + ", ".join(remaining.errors),
        )
    if remaining.resources:
        parts = [f"{name} has {n} resource instances" for name, n in _sorted(remaining.resources)]
        text = "Some resources are remaining: " + ", ".join(parts)
        loud["NamespaceContentRemaining"] = ("SomeResourcesRemain", text)
    if remaining.finalizers:
        parts = [f"{name} in {n} resource instances" for name, n in _sorted(remaining.finalizers)]
        text = "Some content in the namespace has finalizers remaining: " + ", ".join(parts)
        loud["NamespaceFinalizersRemaining"] = ("SomeFinalizersRemain", text)
    old = namespace.get("status") or {}
    conditions = [item for item in old.get("conditions") or () if item.get("type") not in QUIET]
    for kind, quiet in QUIET.items():
        reason, message = loud.get(kind, quiet)
        status = "True" if kind in loud else "False"
        before = condition(old.get("conditions"), kind)
        since = format_time(now_s)
        if before is not None and before.get("status") == status:
            since = before.get("lastTransitionTime") or since
        conditions.append(
            {
                "type": kind,
                "status": status,
                "lastTransitionTime": since,
                "reason": reason,
                "message": message,
            }
        )
    return {**old, "phase": "Terminating", "conditions": conditions}


def _sorted(counts: Counter[str]) -> list[tuple[str, int]]:
    return sorted(counts.items())
