"""What a pod asks about other pods: affinity, anti-affinity and topology spread. Pure.

Parsed once per distinct text (`relations_of` keeps the last `PARSED`): pods of one template share
one `Relations`. matchLabelKeys and mismatchLabelKeys are in the selectors already: the API server
merges them when a pod is created (KEP-3633, KEP-3243).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

import orjson
from msgspec import Struct

from sampan.api.errors import Object
from sampan.api.selectors import Selector, from_label_selector

PARSED = 1024
REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"
DO_NOT_SCHEDULE, SCHEDULE_ANYWAY = "DoNotSchedule", "ScheduleAnyway"
REQUIRED_WEIGHT = 0
"""Stands for what a pod's required affinity is worth to the pods it asks for: their profile says
(hardPodAffinityWeight); no weight of a preference is 0."""

Labels = Mapping[str, str]
Namespaces = Mapping[str, Labels]
"""The labels of every namespace, by name."""


class Term(Struct, frozen=True):
    """One affinity term: which pods, and what "near" means."""

    topology_key: str
    namespaces: frozenset[str]
    namespace_selector: Selector | None
    selector: Selector

    def selects(self, namespace: str, labels: Labels, namespaces: Namespaces) -> bool:
        inside = namespace in self.namespaces or (
            self.namespace_selector is not None
            and self.namespace_selector.matches(namespaces.get(namespace) or {})
        )
        return inside and self.selector.matches(labels)


class Held(Struct, frozen=True):
    """A term as those feel it whom it selects. Weight None: its holder keeps them away."""

    term: Term
    weight: int | None


class Constraint(Struct, frozen=True):
    """One topology spread constraint."""

    topology_key: str
    max_skew: int
    selector: Selector
    min_domains: int = 1
    honor_affinity: bool = True
    honor_taints: bool = False


class Relations(Struct, frozen=True):
    """All of one pod."""

    affinity: tuple[Term, ...] = ()
    anti: tuple[Term, ...] = ()
    preferred: tuple[tuple[int, Term], ...] = ()
    """(weight, term); preferred anti-affinity weighs below zero."""
    hard: tuple[Constraint, ...] = ()
    soft: tuple[Constraint, ...] = ()
    held: tuple[Held, ...] = ()


NONE = Relations()


def relations_of(pod: Object) -> Relations:
    """Read spec.affinity.podAffinity, .podAntiAffinity and spec.topologySpreadConstraints."""
    spec = pod["spec"]
    affinity = spec.get("affinity") or {}
    near, far = affinity.get("podAffinity"), affinity.get("podAntiAffinity")
    spread = spec.get("topologySpreadConstraints")
    if not near and not far and not spread:
        return NONE
    namespace = pod["metadata"].get("namespace", "")
    return _parse(orjson.dumps([namespace, near, far, spread], option=orjson.OPT_SORT_KEYS))


@lru_cache(maxsize=PARSED)
def _parse(text: bytes) -> Relations:
    namespace, near, far, spread = orjson.loads(text)
    near, far = near or {}, far or {}
    affinity = _terms(near.get(REQUIRED), namespace)
    anti = _terms(far.get(REQUIRED), namespace)
    preferred = _weighted(near, namespace, 1) + _weighted(far, namespace, -1)
    return Relations(
        affinity=affinity,
        anti=anti,
        preferred=preferred,
        hard=constraints_in(spread or (), DO_NOT_SCHEDULE),
        soft=constraints_in(spread or (), SCHEDULE_ANYWAY),
        held=(
            *(Held(term, None) for term in anti),
            *(Held(term, REQUIRED_WEIGHT) for term in affinity),
            *(Held(term, weight) for weight, term in preferred),
        ),
    )


def _terms(items: Sequence[Object] | None, namespace: str) -> tuple[Term, ...]:
    return tuple(_term(item, namespace) for item in items or ())


def _weighted(rules: Object, namespace: str, sign: int) -> tuple[tuple[int, Term], ...]:
    return tuple(
        (sign * item["weight"], _term(item["podAffinityTerm"], namespace))
        for item in rules.get(PREFERRED) or ()
    )


def _term(item: Object, namespace: str) -> Term:
    names = item.get("namespaces") or ()
    selector = item.get("namespaceSelector")
    if not names and selector is None:
        names = (namespace,)
    return Term(
        item["topologyKey"],
        frozenset(names),
        None if selector is None else from_label_selector(selector),
        from_label_selector(item.get("labelSelector")),
    )


def constraints_in(items: Sequence[Object], action: str) -> tuple[Constraint, ...]:
    """Those of the list whose whenUnsatisfiable is the action."""
    return tuple(
        Constraint(
            item["topologyKey"],
            item["maxSkew"],
            from_label_selector(item.get("labelSelector")),
            item.get("minDomains") or 1,
            (item.get("nodeAffinityPolicy") or "Honor") == "Honor",
            item.get("nodeTaintsPolicy") == "Honor",
        )
        for item in items
        if (item.get("whenUnsatisfiable") or DO_NOT_SCHEDULE) == action
    )
