"""Asks for volumes to be attached to the nodes whose pods use them, and to be detached after
(upstream's attachdetach-controller, for CSI: the only kind that is attached).

What is asked for is a VolumeAttachment; the driver's own external-attacher carries it out and
writes down that it has. Once it is, the node's status lists the volume (volumesAttached), as the
kubelet's clients have it. It is detached when no pod of the node uses it and the node has said that
it is unmounted (volumesInUse): of a node that does not answer, after `UNMOUNT_WAIT_S`, or at once
when it is marked out of service.

A request is a PersistentVolume. Nothing is polled: pods, nodes and attachments wake their volumes.
"""

from __future__ import annotations

import re

from sampan.api.errors import AlreadyExists, NotFound, Object
from sampan.api.resources import resource
from sampan.api.volumes import claim_name, csi_attachment, csi_unique_name
from sampan.client.events import NORMAL, WARNING
from sampan.client.interface import MERGE_PATCH

from .attachdetach_plan import (
    Wish,
    detach_at,
    is_exclusive,
    node_of,
    nodes_of,
    source_of,
    with_attached,
)
from .runtime.controller import Context, Controller
from .runtime.pods import is_finished
from .runtime.queue import Request, Requeue

HELD = "Volume is already exclusively attached to one node and can't be attached to another"
USED, ELSEWHERE = "Volume is already used by ", "different namespaces"
BY_CLAIM = "scheduled pods by claim"
BY_VOLUME = "attachments by volume"
BY_NODE = "attachments by node"
OURS = re.compile("csi-[0-9a-f]{64}")
"""Names that `csi_attachment` makes."""


