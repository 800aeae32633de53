"""A container's OCI configuration (config.json), as a pure function of its spec.

After the OCI runtime specification 1.0 and what containerd's CRI plugin makes of a pod's
container: the same mounts, masked paths and device rules.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct

from .filters import BPF_ANNOTATION
from .interface import ContainerSpec, Mount, Resources
from .seccomp import default_profile

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
SHM_SIZE = "65536k"

MASKED_PATHS = (
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
)
READONLY_PATHS = (
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
)

_SAFE = ("nosuid", "noexec", "nodev")
# What every container sees, in this order. /dev is always a fresh tmpfs: an image whose /dev is
# a symbolic link made crun 1.8.1 create device nodes on the host.
_MOUNTS = (
    Mount("/proc", "proc", "proc", _SAFE),
    Mount("/dev", "tmpfs", "tmpfs", ("nosuid", "strictatime", "mode=755", "size=65536k")),
    Mount(
        "/dev/pts",
        "devpts",
        "devpts",
        ("nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"),
    ),
    Mount("/dev/mqueue", "mqueue", "mqueue", _SAFE),
    Mount("/sys", "sysfs", "sysfs", (*_SAFE, "ro")),
    Mount("/sys/fs/cgroup", "cgroup", "cgroup", (*_SAFE, "relatime", "ro")),
    Mount("/dev/shm", "shm", "tmpfs", (*_SAFE, "mode=1777", f"size={SHM_SIZE}")),
)


class Surroundings(Struct, frozen=True):
    """What the configuration needs to know of the node, read by the caller."""

    rootfs: str
    cgroup: str
    """Path below the cgroup roots, e.g. "/sampan-default/kubepods/podX/ID"."""
    oom_score_adj: int | None = None
    """None leaves what the process inherits."""
    all_capabilities: Sequence[str] = ()
    """What a privileged container gets."""
    devices: Sequence[Mapping[str, Any]] = ()
    """As OCI `linux.devices`: those of the spec, and for a privileged container the host's."""
    seccomp: Mapping[str, Any] | None = None
    """The profile loaded from `Security.seccomp` when that is a path."""
    seccomp_program: str = ""
    """The default profile compiled, base64; "" lets the runtime compile it."""


def build_config(spec: ContainerSpec, around: Surroundings) -> dict[str, Any]:
    """The whole config.json."""
    config: dict[str, Any] = {
        "ociVersion": "1.0.0",
        "process": build_process(spec, around),
        "root": {"path": around.rootfs, "readonly": spec.security.read_only_root},
        "mounts": [_mount(mount, spec.user_namespace) for mount in _all_mounts(spec)],
        "annotations": _annotations(spec, around),
        "linux": _linux(spec, around),
    }
    if spec.hooks:
        config["hooks"] = {name: list(found) for name, found in spec.hooks.items()}
    if spec.hostname and spec.network_namespace:
        config["hostname"] = spec.hostname
    return config


def build_process(spec: ContainerSpec, around: Surroundings) -> dict[str, Any]:
    """The first process; `exec_process` derives the later ones from it."""
    security = spec.security
    names = around.all_capabilities if security.privileged else security.capabilities
    env = dict(spec.env)
    env.setdefault("PATH", DEFAULT_PATH)
    if spec.tty:
        env.setdefault("TERM", "xterm")
    process: dict[str, Any] = {
        "terminal": spec.tty,
        "user": {
            "uid": security.uid,
            "gid": security.gid,
            # With its own group among them, which it could else lay down to get by a file that
            # gives that group less than others (CVE-2022-2995, CVE-2023-25173).
            "additionalGids": list(dict.fromkeys((security.gid, *security.supplemental_gids))),
        },
        "args": list(spec.args),
        "env": [f"{name}={value}" for name, value in env.items()],
        "cwd": spec.working_dir or "/",
        # Never inheritable (CVE-2022-24769).
        "capabilities": {kind: list(names) for kind in ("bounding", "effective", "permitted")},
        "noNewPrivileges": security.no_new_privileges,
    }
    if security.apparmor:
        process["apparmorProfile"] = security.apparmor
    if around.oom_score_adj is not None:
        process["oomScoreAdj"] = around.oom_score_adj
    return process


def exec_process(config: Mapping[str, Any], args: Sequence[str], *, tty: bool) -> dict[str, Any]:
    """A further process in a container, with its user, environment and rights."""
    process = {**config["process"], "args": list(args), "terminal": tty}
    process.pop("oomScoreAdj", None)
    if tty and not any(line.startswith("TERM=") for line in process["env"]):
        process["env"] = [*process["env"], "TERM=xterm"]
    return process


def _all_mounts(spec: ContainerSpec) -> Sequence[Mount]:
    """The usual ones, then the container's own, parents before children."""
    own = {mount.target.rstrip("/") or "/" for mount in spec.mounts}
    usual = [_loosened(mount, spec) for mount in _MOUNTS if mount.target not in own]
    shallow_first = sorted(spec.mounts, key=lambda mount: mount.target.rstrip("/").count("/"))
    return [*usual, *shallow_first]


