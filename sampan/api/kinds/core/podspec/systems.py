"""Validation of what a pod's operating system allows (validateLinux, validateWindows)."""

from __future__ import annotations

from collections.abc import Iterator

from .... import fields
from ....errors import Cause, Object

SYSTEMS = ("linux", "windows")
NOT_ON_WINDOWS = "cannot be set for a windows pod"
NOT_ON_LINUX = "windows options cannot be set for a linux pod"
POD_FIELDS = ("hostUsers", "shareProcessNamespace")
"""Fields of a pod that Windows has not, even when they say false."""
POD_FLAGS = ("hostPID", "hostIPC")
POD_CONTEXT = (
    "appArmorProfile", "seLinuxOptions", "seccompProfile", "fsGroup", "fsGroupChangePolicy",
    "sysctls", "runAsUser", "runAsGroup", "supplementalGroups", "supplementalGroupsPolicy",
    "seLinuxChangePolicy",
)  # fmt: skip
CONTAINER_CONTEXT = (
    "appArmorProfile", "seLinuxOptions", "seccompProfile", "capabilities",
    "readOnlyRootFilesystem", "privileged", "allowPrivilegeEscalation", "procMount", "runAsUser",
    "runAsGroup",
)  # fmt: skip


def check_system(spec: Object, path: str, out: list[Cause]) -> None:
    """spec.os, and what goes with it."""
    name = spec["os"].get("name")
    if not name:
        out.append(fields.required(f"{path}.os.name", "cannot be empty"))
    elif name not in SYSTEMS:
        out.append(fields.not_supported(f"{path}.os", name, SYSTEMS))
    elif name == "linux":
        for context, where in _contexts(spec, path):
            if context.get("windowsOptions") is not None:
                out.append(fields.forbidden(f"{where}.windowsOptions", NOT_ON_LINUX))
    else:
        _check_windows(spec, path, out)


def _check_windows(spec: Object, path: str, out: list[Cause]) -> None:
    for name in (*POD_FIELDS, *POD_FLAGS):
        if spec.get(name) or (name in POD_FIELDS and spec.get(name) is not None):
            out.append(fields.forbidden(f"{path}.{name}", NOT_ON_WINDOWS))
    own = f"{path}.securityContext"
    for context, where in _contexts(spec, path):
        for name in POD_CONTEXT if where == own else CONTAINER_CONTEXT:
            if context.get(name) is not None:
                out.append(fields.forbidden(f"{where}.{name}", NOT_ON_WINDOWS))


def _contexts(spec: Object, path: str) -> Iterator[tuple[Object, str]]:
    """The security contexts of a pod, and where they are."""
    if spec.get("securityContext"):
        yield spec["securityContext"], f"{path}.securityContext"
    for name in ("initContainers", "containers", "ephemeralContainers"):
        for position, item in enumerate(spec.get(name) or ()):
            if item.get("securityContext"):
                yield item["securityContext"], f"{path}.{name}[{position}].securityContext"
