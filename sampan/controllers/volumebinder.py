"""Binds claims to volumes, as upstream's persistent-volume-binder.

Both sides are written, the volume's first (spec.claimRef, the one place that decides who has it),
then the claim's; a crash between any two writes is gone on from, since each write is looked at
anew. A request with a namespace is a claim, one without is a volume. Nothing is polled: a volume
that comes free, or a class that changes, wakes the claims of that class that wait.
"""

from __future__ import annotations

from sampan.api.errors import NotFound, Object
from sampan.api.resources import resource
from sampan.api.volumes import (
    BIND_COMPLETED,
    BOUND_BY_CONTROLLER,
    PROVISIONED_BY,
    PROVISIONER,
    PROVISIONER_BETA,
    annotation,
    best_match,
    class_of,
    default_class,
    given_to,
    is_bound_to,
    is_delayed,
    mismatch,
)
from sampan.client.events import NORMAL, WARNING

from .runtime.controller import Context, Controller
from .runtime.queue import Request
from .volumebinder_metrics import exposition
from .volumereclaim import reclaim
from .volumewaiting import add_claim_index, waiting_for

WAITING = "unbound by class"
NO_CLASS = "\0"
"""Index value of claims that name no class, not even the empty one."""
FREE = "free by class"
BY_CLAIM = "by claim"
LOST_VOLUME = "Bound claim has lost its PersistentVolume. Data on the volume is lost!"
LOST_NAME = "Bound claim has lost reference to PersistentVolume. Data on the volume is lost!"
MISBOUND = "Two claims are bound to the same volume, this one is bound incorrectly"
NOTHING_FREE = "no persistent volumes available for this claim and no storage class is set"
EXTERNAL = (
    "Waiting for a volume to be created either by the external provisioner '{0}' or manually by "
    "the system administrator. If volume creation is delayed, please verify that the provisioner "
    "is running and correctly registered."
)
OVER = ("Released", "Failed")


