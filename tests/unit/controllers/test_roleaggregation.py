"""Which rules an aggregating role gets."""

from __future__ import annotations

from typing import Any

from sampan.controllers.roleaggregation import aggregate
from sampan.server.authz.policy import default_policy

READ = {"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}
WRITE = {"verbs": ["create"], "apiGroups": [""], "resources": ["pods"]}


def role(name: str, labels: dict[str, str], *rules: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, "labels": labels}, "rules": list(rules)}


def aggregating(name: str, *labels: dict[str, str]) -> dict[str, Any]:
    selectors = [{"matchLabels": item} for item in labels]
    found = role(name, labels[0], {"verbs": ["*"]})
    return found | {"aggregationRule": {"clusterRoleSelectors": selectors}}


def test_rules_are_added_up_once_in_the_order_of_selectors_and_names() -> None:
    target = aggregating("all", {"a": "1"}, {"b": "1"})
    others = [
        role("z", {"a": "1"}, READ, WRITE),
        role("y", {"a": "1"}, READ),
        role("x", {"b": "1"}, WRITE, {"verbs": ["list"]}),
        role("w", {"c": "1"}, {"verbs": ["watch"]}),
        target,
    ]
    assert aggregate(target, others) == [READ, WRITE, {"verbs": ["list"]}]
    assert aggregate(target, [target]) == []


def test_the_default_roles_are_as_the_controller_would_make_them() -> None:
    """So that a new cluster is complete at once and the controller finds nothing to do."""
    roles = [item.obj for item in default_policy() if item.obj["kind"] == "ClusterRole"]
    found = [item for item in roles if "aggregationRule" in item]
    assert {item["metadata"]["name"] for item in found} == {"admin", "edit", "view"}
    for item in found:
        assert aggregate(item, roles) == item["rules"]
