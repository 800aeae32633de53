"""What each node has to do with: from the pods bound to it to what they name. Kept by events.

As upstream's plugin/pkg/auth/authorizer/node/graph.go: node <- pod <- secret, config map, claim,
service account, resource claim; claim <- volume <- secret; attachments and resource slices by their
node's name. Memory: per bound pod one entry, whose references are shared with all pods that refer
to the same things.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from sampan.api.errors import Object
from sampan.api.resources import resource

if TYPE_CHECKING:
    from ..app import Server

MIRROR = "kubernetes.io/config.mirror"

Thing = tuple[str, str, str]
"""(plural, namespace, name)"""

# Volumes of a pod that name a secret of its namespace, and the field that does.
SECRET_SOURCES = {
    "secret": "secretName",
    "azureFile": "secretName",
}
REF_SOURCES = {
    "cephfs": "secretRef",
    "flexVolume": "secretRef",
    "iscsi": "secretRef",
    "rbd": "secretRef",
    "scaleIO": "secretRef",
    "storageos": "secretRef",
    "csi": "nodePublishSecretRef",
}
# Sources of a volume that name secrets with a namespace of their own.
VOLUME_REFS = {
    "csi": (
        "controllerPublishSecretRef",
        "nodeStageSecretRef",
        "nodePublishSecretRef",
        "controllerExpandSecretRef",
        "nodeExpandSecretRef",
    ),
    "cephfs": ("secretRef",),
    "flexVolume": ("secretRef",),
    "iscsi": ("secretRef",),
    "rbd": ("secretRef",),
    "scaleIO": ("secretRef",),
    "storageos": ("secretRef",),
}


class _Bound(NamedTuple):
    """A pod's node and what the pod names."""

    node: str
    things: tuple[Thing, ...]


class NodeGraph:
    """Answers whether a thing has to do with a node."""

    def __init__(self) -> None:
        self._pods: dict[str, _Bound] = {}
        self._users: dict[Thing, dict[str, int]] = {}
        """Thing -> node -> how many of its pods name it."""
        self._shared: dict[tuple[Thing, ...], tuple[Thing, ...]] = {}
        self._claims: dict[str, Thing] = {}
        """Volume -> the claim that it is bound to."""
        self._volume_secrets: dict[str, frozenset[Thing]] = {}
        self._secret_volumes: dict[Thing, set[str]] = {}
        self._attachments: dict[str, str] = {}
        self._slices: dict[str, str] = {}
        self.policies = 0
        """How many network policies there are: their peers may be any node's pods."""

    def start(self, server: Server) -> None:
        """Follow what the graph is made of."""
        server.observe(resource("pods"), self.pod_changed)
        server.observe(resource("persistentvolumes"), self.volume_changed)
        server.observe(resource("volumeattachments", "storage.k8s.io"), self.attachment_changed)
        server.observe(resource("resourceslices", "resource.k8s.io"), self.slice_changed)
        policies = resource("networkpolicies", "networking.k8s.io")
        server.observe(policies, self.policy_changed)

    def relates(self, node: str, thing: Thing) -> bool:
        """Does `thing` have to do with `node`?"""
        plural, _, name = thing
        if plural == "volumeattachments":
            return self._attachments.get(name) == node
        if plural == "resourceslices":
            return self._slices.get(name) == node
        if plural == "persistentvolumes":
            claim = self._claims.get(name)
            return claim is not None and self._has(node, claim)
        if plural == "pods":
            bound = self._pods.get(f"{thing[1]}/{name}")
            return bound is not None and bound.node == node
        if self._has(node, thing):
            return True
        return any(
            volume in self._claims and self._has(node, self._claims[volume])
            for volume in self._secret_volumes.get(thing, ())
        )

    def _has(self, node: str, thing: Thing) -> bool:
        users = self._users.get(thing)
        return users is not None and node in users

    # Events.

    def policy_changed(self, event: str, policy: Object, old: Object | None) -> None:
        self.policies += {"ADDED": 1, "DELETED": -1}.get(event, 0)

    def pod_changed(self, event: str, pod: Object, old: Object | None) -> None:
        meta = pod["metadata"]
        key = f"{meta['namespace']}/{meta['name']}"
        known = self._pods.get(key)
        if event == "DELETED":
            if known is not None:
                self._forget(key, known)
            return
        node = (pod.get("spec") or {}).get("nodeName") or ""
        if not node:
            return
        if known is not None and old is not None and _same(pod, old):
            return
        if known is not None:
            self._forget(key, known)
        things = tuple(dict.fromkeys(_things(pod)))
        bound = _Bound(node, self._shared.setdefault(things, things))
        self._pods[key] = bound
        for thing in bound.things:
            users = self._users.setdefault(thing, {})
            users[node] = users.get(node, 0) + 1

    def _forget(self, key: str, bound: _Bound) -> None:
        del self._pods[key]
        for thing in bound.things:
            users = self._users[thing]
            users[bound.node] -= 1
            if not users[bound.node]:
                del users[bound.node]
                if not users:
                    del self._users[thing]
                    # Nobody names this any more, so nobody has these references.
                    self._shared.pop(bound.things, None)

    def volume_changed(self, event: str, volume: Object, old: Object | None) -> None:
        name = volume["metadata"]["name"]
        self._claims.pop(name, None)
        for thing in self._volume_secrets.pop(name, ()):
            volumes = self._secret_volumes[thing]
            volumes.discard(name)
            if not volumes:
                del self._secret_volumes[thing]
        spec = volume.get("spec") or {}
        claim = spec.get("claimRef")
        if event == "DELETED" or not claim:
            return
        namespace = claim.get("namespace", "")
        self._claims[name] = ("persistentvolumeclaims", namespace, claim.get("name", ""))
        secrets = frozenset(_volume_secrets(spec, namespace))
        if secrets:
            self._volume_secrets[name] = secrets
            for thing in secrets:
                self._secret_volumes.setdefault(thing, set()).add(name)

    def attachment_changed(self, event: str, obj: Object, old: Object | None) -> None:
        _set(self._attachments, event, obj)

    def slice_changed(self, event: str, obj: Object, old: Object | None) -> None:
        _set(self._slices, event, obj)


