"""A pod's volumes on this node: make them, keep their content true, remove them.

Each pod has a directory below `data/pods`; Secrets, tokens and downward files live below `run` on
one tmpfs for the node, so that they never reach a disk and need no mount each. Everything here is
synchronous and small, except `remove`, which walks what the pod wrote and runs in a thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any, Protocol

from sampan.api.errors import Object

from . import atomic
from .downward import downward_files
from .empty_dir import empty_dir
from .host_path import host_path
from .kernel import Kernel
from .keyed import keyed_files
from .kubelet import Kubelet
from .plugins import MOUNT, Note, plugin_of, unnoted
from .projected import projected_files
from .source import DEFAULT_MODE, Sources, VolumeError
from .subpath import bind_sub_path

MOUNTED = {"image", "csi", "nfs", "persistentVolumeClaim", "ephemeral"}
"""Types of volumes that are mounted below their pod's directory, or may be."""


NO_GIT = (
    "git-repo volume plugin has been disabled; if necessary, it may be re-enabled by enabling the "
    "feature-gate `GitRepoVolumeDriver`"
)


class Provided(Protocol):
    """Volumes that are not made here: CSI drivers' and file servers'."""

    kubelet: Kubelet

    async def release(self, uid: str) -> None:
        """Undo everything of a pod; returns once it is done."""
        ...


class PodVolumes:
    """The directories of all pods. `provided` undoes what others have mounted for a pod."""

    def __init__(
        self, data: Path, run: Path, kernel: Kernel, provided: Provided | None = None
    ) -> None:
        self._pods = data / "pods"
        self._volatile = run / "volatile"
        self._kernel = kernel
        self._provided = provided

    def open(self) -> None:
        """Make the node's directories; the tmpfs of an earlier agent is found again."""
        self._pods.mkdir(parents=True, exist_ok=True, mode=0o750)
        self._volatile.mkdir(parents=True, exist_ok=True, mode=0o700)
        if self._volatile not in self._kernel.mounted():
            self._kernel.tmpfs(self._volatile, 0, 0o700)

    def directory(self, uid: str) -> Path:
        """The pod's own directory (made)."""
        path = self._pods / uid
        path.mkdir(exist_ok=True, mode=0o750)
        return path

    def known(self) -> set[str]:
        """The uids of pods that left something here."""
        found: set[str] = set()
        for folder in (self._pods, self._volatile):
            found |= {entry.name for entry in os.scandir(folder)}
        return found

    def set_up(
        self, sources: Sources, claims: Mapping[str, Path], note: Note = unnoted
    ) -> dict[str, Path]:
        """Make every volume of the pod: name -> directory or file. `claims` are the paths of those
        that are found already, by the volumes' names; `note` is told of all others.

        Repeating it refreshes what comes from the API. Raises VolumeError with the text
        `MountVolume.SetUp failed for volume "x" : ...`.
        """
        out = {}
        for volume in sources.facts.pod["spec"].get("volumes") or ():
            began, good = perf_counter(), False
            try:
                out[volume["name"]] = self._set_up(volume, sources, claims)
                good = True
            except (VolumeError, OSError) as error:
                raise VolumeError(
                    f'MountVolume.SetUp failed for volume "{volume["name"]}" : {error}'
                ) from error
            finally:
                if volume["name"] not in claims:
                    note(plugin_of(volume), MOUNT, perf_counter() - began, good)
        return out

    def _set_up(
        self, volume: Mapping[str, Any], sources: Sources, claims: Mapping[str, Path]
    ) -> Path:
        uid, name = sources.facts.pod["metadata"]["uid"], volume["name"]
        if "emptyDir" in volume:
            folder = self.empty_dir(uid, name)
            source, facts = volume["emptyDir"] or {}, sources.facts
            return empty_dir(folder, source, sources.fs_group, self._kernel, facts)
        if "hostPath" in volume:
            return self._host_path(volume["hostPath"])
        if "image" in volume:
            return self._volume_dir(uid, "image", name)
        if name in claims:
            return claims[name]
        if "gitRepo" in volume:
            raise VolumeError(NO_GIT)
        made = files(volume, sources)
        if made is None:
            kind = next((key for key in volume if key != "name"), "none")
            raise VolumeError(f"no volume plugin matched: {kind} is not supported on this node")
        if "configMap" in volume:
            target = self._volume_dir(uid, "configmap", name)
        else:
            target = self._volatile / uid / name
            target.parent.mkdir(exist_ok=True, mode=0o755)
        atomic.write(target, made, sources.fs_group)
        return target

    def _host_path(self, source: Mapping[str, Any]) -> Path:
        """What is meant for the kubelet's directory is the node's."""
        if self._provided is not None and self._provided.kubelet.covers(Path(source["path"])):
            self._provided.kubelet.show()
        return host_path(source)

    def _volume_dir(self, uid: str, kind: str, name: str) -> Path:
        return self.directory(uid) / "volumes" / f"kubernetes.io~{kind}" / name

    def empty_dir(self, uid: str, name: str) -> Path:
        """Where an emptyDir of the pod is, or would be."""
        return self._volume_dir(uid, "empty-dir", name)

    def has_image(self, uid: str, name: str) -> bool:
        """Is the image of the pod's volume mounted?"""
        return self._volume_dir(uid, "image", name) in self._kernel.mounted()

    def mount_image(self, uid: str, name: str, layers: Sequence[Path]) -> None:
        """Raises OSError."""
        target = self._volume_dir(uid, "image", name)
        target.mkdir(parents=True, exist_ok=True)
        self._kernel.stack(layers, target)

    def sub_path(self, uid: str, volume: tuple[str, Path], sub_path: str, where: str) -> Path:
        """Bind a part of a volume for one container's mount. Raises OSError."""
        name, path = volume
        target = self.directory(uid) / "volume-subpaths" / name / where
        if target in self._kernel.mounted():
            self._kernel.detach(target)
        return bind_sub_path(path, sub_path, target, self._kernel)

    async def remove(self, uid: str, *, mounts: bool = True) -> None:
        """Take everything of the pod away; unknown pods are fine. `mounts` may be false when
        the pod had no volume that is mounted, which saves a look at the mount table."""
        pod = self._pods / uid
        if mounts:
            # Parts of a volume first: who mounted it cannot take it away under them.
            self._detach(pod / "volume-subpaths")
        if self._provided is not None:
            await self._provided.release(uid)
        if mounts:
            self._detach(pod)
        await asyncio.to_thread(_remove, (pod, self._volatile / uid))

    def _detach(self, folder: Path) -> None:
        for point in reversed(self._kernel.mounted()):
            if point.is_relative_to(folder):
                self._kernel.detach(point)


