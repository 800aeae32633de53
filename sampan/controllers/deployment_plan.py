"""What a Deployment does next: which ReplicaSets to make, resize and drop, what to report. Pure.

One plan goes as far as can be seen from here; the changes it causes bring the next.
"""

from __future__ import annotations

from collections.abc import Sequence

import orjson
from msgspec import Struct, field

from sampan.api.descriptor import Descriptor
from sampan.api.errors import Object
from sampan.api.resources import resource

from . import deployment_status as report
from .deployment_sizes import (
    DESIRED,
    HASH,
    MAX,
    REVISION,
    REVISION_HISTORY,
    Set,
    annotation,
    desired,
    expired_history,
    is_rolling,
    is_saturated,
    max_surge,
    new_size,
    number,
    proportional,
    shrink_old,
)
from .runtime.conditions import condition, with_condition
from .runtime.owners import controller_reference

# Annotations of the deployment that its sets do not get.
NOT_COPIED = frozenset(
    {
        "kubectl.kubernetes.io/last-applied-configuration",
        REVISION,
        REVISION_HISTORY,
        DESIRED,
        MAX,
        "deprecated.deployment.rollback.to",
    }
)
# rand.SafeEncodeString's letters: no vowels, no 0, 1 or 3, so that no hash spells a word.
LETTERS = "bcdfghjklmnpqrstvwxz2456789"


class Observed(Struct, frozen=True):
    """What a sync looks at."""

    deployment: Object
    sets: Sequence[Object]
    """ReplicaSets it controls."""
    old_pods: bool = False
    """Does any set but the current one still have a pod that has not finished? (Recreate)"""


class Create(Struct, frozen=True):
    """Make the new set."""

    body: Object


class Resize(Struct, frozen=True):
    """Write a set back; sizes may be equal when only annotations change."""

    body: Object
    before: int
    after: int


class Delete(Struct, frozen=True):
    body: Object


Step = Create | Resize | Delete


class Plan(Struct, frozen=True):
    """Steps in order, then the revision annotation ("" = leave it), then the status."""

    steps: Sequence[Step]
    status: Object
    revision: str = ""
    again_s: float | None = None


class _Draft(Struct):
    """A plan in the making."""

    deployment: Object
    new: Set | None
    old: list[Set]
    now_s: float
    created: bool = False
    annotations: dict[str, dict[str, str]] = field(default_factory=dict)
    """New annotations of sets, by name."""

    @property
    def sets(self) -> list[Set]:
        return [*self.old, *([self.new] if self.new is not None else [])]

    def resize(self, item: Set, size: int) -> bool:
        """Decide a size; True if it is another than before."""
        changed = item.replicas != size
        item.replicas = size
        self.annotate(
            item,
            {
                DESIRED: str(desired(self.deployment)),
                MAX: str(desired(self.deployment) + max_surge(self.deployment)),
            },
        )
        return changed

    def annotate(self, item: Set, values: dict[str, str]) -> None:
        self.annotations.setdefault(item.name, {}).update(values)


def plan(observed: Observed, now_s: float) -> Plan:
    """The next steps of a deployment. Its selector is not empty (validation sees to that)."""
    deployment = observed.deployment
    new_body, old_bodies = split(deployment, observed.sets)
    new = _as_set(new_body) if new_body is not None else None
    draft = _Draft(deployment, new, [_as_set(body) for body in old_bodies], now_s)
    if deployment["metadata"].get("deletionTimestamp"):
        return Plan((), report.counts(deployment, draft.sets, draft.new, now_s))
    paused = report.paused_condition(deployment, now_s)
    if paused is not None:
        _add_condition(draft, paused)
    doomed: Sequence[Set] = ()
    if deployment["spec"].get("paused") or _is_scaling(deployment, draft.sets):
        _sync_new(draft, create=False)
        _scale(draft)
        if deployment["spec"].get("paused"):
            doomed = expired_history(deployment, draft.old)
        status = report.counts(draft.deployment, draft.sets, draft.new, now_s)
    else:
        changed = _roll(draft) if is_rolling(deployment) else _recreate(draft, observed)
        status = report.rollout_status(draft.deployment, draft.sets, draft.new, now_s)
        # As upstream: by the status that was reported, not by the one to come.
        if not changed and report.is_complete(deployment, deployment.get("status") or {}):
            doomed = expired_history(deployment, draft.old)
    return Plan(
        steps=[*_steps(draft), *(Delete(item.body) for item in doomed)],
        status=status,
        revision=_deployment_revision(draft),
        again_s=report.check_again_s(deployment, status, now_s),
    )


