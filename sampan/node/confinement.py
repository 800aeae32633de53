"""A container's security context to what the runtime is told. Pure.

pkg/kubelet/kuberuntime/security_context.go; the default capabilities are containerd's.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sampan.runtime.interface import Security

from .environment import ConfigError

DEFAULT_CAPABILITIES = (
    "CHOWN", "DAC_OVERRIDE", "FSETID", "FOWNER", "MKNOD", "NET_RAW", "SETGID", "SETUID",
    "SETFCAP", "SETPCAP", "NET_BIND_SERVICE", "SYS_CHROOT", "KILL", "AUDIT_WRITE",
)  # fmt: skip
ALL_CAPABILITIES = (
    "CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID",
    "SETPCAP", "LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW",
    "IPC_LOCK", "IPC_OWNER", "SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT",
    "SYS_ADMIN", "SYS_BOOT", "SYS_NICE", "SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD",
    "LEASE", "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP", "MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG",
    "WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ", "PERFMON", "BPF", "CHECKPOINT_RESTORE",
)  # fmt: skip


def confine(
    pod: Mapping[str, Any], container: Mapping[str, Any], image_user: str, profiles: Path
) -> Security:
    """Raises ConfigError when the user would be root against runAsNonRoot."""
    shared = pod["spec"].get("securityContext") or {}
    own = container.get("securityContext") or {}
    privileged = bool(own.get("privileged"))
    user = _user(shared, own, image_user)
    _refuse_root(pod, container, user)
    uid, _, gid = user.partition(":")
    groups = [int(group) for group in shared.get("supplementalGroups") or ()]
    if shared.get("fsGroup") is not None:
        groups.append(int(shared["fsGroup"]))
    return Security(
        user=user,
        uid=int(uid) if uid.isdigit() else 0,
        gid=int(gid) if gid.isdigit() else 0,
        supplemental_gids=tuple(dict.fromkeys(groups)),
        capabilities=_capabilities(own.get("capabilities") or {}, privileged),
        privileged=privileged,
        no_new_privileges=own.get("allowPrivilegeEscalation") is False and not privileged,
        read_only_root=bool(own.get("readOnlyRootFilesystem")),
        seccomp="unconfined" if privileged else _seccomp(shared, own, profiles),
        masked_paths=not privileged and own.get("procMount") != "Unmasked",
        image_groups=shared.get("supplementalGroupsPolicy") != "Strict",
        apparmor="" if privileged else _apparmor(shared, own),
    )


def _user(shared: Mapping[str, Any], own: Mapping[str, Any], image_user: str) -> str:
    """ "user[:group]": the container's choice, the pod's, or the image's."""
    uid = _first("runAsUser", own, shared)
    gid = _first("runAsGroup", own, shared)
    user = str(uid) if uid is not None else image_user
    if gid is None:
        return user
    return f"{user.partition(':')[0] or '0'}:{gid}"


def _refuse_root(pod: Mapping[str, Any], container: Mapping[str, Any], user: str) -> None:
    shared = pod["spec"].get("securityContext") or {}
    own = container.get("securityContext") or {}
    if not _first("runAsNonRoot", own, shared):
        return
    meta = pod["metadata"]
    where = (
        f'(pod: "{meta["name"]}_{meta["namespace"]}({meta["uid"]})", '
        f"container: {container['name']})"
    )
    name = user.partition(":")[0]
    if _first("runAsUser", own, shared) is not None:
        if name == "0":
            raise ConfigError(f"container's runAsUser breaks non-root policy {where}")
    elif name in ("", "0"):
        raise ConfigError(f"container has runAsNonRoot and image will run as root {where}")
    elif not name.isdigit():
        raise ConfigError(
            f"container has runAsNonRoot and image has non-numeric user ({name}), "
            f"cannot verify user is non-root {where}"
        )


def _capabilities(asked: Mapping[str, Any], privileged: bool) -> tuple[str, ...]:
    if privileged:
        return tuple(f"CAP_{name}" for name in ALL_CAPABILITIES)
    add = [_plain(name) for name in asked.get("add") or ()]
    drop = [_plain(name) for name in asked.get("drop") or ()]
    kept = list(ALL_CAPABILITIES if "ALL" in add else DEFAULT_CAPABILITIES)
    if "ALL" in drop:
        kept = [] if "ALL" not in add else kept
    kept = [name for name in kept if name not in drop]
    kept += [name for name in add if name != "ALL" and name not in kept]
    return tuple(f"CAP_{name}" for name in kept)


def _plain(name: str) -> str:
    return name.upper().removeprefix("CAP_")


def _seccomp(shared: Mapping[str, Any], own: Mapping[str, Any], profiles: Path) -> str:
    """RuntimeDefault also where nothing is said: safer than upstream's default of none."""
    profile = own.get("seccompProfile") or shared.get("seccompProfile") or {}
    if profile.get("type") == "Unconfined":
        return "unconfined"
    if profile.get("type") == "Localhost":
        return str(profiles / profile["localhostProfile"])
    return "default"


def _apparmor(shared: Mapping[str, Any], own: Mapping[str, Any]) -> str:
    """The profile's name. What is asked for without AppArmor was refused before; without a word
    nothing is asked for, as upstream's runtimes have it where they know no default."""
    profile = own.get("appArmorProfile") or shared.get("appArmorProfile") or {}
    kind = profile.get("type")
    if kind == "Localhost":
        return str(profile["localhostProfile"])
    if kind != "RuntimeDefault":
        return ""
    from .apparmor import default_profile

    name = default_profile()
    if not name:
        raise ConfigError("no default AppArmor profile is loaded on this node")
    return name


def _first(field: str, *contexts: Mapping[str, Any]) -> Any:
    return next((item[field] for item in contexts if item.get(field) is not None), None)
