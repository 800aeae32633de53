"""Containers and images as the node agent sees them. No pods here: OCI words only.

Two runtimes stand behind `Runtime`: `crun` under `conmon` (runtime/oci.py), and a CRI endpoint
(runtime/cri).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from msgspec import Struct, field
from msgspec.structs import replace

from ..linux.cgroups import Usage

if TYPE_CHECKING:
    from ..linux.blockio import Transfers


class RuntimeFailure(Exception):
    """A container or image operation failed; the text is for the pod's status."""


class ImageNotFound(RuntimeFailure):
    """Neither in the store nor in the registry."""


class ImageDamaged(RuntimeFailure):
    """An archive, manifest or layer that is not what it says (digest, format, escaping paths)."""


class RegistryFailure(RuntimeFailure):
    """The registry could not be reached or refused."""


class Credentials(Struct, frozen=True):
    """For one registry; never sent to another host."""

    username: str = ""
    password: str = ""
    token: str = ""
    """A bearer token for the registry itself."""
    identity_token: str = ""
    """For the registry's token server, in place of a password."""


class Image(Struct, frozen=True):
    """An image that is present with all its layers."""

    id: str
    """Digest of the config, "sha256:...": what a container's imageID is."""
    tags: Sequence[str]
    """Normalised references, e.g. "docker.io/library/nginx:1.25"."""
    digests: Sequence[str]
    """e.g. "docker.io/library/nginx@sha256:..."."""
    size_bytes: int
    entrypoint: Sequence[str] = ()
    command: Sequence[str] = ()
    env: Sequence[str] = ()
    """"NAME=value" lines."""
    working_dir: str = ""
    user: str = ""
    stop_signal: str = ""
    pinned: bool = False
    """Loaded from a file and still named: no registry could give it again."""
    added_at: float = 0.0
    """When it came (again), in seconds since the epoch."""

    def given(self, names: Collection[str]) -> Image:
        """The image with only these of its tags: those that whoever brought it gave it."""
        return replace(self, tags=[tag for tag in self.tags if tag in names])


class Images(Protocol):
    """The local image store. Safe for several processes at once (files and atomic renames)."""

    def find(self, reference: str) -> Image | None:
        """By any reference a user may write: tag, digest, id, short name."""
        ...

    def list(self) -> Sequence[Image]: ...

    async def open_layers(self, image_id: str) -> Sequence[Path]:
        """The directories of an image, uppermost first, which stay as long as it does. Raises
        ImageNotFound and RuntimeFailure."""
        ...

    async def load(self, archive: Path) -> Sequence[Image]:
        """Import a docker or OCI archive (tar, tar.gz). All or nothing; each image with the tags
        that the archive gives it, not with others it has here. Raises ImageDamaged."""
        ...

    async def pull(self, reference: str, credentials: Credentials | None = None) -> Image:
        """Fetch from the registry, layers in parallel, digests checked. Concurrent pulls of one
        reference share the work. Raises ImageNotFound, ImageDamaged, RegistryFailure."""
        ...

    async def remove(self, reference: str) -> None: ...


class Mount(Struct, frozen=True):
    """One mount of a container (OCI mount, or a bind when `source` is a path)."""

    target: str
    source: str = ""
    kind: str = "bind"
    options: Sequence[str] = ()
    """e.g. ("rbind", "ro", "rslave")."""


class Device(Struct, frozen=True):
    """A device node of the machine's that a container is given."""

    target: str
    """Where the container finds it."""
    source: str
    access: str = "mrw"
    """What of making the node, reading and writing is allowed."""


class Resources(Struct, frozen=True):
    """Limits for the container's cgroup; None or 0 means unlimited."""

    cpu_shares: int = 0
    """cgroup v1 scale (2..262144); the runtime translates for v2."""
    cpu_quota_us: int = 0
    cpu_period_us: int = 100_000
    memory_limit_bytes: int = 0
    pids_limit: int = 0
    oom_score_adj: int = 0
    cpuset: str = ""
    """Processors it may run on, "0,2-3"; "" leaves those of the group above."""
    hugepages: Sequence[tuple[str, int]] = ()
    """(page size as "2MB", bytes) of every size the machine has; 0 bytes is none."""


class Security(Struct, frozen=True):
    user: str = ""
    """"user[:group]" in numbers or names of the image's own /etc/passwd and /etc/group; when not
    empty it stands before `uid` and `gid`, which repeat it where it is numeric."""
    uid: int = 0
    gid: int = 0
    supplemental_gids: Sequence[int] = ()
    capabilities: Sequence[str] = ()
    """Effective, permitted and bounding set, e.g. "CAP_CHOWN"."""
    privileged: bool = False
    no_new_privileges: bool = False
    read_only_root: bool = False
    seccomp: str = "default"
    """"default", "unconfined", or the path of a profile on this node."""
    masked_paths: bool = True
    image_groups: bool = True
    """The groups the image's /etc/group gives the user come too."""
    apparmor: str = ""
    """Name of a loaded profile; "" leaves the process unconfined by AppArmor."""


