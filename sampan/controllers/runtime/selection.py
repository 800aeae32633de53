"""Label selectors of workloads (metav1.LabelSelector) against labels."""

from __future__ import annotations

from collections.abc import Mapping

from sampan.api.errors import Object
from sampan.api.selectors import from_label_selector


def selects(selector: Object | None, labels: Mapping[str, str] | None) -> bool:
    """Does the selector match? None matches nothing, {} everything."""
    return from_label_selector(selector).matches(labels or {})
