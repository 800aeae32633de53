"""FlowSchemas, compiled: which one matches a request (apiserver util/flowcontrol/rule.go). Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from sampan.api.errors import Object

from ..exchange import Attributes, User

ALL = "*"
ACCOUNT = "system:serviceaccount:"


class Rule(NamedTuple):
    """One of a schema's rules: subjects by what they are compared with, and what they may ask."""

    users: frozenset[str]
    groups: frozenset[str]
    namespaces: tuple[str, ...]
    """Prefixes of user names: all service accounts of a namespace."""
    resources: tuple[ResourceRule, ...]
    paths: tuple[PathRule, ...]

    def matches(self, attributes: Attributes) -> bool:
        if not self._is_about(attributes.user):
            return False
        if attributes.resource is not None:
            return any(rule.matches(attributes) for rule in self.resources)
        return any(rule.matches(attributes) for rule in self.paths)

    def _is_about(self, user: User) -> bool:
        return (
            user.name in self.users
            or ALL in self.users
            or ALL in self.groups
            or any(group in self.groups for group in user.groups)
            or user.name.startswith(self.namespaces)
        )


class ResourceRule(NamedTuple):
    verbs: frozenset[str]
    groups: frozenset[str]
    resources: frozenset[str]
    cluster: bool
    namespaces: frozenset[str]

    def matches(self, attributes: Attributes) -> bool:
        target = attributes.resource
        assert target is not None
        name = target.plural
        if attributes.subresource:
            name = f"{name}/{attributes.subresource}"
        if not (
            _has(self.verbs, attributes.verb)
            and _has(self.resources, name)
            and _has(self.groups, target.group)
        ):
            return False
        if not attributes.namespace:
            return self.cluster
        return _has(self.namespaces, attributes.namespace)


class PathRule(NamedTuple):
    verbs: frozenset[str]
    urls: tuple[str, ...]

    def matches(self, attributes: Attributes) -> bool:
        if not _has(self.verbs, attributes.verb):
            return False
        path = attributes.path
        return any(
            url in (ALL, path) or path.startswith(f"{url.removesuffix(ALL).rstrip('/')}/")
            for url in self.urls
        )


def _has(values: frozenset[str], value: str) -> bool:
    return value in values or ALL in values


class Schema(NamedTuple):
    """One FlowSchema, ready to match."""

    name: str
    uid: str
    level: str
    precedence: int
    distinguisher: str
    """ByUser, ByNamespace or ""."""
    rules: tuple[Rule, ...]

    def matches(self, attributes: Attributes) -> bool:
        return any(rule.matches(attributes) for rule in self.rules)

    def flow(self, attributes: Attributes) -> str:
        """What tells this schema's flows apart."""
        if self.distinguisher == "ByUser":
            return attributes.user.name
        return attributes.namespace if self.distinguisher == "ByNamespace" else ""


def schema_of(obj: Object) -> Schema:
    spec, metadata = obj["spec"], obj["metadata"]
    return Schema(
        metadata["name"],
        metadata.get("uid") or "",
        (spec.get("priorityLevelConfiguration") or {}).get("name") or "",
        spec.get("matchingPrecedence") or 1000,
        (spec.get("distinguisherMethod") or {}).get("type") or "",
        tuple(map(_rule, spec.get("rules") or ())),
    )


def in_order(objects: Iterable[Object]) -> list[Schema]:
    """All schemas as they are tried: by precedence, then by name."""
    return sorted(map(schema_of, objects), key=lambda item: (item.precedence, item.name))


def _rule(raw: Object) -> Rule:
    subjects = raw.get("subjects") or ()

    def names(kind: str, field: str) -> frozenset[str]:
        found = (item.get(field) or {} for item in subjects if item.get("kind") == kind)
        return frozenset(item.get("name") or "" for item in found)

    users, prefixes = set(names("User", "user")), []
    for item in subjects:
        if item.get("kind") == "ServiceAccount":
            account = item.get("serviceAccount") or {}
            prefix = f"{ACCOUNT}{account.get('namespace') or ''}:"
            if account.get("name") == ALL:
                prefixes.append(prefix)
            else:
                users.add(prefix + (account.get("name") or ""))
    return Rule(
        frozenset(users),
        names("Group", "group"),
        tuple(prefixes),
        tuple(map(_resource_rule, raw.get("resourceRules") or ())),
        tuple(map(_path_rule, raw.get("nonResourceRules") or ())),
    )


def _resource_rule(raw: Object) -> ResourceRule:
    return ResourceRule(
        frozenset(raw.get("verbs") or ()),
        frozenset(raw.get("apiGroups") or ()),
        frozenset(raw.get("resources") or ()),
        bool(raw.get("clusterScope")),
        frozenset(raw.get("namespaces") or ()),
    )


def _path_rule(raw: Object) -> PathRule:
    return PathRule(frozenset(raw.get("verbs") or ()), tuple(raw.get("nonResourceURLs") or ()))
