"""Validation of a pod's volumes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sampan.wire.quantity import QuantityError, parse

from .... import fields
from ....errors import Cause, Object
from ....names import LABEL, MAX_LABEL, subdomain_problems
from ...formats import (
    check_file_mode,
    check_label,
    check_local_path,
    check_no_backsteps,
    check_subdomain,
)
from .environment import check_field_ref, check_resource_ref
from .mounts import Volumes

HOST_PATH_TYPES = (
    "", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate",
    "Socket",
)  # fmt: skip
FILE_FIELDS = (
    "metadata.name", "metadata.namespace", "metadata.labels", "metadata.annotations",
    "metadata.uid",
)  # fmt: skip
MIN_TOKEN_S, MAX_TOKEN_S = 600, 1 << 32
MAX_DRIVER_NAME = 63
ONE_ONLY = "may not specify more than 1 volume type"

REQUIRED: dict[str, tuple[str, ...]] = {
    "gitRepo": ("repository",),
    "gcePersistentDisk": ("pdName",),
    "awsElasticBlockStore": ("volumeID",),
    "nfs": ("server", "path"),
    "iscsi": ("targetPortal", "iqn"),
    "glusterfs": ("endpoints", "path"),
    "persistentVolumeClaim": ("claimName",),
    "rbd": ("monitors", "image"),
    "cinder": ("volumeID",),
    "cephfs": ("monitors",),
    "quobyte": ("registry", "volume"),
    "flexVolume": ("driver",),
    "azureFile": ("secretName", "shareName"),
    "vsphereVolume": ("volumePath",),
    "photonPersistentDisk": ("pdID",),
    "portworxVolume": ("volumeID",),
    "azureDisk": ("diskName", "diskURI"),
    "storageos": ("volumeName",),
    "scaleIO": ("gateway", "system", "volumeName"),
    "image": ("reference",),
    "local": ("path",),
}
"""Volume types of which mainly a few fields must be there."""

SHOWN = {"gcePersistentDisk": "persistentDisk"}
"""Types whose field upstream's errors name otherwise."""


def check_volumes(
    volumes: Sequence[Object] | None, path: str, pod_name: str, out: list[Cause]
) -> Volumes:
    """The valid volumes by name. `pod_name` is "" for a template."""
    found: dict[str, Object] = {}
    made: set[str] = set()
    for volume in volumes or ():
        if pod_name and volume.get("ephemeral") is not None:
            made.add(f"{pod_name}-{volume.get('name', '')}")
    for position, volume in enumerate(volumes or ()):
        where = f"{path}[{position}]"
        before = len(out)
        name = volume.get("name") or ""
        _check_source(volume, where, pod_name, out)
        if not name:
            out.append(fields.required(f"{where}.name"))
        elif len(name) > MAX_LABEL or not LABEL.fullmatch(name):
            check_label(name, f"{where}.name", out)
        if name in found:
            out.append(fields.duplicate(f"{where}.name", name))
        if len(out) == before:
            found[name] = volume
        claim = (volume.get("persistentVolumeClaim") or {}).get("claimName")
        if claim in made:
            why = "must not reference a PVC that gets created for an ephemeral volume"
            out.append(fields.invalid(f"{where}.persistentVolumeClaim.claimName", claim, why))
    return found


def _check_source(volume: Object, path: str, pod_name: str, out: list[Cause]) -> None:
    found = False
    for kind, source in volume.items():
        if kind == "name" or source is None:
            continue
        where = f"{path}.{SHOWN.get(kind, kind)}"
        if found:
            out.append(fields.forbidden(f"{path}.{kind}", ONE_ONLY))
            continue
        found = True
        if kind == "emptyDir":
            _check_empty_dir(source, where, out)
        else:
            check_source(kind, source, where, out)
            if kind == "ephemeral" and pod_name and volume.get("name"):
                claim = f"{pod_name}-{volume['name']}"
                for why in subdomain_problems(claim):
                    text = f'PVC name "{claim}": {why}'
                    out.append(fields.invalid(f"{path}.name", volume["name"], text))
    if not found:
        out.append(fields.required(path, "must specify a volume type"))


def _check_empty_dir(source: Object, path: str, out: list[Cause]) -> None:
    limit = source.get("sizeLimit")
    if limit is None:
        return
    try:
        good = parse(limit).nanos >= 0
    except QuantityError:
        good = False
    if not good:
        why = "SizeLimit field must be a valid resource quantity"
        out.append(fields.forbidden(f"{path}.sizeLimit", why))


