"""Nobody grants what they do not hold (RBAC's privilege escalation prevention).

A role may be written by those who hold all its rules, or the verb `escalate`; a binding by those
who hold all the rules of its role, or the verb `bind` on it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sampan.api.errors import Object, StatusError, forbidden, not_found
from sampan.api.fields import quote
from sampan.api.principals import MASTERS

from ..exchange import User
from .authorizer import GROUP, Authorizer
from .grants import RoleKey
from .rules import Rule, compile_rules, describe_rule, quote_list, uncovered

FULL_AUTHORITY = compile_rules(
    [
        {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]},
        {"verbs": ["*"], "nonResourceURLs": ["*"]},
    ]
)


def role_error(
    authorizer: Authorizer, user: User, obj: Object, old: Object | None = None
) -> StatusError | None:
    """Why `user` may not write this role or cluster role; None when they may."""
    meta = obj["metadata"]
    namespace, name = meta.get("namespace", ""), meta.get("name", "")
    plural = "roles" if namespace else "clusterroles"
    if MASTERS in user.groups:
        return None
    target = (GROUP, plural, "")
    if authorizer.allows(user, "escalate", target, namespace, name)[0]:
        return None
    # An aggregated role gathers whatever gets its labels, so it takes the right to everything.
    aggregates = obj.get("aggregationRule") or (old or {}).get("aggregationRule")
    if aggregates and uncovered(authorizer.rules(user, ""), FULL_AUTHORITY):
        why = "must have cluster-admin privileges to use the aggregationRule"
        return forbidden(GROUP, plural, name, why)
    rules: list[Object] = list(obj.get("rules") or ())
    why = _missing(authorizer, user, namespace, compile_rules(rules))
    return forbidden(GROUP, plural, name, why) if why else None


def binding_error(
    authorizer: Authorizer, user: User, obj: Object, old: Object | None = None
) -> StatusError | None:
    """Why `user` may not write this binding; NotFound when its role does not exist."""
    meta, ref = obj["metadata"], obj["roleRef"]
    namespace, name = meta.get("namespace", ""), meta.get("name", "")
    plural = "rolebindings" if namespace else "clusterrolebindings"
    if MASTERS in user.groups:
        return None
    of_namespace = ref["kind"] == "Role"
    role_plural = "roles" if of_namespace else "clusterroles"
    target = (GROUP, role_plural, "")
    if authorizer.allows(user, "bind", target, namespace, ref["name"])[0]:
        return None
    rules = authorizer.grants.rules_of(RoleKey(namespace if of_namespace else "", ref["name"]))
    if rules is None:
        return not_found(GROUP, role_plural, ref["name"])
    why = _missing(authorizer, user, namespace, rules)
    return forbidden(GROUP, plural, name, why) if why else None


def _missing(authorizer: Authorizer, user: User, namespace: str, wanted: Iterable[Rule]) -> str:
    held: Sequence[Rule] = authorizer.rules(user, namespace)
    missing = uncovered(held, wanted)
    if not missing:
        return ""
    rules = "\n".join(sorted({describe_rule(rule) for rule in missing}))
    return (
        f"user {quote(user.name)} (groups={quote_list(user.groups)}) is attempting to grant"
        f" RBAC permissions not currently held:\n{rules}"
    )
