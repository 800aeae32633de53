"""The default roles and bindings as objects, and what to change where a cluster lacks them. Pure.

As upstream's rbac reconciliation: what was added by hand stays, what is missing comes back, unless
the object's autoupdate annotation says "false".
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from sampan.api.descriptor import Descriptor
from sampan.api.errors import Object
from sampan.api.resources import resource

from .controller_roles import CONTROLLER_ROLES
from .roles import (
    AGGREGATED,
    CLUSTER_ROLE_BINDINGS,
    CLUSTER_ROLES,
    NAMESPACE_ROLE_BINDINGS,
    NAMESPACE_ROLES,
    RuleRow,
)
from .rules import Rule, compile_rules, uncovered

GROUP = "rbac.authorization.k8s.io"
API_VERSION = f"{GROUP}/v1"
AUTOUPDATE = "rbac.authorization.kubernetes.io/autoupdate"
LABELS = {"kubernetes.io/bootstrapping": "rbac-defaults"}
AGGREGATE_TO = "rbac.authorization.k8s.io/aggregate-to-"
CONTROLLER = "system:controller:"


class Default(NamedTuple):
    """An object every cluster has."""

    resource: Descriptor
    obj: Object

    @property
    def key(self) -> tuple[str, str]:
        meta = self.obj["metadata"]
        return meta.get("namespace", ""), meta["name"]


def default_policy() -> Iterator[Default]:
    """All default roles and bindings; roles come before the bindings that name them."""
    kinds = {
        plural: resource(plural, GROUP)
        for plural in ("clusterroles", "clusterrolebindings", "roles", "rolebindings")
    }
    for obj in _cluster_roles():
        yield Default(kinds["clusterroles"], obj)
    for (namespace, name), rows in NAMESPACE_ROLES.items():
        yield Default(kinds["roles"], _role("Role", name, _rules(rows), namespace=namespace))
    for obj in _cluster_role_bindings():
        yield Default(kinds["clusterrolebindings"], obj)
    for (namespace, name), (role, subjects) in NAMESPACE_ROLE_BINDINGS.items():
        items = [item for kind, words in subjects for item in _subjects(kind, words)]
        yield Default(kinds["rolebindings"], _binding(name, "Role", role, items, namespace))


def missing_parts(stored: Object, wanted: Object) -> Object | None:
    """`stored` with what it lacks of `wanted`, as a new object; None when it lacks nothing."""
    meta, want = stored["metadata"], wanted["metadata"]
    annotations = meta.get("annotations") or {}
    if annotations.get(AUTOUPDATE) == "false":
        return None
    labels = meta.get("labels") or {}
    changed: Object = {}
    have = stored.get("rules") or []
    # The rules of aggregated roles are their controller's. At most starts, nothing has changed.
    if "aggregationRule" not in wanted and have != wanted.get("rules"):
        held = compile_rules(have)
        lacking = [
            rule for rule in wanted.get("rules") or () if uncovered(held, compile_rules([rule]))
        ]
        if lacking:
            changed["rules"] = [*have, *lacking]
    have = stored.get("subjects") or []
    lacking = [item for item in wanted.get("subjects") or () if item not in have]
    if lacking:
        changed["subjects"] = [*have, *lacking]
    if "aggregationRule" in wanted and wanted["aggregationRule"] != stored.get("aggregationRule"):
        changed["aggregationRule"] = wanted["aggregationRule"]
    lacks_meta = not (want["labels"].items() <= labels.items() and AUTOUPDATE in annotations)
    if not changed and not lacks_meta:
        return None
    merged = {
        **meta,
        "labels": {**labels, **want["labels"]},
        "annotations": {**want["annotations"], **annotations},
    }
    return {**stored, **changed, "metadata": merged}


def leads_elsewhere(stored: Object, wanted: Object) -> bool:
    """Is a binding to another role? It cannot be changed: it has to be made anew."""
    annotations = stored["metadata"].get("annotations") or {}
    return stored.get("roleRef") != wanted.get("roleRef") and annotations.get(AUTOUPDATE) != "false"


def _cluster_roles() -> Iterator[Object]:
    rules: dict[str, list[Object]] = {}
    for name, rows in CLUSTER_ROLES.items():
        rules[name] = _rules(rows)
        yield _role("ClusterRole", name, rules[name], labels=_aggregation_labels(name))
    for name in ("view", "edit", "admin"):
        rules[name] = [rule for part in AGGREGATED[name] for rule in rules[part]]
        role = _role("ClusterRole", name, rules[name], labels=_aggregation_labels(name))
        selector = {"matchLabels": {AGGREGATE_TO + name: "true"}}
        yield {**role, "aggregationRule": {"clusterRoleSelectors": [selector]}}
    for name, rows in CONTROLLER_ROLES.items():
        yield _role("ClusterRole", CONTROLLER + name, _rules(rows))


def _cluster_role_bindings() -> Iterator[Object]:
    for name, (kind, words) in CLUSTER_ROLE_BINDINGS.items():
        yield _binding(name, "ClusterRole", name, list(_subjects(kind, words)))
    for name in CONTROLLER_ROLES:
        subjects = list(_subjects("serviceaccount", name))
        yield _binding(CONTROLLER + name, "ClusterRole", CONTROLLER + name, subjects)


def _aggregation_labels(name: str) -> Mapping[str, str]:
    return {AGGREGATE_TO + target: "true" for target, parts in AGGREGATED.items() if name in parts}


def _rules(rows: Iterable[RuleRow]) -> list[Object]:
    out: list[Object] = []
    for row in rows:
        verbs = row[0].split()
        if len(row) == 2:
            out.append({"verbs": verbs, "nonResourceURLs": row[1].split()})
            continue
        groups = ["" if word == "core" else word for word in row[1].split()]
        rule: Object = {"verbs": verbs, "apiGroups": groups, "resources": row[2].split()}
        if len(row) == 4:
            rule["resourceNames"] = row[3].split()
        out.append(rule)
    return out


def compiled(rows: Iterable[RuleRow]) -> tuple[Rule, ...]:
    """Rows as rules ready to match."""
    return compile_rules(_rules(rows))


def _subjects(kind: str, words: str) -> Iterator[Object]:
    for name in words.split():
        if kind == "serviceaccount":
            yield {"kind": "ServiceAccount", "name": name, "namespace": "kube-system"}
        else:
            yield {"kind": kind.capitalize(), "apiGroup": GROUP, "name": name}


def _metadata(name: str, namespace: str, labels: Mapping[str, str]) -> Object:
    meta: Object = {"name": name}
    if namespace:
        meta["namespace"] = namespace
    meta["labels"] = {**LABELS, **labels}
    meta["annotations"] = {AUTOUPDATE: "true"}
    return meta


def _role(
    kind: str,
    name: str,
    rules: list[Object],
    *,
    namespace: str = "",
    labels: Mapping[str, str] | None = None,
) -> Object:
    return {
        "kind": kind,
        "apiVersion": API_VERSION,
        "metadata": _metadata(name, namespace, labels or {}),
        "rules": rules,
    }


def _binding(
    name: str, role_kind: str, role: str, subjects: list[Object], namespace: str = ""
) -> Object:
    return {
        "kind": "RoleBinding" if namespace else "ClusterRoleBinding",
        "apiVersion": API_VERSION,
        "metadata": _metadata(name, namespace, {}),
        "subjects": subjects,
        "roleRef": {"apiGroup": GROUP, "kind": role_kind, "name": role},
    }