class AttachDetachController(Controller):
    """See the module."""

    name = "attachdetach"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.attachment_resource = resource("volumeattachments", "storage.k8s.io")
        self.recorder = context.recorder("attachdetach-controller")
        self.attachments = self.informer(self.attachment_resource)
        self.drivers = self.informer(resource("csidrivers", "storage.k8s.io"))
        self.volumes = self.informer(resource("persistentvolumes"))
        self.claims = self.informer(resource("persistentvolumeclaims"))
        self.pods = self.informer(resource("pods"))
        self.nodes = self.informer(resource("nodes"))
        self.pods.add_index(BY_CLAIM, _claims)
        self.attachments.add_index(BY_VOLUME, _volume)
        self.attachments.add_index(BY_NODE, _node)
        self.unmounted_since: dict[tuple[str, str], float] = {}
        """(volume, node) -> since when no pod uses it there."""
        self.refused: set[tuple[str, str]] = set()
        """(volume, node) whose pods have been told that it is attached elsewhere: once, as
        upstream, for as long as one there wants it."""
        self.pods.on_change(self._pod_changed)
        self.claims.on_change(self._claim_changed)
        self.volumes.on_change(self._volume_changed)
        self.nodes.on_change(self._node_changed)
        self.attachments.on_change(self._attachment_changed)
        self.drivers.on_change(self._driver_changed)

    # What wakes a volume

    def _pod_changed(self, old: Object | None, new: Object | None) -> None:
        pod = new if new is not None else old
        assert pod is not None
        if new is not None and old is not None and _use(old) == _use(new):
            return
        for key in {*_claims(pod), *(_claims(old) if old is not None else ())}:
            self._wake_claim(self.claims.get(*key.split("/", 1)))

    def _claim_changed(self, old: Object | None, new: Object | None) -> None:
        self._wake_claim(new)

    def _wake_claim(self, claim: Object | None) -> None:
        name = claim["spec"].get("volumeName") if claim is not None else ""
        if name:
            self.queue.add(Request("", name))

    def _volume_changed(self, old: Object | None, new: Object | None) -> None:
        volume = new if new is not None else old
        assert volume is not None
        if source_of(volume):
            self.add(volume)

    def _node_changed(self, old: Object | None, new: Object | None) -> None:
        node = new if new is not None else old
        assert node is not None
        for found in self.attachments.by_index(BY_NODE, node["metadata"]["name"]):
            self.queue.add(Request("", _volume(found)[0]))

    def _attachment_changed(self, old: Object | None, new: Object | None) -> None:
        found = new if new is not None else old
        assert found is not None
        for name in _volume(found):
            if new is None:
                self.unmounted_since.pop((name, node_of(found)), None)
            self.queue.add(Request("", name))

    def _driver_changed(self, old: Object | None, new: Object | None) -> None:
        driver = new if new is not None else old
        assert driver is not None
        for volume in self.volumes.list():
            if source_of(volume).get("driver") == driver["metadata"]["name"]:
                self.add(volume)

    # What is done

    async def reconcile(self, request: Request) -> Requeue | None:
        volume = self.volumes.get("", request.name)
        found = {node_of(item): item for item in self.attachments.by_index(BY_VOLUME, request.name)}
        wishes = self._wishes(volume)
        for told in [item for item in self.refused if item[0] == request.name]:
            if told[1] not in wishes:
                self.refused.discard(told)
        for node, wish in wishes.items():
            self.unmounted_since.pop((request.name, node), None)
            assert volume is not None
            if node not in found:
                await self._attach(volume, wish, found)
            else:
                await self._tell(volume, found[node], wish)
        waits = [
            await self._detach(request.name, item)
            for node, item in found.items()
            if node not in wishes
        ]
        soonest = min((wait for wait in waits if wait), default=0.0)
        return Requeue(soonest) if soonest else None

    def _wishes(self, volume: Object | None) -> dict[str, Wish]:
        """Node -> who wants the volume there."""
        source = source_of(volume) if volume is not None else {}
        if volume is None or not source or not self._attaches(source["driver"]):
            return {}
        reference = volume["spec"].get("claimRef") or {}
        claim = self.claims.get(reference.get("namespace", ""), reference.get("name", ""))
        if claim is None or claim["spec"].get("volumeName") != volume["metadata"]["name"]:
            return {}
        meta = claim["metadata"]
        pods = self.pods.by_index(BY_CLAIM, f"{meta['namespace']}/{meta['name']}")
        nodes = {item["metadata"]["name"] for item in self.nodes.list()}
        return nodes_of(pods, nodes)

    def _attaches(self, driver: str) -> bool:
        """A driver that nobody has described attaches, as upstream has it."""
        found = self.drivers.get("", driver)
        return found is None or (found.get("spec") or {}).get("attachRequired") is not False

    async def _attach(self, volume: Object, wish: Wish, found: dict[str, Object]) -> None:
        name, source = volume["metadata"]["name"], source_of(volume)
        if found and is_exclusive(volume):
            if (name, wish.node) not in self.refused:
                self.refused.add((name, wish.node))
                self._refuse(volume, wish, found)
            return
        self.refused.discard((name, wish.node))
        body = {
            "apiVersion": "storage.k8s.io/v1",
            "kind": "VolumeAttachment",
            "metadata": {
                "name": csi_attachment(source["volumeHandle"], source["driver"], wish.node)
            },
            "spec": {
                "attacher": source["driver"],
                "nodeName": wish.node,
                "source": {"persistentVolumeName": name},
            },
        }
        try:
            await self.client.create(self.attachment_resource, body)
        except AlreadyExists:
            return

    def _refuse(self, volume: Object, wish: Wish, found: dict[str, Object]) -> None:
        """It is attached elsewhere: tell of who holds it there, if anybody still does."""
        name = volume["metadata"]["name"]
        others = [pod for node, other in self._wishes(volume).items() for pod in other.pods
                  if node in found]  # fmt: skip
        for pod in wish.pods:
            space = pod["metadata"]["namespace"]
            seen = sorted(
                f"{item['metadata']['name']}" for item in others
                if item["metadata"]["namespace"] == space
            )  # fmt: skip
            hidden = len(others) - len(seen)
            if not others:
                text = HELD
            elif seen and hidden:
                text = (
                    USED + f"pod(s) {', '.join(seen)} and {hidden} pod(s) in different namespaces"
                )
            elif seen:
                text = USED + f"pod(s) {', '.join(seen)}"
            else:
                text = USED + f"{hidden} pod(s) in {ELSEWHERE}"
            text = f'Multi-Attach error for volume "{name}" {text}'
            self.recorder.event(pod, WARNING, "FailedAttachVolume", text)

    async def _tell(self, volume: Object, attachment: Object, wish: Wish) -> None:
        """Say what has become of it, once: the node's status is the memory."""
        status, name = attachment.get("status") or {}, volume["metadata"]["name"]
        if attachment["metadata"].get("deletionTimestamp"):
            return
        if status.get("attached"):
            if await self._list(attachment, volume, attached=True):
                text = f'AttachVolume.Attach succeeded for volume "{name}" '
                for pod in wish.pods:
                    self.recorder.event(pod, NORMAL, "SuccessfulAttachVolume", text)
        elif (status.get("attachError") or {}).get("message"):
            error = status["attachError"]["message"]
            text = f'AttachVolume.Attach failed for volume "{name}" : {error}'
            for pod in wish.pods:
                self.recorder.event(pod, WARNING, "FailedAttachVolume", text)

    async def _detach(self, name: str, attachment: Object) -> float:
        """Take it away if that is safe; else how long to wait (0: until something happens)."""
        meta, node_name = attachment["metadata"], node_of(attachment)
        if meta.get("deletionTimestamp"):
            return 0.0
        volume = self.volumes.get("", name)
        node = self.nodes.get("", node_name)
        if node is not None and volume is not None:
            source = source_of(volume)
            unique = csi_unique_name(source.get("driver", ""), source.get("volumeHandle", ""))
            now = self.clock.now()
            since = self.unmounted_since.setdefault((name, node_name), now)
            at = detach_at(node, unique, since)
            if at is None:
                return 0.0
            if at > now:
                return at - now
            await self._list(attachment, volume, attached=False)
        self.unmounted_since.pop((name, node_name), None)
        try:
            options = {"preconditions": {"uid": meta["uid"]}}
            await self.client.delete(self.attachment_resource, meta["name"], options=options)
        except NotFound:
            return 0.0
        return 0.0

    async def _list(self, attachment: Object, volume: Object, *, attached: bool) -> bool:
        """Make the node's volumesAttached say it; false if it does."""
        source = source_of(volume)
        unique = csi_unique_name(source["driver"], source["volumeHandle"])
        name = node_of(attachment)
        node = self.nodes.get("", name)
        if node is None:
            return False
        path = attachment["metadata"]["name"] if attached else ""
        wanted = with_attached(node, unique, path)
        if wanted is None:
            return False
        # Others write other parts of the status at any time; the list is guarded by the version.
        meta = {"resourceVersion": node["metadata"]["resourceVersion"]}
        change = {"metadata": meta, "status": {"volumesAttached": wanted or None}}
        nodes = resource("nodes")
        await self.client.patch(nodes, name, change, subresource="status", content_type=MERGE_PATCH)
        return True


def _use(pod: Object) -> tuple[object, bool]:
    return pod["spec"].get("nodeName"), is_finished(pod)


def _claims(pod: Object) -> tuple[str, ...]:
    """Claims of pods that have a node."""
    spec, meta = pod["spec"], pod["metadata"]
    if not spec.get("volumes") or not spec.get("nodeName"):
        return ()
    names = (claim_name(meta["name"], volume) for volume in spec["volumes"])
    return tuple(f"{meta['namespace']}/{name}" for name in names if name)


def _volume(attachment: Object) -> tuple[str, ...]:
    """Those that are not ours are left alone: others may ask for attachments, too."""
    if not OURS.fullmatch(attachment["metadata"]["name"]):
        return ()
    name = (attachment["spec"].get("source") or {}).get("persistentVolumeName")
    return (name,) if name else ()


def _node(attachment: Object) -> tuple[str, ...]:
    return (node_of(attachment),) if _volume(attachment) else ()
