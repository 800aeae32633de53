"""What a DaemonSet does next: pods to make and to delete, node by node, and what to report. Pure.

First each node is put in order (none missing, none too many, none that has ended); when nothing
is left to do there, the rollout goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from msgspec import Struct, field

from sampan.api.errors import Object

from .daemonset_nodes import Fit, fits, node_of
from .deployment_sizes import scaled
from .runtime import pods as podlib
from .runtime.history import REVISION_LABEL

# Upstream's BurstReplicas: how many pods one sync creates or deletes at most.
BURST = 250


class Observed(Struct, frozen=True):
    """What a sync looks at."""

    owner: Object
    """The DaemonSet."""
    nodes: Sequence[Object]
    pods: Sequence[Object]
    """Those it controls."""
    digest: str
    """The hash of its present template's revision, which new pods carry."""
    wait_s: Callable[[str], float] = lambda node: 0.0
    """How long until a failed pod of a node may be deleted."""


class Ended(Struct, frozen=True):
    """A pod that is deleted because it has ended."""

    pod: Object
    node: str

    @property
    def is_failed(self) -> bool:
        return podlib.phase(self.pod) == "Failed"


class Plan(Struct, frozen=True):
    """Nodes that get a pod, and pods that go; at most BURST of each."""

    create: Sequence[str] = ()
    delete: Sequence[Object] = ()
    ended: Sequence[Ended] = ()
    """Those of the deleted that had ended."""
    again_s: float | None = None


class Survey(Struct):
    """Observed, sorted by node."""

    observed: Observed
    now_s: float
    fits: dict[str, Fit] = field(default_factory=dict)
    pods: dict[str, list[Object]] = field(default_factory=dict)
    """Of each node, but for those that have ended and are going: the oldest first."""

    @property
    def owner(self) -> Object:
        return self.observed.owner

    def available(self, pod: Object) -> bool:
        return podlib.available_in_s(pod, min_ready_s(self.owner), self.now_s) == 0.0

    def is_new(self, pod: Object) -> bool:
        labels = pod["metadata"].get("labels") or {}
        return bool(labels.get(REVISION_LABEL) == self.observed.digest)

    def has_room(self, node: str) -> bool:
        return self.fits.get(node, Fit(False, False)).run

    @property
    def desired(self) -> int:
        return sum(item.run for item in self.fits.values())


def survey(observed: Observed, now_s: float) -> Survey:
    """Which nodes are wanted, and what is on each."""
    found = Survey(observed, now_s)
    fit = fits(observed.owner)
    for node in observed.nodes:
        found.fits[node["metadata"]["name"]] = fit(node)
    for pod in sorted(observed.pods, key=_age):
        if podlib.is_finished(pod) and podlib.is_terminating(pod):
            continue
        found.pods.setdefault(node_of(pod), []).append(pod)
    return found


def _age(pod: Object) -> tuple[bool, str, str]:
    """Bound first, then the oldest (upstream's podByCreationTimestampAndPhase)."""
    meta = pod["metadata"]
    unbound = not (pod.get("spec") or {}).get("nodeName")
    return unbound, meta.get("creationTimestamp") or "9999", meta["name"]


def plan(found: Survey) -> Plan:
    """The next steps of a set."""
    owner = found.owner
    if owner["metadata"].get("deletionTimestamp"):
        return Plan()
    tidied = _tidy(found)
    strategy = (owner["spec"].get("updateStrategy") or {}).get("type")
    if tidied.create or tidied.delete or strategy == "OnDelete":
        return tidied
    rolled = _surge(found) if max_surge(found) else _replace(found)
    return Plan(rolled.create[:BURST], rolled.delete[:BURST], (), tidied.again_s)


def _tidy(found: Survey) -> Plan:
    """Every node has a pod if it should, and no more (upstream's manage)."""
    create: list[str] = []
    delete: list[Object] = []
    ended: list[Ended] = []
    waits: list[float] = []
    for node, wanted in found.fits.items():
        pods = found.pods.get(node, [])
        alive = [pod for pod in pods if not podlib.is_terminating(pod)]
        if wanted.run and not pods:
            create.append(node)
        elif not wanted.stay:
            delete += alive
        else:
            for pod in filter(podlib.is_finished, alive):
                wait_s = found.observed.wait_s(node) if podlib.phase(pod) == "Failed" else 0.0
                if wait_s:
                    waits.append(wait_s)
                else:
                    ended.append(Ended(pod, node))
            delete += _excess(found, [pod for pod in alive if not podlib.is_finished(pod)])
    ended = ended[:BURST]
    # Pods that wait for a node that is gone would wait for ever; those on it podgc takes.
    delete += [
        pod
        for node, pods in found.pods.items()
        if node not in found.fits
        for pod in pods
        if not pod["spec"].get("nodeName") and not podlib.is_terminating(pod)
    ]
    doomed = [*(item.pod for item in ended), *delete]
    return Plan(create[:BURST], doomed[:BURST], ended, min(waits, default=None))


