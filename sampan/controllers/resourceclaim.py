"""Claims for devices (DRA): made for pods from templates, given back when nobody uses them, and
deleted with the end of the pod they were made for.

The scheduler allocates and reserves; here a pod that came to its node without it gets its
reservation. Templates are read when a claim is made: nobody caches them. Work per pod is its own
claims, per claim its own consumers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from sampan.api.errors import NotFound, Object, StatusError
from sampan.api.resources import resource
from sampan.client.events import WARNING
from sampan.client.interface import STRATEGIC_PATCH

from . import resourceclaim_plan as planning
from .runtime.controller import Context, Controller
from .runtime.metrics import Counters
from .runtime.owners import BY_CONTROLLER, add_owner_indexes, controller_of, owned, refers_to
from .runtime.queue import Request
from .runtime.status import write_status

GROUP = "resource.k8s.io"
CREATED = "resourceclaim_controller_creates_total"
CLAIMS = "resourceclaim_controller_resource_claims"
CONSUMERS = "consumer uid"
# A request is a claim, or with this before its name a pod: names have no slash.
POD = "pod/"


class ResourceClaimController(Controller):
    """See the module."""

    name = "resource_claim"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.resource = resource("resourceclaims", GROUP)
        self.templates = resource("resourceclaimtemplates", GROUP)
        self.pod_resource = resource("pods")
        self.recorder = context.recorder("resource_claim")
        self.made: dict[tuple[str, str], str] = {}
        """By the pod's uid and its claim: the name of what was made for it, until its status says
        so. What the cache does not show yet is not made twice."""
        self.counters = Counters({CREATED: ("status", "admin_access")})
        self.pods = self.informer(self.pod_resource)
        self.claims = self.informer(self.resource)
        add_owner_indexes(self.claims)
        self.claims.add_index(CONSUMERS, _consumers)
        self.pods.on_change(self._pod_changed)
        self.claims.on_change(self._claim_changed)

    def _pod_changed(self, old: Object | None, new: Object | None) -> None:
        pod = new if new is not None else old
        if pod is None:
            return
        named = pod["spec"].get("resourceClaims") or ()
        if not named and not (pod.get("status") or {}).get("extendedResourceClaimStatus"):
            return
        meta = pod["metadata"]
        if new is not None and not planning.is_done(new):
            if named:
                self.queue.add(Request(meta["namespace"], POD + meta["name"]))
            return
        for item in named:
            self.made.pop((meta["uid"], item["name"]), None)
        for index in (CONSUMERS, BY_CONTROLLER):
            for claim in self.claims.by_index(index, meta["uid"]):
                self.add(claim)

    def _claim_changed(self, old: Object | None, new: Object | None) -> None:
        self.add_changed(old, new)
        claim = new if new is not None else old
        if claim is None:
            return
        # A claim that is gone is made anew; one that is allocated may be reserved.
        owner = controller_of(claim)
        if owner is not None and refers_to(owner, self.pod_resource):
            self.queue.add(Request(claim["metadata"]["namespace"], POD + owner["name"]))

    def exposition(self) -> str:
        found = Counter(planning.kind_of(claim) for claim in self.claims.list())
        lines = [f"# TYPE {CLAIMS} gauge"] if found else []
        for (allocated, admin, source), count in sorted(found.items()):
            labels = f'allocated="{allocated}",admin_access="{admin}",source="{source}"'
            lines.append(f"{CLAIMS}{{{labels}}} {count}")
        return self.counters.exposition() + "".join(f"{line}\n" for line in lines)

    async def reconcile(self, request: Request) -> None:
        if request.name.startswith(POD):
            await self._sync_pod(request.namespace, request.name.removeprefix(POD))
            return
        claim = self.claims.get(*request)
        if claim is not None:
            await self._sync_claim(claim)

    # Claims

    async def _sync_claim(self, claim: Object) -> None:
        namespace = claim["metadata"]["namespace"]
        reserved = (claim.get("status") or {}).get("reservedFor") or ()
        used = {item["uid"] for item in reserved if await self._uses(item, namespace)}
        todo = planning.sync(claim, used, owner_done=self._owner_is_done(claim))
        known: Object | None = claim
        if todo.status is not None:
            known = await write_status(self.client, self.resource, claim, todo.status)
        if todo.release and known is not None:
            known = await self._release(known)
        if todo.delete and known is not None:
            await self._delete(known)

    def _owner_is_done(self, claim: Object) -> bool:
        """Has the pod it was made for ended? One that is gone is the garbage collector's affair."""
        owner = controller_of(claim)
        if owner is None or not refers_to(owner, self.pod_resource):
            return False
        pod = self.pods.get(claim["metadata"]["namespace"], owner["name"])
        return pod is not None and pod["metadata"]["uid"] == owner["uid"] and planning.is_done(pod)

    async def _uses(self, item: Object, namespace: str) -> bool:
        """Does the consumer still use the claim? Of those that are not pods nothing is known."""
        if item.get("resource") != "pods" or item.get("apiGroup"):
            return True
        pod = self.pods.get(namespace, item["name"])
        if pod is None or pod["metadata"]["uid"] != item["uid"]:
            # The cache may be behind: the scheduler may have reserved for a pod just made.
            pod = await self.pods.get_live(namespace, item["name"])
        if pod is None or pod["metadata"]["uid"] != item["uid"]:
            return False
        return not planning.is_done(pod)

    async def _release(self, claim: Object) -> Object | None:
        meta = claim["metadata"]
        kept = [item for item in meta.get("finalizers") or () if item != planning.FINALIZER]
        try:
            body = {**claim, "metadata": {**meta, "finalizers": kept}}
            return await self.client.update(self.resource, body)
        except NotFound:
            return None

    async def _delete(self, claim: Object) -> None:
        meta = claim["metadata"]
        options = {"preconditions": {"uid": meta["uid"]}}
        try:
            await self.client.delete(self.resource, meta["name"], meta["namespace"], options)
        except NotFound:
            return

    # Pods

    async def _sync_pod(self, namespace: str, name: str) -> None:
        pod = self.pods.get(namespace, name)
        if pod is None or pod["metadata"].get("deletionTimestamp") or planning.is_done(pod):
            return
        if not pod["spec"].get("resourceClaims"):
            return  # the scheduler sees to the claim for its extended resources
        known, fresh = planning.claims_by_name(pod), {}
        for item in pod["spec"]["resourceClaims"]:
            try:
                found = await self._ensure(pod, item, known.get(item["name"]))
            except (StatusError, OSError) as error:
                text = f"PodResourceClaim {item['name']}: {error}"
                self.recorder.event(pod, WARNING, "FailedResourceClaimCreation", text)
                raise
            if found:
                fresh[item["name"]] = found
        if fresh:
            await self._tell(pod, fresh)
        if pod["spec"].get("nodeName"):
            await self._reserve_all(pod, {**known, **fresh})

    async def _tell(self, pod: Object, names: dict[str, str]) -> None:
        """Write into the pod's status what its claims are. The list is a map by their names."""
        meta = pod["metadata"]
        said = [{"name": key, "resourceClaimName": value} for key, value in names.items()]
        # A uid that is not the pod's any more is a conflict.
        patch = {"metadata": {"uid": meta["uid"]}, "status": {"resourceClaimStatuses": said}}
        where = (self.pod_resource, meta["name"])
        await self.client.patch(
            *where, patch, meta["namespace"], "status", content_type=STRATEGIC_PATCH
        )

    async def _ensure(self, pod: Object, item: Object, known: str | None) -> str:
        """The name of a claim that the status does not have yet; "" if there is nothing to say.
        Raises what the client raises, and OSError for what is in the way."""
        template = item.get("resourceClaimTemplateName")
        if not template or known == "":
            return ""
        meta, name = pod["metadata"], item["name"]
        if known is not None:
            self.made.pop((meta["uid"], name), None)
            if await self._is_there(pod, name, known):
                return ""
        made = self.made.get((meta["uid"], name))
        if made is not None:
            return made
        for claim in owned(self.claims, pod):
            # Made before a crash, and the pod was not told.
            if planning.is_for(claim, pod, name):
                return str(claim["metadata"]["name"])
        body = await self._body(pod, name, template)
        admin = planning.has_admin_access(body)
        try:
            claim = await self.client.create(self.resource, body, meta["namespace"])
        except (StatusError, OSError):
            self.counters.add(CREATED, "failure", admin)
            raise
        self.counters.add(CREATED, "success", admin)
        self.made[meta["uid"], name] = claim["metadata"]["name"]
        return str(claim["metadata"]["name"])

    async def _is_there(self, pod: Object, name: str, known: str) -> bool:
        """Is the claim that the pod's status names there? Raises OSError if it is another's."""
        namespace = pod["metadata"]["namespace"]
        claim = self.claims.get(namespace, known)
        if claim is None:
            claim = await self.claims.get_live(namespace, known)
        if claim is not None and not planning.is_for(claim, pod, name):
            whose = f"was not created for pod {namespace}/{pod['metadata']['name']}"
            raise OSError(f"ResourceClaim {namespace}/{known} {whose} (pod is not owner)")
        return claim is not None

    async def _body(self, pod: Object, name: str, template: str) -> Object:
        try:
            found = await self.client.get(self.templates, template, pod["metadata"]["namespace"])
        except NotFound as error:
            raise OSError(f'resource claim template "{template}": {error}') from None
        return planning.made_from(found, pod, name)

    async def _reserve_all(self, pod: Object, names: dict[str, str]) -> None:
        """A pod that has a node gets what is allocated already, if it may have it: it came there
        without the scheduler."""
        meta = pod["metadata"]
        for item in pod["spec"]["resourceClaims"]:
            name = item.get("resourceClaimName") or names.get(item["name"])
            claim = self.claims.get(meta["namespace"], name) if name else None
            after = planning.reserved(claim, pod) if claim is not None else None
            if claim is not None and after is not None:
                await write_status(self.client, self.resource, claim, after)


def _consumers(claim: Object) -> Iterable[str]:
    return [item["uid"] for item in (claim.get("status") or {}).get("reservedFor") or ()]
