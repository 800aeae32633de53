"""Control groups: make, limit, measure, kill, remove. Both v1 (also hybrid) and v2.

A group is named by its path below the hierarchies' roots, e.g. "sampan-default/kubepods/podX".
On v1 it is one directory in each controller's hierarchy; on v2 it is one directory. Errors are
OSError with the path; a group that is gone is fine to remove, kill or measure.
"""

from __future__ import annotations

import errno
import os
import shutil
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path

from msgspec import Struct

from .mounts import list_mounts

ROOT = Path("/sys/fs/cgroup")

# Kernel bounds of cpu.shares and cpu.weight.
_SHARES_MIN, _SHARES_MAX = 2, 262_144
# How often kill and remove go through a group whose processes keep forking or end slowly.
_KILL_ROUNDS = 100
# A killed process leaves its cgroup when it is reaped; nothing tells when that has happened.
_REMOVE_TRIES, _REMOVE_PAUSE_S = 200, 0.01
# v1 reports "no limit" as the largest page-aligned number.
_UNLIMITED = 1 << 60
_TICK_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")


class Hierarchies(Struct, frozen=True):
    """Where controllers are mounted: one directory for all on v2, one for each on v1."""

    v2: bool
    controllers: Mapping[str, Path]

    def directories(self, group: str) -> Sequence[Path]:
        """The group's directories, each hierarchy once."""
        name = group.strip("/")
        return [root / name for root in dict.fromkeys(self.controllers.values())]

    def directory(self, controller: str, group: str) -> Path | None:
        root = self.controllers.get(controller)
        return None if root is None else root / group.strip("/")


class Limits(Struct, frozen=True):
    """Of a group; 0 leaves the kernel's default (no limit)."""

    cpu_shares: int = 0
    """v1 scale; translated for v2."""
    cpu_quota_us: int = 0
    cpu_period_us: int = 100_000
    memory_bytes: int = 0
    pids: int = 0
    cpuset: str = ""
    hugepages: Sequence[tuple[str, int]] = ()


class Processor(Struct, frozen=True):
    """How a group's time was spent, what it may have, and how often that was not enough."""

    user_ns: int = 0
    system_ns: int = 0
    quota_us: int = 0
    """0 is no limit; nothing is ever throttled then."""
    period_us: int = 100_000
    shares: int = 0
    """v1 scale."""
    periods: int = 0
    throttled_periods: int = 0
    throttled_ns: int = 0


class Usage(Struct, frozen=True):
    """What a group and all below it use now."""

    cpu_ns: int = 0
    memory_bytes: int = 0
    """Page cache included."""
    working_set_bytes: int = 0
    """Without inactive file pages, as upstream's eviction counts it."""
    rss_bytes: int = 0
    memory_limit_bytes: int = 0
    pids: int = 0
    cache_bytes: int = 0
    """Of files."""
    mapped_bytes: int = 0
    swap_bytes: int = 0
    oom_kills: int = 0
    processor: Processor = Processor()


@cache
def hierarchies() -> Hierarchies:
    """Read once: hierarchies do not change while a node runs."""
    v1: dict[str, Path] = {}
    for point in list_mounts():
        if point.kind == "cgroup2" and point.target == ROOT:
            names = (ROOT / "cgroup.controllers").read_text().split()
            return Hierarchies(True, dict.fromkeys(["", *names], ROOT))
        if point.kind == "cgroup":
            for option in point.super_options.split(","):
                name = option.removeprefix("name=")
                if option not in _NOT_CONTROLLERS:
                    v1.setdefault(name, point.target)
    return Hierarchies(False, v1)


_NOT_CONTROLLERS = frozenset(
    ("rw", "ro", "xattr", "clone_children", "noprefix", "none", "all", "favordynmods")
)


def mode() -> str:
    """ "v2", "v1", or "hybrid" when an empty v2 hierarchy is mounted beside v1."""
    if hierarchies().v2:
        return "v2"
    beside = any(point.kind == "cgroup2" for point in list_mounts())
    return "hybrid" if beside else "v1"


def pin(group: str, cpus: str) -> None:
    """The processors the group's tasks may run on, "0,2-3"."""
    directory = hierarchies().directory("cpuset", group)
    if directory is not None:
        _write(directory / "cpuset.cpus", cpus)


_OWN = ("cpu", "memory", "pids")
"""Controllers in which groups are made here; the container runtime makes the rest."""


NO_LIMITS = Limits()


def create(group: str, limits: Limits = NO_LIMITS) -> None:
    """Make the group with its parents, and set its limits; one that is there is set anew."""
    table = hierarchies()
    if table.v2:
        _create_v2(group)
    else:
        for controller in _OWN:
            directory = table.directory(controller, group)
            if directory is not None:
                directory.mkdir(parents=True, exist_ok=True)
    set_limits(group, limits)


def _create_v2(group: str) -> None:
    """A child has a controller only when every directory above hands it down."""
    directory = ROOT
    for part in group.strip("/").split("/"):
        for controller in _OWN:
            if controller in hierarchies().controllers:
                _write(directory / "cgroup.subtree_control", f"+{controller}")
        directory = directory / part
        directory.mkdir(exist_ok=True)


