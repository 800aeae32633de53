"""Claims and volumes: which belong together. Pure; the binder, the provisioner and the scheduler
decide by the same functions.

Source: k8s.io/component-helpers storage/volume, pkg/controller/volume/persistentvolume.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from hashlib import sha256
from typing import Any

from sampan.wire import quantity

from .errors import Object
from .selectors import from_label_selector

BIND_COMPLETED = "pv.kubernetes.io/bind-completed"
BOUND_BY_CONTROLLER = "pv.kubernetes.io/bound-by-controller"
PROVISIONED_BY = "pv.kubernetes.io/provisioned-by"
SELECTED_NODE = "volume.kubernetes.io/selected-node"
PROVISIONER = "volume.kubernetes.io/storage-provisioner"
PROVISIONER_BETA = "volume.beta.kubernetes.io/storage-provisioner"
OLD_CLASS = "volume.beta.kubernetes.io/storage-class"
IS_DEFAULT = "storageclass.kubernetes.io/is-default-class"
PROVISIONER_FINALIZER = "external-provisioner.volume.kubernetes.io/finalizer"
"""Keeps a deleted volume until its provisioner has taken away what is behind it (KEP-2644)."""
FIRST_CONSUMER = "WaitForFirstConsumer"
LOCAL = "sampan.dev/local"
"""Provisioner of the cluster's own class: a directory of one node."""
STANDARD = "standard"
"""Name of that class."""
NO_PROVISIONER = "kubernetes.io/no-provisioner"


def csi_attachment(handle: str, driver: str, node: str) -> str:
    """The name of the VolumeAttachment that puts a CSI driver's volume on a node."""
    return "csi-" + sha256(f"{handle}{driver}{node}".encode()).hexdigest()


def csi_unique_name(driver: str, handle: str) -> str:
    """What a node's status calls a CSI driver's volume."""
    return f"kubernetes.io/csi/{driver}^{handle}"


def annotation(obj: Object, name: str) -> str:
    """The annotation's value, "" without it."""
    return str((obj["metadata"].get("annotations") or {}).get(name) or "")


def class_of(obj: Object) -> str | None:
    """The class a claim or volume names; None when it names none ("" is a choice, too)."""
    old = (obj["metadata"].get("annotations") or {}).get(OLD_CLASS)
    if old is not None:
        return str(old)
    chosen: str | None = (obj.get("spec") or {}).get("storageClassName")
    return chosen


def size_of(spec: Object) -> int:
    """Bytes a claim's spec asks for."""
    requests = (spec.get("resources") or {}).get("requests") or {}
    return quantity.whole(requests.get("storage", 0))


def capacity_of(volume: Object) -> int:
    return quantity.whole((volume["spec"].get("capacity") or {}).get("storage", 0))


def is_bound_to(volume: Object, claim: Object) -> bool:
    """Is the volume kept for this claim (by name alone, while no uid is written)?"""
    reference, meta = volume["spec"].get("claimRef"), claim["metadata"]
    return (
        bool(reference)
        and reference.get("name") == meta["name"]
        and reference.get("namespace") == meta["namespace"]
        and reference.get("uid") in (None, "", meta["uid"])
    )


def given_to(volume: Object, claim: Object) -> Object:
    """A copy of the volume that is bound to the claim, and marked if nobody had asked for it."""
    meta, known = claim["metadata"], volume["spec"].get("claimRef") or {}
    reference = {
        **known,
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "name": meta["name"],
        "namespace": meta["namespace"],
        "uid": meta["uid"],
        "resourceVersion": meta["resourceVersion"],
    }
    changed = {**volume, "spec": {**volume["spec"], "claimRef": reference}}
    if not known:
        marks = {**(volume["metadata"].get("annotations") or {}), BOUND_BY_CONTROLLER: "yes"}
        changed["metadata"] = {**volume["metadata"], "annotations": marks}
    return changed


def mismatch(volume: Object, claim: Object) -> str:
    """Why a volume that the claim names does not satisfy it, "" if it does: upstream's
    checkVolumeSatisfyClaim."""
    if capacity_of(volume) < size_of(claim["spec"]):
        return "requested PV is too small"
    if (class_of(volume) or "") != (class_of(claim) or ""):
        return "storageClassName does not match"
    if mode_of(volume) != mode_of(claim):
        return "incompatible volumeMode"
    if not has_modes(volume, claim):
        return "incompatible accessMode"
    return ""