def split(deployment: Object, sets: Sequence[Object]) -> tuple[Object | None, list[Object]]:
    """(the set with the deployment's template, all others). The oldest wins if there are two."""
    template = deployment["spec"]["template"]
    ordered = sorted(
        sets,
        key=lambda item: (
            item["metadata"].get("creationTimestamp") or "",
            item["metadata"]["name"],
        ),
    )
    new = next(
        (item for item in ordered if same_template(item["spec"]["template"], template)), None
    )
    return new, [item for item in ordered if item is not new]


def same_template(left: Object, right: Object) -> bool:
    """Equal but for the hash label; absent and empty are the same, as in Go."""
    one, other = _bare(left), _bare(right)
    return one == other or _full(one) == _full(other)


def _bare(template: Object) -> Object:
    meta = {**(template.get("metadata") or {})}
    labels = meta.get("labels") or {}
    meta["labels"] = {key: value for key, value in labels.items() if key != HASH}
    return {**template, "metadata": meta}


def _full(value: object) -> object:
    """Without empty members, so that leaving one out does not look like a change."""
    if isinstance(value, dict):
        found = {key: _full(item) for key, item in value.items()}
        return {key: item for key, item in found.items() if item not in (None, {}, [])}
    if isinstance(value, list):
        return [_full(item) for item in value]
    return value


def template_hash(deployment: Object) -> str:
    """The pod-template-hash: the same for the same template and collision count, for ever."""
    collisions = (deployment.get("status") or {}).get("collisionCount") or 0
    text = orjson.dumps(
        [_full(_bare(deployment["spec"]["template"])), collisions], option=orjson.OPT_SORT_KEYS
    )
    digest = 2166136261
    for byte in text:
        digest = ((digest ^ byte) * 16777619) & 0xFFFFFFFF
    return "".join(LETTERS[ord(letter) % len(LETTERS)] for letter in str(digest))


def _as_set(body: Object) -> Set:
    return Set(body, _size(body))


def _size(body: Object) -> int:
    replicas = body["spec"].get("replicas")
    return 1 if replicas is None else int(replicas)


def _add_condition(draft: _Draft, found: Object) -> None:
    """From here on the deployment's status has this condition."""
    status = draft.deployment.get("status") or {}
    conditions = with_condition(status.get("conditions"), found)
    draft.deployment = {**draft.deployment, "status": {**status, "conditions": conditions}}


def _is_scaling(deployment: Object, sets: Sequence[Set]) -> bool:
    """An active set was last sized for another number of replicas than is wanted now."""
    want = str(desired(deployment))
    found = (annotation(item.body, DESIRED) for item in sets if item.replicas > 0)
    return any(value not in ("", want) for value in found)


def _sync_new(draft: _Draft, *, create: bool) -> None:
    """Bring the new set's annotations and revision up to date; make it if there is none."""
    deployment = draft.deployment
    revision = max((item.revision for item in draft.old), default=0) + 1
    has_condition = condition(
        (deployment.get("status") or {}).get("conditions"), report.PROGRESSING
    )
    copied = _copied_annotations(deployment)
    if draft.new is not None:
        values = {**copied}
        before = annotation(draft.new.body, REVISION)
        if number(before) < revision:
            values[REVISION] = str(revision)
            if before:
                history = annotation(draft.new.body, REVISION_HISTORY)
                values[REVISION_HISTORY] = f"{history},{before}" if history else before
        draft.annotate(draft.new, values)
        if has_condition is None and report.has_deadline(deployment):
            text = f'Found new replica set "{draft.new.name}"'
            _add_condition(draft, report.progressing(report.FOUND, text, draft.now_s))
        return
    if not create:
        return
    body = new_set(deployment, {**copied, REVISION: str(revision)})
    draft.new = Set(body, 0)
    draft.created = True
    draft.resize(draft.new, new_size(deployment, draft.sets, draft.new))
    if report.has_deadline(deployment):
        text = f'Created new replica set "{draft.new.name}"'
        _add_condition(draft, report.progressing(report.CREATED, text, draft.now_s))


def _copied_annotations(deployment: Object) -> dict[str, str]:
    found = deployment["metadata"].get("annotations") or {}
    return {key: value for key, value in found.items() if key not in NOT_COPIED}


