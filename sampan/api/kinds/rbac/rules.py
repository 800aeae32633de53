"""What roles and bindings share: policy rules, subjects, and their rows."""

from __future__ import annotations

from typing import Any

from ... import fields
from ...descriptor import Column
from ...errors import Cause, Object
from ...names import path_problems
from ..formats import check_subdomain
from ..printing import AGE, NAME, age, name

GROUP = "rbac.authorization.k8s.io"
SUBJECT_KINDS = ("ServiceAccount", "User", "Group")
BINDING_COLUMNS = (
    NAME,
    Column("Role", "string", "The role that is granted."),
    AGE,
    Column("Users", "string", "Users it is granted to.", "", 1),
    Column("Groups", "string", "Groups it is granted to.", "", 1),
    Column("ServiceAccounts", "string", "Service accounts it is granted to.", "", 1),
)


def check_rule(rule: Object, path: str, namespaced: bool, out: list[Cause]) -> None:
    if not rule.get("verbs"):
        why = "verbs must contain at least one value"
        out.append(fields.required(f"{path}.verbs", why))
    urls = rule.get("nonResourceURLs")
    if urls:
        where = f"{path}.nonResourceURLs"
        if namespaced:
            why = "namespaced rules cannot apply to non-resource URLs"
            out.append(fields.invalid(where, urls, why))
        if rule.get("apiGroups") or rule.get("resources") or rule.get("resourceNames"):
            why = "rules cannot apply to both regular resources and non-resource URLs"
            out.append(fields.invalid(where, urls, why))
        return
    if not rule.get("apiGroups"):
        why = "resource rules must supply at least one api group"
        out.append(fields.required(f"{path}.apiGroups", why))
    if not rule.get("resources"):
        why = "resource rules must supply at least one resource"
        out.append(fields.required(f"{path}.resources", why))


def default_binding(obj: Object) -> None:
    role = obj.get("roleRef")
    if role is not None and not role.get("apiGroup"):
        role["apiGroup"] = GROUP
    for subject in obj.get("subjects") or ():
        if subject.get("kind") in ("User", "Group") and not subject.get("apiGroup"):
            subject["apiGroup"] = GROUP


def check_binding(
    obj: Object, old: Object | None, kinds: tuple[str, ...], namespaced: bool
) -> list[Cause]:
    out: list[Cause] = []
    role = obj.get("roleRef") or {}
    if role.get("apiGroup") != GROUP:
        out.append(fields.not_supported("roleRef.apiGroup", role.get("apiGroup") or "", (GROUP,)))
    if role.get("kind") not in kinds:
        out.append(fields.not_supported("roleRef.kind", role.get("kind") or "", kinds))
    if not role.get("name"):
        out.append(fields.required("roleRef.name"))
    else:
        for why in path_problems(role["name"]):
            out.append(fields.invalid("roleRef.name", role["name"], why))
    for position, subject in enumerate(obj.get("subjects") or ()):
        _check_subject(subject, f"subjects[{position}]", namespaced, out)
    if old is not None and role != (old.get("roleRef") or {}):
        out.append(fields.invalid("roleRef", role, "cannot change roleRef"))
    return out


def _check_subject(subject: Object, path: str, namespaced: bool, out: list[Cause]) -> None:
    own_name, kind = subject.get("name") or "", subject.get("kind") or ""
    group = subject.get("apiGroup") or ""
    if not own_name:
        out.append(fields.required(f"{path}.name"))
    if kind == "ServiceAccount":
        if own_name:
            check_subdomain(own_name, f"{path}.name", out)
        if group:
            out.append(fields.not_supported(f"{path}.apiGroup", group, ("",)))
        if not namespaced and not subject.get("namespace"):
            out.append(fields.required(f"{path}.namespace"))
    elif kind in ("User", "Group"):
        if not own_name:
            why = f"{kind.lower()} name cannot be empty"
            out.append(fields.invalid(f"{path}.name", own_name, why))
        if group != GROUP:
            out.append(fields.not_supported(f"{path}.apiGroup", group, (GROUP,)))
    else:
        out.append(fields.not_supported(f"{path}.kind", kind, SUBJECT_KINDS))


def binding_cells(obj: Object, now_s: float) -> list[Any]:
    role = obj.get("roleRef") or {}
    found: dict[str, list[str]] = {"User": [], "Group": [], "ServiceAccount": []}
    for subject in obj.get("subjects") or ():
        kind, text = subject.get("kind") or "", subject.get("name") or ""
        if kind == "ServiceAccount" and subject.get("namespace"):
            text = f"{subject['namespace']}/{text}"
        found.setdefault(kind, []).append(text)
    return [
        name(obj),
        f"{role.get('kind', '')}/{role.get('name', '')}",
        age(obj, now_s),
        ", ".join(found["User"]),
        ", ".join(found["Group"]),
        ", ".join(found["ServiceAccount"]),
    ]
