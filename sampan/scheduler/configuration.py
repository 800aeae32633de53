"""Profiles from a KubeSchedulerConfiguration (kubescheduler.config.k8s.io/v1), and plugins of the
user's own from entry points.

`profiles_of` raises ValueError, in words for the administrator, for what it cannot do: a plugin
nobody knows, a strategy there is none of. What is absent is as upstream's default.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from sampan.api.errors import Object
from sampan.api.selectors import from_label_selector

from .demand import Demand
from .nodes import NodeState
from .plugins import FILTERS, RELATIONS, SCORES, Filter, Score, node_affinity
from .plugins.node_resources import (
    DEFAULT as CPU_AND_MEMORY,
)
from .plugins.node_resources import (
    Points,
    least_allocated,
    most_allocated,
    requested_to_capacity,
)
from .profile import NAME, SYSTEM_DEFAULTS, Profile
from .queue import INITIAL_BACKOFF_S, MAX_BACKOFF_S
from .relations import Constraint

log = logging.getLogger("sampan.scheduler")

GROUP = "sampan.scheduler"
"""Entry points: a name and a class (or anything that makes a plugin)."""
API_GROUP = "kubescheduler.config.k8s.io/"
PREEMPTION = "DefaultPreemption"
ELSEWHERE = frozenset(
    {
        "SchedulingGates",
        "PrioritySort",
        "NodeName",
        "DefaultBinder",
    }
)
"""Upstream's plugins whose work is no plugin here, or which have none: naming them is fine."""
ADDED_AFFINITY = "node(s) didn't match scheduler-enforced node affinity"


def profiles_of(configuration: Object | None) -> dict[str, Profile]:
    """The profiles by scheduler name."""
    if not configuration:
        return {NAME: Profile()}
    version, kind = configuration.get("apiVersion") or "", configuration.get("kind")
    if not version.startswith(API_GROUP) or kind != "KubeSchedulerConfiguration":
        raise ValueError(f"{version}, {kind}: expected a KubeSchedulerConfiguration")
    backoff_of(configuration)
    others = _others(configuration)
    profiles: dict[str, Profile] = {}
    for item in configuration.get("profiles") or [{}]:
        profile = _profile(item, others)
        if profile.name in profiles:
            raise ValueError(f"two profiles named {profile.name}")
        profiles[profile.name] = profile
    return profiles


def backoff_of(configuration: Object | None) -> tuple[float, float]:
    """How long a pod that could not be placed waits: the first time, and at most."""
    given = configuration or {}
    first = given.get("podInitialBackoffSeconds", INITIAL_BACKOFF_S)
    most = given.get("podMaxBackoffSeconds", MAX_BACKOFF_S)
    if not all(isinstance(item, int | float) and item > 0 for item in (first, most)):
        raise ValueError("podInitialBackoffSeconds and podMaxBackoffSeconds are numbers above 0")
    if most < first:
        raise ValueError("podMaxBackoffSeconds is less than podInitialBackoffSeconds")
    return float(first), float(most)


def _others(configuration: Object) -> frozenset[str]:
    """The resources that extenders alone count."""
    if not configuration.get("extenders"):
        return frozenset()
    from .extender import settings_of

    return frozenset[str]().union(*(item.ignored for item in settings_of(configuration)))


def _profile(item: Object, others: frozenset[str]) -> Profile:
    """`others` are resources that somebody else gives out."""
    arguments = {entry["name"]: entry.get("args") or {} for entry in item.get("pluginConfig") or ()}
    if others:
        fit = arguments.get("NodeResourcesFit") or {}
        ignored = [*(fit.get("ignoredResources") or ()), *sorted(others)]
        arguments["NodeResourcesFit"] = {**fit, "ignoredResources": ignored}
    if arguments.get("InterPodAffinity", {}).get("hardPodAffinityWeight", 1) != 1:
        raise ValueError("InterPodAffinity: hardPodAffinityWeight is 1 here")
    plugins = item.get("plugins") or {}
    every, some = plugins.get("multiPoint") or {}, plugins.get("filter") or {}
    judges = plugins.get("score") or {}
    post = plugins.get("postFilter") or {}
    no_filters = _names(every, "disabled") | _names(some, "disabled")
    no_scores = _names(every, "disabled") | _names(judges, "disabled")
    weights = _weights(every) | _weights(judges)
    own = _own([every, some, judges], arguments)
    filters = [entry for entry in FILTERS if not no_filters & {entry.name, "*"}]
    scores = [
        entry._replace(weight=weights.get(entry.name, entry.weight))
        for entry in SCORES
        if not no_scores & {entry.name, "*"} or _names(judges, "enabled") & {entry.name}
    ]
    relations = [
        entry._replace(weight=weights.get(entry.name, entry.weight))
        for entry in RELATIONS
        if not no_filters & {entry.name, "*"}
    ]
    for name, plugin in own.items():
        filters += _own_filters(name, plugin)
        scores += _own_scores(name, plugin, weights.get(name, 1))
    return Profile(
        item.get("schedulerName") or NAME,
        tuple(_without_ignored(_with_affinity(entry, arguments), arguments) for entry in filters),
        tuple(_with_strategy(entry, arguments) for entry in scores),
        tuple(relations),
        own=bool(own),
        preempts=not (_names(every, "disabled") | _names(post, "disabled")) & {PREEMPTION, "*"},
        **_spread(arguments.get("PodTopologySpread") or {}),
    )


