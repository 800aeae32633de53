"""Label selectors of workloads (metav1.LabelSelector) against labels."""

from __future__ import annotations

from collections.abc import Mapping

from sampan.api.errors import Object


def selects(selector: Object | None, labels: Mapping[str, str] | None) -> bool:
    """Does the selector match? None matches nothing, {} everything."""
    if selector is None:
        return False
    have = labels or {}
    for key, value in (selector.get("matchLabels") or {}).items():
        if have.get(key) != value:
            return False
    return all(_holds(item, have) for item in selector.get("matchExpressions") or ())


def _holds(requirement: Object, labels: Mapping[str, str]) -> bool:
    value = labels.get(requirement["key"])
    match requirement["operator"]:
        case "In":
            return value in (requirement.get("values") or ())
        case "NotIn":
            return value not in (requirement.get("values") or ())
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
    return False
