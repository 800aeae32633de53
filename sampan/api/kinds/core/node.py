"""Node."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ... import fields
from ...descriptor import Column, Kind, Subresource
from ...errors import Cause, Object
from ..addresses import check_cidr, dual_stack
from ..doubts import doubt_range
from ..printing import AGE, NAME, NONE, UNKNOWN, age, condition_status, name
from .podspec.resources import check_quantity
from .podspec.scheduling import check_taints

PROXY_VERBS = ("create", "delete", "get", "patch", "update")
SUBRESOURCES = {"proxy": Subresource("NodeProxyOptions", PROXY_VERBS, version="v1")}
ROLE_PREFIX = "node-role.kubernetes.io/"
ROLE_LABEL = "kubernetes.io/role"


def default(obj: Object) -> None:
    spec = obj.setdefault("spec", {})
    one, many = spec.get("podCIDR"), spec.get("podCIDRs")
    if one and (not many or many[0] != one):
        # The older field decides where they differ.
        spec["podCIDRs"] = [one]
    elif many and not one:
        spec["podCIDR"] = many[0]
    status = obj.setdefault("status", {})
    if status.get("capacity") and status.get("allocatable") is None:
        status["allocatable"] = dict(status["capacity"])


def prepare(obj: Object, old: Object | None) -> None:
    """Configuration by the server is gone (KEP-281): only what is there already stays."""
    if ((old or {}).get("spec") or {}).get("configSource") is None:
        (obj.get("spec") or {}).pop("configSource", None)
    if old is None:
        (obj.get("status") or {}).pop("config", None)


def prepare_status(obj: Object, old: Object) -> None:
    if (old.get("status") or {}).get("config") is None:
        (obj.get("status") or {}).pop("config", None)


def validate(obj: Object, old: Object | None) -> list[Cause]:
    out: list[Cause] = []
    spec = obj["spec"]
    if old is not None and spec == old.get("spec"):
        return out
    if spec.get("taints"):
        check_taints(spec["taints"], "metadata.taints", out)
    _check_addresses(spec.get("podCIDRs") or [], out)
    if old is None:
        _check_resources(obj, out)
        return out
    before = old.get("spec") or {}
    if before.get("podCIDRs") and spec.get("podCIDRs") != before["podCIDRs"]:
        why = 'node updates may not change podCIDR except from "" to valid'
        out.append(fields.forbidden("spec.podCIDRs", why))
    provider = before.get("providerID")
    if provider and spec.get("providerID") != provider:
        why = 'node updates may not change providerID except from "" to valid'
        out.append(fields.forbidden("spec.providerID", why))
    if (spec.get("externalID") or "") != (before.get("externalID") or ""):
        out.append(fields.forbidden("spec.externalID", "may not be updated"))
    return out


def _check_addresses(ranges: list[str], out: list[Cause]) -> None:
    path = "spec.podCIDRs"
    for position, text in enumerate(ranges):
        check_cidr(text, f"{path}[{position}]", out)
    if len(ranges) > 1:
        if len(ranges) > 2 or not dual_stack([item.partition("/")[0] for item in ranges]):
            why = "may specify no more than one CIDR for each IP family"
            out.append(fields.invalid(path, ranges, why))
        for position, text in enumerate(ranges):
            if text in ranges[:position]:
                out.append(fields.duplicate(f"{path}[{position}]", text))


def _check_resources(obj: Object, out: list[Cause]) -> None:
    status = obj.get("status") or {}
    for field in ("capacity", "allocatable"):
        for resource, value in (status.get(field) or {}).items():
            check_quantity(resource, value, f"status.{field}.{resource}", out)


def validate_status(obj: Object, old: Object | None) -> list[Cause]:
    out: list[Cause] = []
    status, before = obj.get("status") or {}, (old or {}).get("status") or {}
    if any(status.get(field) != before.get(field) for field in ("capacity", "allocatable")):
        _check_resources(obj, out)
    addresses = status.get("addresses") or []
    if addresses != before.get("addresses"):
        for position, item in enumerate(addresses):
            if item in addresses[:position]:
                out.append(fields.duplicate(f"status.addresses[{position}]", item))
    return out


def warnings(obj: Object, old: Object | None) -> list[str]:
    spec, out = obj["spec"], []
    if spec.get("configSource") is not None:
        out.append("spec.configSource: the feature is removed")
    if spec.get("externalID"):
        out.append("spec.externalID: this field is deprecated, and is unused by Kubernetes")
    for position, text in enumerate(spec.get("podCIDRs") or ()):
        out += doubt_range(text, f"spec.podCIDRs[{position}]")
    return out


def selectable(obj: Object) -> Mapping[str, str]:
    unschedulable = (obj.get("spec") or {}).get("unschedulable")
    return {"spec.unschedulable": "true" if unschedulable else "false"}


def cells(obj: Object, now_s: float) -> list[Any]:
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    info = status.get("nodeInfo") or {}
    ready = condition_status(obj, "Ready")
    text = {"": "Unknown", "True": "Ready"}.get(ready, "NotReady")
    if spec.get("unschedulable"):
        text += ",SchedulingDisabled"
    return [
        name(obj),
        text,
        _roles(obj) or NONE,
        age(obj, now_s),
        info.get("kubeletVersion") or "",
        _address(status, "InternalIP"),
        _address(status, "ExternalIP"),
        info.get("osImage") or UNKNOWN,
        info.get("kernelVersion") or UNKNOWN,
        info.get("containerRuntimeVersion") or UNKNOWN,
    ]


def _roles(obj: Object) -> str:
    labels = obj["metadata"].get("labels") or {}
    roles = {key.removeprefix(ROLE_PREFIX) for key in labels if key.startswith(ROLE_PREFIX)}
    roles.add(labels.get(ROLE_LABEL) or "")
    return ",".join(sorted(roles - {""}))


def _address(status: Object, kind: str) -> str:
    for item in status.get("addresses") or ():
        if item.get("type") == kind:
            text: str = item.get("address", "")
            return text
    return NONE


KIND = Kind(
    group="",
    version="v1",
    kind="Node",
    short_names=("no",),
    storage="minions",
    generation=False,
    default=default,
    prepare=prepare,
    prepare_parts={"status": prepare_status},
    validate=validate,
    warnings=warnings,
    validate_status=validate_status,
    fields=selectable,
    columns=(
        NAME,
        Column("Status", "string", "The status of the node"),
        Column("Roles", "string", "The roles of the node"),
        AGE,
        Column("Version", "string", "Version of the node agent."),
        Column("Internal-IP", "string", "Address within the cluster.", "", 1),
        Column("External-IP", "string", "Address outside.", "", 1),
        Column("OS-Image", "string", "The operating system.", "", 1),
        Column("Kernel-Version", "string", "The kernel.", "", 1),
        Column("Container-Runtime", "string", "What runs the containers.", "", 1),
    ),
    cells=cells,
    extra_subresources=SUBRESOURCES,
)
