"""create: the root, the configuration, and conmon with crun behind it."""

from __future__ import annotations

import asyncio
import logging
import os
import stat
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import orjson
from msgspec import structs

from ...linux import cgroups, processes
from .. import conmon
from ..bundle import Surroundings, build_config
from ..filters import default_filter
from ..interface import ContainerSpec, Resources, RuntimeFailure
from ..places import Places
from ..records import Record, write_record
from ..roots import mount_mapped_root, mount_root, prepare_working_directory
from ..users import with_user

log = logging.getLogger("sampan.runtime")

_CAP_SYS_RESOURCE = 24


async def create(
    places: Places, spec: ContainerSpec, layers: Sequence[Path], log_size_max: int
) -> Record:
    """Make the container. One whose command cannot run is recorded with that failure, for
    `start` to tell. Raises RuntimeFailure, OSError; then the caller removes what is there."""
    loop = asyncio.get_running_loop()
    # The kernel waits a grace period before it moves the first process to another cgroup; that
    # wait passes while the bundle is made and conmon and crun come up.
    warming = loop.run_in_executor(None, cgroups.warm)
    try:
        return await _create(places, spec, layers, log_size_max)
    finally:
        await warming


async def _create(
    places: Places, spec: ContainerSpec, layers: Sequence[Path], log_size_max: int
) -> Record:
    cgroup = places.cgroup(spec.cgroup_parent, spec.id)
    # The kernel takes milliseconds to make a group: meanwhile the bundle is made.
    grouping = asyncio.get_running_loop().run_in_executor(None, _make_group, cgroup, spec.group)
    try:
        spec = _prepare(places, spec, layers, cgroup)
    finally:
        await grouping
    record = Record(
        id=spec.id,
        image=spec.image,
        cgroup=cgroup,
        boot_id=processes.boot_id(),
        created_at=time.time(),
        tty=spec.tty,
        log_path=str(spec.log_path),
        annotations=dict(spec.annotations),
        shares_processes=spec.share_pid_with != 0,
        user=(spec.security.uid, spec.security.gid, *spec.security.supplemental_gids),
    )
    try:
        made = await conmon.create(places, spec, log_size_max)
    except RuntimeFailure as error:
        record = structs.replace(record, failure=str(error))
    else:
        record = structs.replace(
            record,
            pid=made.pid,
            pid_ticks=processes.start_ticks(made.pid),
            conmon_pid=made.conmon_pid,
            conmon_ticks=processes.start_ticks(made.conmon_pid),
        )
    write_record(places.record(spec.id), record)
    return record


def _make_group(cgroup: str, limits: Resources | None) -> None:
    """The group above a container's own, with its limits."""
    if limits is not None:
        cgroups.create(cgroup.rpartition("/")[0], limits_of(limits))


def _prepare(
    places: Places, spec: ContainerSpec, layers: Sequence[Path], cgroup: str
) -> ContainerSpec:
    """Everything on disk before conmon; the spec with its user resolved."""
    home, bundle, rootfs = places.home(spec.id), places.bundle(spec.id), places.rootfs(spec.id)
    home.mkdir(mode=0o700)
    bundle.mkdir(mode=0o700)
    if spec.user_namespace is None:
        mount_root(layers, home, rootfs)
    else:
        # Its first process is nobody here, and has to pass these folders.
        for folder in (places.run, places.bundles, bundle):
            folder.chmod(stat.S_IMODE(folder.stat().st_mode) | 0o011)
        mount_mapped_root(layers, home, rootfs, spec.user_namespace)
    prepare_working_directory(rootfs, spec.working_dir, [mount.target for mount in spec.mounts])
    spec = with_user(spec, rootfs)
    config = build_config(spec, surroundings(spec, rootfs, cgroup))
    (bundle / "config.json").write_bytes(orjson.dumps(config))
    return spec


def limits_of(resources: Resources) -> cgroups.Limits:
    """What cgroups are told."""
    return cgroups.Limits(
        cpu_shares=resources.cpu_shares,
        cpu_quota_us=resources.cpu_quota_us,
        cpu_period_us=resources.cpu_period_us,
        memory_bytes=resources.memory_limit_bytes,
        pids=resources.pids_limit,
        cpuset=resources.cpuset,
        hugepages=resources.hugepages,
    )


def surroundings(spec: ContainerSpec, rootfs: Path, cgroup: str) -> Surroundings:
    """What the node adds to a spec."""
    privileged = spec.security.privileged
    return Surroundings(
        rootfs=str(rootfs),
        cgroup=f"/{cgroup}",
        oom_score_adj=allowed_oom_score(spec.resources.oom_score_adj),
        all_capabilities=own_capabilities() if privileged else (),
        devices=_devices(spec),
        seccomp=_load_profile(spec.security.seccomp),
        seccomp_program=default_filter(spec.security.capabilities),
    )


