"""What something else than the node itself provides: volumes of CSI drivers and NFS servers, and
devices of DRA drivers.

Each provider is loaded when the first pod wants it. A pod that had nothing of the kind is released
by one look at its directory.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sampan.aio.backoff import Backoff
from sampan.aio.clock import Clock
from sampan.api.errors import Object
from sampan.api.volumes import is_block
from sampan.client.api import Client

from .config import NodeConfig
from .tokens import Tokens
from .volumes.devices import Devices
from .volumes.kernel import Kernel
from .volumes.kubelet import Kubelet

if TYPE_CHECKING:
    from .csi.drivers import Drivers
    from .csi.volumes import CsiVolumes
    from .dra.claims import DeviceClaims
    from .dra.plugins import Plugins
    from .nfs.shares import Shares

log = logging.getLogger("sampan.node.providers")

DEVICE_CLAIMS = "dra_claims"
NFS_FOLDER = "volumes/kubernetes.io~nfs"
CSI_FOLDER = "volumes/kubernetes.io~csi"


def claims_devices(pod: Object) -> bool:
    """Does a pod have claims for devices, or one for its extended resources (KEP-5004)?"""
    extended = (pod.get("status") or {}).get("extendedResourceClaimStatus")
    return bool(pod["spec"].get("resourceClaims") or extended)


class Providers:
    """One node's. `report` writes the node's status with what is in use."""

    def __init__(
        self,
        config: NodeConfig,
        client: Client,
        kernel: Kernel,
        clock: Clock,
        report: Callable[[], Awaitable[None]],
    ) -> None:
        self._config = config
        self._client = client
        self._kernel = kernel
        self._clock = clock
        self._report = report
        self.kubelet = Kubelet(config.data, kernel)
        self.devices = Devices(config.data, kernel)
        self.note: Callable[..., None] | None = None
        """Is told how long calls to CSI drivers took (`Tally.time`); set before any registers."""
        self._drivers: Drivers | None = None
        self._csi: CsiVolumes | None = None
        self._shares: Shares | None = None
        self._plugins: Plugins | None = None
        self._claims: DeviceClaims | None = None

    def plugins(self) -> Plugins:
        """The registered drivers of devices."""
        if self._plugins is None:
            from .dra.plugins import Plugins

            self._plugins = Plugins()
        return self._plugins

    def claims(self) -> DeviceClaims:
        """The claims for devices that pods of this node use."""
        if self._claims is None:
            from .dra.claims import DeviceClaims

            self._claims = DeviceClaims(self._config.data, self._client, self.plugins())
        return self._claims

    async def give_back(self, uid: str) -> None:
        """A pod's containers have ended: drivers are told until they have heard it, as upstream."""
        if self._claims is None and not (self._config.data / DEVICE_CLAIMS).exists():
            return
        from .dra.plugins import PluginError

        backoff = Backoff(initial_s=0.5, cap_s=60.0)
        while self.claims().uses(uid):
            try:
                await self.claims().release(uid)
            except (PluginError, OSError) as error:
                log.warning("pod %s: unprepare dynamic resources: %s", uid, error)
                await self._clock.sleep(backoff.next_s())

    def drivers(self) -> Drivers:
        """The registered CSI drivers."""
        if self._drivers is None:
            from .csi.drivers import Drivers

            self._drivers = Drivers(self.note) if self.note else Drivers()
        return self._drivers

    def csi(self) -> CsiVolumes:
        """Volumes of CSI drivers."""
        if self._csi is None:
            from .csi.volumes import Around, CsiVolumes

            around = Around(
                self._config.name,
                self._config.data,
                self._client,
                self._kernel,
                self._clock,
                Tokens(self._client, self._clock),
                self.kubelet,
                self._report,
            )
            self._csi = CsiVolumes(around, self.drivers())
        return self._csi

    def shares(self) -> Shares:
        """Shares of NFS servers."""
        if self._shares is None:
            from .nfs.shares import Shares

            self._shares = Shares(self._config.data, self._config.run, self._kernel)
        return self._shares

    def in_use(self) -> Sequence[str]:
        """Attached volumes that pods of this node use."""
        if self._csi is None and not (self._config.data / "plugins/kubernetes.io/csi").exists():
            return ()
        return self.csi().in_use

    async def publish(
        self,
        pod: Object,
        volume: Mapping[str, Any],
        bound: tuple[Object, Object] | None,
        *,
        again: bool,
    ) -> tuple[Path, float] | None:
        """Directory of a pod's volume (`bound` are claim and PersistentVolume), and when to look
        at it again; None for those that nobody provides. Raises VolumeError, StatusError,
        OSError."""
        found = bound[1] if bound is not None else None
        if found is not None and found["spec"].get("csi"):
            from .csi.source import from_volume

            claim = volume.get("persistentVolumeClaim") or {}
            source = from_volume(found, read_only=bool(claim.get("readOnly")))
            return await self.csi().publish(pod, source, bound, again=again)
        if found is None and volume.get("csi"):
            from .csi.source import from_pod

            return await self.csi().publish(pod, from_pod(pod, volume), again=again)
        spec = found["spec"] if found is not None else volume
        if spec.get("nfs") and not (found is not None and is_block(found)):
            name = found["metadata"]["name"] if found is not None else volume["name"]
            options = spec.get("mountOptions") or ()
            uid = pod["metadata"]["uid"]
            return await self.shares().publish(uid, name, spec["nfs"], options), 0.0
        return None

    async def release(self, uid: str) -> None:
        """Undo everything of a pod; returns once it is done."""
        await self.give_back(uid)
        folder = self._config.data / "pods" / uid
        if (folder / NFS_FOLDER).exists():
            await self.shares().release(uid)
        if (folder / CSI_FOLDER).exists():
            await self.csi().release(uid)
        if self.devices.serves(uid):
            await asyncio.to_thread(self.devices.release, uid)

    def close(self) -> None:
        """Connections end; volumes stay."""
        if self._drivers is not None:
            self._drivers.close()
        if self._plugins is not None:
            self._plugins.close()
