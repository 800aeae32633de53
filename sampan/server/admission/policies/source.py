"""The policies and bindings there are, and which a kind of request may concern.

Memory: a policy and its compiled expressions (made at its first use), its bindings, and one entry
per kind of request seen while there are policies; all go when a policy, a binding or the resources
change.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from msgspec import Struct

from sampan.api.descriptor import Descriptor
from sampan.api.errors import Object
from sampan.api.resources import resource
from sampan.api.selectors import Selector, from_label_selector

from ...exchange import Write
from ..webhooks.rules import GROUP, Asked, Candidates, Rule, is_exempt, rule_of, target_of

if TYPE_CHECKING:
    from ...app import Server
    from .programs import Programs

KINDS = {
    "validatingadmissionpolicies": "validate", "mutatingadmissionpolicies": "mutate",
    "validatingadmissionpolicybindings": "validate", "mutatingadmissionpolicybindings": "mutate",
}  # fmt: skip
UNREVIEWED = frozenset(
    {("authentication.k8s.io", "tokenreviews"), ("authentication.k8s.io", "selfsubjectreviews"),
     ("authorization.k8s.io", "localsubjectaccessreviews"),
     ("authorization.k8s.io", "selfsubjectaccessreviews"),
     ("authorization.k8s.io", "selfsubjectrulesreviews"),
     ("authorization.k8s.io", "subjectaccessreviews")}
)  # fmt: skip
"""Questions, not objects: no policy is asked about them, as upstream."""


class NamedRule(NamedTuple):
    """A rule that may be about certain names only."""

    rule: Rule
    names: frozenset[str]


class Match(Struct):
    """matchConstraints or matchResources, ready to match."""

    rules: tuple[NamedRule, ...]
    excluded: tuple[NamedRule, ...]
    exact: bool
    namespaces: Selector
    objects: Selector

    def target(self, asked: Asked, equals: Iterable[Descriptor], name: str) -> Descriptor | None:
        """The form the request is seen in; None when this is not about it. No rules at all match
        everything (bindings)."""
        excluded = [item.rule for item in self.excluded if not item.names or name in item.names]
        if excluded and target_of(excluded, asked, equals, exact=self.exact) is not None:
            return None
        if not self.rules:
            return asked.resource
        rules = [item.rule for item in self.rules if not item.names or name in item.names]
        return target_of(rules, asked, equals, exact=self.exact)


class Binding(Struct):
    """One binding of a policy."""

    obj: Object
    match: Match | None

    @property
    def name(self) -> str:
        return str(self.obj["metadata"]["name"])

    @property
    def spec(self) -> Object:
        found: Object = self.obj["spec"]
        return found


class Policy(Struct):
    """One policy with its bindings, in the order of their names."""

    obj: Object
    match: Match
    bindings: tuple[Binding, ...]
    observe: Callable[[float], None]
    """Told the seconds of each compilation."""
    _programs: Any = None

    @property
    def name(self) -> str:
        return str(self.obj["metadata"]["name"])

    @property
    def spec(self) -> Object:
        found: Object = self.obj["spec"]
        return found

    @property
    def fails(self) -> bool:
        """failurePolicy Fail: what cannot be evaluated denies."""
        return self.spec.get("failurePolicy") != "Ignore"

    @property
    def programs(self) -> Programs:
        """The compiled expressions, made when first asked for."""
        if self._programs is None:
            from .programs import programs_of

            self._programs = programs_of(self.spec, self.observe)
        found: Programs = self._programs
        return found


class Candidate(NamedTuple):
    """A policy that may be about a kind of request. Names and selectors are yet to be looked at."""

    policy: Policy
    asked: Asked
    equals: tuple[Descriptor, ...]


class Policies:
    """Every policy of one server, followed by events."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._objects: dict[str, dict[str, Object]] = {plural: {} for plural in KINDS}
        self._policies: dict[str, tuple[Policy, ...]] = {"validate": (), "mutate": ()}
        self._candidates = Candidates(server, self._find)

    def start(self) -> None:
        for plural in KINDS:
            self._server.observe(resource(plural, GROUP), self._observer(plural))

    def any(self, kind: str) -> bool:
        """Is a policy of a kind ("validate", "mutate") bound?"""
        return bool(self._policies[kind])

    def candidates(self, kind: str, write: Write) -> tuple[Candidate, ...]:
        """Policies whose rules may be about a write, in the order of their names."""
        return self._candidates.of(kind, write)

    def _find(self, kind: str, asked: Asked) -> tuple[Candidate, ...]:
        target = asked.resource
        if is_exempt(target) or (target.group, target.plural) in UNREVIEWED:
            return ()
        equals = tuple(
            item
            for item in self._server.resources
            if item.storage == target.storage
            and (item.group, item.version) != (target.group, target.version)
            and (not asked.subresource or asked.subresource in item.subresources)
        )
        return tuple(
            Candidate(policy, asked, equals)
            for policy in self._policies[kind]
            if target_of(
                [item.rule for item in policy.match.rules], asked, equals, exact=policy.match.exact
            )
        )

    def _observer(self, plural: str) -> Any:
        known, kind = self._objects[plural], KINDS[plural]

        def changed(event: str, obj: Object, old: Object | None) -> None:
            name = obj["metadata"]["name"]
            if event == "DELETED":
                known.pop(name, None)
            elif old is not None and old.get("spec") == obj.get("spec"):
                known[name] = obj
                return
            else:
                known[name] = obj
            self._rebuild(kind)

        return changed

    def _rebuild(self, kind: str) -> None:
        prefix = "validating" if kind == "validate" else "mutating"
        bindings: dict[str, list[Binding]] = {}
        raw = self._objects[f"{prefix}admissionpolicybindings"]
        for name in sorted(raw):
            spec = raw[name]["spec"]
            given = spec.get("matchResources")
            binding = Binding(raw[name], None if given is None else match_of(given))
            bindings.setdefault(spec.get("policyName") or "", []).append(binding)
        before = {policy.name: policy for policy in self._policies[kind]}
        policies = self._objects[f"{prefix}admissionpolicies"]
        self._policies[kind] = tuple(
            self._policy(policies[name], tuple(bindings[name]), before.get(name))
            for name in sorted(policies)
            if name in bindings
        )
        self._candidates.forget()
        self._server.admission.forget()

    def _policy(self, obj: Object, bindings: tuple[Binding, ...], before: Policy | None) -> Policy:
        """The policy; what was compiled stays while its spec does."""
        match = match_of(obj["spec"].get("matchConstraints") or {})
        policy = Policy(obj, match, bindings, self._server.admission.metrics.compilations.add)
        if before is not None and before.spec == policy.spec:
            policy._programs = before._programs
        return policy


def match_of(raw: Object) -> Match:
    return Match(
        rules=_rules(raw.get("resourceRules")),
        excluded=_rules(raw.get("excludeResourceRules")),
        exact=raw.get("matchPolicy") == "Exact",
        namespaces=from_label_selector(raw.get("namespaceSelector") or {}),
        objects=from_label_selector(raw.get("objectSelector") or {}),
    )


def _rules(raw: Iterable[Object] | None) -> tuple[NamedRule, ...]:
    return tuple(
        NamedRule(rule_of(item), frozenset(item.get("resourceNames") or ())) for item in raw or ()
    )
