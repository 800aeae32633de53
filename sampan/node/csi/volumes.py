"""CSI volumes of pods: attached, staged and published, and all of it undone when the pod is gone.

No task of its own: pods' workers call `publish` and `release`. What one volume is asked for happens
one after the other (a lock per driver and handle, dropped when nobody holds it), as the interface
demands. Everything can be repeated; what is there is on disk (`records`), so that nothing is
forgotten by an agent that dies.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import orjson
from msgspec import Struct

from sampan.aio.backoff import Backoff
from sampan.aio.clock import Clock
from sampan.aio.grpc import RpcError
from sampan.api.errors import NotFound, Object, StatusError
from sampan.api.fields import quote
from sampan.api.resources import api_resource
from sampan.api.volumes import csi_unique_name
from sampan.client.api import Client

from ..tokens import Tokens
from ..volumes.kernel import Kernel
from ..volumes.keyed import content
from ..volumes.kubelet import Kubelet
from ..volumes.ownership import give_to_group
from ..volumes.source import NEW_MOUNTER, DeviceError, MapError, NotYet, Token, VolumeError
from .counting import RESOURCE_EXHAUSTED
from .drivers import Driver, Drivers, UnknownDriver
from .growth import LOOK_S, grow, is_behind
from .places import clear, is_device, is_made
from .records import Record, Records
from .schemas import MOUNT_GROUP, SINGLE_NODE_MULTI_WRITER, STAGE_UNSTAGE
from .source import (
    EPHEMERAL,
    PERSISTENT,
    POD_KEY,
    SecretRef,
    Source,
    capability,
    pod_context,
    takes_group,
)

log = logging.getLogger("sampan.node.csi")

PLUGIN = "kubernetes.io/csi: "
TOKEN_SECONDS = 3600
# How long a worker waits for a volume to be attached before it lets others be done meanwhile.
ATTACH_WAIT_S = 2.0
ATTACH_LOOK_S = 0.02
# A driver with requiresRepublish is asked about this often.
REPUBLISH_S = 60.0
# What cannot be undone now is tried again: upstream's durationBeforeRetry.
RETRY_INITIAL_S, RETRY_CAP_S = 0.5, 122.0


class Around(Struct, frozen=True):
    """What the volumes need from the node."""

    node: str
    data: Path
    client: Client
    kernel: Kernel
    clock: Clock
    tokens: Tokens
    kubelet: Kubelet
    report: Callable[[], Awaitable[None]]
    """Writes the node's status with `in_use`; a volume is used only once that is known."""


