"""Which requests a webhook is about (RuleWithOperations), decided once per kind of request."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from sampan.api.descriptor import Descriptor
from sampan.api.errors import Object

GROUP = "admissionregistration.k8s.io"
EXEMPT = frozenset(
    {"mutatingwebhookconfigurations", "validatingwebhookconfigurations",
     "validatingadmissionpolicies", "validatingadmissionpolicybindings",
     "mutatingadmissionpolicies", "mutatingadmissionpolicybindings"}
)  # fmt: skip
"""What configures admission is never subject to it: one could not undo a mistake otherwise."""


class Asked(NamedTuple):
    """What a rule looks at of a request."""

    resource: Descriptor
    subresource: str
    operation: str
    namespaced: bool
    """Is it about something in a namespace? A namespace itself is not."""


class Rule(NamedTuple):
    """One rule, ready to match. Empty sets stand for everything."""

    operations: frozenset[str]
    groups: frozenset[str]
    versions: frozenset[str]
    resources: tuple[tuple[str, str], ...]
    """(resource, subresource), each "*" for any; a subresource of "" is the resource itself."""
    scope: str

    def matches(self, asked: Asked, resource: Descriptor) -> bool:
        """Is a request for `resource` (what was asked for, or its equal) meant?"""
        if self.operations and asked.operation not in self.operations:
            return False
        if self.scope != "*" and (self.scope == "Namespaced") != asked.namespaced:
            return False
        if self.groups and resource.group not in self.groups:
            return False
        if self.versions and resource.version not in self.versions:
            return False
        return any(
            name in ("*", resource.plural) and part in ("*", asked.subresource)
            for name, part in self.resources
        )


def rule_of(raw: Object) -> Rule:
    pairs = (item.partition("/") for item in raw.get("resources") or ())
    return Rule(
        _set(raw.get("operations")),
        _set(raw.get("apiGroups")),
        _set(raw.get("apiVersions")),
        tuple((name, part) for name, _, part in pairs),
        raw.get("scope") or "*",
    )


def _set(values: Iterable[str] | None) -> frozenset[str]:
    """The values, or the empty set for "*"; no values at all match nothing."""
    found = frozenset(values or ("<none>",))
    return frozenset() if "*" in found else found


def is_exempt(resource: Descriptor) -> bool:
    return resource.group == GROUP and resource.plural in EXEMPT


def target_of(
    rules: Iterable[Rule], asked: Asked, equals: Iterable[Descriptor], *, exact: bool
) -> Descriptor | None:
    """The resource a request is sent to a webhook as; None when no rule is about it.

    `equals` are the other forms the same objects are served in (matchPolicy Equivalent)."""
    rules = tuple(rules)
    if any(rule.matches(asked, asked.resource) for rule in rules):
        return asked.resource
    if exact:
        return None
    others = tuple(equals)
    return next(
        (item for rule in rules for item in others if rule.matches(asked, item)),
        None,
    )
