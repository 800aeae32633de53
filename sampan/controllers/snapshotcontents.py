"""What is behind snapshots of class `standard`: contents are taken by their volume's node, and
taken away (the part of csi-snapshotter; see `snapshots`)."""

from __future__ import annotations

from collections.abc import Callable

from sampan.api.errors import InternalError, NotFound, Object
from sampan.api.times import format_time
from sampan.api.volumes import LOCAL, PROVISIONED_BY, annotation
from sampan.client.events import WARNING, EventRecorder
from sampan.client.informer import Informer

from .localvolumes_plan import node_of
from .runtime.controller import Context
from .runtime.nodecalls import Unprovisioned, ask_node
from .snapshots_plan import (
    BEING_DELETED,
    CONTENT_BOUND,
    CONTENTS,
    content_status,
    handle_of,
    is_bound,
    with_finalizers,
    without_finalizers,
)

Named = Callable[[str, str], Object | None]
"""(namespace, name) of a snapshot -> it, if there is one."""


class Contents:
    """`caches` are those of PersistentVolumes and nodes."""

    def __init__(
        self,
        context: Context,
        recorder: EventRecorder,
        caches: tuple[Informer, Informer],
        snapshot: Named,
    ) -> None:
        self._client = context.client
        self._clock = context.clock
        self._options = context.options
        self._recorder = recorder
        self._volumes, self._nodes = caches
        self._snapshot = snapshot

    async def sync(self, content: Object) -> None:
        """Bring it on. Raises what the client raises, and Unprovisioned."""
        if content["metadata"].get("deletionTimestamp"):
            await self._let_go(content)
            return
        held = with_finalizers(content, CONTENT_BOUND)
        if held is not None:
            content = await self._client.update(CONTENTS, held)
        if (content.get("status") or {}).get("readyToUse"):
            return
        source = content["spec"]["source"]
        if source.get("snapshotHandle"):
            status: Object = {"snapshotHandle": source["snapshotHandle"], "readyToUse": True}
        else:
            try:
                status = await self._take(content, source.get("volumeHandle") or "")
            except InternalError as error:
                await self._note_failure(content, str(error))
                raise
        await self._client.update(CONTENTS, {**content, "status": status}, "status")

    async def _take(self, content: Object, handle: str) -> Object:
        """Have the node copy the volume. Raises Unprovisioned."""
        volume = self._volumes.get("", handle)
        if volume is None or annotation(volume, PROVISIONED_BY) != LOCAL:
            raise Unprovisioned(f"volume {handle} is not there")
        node = await self._nodes.get_live("", node_of(volume))
        if node is None:
            raise Unprovisioned(f"node {node_of(volume)} is not there")
        uid = content["spec"]["volumeSnapshotRef"]["uid"]
        name = f"snapshot-{uid}"
        now = self._clock.now()
        await ask_node(self._options, node, "PUT", name, f"?from={handle}")
        return content_status(volume, handle_of(node["metadata"]["name"], uid), now)

    async def _note_failure(self, content: Object, why: str) -> None:
        text = "Failed to check and update snapshot content: "
        text += f"failed to take snapshot of the volume {why}"
        before = content.get("status") or {}
        if (before.get("error") or {}).get("message") == text:
            return
        self._recorder.event(content, WARNING, "SnapshotCreationFailed", text)
        error = {"message": text, "time": format_time(self._clock.now())}
        status = {**before, "readyToUse": False, "error": error}
        await self._client.update(CONTENTS, {**content, "status": status}, "status")

    async def _let_go(self, content: Object) -> None:
        """Its snapshot, if it has one, is to go first, or with it."""
        reference = content["spec"]["volumeSnapshotRef"]
        snapshot = self._snapshot(reference.get("namespace", ""), reference.get("name", ""))
        marked = BEING_DELETED in (content["metadata"].get("annotations") or {})
        if snapshot is not None and is_bound(snapshot, content) and not marked:
            return
        if content["spec"]["deletionPolicy"] == "Delete":
            await self._remove(content)
        freed = without_finalizers(content, CONTENT_BOUND)
        if freed is not None:
            try:
                await self._client.update(CONTENTS, freed)
            except NotFound:
                return

    async def _remove(self, content: Object) -> None:
        """What the node has of it. Raises Unprovisioned."""
        handle = (content.get("status") or {}).get("snapshotHandle") or self._unnoted(content)
        host, _, name = handle.partition("/")
        node = await self._nodes.get_live("", host) if host else None
        if node is None:
            return
        try:
            await ask_node(self._options, node, "DELETE", name)
        except InternalError as error:
            self._recorder.event(content, WARNING, "SnapshotDeleteError", str(error))
            raise

    def _unnoted(self, content: Object) -> str:
        """The handle of a snapshot that may have been taken without anybody writing it down."""
        volume = self._volumes.get("", content["spec"]["source"].get("volumeHandle") or "")
        uid = content["spec"]["volumeSnapshotRef"].get("uid")
        return handle_of(node_of(volume), uid) if volume is not None and uid else ""
