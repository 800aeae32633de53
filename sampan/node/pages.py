"""The agent's pages that only read: health, pods, figures, configuration, logs of deleted pods.

Paths and shapes are kubelet's (pkg/kubelet/server), but for `/deletedLogs`, which is ours. Loaded
with the agent's server.
"""

from __future__ import annotations

import asyncio
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING, Any

import orjson
from aiohttp import web

from sampan.linux.blockio import Transfers
from sampan.runtime.interface import Runtime, State

from .cadvisor import cadvisor_text
from .claimstats import ClaimStats, families
from .exposition import lines_of
from .logs import read_log
from .metrics import metrics_text, probes_text
from .summary import resource_text, summary
from .translate import CONTAINER_NAME, POD_NAME, POD_NAMESPACE, POD_UID
from .usage import Stores
from .visitors import Refused

if TYPE_CHECKING:
    from .agent import Agent
    from .stats import Reading, Stats

PROMETHEUS = {"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}
Page = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Pages:
    """Of one agent."""

    def __init__(self, agent: Agent, stats: Stats) -> None:
        self._agent = agent
        self._stats = stats
        self._stores = Stores(agent)
        self._claims = ClaimStats(agent)

    def table(self) -> dict[str, Page]:
        """Path -> what answers a GET there."""
        return {
            "/healthz": self._ok,
            "/healthz/ping": self._ok,
            "/healthz/log": self._ok,
            "/healthz/syncloop": self._ok,
            "/pods": self._pods,
            "/runningpods/": self._running_pods,
            "/configz": self._configz,
            "/metrics": self._metrics,
            "/metrics/probes": self._metrics_probes,
            "/metrics/resource": self._metrics_resource,
            "/metrics/cadvisor": self._metrics_cadvisor,
            "/stats/summary": self._summary,
            "/deletedLogs": self._deleted,
        }

    async def _ok(self, request: web.Request) -> web.Response:
        return web.Response(text="ok")

    async def _pods(self, request: web.Request) -> web.Response:
        workers = self._agent.workers.values()
        return _listed([worker.state.pod | {"status": worker.state.known} for worker in workers])

    async def _running_pods(self, request: web.Request) -> web.Response:
        """What the runtime runs, whoever knows of it (GetRunningPods)."""
        pods: dict[str, dict[str, Any]] = {}
        for found in self._agent.runtime.list():
            notes = found.annotations
            if found.state != State.RUNNING or not notes.get(POD_UID):
                continue
            meta = {
                "name": notes.get(POD_NAME, ""),
                "namespace": notes.get(POD_NAMESPACE, ""),
                "uid": notes[POD_UID],
            }
            pod = pods.setdefault(meta["uid"], {"metadata": meta, "spec": {"containers": []}})
            name = notes.get(CONTAINER_NAME, "")
            if name:
                shown = {"name": name, "image": found.image, "resources": {}}
                pod["spec"]["containers"].append(shown)
        return _listed([pod | {"status": {}} for pod in pods.values()])

    async def _configz(self, request: web.Request) -> web.Response:
        from .configuration import configuration

        shown = configuration(self._agent.config)
        return _json({"kubeletconfig": shown})

    async def _metrics(self, request: web.Request) -> web.Response:
        claims = await self._claims.read()
        lines = [line for family in families(claims) if claims for line in lines_of(family)]
        text = metrics_text(self._agent) + "".join(f"{line}\n" for line in lines)
        return web.Response(text=text, headers=PROMETHEUS)

    async def _metrics_probes(self, request: web.Request) -> web.Response:
        return web.Response(text=probes_text(self._agent.parts.tally), headers=PROMETHEUS)

    async def _metrics_resource(self, request: web.Request) -> web.Response:
        text = resource_text(await self._stats.read())
        return web.Response(text=text, headers=PROMETHEUS)

    async def _metrics_cadvisor(self, request: web.Request) -> web.Response:
        stores = await asyncio.to_thread(self._stores.read)
        cpus = self._agent.registration.facts.cpus
        reading = await self._stats.read()
        moved = await asyncio.to_thread(_moved, self._agent.runtime, reading)
        text = cadvisor_text(reading, cpus, stores, moved)
        return web.Response(text=text, headers=PROMETHEUS)

    async def _summary(self, request: web.Request) -> web.Response:
        short = request.query.get("only_cpu_and_memory") in ("true", "1")
        measured = await self._stats.measure()
        if short:
            return _json(summary(measured, self._agent.config.name, short=True))
        stores = await asyncio.to_thread(self._stores.read)
        claims = await self._claims.read()
        return _json(summary(measured, self._agent.config.name, stores, claims))

    # Deleted pods

    async def _deleted(self, request: web.Request) -> web.Response:
        """Which logs are kept, the newest first."""
        rows = [
            {
                "namespace": item.namespace,
                "name": item.name,
                "uid": item.uid,
                "deletedAt": item.deleted_at,
                "containers": item.containers(),
            }
            for item in self._agent.keeper.kept.found()
        ]
        return _json({"items": rows})

    async def deleted_log(self, request: web.Request, options: Any) -> web.StreamResponse:
        """One container's, of the pod of that name which was deleted last."""
        where = request.match_info
        namespace, name, container = where["namespace"], where["pod"], where["container"]
        found = next(
            (
                item
                for item in self._agent.keeper.kept.found()
                if (item.namespace, item.name) == (namespace, name)
            ),
            None,
        )
        if found is None:
            raise Refused(404, f'no logs of a deleted pod "{namespace}/{name}" are kept here\n')
        previous = request.query.get("previous") in ("true", "1")
        path = found.log(container, previous=previous)
        if path is None:
            kept = " ".join(found.containers())
            raise Refused(
                404, f'no such log of container "{container}" is kept; there is: {kept}\n'
            )
        response = web.StreamResponse(headers={"Content-Type": "text/plain; charset=utf-8"})
        response.enable_chunked_encoding()
        await send(request, response, read_log(path, options, lambda: False, _never))
        return response


async def send(
    request: web.Request, response: web.StreamResponse, pieces: AsyncIterator[bytes]
) -> None:
    """Stream, as fast as the client reads. A client that goes away cancels us."""
    async with aclosing(pieces) as stream:  # type: ignore[type-var]
        await response.prepare(request)
        async for piece in stream:
            await response.write(piece)
        await response.write_eof()


TEXT, BINARY = "base64.binary.k8s.io", "binary.k8s.io"


async def speak(request: web.Request, pieces: AsyncIterator[bytes]) -> web.WebSocketResponse:
    """A log over a WebSocket, as upstream's wsstream.Reader: binary messages, or base64 in text."""
    socket = web.WebSocketResponse(protocols=(BINARY, TEXT))
    await socket.prepare(request)
    async with aclosing(pieces) as stream:  # type: ignore[type-var]
        with suppress(ConnectionError):
            async for piece in stream:
                if socket.ws_protocol == TEXT:
                    await socket.send_str(b64encode(piece).decode())
                else:
                    await socket.send_bytes(piece)
            await socket.close()
    return socket


async def _never() -> None:
    """Nothing is written there any more."""


def _moved(runtime: Runtime, reading: Reading) -> dict[str, Transfers]:
    """What each container has read and written, by id. Blocks."""
    return {
        item.id: runtime.transfers(f"{pod.cgroup}/{item.id}")
        for pod in reading.pods
        for item in pod.containers
    }


def _listed(items: list[Any]) -> web.Response:
    return _json({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items})


def _json(body: Any) -> web.Response:
    return web.Response(body=orjson.dumps(body), content_type="application/json")