class CsiVolumes:
    """Of one node."""

    def __init__(self, around: Around, drivers: Drivers) -> None:
        self._around = around
        self._drivers = drivers
        self._records = Records(around.data)
        self._locks: dict[tuple[str, str], tuple[asyncio.Lock, Counter[str]]] = {}
        self._in_use: set[str] = {
            _unique(record) for _, record in self._records.all() if record.attachmentID
        }

    @property
    def in_use(self) -> list[str]:
        """node.status.volumesInUse: attached volumes that must not be detached yet."""
        return sorted(self._in_use)

    # Making

    async def publish(
        self,
        pod: Object,
        source: Source,
        bound: tuple[Object, Object] | None = None,
        *,
        again: bool = False,
    ) -> tuple[Path, float]:
        """The directory, and when to look again (0: never). What an agent before this one has
        mounted is left alone, unless it is to be looked at `again`: its driver may not have
        registered yet. `bound` are claim and volume. Raises VolumeError, StatusError, OSError."""
        found = await self._driver_object(source)
        spec = (found or {}).get("spec") or {}
        repeats = bool(spec.get("requiresRepublish"))
        pause = REPUBLISH_S if repeats else LOOK_S if bound else 0.0
        next_at = self._around.clock.now() + pause if pause else 0.0
        target = self._records.target(pod["metadata"]["uid"], source.name, block=source.block)
        if not again and (
            target in self._around.kernel.mounted() or (source.block and is_device(target))
        ):
            return target, next_at
        if not again or repeats:
            await self._mount(pod, source, target, spec)
        if bound is not None and is_behind(*bound):
            await self._grow(pod, source, target, bound)
        return target, next_at

    async def _mount(self, pod: Object, source: Source, target: Path, spec: Object) -> None:
        async with self._alone(source.driver, source.handle):
            context: dict[str, str] = {}
            attaches = source.lifecycle == PERSISTENT and spec.get("attachRequired") is not False
            if attaches:
                self._note(pod, source, attaches=True, asked=False)
                context = await self._attached(source)
            driver = self._driver(source)
            self._note(pod, source, attaches=attaches, asked=True)
            staged = await self._stage(pod, source, driver, context)
            await self._publish(pod, source, driver, (target, staged, context), spec)

    async def _grow(
        self, pod: Object, source: Source, target: Path, bound: tuple[Object, Object]
    ) -> None:
        staged = self._staging(source)
        try:
            async with self._alone(source.driver, source.handle):
                driver = self._driver(source)
                message = {
                    "volume_id": source.handle,
                    "volume_path": self._outside(target),
                    "staging_target_path": self._outside(staged) if is_made(staged) else "",
                    "volume_capability": await self._capability(pod, source, driver),
                    "secrets": await self._secret(source.expand_secret, "NodeExpandSecretRef"),
                }
                await grow(self._around.client, driver, bound, message)
        except RpcError as error:
            raise DeviceError("NodeExpandVolume", str(error)) from error

    def _note(self, pod: Object, source: Source, *, attaches: bool, asked: bool) -> None:
        """Write down what is about to be. A volume whose driver was asked before stays so."""
        uid, node = pod["metadata"]["uid"], self._around.node
        asked = asked or any(
            old.asked for old in self._records.of_pod(uid) if old.specVolID == source.name
        )
        attachment = source.attachment(node) if attaches else ""
        record = Record(
            source.name,
            source.handle,
            source.driver,
            node,
            source.lifecycle,
            attachment,
            asked,
            source.block,
        )
        self._records.write(uid, record)

    def _driver(self, source: Source) -> Driver:
        """Raises VolumeError."""
        try:
            return self._drivers.get(source.driver)
        except UnknownDriver as error:
            if source.lifecycle == EPHEMERAL:
                text = f"{PLUGIN}mounter.SetUpAt failed to get CSI client: {error}"
                raise VolumeError(text) from error
            text = f"{PLUGIN}attacher.MountDevice failed to create newCsiDriverClient: {error}"
            raise DeviceError("MountDevice", text) from error

    async def _driver_object(self, source: Source) -> Object | None:
        """The CSIDriver, if there is one that serves such volumes."""
        try:
            found = await self._around.client.get(
                api_resource("csidrivers", "storage.k8s.io"), source.driver
            )
        except NotFound:
            found = None
        modes = ((found or {}).get("spec") or {}).get("volumeLifecycleModes") or [PERSISTENT]
        if source.lifecycle not in modes:
            shown = " ".join(quote(mode) for mode in modes)
            why = "no CSIDriver object" if found is None else f"only supports [{shown}]"
            text = (
                f'volume mode "{source.lifecycle}" not supported by driver {source.driver} ({why})'
            )
            raise DeviceError(NEW_MOUNTER, text)
        return found

    async def _attached(self, source: Source) -> dict[str, str]:
        """What the attacher knows of the attachment. Raises NotYet while there is none."""
        if source.unique_name not in self._in_use:
            self._in_use.add(source.unique_name)
            await self._around.report()
        name, waited = source.attachment(self._around.node), 0.0
        backoff = Backoff(ATTACH_LOOK_S, ATTACH_WAIT_S)
        while True:
            status: Object = {}
            with suppress(NotFound):
                found = await self._around.client.get(
                    api_resource("volumeattachments", "storage.k8s.io"), name
                )
                if not found["metadata"].get("deletionTimestamp"):
                    status = found.get("status") or {}
            if status.get("attached"):
                return dict(status.get("attachmentMetadata") or {})
            failure = status.get("attachError") or {}
            if failure.get("errorCode") == RESOURCE_EXHAUSTED:
                self._drivers.get(source.driver).exhausted.set()
            error = failure.get("message")
            if error:
                raise DeviceError("WaitForAttach", error)
            if waited >= ATTACH_WAIT_S:
                raise NotYet(f"waiting for volume {source.name} to be attached")
            pause = backoff.next_s()
            waited += pause
            await self._around.clock.sleep(pause)

    async def _stage(
        self, pod: Object, source: Source, driver: Driver, context: dict[str, str]
    ) -> Path | None:
        """Where the volume is staged; None for drivers and volumes that are not. Raises
        DeviceError."""
        if source.lifecycle == EPHEMERAL:
            return None
        try:
            if STAGE_UNSTAGE not in await driver.abilities():
                return None
            target = self._staging(source)
            target.mkdir(parents=True, exist_ok=True, mode=0o750)
            await driver.call(
                "NodeStageVolume",
                volume_id=source.handle,
                publish_context=context,
                staging_target_path=self._outside(target),
                volume_capability=await self._capability(pod, source, driver),
                secrets=await self._secret(source.stage_secret, "NodeStageSecretRef"),
                volume_context=source.context,
            )
        except RpcError as error:
            if source.block:
                raise MapError("SetUpDevice", str(error)) from error
            raise DeviceError("MountDevice", str(error)) from error
        return target

    async def _publish(
        self,
        pod: Object,
        source: Source,
        driver: Driver,
        place: tuple[Path, Path | None, dict[str, str]],
        spec: Object,
    ) -> None:
        target, staged, context = place
        volume_context = dict(source.context)
        if spec.get("podInfoOnMount"):
            volume_context |= pod_context(pod, source)
        secrets = await self._secret(source.publish_secret, "NodePublishSecretRef")
        tokens = await self._tokens(pod, spec)
        # A driver makes the last part of the path itself.
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
        (secrets if spec.get("serviceAccountTokenInSecrets") else volume_context).update(tokens)
        try:
            await driver.call(
                "NodePublishVolume",
                volume_id=source.handle,
                publish_context=context,
                staging_target_path=self._outside(staged) if staged else "",
                target_path=self._outside(target),
                volume_capability=await self._capability(pod, source, driver),
                readonly=source.read_only,
                secrets=secrets,
                volume_context=volume_context,
            )
            grouped = MOUNT_GROUP in await driver.abilities()
        except RpcError as error:
            if source.block:
                raise MapError("MapPodDevice", str(error)) from error
            raise VolumeError(str(error)) from error
        await self._own(pod, source, target, "None" if grouped else spec.get("fsGroupPolicy") or "")

    async def _own(self, pod: Object, source: Source, target: Path, policy: str) -> None:
        group = _group(pod)
        if group >= 0 and takes_group(source, policy):
            shared = pod["spec"].get("securityContext") or {}
            change = shared.get("fsGroupChangePolicy") or ""
            await asyncio.to_thread(give_to_group, target, group, change)

    async def _capability(self, pod: Object, source: Source, driver: Driver) -> dict[str, Any]:
        abilities = await driver.abilities()
        group = _group(pod) if MOUNT_GROUP in abilities else -1
        return capability(source, group, fine_modes=SINGLE_NODE_MULTI_WRITER in abilities)

    async def _secret(self, reference: SecretRef | None, field: str) -> dict[str, str]:
        if reference is None:
            return {}
        namespace, name = reference
        try:
            found = await self._around.client.get(api_resource("secrets"), name, namespace)
        except StatusError as error:
            text = f"fetching {field} {namespace}/{name} failed: {error}"
            raise VolumeError(f"{PLUGIN}{text}") from error
        data = content("secrets", found)
        return {key: item.decode(errors="replace") for key, item in data.items()}

    async def _tokens(self, pod: Object, spec: Object) -> dict[str, str]:
        """What the driver may act as the pod with (KEP-2047)."""
        wanted = spec.get("tokenRequests")
        if not wanted:
            return {}
        out = {}
        for item in wanted:
            audience = item.get("audience") or ""
            seconds = int(item.get("expirationSeconds") or TOKEN_SECONDS)
            token: Token = await self._around.tokens.request(pod, audience, seconds)
            out[audience] = {"token": token.text, "expirationTimestamp": token.expires}
        return {f"{POD_KEY}serviceAccount.tokens": orjson.dumps(out).decode()}

    # Undoing

    async def release(self, uid: str) -> None:
        """Unpublish what the pod has, and unstage what nobody else uses; tried until it succeeds,
        since a pod whose volumes are mounted is not gone. Cancelling it leaves the records."""
        for record in list(self._records.of_pod(uid)):
            backoff = Backoff(RETRY_INITIAL_S, RETRY_CAP_S, jitter=0)
            while True:
                try:
                    async with self._alone(*record.thing):
                        await self._undo(uid, record)
                    break
                except UnknownDriver as error:
                    log.warning("pod %s: volume %s: %s", uid, record.specVolID, error)
                    await self._drivers.arrival(record.driverName)
                except (RpcError, StatusError, OSError) as error:
                    log.warning("pod %s: volume %s: %s", uid, record.specVolID, error)
                    await self._around.clock.sleep(backoff.next_s())

    async def _undo(self, uid: str, record: Record) -> None:
        target = self._records.target(uid, record.specVolID, block=record.block)
        users = {other for other, item in self._records.all() if item.thing == record.thing}
        if record.asked:
            driver = self._drivers.get(record.driverName)
            await self._unpublish(driver, record, target)
            if record.volumeLifecycleMode == PERSISTENT and users <= {uid}:
                await self._unstage(driver, record)
        self._records.forget(uid, record)
        if record.attachmentID and users <= {uid}:
            self._in_use.discard(_unique(record))
            await self._around.report()

    async def _unpublish(self, driver: Driver, record: Record, target: Path) -> None:
        where = self._outside(target)
        await driver.call("NodeUnpublishVolume", volume_id=record.volumeHandle, target_path=where)
        clear(target, self._around.kernel)
        if record.block:
            with suppress(FileNotFoundError):
                target.parent.rmdir()

    async def _unstage(self, driver: Driver, record: Record) -> None:
        target = self._records.staging(record.specVolID, record.thing, block=record.block)
        if is_made(target):
            where = self._outside(target)
            await driver.call(
                "NodeUnstageVolume", volume_id=record.volumeHandle, staging_target_path=where
            )
            clear(target, self._around.kernel)
            if not record.block:
                target.parent.rmdir()

    # Around

    def _staging(self, source: Source) -> Path:
        thing = source.driver, source.handle
        return self._records.staging(source.name, thing, block=source.block)

    def _outside(self, path: Path) -> str:
        """The path as drivers know it."""
        return os.fspath(self._around.kubelet.path(path))

    @asynccontextmanager
    async def _alone(self, driver: str, handle: str) -> AsyncIterator[None]:
        thing = driver, handle
        lock, waiting = self._locks.setdefault(thing, (asyncio.Lock(), Counter()))
        waiting["users"] += 1
        try:
            async with lock:
                yield
        finally:
            waiting["users"] -= 1
            if not waiting["users"]:
                self._locks.pop(thing, None)


def _unique(record: Record) -> str:
    return csi_unique_name(*record.thing)


def _group(pod: Object) -> int:
    group = (pod["spec"].get("securityContext") or {}).get("fsGroup")
    return -1 if group is None else int(group)
