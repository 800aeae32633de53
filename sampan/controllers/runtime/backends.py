"""Pods and services that belong together, both ways, through indexes."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from sampan.api.errors import Object
from sampan.client.informer import Informer

BY_LABEL = "namespace and label"


def add_label_index(informer: Informer) -> None:
    """Index objects by namespace and each of their labels."""
    informer.add_index(BY_LABEL, _labels)


def selected(informer: Informer, namespace: str, selector: dict[str, str]) -> Iterable[Object]:
    """Objects of the namespace that carry all labels of a non-empty selector."""
    pairs = selector.items()
    key, value = next(iter(pairs))
    found = informer.by_index(BY_LABEL, f"{namespace}/{key}={value}")
    if len(pairs) == 1:
        return found
    return [obj for obj in found if pairs <= (obj["metadata"].get("labels") or {}).items()]


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
        if old is not None and new is not None and fingerprint(old) == fingerprint(new):
            return
        seen = [obj for obj in (old, new) if obj is not None]
        labels = [obj["metadata"].get("labels") for obj in seen]
        if len(labels) == 2 and labels[0] == labels[1]:
            labels.pop()
        for service in services.list(seen[0]["metadata"]["namespace"]):
            if any(affects(service, item) for item in labels):
                add(service)

    pods.on_change(changed)


def _labels(obj: Object) -> Iterable[str]:
    meta = obj["metadata"]
    namespace = meta.get("namespace", "")
    labels = meta.get("labels") or {}
    return [f"{namespace}/{key}={value}" for key, value in labels.items()]
