"""The volumes of class `standard` as objects. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from zlib import crc32

from msgspec import Struct

from sampan.api.errors import Object
from sampan.api.volumes import LOCAL, PROVISIONED_BY, PROVISIONER_FINALIZER, is_allowed

from .runtime.conditions import condition

HOSTNAME = "kubernetes.io/hostname"
CLAIM = "PersistentVolumeClaim"
SNAPSHOT = ("snapshot.storage.k8s.io", "VolumeSnapshot")
SOURCES = {("", CLAIM), SNAPSHOT}
"""(group, kind) of what a volume may begin with."""
NODE = f"{LOCAL}-node"
"""Annotation: the node that has the directory (its hostname label may be anything)."""


def refusal(claim: Object, kind: Object) -> str:
    """Why no directory can be what the claim and its class ask for, "" if one can."""
    if kind.get("mountOptions"):
        return (
            "Mount options are not supported by the provisioner but StorageClass "
            f'"{kind["metadata"]["name"]}" has mount options [{" ".join(kind["mountOptions"])}]'
        )
    spec = claim["spec"]
    source = spec.get("dataSourceRef") or spec.get("dataSource")
    if source and source.get("namespace") not in (None, "", claim["metadata"]["namespace"]):
        return f"{LOCAL} makes volumes from claims of the same namespace alone"
    if spec.get("selector"):
        return "claim Selector is not supported"
    return ""


class Origin(Struct, frozen=True):
    """What a new volume begins with."""

    what: str
    node: str
    name: str
    """Of the directory, or file, that the node copies."""


def is_populated(claim: Object) -> bool:
    """Does the claim begin with something that neither is a claim nor a snapshot? Then somebody
    else fills a volume and gives it to the claim (KEP-1495), as external-provisioner has it."""
    source = claim["spec"].get("dataSourceRef") or claim["spec"].get("dataSource")
    return bool(source) and (source.get("apiGroup") or "", source.get("kind")) not in SOURCES


def snapshot_source(claim: Object) -> str:
    """The name of the snapshot whose data the volume is to begin with, "" for none."""
    source = claim["spec"].get("dataSourceRef") or claim["spec"].get("dataSource") or {}
    named = (source.get("apiGroup") or "", source.get("kind")) == SNAPSHOT
    return str(source.get("name") or "") if named else ""


def source_of(claim: Object) -> str:
    """The name of what the volume's data is to begin with, "" for an empty one."""
    source = claim["spec"].get("dataSourceRef") or claim["spec"].get("dataSource") or {}
    return str(source.get("name") or "")


def hosts(nodes: Iterable[Object], claim: Object, kind: Object) -> Object | None:
    """A node for a claim that does not wait for its pod: any that its class allows, that is ready
    and not cordoned, and always the same one for the same claim."""
    ready = sorted(
        (
            node
            for node in nodes
            if not (node.get("spec") or {}).get("unschedulable")
            and is_ready(node)
            and is_allowed(kind, node["metadata"].get("labels") or {})
        ),
        key=lambda node: str(node["metadata"]["name"]),
    )
    return ready[crc32(claim["metadata"]["uid"].encode()) % len(ready)] if ready else None


def is_ready(node: Object) -> bool:
    """Does its agent answer, as far as the node's conditions tell?"""
    found = condition((node.get("status") or {}).get("conditions"), "Ready")
    return found is not None and found.get("status") == "True"


def volume_for(claim: Object, kind: Object, node: Object, path: str) -> Object:
    """The volume for a claim, kept for it from the beginning."""
    meta = claim["metadata"]
    policy = kind.get("reclaimPolicy") or "Delete"
    host = (node["metadata"].get("labels") or {}).get(HOSTNAME) or node["metadata"]["name"]
    rule = {"key": HOSTNAME, "operator": "In", "values": [host]}
    head: Object = {
        "name": f"pvc-{meta['uid']}",
        "annotations": {PROVISIONED_BY: LOCAL, NODE: node["metadata"]["name"]},
    }
    if policy == "Delete":
        head["finalizers"] = [PROVISIONER_FINALIZER]
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": head,
        "spec": {
            "accessModes": claim["spec"]["accessModes"],
            "capacity": {"storage": claim["spec"]["resources"]["requests"]["storage"]},
            "claimRef": {
                "apiVersion": "v1",
                "kind": CLAIM,
                "namespace": meta["namespace"],
                "name": meta["name"],
                "uid": meta["uid"],
                "resourceVersion": meta["resourceVersion"],
            },
            "local": {"path": path},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [rule]}]}},
            "persistentVolumeReclaimPolicy": policy,
            "storageClassName": kind["metadata"]["name"],
            "volumeMode": claim["spec"].get("volumeMode") or "Filesystem",
        },
    }


def node_of(volume: Object) -> str:
    return str((volume["metadata"].get("annotations") or {}).get(NODE) or "")


def with_annotation(obj: Object, name: str, text: str) -> Object:
    meta = obj["metadata"]
    return {**obj, "metadata": {**meta, "annotations": {**meta.get("annotations", {}), name: text}}}


def without_annotation(obj: Object, name: str) -> Object:
    meta = obj["metadata"]
    kept = {key: text for key, text in (meta.get("annotations") or {}).items() if key != name}
    return {**obj, "metadata": {**meta, "annotations": kept}}
