"""Drivers that register by a socket in plugins_registry, and the node's CSINode that names them.

Task: `run`, under the agent's supervisor, one registration after the other; the kernel tells of new
sockets and of those that go (inotify), nothing is polled. Bound: the kernel's own queue of events;
when it ran over the folder is read anew. A driver that does not answer is asked again with a
backoff, up to `TRIES` times; then its socket has to come anew.
"""

from __future__ import annotations

import asyncio
import logging
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import orjson
from msgspec import Struct

from sampan.aio.backoff import Backoff
from sampan.aio.clock import Clock
from sampan.api.descriptor import ApiResource
from sampan.api.errors import AlreadyExists, Conflict, NotFound, Object, StatusError
from sampan.api.resources import api_resource
from sampan.client.api import Client
from sampan.client.interface import STRATEGIC_PATCH
from sampan.linux import inotify

from ..volumes.kubelet import Kubelet

if TYPE_CHECKING:
    from sampan.aio.grpc import Peer

    from ..dra.plugins import Plugins
    from .drivers import Driver, Drivers

log = logging.getLogger("sampan.node.csi")

FOLDER = "plugins_registry"
KIND, DEVICES_KIND = "CSIPlugin", "DRAPlugin"
NODE_ID = "csi.volume.kubernetes.io/nodeid"
CHANGES = inotify.IN_CREATE | inotify.IN_MOVED_TO | inotify.IN_DELETE | inotify.IN_MOVED_FROM
GONE = inotify.IN_DELETE | inotify.IN_MOVED_FROM
TRIES = 8
WIPE_S = 30.0
"""How long a driver of devices may be away, as an update takes (upstream's wipingDelay)."""
VERSIONS = ("1.", "v1.")


class Homes(Struct, frozen=True):
    """Where drivers are kept, by their type."""

    drivers: Callable[[], Drivers]
    plugins: Callable[[], Plugins]


