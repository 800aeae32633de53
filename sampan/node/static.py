"""Static pods: those that a folder of the node asks for, and their mirrors in the API.

Tasks: one, which compares what the folder says, what runs and what the API shows whenever one of
them changes (inotify, the agent's informer, the end of a worker), and makes them agree. A mirror
that somebody deletes is made again; its pod runs on. Nothing polls.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

from sampan.aio.backoff import Backoff
from sampan.aio.clock import Clock
from sampan.api.errors import AlreadyExists, Conflict, NotFound, Object, StatusError
from sampan.api.resources import api_resource
from sampan.api.times import format_time
from sampan.client.api import Client
from sampan.linux import inotify

from .manifests import mirror_of, mirrored, read_folder
from .reports import Reports

log = logging.getLogger("sampan.node.static")

WATCHED = inotify.IN_CLOSE_WRITE | inotify.IN_MOVED_TO | inotify.IN_MOVED_FROM | inotify.IN_DELETE


class Pods(Protocol):
    """What static pods need of the agent."""

    def known(self) -> Mapping[str, Object]:
        """Static pods that are being looked after, by uid."""

    def begin(self, pod: Object) -> None:
        """Look after a new one."""

    def end(self, uid: str) -> None:
        """Stop it, with the grace its spec gives."""


class StaticPods:
    """Those of one folder."""

    def __init__(
        self,
        folder: Path,
        node: tuple[str, Callable[[], str]],
        around: tuple[Client, Reports, Clock],
        pods: Pods,
    ) -> None:
        """`node` is its name, and what tells its uid."""
        self._folder = folder
        self._node, self._node_uid = node
        self._client, self._reports, self._clock = around
        self._pods = pods
        self._mirrors: dict[tuple[str, str], Object] = {}
        self._wanted: dict[str, Object] = {}
        self._changed = asyncio.Event()
        self._fd = -1

    def open(self) -> None:
        """Read the folder, and hear of its changes from now on."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if self._fd < 0:
            self._fd = inotify.inotify_init()
            inotify.add_watch(self._fd, self._folder, WATCHED)
            asyncio.get_running_loop().add_reader(self._fd, self._hear)
        self._read()

    def close(self) -> None:
        if self._fd >= 0:
            asyncio.get_running_loop().remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1

    @property
    def wanted(self) -> Mapping[str, Object]:
        """What the folder says, by uid."""
        return self._wanted

    def mirror_changed(self, old: Object | None, new: Object | None) -> None:
        """The API has another mirror, or none any more."""
        meta = (new or old or {})["metadata"]
        key = (meta["namespace"], meta["name"])
        have = self._mirrors.get(key)
        if new is None:
            if have is not None and have["metadata"]["uid"] == meta["uid"]:
                del self._mirrors[key]
        elif have is None or _revision(have) <= _revision(new):
            self._mirrors[key] = new
            if not new["metadata"].get("deletionTimestamp"):
                self._reports.show(mirrored(new), new)
        self._changed.set()

    def ended(self) -> None:
        """A worker is done: another pod of its name may begin."""
        self._changed.set()

    def settle(self) -> None:
        """Begin and end pods by the folder; one waits for its forerunner of the same name."""
        running = self._pods.known()
        names = set()
        for uid, pod in running.items():
            names.add(_key(pod))
            if uid not in self._wanted:
                self._pods.end(uid)
        for uid, pod in self._wanted.items():
            if uid not in running and _key(pod) not in names:
                self._pods.begin(self.remembered(pod))

    def remembered(self, pod: Object) -> Object:
        """With what its mirror knows of it from before the agent died."""
        mirror = self._mirrors.get(_key(pod))
        if mirror is None or mirrored(mirror) != pod["metadata"]["uid"]:
            return pod
        return pod | {"status": mirror.get("status") or pod["status"]}

    async def run(self) -> None:
        """Keep all three the same, for ever."""
        backoff = Backoff(initial_s=0.2, cap_s=10.0)
        while True:
            self._changed.clear()
            self.settle()
            try:
                await self._show()
            except (StatusError, OSError) as error:
                log.info("mirror pods: %s", error)
                await self._clock.sleep(backoff.next_s())
                continue
            backoff.reset()
            await self._changed.wait()

    async def _show(self) -> None:
        """Mirrors that are missing are made, those of nothing are taken away."""
        shown = dict(self._pods.known())
        by_name = {_key(pod): pod for pod in shown.values()}
        for key, mirror in tuple(self._mirrors.items()):
            pod = by_name.get(key)
            right = pod is not None and mirrored(mirror) == pod["metadata"]["uid"]
            if right and not mirror["metadata"].get("deletionTimestamp"):
                continue
            await self._take_away(mirror)
        for key, pod in by_name.items():
            if key not in self._mirrors and pod["metadata"]["uid"] in self._wanted:
                try:
                    made = await self._client.create(
                        api_resource("pods"), mirror_of(pod, self._node_uid()), key[0]
                    )
                except AlreadyExists:
                    log.error("mirror pods: %s/%s is taken by another pod", *key)
                    continue
                self.mirror_changed(None, made)

    async def _take_away(self, mirror: Object) -> None:
        meta = mirror["metadata"]
        options = {"gracePeriodSeconds": 0, "preconditions": {"uid": meta["uid"]}}
        try:
            await self._client.delete(
                api_resource("pods"), meta["name"], meta["namespace"], options
            )
        except (NotFound, Conflict):
            log.debug("mirror pod %s/%s is gone already", meta["namespace"], meta["name"])
        self._mirrors.pop((meta["namespace"], meta["name"]), None)
        self._changed.set()

    def _read(self) -> None:
        self._wanted = read_folder(self._folder, self._node, format_time(self._clock.now()))

    def _hear(self) -> None:
        names = {event.name for event in inotify.read_events(self._fd)}
        if any(not name.startswith(".") for name in names):
            self._read()
            self._changed.set()


def _revision(pod: Object) -> int:
    return int(pod["metadata"].get("resourceVersion") or 0)


def _key(pod: Object) -> tuple[str, str]:
    return pod["metadata"]["namespace"], pod["metadata"]["name"]
