"""Profiles from a KubeSchedulerConfiguration (kubescheduler.config.k8s.io/v1), and plugins of the
user's own from entry points.

`profiles_of` raises ValueError, in words for the administrator, for what it cannot do: a plugin
nobody knows, a strategy there is none of. What is absent is as upstream's default.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from msgspec.structs import replace

from sampan.api.errors import Object
from sampan.api.selectors import from_label_selector

from .demand import Demand
from .nodes import NodeState
from .plugins import FILTERS, RELATIONS, SCORES, Filter, Relation, Score
from .profile import NAME, Profile
from .queue import INITIAL_BACKOFF_S, MAX_BACKOFF_S
from .relations import Constraint

log = logging.getLogger("sampan.scheduler")

GROUP = "sampan.scheduler"
"""Entry points: a name and a class (or anything that makes a plugin)."""
API_GROUP = "kubescheduler.config.k8s.io/"
PREEMPTION = "DefaultPreemption"
ELSEWHERE = frozenset({
    "SchedulingGates", "PrioritySort", "NodeName", "DefaultBinder", "NodeDeclaredFeatures",
})  # fmt: skip
"""Upstream's plugins whose work is no plugin here, or which have none: naming them is fine."""
FIELDS = frozenset({
    "apiVersion", "kind", "parallelism", "leaderElection", "clientConnection", "enableProfiling",
    "enableContentionProfiling", "percentageOfNodesToScore", "podInitialBackoffSeconds",
    "podMaxBackoffSeconds", "profiles", "extenders", "delayCacheUntilActive",
})  # fmt: skip
PROFILE = frozenset({"schedulerName", "percentageOfNodesToScore", "plugins", "pluginConfig"})
POINTS = frozenset({
    "preEnqueue", "queueSort", "preFilter", "filter", "postFilter", "preScore", "score", "reserve",
    "permit", "preBind", "bind", "postBind", "multiPoint",
})  # fmt: skip
"""Extension points. What a plugin does elsewhere than in filter, postFilter and score goes with
that, as upstream's defaults do."""


def profiles_of(configuration: Object | None) -> dict[str, Profile]:
    """The profiles by scheduler name."""
    if not configuration:
        return {NAME: Profile()}
    version, kind = configuration.get("apiVersion") or "", configuration.get("kind")
    if not version.startswith(API_GROUP) or kind != "KubeSchedulerConfiguration":
        raise ValueError(f"{version}, {kind}: expected a KubeSchedulerConfiguration")
    _known(configuration, FIELDS, "")
    if (configuration.get("parallelism") or 1) < 1:
        raise ValueError("parallelism: should be an integer value greater than zero")
    backoff_of(configuration)
    others = _others(configuration)
    profiles: dict[str, Profile] = {}
    for number, item in enumerate(configuration.get("profiles") or [{}]):
        for where in (configuration, item):
            if not 0 <= (where.get("percentageOfNodesToScore") or 0) <= 100:
                raise ValueError("percentageOfNodesToScore: not in valid range [0-100]")
        profile = _profile(item, f"profiles[{number}]", others)
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


def _profile(item: Object, path: str, others: frozenset[str]) -> Profile:
    """`others` are resources that somebody else gives out."""
    _known(item, PROFILE, path)
    arguments: dict[str, Object] = {}
    if item.get("pluginConfig") or others:
        from .arguments import arguments_in

        arguments = arguments_in(item.get("pluginConfig") or (), f"{path}.pluginConfig")
    if others:
        fit = arguments.get("NodeResourcesFit") or {}
        ignored = [*(fit.get("ignoredResources") or ()), *sorted(others)]
        arguments["NodeResourcesFit"] = {**fit, "ignoredResources": ignored}
    plugins = item.get("plugins") or {}
    _known(plugins, POINTS, f"{path}.plugins")
    weights = _weights(plugins.get("multiPoint") or {}) | _weights(plugins.get("score") or {})
    own = _own(plugins.values(), arguments)
    filters = [entry for entry in FILTERS if _uses(plugins, "filter", entry.name)]
    scores = [
        entry._replace(weight=weights.get(entry.name, entry.weight))
        for entry in SCORES
        if _uses(plugins, "score", entry.name)
    ]
    for name, plugin in own.items():
        filters += _own_filters(name, plugin)
        scores += _own_scores(name, plugin, weights.get(name, 1))
    settings: dict[str, Any] = {}
    if arguments:
        from .arguments import filter_with, score_with, settings_in

        filters = [filter_with(entry, arguments) for entry in filters]
        scores = [score_with(entry, arguments) for entry in scores]
        settings = settings_in(arguments)
    return Profile(
        item.get("schedulerName") or NAME,
        tuple(filters),
        tuple(scores),
        _relations(plugins, weights),
        own=bool(own),
        preempts=_uses(plugins, "postFilter", PREEMPTION),
        **settings,
    )


def _relations(plugins: Object, weights: Mapping[str, int]) -> tuple[Relation, ...]:
    found = []
    for entry in RELATIONS:
        filters = _uses(plugins, "filter", entry.name)
        weight = weights.get(entry.name, entry.weight)
        weight = weight if _uses(plugins, "score", entry.name) else 0
        if filters or weight:
            found.append(entry._replace(weight=weight, filters=filters))
    return tuple(found)


def _uses(plugins: Object, point: str, name: str) -> bool:
    """Is one of the default plugins used at an extension point? What is said of the point goes
    before what is said of all (multiPoint), and enabled before disabled."""
    for said in (plugins.get(point) or {}, plugins.get("multiPoint") or {}):
        if name in _names(said, "enabled"):
            return True
        if _names(said, "disabled") & {name, "*"}:
            return False
    return True


def _known(given: Object, fields: frozenset[str], path: str) -> None:
    """Raises ValueError for a field that nobody knows: upstream decodes strictly."""
    unknown = sorted(given.keys() - fields)
    if unknown:
        raise ValueError(f'unknown field "{path}{"." if path else ""}{unknown[0]}"')


def _names(point: Object, which: str) -> set[str]:
    return {entry["name"] for entry in point.get(which) or ()}


def _weights(point: Object) -> dict[str, int]:
    return {
        entry["name"]: entry["weight"]
        for entry in point.get("enabled") or ()
        if entry.get("weight")
    }


def constraints_of(constraints: Iterable[Constraint], selector: Object) -> tuple[Constraint, ...]:
    """Default constraints, for pods of this selector."""
    chosen = from_label_selector(selector)
    return tuple(replace(item, selector=chosen) for item in constraints)


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
