"""Snapshots of volumes of class `standard`: what the snapshot controller and a driver's
csi-snapshotter do together (kubernetes-csi/external-snapshotter), for the driver sampan.dev/local.

Their kinds are custom resources, which a cluster has or has not (`sampan addon enable snapshots`):
nothing is listened to before they are there. A snapshot is a copy of the volume's directory on its
node, made by the agent; it shares its blocks where the file system can. Snapshots of other drivers
are left to their own controllers.

A request with a namespace is a snapshot, one without is a content.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from sampan.api.descriptor import ApiResource
from sampan.api.errors import AlreadyExists, Object
from sampan.api.resources import resource
from sampan.api.times import format_time
from sampan.api.volumes import BIND_COMPLETED, LOCAL, PROVISIONED_BY, annotation
from sampan.client.events import NORMAL, WARNING
from sampan.client.informer import Informer

from .localvolumes_plan import snapshot_source
from .runtime.controller import Context, Controller
from .runtime.custom import FILL_S, definitions_resource, follow_custom
from .runtime.queue import Request, Requeue
from .snapshotcontents import Contents
from .snapshots_plan import (
    AS_SOURCE,
    BEING_DELETED,
    BOUND,
    CLASSES,
    CONTENTS,
    GROUP,
    SNAPSHOTS,
    NoClass,
    class_for,
    content_for,
    is_bound,
    snapshot_status,
    with_finalizers,
    without_finalizers,
)

NEEDED = {SNAPSHOTS.plural, CONTENTS.plural, CLASSES.plural}


class SnapshotController(Controller):
    """See the module."""

    name = "local_snapshots"
    workers = 2

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.recorder = context.recorder("snapshot-controller")
        self.claims = self.informer(resource("persistentvolumeclaims"))
        self.volumes = self.informer(resource("persistentvolumes"))
        self.nodes = self.informer(resource("nodes"))
        self.kinds: dict[str, Informer] = {}
        """By plural, of those that are served."""
        self.contents = Contents(context, self.recorder, (self.volumes, self.nodes), self._named)
        self.claims.on_change(self._claim_changed)
        follow_custom(self.informer(definitions_resource()), self._served, self._gone)

    def _served(self, found: ApiResource) -> None:
        if found.group != GROUP or found.plural not in NEEDED:
            return
        cache = self.kinds[found.plural] = self.context.informers.informer(found)
        wakes: dict[str, Callable[[Object | None, Object | None], None]] = {
            SNAPSHOTS.plural: self.add_changed,
            CONTENTS.plural: self._content_changed,
            CLASSES.plural: self._class_changed,
        }
        cache.on_change(wakes[found.plural])

    def _gone(self, found: ApiResource) -> None:
        if found.group == GROUP:
            self.kinds.pop(found.plural, None)

    def _content_changed(self, old: Object | None, new: Object | None) -> None:
        content = new if new is not None else old
        if content is not None and content["spec"].get("driver") == LOCAL:
            self.add(content)
            reference = content["spec"]["volumeSnapshotRef"]
            self.queue.add(Request(reference.get("namespace", ""), reference.get("name", "")))

    def _class_changed(self, old: Object | None, new: Object | None) -> None:
        """Snapshots may have waited for it."""
        for snapshot in self._list(SNAPSHOTS):
            self.add(snapshot)

    def _claim_changed(self, old: Object | None, new: Object | None) -> None:
        """A snapshot may go once no claim is made from it any more, or be taken once its claim is
        bound."""
        if not self.kinds:
            return
        for claim in (old, new):
            if claim is not None:
                namespace, name = claim["metadata"]["namespace"], snapshot_source(claim)
                if name:
                    self.queue.add(Request(namespace, name))
        if new is not None and not (old and annotation(old, BIND_COMPLETED)):
            for snapshot in self._list(SNAPSHOTS):
                if _claim_of(snapshot) == (new["metadata"]["namespace"], new["metadata"]["name"]):
                    self.add(snapshot)

    def _named(self, namespace: str, name: str) -> Object | None:
        return self._get(SNAPSHOTS, namespace, name)

    def _get(self, kind: ApiResource, namespace: str, name: str) -> Object | None:
        found = self.kinds.get(kind.plural)
        return found.get(namespace, name) if found is not None else None

    def _list(self, kind: ApiResource) -> list[Object]:
        found = self.kinds.get(kind.plural)
        return found.list() if found is not None else []

    async def reconcile(self, request: Request) -> Requeue | None:
        if not all(cache.has_synced for cache in self.kinds.values()):
            return Requeue(FILL_S)
        await self._sync(request)
        return None

    async def _sync(self, request: Request) -> None:
        if not request.namespace:
            content = self._get(CONTENTS, "", request.name)
            if content is not None and content["spec"].get("driver") == LOCAL:
                await self.contents.sync(content)
            return
        snapshot = self._get(SNAPSHOTS, *request)
        if snapshot is None:
            return
        if snapshot["metadata"].get("deletionTimestamp"):
            await self._let_snapshot_go(snapshot)
        elif not NEEDED - self.kinds.keys():
            # The kinds may go one after the other, and what is left of them must go, too.
            await self._sync_snapshot(snapshot)

    # Snapshots

    async def _sync_snapshot(self, snapshot: Object) -> None:
        content = self._content_of(snapshot)
        if content is None:
            content = await self._begin(snapshot)
            if content is None:
                return
        if content["spec"].get("driver") != LOCAL:
            return
        if not is_bound(snapshot, content):
            content = await self._bind(snapshot, content)
            if content is None:
                return
        held = with_finalizers(snapshot, AS_SOURCE, BOUND)
        if held is not None:
            snapshot = await self.client.update(SNAPSHOTS, held)
        before, status = snapshot.get("status") or {}, snapshot_status(content)
        if status == before:
            return
        await self.client.update(SNAPSHOTS, {**snapshot, "status": status}, "status")
        if status["readyToUse"] and not before.get("readyToUse"):
            where = f"{snapshot['metadata']['namespace']}/{snapshot['metadata']['name']}"
            text = f"Snapshot {where} was successfully created by the CSI driver."
            self.recorder.event(snapshot, NORMAL, "SnapshotCreated", text)
            text = f"Snapshot {where} is ready to use."
            self.recorder.event(snapshot, NORMAL, "SnapshotReady", text)

    def _content_of(self, snapshot: Object) -> Object | None:
        source = snapshot["spec"]["source"]
        name = source.get("volumeSnapshotContentName")
        return self._get(CONTENTS, "", name or f"snapcontent-{snapshot['metadata']['uid']}")

    async def _begin(self, snapshot: Object) -> Object | None:
        """Ask for a snapshot to be taken. None where that is not for us, or not now."""
        if snapshot["spec"]["source"].get("volumeSnapshotContentName"):
            text = "VolumeSnapshotContent is missing"
            await self._refuse(snapshot, "SnapshotContentMissing", text)
            return None
        namespace, name = _claim_of(snapshot)
        claim = self.claims.get(namespace, name)
        volume = self.volumes.get("", (claim or {"spec": {}})["spec"].get("volumeName") or "")
        try:
            kind = class_for(snapshot, self._list(CLASSES))
        except NoClass as error:
            if volume is None or annotation(volume, PROVISIONED_BY) == LOCAL:
                text = f"Failed to get snapshot class with error {error}"
                await self._refuse(snapshot, "GetSnapshotClassFailed", text)
            return None
        if kind.get("driver") != LOCAL:
            return None
        why = ""
        if claim is None:
            why = f'failed to get PVC {name}: persistentvolumeclaim "{name}" not found'
        elif volume is None or not annotation(claim, BIND_COMPLETED):
            why = f"the PVC {name} is not yet bound to a PV, will not attempt to take a snapshot"
        elif annotation(volume, PROVISIONED_BY) != LOCAL:
            why = f"volume {volume['metadata']['name']} was not made by {LOCAL}"
        if why:
            text = f"Failed to create snapshot content with error {why}"
            await self._refuse(snapshot, "SnapshotContentCreationFailed", text)
            return None
        if not snapshot["spec"].get("volumeSnapshotClassName"):
            chosen = {**snapshot["spec"], "volumeSnapshotClassName": kind["metadata"]["name"]}
            snapshot = await self.client.update(SNAPSHOTS, {**snapshot, "spec": chosen})
        assert volume is not None
        where = f"{namespace}/{snapshot['metadata']['name']}"
        text = f"Waiting for a snapshot {where} to be created by the CSI driver."
        self.recorder.event(snapshot, NORMAL, "CreatingSnapshot", text)
        with suppress(AlreadyExists):
            await self.client.create(CONTENTS, content_for(snapshot, volume, kind))
        # Its coming wakes the snapshot.
        return None

    async def _bind(self, snapshot: Object, content: Object) -> Object | None:
        """A content that was there before names the snapshot, and now its uid too."""
        reference, meta = content["spec"]["volumeSnapshotRef"], snapshot["metadata"]
        known = (reference.get("namespace"), reference.get("name"))
        if known != (meta["namespace"], meta["name"]) or reference.get("uid"):
            name = content["metadata"]["name"]
            text = f"VolumeSnapshotContent [{name}] is bound to a different snapshot"
            await self._refuse(snapshot, "SnapshotContentMisbound", text)
            return None
        spec = {**content["spec"], "volumeSnapshotRef": {**reference, "uid": meta["uid"]}}
        return await self.client.update(CONTENTS, {**content, "spec": spec})

    async def _refuse(self, snapshot: Object, reason: str, text: str) -> None:
        """Say why, once; what is missing wakes the snapshot when it comes."""
        before = snapshot.get("status") or {}
        if (before.get("error") or {}).get("message") == text:
            return
        self.recorder.event(snapshot, WARNING, reason, text)
        error = {"message": text, "time": format_time(self.clock.now())}
        status = {**before, "readyToUse": False, "error": error}
        await self.client.update(SNAPSHOTS, {**snapshot, "status": status}, "status")

    async def _let_snapshot_go(self, snapshot: Object) -> None:
        meta = snapshot["metadata"]
        for claim in self.claims.list(meta["namespace"]):
            pending = not annotation(claim, BIND_COMPLETED)
            going = claim["metadata"].get("deletionTimestamp")
            if snapshot_source(claim) == meta["name"] and pending and not going:
                # It is being made from the snapshot; its binding wakes us.
                return
        content = self._content_of(snapshot)
        if content is not None and is_bound(snapshot, content):
            if content["spec"].get("driver") != LOCAL:
                return
            marks = content["metadata"].get("annotations") or {}
            if BEING_DELETED not in marks:
                noted = {**content["metadata"], "annotations": {**marks, BEING_DELETED: "yes"}}
                content = await self.client.update(CONTENTS, {**content, "metadata": noted})
            if content["spec"]["deletionPolicy"] == "Delete":
                if not content["metadata"].get("deletionTimestamp"):
                    await self.client.delete(CONTENTS, content["metadata"]["name"])
                # Its going wakes us.
                return
        freed = without_finalizers(snapshot, AS_SOURCE, BOUND)
        if freed is not None:
            await self.client.update(SNAPSHOTS, freed)


def _claim_of(snapshot: Object) -> tuple[str, str]:
    """Namespace and name of what a snapshot is taken of."""
    source = snapshot["spec"]["source"]
    return snapshot["metadata"]["namespace"], source.get("persistentVolumeClaimName") or ""
