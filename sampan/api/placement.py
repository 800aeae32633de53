"""Does a pod belong on a node: by its selector and affinity, by its tolerations? Pure.

component-helpers scheduling/corev1/nodeaffinity, as controllers and kubelets use it, and the
scheduler where it does not ask all nodes at once, in columns of its own.
"""

from __future__ import annotations

from collections.abc import Mapping

from .errors import Object

REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
NAME_FIELD = "metadata.name"


def selects(spec: Object, name: str, labels: Mapping[str, str]) -> bool:
    """Does a node match the selector and the required terms (any of them) of a pod's spec?"""
    for key, value in (spec.get("nodeSelector") or {}).items():
        if labels.get(key) != value:
            return False
    affinity = (spec.get("affinity") or {}).get("nodeAffinity") or {}
    return any_term_matches(affinity.get(REQUIRED), name, labels)


def any_term_matches(selector: Object | None, name: str, labels: Mapping[str, str]) -> bool:
    """Does a node match one of a NodeSelector's terms? None matches all nodes."""
    if selector is None:
        return True
    terms = selector.get("nodeSelectorTerms") or ()
    return any(term_matches(term, name, labels) for term in terms)


def term_matches(term: Object, name: str, labels: Mapping[str, str]) -> bool:
    """All expressions and fields of a term; an empty term matches nothing."""
    expressions = term.get("matchExpressions") or ()
    fields = term.get("matchFields") or ()
    if not expressions and not fields:
        return False
    return all(_matches(item, labels) for item in expressions) and all(
        item.get("key") == NAME_FIELD and _matches(item, {NAME_FIELD: name}) for item in fields
    )


def _matches(expression: Object, labels: Mapping[str, str]) -> bool:
    found, values = labels.get(expression["key"]), expression.get("values") or []
    match expression["operator"]:
        case "In":
            return found is not None and found in values
        case "NotIn":
            return found is None or found not in values
        case "Exists":
            return found is not None
        case "DoesNotExist":
            return found is None
        case operator:
            try:
                number, bound = int(found or ""), int(values[0])
            except (ValueError, IndexError):
                return False
            return number > bound if operator == "Gt" else number < bound


def tolerates(toleration: Mapping[str, object], taint: Object) -> bool:
    """core/v1 Toleration.ToleratesTaint: an empty effect, key or value of Exists matches all."""
    if toleration.get("effect") and toleration.get("effect") != taint.get("effect"):
        return False
    if toleration.get("key") and toleration.get("key") != taint.get("key"):
        return False
    operator = toleration.get("operator") or "Equal"
    if operator == "Exists":
        return True
    if not toleration.get("key"):
        return False
    return operator == "Equal" and (toleration.get("value") or "") == (taint.get("value") or "")
