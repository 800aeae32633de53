"""Device claims, slices and classes as the scheduler sees them, and the writes that give a claim
its devices (resource.k8s.io/v1).

The caches are begun by the first pod that has claims, and one short task waits until they are
filled: a cluster without drivers pays nothing. What `assume` decides counts at once, for claims and
for devices, until the cache shows it or `forget` takes it back. What selectors say of each device
is kept in `selecting`.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

from sampan.aio.clock import Clock
from sampan.api.errors import NotFound, Object, StatusError
from sampan.api.resources import resource
from sampan.api.times import format_time
from sampan.client.api import Client
from sampan.client.informer import Informer, Informers
from sampan.client.interface import STRATEGIC_PATCH

from . import extended, readiness
from .allocation import Claim, Device, Id, Impossible, Pools, Request, allocation_of
from .demand import demand_of
from .extended import class_of
from .guest import Guest
from .nodes import Nodes, NodeState
from .plugins.dynamic_resources import Need, is_usable, plan
from .selecting import UNKNOWN, Selecting
from .shares import consumed

log = logging.getLogger("sampan.scheduler")

GROUP = "resource.k8s.io"
FINALIZER = "resource.kubernetes.io/delete-protection"
RESERVED_MAX = 256
"""Pods that share a claim (ResourceClaimReservedForMaxSize)."""
NOT_CREATED = "ResourceClaim not created yet"
IN_USE = "resourceclaim in use"
SPECIAL = "extended/"
"""Before a pod's uid: that of the claim for its extended resources until it is made."""


class DevicesTaken(OSError):
    """The claims changed under our hands; the pod is to be scheduled anew."""

    def __str__(self) -> str:
        return f'running PreBind plugin "DynamicResources": {self.args[0]}'


