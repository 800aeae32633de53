"""Claims, volumes and classes as the scheduler sees them, and binding claims for a node.

`need` reads the shared caches, nothing is kept per pod. What `bind` decides counts at once: a
volume it has given to a claim is nobody else's while the writes are under way. Each `bind` waits
for its claims' events, at most the profile's `bind_s`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from sampan.aio.clock import Clock
from sampan.api.errors import Object
from sampan.api.resources import resource
from sampan.api.volumes import (
    FIRST_CONSUMER,
    SELECTED_NODE,
    annotation,
    class_of,
    given_to,
    is_bound_to,
    is_for_pod,
    is_fully_bound,
)
from sampan.client.api import Client
from sampan.client.informer import Informers

from .guest import Guest
from .nodes import NodeState
from .plugins.volume_binding import UNBOUND_IMMEDIATE, Need, plan, reaches

EXCLUSIVE = "ReadWriteOncePod"
AVAILABLE = "available by class"


class VolumesUnbound(OSError):
    """The claims did not get their volumes; the pod is to be scheduled anew."""

    def __str__(self) -> str:
        return f'running PreBind plugin "VolumeBinding": binding volumes: {self.args[0]}'


class Volumes:
    """One per scheduler. `changed` is called when a claim or volume changes, or a class comes."""

    def __init__(self, client: Client, informers: Informers, clock: Clock) -> None:
        self._client = client
        self._clock = clock
        self._claims = informers.informer(resource("persistentvolumeclaims"))
        self._volumes = informers.informer(resource("persistentvolumes"))
        self._classes = informers.informer(resource("storageclasses", "storage.k8s.io"))
        self._volumes.add_index(AVAILABLE, _available)
        self._csi_nodes = informers.informer(resource("csinodes", "storage.k8s.io"))
        self._assumed: dict[str, str] = {}
        """Volume to the uid of the claim it is being given to."""
        self._waiting: set[asyncio.Event] = set()

    async def synced(self) -> None:
        for informer in (self._claims, self._volumes, self._classes, self._csi_nodes):
            await informer.synced()

    def on_change(self, changed: Callable[[], None]) -> Callable[[], None]:
        """Call `changed` for what may help a pod; returns a function that unsubscribes."""

        def told(old: Object | None, new: Object | None) -> None:
            for event in self._waiting:
                event.set()
            if new is not None:
                changed()

        informers = (self._claims, self._volumes, self._classes, self._csi_nodes)
        stops = [informer.on_change(told) for informer in informers]

        def unsubscribe() -> None:
            for stop in stops:
                stop()

        return unsubscribe

    @property
    def has_limits(self) -> bool:
        """Does any node say what its drivers can attach?"""
        return len(self._csi_nodes) > 0

    def limits(self, node_name: str) -> dict[str, int]:
        """How many volumes each driver attaches to this node, where that is limited."""
        found = self._csi_nodes.get("", node_name) or {}
        drivers = (found.get("spec") or {}).get("drivers") or ()
        counts = ((item["name"], (item.get("allocatable") or {}).get("count")) for item in drivers)
        return {name: count for name, count in counts if count is not None}

    def attached(self, guest: Guest) -> list[tuple[str, str]]:
        """(CSI driver, volume) of each claim; a claim without a volume counts for its class's."""
        out = []
        for name, _ in guest.claims:
            claim = self._claims.get(guest.namespace, name)
            if claim is None:
                continue
            volume = self._volumes.get("", claim["spec"].get("volumeName") or "")
            if volume is None:
                kind = self._classes.get("", class_of(claim) or "") or {}
                out.append((kind.get("provisioner", ""), f"{guest.namespace}/{name}"))
            elif csi := volume["spec"].get("csi"):
                out.append((csi["driver"], csi["volumeHandle"]))
        return out

    def need(self, guest: Guest) -> Need:
        """What the pod's claims ask of a node."""
        need = Need()
        for name, own in guest.claims:
            claim = self._claims.get(guest.namespace, name)
            need.problem = _problem(guest, name, claim, own=own)
            if need.problem or claim is None:
                return need
            if is_fully_bound(claim):
                need.bound.append(self._volumes.get("", claim["spec"]["volumeName"]))
                continue
            kind = self._classes.get("", class_of(claim) or "")
            late = kind is not None and kind.get("volumeBindingMode") == FIRST_CONSUMER
            if not late or claim["spec"].get("volumeName"):
                need.problem = UNBOUND_IMMEDIATE
                return need
            need.waiting.append(claim)
        if need.waiting:
            need.classes = {item["metadata"]["name"]: item for item in self._classes.list()}
            uids = {claim["metadata"]["uid"] for claim in need.waiting}
            need.free = [
                volume
                for name in {class_of(claim) or "" for claim in need.waiting}
                for volume in self._volumes.by_index(AVAILABLE, name)
                if self._assumed.get(volume["metadata"]["name"], "") in ("", *uids)
            ]
        return need

    def awaits(self, guest: Guest) -> bool:
        """Are claims of it still to be bound?"""
        return bool(guest.claims and self.need(guest).waiting)

    def exclusive(self, guest: Guest) -> frozenset[str]:
        """Those of the pod's claims that are one pod's alone."""
        found = ((name, self._claims.get(guest.namespace, name)) for name, _ in guest.claims)
        return frozenset(
            name
            for name, claim in found
            if claim and EXCLUSIVE in (claim["spec"].get("accessModes") or ())
        )

    async def bind(self, guest: Guest, node: NodeState) -> None:
        """Have every waiting claim of the pod bound for the node, and wait until it is so.

        Raises VolumesUnbound, and what the client raises.
        """
        need = self.need(guest)
        chosen = None if need.problem else plan(need, node)
        if chosen is None:
            raise VolumesUnbound(need.problem or "volumes were taken by others")
        if not chosen:
            return
        mine = [volume["metadata"]["name"] for _, volume in chosen if volume is not None]
        for claim, volume in chosen:
            if volume is not None:
                self._assumed[volume["metadata"]["name"]] = claim["metadata"]["uid"]
        changed = asyncio.Event()
        self._waiting.add(changed)
        try:
            for claim, volume in chosen:
                if volume is not None:
                    await self._give(volume, claim)
                elif annotation(claim, SELECTED_NODE) != node.name:
                    await self._select(claim, node.name)
            names = [claim["metadata"]["name"] for claim, _ in chosen]
            async with asyncio.timeout(guest.profile.bind_s):
                await self._await_bound(guest.namespace, names, node, changed)
        except TimeoutError:
            raise VolumesUnbound("context deadline exceeded") from None
        finally:
            self._waiting.discard(changed)
            for name in mine:
                self._assumed.pop(name, None)

    async def _give(self, volume: Object, claim: Object) -> None:
        """The volume's side; the binder writes the claim's."""
        if is_bound_to(volume, claim) and volume["spec"]["claimRef"].get("uid"):
            return
        await self._client.update(resource("persistentvolumes"), given_to(volume, claim))

    async def _select(self, claim: Object, node: str) -> None:
        """Tell the provisioner where. Guarded, so that of two schedulers one chooses."""
        meta = claim["metadata"]
        marks = {**(meta.get("annotations") or {}), SELECTED_NODE: node}
        changed = {**claim, "metadata": {**meta, "annotations": marks}}
        await self._client.update(resource("persistentvolumeclaims"), changed)

    async def _await_bound(
        self, namespace: str, names: list[str], node: NodeState, changed: asyncio.Event
    ) -> None:
        seen: set[str] = set()
        while not all(self._is_bound(namespace, name, node, seen) for name in names):
            changed.clear()
            await changed.wait()

    def _is_bound(self, namespace: str, name: str, node: NodeState, seen: set[str]) -> bool:
        """Raises VolumesUnbound when it never will be."""
        claim = self._claims.get(namespace, name)
        if claim is None:
            raise VolumesUnbound(f'persistentvolumeclaim "{name}" not found')
        if not is_fully_bound(claim):
            chosen = annotation(claim, SELECTED_NODE)
            if chosen == node.name:
                seen.add(name)
            elif name in seen:
                raise VolumesUnbound(f'selectedNode annotation reset for PVC "{name}"')
            return False
        volume = self._volumes.get("", claim["spec"]["volumeName"])
        if volume is not None and not reaches(volume, node):
            raise VolumesUnbound(
                f'pv "{volume["metadata"]["name"]}" node affinity doesn\'t match node "{node.name}"'
            )
        return volume is not None


def _available(volume: Object) -> tuple[str, ...]:
    """What is bound or released is nobody's choice, and there may be thousands of it."""
    free = (volume.get("status") or {}).get("phase") == "Available"
    return (class_of(volume) or "",) if free else ()


def _problem(guest: Guest, name: str, claim: Object | None, *, own: bool) -> str:
    """Why the claim keeps the pod from every node, "" if it does not."""
    if claim is None:
        if own:
            return (
                "waiting for ephemeral volume controller to create the persistentvolumeclaim "
                f'"{name}"'
            )
        return f'persistentvolumeclaim "{name}" not found'
    status, meta = claim.get("status") or {}, claim["metadata"]
    if status.get("phase") == "Lost":
        gone = claim["spec"].get("volumeName") or ""
        return f'persistentvolumeclaim "{name}" bound to non-existent persistentvolume "{gone}"'
    if meta.get("deletionTimestamp"):
        return f'persistentvolumeclaim "{name}" is being deleted'
    if own and not is_for_pod({"metadata": {"uid": guest.uid}}, claim):
        where = f"{guest.namespace}/{guest.name}"
        return f"PVC {guest.namespace}/{name} was not created for pod {where} (pod is not owner)"
    return ""