def check_source(kind: str, source: Object, path: str, out: list[Cause]) -> None:
    """One volume source, of a pod or a persistent volume."""
    special = _SPECIAL.get(kind)
    if special is not None:
        special(source, path, out)
    for name in REQUIRED.get(kind, ()):
        if not source.get(name):
            out.append(fields.required(f"{path}.{name}"))
    if kind == "nfs" and not (source.get("path") or "").startswith("/"):
        text = source.get("path") or ""
        out.append(fields.invalid(f"{path}.path", text, "must be an absolute path"))
    elif kind == "local" and source.get("path"):
        check_no_backsteps(source["path"], f"{path}.path", out)


def _check_host_path(source: Object, path: str, out: list[Cause]) -> None:
    if not source.get("path"):
        out.append(fields.required(f"{path}.path"))
        return
    check_no_backsteps(source["path"], f"{path}.path", out)
    kind = source.get("type")
    if kind is not None and kind not in HOST_PATH_TYPES:
        out.append(fields.not_supported(f"{path}.type", kind, HOST_PATH_TYPES))


def _check_secret(source: Object, path: str, out: list[Cause]) -> None:
    if not source.get("secretName"):
        out.append(fields.required(f"{path}.secretName"))
    _check_keyed(source, path, out)


def _check_config_map(source: Object, path: str, out: list[Cause]) -> None:
    if not source.get("name"):
        out.append(fields.required(f"{path}.name"))
    _check_keyed(source, path, out)


def _check_keyed(source: Object, path: str, out: list[Cause]) -> None:
    check_file_mode(source.get("defaultMode"), f"{path}.defaultMode", out)
    for position, item in enumerate(source.get("items") or ()):
        _check_item(item, f"{path}.items[{position}]", out)


def _check_item(item: Object, path: str, out: list[Cause]) -> None:
    if not item.get("key"):
        out.append(fields.required(f"{path}.key"))
    if not item.get("path"):
        out.append(fields.required(f"{path}.path"))
    check_local_path(item.get("path") or "", f"{path}.path", out)
    check_file_mode(item.get("mode"), f"{path}.mode", out)


def _check_downward(source: Object, path: str, out: list[Cause]) -> None:
    check_file_mode(source.get("defaultMode"), f"{path}.defaultMode", out)
    for item in source.get("items") or ():
        _check_file(item, path, out)


def _check_file(item: Object, path: str, out: list[Cause]) -> None:
    """A downward API file; upstream names its fields without the item's index."""
    if not item.get("path"):
        out.append(fields.required(f"{path}.path"))
    check_local_path(item.get("path") or "", f"{path}.path", out)
    field, resource = item.get("fieldRef"), item.get("resourceFieldRef")
    if field is not None:
        check_field_ref(field, f"{path}.fieldRef", FILE_FIELDS, out)
        if resource is not None:
            why = "fieldRef and resourceFieldRef can not be specified simultaneously"
            out.append(fields.invalid(path, "resource", why))
    elif resource is not None:
        check_resource_ref(resource, f"{path}.resourceFieldRef", out, in_volume=True)
    else:
        why = "one of fieldRef and resourceFieldRef is required"
        out.append(fields.required(path, why))
    check_file_mode(item.get("mode"), f"{path}.mode", out)


def _check_projected(source: Object, path: str, out: list[Cause]) -> None:
    check_file_mode(source.get("defaultMode"), f"{path}.defaultMode", out)
    seen: set[str] = set()
    for position, item in enumerate(source.get("sources") or ()):
        where = f"{path}.sources[{position}]"
        count = 0
        for kind in ("secret", "configMap", "downwardAPI", "serviceAccountToken",
                     "clusterTrustBundle"):  # fmt: skip
            part = item.get(kind)
            if part is None:
                continue
            count += 1
            _check_projection(kind, part, path, where, out)
            for file, shown in _files(kind, part):
                if file in seen:
                    out.append(fields.invalid(path, shown, "conflicting duplicate paths"))
                seen.add(file)
        if count > 1:
            why = "may not specify more than 1 volume type per source"
            out.append(fields.forbidden(where, why))


def _files(kind: str, part: Object) -> list[tuple[str, Any]]:
    """(path, what an error about it shows) of a projection's files."""
    if kind == "serviceAccountToken":
        return []
    if kind == "clusterTrustBundle":
        return [(part.get("path") or "", part.get("path") or "")]
    found = []
    for item in part.get("items") or ():
        file = item.get("path")
        if file:
            found.append((file, file if kind == "downwardAPI" else part.get("name") or ""))
    return found