class Devices:
    """One per scheduler."""

    def __init__(
        self, client: Client, informers: Informers, clock: Clock, changed: Callable[[], None]
    ) -> None:
        """`changed` is called for what may help a pod."""
        self._client = client
        self._clock = clock
        self._informers = informers
        self._changed = changed
        self._caches: tuple[Informer, Informer, Informer] | None = None
        self._stops: list[Callable[[], None]] = []
        self._assumed: dict[str, tuple[Object, str]] = {}
        """(allocation that is being written, uid of the pod it is made for), by the claim's uid."""
        self._waiting: set[asyncio.Event] = set()
        """Pods that wait until their devices are ready."""
        self._filling: asyncio.Task[None] | None = None
        self._pools: Pools | None = None
        self._selecting = Selecting(changed)

    def close(self) -> None:
        for stop in self._stops:
            stop()
        if self._filling is not None:
            self._filling.cancel()
        self._selecting.clear()

    def _open(self) -> tuple[Informer, Informer, Informer]:
        if self._caches is None:
            names = ("resourceclaims", "resourceslices", "deviceclasses")
            claims, slices, classes = (
                self._informers.informer(resource(name, GROUP)) for name in names
            )
            self._caches = claims, slices, classes
            self._stops = [
                claims.on_change(self._on_claim),
                slices.on_change(self._on_offer),
                classes.on_change(self._on_offer),
            ]
            self._filling = asyncio.create_task(self._await_caches(), name="device caches")
        return self._caches

    async def _await_caches(self) -> None:
        """Empty ones tell nothing when they are filled."""
        for cache in self._caches or ():
            await cache.synced()
        self._changed()

    @property
    def filling(self) -> Awaitable[None] | None:
        """What to wait for before a pod is judged that devices may matter to: who judged it by
        empty caches would say that it fits nowhere. None when they are filled."""
        self._open()
        task = self._filling
        return None if task is None or task.done() else asyncio.shield(task)

    def _on_claim(self, old: Object | None, new: Object | None) -> None:
        claim = new or old or {}
        if new is None or (claim.get("status") or {}).get("allocation"):
            self._assumed.pop(claim["metadata"]["uid"], None)
        for event in self._waiting:
            event.set()
        self._changed()

    def _on_offer(self, old: Object | None, new: Object | None) -> None:
        self._pools = None
        self._selecting.clear()
        self._changed()

    # What a pod asks

    def fit_extended(self, pod: Object, guest: Guest, nodes: Nodes) -> None:
        """Decide what devices stand for of the extended resources that a pod asks for: those that
        have a class and that no node has by itself, or all, if its claim is made already."""
        named = self._named(guest)
        mixed = {name for name in named if _has_any(nodes, name)}
        if mixed and self._made(guest) is not None:
            self._ask(pod, guest, named, mixed)
        else:
            left = {name: kind for name, kind in named.items() if name not in mixed}
            self._ask(pod, guest, left, ())

    def find_otherwise(
        self, pod: Object, guest: Guest, nodes: Nodes, find: Callable[[Guest], NodeState | None]
    ) -> NodeState | None:
        """No node does with the extended resources it has by itself: one that has none of them may
        have devices that stand for them (upstream decides node by node)."""
        if not guest.extended:
            return None
        named = self._named(guest)
        mixed = {name for name in named if _has_any(nodes, name)}
        if not mixed or guest.shunned:
            return None
        self._ask(pod, guest, named, mixed)
        return find(guest)

    def _named(self, guest: Guest) -> dict[str, str]:
        """The classes of the extended resources that it asks for."""
        classes = self._open()[2].list()
        found = {name: class_of(name, classes) for name in guest.extended}
        return {name: kind for name, kind in found.items() if kind}

    def _ask(
        self, pod: Object, guest: Guest, named: Mapping[str, str], shunned: Iterable[str]
    ) -> None:
        """Ask devices for the named resources, on nodes that have none of the shunned ones."""
        guest.shunned = frozenset(shunned)
        guest.special = tuple(extended.requests_of(pod, named))
        guest.demand = demand_of(extended.without(pod, named) if guest.special else pod)

    def _made(self, guest: Guest) -> Object | None:
        """The claim for its extended resources, if it is there already."""
        claims = self._open()[0].list(guest.namespace)
        return next((item for item in claims if extended.is_claim_of(item, guest.uid)), None)

    def _special(self, guest: Guest) -> Object:
        """The claim for the pod's extended resources: there already, or to be made."""
        if (claim := self._made(guest)) is not None:
            return claim
        meta = {"name": guest.name, "namespace": guest.namespace, "uid": guest.uid}
        made = extended.claim_for({"metadata": meta}, guest.special)
        return {**made, "metadata": {**made["metadata"], "name": "", "uid": SPECIAL + guest.uid}}

    def need(self, guest: Guest) -> Need:
        claims, slices, classes = self._open()
        if not all(cache.has_synced for cache in (claims, slices, classes)):
            return Need(UNKNOWN)
        if self._pools is None:
            self._pools = Pools(slices.list())
        need = Need(pools=self._pools, shunned=guest.shunned)
        try:
            for name in guest.devices:
                self._add(need, guest, self._claim(guest, name))
            if guest.special:
                self._add(need, guest, self._special(guest))
        except Impossible as problem:
            return Need(str(problem))
        if need.waiting:
            need.taken, need.shares = self._taken(claims)
        return need

    def _add(self, need: Need, guest: Guest, claim: Object) -> None:
        status = claim.get("status") or {}
        allocation = status.get("allocation") or self._assumption(claim)
        if allocation:
            reserved = status.get("reservedFor") or ()
            if len(reserved) >= RESERVED_MAX and not _is_reserved(claim, guest):
                raise Impossible(IN_USE)
            need.allocated.append(allocation)
            within_s = guest.profile.ready_s
            need.failed |= readiness.is_given_up(claim, self._clock.now(), within_s)
        else:
            need.waiting.append(self._prepared(claim))

    def _assumption(self, claim: Object) -> Object | None:
        found = self._assumed.get(claim["metadata"]["uid"])
        return found[0] if found else None

    def _claim(self, guest: Guest, name: str) -> Object:
        if not name:
            raise Impossible(f'pod "{guest.namespace}/{guest.name}": {NOT_CREATED}')
        claim = self._open()[0].get(guest.namespace, name)
        if claim is None:
            raise Impossible(f'resourceclaim.resource.k8s.io "{name}" not found')
        if claim["metadata"].get("deletionTimestamp"):
            raise Impossible(f'resourceclaim "{name}" is being deleted')
        owners = claim["metadata"].get("ownerReferences") or ()
        owner = next((item for item in owners if item.get("controller")), None)
        if owner is not None and owner.get("kind") == "Pod" and owner.get("uid") != guest.uid:
            raise Impossible(
                f"ResourceClaim {guest.namespace}/{name} was not created for pod "
                f"{guest.namespace}/{guest.name} (pod is not owner)"
            )
        return claim

    def _taken(self, claims: Informer) -> tuple[frozenset[Id], dict[Id, Counter[str]]]:
        """Devices of all claims, but those that administrators look at; and what is taken of
        those that are shared. What is assumed does not show in the claims yet."""
        allocations = [(item.get("status") or {}).get("allocation") for item in claims.list()]
        taken: set[Id] = set()
        shares: dict[Id, Counter[str]] = {}
        for allocation in (*allocations, *(found for found, _ in self._assumed.values())):
            for result in ((allocation or {}).get("devices") or {}).get("results") or ():
                found = result["driver"], result["pool"], result["device"]
                if result.get("adminAccess"):
                    continue
                if result.get("shareID"):
                    shares.setdefault(found, Counter()).update(consumed(result))
                else:
                    taken.add(found)
        return frozenset(taken), shares

    def _prepared(self, claim: Object) -> Claim:
        requests: list[Sequence[Request]] = []
        configs: dict[str, Sequence[Object]] = {}
        for item in claim["spec"].get("devices", {}).get("requests") or ():
            name = item["name"]
            if item.get("exactly"):
                choices = [(name, item["exactly"])]
            else:
                choices = [(f"{name}/{one['name']}", one) for one in item.get("firstAvailable", ())]
            alternatives = []
            for label, body in choices:
                kind = self._open()[2].get("", body["deviceClassName"])
                if kind is None:
                    text = f"request {label}: device class {body['deviceClassName']} does not exist"
                    raise Impossible(text)
                whole, broken = self._devices(label, kind, body)
                alternatives.append(Request(label, body, whole, broken))
                configs[label] = (kind.get("spec") or {}).get("config") or ()
            requests.append(alternatives)
        return Claim(claim, requests, configs)

    def _devices(self, name: str, kind: Object, body: Object) -> tuple[list[Device], list[Device]]:
        """Those that the class and the request select, of whole pools and of others."""
        texts = [
            item["cel"]["expression"]
            for item in (
                *((kind.get("spec") or {}).get("selectors") or ()),
                *(body.get("selectors") or ()),
            )
        ]
        assert self._pools is not None
        chosen = self._selecting.of(name, texts, self._pools.devices)
        return [one for one in chosen if one.whole], [one for one in chosen if not one.whole]

    # What is decided

    def assume(self, guest: Guest, node: NodeState) -> None:
        """The pod goes to this node: its claims' devices are taken from now on."""
        need = self.need(guest)
        chosen = [] if need.problem else plan(need, node)
        for claim, devices in zip(need.waiting, chosen or (), strict=False):
            allocation = allocation_of(claim, devices, node)
            self._assumed[claim.obj["metadata"]["uid"]] = allocation, guest.uid

    def forget(self, guest: Guest) -> None:
        """It does not, after all. What another pod is writing for a claim they share stays."""
        for uid in [uid for uid, (_, pod) in self._assumed.items() if pod == guest.uid]:
            del self._assumed[uid]

    async def bind(self, pod: Object, guest: Guest, node: NodeState) -> None:
        """Write allocations and reservations. Raises DevicesTaken, and what the client raises."""
        for name in dict.fromkeys(guest.devices):
            await self._reserve(guest, node, name)
        if guest.special:
            await self._bind_special(pod, guest, node)

    async def _bind_special(self, pod: Object, guest: Guest, node: NodeState) -> None:
        """Make the claim for extended resources, and say in the pod's status which it is."""
        claim = self._special(guest)
        kind = resource("resourceclaims", GROUP)
        if not claim["metadata"]["name"]:
            body = extended.claim_for(pod, guest.special)
            claim = await self._client.create(kind, body, guest.namespace)
            assumed = self._assumed.pop(SPECIAL + guest.uid, None)
            if assumed is not None:
                self._assumed[claim["metadata"]["uid"]] = assumed
        name = claim["metadata"]["name"]
        await self._reserve(guest, node, name)
        status = {"extendedResourceClaimStatus": extended.status_of(name, guest.special)}
        patch = {"metadata": {"uid": guest.uid}, "status": status}
        where = resource("pods"), guest.name, patch, guest.namespace, "status"
        await self._client.patch(*where, content_type=STRATEGIC_PATCH)

    async def _reserve(self, guest: Guest, node: NodeState, name: str) -> None:
        kind = resource("resourceclaims", GROUP)
        try:
            claim = await self._client.get(kind, name, guest.namespace)
        except NotFound:
            raise DevicesTaken(f"resourceclaim {name} is gone") from None
        status = claim.get("status") or {}
        allocation = status.get("allocation")
        assumed = self._assumption(claim)
        if allocation is None and assumed is None:
            raise DevicesTaken(f"resourceclaim {name} was deallocated")
        if allocation is not None and not is_usable(allocation, node):
            raise DevicesTaken(f"resourceclaim {name} was allocated for other nodes")
        if _is_reserved(claim, guest):
            return
        if allocation is None and FINALIZER not in (claim["metadata"].get("finalizers") or ()):
            # The claim may not go while devices are its.
            finalizers = [*(claim["metadata"].get("finalizers") or ()), FINALIZER]
            kept = {**claim, "metadata": {**claim["metadata"], "finalizers": finalizers}}
            claim = await self._client.update(kind, kept)
        mine = {"resource": "pods", "name": guest.name, "uid": guest.uid}
        changed = {
            **(claim.get("status") or {}),
            "allocation": allocation
            or {**(assumed or {}), "allocationTimestamp": format_time(self._clock.now())},
            "reservedFor": [*(status.get("reservedFor") or ()), mine],
        }
        await self._client.update(kind, {**claim, "status": changed}, "status")

    def waits(self, guest: Guest) -> bool:
        """Are devices of the pod still to be made ready for it?"""
        return not all(map(readiness.is_ready, self._live(guest)))

    async def await_ready(self, guest: Guest) -> None:
        """Until their drivers say so. Raises DevicesTaken when they fail, or take too long."""
        changed = asyncio.Event()
        self._waiting.add(changed)
        timer = asyncio.ensure_future(self._clock.sleep(guest.profile.ready_s))
        timer.add_done_callback(lambda task: changed.set())
        try:
            while self.waits(guest):
                for claim in self._live(guest):
                    if problem := readiness.failure_of(claim):
                        raise DevicesTaken(problem)
                if timer.done():
                    raise DevicesTaken("device binding timeout")
                changed.clear()
                await changed.wait()
        finally:
            timer.cancel()
            self._waiting.discard(changed)

    def _live(self, guest: Guest) -> list[Object]:
        """Its claims. Raises DevicesTaken when one is not allocated any more."""
        claims = self._claims_of(guest)
        for claim in claims:
            uid = claim["metadata"]["uid"]
            if not (claim.get("status") or {}).get("allocation") and uid not in self._assumed:
                raise DevicesTaken(f"resourceclaim {claim['metadata']['name']} was deallocated")
        return [
            claim
            if (claim.get("status") or {}).get("allocation")
            else {**claim, "status": {"allocation": self._assumption(claim)}}
            for claim in claims
        ]

    def _claims_of(self, guest: Guest) -> list[Object]:
        """Those that are there, the one for extended resources too."""
        cache = self._open()[0]
        found = [cache.get(guest.namespace, name) for name in guest.devices]
        if guest.special:
            listed = cache.list(guest.namespace)
            found += [item for item in listed if extended.is_claim_of(item, guest.uid)]
        return [claim for claim in found if claim is not None]

    def idle_claim(self, guest: Guest) -> Object | None:
        """An allocated claim nobody uses, which keeps the pod from the nodes that could take it:
        giving its devices back may help (PostFilter)."""
        if self._caches is None:
            return None
        now, idle = self._clock.now(), []
        for claim in self._claims_of(guest):
            status = claim.get("status") or {}
            others = [item for item in status.get("reservedFor") or () if item["uid"] != guest.uid]
            if status.get("allocation") and not others:
                idle.append(claim)
        failed = (
            claim for claim in idle if readiness.is_given_up(claim, now, guest.profile.ready_s)
        )
        return next(failed, idle[0] if idle else None)

    async def deallocate(self, claim: Object) -> None:
        """Give the devices of a claim back; its change wakes who waits for them."""
        status = {
            key: value
            for key, value in (claim.get("status") or {}).items()
            if key not in ("allocation", "reservedFor", "devices")
        }
        kind = resource("resourceclaims", GROUP)
        try:
            await self._client.update(kind, {**claim, "status": status}, "status")
        except (StatusError, OSError) as error:
            log.info("deallocating %s: %s", claim["metadata"]["name"], error)


def _has_any(nodes: Nodes, resource: str) -> bool:
    """Has a node the resource by itself?"""
    return any(node.allocatable.get(resource) for node in nodes.by_name.values())


def _is_reserved(claim: Object, guest: Guest) -> bool:
    reserved = (claim.get("status") or {}).get("reservedFor") or ()
    return any(item.get("uid") == guest.uid for item in reserved)
