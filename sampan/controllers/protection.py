"""Claims, volumes and attributes classes that are deleted stay while they are in use: their
finalizers, which admission sets (StorageObjectInUseProtection), are taken away when nobody needs
them.

A claim is in use by every pod that is bound to a node and mounts it, finished or not, until the
pod is gone; a volume while it is bound; a class while a claim or a volume names it. Events do it;
nothing is polled.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import ClassVar

from sampan.api.descriptor import Descriptor
from sampan.api.errors import NotFound, Object
from sampan.api.meta import ATTRIBUTES_FINALIZER, CLAIM_FINALIZER, VOLUME_FINALIZER
from sampan.api.resources import resource
from sampan.client.informer import Informer

from .runtime.controller import Context, Controller
from .runtime.queue import Request

FINISHED = ("Succeeded", "Failed")


class ProtectionController(Controller):
    """What the three share: which objects are woken, and the end of their waiting."""

    resource: Descriptor
    finalizer: ClassVar[str]

    def watch_held(self, cache: Informer) -> None:
        """Objects that only wait for the finalizer are looked at."""
        cache.on_change(self._changed)

    def _changed(self, old: Object | None, new: Object | None) -> None:
        if new is not None and is_held(new, self.finalizer):
            self.add(new)

    async def release(self, obj: Object) -> None:
        """Take the finalizer away: nobody needs the object."""
        with contextlib.suppress(NotFound):
            await self.client.update(self.resource, without(obj, self.finalizer))


class ClaimProtectionController(ProtectionController):
    """See the module."""

    name = "pvcprotection"
    finalizer = CLAIM_FINALIZER

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.resource = resource("persistentvolumeclaims")
        self.claims = self.informer(self.resource)
        self.pods = self.informer(resource("pods"))
        self.watch_held(self.claims)
        self.pods.on_change(self._pod_changed)

    def _pod_changed(self, old: Object | None, new: Object | None) -> None:
        if old is None or (new is not None and not _is_finished(new)):
            return
        namespace = old["metadata"]["namespace"]
        for name in claims_of(old):
            claim = self.claims.get(namespace, name)
            if claim is not None and is_held(claim, self.finalizer):
                self.queue.add(Request(namespace, name))

    async def reconcile(self, request: Request) -> None:
        claim = self.claims.get(request.namespace, request.name)
        if claim is None or not is_held(claim, self.finalizer):
            return
        # The cache may be behind a pod that was just bound; the server knows (as upstream).
        if any(uses(pod, claim) for pod in self.pods.list(request.namespace)):
            return
        pods = resource("pods")
        live = await self.client.list(pods, request.namespace)
        if not any(uses(pod, claim) for pod in live["items"]):
            await self.release(claim)


class VolumeProtectionController(ProtectionController):
    """See the module."""

    name = "pvprotection"
    finalizer = VOLUME_FINALIZER

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.resource = resource("persistentvolumes")
        self.volumes = self.informer(self.resource)
        self.watch_held(self.volumes)

    async def reconcile(self, request: Request) -> None:
        volume = self.volumes.get("", request.name)
        if volume is None or not is_held(volume, self.finalizer):
            return
        if (volume.get("status") or {}).get("phase") == "Bound":
            return
        await self.release(volume)


class AttributesProtectionController(ProtectionController):
    """VolumeAttributesClasses (KEP-3751); see the module."""

    name = "vacprotection"
    finalizer = ATTRIBUTES_FINALIZER

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.resource = resource("volumeattributesclasses", "storage.k8s.io")
        self.classes = self.informer(self.resource)
        self.claims = self.informer(resource("persistentvolumeclaims"))
        self.volumes = self.informer(resource("persistentvolumes"))
        self.watch_held(self.classes)
        for users in (self.claims, self.volumes):
            users.on_change(self._user_changed)

    def _user_changed(self, old: Object | None, new: Object | None) -> None:
        if old is not None:
            for name in attributes_of(old) - (attributes_of(new) if new is not None else set()):
                self.queue.add(Request("", name))

    async def reconcile(self, request: Request) -> None:
        found = self.classes.get("", request.name)
        if found is None or not is_held(found, self.finalizer):
            return
        for users in (self.claims, self.volumes):
            if any(request.name in attributes_of(item) for item in users.list()):
                return
            # The cache may be behind.
            live = await self.client.list(users.resource)
            if any(request.name in attributes_of(item) for item in live["items"]):
                return
        await self.release(found)


def attributes_of(obj: Object) -> set[str]:
    """The VolumeAttributesClasses that a claim or a volume has, had last, or is to have."""
    status = obj.get("status") or {}
    names = (
        obj["spec"].get("volumeAttributesClassName"),
        status.get("currentVolumeAttributesClassName"),
        (status.get("modifyVolumeStatus") or {}).get("targetVolumeAttributesClassName"),
    )
    return {name for name in names if name}


def is_held(obj: Object, finalizer: str) -> bool:
    """Is it to be deleted, and only waits for the finalizer?"""
    meta = obj["metadata"]
    return bool(meta.get("deletionTimestamp")) and finalizer in (meta.get("finalizers") or ())


def without(obj: Object, finalizer: str) -> Object:
    """The object without a finalizer."""
    meta = obj["metadata"]
    kept = [item for item in meta["finalizers"] if item != finalizer]
    return {**obj, "metadata": {**meta, "finalizers": kept}}


def claims_of(pod: Object) -> Iterator[str]:
    """The names of the claims a pod mounts, those made for it included."""
    for volume in (pod.get("spec") or {}).get("volumes") or ():
        if volume.get("persistentVolumeClaim"):
            yield volume["persistentVolumeClaim"].get("claimName", "")
        elif volume.get("ephemeral"):
            yield f"{pod['metadata']['name']}-{volume.get('name', '')}"


def uses(pod: Object, claim: Object) -> bool:
    """Does a pod keep a claim from going? One that no node has yet does not: nodes start no pod
    whose claim is being deleted."""
    spec, meta = pod.get("spec") or {}, claim["metadata"]
    if not spec.get("nodeName"):
        return False
    for volume in spec.get("volumes") or ():
        mounted = volume.get("persistentVolumeClaim")
        if mounted and mounted.get("claimName") == meta["name"]:
            return True
        if volume.get("ephemeral") and not _is_finished(pod):
            name = f"{pod['metadata']['name']}-{volume.get('name', '')}"
            owners = (item.get("uid") for item in meta.get("ownerReferences") or ())
            if name == meta["name"] and pod["metadata"].get("uid") in owners:
                return True
    return False


def _is_finished(pod: Object) -> bool:
    return (pod.get("status") or {}).get("phase") in FINISHED
