"""ConfigMaps and Secrets that the pods of this node use, each kept by a watch of its own, and all
ClusterTrustBundles while a pod wants one.

Tasks: one informer per object in use (as upstream's watch-based manager). Bounds: what its pods
refer to, and `IDLE_MAX` more that nobody uses just now, so that a restarted Deployment finds the
CA ConfigMap of its namespace at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from sampan.api.descriptor import ApiResource
from sampan.api.errors import Object
from sampan.api.resources import api_resource
from sampan.client.informer import Informer, Informers

Reference = tuple[str, str, str]
"""(plural, namespace, name)"""
BUNDLES: Reference = ("clustertrustbundles", "", "")
"""All of them: those of a signer are found by their labels."""
GROUPS = {BUNDLES[0]: "certificates.k8s.io"}
"""Of resources that are not of the core group."""

IDLE_MAX = 16


class Objects:
    """Shared by all pod workers; each is told when something it holds changes."""

    def __init__(self, informers: Informers) -> None:
        self._informers = informers
        self._users: dict[Reference, dict[str, Callable[[], None]]] = {}
        self._held: dict[str, set[Reference]] = {}
        self._idle: dict[Reference, None] = {}
        self._watching: dict[Reference, Informer] = {}

    def hold(self, uid: str, wanted: Iterable[Reference], changed: Callable[[], None]) -> None:
        """Watch these for pod `uid`; `changed` is called (in the loop) at every change."""
        references = set(wanted)
        for reference in references - self._held.get(uid, set()):
            self._users.setdefault(reference, {})[uid] = changed
            self._idle.pop(reference, None)
            if reference not in self._watching:
                self._watch(reference)
        self._held.setdefault(uid, set()).update(references)

    def release(self, uid: str) -> None:
        """The pod is gone."""
        for reference in self._held.pop(uid, set()):
            users = self._users[reference]
            users.pop(uid, None)
            if not users:
                del self._users[reference]
                self._idle[reference] = None
        while len(self._idle) > IDLE_MAX:
            self._forget(next(iter(self._idle)))

    async def synced(self, uid: str) -> None:
        """Wait until the first answer for everything the pod holds is here."""
        for reference in tuple(self._held.get(uid, ())):
            await self._watching[reference].synced()

    def get(self, plural: str, namespace: str, name: str) -> Object | None:
        """The object, or None when there is none (or it is not held)."""
        informer = self._watching.get((plural, namespace, name))
        return informer.get(namespace, name) if informer else None

    def list(self, reference: Reference) -> Sequence[Object]:
        """What a reference without a name finds; nothing while nobody holds it."""
        informer = self._watching.get(reference)
        return informer.list() if informer else ()

    def _watch(self, reference: Reference) -> None:
        resource, namespace, fields = _arguments(reference)
        informer = self._informers.informer(resource, namespace, fields=fields)
        self._watching[reference] = informer
        informer.on_change(lambda old, new: self._tell(reference))

    def _tell(self, reference: Reference) -> None:
        for changed in tuple(self._users.get(reference, {}).values()):
            changed()

    def _forget(self, reference: Reference) -> None:
        resource, namespace, fields = _arguments(reference)
        del self._idle[reference]
        del self._watching[reference]
        self._informers.stop(resource, namespace, fields=fields)


def _arguments(reference: Reference) -> tuple[ApiResource, str, str]:
    """Resource, namespace and field selector of the informer."""
    plural, namespace, name = reference
    found = api_resource(plural, GROUPS.get(plural, ""))
    return found, namespace, f"metadata.name={name}" if name else ""


def references(pod: Object) -> set[Reference]:
    """Every ConfigMap and Secret a pod's spec names, and whether it wants trust bundles."""
    namespace = pod["metadata"]["namespace"]
    spec = pod["spec"]
    out = {("secrets", namespace, item["name"]) for item in spec.get("imagePullSecrets") or ()}
    for field in ("initContainers", "containers"):
        for container in spec.get(field) or ():
            out |= {(plural, namespace, name) for plural, name in _of_container(container)}
    for volume in spec.get("volumes") or ():
        sources = [volume, *((volume.get("projected") or {}).get("sources") or ())]
        for source in sources:
            out |= {(plural, namespace, name) for plural, name in _of_source(source)}
            if "clusterTrustBundle" in source:
                out.add(BUNDLES)
    return {item for item in out if item[2] or item == BUNDLES}


def _of_container(container: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    for item in container.get("envFrom") or ():
        yield "configmaps", (item.get("configMapRef") or {}).get("name", "")
        yield "secrets", (item.get("secretRef") or {}).get("name", "")
    for item in container.get("env") or ():
        source = item.get("valueFrom") or {}
        yield "configmaps", (source.get("configMapKeyRef") or {}).get("name", "")
        yield "secrets", (source.get("secretKeyRef") or {}).get("name", "")


def _of_source(source: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    """A volume, or one source of a projected volume (which says `name` for a Secret)."""
    secret = source.get("secret") or {}
    yield "configmaps", (source.get("configMap") or {}).get("name", "")
    yield "secrets", secret.get("secretName") or secret.get("name", "")