class ContainerSpec(Struct, frozen=True):
    """Everything needed to make a container; the runtime adds rootfs, /proc, /sys, /dev."""

    id: str
    """64 hex digits, made by the caller."""
    image: str
    """Image id ("sha256:...") that `Images.find` knows."""
    args: Sequence[str]
    env: Sequence[tuple[str, str]]
    working_dir: str = "/"
    hostname: str = ""
    mounts: Sequence[Mount] = ()
    devices: Sequence[Device] = ()
    network_namespace: str = ""
    """Path of the pod's network namespace; "" shares the node's."""
    share_pid_with: int = 0
    """Join the PID namespace of this process; 0 makes a new one; -1 shares the node's."""
    share_ipc_with: int = 0
    """As `share_pid_with`, for the IPC namespace."""
    ipc_namespace: str = ""
    """Path of a pinned IPC namespace to join instead."""
    cgroup_parent: str = ""
    """Relative to the cluster's cgroup root, e.g. "kubepods/burstable/pod<uid>"."""
    resources: Resources = field(default_factory=Resources)
    group: Resources | None = None
    """Limits of `cgroup_parent` itself, set when its first container is made."""
    sysctls: Mapping[str, str] = field(default_factory=dict)
    """Kernel parameters of its namespaces, by dotted name."""
    user_namespace: tuple[int, int] | None = None
    """A user namespace of its own: (first id on the node, how many); ids in it start at 0."""
    security: Security = field(default_factory=Security)
    log_path: Path = Path()
    """CRI log format: "<RFC3339Nano> <stdout|stderr> <F|P> <text>"."""
    tty: bool = False
    stdin: bool = False
    stdin_once: bool = False
    """Close the container's input when the first client that attached to it leaves."""
    hooks: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    """OCI hooks by their name, as config.json has them."""
    annotations: Mapping[str, str] = field(default_factory=dict)
    """Kept with the container and given back by `list`, so that an agent finds its own again."""


class State(StrEnum):
    CREATED = "created"
    RUNNING = "running"
    EXITED = "exited"


class Container(Struct, frozen=True):
    """A container as it is now. Times are seconds since the epoch, 0 when not yet."""

    id: str
    image: str
    state: State
    pid: int
    created_at: float
    started_at: float
    finished_at: float
    exit_code: int
    oom_killed: bool
    annotations: Mapping[str, str]
    log_path: Path
    user: Sequence[int] = ()
    """Who its first process is: uid, gid, and the other groups."""
    runtime: str = "crun"
    """What runs it: the beginning of its containerID in a pod's status."""
    reason: str = ""
    """Of its end, where that says more than the exit code: Unknown."""
    rebooted: bool = False
    """It is of before the machine was last started: what its pod stood on is gone too."""


class ExecStreams(Protocol):
    """A running exec session: the caller pumps bytes and waits for the exit code."""

    async def read(self) -> tuple[int, bytes] | None:
        """The next output: (1, stdout) or (2, stderr); None when both have ended."""
        ...

    async def write(self, data: bytes) -> None: ...

    async def close_stdin(self) -> None: ...

    def resize(self, columns: int, rows: int) -> None: ...

    async def wait(self) -> int:
        """The exit code; 128+n for a signal n."""
        ...

    async def kill(self) -> None:
        """End the session and everything it still runs."""
        ...


class Runtime(Protocol):
    """Containers. Every call may raise RuntimeFailure."""

    async def open(self) -> None:
        """Find the containers that are already there and start watching for exits."""
        ...

    async def create(self, spec: ContainerSpec) -> Container: ...

    async def start(self, container_id: str) -> Container:
        """Raises RuntimeFailure when the command cannot be executed (with the OCI error text)."""
        ...

    async def kill(self, container_id: str, signal: int) -> None:
        """Signal the container's first process; a container that has exited is fine."""
        ...

    async def delete(self, container_id: str) -> None:
        """Remove it with its root, killing what still runs; one that is gone is fine."""
        ...

    async def exec(
        self,
        container_id: str,
        args: Sequence[str],
        *,
        tty: bool = False,
        stdin: bool = False,
    ) -> ExecStreams: ...

    async def attach(self, container_id: str) -> ExecStreams:
        """Join a running container's own streams; `wait` gives the container's exit code."""
        ...

    def reopen_log(self, container_id: str) -> None:
        """After a rotation has moved the log file away: go on in a new one. Raises RuntimeFailure
        or OSError."""
        ...

    def get(self, container_id: str) -> Container | None: ...

    def list(self) -> Sequence[Container]: ...

    def usage(self, container_id: str) -> Usage:
        """What a container uses now; zeros for one that is not there. May be called in a thread."""
        ...

    def group_usage(self, cgroup_parent: str) -> Usage:
        """What all containers with this `ContainerSpec.cgroup_parent` use now, likewise."""
        ...

    def transfers(self, cgroup: str) -> Transfers:
        """What the processes of a group have read from and written to disks, likewise; the group is
        a `ContainerSpec.cgroup_parent`, or CGROUP_PARENT/ID of a container."""
        ...

    def upper(self, container_id: str) -> Path:
        """The folder of what a container wrote over its image."""
        ...

    def limit(self, container_id: str, resources: Resources) -> None:
        """Give a running container other limits. Raises RuntimeFailure."""
        ...

    def pin(self, container_id: str, cpus: str) -> None:
        """Have a running container run on these processors only. Raises RuntimeFailure."""
        ...

    def limit_group(self, cgroup_parent: str, resources: Resources) -> None:
        """Give all containers at or below this `ContainerSpec.cgroup_parent` limits together, also
        those to come. Raises RuntimeFailure."""
        ...

    def exits(self) -> AsyncIterator[Container]:
        """Containers as they exit, also those that exited while nobody watched. One reader."""
        ...

    async def close(self) -> None:
        """Stop watching. Containers live on."""
        ...