def _excess(found: Survey, alive: list[Object]) -> list[Object]:
    """Pods of one node that are too many; with surge an old and a new one are not."""
    if not max_surge(found) or len(alive) < 2:
        return alive[1:]
    new = [pod for pod in alive if found.is_new(pod)]
    old = [pod for pod in alive if not found.is_new(pod)]
    out = [*new[1:], *old[1:]]
    if new and old and (not podlib.is_ready(old[0]) or found.available(new[0])):
        out.append(old[0])
    return out


def _pair(found: Survey, pods: Sequence[Object]) -> tuple[Object | None, Object | None] | None:
    """(new pod, old pod) of a node; None if there are more."""
    alive = [pod for pod in pods if not podlib.is_terminating(pod)]
    new = [pod for pod in alive if found.is_new(pod)]
    old = [pod for pod in alive if not found.is_new(pod)]
    if len(new) > 1 or len(old) > 1:
        return None
    return (new[0] if new else None), (old[0] if old else None)


def _places(found: Survey) -> Mapping[str, list[Object]]:
    """Nodes that have a pod or should have one, in order of name."""
    names = {*found.pods, *(node for node, wanted in found.fits.items() if wanted.run)}
    return {node: found.pods.get(node, []) for node in sorted(names - {""})}


def _replace(found: Survey) -> Plan:
    """Old pods go so that at most maxUnavailable nodes have no pod that is available; those that
    are not available anyway go at once."""
    unavailable, broken, candidates = 0, [], []
    for pods in _places(found).values():
        pair = _pair(found, pods)
        new, old = pair or (None, None)
        if (new is None) == (old is None):
            unavailable += 1
        elif new is not None:
            unavailable += not found.available(new)
        elif old is not None and found.available(old):
            candidates.append(old)
        elif old is not None:
            broken.append(old)
            unavailable += 1
    room = max(0, max_unavailable(found) - unavailable)
    return Plan(delete=[*broken, *candidates[:room]])


def _surge(found: Survey) -> Plan:
    """New pods come beside old ones, at most maxSurge at a time that are not available yet; an
    old one goes when its new one is available."""
    create: list[str] = []
    candidates: list[str] = []
    delete: list[Object] = []
    sunset: list[Object] = []
    surging = available = 0
    for node, pods in _places(found).items():
        pair = _pair(found, pods)
        if pair is None:
            surging += 1
            continue
        new, old = pair
        first = old if old is not None else new
        available += first is not None and found.available(first)
        if old is None:
            continue
        if new is not None:
            if found.available(new):
                delete.append(old)
            else:
                surging += 1
        elif not found.available(old):
            if found.has_room(node):
                create.append(node)
            else:
                delete.append(old)
        elif not found.has_room(node):
            sunset.append(old)
        else:
            candidates.append(node)
    # What moves to other nodes stays available: it goes when enough others are.
    delete += sunset[: max(0, available - found.desired)]
    create += candidates[: max(0, max_surge(found) - surging)]
    return Plan(create, delete)


def _rolling(found: Survey) -> Object:
    strategy = found.owner["spec"].get("updateStrategy") or {}
    rolling: Object = strategy.get("rollingUpdate") or {}
    return rolling


def max_surge(found: Survey) -> int:
    return scaled(_rolling(found).get("maxSurge") or 0, found.desired, up=True)


def max_unavailable(found: Survey) -> int:
    """At least one: without a surge nothing else would go on."""
    value = _rolling(found).get("maxUnavailable")
    return max(1, scaled(1 if value is None else value, found.desired, up=True))


def min_ready_s(owner: Object) -> int:
    return int(owner["spec"].get("minReadySeconds") or 0)


def status_of(found: Survey, *, acted: bool) -> Object:
    """The numbers; observedGeneration only if this generation has been acted on."""
    counts = dict.fromkeys(
        ("desiredNumberScheduled", "currentNumberScheduled", "numberMisscheduled", "numberReady",
         "updatedNumberScheduled", "numberAvailable"), 0
    )  # fmt: skip
    for node, wanted in found.fits.items():
        pods = found.pods.get(node)
        if not wanted.run:
            counts["numberMisscheduled"] += bool(pods)
            continue
        counts["desiredNumberScheduled"] += 1
        if pods:
            pod = pods[0]
            counts["currentNumberScheduled"] += 1
            counts["numberReady"] += podlib.is_ready(pod)
            counts["numberAvailable"] += found.available(pod)
            counts["updatedNumberScheduled"] += found.is_new(pod)
    counts["numberUnavailable"] = counts["desiredNumberScheduled"] - counts["numberAvailable"]
    before = found.owner.get("status") or {}
    kept = {key: before[key] for key in ("collisionCount", "conditions") if before.get(key)}
    generation = before.get("observedGeneration")
    if acted:
        generation = found.owner["metadata"].get("generation") or 0
    status: Object = {**kept, "observedGeneration": generation} if generation else kept
    for key, value in counts.items():
        if value or key not in OMITTED:
            status[key] = value
    return status


# Upstream leaves these out when they are zero.
OMITTED = frozenset({"updatedNumberScheduled", "numberAvailable", "numberUnavailable"})


def available_later_s(found: Survey) -> float | None:
    """When the next pod that is ready will have been so for long enough; None if none is."""
    seconds = min_ready_s(found.owner)
    waits = (podlib.available_in_s(pod, seconds, found.now_s) for pod in found.observed.pods)
    return min((wait for wait in waits if wait), default=None)