def has_modes(volume: Object, claim: Object) -> bool:
    """Does the volume offer every access mode the claim asks for?"""
    return {*(claim["spec"].get("accessModes") or ())} <= {
        *(volume["spec"].get("accessModes") or ())
    }


def mode_of(obj: Object) -> str:
    """Of a claim or a volume: Filesystem or Block."""
    return str(obj["spec"].get("volumeMode") or "Filesystem")


def is_block(obj: Object) -> bool:
    """Is a claim or a volume a device, and no directory?"""
    return mode_of(obj) == "Block"


def best_match(
    claim: Object,
    volumes: Iterable[Object],
    *,
    fits: Callable[[Object], bool] | None = None,
    delayed: bool = False,
) -> Object | None:
    """The volume to bind to the claim: one that is kept for it, else the one with the fewest
    access modes, then the smallest, then the first by name.

    `fits` is the scheduler's question whether a volume can be had on a node; without it, a claim
    whose binding is `delayed` gets only what is kept for it. (FindMatchingVolume)
    """
    size, name = size_of(claim["spec"]), class_of(claim) or ""
    selector = claim["spec"].get("selector")
    wanted = from_label_selector(selector) if selector is not None else None
    found: list[tuple[int, int, str, Object]] = []
    for volume in volumes:
        spec, meta = volume["spec"], volume["metadata"]
        kept = is_bound_to(volume, claim)
        if (
            (spec.get("claimRef") and not kept)
            or capacity_of(volume) < size
            or mode_of(volume) != mode_of(claim)
            or meta.get("deletionTimestamp")
        ):
            continue
        if kept:
            return volume if fits is None or fits(volume) else None
        if (
            (delayed and fits is None)
            or (volume.get("status") or {}).get("phase") != "Available"
            or (wanted is not None and not wanted.matches(meta.get("labels") or {}))
            or (class_of(volume) or "") != name
            or not has_modes(volume, claim)
            or (fits is not None and not fits(volume))
        ):
            continue
        key = (len(spec.get("accessModes") or ()), capacity_of(volume), meta["name"])
        found.append((*key, volume))
    return min(found, key=lambda item: item[:3])[3] if found else None


def is_delayed(claim: Object, storage_class: Object | None) -> bool:
    """Is the claim bound only once a pod that uses it has a node?"""
    return (
        storage_class is not None
        and storage_class.get("volumeBindingMode") == FIRST_CONSUMER
        and not annotation(claim, SELECTED_NODE)
    )


def is_fully_bound(claim: Object) -> bool:
    return bool(claim["spec"].get("volumeName")) and bool(annotation(claim, BIND_COMPLETED))


def default_class(classes: Iterable[Object]) -> str:
    """The name of the default class, the newest of several; "" without one."""
    found = [item["metadata"] for item in classes if annotation(item, IS_DEFAULT) == "true"]
    if not found:
        return ""
    newest = max(meta.get("creationTimestamp", "") for meta in found)
    return str(min(m["name"] for m in found if m.get("creationTimestamp", "") == newest))


def is_allowed(storage_class: Object, labels: Mapping[str, str]) -> bool:
    """May a volume of the class be made on a node with these labels (allowedTopologies)?"""
    topologies = storage_class.get("allowedTopologies")
    return not topologies or any(
        all(
            labels.get(item.get("key", "")) in (item.get("values") or ())
            for item in term.get("matchLabelExpressions") or ()
        )
        for term in topologies
    )


def claim_name(pod_name: str, volume: Mapping[str, Any]) -> str:
    """The claim behind a pod's volume, "" for volumes of other types."""
    if volume.get("persistentVolumeClaim"):
        return str(volume["persistentVolumeClaim"].get("claimName") or "")
    return f"{pod_name}-{volume['name']}" if volume.get("ephemeral") else ""


def is_for_pod(pod: Object, claim: Object) -> bool:
    """Was the claim made for this pod (VolumeIsForPod)?"""
    uid = pod["metadata"].get("uid")
    return any(
        item.get("controller") and item.get("uid") == uid
        for item in claim["metadata"].get("ownerReferences") or ()
    )