def _set(nodes: dict[str, str], event: str, obj: Object) -> None:
    name, node = obj["metadata"]["name"], (obj.get("spec") or {}).get("nodeName")
    if event == "DELETED" or not node:
        nodes.pop(name, None)
    else:
        nodes[name] = node


def _same(pod: Object, old: Object) -> bool:
    """What a bound pod names cannot change, but for the resource claims made for it."""
    if pod["metadata"].get("uid") != old["metadata"].get("uid"):
        return False
    spec, was = pod["spec"], old["spec"]
    for field in ("nodeName", "ephemeralContainers"):
        if spec.get(field) != was.get(field):
            return False
    now, before = pod.get("status") or {}, old.get("status") or {}
    for field in ("resourceClaimStatuses", "extendedResourceClaimStatus"):
        if now.get(field) != before.get(field):
            return False
    return True


def _things(pod: Object) -> Iterator[Thing]:
    """Everything a pod names. A mirror pod names nothing: its node made it up."""
    meta = pod["metadata"]
    if MIRROR in (meta.get("annotations") or {}):
        return
    namespace = meta["namespace"]
    for plural, name in names_of(pod):
        if name:
            yield plural, namespace, name


def names_of(pod: Object) -> Iterator[tuple[str, str]]:
    """Plural and name (some are "") of what a pod names in its namespace."""
    spec, pod_name = pod.get("spec") or {}, pod["metadata"].get("name", "")
    yield "serviceaccounts", spec.get("serviceAccountName") or ""
    for item in spec.get("imagePullSecrets") or ():
        yield "secrets", item.get("name", "")
    for field in ("initContainers", "containers", "ephemeralContainers"):
        for container in spec.get(field) or ():
            yield from _names_of_container(container)
    for volume in spec.get("volumes") or ():
        yield from _names_of_volume(volume, pod_name)
    status = pod.get("status") or {}
    for claim in spec.get("resourceClaims") or ():
        yield "resourceclaims", claim.get("resourceClaimName") or ""
    for claim in status.get("resourceClaimStatuses") or ():
        yield "resourceclaims", claim.get("resourceClaimName") or ""
    extended = status.get("extendedResourceClaimStatus") or {}
    yield "resourceclaims", extended.get("resourceClaimName") or ""


def _names_of_container(container: Object) -> Iterator[tuple[str, str]]:
    for item in container.get("envFrom") or ():
        yield "configmaps", (item.get("configMapRef") or {}).get("name", "")
        yield "secrets", (item.get("secretRef") or {}).get("name", "")
    for item in container.get("env") or ():
        source = item.get("valueFrom")
        if source:
            yield "configmaps", (source.get("configMapKeyRef") or {}).get("name", "")
            yield "secrets", (source.get("secretKeyRef") or {}).get("name", "")


def _names_of_volume(volume: dict[str, Any], pod_name: str) -> Iterator[tuple[str, str]]:
    # A volume has one source: looking at what is there is cheaper than at all there might be.
    for kind, source in volume.items():
        if kind == "name" or source is None:
            continue
        if kind in SECRET_SOURCES:
            yield "secrets", source.get(SECRET_SOURCES[kind], "")
        elif kind in REF_SOURCES:
            yield "secrets", (source.get(REF_SOURCES[kind]) or {}).get("name", "")
        elif kind == "configMap":
            yield "configmaps", source.get("name", "")
        elif kind == "persistentVolumeClaim":
            yield "persistentvolumeclaims", source.get("claimName", "")
        elif kind == "ephemeral":
            # The claim of a generic ephemeral volume is named after the pod and the volume.
            yield "persistentvolumeclaims", f"{pod_name}-{volume['name']}"
        elif kind == "projected":
            for part in source.get("sources") or ():
                yield "secrets", (part.get("secret") or {}).get("name", "")
                yield "configmaps", (part.get("configMap") or {}).get("name", "")


def _volume_secrets(spec: Object, namespace: str) -> Iterator[Thing]:
    azure = spec.get("azureFile") or {}
    if azure.get("secretName"):
        yield "secrets", azure.get("secretNamespace") or namespace, azure["secretName"]
    for source, fields in VOLUME_REFS.items():
        found = spec.get(source) or {}
        for field in fields:
            ref = found.get(field) or {}
            if ref.get("name"):
                yield "secrets", ref.get("namespace") or namespace, ref["name"]
