"""pluginConfig of a profile: what the arguments of each plugin change. Loaded by who gives some.

Each function raises ValueError, in upstream's words where it has some, for what it cannot do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from sampan.api.errors import Object
from sampan.api.times import TimeError, parse_duration_s

from .demand import Demand
from .nodes import NodeState
from .plugins import Filter, Score, node_affinity
from .plugins.node_resources import DEFAULT as CPU_AND_MEMORY
from .plugins.node_resources import Points, least_allocated, most_allocated, requested_to_capacity
from .plugins.node_resources_balanced import balanced_over
from .relations import DO_NOT_SCHEDULE, SCHEDULE_ANYWAY, Constraint, constraints_in

ADDED_AFFINITY = "node(s) didn't match scheduler-enforced node affinity"
FIELDS: Mapping[str, frozenset[str]] = {
    "DefaultPreemption": frozenset({"minCandidateNodesPercentage", "minCandidateNodesAbsolute"}),
    "InterPodAffinity": frozenset({"hardPodAffinityWeight", "ignorePreferredTermsOfExistingPods"}),
    "NodeResourcesFit": frozenset({"ignoredResources", "ignoredResourceGroups", "scoringStrategy"}),
    "NodeResourcesBalancedAllocation": frozenset({"resources"}),
    "PodTopologySpread": frozenset({"defaultConstraints", "defaultingType"}),
    "NodeAffinity": frozenset({"addedAffinity"}),
    "VolumeBinding": frozenset({"bindTimeoutSeconds"}),
    "DynamicResources": frozenset({"filterTimeout", "bindingTimeout"}),
}
TYPE = frozenset({"apiVersion", "kind"})


def arguments_in(listed: Sequence[Object], path: str) -> dict[str, Object]:
    """By plugin. Fields that nobody knows are refused, as upstream's strict decoding does; those
    of the user's own plugins are theirs."""
    found: dict[str, Object] = {}
    for number, item in enumerate(listed):
        name, given = item["name"], item.get("args") or {}
        if name in found:
            raise ValueError(f'{path}[{number}]: Duplicate value: "{name}"')
        unknown = sorted(given.keys() - FIELDS[name] - TYPE) if name in FIELDS else ()
        if unknown:
            raise ValueError(f'unknown field "{path}[{number}].args.{unknown[0]}"')
        found[name] = given
    return found


def settings_in(arguments: Mapping[str, Object]) -> dict[str, Any]:
    """The fields of `Profile` that arguments fill."""
    affinity = arguments.get("InterPodAffinity") or {}
    weight = affinity.get("hardPodAffinityWeight", 1)
    _bound(weight, 0, 100, "hardPodAffinityWeight")
    preemption = arguments.get("DefaultPreemption") or {}
    least = preemption.get("minCandidateNodesAbsolute", 100)
    share = preemption.get("minCandidateNodesPercentage", 10)
    _bound(share, 0, 100, "minCandidateNodesPercentage")
    _bound(least, 0, 1 << 31, "minCandidateNodesAbsolute")
    if not least and not share:
        raise ValueError(
            "minCandidateNodesPercentage: Invalid value: 0: cannot be zero at the same time as "
            "minCandidateNodesAbsolute"
        )
    wait = (arguments.get("VolumeBinding") or {}).get("bindTimeoutSeconds", 600)
    _bound(wait, 0, 1 << 31, "bindTimeoutSeconds")
    devices = arguments.get("DynamicResources") or {}
    return {
        "required_weight": weight,
        "ignores_preferences": bool(affinity.get("ignorePreferredTermsOfExistingPods")),
        "shortlist": (least, share),
        "bind_s": float(wait),
        "ready_s": _duration_s(devices, "bindingTimeout", 600.0, 1.0),
        **_spread(arguments.get("PodTopologySpread") or {}),
    }


def _bound(value: Any, least: int, most: int, name: str) -> None:
    if not isinstance(value, int) or not least <= value <= most:
        raise ValueError(f"{name}: Invalid value: {value}: not in valid range [{least}, {most}]")


def _duration_s(given: Object, name: str, default: float, least: float) -> float:
    text = given.get(name)
    if text is None:
        return default
    try:
        seconds = parse_duration_s(str(text))
    except TimeError as error:
        raise ValueError(f"{name}: {error}") from None
    if seconds < least:
        raise ValueError(f'{name}: Invalid value: "{text}": must be at least {least:g} second')
    return seconds


def _spread(given: Object) -> dict[str, Any]:
    """PodTopologySpreadArgs: whose selectors are left out are the services' and owners'."""
    listed = given.get("defaultConstraints") or ()
    kind = given.get("defaultingType") or "System"
    if kind not in ("System", "List"):
        raise ValueError(
            f'defaultingType: Unsupported value: "{kind}": supported values: "List", "System"'
        )
    if kind == "System":
        if listed:
            raise ValueError(
                'defaultingType: Invalid value: "System": when .defaultConstraints are not empty'
            )
        return {}
    seen: set[tuple[str, str]] = set()
    for number, item in enumerate(listed):
        path, action = f"defaultConstraints[{number}]", item.get("whenUnsatisfiable") or ""
        key, skew = item.get("topologyKey") or "", item.get("maxSkew") or 0
        if item.get("labelSelector") is not None:
            raise ValueError(
                f"{path}.labelSelector: Forbidden: constraint must not define a selector, as they "
                "deduced for each pod"
            )
        if not key:
            raise ValueError(f"{path}.topologyKey: Required value: can not be empty")
        if skew <= 0:
            raise ValueError(f"{path}.maxSkew: Invalid value: {skew}: not in valid range (0, inf)")
        if action not in (DO_NOT_SCHEDULE, SCHEDULE_ANYWAY):
            raise ValueError(
                f'{path}.whenUnsatisfiable: Unsupported value: "{action}": supported values: '
                f'"{DO_NOT_SCHEDULE}", "{SCHEDULE_ANYWAY}"'
            )
        if (key, action) in seen:
            raise ValueError(f'{path}: Duplicate value: "{{{key}, {action}}}"')
        seen.add((key, action))
    hard: tuple[Constraint, ...] = constraints_in(listed, DO_NOT_SCHEDULE)
    return {"defaults": constraints_in(listed, SCHEDULE_ANYWAY), "hard_defaults": hard}