def _loosened(mount: Mount, spec: ContainerSpec) -> Mount:
    if not spec.security.privileged or "ro" not in mount.options:
        return mount
    options = tuple(option for option in mount.options if option != "ro")
    return Mount(mount.target, mount.source, mount.kind, (*options, "rw"))


def _mount(mount: Mount, ids: tuple[int, int] | None = None) -> dict[str, Any]:
    options = list(mount.options)
    if mount.kind == "bind" and not {"bind", "rbind"} & set(options):
        options.insert(0, "rbind")
    if mount.kind == "bind" and ids is not None:
        # What root owns there is owned by the container's root.
        options.append(f"idmap=uids=0-{ids[0]}-{ids[1]};gids=0-{ids[0]}-{ids[1]}")
    return {
        "destination": mount.target,
        "type": mount.kind,
        "source": mount.source or mount.kind,
        "options": options,
    }


def _linux(spec: ContainerSpec, around: Surroundings) -> dict[str, Any]:
    security = spec.security
    linux: dict[str, Any] = {
        "cgroupsPath": around.cgroup,
        "namespaces": _namespaces(spec),
        "resources": _resources(spec.resources, privileged=security.privileged),
    }
    if around.devices:
        linux["devices"] = list(around.devices)
    if spec.devices and not security.privileged:
        linux["resources"]["devices"] += _device_rules(spec, around)
    if spec.user_namespace is not None:
        first, count = spec.user_namespace
        mapping = [{"containerID": 0, "hostID": first, "size": count}]
        linux |= {"uidMappings": mapping, "gidMappings": mapping}
    if spec.sysctls:
        linux["sysctl"] = dict(spec.sysctls)
    propagation = _root_propagation(spec.mounts)
    if propagation:
        linux["rootfsPropagation"] = propagation
    if security.privileged:
        return linux
    if security.masked_paths:
        linux["maskedPaths"] = list(MASKED_PATHS)
        linux["readonlyPaths"] = list(READONLY_PATHS)
    if security.seccomp == "default" and not around.seccomp_program:
        linux["seccomp"] = default_profile(security.capabilities)
    elif around.seccomp is not None:
        linux["seccomp"] = around.seccomp
    return linux


def _annotations(spec: ContainerSpec, around: Surroundings) -> dict[str, str]:
    """crun obeys annotations of its own, also ones that switch its protection off: only ours
    may reach it."""
    kept = {
        name: value
        for name, value in spec.annotations.items()
        if not name.startswith(("run.oci.", "org.criu.", "io.crun."))
    }
    security = spec.security
    if around.seccomp_program and not security.privileged and security.seccomp == "default":
        kept[BPF_ANNOTATION] = around.seccomp_program
    return kept


def _namespaces(spec: ContainerSpec) -> list[dict[str, str]]:
    """A pod on the node's network keeps the node's host name too, as upstream's does."""
    namespaces: list[dict[str, str]] = [{"type": "mount"}]
    if spec.user_namespace is not None:
        namespaces.append({"type": "user"})
    if spec.ipc_namespace:
        namespaces.append({"type": "ipc", "path": spec.ipc_namespace})
    for kind, shared in (("pid", spec.share_pid_with), ("ipc", spec.share_ipc_with)):
        if kind == "ipc" and spec.ipc_namespace:
            continue
        if shared > 0:
            namespaces.append({"type": kind, "path": f"/proc/{shared}/ns/{kind}"})
        elif shared == 0:
            namespaces.append({"type": kind})
    if spec.network_namespace:
        namespaces.append({"type": "uts"})
        namespaces.append({"type": "network", "path": spec.network_namespace})
    return namespaces


def _resources(limits: Resources, *, privileged: bool) -> dict[str, Any]:
    resources: dict[str, Any] = {"devices": [{"allow": privileged, "access": "rwm"}]}
    cpu: dict[str, Any] = {}
    if limits.cpu_shares:
        cpu["shares"] = limits.cpu_shares
    if limits.cpu_quota_us:
        cpu["quota"] = limits.cpu_quota_us
        cpu["period"] = limits.cpu_period_us
    if limits.cpuset:
        cpu["cpus"] = limits.cpuset
    if cpu:
        resources["cpu"] = cpu
    if limits.hugepages:
        resources["hugepageLimits"] = [
            {"pageSize": size, "limit": amount} for size, amount in limits.hugepages
        ]
    if limits.memory_limit_bytes:
        resources["memory"] = {"limit": limits.memory_limit_bytes}
    if limits.pids_limit:
        resources["pids"] = {"limit": limits.pids_limit}
    return resources


def _device_rules(spec: ContainerSpec, around: Surroundings) -> list[dict[str, Any]]:
    """What the devices cgroup lets the container do with those it is given."""
    nodes = {found["path"]: found for found in around.devices}
    return [
        {
            "allow": True,
            "type": nodes[device.target]["type"],
            "major": nodes[device.target]["major"],
            "minor": nodes[device.target]["minor"],
            "access": "".join(letter for letter in "rwm" if letter in device.access),
        }
        for device in spec.devices
    ]


def _root_propagation(mounts: Sequence[Mount]) -> str:
    """Volumes that propagate need a root that lets them."""
    options = {option for mount in mounts for option in mount.options}
    if options & {"rshared", "shared"}:
        return "rshared"
    return "rslave" if options & {"rslave", "slave"} else ""
