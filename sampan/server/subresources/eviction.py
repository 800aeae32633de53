"""eviction: delete a pod if its disruption budget allows (policy/v1 Eviction).

Each eviction takes one from the budget's `disruptionsAllowed` in a guarded write; the disruption
controller gives it back when it has seen the pod go.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sampan.api.descriptor import Descriptor
from sampan.api.errors import (
    Cause,
    Details,
    InternalError,
    Object,
    TooManyRequests,
    forbidden,
)
from sampan.api.resources import resource
from sampan.api.selectors import from_label_selector
from sampan.api.times import format_time

from ..exchange import Attributes, Request, Response, Write
from .reading import EVICTION, read_posted

if TYPE_CHECKING:
    from ..app import Server

SUCCESS = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}
# Upstream's bound: more unconfirmed evictions mean that the controller is not keeping up.
MAX_DISRUPTED = 2000
RETRY_S = 10
UNGUARDED_PHASES = ("Succeeded", "Failed", "Pending")
REFUSED = "Cannot evict pod as it would violate the pod's disruption budget."


async def handle(server: Server, request: Request, attributes: Attributes) -> Response:
    """POST pods/NAME/eviction."""
    posted = read_posted(request, attributes, EVICTION)
    body, headers = posted.obj, posted.headers()
    options = dict(body.get("deleteOptions") or {})
    dry_run = posted.options.dry_run or bool(options.get("dryRun"))
    write = Write(attributes, "CREATE", body, None, dry_run)
    await server.admission.admit(write)
    await server.admission.validate(write)
    pods, namespace = resource("pods"), attributes.namespace
    pod = server.get_object(pods, namespace, attributes.name)
    if _is_guarded(pod):
        await _take(server, pod, dry_run)
    if dry_run:
        return Response(201, obj=SUCCESS, headers=headers)
    now = format_time(server.clock.now())
    await server.update_object(
        pods, namespace, attributes.name, lambda stored: _mark(stored, now), subresource="status"
    )
    options.setdefault("preconditions", {"uid": pod["metadata"]["uid"]})
    await server.delete_object(pods, namespace, attributes.name, options, user=attributes.user)
    return Response(201, obj=SUCCESS, headers=headers)


def _is_guarded(pod: Object) -> bool:
    """Budgets are about pods that may be doing work."""
    if "deletionTimestamp" in pod["metadata"]:
        return False
    return (pod.get("status") or {}).get("phase") not in UNGUARDED_PHASES


def _mark(pod: Object, now: str) -> Object:
    """The pod with upstream's DisruptionTarget condition."""
    condition = {
        "type": "DisruptionTarget",
        "status": "True",
        "observedGeneration": pod["metadata"].get("generation", 1),
        "lastProbeTime": None,
        "lastTransitionTime": now,
        "reason": "EvictionByEvictionAPI",
        "message": "Eviction API: evicting",
    }
    status = pod.setdefault("status", {})
    others = [item for item in status.get("conditions") or () if item["type"] != "DisruptionTarget"]
    status["conditions"] = [*others, condition]
    pod["metadata"].pop("resourceVersion", None)
    return pod


async def _take(server: Server, pod: Object, dry_run: bool) -> None:
    """Take one disruption from the pod's budget, if it has one. Raises TooManyRequests."""
    budgets: Descriptor = resource("poddisruptionbudgets", "policy")
    namespace, name = pod["metadata"]["namespace"], pod["metadata"]["name"]
    labels = pod["metadata"].get("labels") or {}
    matching = [
        budget
        for budget in server.list_objects(budgets, namespace)
        if from_label_selector((budget.get("spec") or {}).get("selector")).matches(labels)
    ]
    if not matching:
        return
    if len(matching) > 1:
        raise InternalError(
            "Internal error occurred: This pod has more than one PodDisruptionBudget, which the"
            " eviction subresource does not support."
        )
    budget = matching[0]
    if not _is_ready(pod) and _lets_unhealthy_go(budget):
        return
    now = format_time(server.clock.now())
    await server.update_object(
        budgets,
        namespace,
        budget["metadata"]["name"],
        lambda stored: decrement(stored, stored, name, now),
        subresource="status",
        dry_run=dry_run,
    )


def decrement(old: Object, budget: Object, pod: str, now: str) -> Object:
    """`budget`, a private copy of `old`, with one disruption less. Raises TooManyRequests."""
    name = old["metadata"]["name"]
    status = budget.setdefault("status", {})
    if status.get("observedGeneration", 0) < old["metadata"].get("generation", 0):
        raise _refused(
            name, f"The disruption budget {name} is still being processed by the server.", RETRY_S
        )
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
        raise _refused(
            name,
            f"The disruption budget {name} needs {status.get('desiredHealthy', 0)} healthy pods"
            f" and has {status.get('currentHealthy', 0)} currently",
        )
    status["disruptionsAllowed"] = allowed - 1
    status["disruptedPods"] = {**disrupted, pod: now}
    budget["metadata"].pop("resourceVersion", None)
    return budget


def _refused(budget: str, why: str, retry_after_s: int = 0) -> TooManyRequests:
    cause = Cause("", why, "DisruptionBudget")
    return TooManyRequests(REFUSED, Details(causes=(cause,), retry_after_s=retry_after_s))


def _is_ready(pod: Object) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return any(item["type"] == "Ready" and item["status"] == "True" for item in conditions)


def _lets_unhealthy_go(budget: Object) -> bool:
    """A pod that is not ready does not count; it may go as the budget's policy says."""
    if (budget.get("spec") or {}).get("unhealthyPodEvictionPolicy") == "AlwaysAllow":
        return True
    status = budget.get("status") or {}
    desired = status.get("desiredHealthy", 0)
    return bool(desired > 0 and status.get("currentHealthy", 0) >= desired)