def filter_with(entry: Filter, arguments: Mapping[str, Object]) -> Filter:
    return _without_ignored(_with_affinity(entry, arguments), arguments)


def _with_affinity(entry: Filter, arguments: Mapping[str, Object]) -> Filter:
    added = (arguments.get("NodeAffinity") or {}).get("addedAffinity")
    if entry.name != "NodeAffinity" or not added:
        return entry

    def reasons(demand: Demand, node: NodeState) -> list[str]:
        if not node_affinity.selects({}, added, node.name, node.labels):
            return [ADDED_AFFINITY]
        return entry.reasons(demand, node)

    return entry._replace(reasons=reasons, concerns=lambda demand: True)


def _without_ignored(entry: Filter, arguments: Mapping[str, Object]) -> Filter:
    """NodeResourcesFitArgs.ignoredResources and -Groups: extended resources that are somebody
    else's to give out."""
    given = arguments.get("NodeResourcesFit") or {}
    names = frozenset(given.get("ignoredResources") or ())
    groups = frozenset(given.get("ignoredResourceGroups") or ())
    if entry.name != "NodeResourcesFit" or not (names or groups):
        return entry

    def reasons(demand: Demand, node: NodeState) -> list[str]:
        found = []
        for reason in entry.reasons(demand, node):
            resource = reason.removeprefix("Insufficient ")
            group, slash, _ = resource.partition("/")
            if resource not in names and not (slash and group in groups):
                found.append(reason)
        return found

    return entry._replace(reasons=reasons)


def score_with(entry: Score, arguments: Mapping[str, Object]) -> Score:
    given = arguments.get(entry.name) or {}
    added = (given.get("addedAffinity") or {}).get(node_affinity.PREFERRED)
    if entry.name == "NodeAffinity" and added:
        return _with_preferences(entry, added)
    if entry.name == "NodeResourcesBalancedAllocation" and given.get("resources"):
        names = _balanced(given["resources"])
        return entry._replace(
            points=balanced_over(names),
            concerns=lambda demand: any(name in demand.requests for name in names),
        )
    if entry.name == "NodeResourcesFit" and given.get("scoringStrategy"):
        return entry._replace(points=_strategy(given["scoringStrategy"]))
    return entry


def _with_preferences(entry: Score, added: Sequence[Object]) -> Score:
    """What the added affinity prefers counts with what the pod does."""

    def points(demand: Demand, node: NodeState) -> float:
        own = demand.affinity.get(node_affinity.PREFERRED) or ()
        affinity = {**demand.affinity, node_affinity.PREFERRED: [*own, *added]}
        return entry.points(replace(demand, affinity=affinity), node)

    return entry._replace(points=points, concerns=lambda demand: True)


def _balanced(listed: Sequence[Object]) -> tuple[str, ...]:
    names = []
    for number, item in enumerate(listed):
        if item.get("weight", 1) != 1:
            raise ValueError(
                f"resources[{number}].weight: Invalid value: {item['weight']}: must be 1"
            )
        if item["name"] in names:
            raise ValueError(f'resources[{number}].name: Duplicate value: "{item["name"]}"')
        names.append(item["name"])
    return tuple(names)


def _strategy(strategy: Object) -> Points:
    kind = strategy.get("type") or "LeastAllocated"
    weights = []
    for item in strategy.get("resources") or ():
        weight = item.get("weight") or 1
        if not 0 < weight <= 100:
            raise ValueError(f"resource weight of {item['name']} not in valid range (0, 100]")
        weights.append((item["name"], weight))
    chosen = tuple(weights) or tuple(CPU_AND_MEMORY)
    ratio = strategy.get("requestedToCapacityRatio")
    if kind != "RequestedToCapacityRatio" and ratio:
        raise ValueError(
            "requestedToCapacityRatio: Forbidden: must be nil when type is not "
            "RequestedToCapacityRatio"
        )
    if kind == "LeastAllocated":
        return least_allocated(chosen)
    if kind == "MostAllocated":
        return most_allocated(chosen)
    if kind == "RequestedToCapacityRatio":
        shape = (ratio or {}).get("shape") or ()
        points = [(item.get("utilization") or 0, item.get("score") or 0) for item in shape]
        if not points or points != sorted(dict(points).items()):
            raise ValueError("RequestedToCapacityRatio: shape needs points of rising utilization")
        for utilization, score in points:
            _bound(utilization, 0, 100, "utilization")
            _bound(score, 0, 10, "score")
        return requested_to_capacity(chosen, points)
    raise ValueError(f"NodeResourcesFit: no scoring strategy {kind}")
