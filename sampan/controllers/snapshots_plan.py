"""Snapshots of volumes of class `standard` as objects (snapshot.storage.k8s.io/v1). Pure.

Names, finalizers and annotations are those of kubernetes-csi/external-snapshotter, whose kinds
these are: its controller, where a cluster has it for CSI drivers, finds what it would write itself.
"""

from __future__ import annotations

from collections.abc import Iterable

from sampan.api.descriptor import ApiResource
from sampan.api.errors import Object
from sampan.api.times import format_time
from sampan.api.volumes import LOCAL, annotation, capacity_of, is_block, mode_of, size_of
from sampan.wire.quantity import whole_text

GROUP, VERSION = "snapshot.storage.k8s.io", "v1"
API_VERSION = f"{GROUP}/{VERSION}"
KIND = "VolumeSnapshot"
SNAPSHOTS = ApiResource(GROUP, VERSION, KIND, "volumesnapshots", namespaced=True)
CONTENTS = ApiResource(
    GROUP, VERSION, "VolumeSnapshotContent", "volumesnapshotcontents", namespaced=False
)
CLASSES = ApiResource(
    GROUP, VERSION, "VolumeSnapshotClass", "volumesnapshotclasses", namespaced=False
)
PREFIX = "snapshot.storage.kubernetes.io"
IS_DEFAULT = f"{PREFIX}/is-default-class"
BEING_DELETED = f"{PREFIX}/volumesnapshot-being-deleted"
AS_SOURCE = f"{PREFIX}/volumesnapshot-as-source-protection"
BOUND = f"{PREFIX}/volumesnapshot-bound-protection"
CONTENT_BOUND = f"{PREFIX}/volumesnapshotcontent-bound-protection"


class NoClass(Exception):
    """No class tells how to make the snapshot; the text goes into an event."""


def class_for(snapshot: Object, classes: Iterable[Object]) -> Object:
    """The class a snapshot names, or the default one of our driver. Raises NoClass."""
    wanted = snapshot["spec"].get("volumeSnapshotClassName")
    if wanted:
        found = [item for item in classes if item["metadata"]["name"] == wanted]
        if not found:
            raise NoClass(f'volumesnapshotclass.{GROUP} "{wanted}" not found')
        return found[0]
    found = [
        item
        for item in classes
        if item.get("driver") == LOCAL and annotation(item, IS_DEFAULT) == "true"
    ]
    if not found:
        raise NoClass("cannot find default snapshot class")
    if len(found) > 1:
        raise NoClass(f"{len(found)} default snapshot classes were found")
    return found[0]


def content_for(snapshot: Object, volume: Object, kind: Object) -> Object:
    """The content of a snapshot that is to be taken."""
    meta = snapshot["metadata"]
    return {
        "apiVersion": API_VERSION,
        "kind": CONTENTS.kind,
        "metadata": {"name": f"snapcontent-{meta['uid']}", "finalizers": [CONTENT_BOUND]},
        "spec": {
            "deletionPolicy": kind["deletionPolicy"],
            "driver": LOCAL,
            "source": {"volumeHandle": volume["metadata"]["name"]},
            "sourceVolumeMode": mode_of(volume),
            "volumeSnapshotClassName": kind["metadata"]["name"],
            "volumeSnapshotRef": {
                "apiVersion": API_VERSION,
                "kind": KIND,
                "namespace": meta["namespace"],
                "name": meta["name"],
                "uid": meta["uid"],
                "resourceVersion": meta["resourceVersion"],
            },
        },
    }


def handle_of(node: str, uid: str) -> str:
    """What a driver calls the snapshot: the node that has it, and its directory there."""
    return f"{node}/snapshot-{uid}"


def content_status(volume: Object, handle: str, now_s: float) -> Object:
    """Of a content whose snapshot has been taken."""
    return {
        "snapshotHandle": handle,
        "creationTime": int(now_s * 1e9),
        "readyToUse": True,
        "restoreSize": capacity_of(volume),
    }


def snapshot_status(content: Object) -> Object:
    """What a snapshot says of its content."""
    found = content.get("status") or {}
    out: Object = {
        "boundVolumeSnapshotContentName": content["metadata"]["name"],
        "readyToUse": bool(found.get("readyToUse")),
    }
    if found.get("creationTime"):
        out["creationTime"] = format_time(found["creationTime"] / 1e9)
    if found.get("restoreSize") is not None:
        out["restoreSize"] = whole_text(found["restoreSize"])
    if found.get("error"):
        out["error"] = found["error"]
    return out


def is_bound(snapshot: Object, content: Object) -> bool:
    """Do they point at each other?"""
    reference, meta = content["spec"]["volumeSnapshotRef"], snapshot["metadata"]
    return bool(
        (reference.get("namespace"), reference.get("name"), reference.get("uid"))
        == (meta["namespace"], meta["name"], meta["uid"])
    )


def unusable(snapshot: Object, content: Object | None, claim: Object) -> str:
    """Why a claim cannot begin with a snapshot, "" if it can."""
    name = snapshot["metadata"]["name"]
    if snapshot["metadata"].get("deletionTimestamp"):
        return f"snapshot {name} is currently being deleted"
    if content is None or not is_bound(snapshot, content):
        return f"snapshot {name} not bound"
    if content["spec"]["driver"] != LOCAL:
        return f"snapshot {name} was not made by {LOCAL}"
    status = content.get("status") or {}
    if not status.get("readyToUse") or "/" not in (status.get("snapshotHandle") or ""):
        return f"snapshot {name} is not Ready"
    size, wanted = status.get("restoreSize") or 0, size_of(claim["spec"])
    if wanted < size:
        return (
            f"requested volume size {wanted} is less than the size {size} "
            f"for the source snapshot {name}"
        )
    mode = content["spec"].get("sourceVolumeMode")
    if mode and (mode == "Block") != is_block(claim):
        return (
            f"requested volume {claim['metadata']['namespace']}/{claim['metadata']['name']} "
            f"modifies the mode of the source volume, which {LOCAL} cannot do"
        )
    return ""


def with_finalizers(obj: Object, *wanted: str) -> Object | None:
    """The object with these finalizers too; None when it has them."""
    meta = obj["metadata"]
    known = meta.get("finalizers") or []
    missing = [item for item in wanted if item not in known]
    if not missing:
        return None
    return {**obj, "metadata": {**meta, "finalizers": [*known, *missing]}}


def without_finalizers(obj: Object, *unwanted: str) -> Object | None:
    """The object without these finalizers; None when it has none of them."""
    meta = obj["metadata"]
    known = meta.get("finalizers") or []
    kept = [item for item in known if item not in unwanted]
    return None if kept == known else {**obj, "metadata": {**meta, "finalizers": kept}}
