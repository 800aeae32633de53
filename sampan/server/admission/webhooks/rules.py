"""Which requests a webhook is about (RuleWithOperations), decided once per kind of request."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

from sampan.api.descriptor import Descriptor
from sampan.api.errors import Object

from ...exchange import Attributes, Write

if TYPE_CHECKING:
    from ...app import Server

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


def asked_of(attributes: Attributes, operation: str) -> Asked | None:
    target = attributes.resource
    if target is None:
        return None
    # A namespace is cluster-scoped, though its requests carry its own name as the namespace.
    namespaced = bool(attributes.namespace) and target.namespaced
    return Asked(target, attributes.subresource, operation, namespaced)


Found = TypeVar("Found")


class Candidates(Generic[Found]):
    """What may concern a kind of request, found once per kind of request that comes; made anew
    when the resources change, or what is found (`forget`)."""

    def __init__(self, server: Server, find: Callable[[str, Asked], tuple[Found, ...]]) -> None:
        self._server = server
        self._find = find
        self._known: dict[tuple[str, Asked], tuple[Found, ...]] = {}
        self._generation = -1

    def of(self, kind: str, write: Write) -> tuple[Found, ...]:
        asked = asked_of(write.attributes, write.operation)
        if asked is None or not self._server.ready:
            return ()
        if self._generation != self._server.resources.generation:
            self._generation = self._server.resources.generation
            self._known.clear()
        found = self._known.get((kind, asked))
        if found is None:
            found = self._known[kind, asked] = self._find(kind, asked)
        return found

    def forget(self) -> None:
        self._known.clear()


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
