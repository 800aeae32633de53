"""Block devices of this node as volumes (PersistentVolumes of type local). In mode Block a device
is given as it is, a regular file through a loop device; in mode Filesystem what a device holds is
mounted once for all its pods (pkg/volume/local, pkg/volume/util/volumepathhandler).

Who uses a volume is a link beside those of its other users, named by the pod's uid and written
first, as upstream has it in mode Block: so an agent that comes later knows when the last has gone,
and lets go of the device then.
"""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from sampan.api.errors import Object

from .kernel import Kernel
from .source import DeviceError, MapError, VolumeError

FOLDER = "plugins/kubernetes.io~local-volume/volumeDevices"
LOCAL = "plugins/kubernetes.io/local-volume"
READ_ONLY = ["ReadOnlyMany"]


class Users:
    """Of the volumes below one folder: NAME/UID, a link to what is used."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def add(self, name: str, uid: str, what: Path) -> None:
        """Raises OSError."""
        users = self._folder / name
        users.mkdir(parents=True, exist_ok=True, mode=0o750)
        if not (users / uid).is_symlink():
            (users / uid).symlink_to(what)

    def remove(self, uid: str, let_go: Callable[[str, Path], None]) -> None:
        """The pod has gone: `let_go` (name, what) of what nobody else uses. Raises OSError."""
        for users in self._volumes():
            user = users / uid
            if not user.is_symlink():
                continue
            if len(os.listdir(users)) == 1:
                let_go(users.name, Path(os.readlink(user)))
            user.unlink()
            with suppress(OSError):
                users.rmdir()

    def has(self, uid: str) -> bool:
        return any((users / uid).is_symlink() for users in self._volumes())

    def uids(self) -> set[str]:
        return {entry.name for users in self._volumes() for entry in os.scandir(users)}

    def _volumes(self) -> list[Path]:
        try:
            return [Path(entry.path) for entry in os.scandir(self._folder)]
        except FileNotFoundError:
            return []


class Devices:
    """Those of one node. Everything is synchronous; `map` and `mount` may take a while (a file
    system is made), and `release` waits for them: all three are to be called in a thread."""

    def __init__(self, data: Path, kernel: Kernel) -> None:
        self._kernel = kernel
        self._mounts = data / LOCAL / "mounts"
        self._mapped = Users(data / FOLDER)
        self._mounted = Users(data / LOCAL / "users")
        # Two pods that come at once get the same loop device, and one mount.
        self._one_by_one = threading.Lock()

    def map(self, uid: str, volume: Object) -> Path:
        """The device a pod's containers are given. Raises MapError."""
        spec, name = volume["spec"], volume["metadata"]["name"]
        if not spec.get("local"):
            text = "failed to find BlockVolumeMapper plugin. Volume plugin is nil."
            raise MapError("FindMapperPluginBySpec", text)
        path = Path(spec["local"]["path"])
        try:
            mode = path.stat().st_mode
            if stat.S_ISBLK(mode):
                return path
            if not stat.S_ISREG(mode):
                raise MapError("MapBlockVolume", f"path {path} is no block device and no file")
            with self._one_by_one:
                self._mapped.add(name, uid, path)
                return self._kernel.attach_loop(path)
        except OSError as error:
            raise MapError("MapBlockVolume", f"{error.strerror or error}: {path}") from error

    def mount(self, uid: str, volume: Object) -> Path:
        """The directory where what the device holds is mounted. Raises VolumeError."""
        spec, name = volume["spec"], volume["metadata"]["name"]
        path, target = Path(spec["local"]["path"]), self._mounts / str(name)
        options = [*(spec.get("mountOptions") or ())]
        if spec.get("accessModes") == READ_ONLY:
            options.append("ro")
        try:
            with self._one_by_one:
                self._mounted.add(name, uid, path)
                target.mkdir(parents=True, exist_ok=True, mode=0o750)
                if target not in self._kernel.mounted():
                    self._kernel.mount_device(
                        path, target, spec["local"].get("fsType") or "", options
                    )
        except (OSError, VolumeError) as error:
            text = f"local: failed to mount device {path} at {target}: {error}"
            raise DeviceError("MountDevice", text) from error
        return target

    def release(self, uid: str) -> None:
        """The pod has gone: let go of what nobody else uses. Raises OSError."""
        with self._one_by_one:
            self._mapped.remove(uid, self._detach)
            self._mounted.remove(uid, self._unmount)

    def serves(self, uid: str) -> bool:
        """Does a pod use one? Cheap."""
        return self._mapped.has(uid) or self._mounted.has(uid)

    def users(self) -> set[str]:
        """The uids of pods that use one."""
        return self._mapped.uids() | self._mounted.uids()

    def release_all(self) -> None:
        """No pod is left. Raises OSError."""
        for uid in self.users():
            self.release(uid)

    def _detach(self, name: str, path: Path) -> None:
        with suppress(FileNotFoundError):
            self._kernel.detach_loop(path)

    def _unmount(self, name: str, path: Path) -> None:
        target = self._mounts / name
        if target in self._kernel.mounted():
            self._kernel.detach(target)
        with suppress(FileNotFoundError):
            target.rmdir()


def is_device(volume: Object) -> bool:
    """Is a local volume a device whose file system is to be mounted?"""
    path = (volume["spec"].get("local") or {}).get("path") or ""
    return bool(path) and Path(path).is_block_device()