def new_set(deployment: Object, annotations: dict[str, str]) -> Object:
    """The ReplicaSet of the deployment's present template, with no size yet."""
    meta, spec = deployment["metadata"], deployment["spec"]
    digest = template_hash(deployment)
    template = spec["template"]
    template_meta = template.get("metadata") or {}
    labels = {**(template_meta.get("labels") or {}), HASH: digest}
    selector = spec.get("selector") or {}
    matched = {**(selector.get("matchLabels") or {}), HASH: digest}
    return {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {
            "name": f"{meta['name']}-{digest}",
            "namespace": meta["namespace"],
            "labels": labels,
            "annotations": annotations,
            "ownerReferences": [controller_reference(_deployments(), deployment)],
        },
        "spec": {
            "minReadySeconds": spec.get("minReadySeconds") or 0,
            "selector": {**selector, "matchLabels": matched},
            "template": {**template, "metadata": {**template_meta, "labels": labels}},
        },
    }


def _deployments() -> Descriptor:
    return resource("deployments", "apps")


def _scale(draft: _Draft) -> None:
    """Sizes for a new number of replicas: all to one set, or shares of a rollout under way."""
    deployment = draft.deployment
    active = [item for item in draft.sets if item.replicas > 0]
    single = active[0] if active else (draft.new or max(draft.old, key=_age, default=None))
    if len(active) <= 1:
        if single is not None:
            draft.resize(single, desired(deployment))
        return
    if is_saturated(deployment, draft.new):
        for item in draft.old:
            if item.replicas > 0:
                draft.resize(item, 0)
        return
    if is_rolling(deployment):
        sizes = proportional(deployment, active)
        for item in active:
            draft.resize(item, sizes[item.name])


def _age(item: Set) -> tuple[str, str]:
    return item.created


def _roll(draft: _Draft) -> bool:
    """One step of a rolling update; True if any size changed."""
    _sync_new(draft, create=True)
    new = draft.new
    if new is None:
        return False
    if not draft.created and new.replicas != desired(draft.deployment):
        larger = new.replicas < desired(draft.deployment)
        size = new_size(draft.deployment, draft.sets, new) if larger else desired(draft.deployment)
        if draft.resize(new, size):
            return True
    sizes = shrink_old(draft.deployment, draft.old, new)
    for item in draft.old:
        if item.name in sizes:
            draft.resize(item, sizes[item.name])
    return bool(sizes)


def _recreate(draft: _Draft, observed: Observed) -> bool:
    """Everything old goes first, to the last pod; then the new set comes."""
    _sync_new(draft, create=False)
    shrinking = [item for item in draft.old if item.replicas > 0]
    for item in shrinking:
        draft.resize(item, 0)
    if shrinking or observed.old_pods:
        return True
    if draft.new is None:
        _sync_new(draft, create=True)
        return False
    if draft.new.replicas != desired(draft.deployment):
        return draft.resize(draft.new, desired(draft.deployment))
    return False


def _steps(draft: _Draft) -> list[Step]:
    """Create or write back every set the draft has changed; the new one first."""
    steps: list[Step] = []
    ordered = sorted(draft.sets, key=lambda item: item is not draft.new)
    for item in ordered:
        annotations = item.body["metadata"].get("annotations") or {}
        wanted = {**annotations, **draft.annotations.get(item.name, {})}
        meta = {**item.body["metadata"], "annotations": wanted}
        spec = {**item.body["spec"], "replicas": item.replicas}
        is_new = item is draft.new
        if is_new and draft.created:
            steps.append(Create({**item.body, "metadata": meta, "spec": spec}))
            continue
        min_ready_s = draft.deployment["spec"].get("minReadySeconds") or 0
        late = is_new and (spec.get("minReadySeconds") or 0) != min_ready_s
        if late:
            spec["minReadySeconds"] = min_ready_s
        before = _size(item.body)
        if late or item.replicas != before or wanted != annotations:
            body = {**item.body, "metadata": meta, "spec": spec}
            steps.append(Resize(body, before, item.replicas))
    return steps


def _deployment_revision(draft: _Draft) -> str:
    """The revision to write on the deployment, "" if it is there already."""
    new = draft.new
    if new is None:
        return ""
    revision = draft.annotations.get(new.name, {}).get(REVISION) or annotation(new.body, REVISION)
    return revision if revision != annotation(draft.deployment, REVISION) else ""