def _remove(paths: tuple[Path, ...]) -> None:
    for path in paths:
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(path)


def files(volume: Mapping[str, Any], sources: Sources) -> atomic.Files | None:
    """The content of a volume that comes from the API; None for other types."""
    if "configMap" in volume:
        source = volume["configMap"]
        return keyed_files("configmaps", source.get("name", ""), source, sources)
    if "secret" in volume:
        source = volume["secret"]
        return keyed_files("secrets", source.get("secretName", ""), source, sources)
    if "downwardAPI" in volume:
        source = volume["downwardAPI"]
        mode = source.get("defaultMode", DEFAULT_MODE)
        return downward_files(source.get("items") or (), mode, sources)
    if "projected" in volume:
        return projected_files(volume["projected"], sources)
    return None


def has_mounts(pod: Object) -> bool:
    """Whether the pod has volumes that are mounted below its directory."""
    spec = pod["spec"]
    return any(
        not MOUNTED.isdisjoint(volume) or (volume.get("emptyDir") or {}).get("medium")
        for volume in spec.get("volumes") or ()
    ) or any(
        # What the pod itself has mounted in a volume is not to be walked when that is removed.
        mount.get("subPath")
        or mount.get("subPathExpr")
        or mount.get("recursiveReadOnly")
        or mount.get("mountPropagation") == "Bidirectional"
        for field in ("initContainers", "containers")
        for container in spec.get(field) or ()
        for mount in container.get("volumeMounts") or ()
    )
