"""Validation of what a pod's status says of its containers' users and devices."""

from __future__ import annotations

from collections.abc import Sequence

from .... import fields
from ....errors import Cause, Object
from ...formats import check_id

STATUSES = (
    ("containerStatuses", "containers"),
    ("initContainerStatuses", "initContainers"),
    ("ephemeralContainerStatuses", ""),
)
HEALTH = ("Healthy", "Unhealthy", "Unknown")
CLAIM = "claim:"
NOT_CLAIMED = (
    "must match one of the container's resource claims in a format 'claim:<claimName>/<request>' "
    "or 'claim:<claimName>' if request is empty"
)
NOT_REQUESTED = "must match one of the container's resource requests"


def check_container_statuses(status: Object, spec: Object, out: list[Cause]) -> None:
    """Users and allocated resources of all containers."""
    windows = (spec.get("os") or {}).get("name") == "windows"
    for name, owners in STATUSES:
        containers = {item.get("name"): item for item in spec.get(owners) or ()} if owners else {}
        for position, item in enumerate(status.get(name) or ()):
            path = f"status.{name}[{position}]"
            linux = (item.get("user") or {}).get("linux")
            if linux is not None:
                _check_user(linux, f"{path}.linux", windows, out)
            allocated = item.get("allocatedResourcesStatus")
            if not allocated:
                continue
            where = f"{path}.allocatedResourcesStatus"
            if owners:
                _check_allocated(allocated, containers.get(item.get("name")), where, out)
            else:
                out.append(fields.forbidden(where, "must not be specified in container status"))


def _check_user(user: Object, path: str, windows: bool, out: list[Cause]) -> None:
    if windows:
        out.append(fields.forbidden(path, "cannot be set for a windows pod"))
        return
    for name in ("uid", "gid"):
        check_id(user.get(name) or 0, f"{path}.{name}", out)
    for position, group in enumerate(user.get("supplementalGroups") or ()):
        check_id(group, f"{path}.supplementalGroups[{position}]", out)


def _check_allocated(
    allocated: Sequence[Object], container: Object | None, path: str, out: list[Cause]
) -> None:
    for position, item in enumerate(allocated):
        name, where = item.get("name") or "", f"{path}[{position}]"
        if container is not None and name not in _known(container, name):
            why = NOT_CLAIMED if name.startswith(CLAIM) else NOT_REQUESTED
            out.append(fields.invalid(f"{where}.name", name, why))
        seen: set[str] = set()
        for index, resource in enumerate(item.get("resources") or ()):
            place = f"{where}.resources[{index}]"
            health, key = resource.get("health") or "", resource.get("resourceID") or ""
            if health not in HEALTH:
                out.append(fields.not_supported(f"{place}.health", health, HEALTH))
            if key in seen:
                out.append(fields.duplicate(f"{place}.resourceID", key))
            seen.add(key)


def _known(container: Object, name: str) -> set[str]:
    resources = container.get("resources") or {}
    if not name.startswith(CLAIM):
        return set(resources.get("requests") or ())
    return {
        f"{CLAIM}{item.get('name', '')}" + (f"/{item['request']}" if item.get("request") else "")
        for item in resources.get("claims") or ()
    }
