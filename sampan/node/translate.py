"""A pod's container to what the runtime is told: a pure function.

Everything that must be looked up (image, addresses, volumes' sources, ConfigMaps) is an input, so
that a container's whole configuration can be tested as a table.
"""

from __future__ import annotations

import posixpath
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from sampan.api.errors import Object
from sampan.runtime.interface import ContainerSpec, Device, Image, Mount

from .confinement import confine
from .environment import ConfigError, Environment, expand, variables
from .hosts import hostname
from .quality import Bounds, cgroup_parent, cgroup_resources, pod_resources
from .sysctls import wanted
from .volumes.mounted import RECURSIVE

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
TERMINATION_LOG = "/dev/termination-log"
SHM = "/dev/shm"

# Names under which the agent finds its own containers again (upstream's CRI labels).
POD_UID = "io.kubernetes.pod.uid"
POD_NAME = "io.kubernetes.pod.name"
POD_NAMESPACE = "io.kubernetes.pod.namespace"
CONTAINER_NAME = "io.kubernetes.container.name"
RESTART_COUNT = "io.kubernetes.container.restartCount"
IMAGE_NAME = "io.kubernetes.container.image"
TERMINATION_FILE = "io.kubernetes.container.terminationFile"

FILLED = frozenset(("configMap", "secret", "downwardAPI", "projected", "image"))
PROPAGATION = {"HostToContainer": "rslave", "Bidirectional": "rshared"}


class Machine(Struct, frozen=True):
    """What translation needs to know of the node."""

    bounds: Bounds
    cluster_domain: str
    seccomp_profiles: Path


class Place(Struct, frozen=True):
    """Where one attempt of a container lives."""

    id: str
    restart_count: int
    log_path: Path
    termination_file: Path
    network_namespace: str
    """"" for a pod of the host's network."""
    etc_files: Mapping[str, Path]
    """Path in the container -> file on the node: /etc/hosts, /etc/hostname, /etc/resolv.conf."""
    volumes: Mapping[tuple[str, str], Path]
    """(volume name, expanded subPath) -> its directory or file on the node."""
    devices: Mapping[str, Path] = {}
    """Volume name -> its device on the node, for volumes of mode Block."""
    pid_of_pod: int = 0
    """A process whose PID namespace to join (shareProcessNamespace)."""
    ipc_namespace: str = ""
    """Path of the IPC namespace that the pod's containers share."""
    ipc_of_pod: int = 0
    """A process whose IPC namespace to join instead (a debugging container)."""
    shared_memory: str = ""
    """What is mounted at /dev/shm; "" for a memory of the container's own."""
    cpuset: str = ""
    """Processors it may run on; "" is all."""
    user_namespace: tuple[int, int] | None = None
    """The node's ids that stand for the pod's own, from 0 on: (first, how many)."""


def container_spec(
    container: Mapping[str, Any],
    image: Image,
    around: Environment,
    place: Place,
    machine: Machine,
) -> ContainerSpec:
    """Raises ConfigError when something is missing or refused."""
    pod = around.facts.pod
    spec = pod["spec"]
    own = variables(container, around)
    name = "" if spec.get("hostNetwork") else hostname(pod, machine.cluster_domain)
    return ContainerSpec(
        id=place.id,
        image=image.id,
        args=_arguments(container, image, own),
        env=_environment(container, image, own, name),
        working_dir=container.get("workingDir") or image.working_dir or "/",
        hostname=name,
        mounts=_mounts(container, own, place, read_only_volumes(spec)),
        devices=_devices(container, place, read_only_volumes(spec)),
        network_namespace=place.network_namespace,
        share_pid_with=-1 if spec.get("hostPID") else place.pid_of_pod,
        share_ipc_with=-1 if spec.get("hostIPC") else place.ipc_of_pod,
        ipc_namespace=place.ipc_namespace,
        cgroup_parent=cgroup_parent(pod),
        resources=replace(cgroup_resources(spec, container, machine.bounds), cpuset=place.cpuset),
        group=pod_resources(spec, machine.bounds),
        sysctls=wanted(spec),
        user_namespace=place.user_namespace,
        security=confine(pod, container, image.user, machine.seccomp_profiles),
        log_path=place.log_path,
        tty=bool(container.get("tty")),
        stdin=bool(container.get("stdin")),
        stdin_once=bool(container.get("stdinOnce")),
        annotations=_annotations(pod, container, place),
    )


