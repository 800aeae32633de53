"""eviction: delete a pod if its disruption budget allows (policy/v1 Eviction).

Each eviction takes one from the budget's `disruptionsAllowed` in a guarded write; the disruption
controller gives it back when it has seen the pod go.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from sampan.api.descriptor import Descriptor
from sampan.api.errors import (
    Cause,
    Conflict,
    Details,
    InternalError,
    Object,
    TooManyRequests,
    conflict,
    forbidden,
)
from sampan.api.meta import has_condition
from sampan.api.resources import resource
from sampan.api.selectors import from_label_selector
from sampan.api.times import format_time

from ..answer import SUCCESS
from ..exchange import Attributes, Request, Response, Write
from .reading import EVICTION, read_posted

if TYPE_CHECKING:
    from ..app import Server

# Upstream's bound: more unconfirmed evictions mean that the controller is not keeping up.
MAX_DISRUPTED = 2000
RETRY_S = 10
TRIES = 20
"""For pods that change while they are evicted (upstream's EvictionsRetry)."""
ENDED = ("Succeeded", "Failed")
ALLOWED = "DisruptionAllowed"
REFUSED = "Cannot evict pod as it would violate the pod's disruption budget."
SEVERAL = (
    "This pod has more than one PodDisruptionBudget, which the eviction subresource does not"
    " support."
)


class Leave(NamedTuple):
    """That a pod may go."""

    unchanged: bool
    """Only as it was seen: it is not ready, and would be guarded if it were."""


async def handle(server: Server, request: Request, attributes: Attributes) -> Response:
    """POST pods/NAME/eviction."""
    posted = read_posted(request, attributes, EVICTION)
    body, headers = posted.obj, posted.headers()
    options = dict(body.get("deleteOptions") or {})
    dry_run = posted.options.dry_run or bool(options.get("dryRun"))
    if dry_run:
        options["dryRun"] = ["All"]
    write = Write(attributes, "CREATE", body, None, dry_run)
    await server.admission.admit(write)
    await server.admission.validate(write)
    await _evict(server, attributes, options, dry_run)
    return Response(201, obj=SUCCESS, headers=headers)


async def _evict(server: Server, attributes: Attributes, options: Object, dry_run: bool) -> None:
    """Delete the pod if it may go. Raises TooManyRequests, Conflict, InternalError."""
    pods, namespace = resource("pods"), attributes.namespace
    asked = options.get("preconditions") or {}
    for attempt in range(TRIES):
        pod = server.get_object(pods, namespace, attributes.name)
        chosen = _unguarded(pod)
        budget = ""
        if chosen is None:
            budget, chosen = await _take(server, pod, dry_run)
        wanted = {"uid": pod["metadata"]["uid"]}
        if chosen.unchanged:
            # It may become ready, and be one that is guarded, before it is deleted.
            wanted["resourceVersion"] = pod["metadata"]["resourceVersion"]
        options = {**options, "preconditions": wanted | asked}
        try:
            await _delete(server, attributes, options, dry_run)
        except Conflict:
            if not chosen.unchanged or "resourceVersion" in asked:
                raise
            if budget:
                raise _pending(budget) from None
            if attempt == TRIES - 1:
                raise
            continue
        return


async def _delete(server: Server, attributes: Attributes, options: Object, dry_run: bool) -> None:
    """Mark the pod as one that is disrupted, then delete it."""
    pods, namespace, name = resource("pods"), attributes.namespace, attributes.name
    if not dry_run:
        now = format_time(server.clock.now())
        wanted = options["preconditions"]
        marked = await server.update_object(
            pods, namespace, name, lambda stored: _mark(stored, wanted, now), subresource="status"
        )
        if "resourceVersion" in wanted:
            version = marked["metadata"]["resourceVersion"]
            options = {**options, "preconditions": {**wanted, "resourceVersion": version}}
    await server.delete_object(pods, namespace, name, options, user=attributes.user)


def _unguarded(pod: Object) -> Leave | None:
    """Budgets are about pods that may be doing work; None for those."""
    phase = (pod.get("status") or {}).get("phase")
    if "deletionTimestamp" in pod["metadata"] or phase in ENDED:
        return Leave(unchanged=False)
    return Leave(unchanged=True) if phase == "Pending" else None


def _mark(pod: Object, wanted: Object, now: str) -> Object:
    """The pod with upstream's DisruptionTarget condition. Raises Conflict."""
    meta = pod["metadata"]
    for field, title in (("uid", "UID"), ("resourceVersion", "ResourceVersion")):
        if wanted.get(field) not in (None, "", meta[field]):
            happened = "deleted and then recreated" if field == "uid" else "modified"
            raise conflict(
                "",
                "Pod",
                meta["name"],
                f"the {title} in the precondition ({wanted[field]}) does not match the {title} in"
                f" record ({meta[field]}). The object might have been {happened}",
            )
    condition = {
        "type": "DisruptionTarget",
        "status": "True",
        "observedGeneration": meta.get("generation", 1),
        "lastProbeTime": None,
        "lastTransitionTime": now,
        "reason": "EvictionByEvictionAPI",
        "message": "Eviction API: evicting",
    }
    status = pod.setdefault("status", {})
    others = [item for item in status.get("conditions") or () if item["type"] != "DisruptionTarget"]
    status["conditions"] = [*others, condition]
    meta.pop("resourceVersion", None)
    return pod


async def _take(server: Server, pod: Object, dry_run: bool) -> tuple[str, Leave]:
    """Take one disruption from the pod's budget, whose name it gives, if it has one. Raises
    TooManyRequests."""
    budgets: Descriptor = resource("poddisruptionbudgets", "policy")
    namespace, name = pod["metadata"]["namespace"], pod["metadata"]["name"]
    labels = pod["metadata"].get("labels") or {}
    matching = [
        budget
        for budget in server.list_objects(budgets, namespace)
        if from_label_selector((budget.get("spec") or {}).get("selector")).matches(labels)
    ]
    if not matching:
        return "", Leave(unchanged=False)
    if len(matching) > 1:
        raise InternalError(SEVERAL)
    budget = matching[0]
    if not has_condition(pod, "Ready") and _lets_unhealthy_go(budget):
        return budget["metadata"]["name"], Leave(unchanged=True)
    now = format_time(server.clock.now())
    await server.update_object(
        budgets,
        namespace,
        budget["metadata"]["name"],
        lambda stored: decrement(stored, stored, name, now),
        subresource="status",
        dry_run=dry_run,
    )
    return budget["metadata"]["name"], Leave(unchanged=False)


def decrement(old: Object, budget: Object, pod: str, now: str) -> Object:
    """`budget`, a private copy of `old`, with one disruption less. Raises TooManyRequests."""
    name = old["metadata"]["name"]
    status = budget.setdefault("status", {})
    if status.get("observedGeneration", 0) < old["metadata"].get("generation", 0):
        raise _pending(name)
    allowed = status.get("disruptionsAllowed", 0)
    disrupted = status.get("disruptedPods") or {}
    if allowed < 0:
        raise forbidden(
            "policy", "poddisruptionbudget", name, "pdb disruptions allowed is negative"
        )
    if len(disrupted) > MAX_DISRUPTED:
        raise forbidden(
            "policy",
            "poddisruptionbudget",
            name,
            "DisruptedPods map too big - too many evictions not confirmed by PDB controller",
        )
    if allowed == 0:
        raise _refused(_why_none(name, status))
    status["disruptionsAllowed"] = allowed - 1
    status["disruptedPods"] = {**disrupted, pod: now}
    if allowed == 1:
        status["conditions"] = _exhausted(status, now)
    budget["metadata"].pop("resourceVersion", None)
    return budget


def _why_none(name: str, status: Object) -> str:
    for item in status.get("conditions") or ():
        if item["type"] == ALLOWED and item.get("reason") == "SyncFailed":
            return (
                f"The disruption budget {name} does not allow evicting pods currently because it"
                f" failed sync: {item.get('message', '')}"
            )
    return (
        f"The disruption budget {name} needs {status.get('desiredHealthy', 0)} healthy pods"
        f" and has {status.get('currentHealthy', 0)} currently"
    )


def _exhausted(status: Object, now: str) -> list[Object]:
    """The conditions when the last disruption is taken."""
    new = {
        "type": ALLOWED,
        "status": "False",
        "observedGeneration": status.get("observedGeneration", 0),
        "lastTransitionTime": now,
        "reason": "InsufficientPods",
        "message": "",
    }
    conditions = status.get("conditions") or []
    if not any(item["type"] == ALLOWED for item in conditions):
        return [*conditions, new]
    return [new if item["type"] == ALLOWED else item for item in conditions]


def _pending(budget: str) -> TooManyRequests:
    why = f"The disruption budget {budget} is still being processed by the server."
    return _refused(why, RETRY_S)


def _refused(why: str, retry_after_s: int = 0) -> TooManyRequests:
    cause = Cause("", why, "DisruptionBudget")
    return TooManyRequests(REFUSED, Details(causes=(cause,), retry_after_s=retry_after_s))


def _lets_unhealthy_go(budget: Object) -> bool:
    """A pod that is not ready does not count; it may go as the budget's policy says."""
    if (budget.get("spec") or {}).get("unhealthyPodEvictionPolicy") == "AlwaysAllow":
        return True
    status = budget.get("status") or {}
    desired = status.get("desiredHealthy", 0)
    return bool(desired > 0 and status.get("currentHealthy", 0) >= desired)
