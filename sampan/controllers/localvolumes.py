"""The provisioner of class `standard`: volumes that are directories of one node.

It does for `sampan.dev/local` what an external provisioner does for its own driver: a claim that
was given to it (annotation storage-provisioner) and, when it waits for its first consumer, to a
node (selected-node), gets a PersistentVolume; one that is released under the policy Delete is taken
away, and a claim that grows is granted it. The directory is made and removed by the node's agent,
which names it by the claim's uid alone; `Options.node_call` asks it. Simulated nodes have nothing
to ask: their volumes are objects only.

A request with a namespace is a claim, one without is a volume.
"""

from __future__ import annotations

from sampan.api.errors import AlreadyExists, InternalError, NotFound, Object
from sampan.api.resources import resource
from sampan.api.volumes import (
    BIND_COMPLETED,
    FIRST_CONSUMER,
    LOCAL,
    PROVISIONED_BY,
    PROVISIONER,
    PROVISIONER_FINALIZER,
    SELECTED_NODE,
    annotation,
    capacity_of,
    class_of,
    is_block,
    mode_of,
    size_of,
)
from sampan.client.events import NORMAL, WARNING

from .localvolumes_plan import (
    CLAIM,
    Origin,
    hosts,
    is_populated,
    is_ready,
    node_of,
    refusal,
    snapshot_source,
    source_of,
    volume_for,
    with_annotation,
    without_annotation,
)
from .runtime.controller import Context, Controller
from .runtime.nodecalls import Unprovisioned, ask_node
from .runtime.queue import Request


