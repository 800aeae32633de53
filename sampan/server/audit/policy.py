"""What is audited: an audit.k8s.io/v1 Policy, read, checked and matched.

The first rule that matches decides; where none does nothing is written. As upstream's
apiserver/pkg/audit/policy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import IntEnum
from pathlib import Path
from typing import Any

from msgspec import Struct

from sampan.api.names import subdomain_problems

from .. import documents
from ..documents import BadDocument, mapping
from ..exchange import Attributes, User

NAME = "audit-policy.yaml"
API_VERSION, KIND = "audit.k8s.io/v1", "Policy"
STAGES = ("RequestReceived", "ResponseStarted", "ResponseComplete", "Panic")


class Level(IntEnum):
    """How much is written. The wire's names are `NAMES`."""

    NONE = 0
    METADATA = 1
    REQUEST = 2
    REQUEST_RESPONSE = 3


LEVELS = {
    "None": Level.NONE,
    "Metadata": Level.METADATA,
    "Request": Level.REQUEST,
    "RequestResponse": Level.REQUEST_RESPONSE,
}
NAMES = {level: name for name, level in LEVELS.items()}


class Resources(Struct, frozen=True):
    """Resources of one group; empty means all of it."""

    group: str
    resources: Sequence[str]
    names: frozenset[str]

    def matches(self, attributes: Attributes) -> bool:
        target = attributes.resource
        if target is None or self.group != target.group:
            return False
        if not self.resources:
            return True
        if self.names and attributes.name not in self.names:
            return False
        whole = f"{target.plural}/{attributes.subresource}"
        return any(self._matches_one(item, whole, attributes) for item in self.resources)

    @staticmethod
    def _matches_one(item: str, whole: str, attributes: Attributes) -> bool:
        assert attributes.resource is not None
        subresource, plural = attributes.subresource, attributes.resource.plural
        if item in ("*", f"{plural}/*", whole if subresource else plural):
            return True
        return bool(subresource) and item == f"*/{subresource}"


class Rule(Struct, frozen=True):
    level: Level
    users: frozenset[str]
    groups: frozenset[str]
    verbs: frozenset[str]
    resources: Sequence[Resources]
    namespaces: frozenset[str]
    urls: Sequence[str]
    omit_stages: frozenset[str]
    omit_managed_fields: bool

    def matches(self, user: User, attributes: Attributes) -> bool:
        if self.users and user.name not in self.users:
            return False
        if self.groups and not self.groups.intersection(user.groups):
            return False
        if self.verbs and attributes.verb not in self.verbs:
            return False
        if not self.resources and not self.namespaces and not self.urls:
            return True
        if attributes.resource is None:
            return any(_matches_url(url, attributes.path) for url in self.urls)
        if not self.resources and not self.namespaces:
            return False
        if self.namespaces and attributes.namespace not in self.namespaces:
            return False
        return not self.resources or any(item.matches(attributes) for item in self.resources)


class Policy(Struct, frozen=True):
    rules: Sequence[Rule]

    def rule_for(self, user: User, attributes: Attributes) -> Rule | None:
        """The rule that decides, None when nothing is to be written."""
        for rule in self.rules:
            if rule.matches(user, attributes):
                return rule if rule.level is not Level.NONE else None
        return None


def _matches_url(url: str, path: str) -> bool:
    return url in ("*", path) or (url.endswith("*") and path.startswith(url[:-1]))


def read(path: Path) -> Policy | None:
    """The policy in `path`, None if there is no file. Raises BadDocument."""
    return documents.load(path, parse)


TOP = ("metadata", "rules", "omitStages", "omitManagedFields")
FIELDS = (
    "level", "users", "userGroups", "verbs", "resources", "namespaces", "nonResourceURLs",
    "omitStages", "omitManagedFields",
)  # fmt: skip


def parse(raw: Any) -> Policy:
    """A policy from a decoded file. Raises BadDocument."""
    found = documents.versioned(raw, (API_VERSION,), KIND, TOP)
    rules = documents.items(found.get("rules"), "rules")
    if not rules:
        raise BadDocument("rules: a policy has at least one")
    omit = _stages(found, "")
    managed = bool(found.get("omitManagedFields"))
    return Policy([_rule(item, f"rules[{at}]", omit, managed) for at, item in enumerate(rules)])


def _rule(raw: Any, path: str, omit: frozenset[str], managed: bool) -> Rule:
    found = mapping(raw, path, FIELDS)
    level = LEVELS.get(str(found.get("level") or ""))
    if level is None:
        raise BadDocument(f"{path}.level: must be one of {', '.join(LEVELS)}")
    urls = _texts(found, "nonResourceURLs", path)
    resources = [
        _resources(item, f"{path}.resources[{at}]")
        for at, item in enumerate(documents.items(found.get("resources"), f"{path}.resources"))
    ]
    namespaces = frozenset(_texts(found, "namespaces", path))
    if urls and (resources or namespaces):
        raise BadDocument(
            f"{path}.nonResourceURLs: rules cannot apply to both regular resources and"
            " non-resource URLs"
        )
    for url in urls:
        if url != "*" and (not url.startswith("/") or "*" in url[:-1]):
            raise BadDocument(
                f"{path}.nonResourceURLs: {url!r} must be * or begin with / and have a * only at"
                " its end"
            )
    own = found.get("omitManagedFields")
    return Rule(
        level=level,
        users=frozenset(_texts(found, "users", path)),
        groups=frozenset(_texts(found, "userGroups", path)),
        verbs=frozenset(_texts(found, "verbs", path)),
        resources=resources,
        namespaces=namespaces,
        urls=urls,
        omit_stages=omit | _stages(found, path),
        omit_managed_fields=managed if own is None else bool(own),
    )


def _resources(raw: Any, path: str) -> Resources:
    found = mapping(raw, path, ("group", "resources", "resourceNames"))
    resources = _texts(found, "resources", path)
    names = frozenset(_texts(found, "resourceNames", path))
    if names and not resources:
        raise BadDocument(
            f"{path}.resourceNames: using resourceNames requires at least one resource"
        )
    group = str(found.get("group") or "")
    if group and subdomain_problems(group):
        raise BadDocument(f"{path}.group: {group!r} is no name of a group")
    return Resources(group, resources, names)


def _stages(found: Mapping[str, Any], path: str) -> frozenset[str]:
    stages = frozenset(_texts(found, "omitStages", path))
    unknown = stages - set(STAGES)
    if unknown:
        where = documents.at(path, "omitStages")
        raise BadDocument(f"{where}: {sorted(unknown)[0]} is no stage")
    return stages


def _texts(found: Mapping[str, Any], field: str, path: str) -> Sequence[str]:
    return [str(item) for item in documents.items(found.get(field), documents.at(path, field))]
