"""What a container is asked for, in CRI's words. Pure.

CRI has no word for some of what a `ContainerSpec` can say: such a container is refused by name
rather than run with less.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..bundle import MASKED_PATHS, READONLY_PATHS
from ..interface import ContainerSpec, Mount, Resources, RuntimeFailure, Security
from .schemas import (
    BIDIRECTIONAL,
    CONTAINER,
    HOST_TO_CONTAINER,
    LOCALHOST,
    NODE,
    POD,
    PRIVATE,
    RUNTIME_DEFAULT,
    TARGET,
    UNCONFINED,
)

# As kubelet names them (pkg/kubelet/types): what the agent finds its containers by.
POD_UID = "io.kubernetes.pod.uid"
POD_NAME = "io.kubernetes.pod.name"
POD_NAMESPACE = "io.kubernetes.pod.namespace"
NAME = "io.kubernetes.container.name"
RESTARTS = "io.kubernetes.container.restartCount"
# Ours, so that the next agent finds what the server does not keep.
IMAGE, LOG, KEPT = "sampan.io/image", "sampan.io/log", "sampan.io/cgroup"
FLAGS = "sampan.io/streams"

_SHM = "/dev/shm"
_PROPAGATION = {"rslave": HOST_TO_CONTAINER, "rshared": BIDIRECTIONAL}


def sandbox_config(spec: ContainerSpec, group: str, attempt: int = 0) -> dict[str, Any]:
    """Of the pod that a container belongs to; `attempt` tells it from those the pod had before."""
    notes = spec.annotations
    metadata = {
        "name": notes.get(POD_NAME, ""),
        "uid": notes.get(POD_UID, ""),
        "namespace": notes.get(POD_NAMESPACE, ""),
        "attempt": attempt,
    }
    return {
        "metadata": metadata,
        "hostname": spec.hostname,
        # Every container says its own file; this one is only their common beginning.
        "log_directory": "/",
        # Containers have a file of the agent's; without this the machine's own would be copied,
        # and not every machine has one.
        "dns_config": {"options": ["ndots:1"]},
        "labels": {name: notes.get(name, "") for name in (POD_UID, POD_NAME, POD_NAMESPACE)},
        "linux": {
            "cgroup_parent": f"/{group}",
            "security_context": {
                "namespace_options": _namespaces(spec),
                "privileged": spec.security.privileged,
            },
            "sysctls": dict(spec.sysctls),
        },
    }


def container_config(spec: ContainerSpec, group: str, target: str = "") -> dict[str, Any]:
    """`target` is the container whose PID namespace it joins, if it does. Raises RuntimeFailure for
    what CRI, or this runtime, has no way to say."""
    _refuse(spec)
    flags = " ".join(name for name, on in (("stdin", spec.stdin), ("tty", spec.tty)) if on)
    ours = {IMAGE: spec.image, LOG: str(spec.log_path), KEPT: group, FLAGS: flags}
    return {
        # The id of this attempt makes the name unique, whatever was there before.
        "metadata": {"name": f"{spec.annotations.get(NAME, 'container')}-{spec.id[:12]}"},
        "image": {"image": spec.image},
        "command": list(spec.args),
        "working_dir": spec.working_dir,
        "envs": [{"key": name, "value": value} for name, value in spec.env],
        "mounts": [_mount(mount) for mount in spec.mounts if mount.kind == "bind"],
        "devices": [
            {
                "container_path": device.target,
                "host_path": device.source,
                "permissions": device.access,
            }
            for device in spec.devices
        ],
        "labels": {POD_UID: spec.annotations.get(POD_UID, "")},
        "annotations": {**spec.annotations, **ours},
        "log_path": str(spec.log_path).lstrip("/"),
        "stdin": spec.stdin,
        "stdin_once": spec.stdin_once,
        "tty": spec.tty,
        "linux": {
            "resources": resources(spec.resources),
            "security_context": {
                **_security(spec.security),
                "namespace_options": _namespaces(spec, target),
            },
        },
    }


def _refuse(spec: ContainerSpec) -> None:
    wanted = {"a user namespace": spec.user_namespace is not None, "a hook": bool(spec.hooks)}
    for mount in spec.mounts:
        wanted[f"a mount of kind {mount.kind}"] = mount.kind != "bind" and mount.target != _SHM
    for what, asked in wanted.items():
        if asked:
            raise RuntimeFailure(f"{what} is not supported by this runtime")


def _namespaces(spec: ContainerSpec, target: str = "") -> dict[str, Any]:
    processes = TARGET if target else CONTAINER
    return {
        "network": POD if spec.network_namespace else NODE,
        "pid": NODE if spec.share_pid_with < 0 else processes,
        "ipc": NODE if spec.share_ipc_with < 0 else POD,
        "target_id": target,
    }


def _mount(mount: Mount) -> dict[str, Any]:
    options = set(mount.options)
    propagation = [kind for name, kind in _PROPAGATION.items() if name in options]
    return {
        "container_path": mount.target,
        "host_path": mount.source,
        "readonly": bool(options & {"ro", "rro"}),
        "propagation": propagation[0] if propagation else PRIVATE,
    }


def resources(wanted: Resources) -> Mapping[str, Any]:
    return {
        "cpu_period": wanted.cpu_period_us if wanted.cpu_quota_us else 0,
        "cpu_quota": wanted.cpu_quota_us,
        "cpu_shares": wanted.cpu_shares,
        "memory_limit_in_bytes": wanted.memory_limit_bytes,
        "oom_score_adj": wanted.oom_score_adj,
        "cpuset_cpus": wanted.cpuset,
        "hugepage_limits": [
            {"page_size": size, "limit": limit} for size, limit in wanted.hugepages
        ],
        # Else it is bound to the first limit for ever, and memory cannot be given in place.
        "memory_swap_limit_in_bytes": -1 if wanted.memory_limit_bytes else 0,
    }


def _security(wanted: Security) -> dict[str, Any]:
    profile: dict[str, Any] = {"profile_type": RUNTIME_DEFAULT}
    if wanted.seccomp == "unconfined":
        profile = {"profile_type": UNCONFINED}
    elif wanted.seccomp != "default":
        profile = {"profile_type": LOCALHOST, "localhost_ref": wanted.seccomp}
    masked = wanted.masked_paths and not wanted.privileged
    names = [name.removeprefix("CAP_") for name in wanted.capabilities]
    return {
        "capabilities": {"add_capabilities": names, "drop_capabilities": ["ALL"]},
        "privileged": wanted.privileged,
        **_user(wanted),
        "readonly_rootfs": wanted.read_only_root,
        "supplemental_groups": list(wanted.supplemental_gids),
        "no_new_privs": wanted.no_new_privileges,
        "masked_paths": list(MASKED_PATHS) if masked else [],
        "readonly_paths": list(READONLY_PATHS) if masked else [],
        "seccomp": profile,
    }


def _user(wanted: Security) -> dict[str, Any]:
    """A group's name is for the image to resolve, and CRI has no field for it: the image's own user
    is what it falls back to, and that is where such a name comes from."""
    user, _, group = wanted.user.partition(":")
    if user and not user.isdigit():
        return {} if group and not group.isdigit() else {"run_as_username": user}
    uid = int(user) if user else wanted.uid
    gid = int(group) if group.isdigit() else wanted.gid
    return {"run_as_user": {"value": uid}, "run_as_group": {"value": gid}}
