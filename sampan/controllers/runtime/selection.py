"""Label selectors of workloads (metav1.LabelSelector) against labels."""

from __future__ import annotations

from collections.abc import Mapping

from sampan.api.errors import Object
from sampan.api.selectors import from_label_selector


def selects(selector: Object | None, labels: Mapping[str, str] | None) -> bool:
    """Does the selector match? None matches nothing, {} everything."""
    return from_label_selector(selector).matches(labels or {})


def selector_text(selector: Object | None) -> str:
    """A label selector as Go prints it, in the events and conditions that clients know."""
    if selector is None:
        return "nil"
    labels = sorted((selector.get("matchLabels") or {}).items())
    pairs = "".join(f"{key}: {value}," for key, value in labels)
    rows = "".join(
        f"LabelSelectorRequirement{{Key:{item['key']},Operator:{item['operator']},"
        f"Values:[{' '.join(item.get('values') or ())}],}},"
        for item in selector.get("matchExpressions") or ()
    )
    return (
        f"&LabelSelector{{MatchLabels:map[string]string{{{pairs}}},"
        f"MatchExpressions:[]LabelSelectorRequirement{{{rows}}},}}"
    )
