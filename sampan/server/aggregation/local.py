"""The APIServices of what this server serves itself, built-in groups and custom resources.

They are written whole, straight to the store: they are the server's own, as upstream's
auto-registration makes them. At a start the built-in ones are brought back to what they should
be; those of custom resources follow the resources at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from sampan.api.errors import Object
from sampan.api.meta import new_uid
from sampan.api.resources import builtin, resource
from sampan.store.interface import RevisionMismatch
from sampan.wire.json import encode_object

from ..changes import Note

if TYPE_CHECKING:
    from ..app import Server

GROUP = "apiregistration.k8s.io"
MANAGED = "kube-aggregator.kubernetes.io/automanaged"
ON_START, ALWAYS = "onstart", "true"
CUSTOM = (1000, 100)
"""Group and version priority of custom resources (upstream's crdRegistrationController)."""
UNKNOWN_VERSION = 9
"""Priority of a version upstream's table does not name."""

# Upstream's table (controlplane/apiserver/aggregator.go, and the groups kube-apiserver adds).
GROUPS: Mapping[str, int] = {
    "": 18000, "apps": 17800, "events.k8s.io": 17750, "authentication.k8s.io": 17700,
    "authorization.k8s.io": 17600, "autoscaling": 17500, "batch": 17400,
    "certificates.k8s.io": 17300, "networking.k8s.io": 17200, "policy": 17100,
    "rbac.authorization.k8s.io": 17000, "storage.k8s.io": 16800, "apiextensions.k8s.io": 16700,
    "admissionregistration.k8s.io": 16700, "scheduling.k8s.io": 16600,
    "coordination.k8s.io": 16500, "node.k8s.io": 16300, "discovery.k8s.io": 16200,
    "flowcontrol.apiserver.k8s.io": 16100, "internal.apiserver.k8s.io": 16000,
    "resource.k8s.io": 15900, "storagemigration.k8s.io": 15800,
}  # fmt: skip
VERSIONS: Mapping[tuple[str, str], int] = {
    ("", "v1"): 1, ("autoscaling", "v2"): 30, ("flowcontrol.apiserver.k8s.io", "v1"): 21,
}  # fmt: skip
LOCAL = {
    "type": "Available",
    "status": "True",
    "reason": "Local",
    "message": "Local APIServices are always available",
}


class Wanted(NamedTuple):
    """One automatic APIService."""

    group: str
    version: str
    priority: tuple[int, int]
    label: str

    @property
    def name(self) -> str:
        return f"{self.version}.{self.group}"

    @property
    def spec(self) -> Object:
        head: Object = {"group": self.group} if self.group else {}
        group, version = self.priority
        return {
            **head,
            "version": self.version,
            "groupPriorityMinimum": group,
            "versionPriority": version,
        }


def wanted_of(server: Server) -> dict[str, Wanted]:
    """The automatic APIServices by name; the aggregator's own group has none, as upstream."""
    own = {(item.group, item.version) for item in builtin()}
    out = {}
    # What is made when asked for (metrics.k8s.io) may be any server's to serve.
    served = {(item.group, item.version) for item in server.resources if item.storage}
    for group, version in sorted(served):
        if group == GROUP:
            continue
        if (group, version) in own:
            least = VERSIONS.get((group, version), 15 if version == "v1" else UNKNOWN_VERSION)
            item = Wanted(group, version, (GROUPS.get(group, 15700), least), ON_START)
        else:
            item = Wanted(group, version, CUSTOM, ALWAYS)
        out[item.name] = item
    return out


async def sync(server: Server, known: Mapping[str, Object], *, start: bool) -> None:
    """Bring the automatic APIServices to what is served; `start` repairs the built-in ones."""
    wanted = wanted_of(server)
    work: list[Coroutine[Any, Any, None]] = []
    for name, item in wanted.items():
        stored = known.get(name)
        label = label_of(stored) if stored is not None else ""
        if stored is None and (start or item.label == ALWAYS):
            work.append(_put(server, item, None))
        elif (
            stored is not None
            and label == item.label
            and stored["spec"] != item.spec
            and (start or label == ALWAYS)
        ):
            work.append(_put(server, item, stored))
    for name, stored in known.items():
        if name not in wanted and label_of(stored) in (ALWAYS, ON_START):
            work.append(_remove(server, name, stored))
    await asyncio.gather(*work)


def label_of(obj: Object) -> str:
    """How the aggregator manages an APIService, "" for a user's own."""
    label = (obj["metadata"].get("labels") or {}).get(MANAGED, "")
    return label if isinstance(label, str) else ""


async def _put(server: Server, item: Wanted, stored: Object | None) -> None:
    target = resource("apiservices", GROUP)
    now = server.timestamp()
    metadata: Object = {
        "name": item.name,
        "uid": new_uid(),
        "creationTimestamp": now,
        "labels": {MANAGED: item.label},
    }
    expected = 0
    if stored is not None:
        expected = int(stored["metadata"]["resourceVersion"])
        metadata = {
            name: value for name, value in stored["metadata"].items() if name != "resourceVersion"
        }
    obj: Object = {
        "kind": target.kind,
        "apiVersion": target.api_version,
        "metadata": metadata,
        "spec": item.spec,
        "status": {"conditions": [{**LOCAL, "lastTransitionTime": now}]},
    }
    value = encode_object(obj)
    try:
        await server.store.put(
            target.key("", item.name), value, expected=expected, note=Note(obj, stored)
        )
    except RevisionMismatch:
        # Somebody else wrote it just now: the next pass, or start, looks at it again.
        return


async def _remove(server: Server, name: str, stored: Object) -> None:
    target = resource("apiservices", GROUP)
    expected = int(stored["metadata"]["resourceVersion"])
    try:
        await server.store.delete(target.key("", name), expected=expected, note=Note(None, stored))
    except RevisionMismatch:
        return
