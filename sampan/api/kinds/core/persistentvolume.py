"""PersistentVolume."""

from __future__ import annotations

from typing import Any

from sampan.wire.quantity import QuantityError, canonical

from ... import fields
from ...descriptor import Column, Kind
from ...errors import Cause, Object
from ..doubts import doubt_class_annotation, doubt_term
from ..formats import check_label, check_subdomain
from ..printing import AGE, NAME, UNSET, age, name
from .claimspec import (
    VOLUME_MODES,
    access_modes_text,
    check_access_modes,
    check_positive_quantity,
    class_name,
)
from .podspec.default import default_network_volume
from .podspec.equality import difference, same
from .podspec.scheduling import check_node_selector
from .podspec.volumes import check_driver_name, check_source
from .podspec.warnings import SHOWN, VOLUMES

SOURCES = (
    "hostPath", "gcePersistentDisk", "awsElasticBlockStore", "glusterfs", "flocker", "nfs", "rbd",
    "quobyte", "cephfs", "iscsi", "cinder", "fc", "flexVolume", "azureFile", "vsphereVolume",
    "photonPersistentDisk", "portworxVolume", "azureDisk", "scaleIO", "local", "storageos", "csi",
)  # fmt: skip
GONE_SOURCES = ("cephfs", "photonPersistentDisk", "scaleIO", "storageos", "glusterfs", "rbd")
EXPAND_SECRET = "controllerExpandSecretRef"
DRIVER_SECRETS = (
    "controllerPublishSecretRef", EXPAND_SECRET, "nodePublishSecretRef", "nodeExpandSecretRef",
)  # fmt: skip
GA_LABELS = {
    "failure-domain.beta.kubernetes.io/zone": "topology.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region": "topology.kubernetes.io/region",
    "beta.kubernetes.io/os": "kubernetes.io/os",
    "beta.kubernetes.io/arch": "kubernetes.io/arch",
    "beta.kubernetes.io/instance-type": "node.kubernetes.io/instance-type",
}
MOUNT_ANNOTATION = "volume.beta.kubernetes.io/mount-options"
RECLAIM = ("Delete", "Recycle", "Retain")


def default(obj: Object) -> None:
    spec = obj.setdefault("spec", {})
    if not spec.get("persistentVolumeReclaimPolicy"):
        spec["persistentVolumeReclaimPolicy"] = "Retain"
    spec.setdefault("volumeMode", "Filesystem")
    if spec.get("hostPath") is not None:
        spec["hostPath"].setdefault("type", "")
    else:
        default_network_volume(spec)
    status = obj.setdefault("status", {})
    if not status.get("phase"):
        status["phase"] = "Pending"


def validate(obj: Object, old: Object | None) -> list[Cause]:
    out: list[Cause] = []
    spec = obj["spec"]
    if old is not None and spec == old.get("spec"):
        return out
    _check_spec(spec, out)
    if old is not None:
        _check_update(spec, old["spec"], out)
    return out


def _check_spec(spec: Object, out: list[Cause]) -> None:
    modes = spec.get("accessModes") or []
    if not modes:
        out.append(fields.required("spec.accessModes"))
    check_access_modes(modes, "spec.accessModes", out)
    capacity = spec.get("capacity") or {}
    if not capacity:
        out.append(fields.required("spec.capacity"))
    if "storage" not in capacity or len(capacity) > 1:
        out.append(fields.not_supported("spec.capacity", capacity or fields.NIL, ("storage",)))
    for resource, value in capacity.items():
        check_positive_quantity(value, f"spec.capacity[{resource}]", out)
    policy = spec.get("persistentVolumeReclaimPolicy")
    if policy and policy not in RECLAIM:
        path = "spec.persistentVolumeReclaimPolicy"
        out.append(fields.not_supported(path, policy, RECLAIM))
    affinity = spec.get("nodeAffinity")
    if affinity is not None:
        if affinity.get("required") is None:
            why = "must specify required node constraints"
            out.append(fields.required("spec.nodeAffinity.required", why))
        else:
            check_node_selector(affinity["required"], "spec.nodeAffinity.required", out)
    _check_sources(spec, out)
    root = (spec.get("hostPath") or {}).get("path")
    if root and not root.rstrip("/") and policy == "Recycle":
        why = "may not be 'recycle' for a hostPath mount of '/'"
        out.append(fields.forbidden("spec.persistentVolumeReclaimPolicy", why))
    if spec.get("local") is not None and affinity is None:
        why = "Local volume requires node affinity"
        out.append(fields.required("spec.nodeAffinity", why))
    if spec.get("storageClassName"):
        check_subdomain(spec["storageClassName"], "spec.storageClassName", out)
    mode = spec.get("volumeMode")
    if mode is not None and mode not in VOLUME_MODES:
        out.append(fields.not_supported("spec.volumeMode", mode, VOLUME_MODES))
    _check_attributes(spec, "spec.volumeAttributesClassName", out)


def _check_attributes(spec: Object, where: str, out: list[Cause]) -> None:
    chosen = spec.get("volumeAttributesClassName")
    if chosen is None:
        return
    if not chosen:
        out.append(fields.required(where, "an empty string is disallowed"))
    else:
        check_subdomain(chosen, where, out)
    if spec.get("csi") is None:
        why = "has to be specified when using volumeAttributesClassName"
        out.append(fields.required("spec.csi", why))


