"""What this machine is: read from /proc, /etc and the file system. Cheap enough to repeat."""

from __future__ import annotations

import os
import platform
import uuid
from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct

MEMINFO = "/proc/meminfo"
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "riscv64": "riscv64"}


class MachineFacts(Struct, frozen=True):
    """Constant while the machine runs."""

    cpus: int
    memory_bytes: int
    architecture: str
    kernel: str
    os_image: str
    machine_id: str
    boot_id: str
    system_uuid: str
    hugepages: Mapping[str, int]
    """Resource name ("hugepages-2Mi") -> bytes."""
    pids: int = 0
    """How many processes there may be."""


class Disk(Struct, frozen=True):
    """One file system."""

    capacity_bytes: int = 0
    available_bytes: int = 0
    inodes: int = 0
    inodes_free: int = 0


def machine_facts() -> MachineFacts:
    uname = os.uname()
    machine_id = _read("/etc/machine-id") or uuid.UUID(int=uuid.getnode()).hex
    return MachineFacts(
        cpus=len(os.sched_getaffinity(0)),
        memory_bytes=meminfo(_read(MEMINFO)).get("MemTotal", 0),
        architecture=ARCHITECTURES.get(uname.machine, uname.machine),
        kernel=uname.release,
        os_image=_os_image(),
        machine_id=machine_id,
        boot_id=_read("/proc/sys/kernel/random/boot_id"),
        system_uuid=_read("/sys/class/dmi/id/product_uuid") or machine_id,
        hugepages=_hugepages(),
        pids=process_figures()[1],
    )


def read_disk(path: Path) -> Disk:
    """The file system a path is on. Raises OSError."""
    stat = os.statvfs(path)
    return Disk(
        stat.f_frsize * stat.f_blocks, stat.f_frsize * stat.f_bavail, stat.f_files, stat.f_ffree
    )


def memory_figures() -> tuple[int, int]:
    """(available, in all): what nobody works with, as kubelet counts it: free memory, and cached
    files that were not used lately."""
    found = meminfo(_read(MEMINFO))
    return found.get("MemFree", 0) + found.get("Inactive(file)", 0), found.get("MemTotal", 0)


def process_figures() -> tuple[int, int]:
    """(there are, there may be), threads counted each."""
    load = _read("/proc/loadavg").split()
    limits = (_read("/proc/sys/kernel/pid_max"), _read("/proc/sys/kernel/threads-max"))
    there_are = int(load[3].partition("/")[2]) if len(load) > 3 else 0
    return there_are, min(int(text or 0) for text in limits)


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def meminfo(text: str) -> dict[str, int]:
    """The lines of /proc/meminfo that are sizes, in bytes."""
    out = {}
    for line in text.splitlines():
        name, _, rest = line.partition(":")
        words = rest.split()
        if len(words) == 2:
            out[name] = int(words[0]) * 1024
    return out


def _os_image() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", "Linux")
    except OSError:
        return "Linux"


def _hugepages() -> dict[str, int]:
    out = {}
    try:
        entries = list(os.scandir("/sys/kernel/mm/hugepages"))
    except OSError:
        return {}
    for entry in entries:
        size = int(entry.name.removeprefix("hugepages-").removesuffix("kB")) * 1024
        count = int(_read(f"{entry.path}/nr_hugepages") or 0)
        unit = f"{size >> 30}Gi" if size >= 1 << 30 else f"{size >> 20}Mi"
        out[f"hugepages-{unit}"] = size * count
    return dict(sorted(out.items()))
