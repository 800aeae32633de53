"""RBAC rules: what a PolicyRule matches and which rules cover others. Pure.

As upstream's pkg/registry/rbac/validation and component-helpers auth/rbac/validation.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from sampan.api.errors import Object
from sampan.api.fields import quote

ALL = "*"
NOTHING: frozenset[str] = frozenset()


class Rule(NamedTuple):
    """A PolicyRule made ready for matching. `names` empty: any name."""

    verbs: frozenset[str]
    groups: frozenset[str]
    resources: frozenset[str]
    names: frozenset[str]
    urls: tuple[str, ...]
    raw: Object


def compile_rule(raw: Object) -> Rule:
    return Rule(
        frozenset(raw.get("verbs") or ()),
        frozenset(raw.get("apiGroups") or ()),
        frozenset(raw.get("resources") or ()),
        frozenset(raw.get("resourceNames") or ()),
        tuple(raw.get("nonResourceURLs") or ()),
        raw,
    )


def compile_rules(raw: Iterable[Object] | None) -> tuple[Rule, ...]:
    return tuple(map(compile_rule, raw or ()))


def matches_resource(rule: Rule, verb: str, group: str, resource: str, subresource: str) -> bool:
    """Whether the rule is about this verb and resource, whatever the object's name."""
    if verb not in rule.verbs and ALL not in rule.verbs:
        return False
    if group not in rule.groups and ALL not in rule.groups:
        return False
    return _matches_kind(rule.resources, resource, subresource)


def _matches_kind(resources: frozenset[str], resource: str, subresource: str) -> bool:
    if ALL in resources:
        return True
    if not subresource:
        return resource in resources
    return f"{resource}/{subresource}" in resources or f"*/{subresource}" in resources


def matches_path(rule: Rule, verb: str, path: str) -> bool:
    """Whether the rule allows `verb` on a path that is no resource."""
    if verb not in rule.verbs and ALL not in rule.verbs:
        return False
    return any(_matches_url(url, path) for url in rule.urls)


def _matches_url(url: str, path: str) -> bool:
    # Only a trailing star is a wildcard, and it matches any rest (docs: Referring to resources).
    return url == path or (url.endswith("*") and path.startswith(url.rstrip("*")))


def uncovered(held: Sequence[Rule], wanted: Iterable[Rule]) -> list[Object]:
    """The parts of `wanted` that `held` does not grant, as PolicyRules, compacted; [] if none."""
    missing = [
        part
        for rule in wanted
        for part in _parts(rule)
        if not any(_covers(owner, part) for owner in held)
    ]
    return _compact(missing)


def _parts(rule: Rule) -> Iterator[Rule]:
    """A rule as rules of one verb on one thing each, in its own order, which messages show."""
    raw = rule.raw
    verbs = raw.get("verbs") or ()
    for group in raw.get("apiGroups") or ():
        for resource in raw.get("resources") or ():
            for verb in verbs:
                for name in raw.get("resourceNames") or ("",):
                    yield compile_rule(
                        {"apiGroups": [group], "resources": [resource], "verbs": [verb]}
                        | ({"resourceNames": [name]} if name else {})
                    )
    for url in rule.urls:
        for verb in verbs:
            yield compile_rule({"nonResourceURLs": [url], "verbs": [verb]})


def _covers(owner: Rule, part: Rule) -> bool:
    if ALL not in owner.verbs and not part.verbs <= owner.verbs:
        return False
    if part.urls:
        return all(any(_covers_url(url, path) for url in owner.urls) for path in part.urls)
    if ALL not in owner.groups and not part.groups <= owner.groups:
        return False
    if not all(_covers_kind(owner.resources, resource) for resource in part.resources):
        return False
    return not owner.names or (bool(part.names) and part.names <= owner.names)


def _covers_kind(owned: frozenset[str], resource: str) -> bool:
    if ALL in owned or resource in owned:
        return True
    _, slash, subresource = resource.partition("/")
    return bool(slash) and f"*/{subresource}" in owned


def _covers_url(owned: str, wanted: str) -> bool:
    if owned == wanted:
        return True
    return owned.endswith("*") and wanted.startswith(owned.rstrip("*"))


def _compact(parts: Iterable[Rule]) -> list[Object]:
    """Parts on the same thing joined into one rule with all their verbs."""
    joined: dict[tuple[frozenset[str], frozenset[str], frozenset[str]], Object] = {}
    out: list[Object] = []
    for part in parts:
        if part.urls:
            out.append(part.raw)
            continue
        key = (part.groups, part.resources, part.names)
        if key in joined:
            verb = part.raw["verbs"][0]
            if verb not in joined[key]["verbs"]:
                joined[key]["verbs"].append(verb)
        else:
            joined[key] = {**part.raw, "verbs": list(part.raw["verbs"])}
            out.append(joined[key])
    return out


DESCRIBED = (
    ("APIGroups", "apiGroups"),
    ("Resources", "resources"),
    ("NonResourceURLs", "nonResourceURLs"),
    ("ResourceNames", "resourceNames"),
    ("Verbs", "verbs"),
)


def describe_rule(raw: Object) -> str:
    """A rule as upstream prints it in errors: {APIGroups:[""], Resources:["pods"], ...}."""
    parts = [f"{label}:{quote_list(raw[key])}" for label, key in DESCRIBED if raw.get(key)]
    return "{" + ", ".join(parts) + "}"


def quote_list(values: Iterable[str]) -> str:
    """Go's %q of a list of strings."""
    return "[" + " ".join(map(quote, values)) + "]"