def _check_sources(spec: Object, out: list[Cause]) -> None:
    found = False
    for kind in SOURCES:
        source = spec.get(kind)
        if source is None:
            continue
        path = f"spec.{kind}"
        if found:
            why = "may not specify more than 1 volume type"
            out.append(fields.forbidden(path, why))
        elif kind == "csi":
            _check_driver(source, path, out)
        else:
            check_source(kind, source, path, out)
        found = True
    if not found:
        out.append(fields.required("spec", "must specify a volume type"))


def _check_driver(source: Object, path: str, out: list[Cause]) -> None:
    check_driver_name(source.get("driver") or "", f"{path}.driver", out)
    if not source.get("volumeHandle"):
        out.append(fields.required(f"{path}.volumeHandle"))
    for field in DRIVER_SECRETS:
        reference = source.get(field)
        if reference is None:
            continue
        for part, check in (("name", check_subdomain), ("namespace", check_label)):
            where = f"{path}.{field}.{part}"
            if reference.get(part):
                check(reference[part], where, out)
            else:
                out.append(fields.required(where))


def _check_update(spec: Object, before: Object, out: list[Cause]) -> None:
    new = {kind: spec[kind] for kind in SOURCES if spec.get(kind) is not None}
    old = {kind: before[kind] for kind in SOURCES if before.get(kind) is not None}
    if EXPAND_SECRET in (new.get("csi") or {}) and EXPAND_SECRET not in (old.get("csi") or {}):
        # It may be given later, once.
        new["csi"] = {key: value for key, value in new["csi"].items() if key != EXPAND_SECRET}
    if not same(new, old):
        tail = difference(old, new, "core.PersistentVolumeSource")
        why = f"spec.persistentvolumesource is immutable after creation\n{tail}"
        out.append(fields.forbidden("spec.persistentvolumesource", why))
    out += fields.unchanged("volumeMode", spec.get("volumeMode"), before.get("volumeMode"))
    affinity = before.get("nodeAffinity")
    if affinity is not None:
        now = spec.get("nodeAffinity")
        if not same(now, affinity) and not same(now, _renamed(affinity, now)):
            why = f"{fields.IMMUTABLE}, except for updating from beta label to GA"
            out.append(fields.invalid("nodeAffinity", now, why))
    chosen = spec.get("volumeAttributesClassName")
    if before.get("volumeAttributesClassName") is not None and chosen is None:
        why = "update from non-nil value to nil is forbidden"
        out.append(fields.forbidden("spec.volumeAttributesClassName", why))


def _renamed(old: Any, new: Any) -> Any:
    """The old affinity with those beta labels replaced that the new one has replaced."""
    if isinstance(old, dict) and isinstance(new, dict):
        key, now = old.get("key"), new.get("key")
        out = {name: _renamed(value, new.get(name)) for name, value in old.items()}
        if now is not None and GA_LABELS.get(key or "") == now:
            out["key"] = now
        return out
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        return [_renamed(*pair) for pair in zip(old, new, strict=True)]
    return old


def warnings(obj: Object, old: Object | None) -> list[str]:
    spec, out = obj["spec"], doubt_class_annotation(obj)
    if MOUNT_ANNOTATION in (obj["metadata"].get("annotations") or {}):
        why = 'deprecated since v1.31; use "mountOptions" attribute instead'
        out.append(f"metadata.annotations[{MOUNT_ANNOTATION}]: {why}")
    if spec.get("persistentVolumeReclaimPolicy") == "Recycle":
        out.append(
            "spec.persistentVolumeReclaimPolicy: The Recycle reclaim policy is deprecated. "
            "Instead, the recommended approach is to use dynamic provisioning."
        )
    required = (spec.get("nodeAffinity") or {}).get("required") or {}
    for position, term in enumerate(required.get("nodeSelectorTerms") or ()):
        path = f"spec.nodeAffinity.required.nodeSelectorTerms[{position}]"
        out += doubt_term(term, path, values=True)
    for kind in GONE_SOURCES:
        if spec.get(kind) is not None:
            out.append(f"spec.{SHOWN.get(kind, kind)}: {VOLUMES[kind]}")
    return out


def cells(obj: Object, now_s: float) -> list[Any]:
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    claim = spec.get("claimRef")
    size = (spec.get("capacity") or {}).get("storage", "0")
    try:
        size = canonical(str(size))
    except QuantityError:
        size = str(size)
    attributes = spec.get("volumeAttributesClassName")
    return [
        name(obj),
        size,
        access_modes_text(spec.get("accessModes")),
        spec.get("persistentVolumeReclaimPolicy") or "",
        "Terminating" if "deletionTimestamp" in obj["metadata"] else status.get("phase", ""),
        f"{claim.get('namespace', '')}/{claim.get('name', '')}" if claim else "",
        class_name(obj),
        UNSET if attributes is None else attributes,
        status.get("reason") or "",
        age(obj, now_s),
        spec.get("volumeMode") or UNSET,
    ]


KIND = Kind(
    group="",
    version="v1",
    kind="PersistentVolume",
    short_names=("pv",),
    storage="persistentvolumes",
    generation=False,
    default=default,
    validate=validate,
    warnings=warnings,
    columns=(
        NAME,
        Column("Capacity", "string", "The volume's size."),
        Column("Access Modes", "string", "How it may be mounted."),
        Column("Reclaim Policy", "string", "What becomes of it when it is released."),
        Column("Status", "string", "Phase of the volume."),
        Column("Claim", "string", "The claim it is bound to."),
        Column("StorageClass", "string", "StorageClass of the pv"),
        Column("VolumeAttributesClass", "string", "VolumeAttributesClass of the pv"),
        Column("Reason", "string", "Why it is in its phase."),
        AGE,
        Column("VolumeMode", "string", "File system or block device.", "", 1),
    ),
    cells=cells,
)
