"""Where a runtime keeps things: one table of paths. Nothing here touches the disk."""

from __future__ import annotations

from pathlib import Path

from msgspec import Struct


class Places(Struct, frozen=True):
    """`data` survives a reboot and holds what containers write; `run` does not."""

    data: Path
    run: Path
    cgroup_root: str
    """The cluster's cgroup, e.g. "sampan-default"."""
    crun: str = "/usr/bin/crun"
    conmon: str = "/usr/bin/conmon"

    @property
    def exits(self) -> Path:
        """conmon writes one file per container that has ended: its exit code."""
        return self.run / "exits"

    @property
    def crun_root(self) -> Path:
        return self.run / "crun"

    @property
    def containers(self) -> Path:
        return self.data / "containers"

    @property
    def bundles(self) -> Path:
        return self.run / "containers"

    def home(self, container_id: str) -> Path:
        """The record and the writable layer."""
        return self.containers / container_id

    def upper(self, container_id: str) -> Path:
        """The writable layer."""
        return self.home(container_id) / "upper"

    def record(self, container_id: str) -> Path:
        return self.home(container_id) / "record.json"

    def bundle(self, container_id: str) -> Path:
        """config.json, conmon's sockets and pid files, and the mounted root."""
        return self.bundles / container_id

    def rootfs(self, container_id: str) -> Path:
        return self.bundle(container_id) / "rootfs"

    def exit_file(self, container_id: str) -> Path:
        return self.exits / container_id

    def cgroup(self, parent: str, container_id: str) -> str:
        return "/".join(
            part for part in (self.cgroup_root, parent.strip("/"), container_id) if part
        )

    def crun_command(self, *args: str) -> tuple[str, ...]:
        return (self.crun, "--root", str(self.crun_root), *args)
