"""What a StatefulSet does next: which pods and claims to make, mend and delete, and what to
report. Pure.

One plan goes as far as can be seen from here; the changes it causes bring the next. OrderedReady
sets do one thing at a time, from the lowest ordinal up and from the highest down; Parallel ones
do all at once, but roll updates out as carefully.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from msgspec import Struct, field

from sampan.api.descriptor import Descriptor
from sampan.api.errors import Object
from sampan.api.resources import resource

from .deployment_sizes import scaled
from .runtime import pods as podlib
from .runtime.history import template_of
from .statefulset_claims import is_stale, new_claims, owned_claims
from .statefulset_pods import (
    has_identity,
    is_available,
    is_parallel,
    is_wanted,
    min_ready_s,
    new_pod,
    ordinal,
    revision_of,
    start,
    wanted,
    with_identity,
)
from .statefulset_status import Observed, later_s, status_of


class MakeClaim(Struct, frozen=True):
    body: Object
    pod: str


class OwnClaim(Struct, frozen=True):
    """Write a claim back with other owners."""

    body: Object


class Create(Struct, frozen=True):
    body: Object


class Mend(Struct, frozen=True):
    """Write an adopted pod back with its identity."""

    body: Object


class Remove(Struct, frozen=True):
    pod: Object


class Fail(Struct, frozen=True):
    """Nothing can be done for this pod before something has changed."""

    pod: str
    message: str


Step = MakeClaim | OwnClaim | Create | Mend | Remove | Fail
Work = Sequence[Step]
"""What is done for one pod, in this order; a step that fails ends it."""


class Plan(Struct, frozen=True):
    """Stages in order; the work of a stage is for pods that do not wait for one another if the
    set is parallel, else in order. Then the status. `unavailable` and `limit` are of the rollout
    (None if there is none under way)."""

    stages: Sequence[Sequence[Work]]
    status: Object
    again_s: float | None = None
    parallel: bool = False
    unavailable: int = 0
    limit: int = 1

    def count(self, kind: type[Create] | type[Remove]) -> int:
        return sum(isinstance(step, kind) for step in self.steps())

    def steps(self) -> Iterator[Step]:
        for stage in self.stages:
            for work in stage:
                yield from work


class _Draft(Struct):
    """A plan in the making."""

    observed: Observed
    now_s: float
    replicas: list[Object | None] = field(default_factory=list)
    """By place; None where there is no pod."""
    condemned: list[Object] = field(default_factory=list)
    """Beyond the wanted ones, the highest ordinal first."""
    alive: frozenset[str] = frozenset()
    """uids of pods that are available."""

    @property
    def owner(self) -> Object:
        return self.observed.owner

    def available(self, pod: Object | None) -> bool:
        """Is it ready for long enough, and not going?"""
        return pod is not None and pod["metadata"]["uid"] in self.alive


def plan(observed: Observed, now_s: float) -> Plan:
    """The next steps of a set."""
    owner, draft = observed.owner, _Draft(observed, now_s)
    _sort(draft)
    status = status_of(observed, now_s)
    again_s = later_s(observed, now_s)
    if owner["metadata"].get("deletionTimestamp"):
        return Plan((), status)
    parallel = is_parallel(owner)
    limit = max_unavailable(owner)
    unavailable = sum(not draft.available(pod) for pod in draft.replicas)
    return Plan(
        [stage for stage in _stages(draft) if stage],
        status,
        again_s,
        parallel,
        unavailable,
        limit,
    )


def _sort(draft: _Draft) -> None:
    owner, seconds = draft.owner, min_ready_s(draft.owner)
    draft.alive = frozenset(
        pod["metadata"]["uid"]
        for pod in draft.observed.pods
        if not podlib.is_terminating(pod) and is_available(pod, seconds, draft.now_s)
    )
    places = {ordinal(owner, pod): pod for pod in draft.observed.pods}
    first = start(owner)
    draft.replicas = [places.get(first + index) for index in range(wanted(owner))]
    beyond = [place for place in places if place >= 0 and not is_wanted(owner, place)]
    draft.condemned = [places[place] for place in sorted(beyond, reverse=True)]


def _stages(draft: _Draft) -> Iterator[list[Work]]:
    """Wanted pods; claims of those that go; those that go; the rollout. Ordered sets end at the
    first pod that others have to wait for."""
    parallel = is_parallel(draft.owner)
    works, blocked = [], False
    for index, pod in enumerate(draft.replicas):
        work, blocks = _replica(draft, start(draft.owner) + index, pod)
        if work:
            works.append(work)
        blocked = blocks and not parallel
        if blocked:
            break
    yield works
    if blocked:
        return
    yield [
        [OwnClaim(body) for body in changed]
        for pod in draft.condemned
        if (changed := _claims_to_own(draft, pod))
    ]
    works, blocked = _condemned(draft)
    yield works
    if blocked or (draft.owner["spec"].get("updateStrategy") or {}).get("type") == "OnDelete":
        return
    yield [[Remove(pod)] for pod in _outdated(draft)]


def _replica(draft: _Draft, place: int, pod: Object | None) -> tuple[Work, bool]:
    """What is done for a wanted pod; and do those after it wait?"""
    if pod is None:
        return _birth(draft, place), True
    if podlib.is_finished(pod):
        # Whatever became of it, it is to run: it is made anew when it is gone.
        stays = podlib.is_terminating(pod) or draft.observed.wait_s(pod["metadata"]["name"])
        return ([] if stays else [Remove(pod)]), True
    work: list[Step] = []
    if podlib.phase(pod) == "Pending":
        claims, problem = _missing_claims(draft, place, pod["metadata"]["name"])
        work += claims
        if problem is not None:
            return [problem], True
    if not is_parallel(draft.owner) and not draft.available(pod):
        return work, True
    if not podlib.is_terminating(pod):
        if not has_identity(draft.owner, pod):
            work.append(Mend(with_identity(draft.owner, pod, place)))
        work += [OwnClaim(body) for body in _claims_to_own(draft, pod)]
    return work, False


def _birth(draft: _Draft, place: int) -> Work:
    """Claims and a pod, from the revision its place has."""
    observed, owner = draft.observed, draft.owner
    name = f"{owner['metadata']['name']}-{place}"
    if is_stale(owner, name, place, observed.claims):
        return []
    claims, problem = _missing_claims(draft, place, name)
    if problem is not None:
        return [problem]
    # Claims that were kept from an earlier pod get the owner they have now.
    nobody: Object = {"metadata": {"name": name, "uid": ""}}
    owned = [OwnClaim(body) for body in _changed_claims(draft, nobody, place)]
    revision = observed.current if _stays_behind(owner, place) else observed.update
    body = new_pod(_sets(), owner, template_of(revision), revision["metadata"]["name"], place)
    return [*claims, *owned, Create(body)]


def _stays_behind(owner: Object, place: int) -> bool:
    """Is the place below the partition of a rolling update?"""
    strategy = owner["spec"].get("updateStrategy") or {}
    if strategy.get("type") == "OnDelete":
        return False
    rolling = strategy.get("rollingUpdate")
    if rolling is None:
        return place < start(owner) + int((owner.get("status") or {}).get("currentReplicas") or 0)
    return place < start(owner) + int(rolling.get("partition") or 0)


def _missing_claims(draft: _Draft, place: int, pod: str) -> tuple[list[Step], Fail | None]:
    known = draft.observed.claims
    steps: list[Step] = []
    for body in new_claims(_sets(), draft.owner, place):
        name = body["metadata"]["name"]
        found = known.get(name)
        if found is None:
            steps.append(MakeClaim(body, pod))
        elif found["metadata"].get("deletionTimestamp"):
            return [], Fail(pod, f"pvc {name} is being deleted")
    return steps, None


def _claims_to_own(draft: _Draft, pod: Object) -> list[Object]:
    return _changed_claims(draft, pod, ordinal(draft.owner, pod))


def _changed_claims(draft: _Draft, pod: Object, place: int) -> list[Object]:
    return [*owned_claims(_sets(), draft.owner, pod, place, draft.observed.claims)]


def _sets() -> Descriptor:
    return resource("statefulsets", "apps")


def _condemned(draft: _Draft) -> tuple[list[Work], bool]:
    """Deletions of what is beyond the wanted ones; and does the rollout wait for them?"""
    alive = [pod for pod in draft.condemned if not podlib.is_terminating(pod)]
    if is_parallel(draft.owner):
        return [[Remove(pod)] for pod in alive], False
    if not draft.condemned:
        return [], False
    pod = draft.condemned[0]
    if podlib.is_terminating(pod):
        return [], True
    # One that is not available may go if everything below it is.
    below = any(not draft.available(item) for item in draft.condemned[1:])
    if not draft.available(pod) and below:
        return [], True
    return [[Remove(pod)]], True


def _outdated(draft: _Draft) -> list[Object]:
    """Pods of another revision that go now, the highest ordinal first (KEP-961).

    At most maxUnavailable pods are missing, going or new and not available yet. One that is old
    and not available anyway costs nothing: it goes before others, so that a rollout mends what
    the last one broke.
    """
    owner, revision = draft.owner, draft.observed.update["metadata"]["name"]
    limit, out = max_unavailable(owner), []
    partition = int(
        ((owner["spec"].get("updateStrategy") or {}).get("rollingUpdate") or {}).get("partition")
        or 0
    )
    unavailable = sum(not draft.available(pod) for pod in draft.replicas)
    under_way = sum(
        not draft.available(pod) and not _is_waiting(pod, revision) for pod in draft.replicas
    )
    for index in range(len(draft.replicas) - 1, partition - 1, -1):
        pod = draft.replicas[index]
        if pod is None or not _is_waiting(pod, revision):
            continue
        if under_way >= limit:
            break
        if draft.available(pod):
            if unavailable >= limit:
                continue
            unavailable += 1
        under_way += 1
        out.append(pod)
    return out


def _is_waiting(pod: Object | None, revision: str) -> bool:
    """Is it an old pod that has not been told to go?"""
    return (
        pod is not None
        and revision_of(pod) != revision
        and not podlib.is_terminating(pod)
        and not podlib.is_finished(pod)
    )


def max_unavailable(owner: Object) -> int:
    """Of a rollout: in pods, at least one."""
    strategy = owner["spec"].get("updateStrategy") or {}
    value = (strategy.get("rollingUpdate") or {}).get("maxUnavailable")
    return max(1, scaled(1 if value is None else value, wanted(owner), up=False))