def _load_profile(name: str) -> Mapping[str, Any] | None:
    if name in ("default", "unconfined", ""):
        return None
    try:
        profile: Mapping[str, Any] = orjson.loads(Path(name).read_bytes())
    except (OSError, orjson.JSONDecodeError) as error:
        raise RuntimeFailure(f"failed to load seccomp profile {name!r}: {error}") from error
    return profile


def allowed_oom_score(wanted: int) -> int | None:
    """`wanted`, or the lowest the kernel lets us set: only CAP_SYS_RESOURCE may go below one's
    own. crun refuses the whole container when the write fails. None when nothing changes."""
    own = int(Path("/proc/self/oom_score_adj").read_text())
    if wanted < own and not _may_lower_oom_score():
        return None
    return None if wanted == own else wanted


@cache
def _may_lower_oom_score() -> bool:
    allowed = bool(_effective_capabilities() >> _CAP_SYS_RESOURCE & 1)
    if not allowed:
        log.warning("without CAP_SYS_RESOURCE containers keep the node's oom_score_adj")
    return allowed


def _effective_capabilities() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            return int(line.split()[1], 16)
    return 0


@cache
def own_capabilities() -> tuple[str, ...]:
    """All this process holds, which is all a privileged container can get."""
    held = _effective_capabilities()
    return tuple(name for bit, name in enumerate(_CAPABILITIES) if held >> bit & 1)


def host_devices() -> Sequence[Mapping[str, Any]]:
    """The host's device nodes below /dev, as OCI `linux.devices`."""
    found: list[Mapping[str, Any]] = []
    skipped = ("/dev/pts", "/dev/shm", "/dev/mqueue", "/dev/fd", "/dev/console", "/dev/ptmx")
    for directory, names, files in os.walk("/dev"):
        names[:] = [name for name in names if f"{directory}/{name}" not in skipped]
        for name in files:
            path = f"{directory}/{name}"
            if path in skipped:
                continue
            info = os.lstat(path)
            if stat.S_ISCHR(info.st_mode) or stat.S_ISBLK(info.st_mode):
                found.append(_device(path, info))
    return found


def _devices(spec: ContainerSpec) -> Sequence[Mapping[str, Any]]:
    """The host's for a privileged container, and the spec's in their place where paths are the
    same. Raises RuntimeFailure."""
    host = host_devices() if spec.security.privileged else ()
    return [*{item["path"]: item for item in (*host, *_given_devices(spec))}.values()]


def _given_devices(spec: ContainerSpec) -> Iterator[Mapping[str, Any]]:
    """Those of the spec. Raises RuntimeFailure for what is no device."""
    for device in spec.devices:
        try:
            info = os.stat(device.source)
        except OSError as error:
            raise RuntimeFailure(f"device {device.source}: {error.strerror}") from error
        if not (stat.S_ISBLK(info.st_mode) or stat.S_ISCHR(info.st_mode)):
            raise RuntimeFailure(f"{device.source} is not a device node")
        yield _device(device.target, info)


def _device(path: str, info: os.stat_result) -> Mapping[str, Any]:
    return {
        "path": path,
        "type": "c" if stat.S_ISCHR(info.st_mode) else "b",
        "major": os.major(info.st_rdev),
        "minor": os.minor(info.st_rdev),
        "fileMode": stat.S_IMODE(info.st_mode),
        "uid": info.st_uid,
        "gid": info.st_gid,
    }


# By number, as in linux/capability.h.
_CAPABILITIES = tuple(
    f"CAP_{name}"
    for name in (
        "CHOWN",
        "DAC_OVERRIDE",
        "DAC_READ_SEARCH",
        "FOWNER",
        "FSETID",
        "KILL",
        "SETGID",
        "SETUID",
        "SETPCAP",
        "LINUX_IMMUTABLE",
        "NET_BIND_SERVICE",
        "NET_BROADCAST",
        "NET_ADMIN",
        "NET_RAW",
        "IPC_LOCK",
        "IPC_OWNER",
        "SYS_MODULE",
        "SYS_RAWIO",
        "SYS_CHROOT",
        "SYS_PTRACE",
        "SYS_PACCT",
        "SYS_ADMIN",
        "SYS_BOOT",
        "SYS_NICE",
        "SYS_RESOURCE",
        "SYS_TIME",
        "SYS_TTY_CONFIG",
        "MKNOD",
        "LEASE",
        "AUDIT_WRITE",
        "AUDIT_CONTROL",
        "SETFCAP",
        "MAC_OVERRIDE",
        "MAC_ADMIN",
        "SYSLOG",
        "WAKE_ALARM",
        "BLOCK_SUSPEND",
        "AUDIT_READ",
        "PERFMON",
        "BPF",
        "CHECKPOINT_RESTORE",
    )
)