def _names(point: Object, which: str) -> set[str]:
    return {entry["name"] for entry in point.get(which) or ()}


def _weights(point: Object) -> dict[str, int]:
    return {
        entry["name"]: entry["weight"]
        for entry in point.get("enabled") or ()
        if entry.get("weight")
    }


def _spread(arguments: Object) -> dict[str, Any]:
    """PodTopologySpreadArgs: whose selectors are left out are the services' and owners'."""
    kind = arguments.get("defaultingType") or "System"
    if kind == "System":
        return {"defaults": SYSTEM_DEFAULTS}
    listed = arguments.get("defaultConstraints") or ()
    for item in listed:
        if item.get("labelSelector") is not None:
            raise ValueError("PodTopologySpread: defaultConstraints have no labelSelector")
        if item.get("whenUnsatisfiable") != "ScheduleAnyway":
            raise ValueError("PodTopologySpread: defaultConstraints are ScheduleAnyway here")
    return {"defaults": tuple((item["topologyKey"], item["maxSkew"]) for item in listed)}


def constraints_of(profile: Profile, selector: Object) -> tuple[Constraint, ...]:
    """The default constraints for pods of this selector."""
    chosen = from_label_selector(selector)
    return tuple(Constraint(key, skew, chosen) for key, skew in profile.defaults)


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


def _with_strategy(entry: Score, arguments: Mapping[str, Object]) -> Score:
    strategy = (arguments.get("NodeResourcesFit") or {}).get("scoringStrategy")
    if entry.name != "NodeResourcesFit" or not strategy:
        return entry
    return entry._replace(points=_strategy(strategy))


def _strategy(strategy: Object) -> Points:
    kind = strategy.get("type") or "LeastAllocated"
    listed = strategy.get("resources")
    weights = tuple((item["name"], item.get("weight") or 1) for item in listed or ())
    weights = weights or tuple(CPU_AND_MEMORY)
    if kind == "LeastAllocated":
        return least_allocated(weights)
    if kind == "MostAllocated":
        return most_allocated(weights)
    if kind == "RequestedToCapacityRatio":
        shape = (strategy.get("requestedToCapacityRatio") or {}).get("shape") or ()
        points = [(item.get("utilization") or 0, item.get("score") or 0) for item in shape]
        if not points or points != sorted(set(points)):
            raise ValueError("RequestedToCapacityRatio: shape needs points of rising utilization")
        return requested_to_capacity(weights, points)
    raise ValueError(f"NodeResourcesFit: no scoring strategy {kind}")


# Plugins of the user's


def _own(points: Iterable[Object], arguments: Mapping[str, Object]) -> dict[str, Any]:
    """The plugins that are enabled and none of ours, made with their arguments."""
    ours = {PREEMPTION, "*"} | ELSEWHERE
    for table in (FILTERS, SCORES, RELATIONS):
        ours |= {entry.name for entry in table}
    named = {name for point in points for name in _names(point, "enabled")} - ours
    if not named:
        return {}
    # Reading what is installed costs tens of milliseconds: only who has plugins pays.
    from importlib.metadata import entry_points

    found = {item.name: item for item in entry_points(group=GROUP)}
    missing = sorted(named - found.keys())
    if missing:
        raise ValueError(f"no plugin {missing[0]}: nobody installed has an entry point {GROUP}")
    try:
        return {name: found[name].load()(**arguments.get(name, {})) for name in sorted(named)}
    except Exception as error:
        raise ValueError(f"a scheduler plugin cannot be made: {error!r}") from error


def _own_filters(name: str, plugin: Any) -> list[Filter]:
    asked: Callable[[Object, Object], str | None] | None = getattr(plugin, "reject", None)
    if asked is None:
        return []

    def reasons(demand: Demand, node: NodeState) -> list[str]:
        try:
            why = asked(demand.pod, node.node)
        except Exception as error:
            log.exception("filter plugin %s", name)
            return [f'running "{name}" filter plugin: {error!r}']
        return [why] if why else []

    return [Filter(name, reasons, getattr(plugin, "helpless", True))]


def _own_scores(name: str, plugin: Any, weight: int) -> list[Score]:
    asked: Callable[[Object, Object], float] | None = getattr(plugin, "score", None)
    if asked is None:
        return []

    def points(demand: Demand, node: NodeState) -> float:
        try:
            return min(100.0, max(0.0, float(asked(demand.pod, node.node))))
        except Exception:
            log.exception("score plugin %s", name)
            return 0.0

    return [Score(name, points, weight)]
