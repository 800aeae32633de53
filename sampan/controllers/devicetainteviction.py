"""Evicts pods whose devices have NoExecute taints that their claims do not tolerate, or no longer
(KEP-5055): what the device's driver says in its ResourceSlices.

DeviceTaintRules are not looked at: their API is off by default upstream. The slices are listed once
there is a claim with devices; a cluster without drivers pays nothing. Work per change is the claims
of its pool and the pods that use them.
"""

from __future__ import annotations

from collections.abc import Sequence

from sampan.api.errors import Object
from sampan.api.resources import resource
from sampan.client.events import NORMAL
from sampan.client.informer import Informer
from sampan.wire.exposition import Buckets

from . import devicetainteviction_plan as planning
from .resourceclaim_plan import claims_by_name, is_for
from .runtime import pods as podlib
from .runtime.controller import Context, Controller
from .runtime.disrupting import delete_disrupted, disrupted
from .runtime.metrics import Counters
from .runtime.queue import Request, Requeue

GROUP = "resource.k8s.io"
BY_POOL = "device pool"
REASON = "DeletionByDeviceTaintManager"
MESSAGE = "Device Taint manager: deleting due to NoExecute taint"
DELETED = "device_taint_eviction_controller_pod_deletions_total"
TOOK = "device_taint_eviction_controller_pod_deletion_duration_seconds"
BUCKETS_S = (0.005, 0.025, 0.1, 0.5, 1, 2.5, 10, 30, 60, 120, 180, 240)


class DeviceTaintEvictionController(Controller):
    """A request is a pod."""

    name = "device-taint-eviction-controller"
    workers = 8

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.resource = resource("pods")
        self.recorder = context.recorder(self.name)
        self.pods = self.informer(self.resource)
        self.claims = self.informer(resource("resourceclaims", GROUP))
        self.claims.add_index(BY_POOL, planning.pools_of)
        self.slices: Informer | None = None
        self.waiting: dict[Request, float] = {}
        """Pods that are to go, and when."""
        self.counters = Counters({DELETED: ()})
        self.took: Buckets | None = None
        self.claims.on_change(self._claim_changed)
        self.pods.on_change(self._pod_changed)

    def _claim_changed(self, old: Object | None, new: Object | None) -> None:
        if self.slices is None and new is not None and (new.get("status") or {}).get("allocation"):
            self.slices = self.context.informers.informer(resource("resourceslices", GROUP))
            self.slices.add_index(BY_POOL, planning.pool_of)
            self.slices.on_change(self._slice_changed)
        for claim in (old, new):
            if claim is not None:
                self._add_users(claim)

    def _slice_changed(self, old: Object | None, new: Object | None) -> None:
        """One without taints may be what ends an older one's, so whoever waits is looked at."""
        found = new if new is not None else old
        if found is None or not (
            self.waiting or any(item and planning.has_taints(item) for item in (old, new))
        ):
            return
        for pool in planning.pool_of(found):
            for claim in self.claims.by_index(BY_POOL, pool):
                self._add_users(claim)

    def _add_users(self, claim: Object) -> None:
        for item in (claim.get("status") or {}).get("reservedFor") or ():
            if item.get("resource") == "pods" and not item.get("apiGroup"):
                self.queue.add(Request(claim["metadata"]["namespace"], item["name"]))

    def _pod_changed(self, old: Object | None, new: Object | None) -> None:
        """Most changes of a pod have nothing to do with its claims."""
        if new is None:
            if old is not None:
                meta = old["metadata"]
                self.waiting.pop(Request(meta["namespace"], meta["name"]), None)
        elif new["spec"].get("resourceClaims") and _place(old) != _place(new):
            self.add(new)

    async def reconcile(self, request: Request) -> Requeue | None:
        pod = self.pods.get(*request)
        if pod is None or podlib.is_terminating(pod):
            self.waiting.pop(request, None)
            return None
        when = self._when(pod)
        if when is None:
            if self.waiting.pop(request, None) is not None:
                text = "Cancelling deletion"
                self.recorder.event(pod, NORMAL, "DeviceTaintManagerEviction", text)
            return None
        self.waiting[request] = when
        now = self.clock.now()
        if when > now:
            return Requeue(when - now)
        self.recorder.event(pod, NORMAL, "DeviceTaintManagerEviction", "Marking for deletion")
        status = disrupted(pod, REASON, MESSAGE, now)
        if await delete_disrupted(self.client, self.resource, pod, status):
            self.counters.add(DELETED)
            self.took = self.took or Buckets(BUCKETS_S)
            self.took.add(self.clock.now() - when)
        self.waiting.pop(request, None)
        return None

    def _when(self, pod: Object) -> float | None:
        """When the pod is to go; None if it may stay. One without a node holds no device."""
        if self.slices is None or not pod["spec"].get("nodeName"):
            return None
        times = [planning.eviction_s(claim, self._taints) for claim in self._claims(pod)]
        return min((found for found in times if found is not None), default=None)

    def _claims(self, pod: Object) -> list[Object]:
        """The claims that are reserved for the pod."""
        meta, made, out = pod["metadata"], claims_by_name(pod), []
        for item in pod["spec"].get("resourceClaims") or ():
            name = item.get("resourceClaimName") or made.get(item["name"])
            claim = self.claims.get(meta["namespace"], name) if name else None
            if claim is None or (
                not item.get("resourceClaimName") and not is_for(claim, pod, item["name"])
            ):
                continue
            reserved = (claim.get("status") or {}).get("reservedFor") or ()
            if any(user.get("uid") == meta["uid"] for user in reserved):
                out.append(claim)
        return out

    def _taints(self, result: Object) -> Sequence[Object]:
        """The NoExecute taints of an allocated device."""
        pool = planning.pool_name(result["driver"], result["pool"])
        slices = self.slices.by_index(BY_POOL, pool) if self.slices is not None else ()
        return planning.taints_of(slices, result["device"])

    def exposition(self) -> str:
        if self.took is None:
            return ""
        lines = (f"# TYPE {TOOK} histogram", *self.took.lines(TOOK))
        return self.counters.exposition() + "".join(f"{line}\n" for line in lines)


def _place(pod: Object | None) -> tuple[object, object]:
    if pod is None:
        return None, None
    statuses = (pod.get("status") or {}).get("resourceClaimStatuses")
    return pod["spec"].get("nodeName"), statuses
