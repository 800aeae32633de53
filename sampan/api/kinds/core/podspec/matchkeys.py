"""matchLabelKeys and mismatchLabelKeys: the values a new pod has for these labels are written into
its selectors at creation (KEP-3633, KEP-3243), so that the scheduler has only selectors to read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ....errors import Object
from .scheduling import PREFERRED_TERMS, REQUIRED_TERMS


def merge_label_keys(spec: Object, labels: Mapping[str, str]) -> None:
    """Extend the selectors of `spec`, in place. For a pod's creation only."""
    for constraint in spec.get("topologySpreadConstraints") or ():
        _extend(constraint, "matchLabelKeys", "In", labels)
    affinity = spec.get("affinity")
    for term in _terms(affinity) if affinity else ():
        _extend(term, "matchLabelKeys", "In", labels)
        _extend(term, "mismatchLabelKeys", "NotIn", labels)


def _terms(affinity: Object) -> Iterator[Object]:
    for name in ("podAffinity", "podAntiAffinity"):
        rules = affinity.get(name) or {}
        yield from rules.get(REQUIRED_TERMS) or ()
        for item in rules.get(PREFERRED_TERMS) or ():
            if item.get("podAffinityTerm"):
                yield item["podAffinityTerm"]


def _extend(owner: Object, field: str, operator: str, labels: Mapping[str, str]) -> None:
    selector = owner.get("labelSelector")
    if selector is None:
        return
    for key in owner.get(field) or ():
        if key in labels:
            expression = {"key": key, "operator": operator, "values": [labels[key]]}
            selector["matchExpressions"] = [*(selector.get("matchExpressions") or ()), expression]