def _arguments(container: Mapping[str, Any], image: Image, own: Mapping[str, str]) -> Sequence[str]:
    """command replaces ENTRYPOINT and drops CMD; args replaces CMD."""
    command, args = container.get("command"), container.get("args")
    head = [expand(word, own) for word in command] if command else list(image.entrypoint)
    tail = [expand(word, own) for word in args or ()]
    if not command and not args:
        tail = list(image.command)
    if not head and not tail:
        raise ConfigError("no command specified")
    return [*head, *tail]


def _environment(
    container: Mapping[str, Any], image: Image, own: Mapping[str, str], name: str
) -> Sequence[tuple[str, str]]:
    """The image's variables under the pod's; PATH, HOSTNAME and TERM as containerd sets them."""
    out = {"PATH": DEFAULT_PATH}
    if name:
        out["HOSTNAME"] = name
    if container.get("tty"):
        out["TERM"] = "xterm"
    for line in image.env:
        key, _, text = line.partition("=")
        out[key] = text
    out |= own
    return tuple(out.items())


def sub_path(mount: Mapping[str, Any], own: Mapping[str, str]) -> str:
    """The subPath of a mount, or its subPathExpr with every reference resolved."""
    expression = mount.get("subPathExpr")
    if not expression:
        return str(mount.get("subPath") or "")
    expanded = expand(expression, own)
    if "$(" in expanded:
        raise ConfigError(f"missing value for {expression!r}")
    # What stands in the spec is checked by the API; variables may hold anything.
    if expanded.startswith("/"):
        raise ConfigError(f"error SubPath `{expanded}` must not be an absolute path")
    if ".." in expanded.split("/"):
        raise ConfigError(f"unable to provision SubPath `{expanded}`: must not contain '..'")
    return expanded


def read_only_volumes(spec: Mapping[str, Any]) -> frozenset[str]:
    """Volumes no container may write to, whatever its mount says: what the API or an image filled,
    and claims that are used so."""
    return frozenset(
        volume["name"]
        for volume in spec.get("volumes") or ()
        if not FILLED.isdisjoint(volume)
        or (volume.get("persistentVolumeClaim") or {}).get("readOnly")
    )


def _mounts(
    container: Mapping[str, Any],
    own: Mapping[str, str],
    place: Place,
    read_only: Collection[str],
) -> Sequence[Mount]:
    out = []
    targets = set()
    for mount in container.get("volumeMounts") or ():
        target = posixpath.normpath(posixpath.join("/", mount["mountPath"]))
        source = place.volumes[mount["name"], sub_path(mount, own)]
        closed = mount.get("readOnly") or mount["name"] in read_only
        options = ["rbind", "ro" if closed else "rw"]
        if mount.get("recursiveReadOnly") in RECURSIVE:
            options.append("rro")
        options.append(PROPAGATION.get(mount.get("mountPropagation", ""), "rprivate"))
        out.append(Mount(target, str(source), "bind", tuple(options)))
        targets.add(target)
    for target, source in place.etc_files.items():
        if target not in targets and "/etc" not in targets:
            out.append(Mount(target, str(source), "bind", ("rbind", "rw", "rprivate")))
    if place.shared_memory and SHM not in targets:
        options = ["rbind", "rw", "nosuid", "nodev", "noexec", "rprivate"]
        out.append(Mount(SHM, place.shared_memory, "bind", tuple(options)))
    log = container.get("terminationMessagePath") or TERMINATION_LOG
    if log not in targets:
        out.append(Mount(log, str(place.termination_file), "bind", ("rbind", "rw", "rprivate")))
    # A mount below another one comes after it.
    return tuple(sorted(out, key=lambda item: item.target.count("/") if item.target != "/" else 0))


def _devices(
    container: Mapping[str, Any], place: Place, read_only: Collection[str]
) -> Sequence[Device]:
    """Block volumes, with the access upstream gives (MakeBlockVolumes)."""
    return tuple(
        Device(
            device["devicePath"],
            str(place.devices[device["name"]]),
            "r" if device["name"] in read_only else "mrw",
        )
        for device in container.get("volumeDevices") or ()
    )


def _annotations(pod: Object, container: Mapping[str, Any], place: Place) -> Mapping[str, str]:
    meta = pod["metadata"]
    return {
        POD_UID: meta["uid"],
        POD_NAME: meta["name"],
        POD_NAMESPACE: meta["namespace"],
        CONTAINER_NAME: container["name"],
        RESTART_COUNT: str(place.restart_count),
        IMAGE_NAME: container.get("image", ""),
        TERMINATION_FILE: str(place.termination_file),
    }