def _check_projection(kind: str, part: Object, path: str, source: str, out: list[Cause]) -> None:
    where = f"{source}.{kind}"
    if kind in ("secret", "configMap"):
        if not part.get("name"):
            out.append(fields.required(f"{where}.name"))
        for position, item in enumerate(part.get("items") or ()):
            _check_item(item, f"{where}.items[{position}]", out)
    elif kind == "downwardAPI":
        for item in part.get("items") or ():
            _check_file(item, where, out)
    elif kind == "serviceAccountToken":
        seconds = part.get("expirationSeconds") or 0
        if seconds < MIN_TOKEN_S:
            why = "may not specify a duration less than 10 minutes"
            out.append(fields.invalid(f"{where}.expirationSeconds", seconds, why))
        elif seconds > MAX_TOKEN_S:
            why = "may not specify a duration larger than 2^32 seconds"
            out.append(fields.invalid(f"{where}.expirationSeconds", seconds, why))
        if not part.get("path"):
            out.append(fields.required(f"{path}.path"))
        else:
            check_local_path(part["path"], f"{path}.path", out)
    else:
        _check_trust_bundle(part, where, out)


def _check_trust_bundle(part: Object, path: str, out: list[Cause]) -> None:
    name, signer = part.get("name"), part.get("signerName")
    if name is not None and signer is not None:
        out.append(fields.invalid(path, part, "only one of name and signerName may be used"))
    elif name is not None:
        if not name:
            out.append(fields.required(f"{path}.name", "must be a valid object name"))
        if part.get("labelSelector") is not None:
            why = "labelSelector must be unset if name is specified"
            out.append(fields.invalid(f"{path}.labelSelector", part["labelSelector"], why))
    elif signer is None:
        out.append(fields.required(path, "either name or signerName must be specified"))
    elif not signer:
        out.append(fields.required(f"{path}.signerName", "must be a valid signer name"))
    if not part.get("path"):
        out.append(fields.required(f"{path}.path"))
    check_local_path(part.get("path") or "", f"{path}.path", out)


def check_driver_name(name: str, path: str, out: list[Cause]) -> None:
    """The name of a CSI driver."""
    if not name:
        out.append(fields.required(path))
    if len(name) > MAX_DRIVER_NAME:
        out.append(fields.too_long(path, "", MAX_DRIVER_NAME))
    out += [fields.invalid(path, name, why) for why in subdomain_problems(name.lower())]


def _check_csi(source: Object, path: str, out: list[Cause]) -> None:
    check_driver_name(source.get("driver") or "", f"{path}.driver", out)
    secret = source.get("nodePublishSecretRef")
    if secret is not None:
        if not secret.get("name"):
            out.append(fields.required(f"{path}.nodePublishSecretRef.name"))
        else:
            check_subdomain(secret["name"], f"{path}.name", out)


def _check_ephemeral(source: Object, path: str, out: list[Cause]) -> None:
    from ..claimspec import check_claim_template

    where = f"{path}.volumeClaimTemplate"
    template = source.get("volumeClaimTemplate")
    if template is None:
        out.append(fields.required(where))
    else:
        check_claim_template(template, where, out)


def _check_fibre(source: Object, path: str, out: list[Cause]) -> None:
    names, ids, lun = source.get("targetWWNs"), source.get("wwids"), source.get("lun")
    where = f"{path}.targetWWNs"
    if not names and not ids:
        why = "must specify either targetWWNs or wwids, but not both"
        out.append(fields.required(where, why))
    if names and ids:
        why = "targetWWNs and wwids can not be specified simultaneously"
        out.append(fields.invalid(where, names, why))
    if names and lun is None:
        out.append(fields.required(f"{path}.lun", "lun is required if targetWWNs is specified"))
    elif names and not 0 <= (lun or 0) <= 255:
        why = "must be between 0 and 255, inclusive"
        out.append(fields.invalid(f"{path}.lun", lun, why))


def _check_iscsi(source: Object, path: str, out: list[Cause]) -> None:
    name = source.get("iqn") or ""
    if name and not name.startswith(("iqn", "eui", "naa")):
        why = "must be valid format starting with iqn, eui, or naa"
        out.append(fields.invalid(f"{path}.iqn", name, why))
    lun = source.get("lun") or 0
    if not 0 <= lun <= 255:
        why = "must be between 0 and 255, inclusive"
        out.append(fields.invalid(f"{path}.lun", lun, why))
    chap = source.get("chapAuthDiscovery") or source.get("chapAuthSession")
    if chap and source.get("secretRef") is None:
        out.append(fields.required(f"{path}.secretRef"))


_SPECIAL = {
    "hostPath": _check_host_path,
    "secret": _check_secret,
    "configMap": _check_config_map,
    "downwardAPI": _check_downward,
    "projected": _check_projected,
    "csi": _check_csi,
    "ephemeral": _check_ephemeral,
    "fc": _check_fibre,
    "iscsi": _check_iscsi,
}