class LocalVolumeController(Controller):
    """See the module."""

    name = "local_volumes"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.claim_resource = resource("persistentvolumeclaims")
        self.volume_resource = resource("persistentvolumes")
        self.recorder = context.recorder(LOCAL)
        self.claims = self.informer(self.claim_resource)
        self.volumes = self.informer(self.volume_resource)
        self.classes = self.informer(resource("storageclasses", "storage.k8s.io"))
        self.nodes = self.informer(resource("nodes"))
        self.claims.on_change(self._claim_changed)
        self.volumes.on_change(self._volume_changed)
        self.nodes.on_change(self._node_changed)

    def _node_changed(self, old: Object | None, new: Object | None) -> None:
        """What a node could not be asked while it was away it is asked when it is back."""
        if new is not None and (old is None or is_ready(old) or not is_ready(new)):
            return
        node = new if new is not None else old
        assert node is not None
        name = node["metadata"]["name"]
        for volume in self.volumes.list():
            if annotation(volume, PROVISIONED_BY) == LOCAL and node_of(volume) == name:
                self.add(volume)
        for claim in self.claims.list():
            if annotation(claim, PROVISIONER) == LOCAL and not annotation(claim, BIND_COMPLETED):
                self.add(claim)

    def _claim_changed(self, old: Object | None, new: Object | None) -> None:
        if new is not None and annotation(new, PROVISIONER) == LOCAL:
            self.add(new)

    def _volume_changed(self, old: Object | None, new: Object | None) -> None:
        if new is not None and annotation(new, PROVISIONED_BY) == LOCAL:
            self.add(new)

    async def reconcile(self, request: Request) -> None:
        if request.namespace:
            claim = self.claims.get(*request)
            if claim is None or annotation(claim, PROVISIONER) != LOCAL:
                return
            if annotation(claim, BIND_COMPLETED):
                await self._grow(claim)
            elif not claim["spec"].get("volumeName"):
                await self._provision(claim)
        else:
            volume = self.volumes.get(*request)
            if volume is not None and annotation(volume, PROVISIONED_BY) == LOCAL:
                await self._reclaim(volume)

    # Making

    async def _provision(self, claim: Object) -> None:
        kind = self.classes.get("", class_of(claim) or "")
        if kind is None or claim["metadata"].get("deletionTimestamp") or is_populated(claim):
            return
        chosen = annotation(claim, SELECTED_NODE)
        if not chosen and kind.get("volumeBindingMode") == FIRST_CONSUMER:
            return
        name = f"pvc-{claim['metadata']['uid']}"
        if self.volumes.get("", name) is not None:
            return
        why, origin = refusal(claim, kind), None
        if not why and source_of(claim):
            try:
                origin = await self._origin(claim)
                chosen = chosen or origin.node
            except Unprovisioned as error:
                why = str(error)
        node = self.nodes.get("", chosen) if chosen else hosts(self.nodes.list(), claim, kind)
        if node is None and chosen and await self.nodes.get_live("", chosen) is None:
            # It has gone since it was chosen: the scheduler is to choose again.
            changed = without_annotation(claim, SELECTED_NODE)
            await self.client.update(self.claim_resource, changed)
            return
        if origin is not None and origin.node != chosen:
            # Its data is elsewhere: the volume is made there, and the pod that was put where it
            # cannot have it is to follow (the scheduler would choose the same node again).
            why = f"the data of {origin.what} {source_of(claim)} is on node {origin.node}"
            moved = with_annotation(claim, SELECTED_NODE, origin.node)
            await self.client.update(self.claim_resource, moved)
        if node is None and not why:
            why = "no node is ready"
        where = f"{claim['metadata']['namespace']}/{claim['metadata']['name']}"
        text = f'External provisioner is provisioning volume for claim "{where}"'
        self.recorder.event(claim, NORMAL, "Provisioning", text)
        try:
            if why or node is None:
                raise Unprovisioned(why)
            query = _query(claim, origin)
            path = await ask_node(self.context.options, node, "PUT", name, query)
        except InternalError as error:
            start = f'failed to provision volume with StorageClass "{kind["metadata"]["name"]}": '
            self.recorder.event(claim, WARNING, "ProvisioningFailed", f"{start}{error}")
            raise
        try:
            await self.client.create(self.volume_resource, volume_for(claim, kind, node, f"{path}"))
        except AlreadyExists:
            return
        text = f"Successfully provisioned volume {name}"
        self.recorder.event(claim, NORMAL, "ProvisioningSucceeded", text)

    async def _origin(self, claim: Object) -> Origin:
        """Where the data is that a claim begins with. Raises Unprovisioned."""
        name = source_of(claim)
        if snapshot_source(claim):
            from .snapshotorigin import snapshot_origin

            return await snapshot_origin(self.client, claim, name)
        found = self.claims.get(claim["metadata"]["namespace"], name)
        if found is None or found["metadata"].get("deletionTimestamp"):
            text = f"error getting handle for DataSource Type {CLAIM} by Name {name}: not found"
            raise Unprovisioned(text)
        volume = self.volumes.get("", found["spec"].get("volumeName") or "")
        if volume is None or not annotation(found, BIND_COMPLETED):
            raise Unprovisioned(f"the PVC {name} is not bound")
        if annotation(volume, PROVISIONED_BY) != LOCAL:
            raise Unprovisioned(f"the volume of claim {name} was not made by {LOCAL}")
        if is_block(volume) != is_block(claim):
            raise Unprovisioned(
                "the source PVC and destination PVCs must have the same volume mode for cloning. "
                f" Source is: {mode_of(volume)}, Destination is: {mode_of(claim)}"
            )
        if capacity_of(volume) > size_of(claim["spec"]):
            raise Unprovisioned(f"the volume of claim {name} is larger than what is asked for")
        return Origin("claim", node_of(volume), volume["metadata"]["name"])

    async def _grow(self, claim: Object) -> None:
        """What is asked for is granted: by the node, which may hold the directory to its size, then
        in the volume, then in the claim."""
        volume = self.volumes.get("", claim["spec"].get("volumeName") or "")
        wanted = size_of(claim["spec"])
        known = claim.get("status") or {}
        granted = (known.get("capacity") or {}).get("storage", 0)
        if (
            volume is None
            or annotation(volume, PROVISIONED_BY) != LOCAL
            or known.get("phase") != "Bound"
            or wanted <= size_of({"resources": {"requests": {"storage": granted}}})
        ):
            return
        size = {"storage": claim["spec"]["resources"]["requests"]["storage"]}
        node = await self.nodes.get_live("", node_of(volume))
        if node is not None:
            name = volume["metadata"]["name"]
            await ask_node(self.context.options, node, "PUT", name, f"?size={wanted}")
        if capacity_of(volume) < wanted:
            changed = {**volume, "spec": {**volume["spec"], "capacity": size}}
            await self.client.update(self.volume_resource, changed)
        status = {**known, "capacity": size}
        await self.client.update(self.claim_resource, {**claim, "status": status}, "status")
        self.recorder.event(claim, NORMAL, "VolumeResizeSuccessful", "Resize volume succeeded")

    # Taking away

    async def _reclaim(self, volume: Object) -> None:
        meta, spec = volume["metadata"], volume["spec"]
        going = bool(meta.get("deletionTimestamp"))
        held = PROVISIONER_FINALIZER in (meta.get("finalizers") or ())
        phase = (volume.get("status") or {}).get("phase")
        if spec.get("persistentVolumeReclaimPolicy") != "Delete":
            if going and held:
                await self._let_go(volume)
            return
        # A volume that is deleted by hand while it is bound goes when its claim has gone.
        if phase not in ("Released", "Failed") and not (going and phase != "Bound"):
            return
        if going and not held:
            return
        name = node_of(volume)
        node = await self.nodes.get_live("", name)
        if node is not None:
            try:
                await ask_node(self.context.options, node, "DELETE", meta["name"])
            except InternalError as error:
                self.recorder.event(volume, WARNING, "VolumeFailedDelete", str(error))
                raise
        if not going:
            try:
                options = {"preconditions": {"uid": meta["uid"]}}
                await self.client.delete(self.volume_resource, meta["name"], options=options)
            except NotFound:
                return
            live = await self.volumes.get_live("", meta["name"])
            if live is None or live["metadata"]["uid"] != meta["uid"]:
                return
            volume = live
        await self._let_go(volume)

    async def _let_go(self, volume: Object) -> None:
        meta = volume["metadata"]
        kept = [item for item in meta.get("finalizers") or () if item != PROVISIONER_FINALIZER]
        try:
            await self.client.update(
                self.volume_resource, {**volume, "metadata": {**meta, "finalizers": kept}}
            )
        except NotFound:
            return


def _query(claim: Object, origin: Origin | None) -> str:
    """What the node is told of a new volume beside its name."""
    source = f"&from={origin.name}" if origin is not None else ""
    mode = "&mode=Block" if is_block(claim) else ""
    return f"?size={size_of(claim['spec'])}{mode}{source}"
