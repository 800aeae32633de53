"""Block volumes of this node (PersistentVolumes of type local, volumeMode Block): a device is used
as it is, a regular file through a loop device (pkg/volume/local, volume/util/volumepathhandler).

Who uses a volume is a link beside those of its other users, named by the pod's uid and written
first, where upstream has them too: so an agent that comes later knows when the last has gone, and
lets go of the loop device then.
"""

from __future__ import annotations

import os
import stat
import threading
from contextlib import suppress
from pathlib import Path

from sampan.api.errors import Object

from .kernel import Kernel
from .source import MapError

FOLDER = "plugins/kubernetes.io~local-volume/volumeDevices"


class Devices:
    """Those of one node."""

    def __init__(self, data: Path, kernel: Kernel) -> None:
        self._folder = data / FOLDER
        self._kernel = kernel
        # Two pods that come at once get the same loop device.
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
                users = self._folder / name
                users.mkdir(parents=True, exist_ok=True, mode=0o750)
                if not (users / uid).is_symlink():
                    (users / uid).symlink_to(path)
                return self._kernel.attach_loop(path)
        except OSError as error:
            raise MapError("MapBlockVolume", f"{error.strerror or error}: {path}") from error

    def release(self, uid: str) -> None:
        """The pod has gone: let go of what nobody else uses. Raises OSError."""
        for users in self._volumes():
            if (users / uid).is_symlink():
                with self._one_by_one:
                    self._forget(users, users / uid)

    def _forget(self, users: Path, user: Path) -> None:
        path = Path(os.readlink(user))
        if len(os.listdir(users)) == 1:
            with suppress(FileNotFoundError):
                self._kernel.detach_loop(path)
        user.unlink()
        with suppress(OSError):
            users.rmdir()

    def users(self) -> set[str]:
        """The uids of pods that use one."""
        return {entry.name for users in self._volumes() for entry in os.scandir(users)}

    def release_all(self) -> None:
        """No pod is left. Raises OSError."""
        for uid in self.users():
            self.release(uid)

    def _volumes(self) -> list[Path]:
        try:
            return [Path(entry.path) for entry in os.scandir(self._folder)]
        except FileNotFoundError:
            return []
