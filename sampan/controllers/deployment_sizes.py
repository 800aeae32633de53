"""The arithmetic of rollouts: surge, unavailability, proportional scaling, history. Pure.

`Set` is a ReplicaSet as a plan sees it: its size may already have been decided anew.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from msgspec import Struct

from sampan.api.errors import Object

REVISION = "deployment.kubernetes.io/revision"
REVISION_HISTORY = "deployment.kubernetes.io/revision-history"
DESIRED = "deployment.kubernetes.io/desired-replicas"
MAX = "deployment.kubernetes.io/max-replicas"
HASH = "pod-template-hash"
FOREVER_S = (1 << 31) - 1
"""A progressDeadlineSeconds or revisionHistoryLimit that means: none."""


class Set(Struct):
    """A ReplicaSet within a plan."""

    body: Object
    replicas: int
    """Its spec's, or what the plan makes it."""

    @property
    def name(self) -> str:
        return str(self.body["metadata"]["name"])

    @property
    def created(self) -> tuple[str, str]:
        """Age and then name: the order of "oldest first"."""
        meta = self.body["metadata"]
        return meta.get("creationTimestamp") or "9999", meta["name"]

    @property
    def revision(self) -> int:
        return number(annotation(self.body, REVISION))

    def status(self, field: str) -> int:
        return int((self.body.get("status") or {}).get(field) or 0)


def annotation(obj: Object, name: str) -> str:
    return str((obj["metadata"].get("annotations") or {}).get(name) or "")


def number(text: str) -> int:
    """An annotation's number; 0 for what is none."""
    try:
        return int(text)
    except ValueError:
        return 0


def desired(deployment: Object) -> int:
    replicas = deployment["spec"].get("replicas")
    return 1 if replicas is None else int(replicas)


def is_rolling(deployment: Object) -> bool:
    return (deployment["spec"].get("strategy") or {}).get("type") != "Recreate"


def fenceposts(deployment: Object) -> tuple[int, int]:
    """(surge, unavailable) in pods: percents round up and down; both 0 means one unavailable."""
    strategy = deployment["spec"].get("strategy") or {}
    rolling = strategy.get("rollingUpdate") or {}
    total = desired(deployment)
    surge = scaled(rolling.get("maxSurge", 0), total, up=True)
    unavailable = scaled(rolling.get("maxUnavailable", 0), total, up=False)
    if surge == 0 and unavailable == 0:
        unavailable = 1
    return surge, unavailable


def scaled(value: int | str, total: int, *, up: bool) -> int:
    """An IntOrString: a number, or a percentage of `total`."""
    if isinstance(value, str):
        part = number(value.removesuffix("%")) * total
        return -(-part // 100) if up else part // 100
    return int(value)


def max_surge(deployment: Object) -> int:
    return fenceposts(deployment)[0] if is_rolling(deployment) else 0


def max_unavailable(deployment: Object) -> int:
    total = desired(deployment)
    if not is_rolling(deployment) or not total:
        return 0
    return min(fenceposts(deployment)[1], total)


def total_replicas(sets: Iterable[Set]) -> int:
    return sum(item.replicas for item in sets)


def total_available(sets: Iterable[Set]) -> int:
    return sum(item.status("availableReplicas") for item in sets)


def new_size(deployment: Object, sets: Sequence[Set], new: Set) -> int:
    """How large the new set may be now (upstream's NewRSNewReplicas)."""
    total = desired(deployment)
    if not is_rolling(deployment):
        return total
    room = total + max_surge(deployment) - total_replicas(sets)
    if room <= 0:
        return new.replicas
    return new.replicas + min(room, total - new.replicas)


def shrink_old(deployment: Object, old: Sequence[Set], new: Set | None) -> dict[str, int]:
    """New sizes of the old sets of a rolling update, by name; only those that change.

    First pods that are not available anyway, then as many as stay above the minimum.
    """
    old = [item for item in old if item.replicas > 0]
    if not old:
        return {}
    everything = [*old, new] if new is not None else [*old]
    minimum = desired(deployment) - max_unavailable(deployment)
    not_yet = new.replicas - new.status("availableReplicas") if new is not None else 0
    budget = total_replicas(everything) - minimum - not_yet
    if budget <= 0:
        return {}
    sizes = {item.name: item.replicas for item in old}
    ordered = sorted(old, key=lambda item: item.created)
    for item in ordered:
        unhealthy = sizes[item.name] - item.status("availableReplicas")
        step = min(budget, max(0, unhealthy))
        sizes[item.name] -= step
        budget -= step
    spare = total_available(everything) - minimum
    for item in ordered:
        step = min(sizes[item.name], max(0, spare))
        sizes[item.name] -= step
        spare -= step
    return {item.name: sizes[item.name] for item in old if sizes[item.name] != item.replicas}


def is_saturated(deployment: Object, new: Set | None) -> bool:
    """The new set is all the deployment wants, and all of it is available."""
    if new is None or annotation(new.body, DESIRED) == "":
        return False
    total = desired(deployment)
    return (
        number(annotation(new.body, DESIRED)) == total
        and new.replicas == total
        and new.status("availableReplicas") == total
    )


def proportional(deployment: Object, sets: Sequence[Set]) -> dict[str, int]:
    """Sizes of the active sets when a deployment is scaled in the middle of a rollout."""
    total = desired(deployment)
    allowed = total + max_surge(deployment) if total > 0 else 0
    to_add = allowed - total_replicas(sets)
    # Growing, the largest and then newest come first; shrinking, the largest and then oldest.
    ordered = sorted(sets, key=lambda item: item.created, reverse=to_add > 0)
    ordered = sorted(ordered, key=lambda item: item.replicas, reverse=True)
    sizes: dict[str, int] = {}
    added = 0
    for item in ordered:
        part = _proportion(deployment, item, to_add, added)
        sizes[item.name] = item.replicas + part
        added += part
    if ordered and to_add:
        first = ordered[0].name
        sizes[first] = max(0, sizes[first] + to_add - added)
    return sizes


def _proportion(deployment: Object, item: Set, to_add: int, added: int) -> int:
    if not item.replicas or not to_add or to_add == added:
        return 0
    part = _fraction(deployment, item)
    left = to_add - added
    return min(part, left) if to_add > 0 else max(part, left)


def _fraction(deployment: Object, item: Set) -> int:
    """By how much the set changes to keep its share."""
    total = desired(deployment)
    if total == 0:
        return -item.replicas
    before = number(annotation(item.body, MAX))
    if not before:
        # It was never annotated: the status says how many pods there were.
        before = int((deployment.get("status") or {}).get("replicas") or 0)
    if not before:
        return 0
    after = item.replicas * (total + max_surge(deployment)) / before
    return math.floor(after + 0.5) - item.replicas


def expired_history(deployment: Object, old: Sequence[Set]) -> list[Set]:
    """Old sets beyond revisionHistoryLimit that are empty and settled, oldest revision first."""
    limit = deployment["spec"].get("revisionHistoryLimit")
    if limit is None or limit == FOREVER_S:
        return []
    kept = [item for item in old if not item.body["metadata"].get("deletionTimestamp")]
    surplus = len(kept) - int(limit)
    if surplus <= 0:
        return []
    ordered = sorted(kept, key=lambda item: (item.revision, item.created))
    return [item for item in ordered[:surplus] if _is_settled(item)]


def _is_settled(item: Set) -> bool:
    return (
        item.replicas == 0
        and item.status("replicas") == 0
        and item.status("observedGeneration") >= int(item.body["metadata"].get("generation") or 0)
    )
