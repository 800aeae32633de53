"""What a pod's containers share besides volumes: one IPC namespace and one /dev/shm."""

from __future__ import annotations

from pathlib import Path

from msgspec import Struct

from sampan.api.errors import Object

from .kernel import Kernel

SHM_BYTES = 64 << 20
"""Of /dev/shm, as under containerd."""


class SharedIpc(Struct, frozen=True):
    """Where both are mounted."""

    namespace: Path
    memory: Path


def shares_ipc(pod: Object) -> bool:
    """Whether there is anybody to share with: a lone container has its own, and its pod is spared
    the mounts."""
    spec = pod["spec"]
    count = len(spec["containers"]) + len(spec.get("initContainers") or ())
    return count > 1 and not spec.get("hostIPC")


def share_ipc(pod_folder: Path, kernel: Kernel) -> SharedIpc:
    """Both, made or found again. Raises OSError. To be called in a thread: making a namespace
    takes the thread there."""
    folder = pod_folder / "ipc"
    shared = SharedIpc(folder / "namespace", folder / "shm")
    # Only an agent before this one can have mounted them.
    mounted = kernel.mounted() if folder.exists() else ()
    shared.memory.mkdir(parents=True, exist_ok=True)
    if shared.memory not in mounted:
        kernel.tmpfs(shared.memory, SHM_BYTES, 0o1777)
    if shared.namespace not in mounted:
        kernel.pin_ipc(shared.namespace)
    return shared