class Registry:
    """`uid` gives that of the Node, which owns the CSINode."""

    def __init__(
        self,
        data: Path,
        node: tuple[str, Callable[[], str]],
        around: tuple[Client, Clock],
        kubelet: Kubelet,
        homes: Homes,
    ) -> None:
        self._folder = data / FOLDER
        self._node, self._uid = node
        self._client, self._clock = around
        self._kubelet = kubelet
        self._homes = homes
        self._names: dict[str, tuple[str, str]] = {}
        """Socket's name -> the driver's type and name."""
        self._wipes: dict[str, asyncio.Task[None]] = {}
        """Of drivers of devices that have gone."""
        self._counts: dict[str, asyncio.Task[None]] = {}
        """Of CSI drivers that are here."""
        self._wake = asyncio.Event()
        self._gone: set[str] = set()

    async def run(self) -> None:
        """Until cancelled."""
        self._folder.mkdir(mode=0o750, exist_ok=True)
        await self._ensure_object()
        loop, fd = asyncio.get_running_loop(), inotify.inotify_init()
        try:
            inotify.add_watch(fd, self._folder, CHANGES)
            loop.add_reader(fd, self._look, fd)
            failures: dict[str, int] = {}
            backoff = Backoff(0.05, 5.0)
            while True:
                self._wake.clear()
                if await self._settle(failures):
                    backoff.reset()
                    await self._wake.wait()
                else:
                    await self._clock.sleep(backoff.next_s())
        finally:
            loop.remove_reader(fd)
            os.close(fd)
            for task in (*self._wipes.values(), *self._counts.values()):
                task.cancel()

    def _look(self, fd: int) -> None:
        """The kernel has something to tell."""
        for event in inotify.read_events(fd):
            if event.mask & GONE:
                self._gone.add(event.name)
        self._wake.set()

    async def _settle(self, failures: dict[str, int]) -> bool:
        """Make what is registered what there are sockets for; false when it is to be tried
        again."""
        # What goes from here on is for the next time, which its event has asked for.
        gone, self._gone = self._gone, set()
        present = {entry.name for entry in os.scandir(self._folder) if _is_socket(entry)}
        for name in self._names.keys() & (gone | (self._names.keys() - present)):
            await self._remove(name)
        for name in gone | (failures.keys() - present):
            failures.pop(name, None)
        for name in sorted(present - self._names.keys()):
            if failures.get(name, 0) >= TRIES:
                continue
            try:
                await self._add(name)
            except Exception as error:
                failures[name] = failures.get(name, 0) + 1
                log.info("plugin %s: %s", name, error)
        return not any(0 < count < TRIES for count in failures.values())

    async def _add(self, name: str) -> None:
        """RegisterPlugin: who is it, and what does it say of this node? Raises RpcError,
        StatusError, OSError and ValueError."""
        from sampan.aio.grpc import Peer

        from .drivers import ask

        peer = Peer(self._folder / name)
        try:
            info = await ask(peer, "GetInfo", {})
            kind = info["type"]
            if kind not in (KIND, DEVICES_KIND):
                raise ValueError(f"no handler registered for plugin type: {kind}")
            socket = self._kubelet.inside(info["endpoint"] or str(self._folder / name))
            try:
                keep = await (self._volumes if kind == KIND else self._devices)(info, socket)
            except Exception as error:
                await _notify(peer, f"RegisterPlugin error -- {error}")
                raise
            await _notify(peer, "")
        finally:
            peer.close()
        keep()
        self._names[name] = kind, info["name"]
        log.info("driver %s has registered", info["name"])

    async def _volumes(self, info: Object, socket: Path) -> Callable[[], None]:
        """A CSI driver; the answer takes it among those there are."""
        from .drivers import Driver

        driver, versions = Driver(info["name"], socket), info["supported_versions"]
        try:
            if not any(item.startswith(VERSIONS) for item in versions):
                raise ValueError(f"versions {versions} are not supported by the node")
            await self._introduce(driver)
        except Exception:
            driver.close()
            raise
        return lambda: self._take(driver)

    def _take(self, driver: Driver) -> None:
        from .counting import keep_counted

        self._homes.drivers().add(driver)
        self._forget_count(driver.name)

        async def tell() -> None:
            entry, _ = await self._describe(driver)
            await self._write_object(driver.name, entry)

        self._counts[driver.name] = asyncio.create_task(
            keep_counted(driver, self._client, self._clock, tell), name=f"count {driver.name}"
        )

    def _forget_count(self, driver: str) -> None:
        if counting := self._counts.pop(driver, None):
            counting.cancel()

    async def _devices(self, info: Object, socket: Path) -> Callable[[], None]:
        """The same of a driver of devices (DRA)."""
        from ..dra.plugins import Plugin

        plugin = Plugin(info["name"], socket, info["supported_versions"])
        if wipe := self._wipes.pop(plugin.name, None):
            wipe.cancel()
        return lambda: self._homes.plugins().add(plugin)

    async def _introduce(self, driver: Driver) -> None:
        """Tell the API of it. Raises RpcError, StatusError, OSError and ValueError."""
        entry, segments = await self._describe(driver)
        await self._write_node(driver.name, entry["nodeID"], segments)
        await self._write_object(driver.name, entry)

    async def _describe(self, driver: Driver) -> tuple[Object, dict[str, str]]:
        """Its entry in the CSINode, and where the node is. Raises RpcError."""
        info = await driver.call("NodeGetInfo")
        segments = (info["accessible_topology"] or {}).get("segments") or {}
        entry: Object = {"name": driver.name, "nodeID": info["node_id"]}
        if segments:
            entry["topologyKeys"] = sorted(segments)
        if info["max_volumes_per_node"] > 0:
            entry["allocatable"] = {"count": info["max_volumes_per_node"]}
        return entry, segments

    async def _wipe(self, driver: str) -> None:
        """What a driver of devices offers here is taken away when it stays away: nobody could
        prepare it."""
        await self._clock.sleep(WIPE_S)
        slices = api_resource("resourceslices", "resource.k8s.io")
        query = {"fieldSelector": f"spec.driver={driver},spec.nodeName={self._node}"}
        backoff = Backoff(0.1, 10.0)
        while True:
            try:
                await self._client.delete_collection(slices, query=query)
                return
            except NotFound:
                return
            except (StatusError, OSError) as error:
                log.info("slices of %s: %s", driver, error)
            await self._clock.sleep(backoff.next_s())

    async def _remove(self, name: str) -> None:
        kind, driver = self._names.pop(name)
        if (kind, driver) in self._names.values():
            return
        log.info("driver %s has gone", driver)
        if kind == DEVICES_KIND:
            self._homes.plugins().remove(driver)
            name = f"wipe {driver}"
            self._wipes[driver] = asyncio.create_task(self._wipe(driver), name=name)
            return
        self._forget_count(driver)
        self._homes.drivers().remove(driver)
        try:
            await self._write_node(driver, None, {})
            await self._write_object(driver, None)
        except (StatusError, OSError) as error:
            log.warning("driver %s: %s", driver, error)

    async def _ensure_object(self) -> None:
        """The node's CSINode, which every node has. Drivers that an agent before this one knew
        stay in it: they register again."""
        backoff = Backoff(0.1, 10.0)
        while True:
            try:
                await self._client.create(_csinodes(), self._object([]))
                return
            except AlreadyExists:
                return
            except (StatusError, OSError) as error:
                log.info("CSINode %s: %s", self._node, error)
            await self._clock.sleep(backoff.next_s())

    def _object(self, drivers: list[Object]) -> Object:
        owner = {"apiVersion": "v1", "kind": "Node", "name": self._node, "uid": self._uid()}
        return {
            "apiVersion": "storage.k8s.io/v1",
            "kind": "CSINode",
            "metadata": {"name": self._node, "ownerReferences": [owner]},
            "spec": {"drivers": drivers},
        }

    async def _write_object(self, name: str, entry: Object | None) -> None:
        """Set or take away one driver. What an entry says but for its count is never changed,
        only made anew, as the API has it."""
        while True:
            try:
                old = await self._client.get(_csinodes(), self._node)
            except NotFound:
                await self._client.create(_csinodes(), self._object([entry] if entry else []))
                return
            before = (old.get("spec") or {}).get("drivers") or []
            mine = [item for item in before if item["name"] == name]
            others = [item for item in before if item["name"] != name]
            wanted = [*others, entry] if entry else others
            if mine == ([entry] if entry else []):
                return
            try:
                if entry and any(_but_count(item) != _but_count(entry) for item in mine):
                    spec = {"drivers": others}
                    old = await self._client.update(_csinodes(), {**old, "spec": spec})
                spec = {"drivers": wanted}
                await self._client.update(_csinodes(), {**old, "spec": spec})
                return
            except Conflict:
                continue

    async def _write_node(self, name: str, node_id: str | None, segments: dict[str, str]) -> None:
        """The annotation that attachers read, and where the node is as the driver has it."""
        nodes = api_resource("nodes")
        node = await self._client.get(nodes, self._node)
        meta = node["metadata"]
        known = orjson.loads((meta.get("annotations") or {}).get(NODE_ID) or "{}")
        wanted = {key: text for key, text in known.items() if key != name}
        if node_id is not None:
            wanted[name] = node_id
        labels = meta.get("labels") or {}
        for key, text in segments.items():
            if labels.get(key, text) != text:
                raise ValueError(
                    f'detected topology value collision: driver reported "{key}":"{text}" '
                    f'but existing label is "{key}":"{labels[key]}"'
                )
        if wanted == known and segments.items() <= labels.items():
            return
        shown = orjson.dumps(wanted).decode() if wanted else None
        change: Object = {"metadata": {"annotations": {NODE_ID: shown}, "labels": segments}}
        await self._client.patch(nodes, self._node, change, content_type=STRATEGIC_PATCH)


def _but_count(entry: Object) -> Object:
    return {key: value for key, value in entry.items() if key != "allocatable"}


def _csinodes() -> ApiResource:
    return api_resource("csinodes", "storage.k8s.io")


def _is_socket(entry: os.DirEntry[str]) -> bool:
    try:
        mode = entry.stat(follow_symlinks=False).st_mode
    except OSError:
        return False
    return stat.S_ISSOCK(mode) and not entry.name.startswith(".")


async def _notify(peer: Peer, trouble: str) -> None:
    from .drivers import ask

    status = {"plugin_registered": not trouble, "error": trouble}
    await ask(peer, "NotifyRegistrationStatus", status)
