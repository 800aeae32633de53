"""What is published and staged on this node, as files beside the mounts (upstream's vol_data.json):
an agent that starts again, and one that finds a pod gone, knows from them what to ask of whom.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import orjson
from msgspec import Struct
from msgspec.structs import asdict

from .source import staging_folder

PODS = "pods"
KIND = "volumes/kubernetes.io~csi"
FILE = "vol_data.json"
MOUNT = "mount"
BLOCKS = "plugins/kubernetes.io/csi/volumeDevices"
"""Below the node's data, as upstream has it: staging/NAME and publish/NAME/UID."""


class Record(Struct, frozen=True):
    """One volume of one pod."""

    specVolID: str  # noqa: N815 - the file's own words
    volumeHandle: str  # noqa: N815
    driverName: str  # noqa: N815
    nodeName: str  # noqa: N815
    volumeLifecycleMode: str  # noqa: N815
    attachmentID: str = ""  # noqa: N815
    """Set when the volume is attached to the node."""
    asked: bool = False
    """Has the driver been asked for anything?"""
    block: bool = False
    """A device, and no directory."""

    @property
    def thing(self) -> tuple[str, str]:
        """What is staged once for all its users."""
        return self.driverName, self.volumeHandle


class Records:
    """Below the node's data."""

    def __init__(self, data: Path) -> None:
        self._data = data
        self._pods = data / PODS

    def folder(self, uid: str, name: str) -> Path:
        """Of a volume of a pod."""
        return self._pods / uid / KIND / name

    def target(self, uid: str, name: str, *, block: bool) -> Path:
        """Where the driver publishes a volume: a directory, or a device."""
        if block:
            return self._data / BLOCKS / "publish" / name / uid
        return self.folder(uid, name) / MOUNT

    def staging(self, name: str, thing: tuple[str, str], *, block: bool) -> Path:
        """Where the driver stages a volume, once for all its users."""
        if block:
            return self._data / BLOCKS / "staging" / name
        return self._data / staging_folder(*thing) / "globalmount"

    def write(self, uid: str, record: Record) -> None:
        """Before anything is asked of a driver. Raises OSError."""
        folder = self.folder(uid, record.specVolID)
        folder.mkdir(parents=True, exist_ok=True, mode=0o750)
        fresh = folder / f".{FILE}"
        fresh.write_bytes(orjson.dumps(asdict(record)))
        fresh.rename(folder / FILE)

    def forget(self, uid: str, record: Record) -> None:
        """Nothing of it is left. Raises OSError."""
        folder = self.folder(uid, record.specVolID)
        for name in (FILE, f".{FILE}"):
            (folder / name).unlink(missing_ok=True)
        folder.rmdir()

    def of_pod(self, uid: str) -> Iterator[Record]:
        """Raises OSError."""
        try:
            entries = sorted(os.scandir(self._pods / uid / KIND), key=lambda item: item.name)
        except FileNotFoundError:
            return
        for entry in entries:
            try:
                found = orjson.loads(Path(entry.path, FILE).read_bytes())
                yield Record(**found)
            except (FileNotFoundError, orjson.JSONDecodeError, TypeError):
                # Half made: nothing had been asked of the driver.
                continue

    def all(self) -> Iterator[tuple[str, Record]]:
        """(uid of the pod, volume) of every pod there is."""
        try:
            uids = [entry.name for entry in os.scandir(self._pods)]
        except FileNotFoundError:
            return
        for uid in uids:
            for record in self.of_pod(uid):
                yield uid, record
