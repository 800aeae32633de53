"""Objects by their labels, through an index."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from sampan.api.errors import Object
from sampan.client.informer import Informer

BY_LABEL = "namespace and label"


def add_label_index(informer: Informer) -> None:
    """Index objects by namespace and each of their labels."""
    informer.add_index(BY_LABEL, _labels)


def selected(informer: Informer, namespace: str, selector: Mapping[str, str]) -> Iterable[Object]:
    """Objects of the namespace that carry all labels of a non-empty selector."""
    values = [f"{namespace}/{key}={value}" for key, value in selector.items()]
    # The rarest label leaves the fewest to look at.
    found = informer.by_index(
        BY_LABEL, min(values, key=lambda item: informer.count(BY_LABEL, item))
    )
    if len(values) == 1:
        return found
    pairs = selector.items()
    return [obj for obj in found if pairs <= (obj["metadata"].get("labels") or {}).items()]


def _labels(obj: Object) -> Iterable[str]:
    meta = obj["metadata"]
    labels = meta.get("labels")
    if not labels:
        return ()
    namespace = meta.get("namespace", "")
    return [f"{namespace}/{key}={value}" for key, value in labels.items()]
