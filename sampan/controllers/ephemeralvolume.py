"""Makes the claims of generic ephemeral volumes (KEP-1698): one per volume, owned by its pod, and
so gone with it."""

from __future__ import annotations

from sampan.api.errors import AlreadyExists, Object
from sampan.api.resources import resource
from sampan.api.volumes import claim_name, is_for_pod
from sampan.client.events import WARNING

from .runtime.controller import Context, Controller
from .runtime.owners import controller_reference
from .runtime.pods import is_finished, is_terminating
from .runtime.queue import Request


class NotOurs(AlreadyExists):
    """A claim of that name was there before, and is somebody else's."""


class EphemeralVolumeController(Controller):
    """See the module."""

    name = "ephemeral_volume"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.resource = resource("persistentvolumeclaims")
        self.recorder = context.recorder("ephemeral_volume")
        self.pods = self.informer(resource("pods"))
        self.claims = self.informer(self.resource)
        self.pods.on_change(self._pod_changed)
        self.claims.on_change(self._claim_changed)

    def _pod_changed(self, old: Object | None, new: Object | None) -> None:
        if new is None or old is not None:
            # Volumes never change; what failed is retried by the queue.
            return
        if any(volume.get("ephemeral") for volume in new["spec"].get("volumes") or ()):
            self.add(new)

    def _claim_changed(self, old: Object | None, new: Object | None) -> None:
        """A claim that goes makes room for the one its pod waits for."""
        if new is None and old is not None:
            for owner in old["metadata"].get("ownerReferences") or ():
                if owner.get("kind") == "Pod" and owner.get("controller"):
                    self.queue.add(Request(old["metadata"]["namespace"], owner["name"]))

    async def reconcile(self, request: Request) -> None:
        pod = self.pods.get(*request)
        if pod is None or is_finished(pod) or is_terminating(pod):
            return
        for volume in pod["spec"].get("volumes") or ():
            if volume.get("ephemeral"):
                await self._ensure(pod, volume)

    async def _ensure(self, pod: Object, volume: Object) -> None:
        meta = pod["metadata"]
        name, namespace = claim_name(meta["name"], volume), meta["namespace"]
        claim = self.claims.get(namespace, name)
        if claim is None:
            template = volume["ephemeral"]["volumeClaimTemplate"]
            given = template.get("metadata") or {}
            kept = {key: given[key] for key in ("labels", "annotations") if given.get(key)}
            owner = controller_reference(resource("pods"), pod)
            body = {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "metadata": {**kept, "name": name, "ownerReferences": [owner]},
                "spec": template["spec"],
            }
            try:
                await self.client.create(self.resource, body, namespace)
                return
            except AlreadyExists:
                claim = await self.claims.get_live(namespace, name)
        if claim is not None and not is_for_pod(pod, claim):
            text = (
                f"PVC {namespace}/{name} was not created for pod {namespace}/{meta['name']} "
                "(pod is not owner)"
            )
            self.recorder.event(
                pod, WARNING, "FailedBinding", f"ephemeral volume {volume['name']}: {text}"
            )
            raise NotOurs(text)