class VolumeBinderController(Controller):
    """See the module."""

    name = "persistentvolume_binder"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.claim_resource = resource("persistentvolumeclaims")
        self.volume_resource = resource("persistentvolumes")
        self.recorder = context.recorder("persistentvolume-controller")
        self.claims = self.informer(self.claim_resource)
        self.volumes = self.informer(self.volume_resource)
        self.classes = self.informer(resource("storageclasses", "storage.k8s.io"))
        self.pods = self.informer(resource("pods"))
        self.claims.add_index(WAITING, _waiting)
        self.volumes.add_index(FREE, _free)
        self.volumes.add_index(BY_CLAIM, _by_claim)
        add_claim_index(self.pods)
        self.claims.on_change(self._claim_changed)
        self.volumes.on_change(self._volume_changed)
        self.classes.on_change(self._class_changed)

    def exposition(self) -> str:
        return exposition(self.volumes.list(), self.claims.list())

    def _claim_changed(self, old: Object | None, new: Object | None) -> None:
        claim = new if new is not None else old
        assert claim is not None
        if new is not None:
            self.add(new)
        name = claim["spec"].get("volumeName")
        if name:
            self.queue.add(Request("", name))
        if new is None:
            for volume in self.volumes.by_index(BY_CLAIM, _key(claim["metadata"])):
                self.add(volume)

    def _volume_changed(self, old: Object | None, new: Object | None) -> None:
        volume = new if new is not None else old
        assert volume is not None
        if new is not None:
            self.add(new)
        reference = volume["spec"].get("claimRef")
        if reference:
            self.queue.add(Request(reference.get("namespace", ""), reference.get("name", "")))
        elif new is not None and _free(new):
            self._wake(class_of(new) or "")

    def _class_changed(self, old: Object | None, new: Object | None) -> None:
        if new is not None:
            self._wake(new["metadata"]["name"])
            self._wake(NO_CLASS)

    def _wake(self, name: str) -> None:
        for claim in self.claims.by_index(WAITING, name):
            self.add(claim)

    async def reconcile(self, request: Request) -> None:
        if request.namespace:
            claim = self.claims.get(*request)
            if claim is None:
                return
            if annotation(claim, BIND_COMPLETED):
                await self._check_bound(claim)
            elif not claim["metadata"].get("deletionTimestamp"):
                await self._find(claim)
        else:
            volume = self.volumes.get(*request)
            if volume is not None:
                await self._settle(volume)

    # Claims

    async def _find(self, claim: Object) -> None:
        """syncUnboundClaim."""
        name = claim["spec"].get("volumeName")
        if name:
            await self._take_named(claim, name)
            return
        if class_of(claim) is None:
            chosen = default_class(self.classes.list())
            if chosen:
                spec = {**claim["spec"], "storageClassName": chosen}
                await self.client.update(self.claim_resource, {**claim, "spec": spec})
                return
        chosen = class_of(claim) or ""
        kind = self.classes.get("", chosen) if chosen else None
        delayed = is_delayed(claim, kind)
        volumes = [
            *self.volumes.by_index(BY_CLAIM, _key(claim["metadata"])),
            *self.volumes.by_index(FREE, chosen),
        ]
        volume = best_match(claim, volumes, delayed=delayed)
        if volume is not None:
            await self._bind(volume, claim)
            return
        if delayed:
            reason, text = waiting_for(self.pods, claim)
            self.recorder.event(claim, NORMAL, reason, text)
        elif chosen:
            await self._ask_provisioner(claim, chosen, kind)
        else:
            self.recorder.event(claim, NORMAL, "FailedBinding", NOTHING_FREE)
        await self._report_claim(claim, "Pending")

    async def _take_named(self, claim: Object, name: str) -> None:
        """The claim says which volume it wants, or a crash left it half bound."""
        volume = self.volumes.get("", name)
        if volume is None:
            await self._report_claim(claim, "Pending")
        elif not volume["spec"].get("claimRef"):
            why = mismatch(volume, claim)
            if why:
                text = f'Cannot bind to requested volume "{name}": {why}'
                self.recorder.event(claim, WARNING, "VolumeMismatch", text)
                await self._report_claim(claim, "Pending")
            else:
                await self._bind(volume, claim)
        elif is_bound_to(volume, claim):
            await self._bind(volume, claim)
        else:
            text = f'volume "{name}" already bound to a different claim.'
            self.recorder.event(claim, WARNING, "FailedBinding", text)
            await self._report_claim(claim, "Pending")

    async def _ask_provisioner(self, claim: Object, name: str, kind: Object | None) -> None:
        """Say who is to make a volume; what makes it watches for that (provisionClaim)."""
        if kind is None:
            text = f'storageclass.storage.k8s.io "{name}" not found'
            self.recorder.event(claim, WARNING, "ProvisioningFailed", text)
            return
        provisioner = kind["provisioner"]
        if provisioner.startswith("kubernetes.io/"):
            text = f"no volume plugin matched name: {provisioner}"
            self.recorder.event(claim, WARNING, "ProvisioningFailed", text)
            return
        if annotation(claim, PROVISIONER) != provisioner:
            kept = claim["metadata"].get("annotations") or {}
            marked = {**kept, PROVISIONER: provisioner, PROVISIONER_BETA: provisioner}
            meta = {**claim["metadata"], "annotations": marked}
            await self.client.update(self.claim_resource, {**claim, "metadata": meta})
        self.recorder.event(claim, NORMAL, "ExternalProvisioning", EXTERNAL.format(provisioner))

    async def _check_bound(self, claim: Object) -> None:
        """syncBoundClaim: a claim that was bound once stays so, or is lost."""
        name = claim["spec"].get("volumeName")
        volume = self.volumes.get("", name) if name else None
        if volume is None and name:
            volume = await self.volumes.get_live("", name)
        if volume is None:
            await self._lose(claim, "ClaimLost", LOST_VOLUME if name else LOST_NAME)
        elif not volume["spec"].get("claimRef") or is_bound_to(volume, claim):
            await self._bind(volume, claim)
        else:
            await self._lose(claim, "ClaimMisbound", MISBOUND)

    async def _lose(self, claim: Object, reason: str, text: str) -> None:
        if (claim.get("status") or {}).get("phase") != "Lost":
            await self._report_claim(claim, "Lost")
            self.recorder.event(claim, WARNING, reason, text)

    async def _report_claim(self, claim: Object, phase: str, volume: Object | None = None) -> None:
        """Write the phase, if it is new; what a bound volume offers goes with it."""
        known = claim.get("status") or {}
        if known.get("phase") == phase:
            return
        status: Object = {
            key: value for key, value in known.items() if key not in ("accessModes", "capacity")
        }
        if volume is not None:
            status["accessModes"] = volume["spec"].get("accessModes")
            status["capacity"] = volume["spec"].get("capacity")
        status["phase"] = phase
        await self.client.update(self.claim_resource, {**claim, "status": status}, "status")

    async def _bind(self, volume: Object, claim: Object) -> None:
        """Make both sides agree, whatever is done already."""
        volume = await self._point_volume(volume, claim)
        await self._report_volume(volume, "Bound")
        claim = await self._point_claim(claim, volume["metadata"]["name"])
        await self._report_claim(claim, "Bound", volume)

    async def _point_volume(self, volume: Object, claim: Object) -> Object:
        known = volume["spec"].get("claimRef") or {}
        if known.get("uid") == claim["metadata"]["uid"]:
            return volume
        return await self.client.update(self.volume_resource, given_to(volume, claim))

    async def _point_claim(self, claim: Object, name: str) -> Object:
        named = claim["spec"].get("volumeName") == name
        if named and annotation(claim, BIND_COMPLETED):
            return claim
        marks = (BIND_COMPLETED,) if named else (BIND_COMPLETED, BOUND_BY_CONTROLLER)
        spec = {**claim["spec"], "volumeName": name}
        changed = {**claim, "spec": spec, "metadata": _marked(claim, *marks)}
        return await self.client.update(self.claim_resource, changed)

    # Volumes

    async def _settle(self, volume: Object) -> None:
        """syncVolume."""
        reference = volume["spec"].get("claimRef")
        if not reference or not reference.get("uid"):
            await self._report_volume(volume, "Available")
            return
        where = (reference.get("namespace", ""), reference.get("name", ""))
        claim = self.claims.get(*where)
        if claim is None or claim["metadata"]["uid"] != reference["uid"]:
            # The cache may be behind a claim that was just made; the server knows.
            claim = await self.claims.get_live(*where)
        if claim is None or claim["metadata"]["uid"] != reference["uid"]:
            await self._release(volume)
            return
        name = claim["spec"].get("volumeName")
        if not name:
            if self.claims.get(*where) is not None:
                self.queue.add(Request(*where))
        elif name == volume["metadata"]["name"]:
            await self._report_volume(volume, "Bound")
        elif annotation(volume, PROVISIONED_BY) and _policy(volume) == "Delete":
            # Made for a claim that has found another in the meantime.
            await self._release(volume)
        else:
            await self._unbind(volume)

    async def _unbind(self, volume: Object) -> None:
        spec = dict(volume["spec"])
        meta = volume["metadata"]
        if annotation(volume, BOUND_BY_CONTROLLER):
            del spec["claimRef"]
            marks = {**meta["annotations"]}
            del marks[BOUND_BY_CONTROLLER]
            meta = {**meta, "annotations": marks}
        else:
            spec["claimRef"] = {**spec["claimRef"], "uid": ""}
        changed = {**volume, "metadata": meta, "spec": spec}
        volume = await self.client.update(self.volume_resource, changed)
        await self._report_volume(volume, "Available")

    async def _release(self, volume: Object) -> None:
        """Its claim is gone; what becomes of it is its policy's."""
        if (volume.get("status") or {}).get("phase") not in OVER:
            volume = await self._report_volume(volume, "Released")
        if volume["metadata"].get("deletionTimestamp"):
            return
        verdict = reclaim(volume)
        if verdict is not None and (volume.get("status") or {}).get("phase") != "Failed":
            await self._report_volume(volume, "Failed", verdict.text)
            self.recorder.event(volume, WARNING, verdict.reason, verdict.text)

    async def _report_volume(self, volume: Object, phase: str, message: str = "") -> Object:
        known = volume.get("status") or {}
        if known.get("phase") == phase:
            return volume
        status = {key: item for key, item in known.items() if key != "message"}
        status["phase"] = phase
        if message:
            status["message"] = message
        try:
            return await self.client.update(
                self.volume_resource, {**volume, "status": status}, "status"
            )
        except NotFound:
            return {**volume, "status": status}


def _marked(obj: Object, *names: str) -> Object:
    """Its metadata with these annotations."""
    meta = obj["metadata"]
    marks = {**(meta.get("annotations") or {}), **dict.fromkeys(names, "yes")}
    return {**meta, "annotations": marks}


def _policy(volume: Object) -> str:
    return str(volume["spec"].get("persistentVolumeReclaimPolicy") or "Retain")


def _key(reference: Object) -> str:
    return f"{reference.get('namespace', '')}/{reference.get('name', '')}"


def _waiting(claim: Object) -> tuple[str, ...]:
    if annotation(claim, BIND_COMPLETED):
        return ()
    name = class_of(claim)
    return (NO_CLASS if name is None else name,)


def _free(volume: Object) -> tuple[str, ...]:
    free = (volume.get("status") or {}).get("phase") == "Available"
    return (class_of(volume) or "",) if free and not volume["spec"].get("claimRef") else ()


def _by_claim(volume: Object) -> tuple[str, ...]:
    reference = volume["spec"].get("claimRef")
    return (_key(reference),) if reference else ()