def set_limits(group: str, limits: Limits) -> None:
    """A controller in which the group is not yet there is passed over."""
    for controller, name, value in _settings(limits, v2=hierarchies().v2):
        directory = hierarchies().directory(controller, group)
        if directory is not None and (controller in _OWN or directory.is_dir()):
            _write(directory / name, value)


def _settings(limits: Limits, *, v2: bool) -> Iterator[tuple[str, str, str]]:
    """The files to write: (controller, file, value)."""
    if limits.cpuset:
        yield "cpuset", "cpuset.cpus", limits.cpuset
    for size, amount in limits.hugepages:
        name = "max" if v2 else "limit_in_bytes"
        yield "hugetlb", f"hugetlb.{size}.{name}", str(amount)
    if v2:
        if limits.cpu_shares:
            yield "cpu", "cpu.weight", str(weight_of_shares(limits.cpu_shares))
        quota = str(limits.cpu_quota_us) if limits.cpu_quota_us > 0 else "max"
        yield "cpu", "cpu.max", f"{quota} {limits.cpu_period_us}"
        yield "memory", "memory.max", str(limits.memory_bytes or "max")
        yield "pids", "pids.max", str(limits.pids or "max")
        return
    if limits.cpu_shares:
        yield "cpu", "cpu.shares", str(min(max(limits.cpu_shares, _SHARES_MIN), _SHARES_MAX))
    yield "cpu", "cpu.cfs_period_us", str(limits.cpu_period_us)
    yield "cpu", "cpu.cfs_quota_us", str(limits.cpu_quota_us or -1)
    yield "memory", "memory.limit_in_bytes", str(limits.memory_bytes or -1)
    yield "pids", "pids.max", str(limits.pids or "max")


def weight_of_shares(shares: int) -> int:
    """cpu.shares (2..262144) to cpu.weight (1..10000), on the line the kubelet uses."""
    shares = min(max(shares, _SHARES_MIN), _SHARES_MAX)
    return 1 + (shares - _SHARES_MIN) * 9999 // (_SHARES_MAX - _SHARES_MIN)


def shares_of_weight(weight: int) -> int:
    """The other way round, as cadvisor tells it; 0 stays 0."""
    return _SHARES_MIN + (weight - 1) * (_SHARES_MAX - _SHARES_MIN) // 9999 if weight else 0


def usage(group: str) -> Usage:
    """Zeros for a group that is gone."""
    table = hierarchies()
    memory = table.directory("memory", group)
    pids = table.directory("pids", group)
    stat = _read_table(memory / "memory.stat") if memory else {}
    if table.v2:
        used = _read_number(memory / "memory.current") if memory else 0
        limit = _read_number(memory / "memory.max") if memory else 0
        cpu_ns = _read_table(ROOT / group.strip("/") / "cpu.stat").get("usage_usec", 0) * 1000
        inactive, rss = stat.get("inactive_file", 0), stat.get("anon", 0)
        cache, mapped = stat.get("file", 0), stat.get("file_mapped", 0)
        swap = _read_number(memory / "memory.swap.current") if memory else 0
    else:
        cpu = table.directory("cpuacct", group)
        cpu_ns = _read_number(cpu / "cpuacct.usage") if cpu else 0
        used = _read_number(memory / "memory.usage_in_bytes") if memory else 0
        limit = _read_number(memory / "memory.limit_in_bytes") if memory else 0
        inactive, rss = stat.get("total_inactive_file", 0), stat.get("total_rss", 0)
        cache, mapped = stat.get("total_cache", 0), stat.get("total_mapped_file", 0)
        swap = stat.get("total_swap", 0)
    return Usage(
        cpu_ns=cpu_ns,
        memory_bytes=used,
        working_set_bytes=max(0, used - inactive),
        rss_bytes=rss,
        memory_limit_bytes=limit if limit < _UNLIMITED else 0,
        pids=_read_number(pids / "pids.current") if pids else 0,
        cache_bytes=cache,
        mapped_bytes=mapped,
        swap_bytes=swap,
        oom_kills=oom_kills(group),
        processor=processor(group),
    )


def processor(group: str) -> Processor:
    """Zeros for a group that is gone."""
    table = hierarchies()
    place = table.directory("cpu", group)
    if place is None:
        return Processor()
    stat = _read_table(place / "cpu.stat")
    if table.v2:
        user, system = stat.get("user_usec", 0) * 1000, stat.get("system_usec", 0) * 1000
        quota, _, period = _read_words(place / "cpu.max").partition(" ")
        shares = shares_of_weight(_read_number(place / "cpu.weight"))
        throttled = stat.get("throttled_usec", 0) * 1000
    else:
        spent = _read_table((table.directory("cpuacct", group) or place) / "cpuacct.stat")
        user, system = spent.get("user", 0) * _TICK_NS, spent.get("system", 0) * _TICK_NS
        quota, period = (_read_words(place / f"cpu.cfs_{name}_us") for name in ("quota", "period"))
        shares = _read_number(place / "cpu.shares")
        throttled = stat.get("throttled_time", 0)
    return Processor(
        user_ns=user,
        system_ns=system,
        # "max" and -1 are no limit.
        quota_us=int(quota) if quota.isdigit() else 0,
        period_us=int(period or 100_000),
        shares=shares,
        periods=stat.get("nr_periods", 0),
        throttled_periods=stat.get("nr_throttled", 0),
        throttled_ns=throttled,
    )


