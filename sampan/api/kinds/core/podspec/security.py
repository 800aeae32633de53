"""Validation of security contexts, of pods and containers."""

from __future__ import annotations

import re
from typing import Any

from .... import fields
from ....errors import Cause, Object
from ...formats import check_descending, check_id, check_optional
from .windows import check_windows_options

PROFILE_TYPES = ("Localhost", "RuntimeDefault", "Unconfined")
MAX_PROFILE_LENGTH = 4095
"""PATH_MAX - 1."""
MAX_SYSCTL = 253
_SYSCTL_TEXT = "^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$"
_SYSCTL = re.compile(r"([a-z0-9]([-_a-z0-9]*[a-z0-9])?[./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?")
_IPC = ("kernel.shm", "kernel.msg", "fs.mqueue.")


def check_pod_security(spec: Object, path: str, out: list[Cause]) -> None:
    """spec.securityContext; `path` is the spec's."""
    context = spec.get("securityContext")
    _check_share(spec, path, out)
    if not context:
        return
    where = f"{path}.securityContext"
    for name in ("fsGroup", "runAsUser", "runAsGroup"):
        check_id(context.get(name), f"{where}.{name}", out)
    for position, group in enumerate(context.get("supplementalGroups") or ()):
        check_id(group, f"{where}.supplementalGroups[{position}]", out)
    if context.get("sysctls"):
        _check_sysctls(context["sysctls"], spec, f"{where}.sysctls", out)
    for name, allowed in (
        ("fsGroupChangePolicy", ("Always", "OnRootMismatch")),
        ("supplementalGroupsPolicy", ("Merge", "Strict")),
        ("seLinuxChangePolicy", ("MountOption", "Recursive")),
    ):
        check_optional(context.get(name), allowed, f"{where}.{name}", out)
    if context.get("seccompProfile") is not None:
        _check_seccomp(context["seccompProfile"], f"{where}.seccompProfile", out)
    _check_rare(context, where, out)


def _check_share(spec: Object, path: str, out: list[Cause]) -> None:
    if spec.get("shareProcessNamespace") and spec.get("hostPID"):
        where = f"{path}.securityContext.shareProcessNamespace"
        why = "ShareProcessNamespace and HostPID cannot both be enabled"
        out.append(fields.invalid(where, True, why))
    if spec.get("hostUsers") is False:
        why = "when `pod.Spec.HostUsers` is false"
        for name, shown in (
            ("hostNetwork", "hostNetwork"), ("hostPID", "HostPID"), ("hostIPC", "HostIPC"),
        ):  # fmt: skip
            if spec.get(name):
                out.append(fields.forbidden(f"{path}.{shown}", why))


def _check_sysctls(sysctls: list[Object], spec: Object, path: str, out: list[Cause]) -> None:
    seen: set[str] = set()
    for position, item in enumerate(sysctls):
        name = item.get("name") or ""
        where = f"{path}[{position}].name"
        if not name:
            out.append(fields.required(where))
        elif len(name) > MAX_SYSCTL or not _SYSCTL.fullmatch(name):
            why = f"must have at most {MAX_SYSCTL} characters and match regex {_SYSCTL_TEXT}"
            out.append(fields.invalid(where, name, why))
        elif name in seen:
            out.append(fields.duplicate(where, name))
        dotted = name.replace("/", ".")
        if spec.get("hostNetwork") and dotted.startswith("net."):
            why = "may not be specified when 'hostNetwork' is true"
            out.append(fields.invalid(where, name, why))
        elif spec.get("hostIPC") and (dotted.startswith(_IPC) or dotted == "kernel.sem"):
            why = "may not be specified when 'hostIPC' is true"
            out.append(fields.invalid(where, name, why))
        seen.add(name)


def _check_rare(context: Object, path: str, out: list[Cause]) -> None:
    if context.get("windowsOptions") is not None:
        check_windows_options(context["windowsOptions"], f"{path}.windowsOptions", out)
    if context.get("appArmorProfile") is not None:
        check_apparmor(context["appArmorProfile"], f"{path}.appArmorProfile", out)


def _check_seccomp(profile: Object, path: str, out: list[Cause]) -> None:
    kind, local = profile.get("type"), profile.get("localhostProfile")
    if not kind:
        out.append(fields.required(f"{path}.type", "type is required when seccompProfile is set"))
    elif kind not in PROFILE_TYPES:
        out.append(fields.not_supported(f"{path}.type", kind, PROFILE_TYPES))
    if kind == "Localhost":
        if local is None:
            why = "must be set when seccomp type is Localhost"
            out.append(fields.required(f"{path}.localhostProfile", why))
        else:
            check_descending(local, f"{path}.localhostProfile", out)
    elif local is not None:
        why = "can only be set when seccomp type is Localhost"
        out.append(fields.invalid(f"{path}.localhostProfile", profile, why))


def check_apparmor(profile: Object, path: str, out: list[Cause]) -> None:
    kind, local = profile.get("type"), profile.get("localhostProfile")
    where = f"{path}.localhostProfile"
    if kind == "Localhost":
        why = "must be set when AppArmor type is Localhost"
        if local is None:
            out.append(fields.required(where, why))
            return
        if local != local.strip():
            out.append(fields.invalid(where, local, "must not be padded with whitespace"))
        elif not local:
            out.append(fields.required(where, why))
        if len(local) > MAX_PROFILE_LENGTH:
            out.append(fields.too_long(where, "", MAX_PROFILE_LENGTH))
    elif not kind:
        why = "type is required when appArmorProfile is set"
        out.append(fields.required(f"{path}.type", why))
    elif kind not in PROFILE_TYPES:
        out.append(fields.not_supported(f"{path}.type", kind, PROFILE_TYPES))
    elif local is not None:
        why = "can only be set when AppArmor type is Localhost"
        out.append(fields.invalid(where, local, why))


def check_container_security(
    context: Object, path: str, host_users: bool, out: list[Cause]
) -> None:
    check_id(context.get("runAsUser"), f"{path}.runAsUser", out)
    check_id(context.get("runAsGroup"), f"{path}.runAsGroup", out)
    mount: Any = context.get("procMount")
    if mount is not None:
        if mount not in ("Default", "Unmasked"):
            out.append(fields.not_supported(f"{path}.procMount", mount, ("Default", "Unmasked")))
        if host_users and mount == "Unmasked":
            why = "`hostUsers` must be false to use `Unmasked`"
            out.append(fields.invalid(f"{path}.procMount", mount, why))
    if context.get("seccompProfile") is not None:
        _check_seccomp(context["seccompProfile"], f"{path}.seccompProfile", out)
    if context.get("allowPrivilegeEscalation") is False:
        if context.get("privileged"):
            why = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true"
            out.append(fields.invalid(path, context, why))
        added = (context.get("capabilities") or {}).get("add") or ()
        if "CAP_SYS_ADMIN" in added:
            why = (
                "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` "
                "CAP_SYS_ADMIN"
            )
            out.append(fields.invalid(path, context, why))
    _check_rare(context, path, out)
