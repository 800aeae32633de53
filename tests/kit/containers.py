"""Real containers in a node's mount namespace of their own, whichever runtime makes them."""

from __future__ import annotations

import asyncio
import secrets
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sampan.linux import cgroups, mounts
from sampan.linux.namespaces import enter_node_namespace, remove_node_namespace
from sampan.runtime.interface import Container, ContainerSpec, Runtime


@contextmanager
def node_namespace(place: Path, cgroup_root: str) -> Iterator[None]:
    """At the end nothing may be left of all containers: no mount, no process, no cgroup."""
    enter_node_namespace(place / "run")
    try:
        yield
    finally:
        remove_node_namespace(place / "run")
    assert not mounted_below(place)
    left = subprocess.run(["pgrep", "-f", str(place)], capture_output=True, text=True)
    assert left.stdout == ""
    for top in cgroups.hierarchies().directories(cgroup_root):
        assert not top.exists()


def mounted_below(place: Path) -> list[mounts.MountPoint]:
    """Others may mount and unmount elsewhere meanwhile: clusters of tests that run beside."""
    return [item for item in mounts.list_mounts() if item.target.is_relative_to(place)]


def container_spec(image: str, args: Sequence[str], logs: Path, **fields: Any) -> ContainerSpec:
    """A new container of this image's id; its log is `logs`/ID.log."""
    number = secrets.token_hex(32)
    values: dict[str, Any] = {
        "env": [("GREETING", "hello")],
        "hostname": "box",
        "log_path": logs / f"{number}.log",
    }
    return ContainerSpec(id=number, image=image, args=args, **{**values, **fields})


async def next_exit(runtime: Runtime) -> Container:
    """The next container that ends."""
    async with asyncio.timeout(20):
        async for container in runtime.exits():
            return container
    raise AssertionError("unreachable")
