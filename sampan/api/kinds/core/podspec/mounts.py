"""Validation of a container's volume mounts and block devices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .... import fields
from ....errors import Cause, Object
from ...formats import check_descending

PROPAGATIONS = ("Bidirectional", "HostToContainer", "None")
READ_ONLY_MODES = ("Disabled", "Enabled", "IfPossible")

Volumes = Mapping[str, Object]
"""The pod's valid volumes by name."""


def check_mounts(container: Object, volumes: Volumes, path: str, out: list[Cause]) -> None:
    devices = {
        item.get("name"): item.get("devicePath") for item in container.get("volumeDevices") or ()
    }
    seen: set[str] = set()
    base = f"{path}.volumeMounts"
    for position, mount in enumerate(container.get("volumeMounts") or ()):
        name, target = mount.get("name") or "", mount.get("mountPath") or ""
        if not name:
            out.append(fields.required(f"{base}[{position}].name"))
        if name not in volumes:
            out.append(fields.not_found(f"{base}[{position}].name", name))
        if not target:
            out.append(fields.required(f"{base}[{position}].mountPath"))
        if target in seen:
            where = f"{base}[{position}].mountPath"
            out.append(fields.invalid(where, target, "must be unique"))
        seen.add(target)
        if devices:
            _check_overlap(name, target, devices, f"{base}[{position}]", out)
        if len(mount) > 2:
            _check_options(mount, container, volumes, (base, position), out)


def _check_overlap(
    name: str, target: str, devices: Mapping[str, str], path: str, out: list[Cause]
) -> None:
    if name in devices:
        why = "must not already exist in volumeDevices"
        out.append(fields.invalid(f"{path}.name", name, why))
    if target in devices.values():
        why = "must not already exist as a path in volumeDevices"
        out.append(fields.invalid(f"{path}.mountPath", target, why))


def _check_options(
    mount: Object, container: Object, volumes: Volumes, where: tuple[str, int], out: list[Cause]
) -> None:
    # Upstream names these fields without the mount's index, and clients read them so.
    base, position = where
    path = f"{base}[{position}]"
    sub, expression = mount.get("subPath"), mount.get("subPathExpr")
    if sub:
        check_descending(sub, f"{base}.subPath", out)
    if expression:
        if sub:
            why = "subPathExpr and subPath are mutually exclusive"
            out.append(fields.invalid(f"{path}.subPathExpr", expression, why))
        check_descending(expression, f"{base}.subPathExpr", out)
    propagation = mount.get("mountPropagation")
    if propagation is not None:
        if propagation not in PROPAGATIONS:
            allowed = PROPAGATIONS
            out.append(fields.not_supported(f"{base}.mountPropagation", propagation, allowed))
        privileged = (container.get("securityContext") or {}).get("privileged")
        if propagation == "Bidirectional" and not privileged:
            why = "Bidirectional mount propagation is available only to privileged containers"
            out.append(fields.forbidden(f"{base}.mountPropagation", why))
    _check_recursive(mount, f"{base}.recursiveReadOnly", out)


def _check_recursive(mount: Object, path: str, out: list[Cause]) -> None:
    mode = mount.get("recursiveReadOnly")
    if mode is None or mode == "Disabled":
        return
    if mode not in READ_ONLY_MODES:
        out.append(fields.not_supported(path, mode, READ_ONLY_MODES))
        return
    if not mount.get("readOnly"):
        out.append(fields.forbidden(path, "may only be specified when readOnly is true"))
    if mount.get("mountPropagation") not in (None, "None"):
        why = "may only be specified when mountPropagation is None or not specified"
        out.append(fields.forbidden(path, why))


def check_devices(container: Object, volumes: Volumes, path: str, out: list[Cause]) -> None:
    if not container.get("volumeDevices"):
        return
    mounts: Sequence[Object] = container.get("volumeMounts") or ()
    names = {item.get("name") for item in mounts}
    targets = {item.get("mountPath") for item in mounts}
    seen_names: set[str] = set()
    seen_paths: set[str] = set()
    for position, device in enumerate(container["volumeDevices"]):
        where = f"{path}.volumeDevices[{position}]"
        name, target = device.get("name") or "", device.get("devicePath") or ""
        volume = volumes.get(name)
        if not name:
            out.append(fields.required(f"{where}.name"))
        if name in seen_names:
            out.append(fields.invalid(f"{where}.name", name, "must be unique"))
        if volume is None:
            out.append(fields.not_found(f"{where}.name", name))
        elif "persistentVolumeClaim" not in volume and "ephemeral" not in volume:
            why = (
                "can only use volume source type of PersistentVolumeClaim or Ephemeral for "
                "block mode"
            )
            out.append(fields.invalid(f"{where}.name", name, why))
        if not target:
            out.append(fields.required(f"{where}.devicePath"))
        if target in seen_paths:
            out.append(fields.invalid(f"{where}.devicePath", target, "must be unique"))
        if ".." in target.split("/"):
            why = "can not contain backsteps ('..')"
            out.append(fields.invalid(f"{where}.devicePath", target, why))
        else:
            seen_paths.add(target)
        if name in names:
            why = "must not already exist in volumeMounts"
            out.append(fields.invalid(f"{where}.name", name, why))
        if target in targets:
            why = "must not already exist as a path in volumeMounts"
            out.append(fields.invalid(f"{where}.devicePath", target, why))
        if name:
            seen_names.add(name)
