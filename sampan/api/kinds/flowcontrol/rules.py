"""Validation of whose requests a FlowSchema takes, and which (PolicyRulesWithSubjects)."""

from __future__ import annotations

from ... import fields
from ...errors import Cause, Object
from ...names import label_problems
from ..formats import check_label, check_subdomain

SUBJECTS = {"Group": "group", "ServiceAccount": "serviceAccount", "User": "user"}
"""Kinds of subjects, and the field each is told in."""
VERBS = (
    "create", "delete", "deletecollection", "get", "list", "patch", "proxy", "update", "watch",
)  # fmt: skip
ALL = "*"


def check_rules(rule: Object, path: str, out: list[Cause]) -> None:
    if not rule.get("subjects"):
        why = "subjects must contain at least one value"
        out.append(fields.required(f"{path}.subjects", why))
    for position, subject in enumerate(rule.get("subjects") or ()):
        _check_subject(subject, f"{path}.subjects[{position}]", out)
    if not rule.get("resourceRules") and not rule.get("nonResourceRules"):
        why = "at least one of resourceRules and nonResourceRules has to be non-empty"
        out.append(fields.required(path, why))
    for position, item in enumerate(rule.get("resourceRules") or ()):
        _check_resources(item, f"{path}.resourceRules[{position}]", out)
    for position, item in enumerate(rule.get("nonResourceRules") or ()):
        _check_paths(item, f"{path}.nonResourceRules[{position}]", out)


def _check_subject(subject: Object, path: str, out: list[Cause]) -> None:
    kind = subject.get("kind") or ""
    if kind not in SUBJECTS:
        out.append(fields.not_supported(f"{path}.kind", kind, tuple(SUBJECTS)))
        return
    field = SUBJECTS[kind]
    found, where = subject.get(field), f"{path}.{field}"
    if found is None:
        why = f"{field} is required when subject kind is '{kind}'"
        out.append(fields.required(where, why))
    else:
        name = found.get("name") or ""
        if not name:
            out.append(fields.required(f"{where}.name"))
        elif kind == "ServiceAccount" and name != ALL:
            check_subdomain(name, f"{where}.name", out)
        if kind == "ServiceAccount" and not found.get("namespace"):
            why = "must specify namespace for service account"
            out.append(fields.required(f"{where}.namespace", why))
        elif kind == "ServiceAccount":
            check_label(found["namespace"], f"{where}.namespace", out)
    for other in ("ServiceAccount", "User", "Group"):
        if other != kind and subject.get(SUBJECTS[other]) is not None:
            why = f"{SUBJECTS[other]} is forbidden when subject kind is not '{other}'"
            out.append(fields.forbidden(f"{path}.{SUBJECTS[other]}", why))


def _check_verbs(rule: Object, path: str, out: list[Cause]) -> None:
    verbs = rule.get("verbs") or []
    if not verbs:
        out.append(fields.required(path, "verbs must contain at least one value"))
    elif ALL in verbs:
        _check_alone(verbs, "verbs", path, out)
    elif not set(verbs) <= set(VERBS):
        out.append(fields.not_supported(path, verbs, VERBS))


def _check_alone(values: list[str], what: str, path: str, out: list[Cause]) -> None:
    if len(values) > 1 and ALL in values:
        why = f"if '*' is present, must not specify other {what}"
        out.append(fields.invalid(path, values, why))


def _check_resources(rule: Object, path: str, out: list[Cause]) -> None:
    _check_verbs(rule, f"{path}.verbs", out)
    for field, one, many in (
        ("apiGroups", "api group", "api groups"), ("resources", "resource", "resources"),
    ):  # fmt: skip
        if not rule.get(field):
            why = f"resource rules must supply at least one {one}"
            out.append(fields.required(f"{path}.{field}", why))
        else:
            _check_alone(rule[field], many, f"{path}.{field}", out)
    namespaces, where = rule.get("namespaces") or [], f"{path}.namespaces"
    if not namespaces and not rule.get("clusterScope"):
        why = "resource rules that are not cluster scoped must supply at least one namespace"
        out.append(fields.required(where, why))
    elif ALL in namespaces:
        _check_alone(namespaces, "namespaces", where, out)
    else:
        for position, namespace in enumerate(namespaces):
            for why in label_problems(namespace):
                text = f"each member of this list must be '*' or a DNS-1123 label; {why}"
                out.append(fields.invalid(f"{where}[{position}]", namespace, text))


def _check_paths(rule: Object, path: str, out: list[Cause]) -> None:
    _check_verbs(rule, f"{path}.verbs", out)
    urls, where = rule.get("nonResourceURLs") or [], f"{path}.nonResourceURLs"
    if not urls:
        why = "nonResourceURLs must contain at least one value"
        out.append(fields.required(where, why))
    elif ALL in urls:
        _check_alone(urls, "non-resource URLs", where, out)
    else:
        for position, url in enumerate(urls):
            why = _path_problem(url)
            if why:
                out.append(fields.invalid(f"{where}[{position}]", url, why))


def _path_problem(url: str) -> str:
    stars = url.count(ALL)
    for bad, why in (
        (not url, "must not be empty"),
        (not url.startswith("/"), "must start with slash"),
        (" " in url, "must not contain white-space"),
        ("//" in url, "must not contain double slash"),
        (
            stars > 1 or (stars and not url.endswith("/*")),
            "wildcard can only do suffix matching",
        ),
    ):
        if bad:
            return why
    return ""