def oom_kills(group: str) -> int:
    """How many processes of the group the kernel has killed for want of memory."""
    directory = hierarchies().directory("memory", group)
    if directory is None:
        return 0
    name = "memory.events.local" if hierarchies().v2 else "memory.oom_control"
    return _read_table(directory / name).get("oom_kill", 0)


def processes(group: str) -> Sequence[int]:
    """All processes in the group and below."""
    found: dict[int, None] = {}
    for top in hierarchies().directories(group):
        for directory in _walk(top):
            found.update(dict.fromkeys(_pids(directory)))
    return list(found)


def attach(group: str, pid: int) -> None:
    """Move a process into the group, in every hierarchy where the group exists."""
    for directory in hierarchies().directories(group):
        if directory.is_dir():
            _write(directory / "cgroup.procs", str(pid))


def warm() -> None:
    """Pay now, off the critical path, for the first move of a process in a while.

    The kernel waits one RCU grace period (10 to 20 ms) before the first write to any cgroup.procs
    and is quick for the next ones; a write that moves nothing starts it. Blocks: call it in a
    thread. Errors do not matter.
    """
    table = hierarchies()
    root = table.controllers.get("cpu") or next(iter(table.controllers.values()), None)
    if root is None:
        return
    try:
        own = _own_group("" if table.v2 else "cpu")
        (root / own.strip("/") / "cgroup.procs").write_text("0")
    except OSError:
        pass


def _own_group(controller: str) -> str:
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, names, path = line.split(":", 2)
        if controller in names.split(","):
            return path
    return "/"


def kill(group: str) -> None:
    """SIGKILL everything in the group and below, until nothing is left to signal."""
    if hierarchies().v2:
        try:
            (ROOT / group.strip("/") / "cgroup.kill").write_text("1")
            return
        except FileNotFoundError:
            pass
    seen: set[int] = set()
    for _ in range(_KILL_ROUNDS):
        fresh = set(processes(group)) - seen
        if not fresh:
            return
        for pid in fresh:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        seen |= fresh


def remove(group: str) -> bool:
    """Remove the group and all below it. False when processes still hold it (EBUSY)."""
    done = True
    if not hierarchies().v2:
        # Where the empty v2 hierarchy is hidden, crun makes plain files in its place.
        shutil.rmtree(ROOT / "unified" / group.strip("/"), ignore_errors=True)
    for top in hierarchies().directories(group):
        for directory in _walk(top):
            try:
                directory.rmdir()
            except FileNotFoundError:
                pass
            except OSError as error:
                if error.errno not in (errno.EBUSY, errno.ENOTEMPTY):
                    raise
                done = False
    return done


def prune(group: str) -> None:
    """Remove the group's own directories where nothing is below them any more."""
    for directory in hierarchies().directories(group):
        try:
            directory.rmdir()
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.EBUSY, errno.ENOTEMPTY):
                raise
    if not hierarchies().v2:
        shutil.rmtree(ROOT / "unified" / group.strip("/"), ignore_errors=True)


def named(root: str, prefix: str) -> set[str]:
    """The groups below `root` whose own name begins so, and that stand in no other such group."""
    found: set[str] = set()
    for top in hierarchies().directories(root):
        for directory in _walk(top):
            parts = directory.relative_to(top).parts
            if parts and parts[-1].startswith(prefix):
                first = next(at for at, part in enumerate(parts) if part.startswith(prefix))
                found.add("/".join((root, *parts[: first + 1])))
    return found


def remove_when_empty(group: str) -> bool:
    """As `remove`, but gives processes that were just killed time to go. Blocks up to 2 s."""
    for _ in range(_REMOVE_TRIES):
        if remove(group):
            return True
        time.sleep(_REMOVE_PAUSE_S)
    return False


def _walk(top: Path) -> Iterator[Path]:
    """Directories below `top`, deepest first, `top` last."""
    try:
        with os.scandir(top) as entries:
            names = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    except FileNotFoundError:
        return
    for name in names:
        yield from _walk(top / name)
    yield top


def _pids(directory: Path) -> Sequence[int]:
    try:
        return [int(line) for line in (directory / "cgroup.procs").read_text().split()]
    except OSError:
        return ()


def _write(path: Path, value: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, value.encode())
    except OSError as error:
        raise OSError(error.errno, os.strerror(error.errno or 0), str(path)) from error
    finally:
        os.close(fd)


def _read_words(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def _read_number(path: Path) -> int:
    text = _read_words(path)
    return 0 if text in ("max", "") else int(text)


def _read_table(path: Path) -> Mapping[str, int]:
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return {}
    pairs = (line.split(" ") for line in lines)
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2}
