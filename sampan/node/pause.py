"""What holds a pod's PID namespace (shareProcessNamespace): its first process, which only waits.

A namespace ends with its first process, so containers that share one need a process that outlives
them all. It runs as a container of its own, under conmon as the others, and is found again by its
annotations. Its image is made here: one file, the smallest program that ignores SIGCHLD (so that
orphans are reaped by the kernel) and sleeps. Only pods that ask for it pay for it.
"""

from __future__ import annotations

import asyncio
import secrets
import struct
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from sampan.runtime.build import File, ImageConfig, build_archive
from sampan.runtime.interface import (
    Container,
    ContainerSpec,
    Image,
    Resources,
    RuntimeFailure,
    Security,
    State,
)
from sampan.runtime.manifest import machine

from .hosts import hostname
from .quality import MIN_SHARES, cgroup_parent
from .translate import CONTAINER_NAME, POD_NAME, POD_NAMESPACE, POD_UID

if TYPE_CHECKING:
    from sampan.api.errors import Object

    from .parts import Parts

IMAGE = "sampan.local/pause:1"
NOBODY = 65535
"""Upstream's pause runs as this user."""
# rt_sigaction(SIGCHLD, {SIG_IGN}, NULL, 8); for (;;) pause(); and the struct sigaction.
PROGRAM = bytes.fromhex(
    "b80d000000 bf11000000 488d3517000000 31d2 41ba08000000 0f05 b822000000 0f05 ebf7 00000000"
) + struct.pack("<4Q", 1, 0, 0, 0)
BASE = 0x400000
HEADERS_BYTES = 64 + 56


def program() -> bytes:
    """A static ELF file for x86-64: one header, one segment, the code."""
    size = HEADERS_BYTES + len(PROGRAM)
    entry = BASE + HEADERS_BYTES
    ident = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    head = struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, entry, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, BASE, BASE, size, size, 0x1000)
    return ident + head + segment + PROGRAM


def pause_archive() -> bytes:
    """The image of such a process."""
    return build_archive({"pause": File(program())}, ImageConfig(entrypoint=("/pause",)), IMAGE)


def holds_namespace(container: Container) -> bool:
    """Whether it is such a process, rather than a container of its pod."""
    return not container.annotations.get(CONTAINER_NAME)


def find_pause(parts: Parts, uid: str) -> Container | None:
    """The running one of a pod."""
    return next(
        (
            item
            for item in parts.runtime.list()
            if item.annotations.get(POD_UID) == uid
            and holds_namespace(item)
            and item.state == State.RUNNING
        ),
        None,
    )


async def ensure_pause(parts: Parts, pod: Object, network: str) -> None:
    """Start it unless it runs, in the pod's network namespace. Raises RuntimeFailure, OSError."""
    meta = pod["metadata"]
    if find_pause(parts, meta["uid"]) is not None:
        return
    await remove_pause(parts, meta["uid"])
    spec = ContainerSpec(
        id=secrets.token_hex(32),
        image=(await _image(parts)).id,
        args=("/pause",),
        env=(),
        hostname=hostname(pod, parts.config.cluster_domain) if network else "",
        network_namespace=network,
        cgroup_parent=cgroup_parent(pod),
        resources=Resources(cpu_shares=MIN_SHARES),
        security=Security(uid=NOBODY, gid=NOBODY, no_new_privileges=True, read_only_root=True),
        log_path=parts.volumes.directory(meta["uid"]) / "pause.log",
        annotations={
            POD_UID: meta["uid"],
            POD_NAME: meta["name"],
            POD_NAMESPACE: meta["namespace"],
        },
    )
    made = await parts.runtime.create(spec)
    await parts.runtime.start(made.id)


async def remove_pause(parts: Parts, uid: str) -> None:
    """Everything in its namespace ends with it."""
    for item in parts.runtime.list():
        if item.annotations.get(POD_UID) == uid and holds_namespace(item):
            await parts.runtime.delete(item.id)


async def _image(parts: Parts) -> Image:
    found = parts.images.find(IMAGE)
    if found is not None:
        return found
    if machine() != "amd64":
        raise RuntimeFailure(f"shareProcessNamespace needs a node of amd64, not {machine()}")
    data = pause_archive()
    with tempfile.TemporaryDirectory() as folder:
        archive = Path(folder) / "pause.tar"
        await asyncio.to_thread(archive.write_bytes, data)
        return (await parts.images.load(archive))[0]
