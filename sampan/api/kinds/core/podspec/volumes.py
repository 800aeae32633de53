"""Validation of a pod's volumes."""

from __future__ import annotations

from collections.abc import Sequence

from sampan.wire.quantity import QuantityError, parse

from .... import fields
from ....errors import Cause, Object
from ....names import LABEL, MAX_LABEL, subdomain_problems
from ...formats import (
    check_label,
    check_no_backsteps,
    check_subdomain,
    check_supported,
)
from .filevolumes import check_config_map, check_downward, check_projected, check_secret
from .mounts import Volumes

HOST_PATH_TYPES = (
    "", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate",
    "Socket",
)  # fmt: skip
PULL_POLICIES = ("Always", "IfNotPresent", "Never")
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
        elif kind == "image":
            _check_image(source, where, bool(pod_name), out)
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


def _check_image(source: Object, path: str, in_pod: bool, out: list[Cause]) -> None:
    # A template may leave the reference to whoever makes pods of it.
    if in_pod and not source.get("reference"):
        out.append(fields.required(f"{path}.reference"))
    check_supported(source.get("pullPolicy"), PULL_POLICIES, f"{path}.pullPolicy", out)


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
    "secret": check_secret,
    "configMap": check_config_map,
    "downwardAPI": check_downward,
    "projected": check_projected,
    "csi": _check_csi,
    "ephemeral": _check_ephemeral,
    "fc": _check_fibre,
    "iscsi": _check_iscsi,
}
