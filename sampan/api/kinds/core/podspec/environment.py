"""Validation of environment variables and of the references they and downward volumes make."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from sampan.wire.quantity import QuantityError, canonical

from .... import fields
from ....errors import Cause, Object
from ...formats import (
    check_config_key,
    check_env_name,
    check_local_path,
    check_qualified,
    check_subdomain,
)

ENV_FIELDS = (
    "metadata.name", "metadata.namespace", "metadata.uid", "spec.nodeName",
    "spec.serviceAccountName", "status.hostIP", "status.hostIPs", "status.podIP", "status.podIPs",
)  # fmt: skip
CONVERTIBLE = frozenset(ENV_FIELDS) | {
    "metadata.annotations", "metadata.labels", "spec.restartPolicy", "spec.schedulerName",
    "status.phase",
}  # fmt: skip
"""Field paths the v1 Pod has for the downward API (ConvertDownwardAPIFieldLabel)."""
RESOURCES = (
    "limits.cpu", "limits.ephemeral-storage", "limits.memory", "requests.cpu",
    "requests.ephemeral-storage", "requests.memory",
)  # fmt: skip
_HUGE_PAGES = ("limits.hugepages-", "requests.hugepages-")
_SIZES = frozenset(
    ["1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei"]
)
_DIVISORS: dict[str, tuple[frozenset[str], str]] = {
    "cpu": (
        frozenset({"1m", "1"}),
        "only divisor's values 1m and 1 are supported with the cpu resource",
    ),
    **{
        name: (
            _SIZES,
            "only divisor's values 1, 1k, 1M, 1G, 1T, 1P, 1E, 1Ki, 1Mi, 1Gi, 1Ti, 1Pi, 1Ei are "
            f"supported with the {text} resource",
        )
        for name, text in (
            ("memory", "memory"),
            ("ephemeral-storage", "local ephemeral storage"),
            ("hugepages-", "hugepages"),
        )
    },
}
_SUBSCRIPT = re.compile(r"([^\[]+)\['(.*)'\]")
_SOURCES = ("fieldRef", "resourceFieldRef", "configMapKeyRef", "secretKeyRef", "fileKeyRef")


def check_env(
    variables: Iterable[Object], path: str, out: list[Cause], volumes: Mapping[str, Object]
) -> None:
    for position, variable in enumerate(variables):
        name = variable.get("name")
        if not name:
            out.append(fields.required(f"{path}[{position}].name"))
        else:
            check_env_name(name, f"{path}[{position}].name", out)
        source = variable.get("valueFrom")
        if source is not None:
            where = f"{path}[{position}].valueFrom"
            _check_source(source, variable.get("value"), where, out)
            if source.get("fileKeyRef") is not None:
                _check_file_ref(source["fileKeyRef"], f"{where}.fileKeyRef", volumes, out)


def _check_source(source: Object, value: str | None, path: str, out: list[Cause]) -> None:
    count = 0
    for name in _SOURCES:
        reference = source.get(name)
        if reference is None:
            continue
        count += 1
        where = f"{path}.{name}"
        if name == "fieldRef":
            check_field_ref(reference, where, ENV_FIELDS, out)
        elif name == "resourceFieldRef":
            check_resource_ref(reference, where, out)
        elif name != "fileKeyRef":
            _check_key_ref(reference, where, out)
    if count == 0:
        names = "`fieldRef`, `resourceFieldRef`, `configMapKeyRef` or `secretKeyRef`"
        out.append(fields.invalid(path, "", f"must specify one of: {names}"))
    elif value:
        out.append(fields.invalid(path, "", "may not be specified when `value` is not empty"))
    elif count > 1:
        out.append(fields.invalid(path, "", "may not have more than one field specified at a time"))


def _check_key_ref(reference: Object, path: str, out: list[Cause]) -> None:
    check_subdomain(reference.get("name") or "", f"{path}.name", out)
    key = reference.get("key")
    if not key:
        out.append(fields.required(f"{path}.key"))
    else:
        check_config_key(key, f"{path}.key", out)


def _check_file_ref(
    reference: Object, path: str, volumes: Mapping[str, Object], out: list[Cause]
) -> None:
    """A variable in a file of an emptyDir that another container writes (KEP-3721)."""
    volume, key = reference.get("volumeName"), reference.get("key")
    if not volume:
        out.append(fields.required(f"{path}.volumeName"))
    elif volume not in volumes:
        out.append(fields.not_found(f"{path}.volumeName", volume))
    elif "emptyDir" not in volumes[volume]:
        why = "referenced volume must be of type emptyDir"
        out.append(fields.invalid(f"{path}.volumeName", volume, why))
    if not reference.get("path"):
        out.append(fields.required(f"{path}.path"))
    else:
        check_local_path(reference["path"], f"{path}.path", out)
    if not key:
        out.append(fields.required(f"{path}.key"))
    else:
        check_env_name(key, f"{path}.key", out)


def check_env_from(sources: Iterable[Object], path: str, out: list[Cause]) -> None:
    for position, source in enumerate(sources):
        where = f"{path}[{position}]"
        if source.get("prefix"):
            check_env_name(source["prefix"], f"{where}.prefix", out)
        count = 0
        for name in ("configMapRef", "secretRef"):
            reference = source.get(name)
            if reference is not None:
                count += 1
                if not reference.get("name"):
                    out.append(fields.required(f"{where}.{name}.name"))
                else:
                    check_subdomain(reference["name"], f"{where}.{name}.name", out)
        if count == 0:
            why = "must specify one of: `configMapRef` or `secretRef`"
            out.append(fields.invalid(path, "", why))
        elif count > 1:
            why = "may not have more than one field specified at a time"
            out.append(fields.invalid(path, "", why))


def check_field_ref(
    reference: Object, path: str, allowed: tuple[str, ...], out: list[Cause]
) -> None:
    for name in ("apiVersion", "fieldPath"):
        if not reference.get(name):
            out.append(fields.required(f"{path}.{name}"))
            return
    text = reference["fieldPath"]
    match = _SUBSCRIPT.fullmatch(text)
    field = match[1] if match else text
    if reference["apiVersion"] != "v1":
        version = reference["apiVersion"]
        why = f"error converting fieldPath: unsupported pod version: {version}"
        out.append(fields.invalid(f"{path}.fieldPath", text, why))
    elif field not in CONVERTIBLE:
        why = f"error converting fieldPath: field label not supported: {field}"
        out.append(fields.invalid(f"{path}.fieldPath", text, why))
    elif match is None:
        if field not in allowed:
            out.append(fields.not_supported(f"{path}.fieldPath", field, sorted(allowed)))
    elif field == "metadata.annotations":
        check_qualified(match[2].lower(), path, out)
    elif field == "metadata.labels":
        check_qualified(match[2], path, out)
    else:
        out.append(fields.invalid(path, field, "does not support subscript"))


def check_resource_ref(
    reference: Object, path: str, out: list[Cause], *, in_volume: bool = False
) -> None:
    resource = reference.get("resource") or ""
    if in_volume and not reference.get("containerName"):
        out.append(fields.required(f"{path}.containerName"))
    elif not resource:
        out.append(fields.required(f"{path}.resource"))
    elif resource not in RESOURCES and not resource.startswith(_HUGE_PAGES):
        out.append(fields.not_supported(f"{path}.resource", resource, RESOURCES))
    _check_divisor(resource, reference.get("divisor"), path, out)


def _check_divisor(resource: str, divisor: Any, path: str, out: list[Cause]) -> None:
    if divisor in (None, "0", 0, ""):
        return
    name = resource.partition(".")[2]
    if name.startswith("hugepages-"):
        name = "hugepages-"
    if name not in _DIVISORS:
        return
    allowed, why = _DIVISORS[name]
    try:
        text = canonical(str(divisor))
    except QuantityError as error:
        out.append(fields.invalid(f"{path}.divisor", divisor, str(error)))
        return
    if text != "0" and text not in allowed:
        out.append(fields.invalid(f"{path}.divisor", resource, why))
