"""Which services a pod's change concerns."""

from __future__ import annotations

from collections.abc import Callable

from sampan.api.errors import Object
from sampan.client.informer import Informer


def on_backend_change(
    pods: Informer,
    services: Informer,
    affects: Callable[[Object, dict[str, str] | None], bool],
    fingerprint: Callable[[Object], object],
    add: Callable[[Object], None],
) -> None:
    """Call `add(service)` for every service a pod's change concerns: those that select it now,
    and those that selected it before its labels changed."""

    def changed(old: Object | None, new: Object | None) -> None:
        seen = [obj for obj in (old, new) if obj is not None]
        namespace = seen[0]["metadata"]["namespace"]
        if not services.holds(namespace):
            return
        labels = [obj["metadata"].get("labels") for obj in seen]
        if len(labels) == 2 and labels[0] == labels[1]:
            labels.pop()
        found = [
            service
            for service in services.list(namespace)
            if any(affects(service, item) for item in labels)
        ]
        if not found:
            return
        if old is not None and new is not None and fingerprint(old) == fingerprint(new):
            return
        for service in found:
            add(service)

    pods.on_change(changed)
