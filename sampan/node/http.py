"""The agent's own HTTPS server, with kubelet's paths: for the API server, and whoever may.

Who that is, `visitors` says. Bounds: `SESSIONS_MAX` logs, execs and attaches at once, then 503.
aiohttp.web is imported when the server starts.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import orjson

from sampan.aio.tls import ServingContext, ServingFiles
from sampan.runtime.interface import Container, ExecStreams, RuntimeFailure, State

from .idling import limited, watch_peers
from .logs import LogOptions, read_log
from .starting import log_path
from .state import RUNNING
from .stats import Stats
from .tally import Tally
from .timings import ANSWER
from .usage import read
from .visitors import Refused, Visitors

if TYPE_CHECKING:
    from aiohttp import web

    from .agent import Agent
    from .pages import Pages
    from .worker import PodWorker

SESSIONS_MAX = 200
USUAL_PORT = 10250
BACKLOG = 128
SHUTDOWN_S = 1.0
"""How long sessions may go on when the agent stops; they end with it."""
# <linux/in.h>: bind to an address that does not exist yet.
IP_FREEBIND = 15
PLAIN = "text/plain; charset=utf-8"
METHODS = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "CONNECT"})
LONG_RUNNING = frozenset({"exec", "attach", "portForward", "debug"})
PAGES = LONG_RUNNING | {
    "checkpoint", "configz", "containerLogs", "deletedLogs", "healthz", "metrics",
    "metrics/cadvisor", "metrics/probes", "metrics/resource", "pods", "runningpods", "stats",
    "volumes",
}  # fmt: skip
"""What a request is counted by; anybody may ask for anything."""
PROXIED = "Sampan-Proxied"
"""Set by the API server on what a user sends through nodes/proxy: the right to that is none to run
commands in pods."""


# pkg/kubelet validateContainerLogStatus.
WAITING_FOR_IMAGE = {
    "ErrImagePull": "image can't be pulled",
    "ImagePullBackOff": "trying and failing to pull image",
}


class AgentServer:
    """`bind` first (the node's object says the port), then `start`."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._socket: socket.socket | None = None
        self._runner: web.AppRunner | None = None
        self._sessions = 0
        self._pages: Pages
        self._stats = Stats(agent.parts.clock, lambda: read(agent))
        self._tls: ServingContext | None = None
        self._visitors = Visitors(agent.parts.client, agent.parts.clock, agent.config.name)

    def bind(self) -> int:
        """Take the port: the usual one when none is asked for and it is free. Raises OSError."""
        config = self._agent.config
        wanted = (config.listen_port,) if config.listen_port else (USUAL_PORT, 0)
        family = socket.AF_INET6 if ":" in config.listen_host else socket.AF_INET
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        watch_peers(listener)
        # The address may be the pod bridge's, which is made at the same time.
        listener.setsockopt(socket.SOL_IP, IP_FREEBIND, 1)
        try:
            try:
                listener.bind((config.listen_host, wanted[0]))
            except OSError:
                if len(wanted) == 1:
                    raise
                listener.bind((config.listen_host, wanted[1]))
        except OSError:
            listener.close()
            raise
        listener.listen(BACKLOG)
        listener.setblocking(False)
        self._socket = listener
        port: int = listener.getsockname()[1]
        return port

    async def start(self) -> None:
        from aiohttp import web

        from .pages import Pages

        assert self._socket is not None
        app = web.Application(middlewares=[self._guard])
        self._pages = Pages(self._agent, self._stats)
        for path, page in self._pages.table().items():
            app.router.add_get(path, page)
        place = "{namespace}/{pod}/{container}"
        app.router.add_get(f"/deletedLogs/{place}", self._deleted_log)
        app.router.add_post(f"/checkpoint/{place}", self._checkpoint)
        app.router.add_get("/containerLogs/{namespace}/{pod}/{container}", self._logs)
        app.router.add_put("/volumes/{name}", self._make_volume)
        app.router.add_delete("/volumes/{name}", self._remove_volume)
        for method in ("GET", "POST"):
            app.router.add_route(method, "/exec/{namespace}/{pod}/{container}", self._exec)
            app.router.add_route(method, "/attach/{namespace}/{pod}/{container}", self._attach)
            app.router.add_route(method, "/portForward/{namespace}/{pod}", self._port_forward)
        self._runner = web.AppRunner(
            app, access_log=None, handle_signals=False, shutdown_timeout=SHUTDOWN_S
        )
        await self._runner.setup()
        config = self._agent.config
        self._tls = ServingContext(ServingFiles(config.cert, config.key, (config.ca_cert,)))
        site = web.SockSite(self._runner, self._socket, ssl_context=self._tls.context)
        await site.start()

    def renew(self) -> None:
        """The certificate's files are new. Raises OSError and ssl.SSLError, then the old stay."""
        if self._tls is not None:
            self._tls.reload()

    async def close(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
        if self._socket is not None:
            self._socket.close()

    @property
    def _guard(self) -> Any:
        from aiohttp import web

        @web.middleware
        async def guard(request: web.Request, handler: Any) -> web.StreamResponse:
            """Those who may, and errors as text."""
            with counted(self._agent.parts.tally, request.method, request.path):
                return await answer(request, handler)

        async def answer(request: web.Request, handler: Any) -> web.StreamResponse:
            certificate = request.transport and request.transport.get_extra_info("peercert")
            try:
                await self._visitors.admit(
                    request.method, request.path, certificate or {}, request.headers
                )
                answer: web.StreamResponse = await handler(request)
            except Refused as refused:
                return web.Response(status=refused.status, text=refused.text)
            except RuntimeFailure as error:
                return web.Response(status=500, text=str(error))
            return answer

        return guard

    # Answers

    async def _checkpoint(self, request: web.Request) -> web.Response:
        """Refused in kubelet's words: the runtime cannot."""
        worker, name = self._worker(request), request.match_info["container"]
        if name not in worker.containers:
            raise Refused(404, f"container {name} does not exist\n")
        pod = worker.narrator
        where = f"{pod.namespace}/{pod.name}/{name}"
        why = "checkpoints are not supported by the container runtime"
        raise Refused(500, f"checkpointing of {where} failed ({why})")

    async def _deleted_log(self, request: web.Request) -> web.StreamResponse:
        options = _log_options(request.query, self._agent.parts.clock.now())
        with _Session(self), suppress(ConnectionError):
            return await self._pages.deleted_log(request, options)
        from aiohttp import web

        # Never sent: the client has gone.
        return web.Response()

    async def _logs(self, request: web.Request) -> web.StreamResponse:
        from aiohttp import web

        from .pages import send, speak

        worker = self._worker(request)
        name = request.match_info["container"]
        options = _log_options(request.query, self._agent.parts.clock.now())
        previous = request.query.get("previous") in ("true", "1")
        path, run_id = _log_of(worker, name, previous)
        if not path.exists():
            raise Refused(404, f"the log of container {name} is gone")
        pieces = read_log(
            path,
            options,
            lambda: not previous and not worker.has_exited(name, run_id) and _serves(worker),
            lambda: worker.pulse.wait(),
        )
        if request.headers.get("Upgrade", "").lower() == "websocket":
            with _Session(self):
                return await speak(request, pieces)
        response = web.StreamResponse(headers={"Content-Type": PLAIN})
        response.enable_chunked_encoding()
        with _Session(self), suppress(ConnectionError):
            # A client that has seen enough just leaves.
            await send(request, response, pieces)
        return response

    async def _exec(self, request: web.Request) -> web.StreamResponse:
        from .sessions import Asked, serve_session

        refuse_proxied(request)
        worker = self._worker(request)
        name = request.match_info["container"]
        container = self._running(worker, name, f'container not found ("{name}")')
        asked = Asked.of(request.query)
        command = request.query.getall("command", [])
        if not command:
            raise Refused(400, "you must specify at least 1 command for the container")
        runtime = self._agent.parts.runtime

        async def begin() -> ExecStreams:
            return await runtime.exec(container.id, command, tty=asked.tty, stdin=asked.stdin)

        return await self._stream(request, serve_session(request, asked, begin))

    async def _stream(
        self, request: web.Request, session: Coroutine[Any, Any, web.StreamResponse]
    ) -> web.StreamResponse:
        """One of `SESSIONS_MAX`, until it ends or has been idle for too long."""
        from aiohttp import web

        with closing(session), _Session(self):
            async with limited(request.transport, self._agent.config.streaming_idle_s):
                return await session
        # Never sent: the connection has been aborted.
        return web.Response()

    async def _attach(self, request: web.Request) -> web.StreamResponse:
        from .sessions import Asked, serve_session

        refuse_proxied(request)
        worker = self._worker(request)
        name, pod = request.match_info["container"], worker.narrator
        missing = f"container {name} not found in pod {pod.name}_{pod.namespace}"
        container = self._running(worker, name, missing)
        runtime = self._agent.parts.runtime
        session = serve_session(
            request, Asked.of(request.query), lambda: runtime.attach(container.id), attached=True
        )
        return await self._stream(request, session)

    async def _make_volume(self, request: web.Request) -> web.Response:
        async def make(name: str) -> Path:
            asked = request.query
            size, block = int(asked.get("size") or 0), asked.get("mode") == "Block"
            return await self._agent.storage.make(name, size, asked.get("from") or "", block=block)

        return await self._storage(request, make)

    async def _remove_volume(self, request: web.Request) -> web.Response:
        return await self._storage(request, self._agent.storage.remove)

    async def _storage(
        self, request: web.Request, act: Callable[[str], Awaitable[Path]]
    ) -> web.Response:
        """A volume of class `standard`; the answer says where it is, or was."""
        from aiohttp import web

        refuse_proxied(request)
        try:
            path = await act(request.match_info["name"])
        except ValueError as error:
            raise Refused(400, str(error)) from error
        except OSError as error:
            raise Refused(500, str(error)) from error
        return web.Response(body=orjson.dumps({"path": str(path)}), content_type="application/json")

    async def _port_forward(self, request: web.Request) -> web.StreamResponse:
        from .dialling import dial
        from .forwarding import Pod, serve_forward

        refuse_proxied(request)
        worker = self._worker(request)
        sandbox = worker.sandbox
        if not sandbox.ip:
            name = worker.narrator
            raise Refused(500, f'pod not found ("{name.name}_{name.namespace}")')

        async def connect(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
            return await dial(sandbox.namespace_path, port)

        pod = Pod(worker.narrator.name, sandbox.uid, connect)
        return await self._stream(request, serve_forward(request, pod))

    # Finding

    def _worker(self, request: web.Request) -> PodWorker:
        namespace, name = request.match_info["namespace"], request.match_info["pod"]
        # The newest: one that was removed by force may still be ending.
        for worker in reversed(self._agent.workers.values()):
            if worker.narrator.name == name and worker.narrator.namespace == namespace:
                return worker
        raise Refused(404, "pod does not exist\n")

    def _running(self, worker: PodWorker, name: str, missing: str) -> Container:
        run = worker.state.last(name)
        found = self._agent.parts.runtime.get(run.id) if run is not None and run.id else None
        if run is None or run.state != RUNNING or found is None or found.state != State.RUNNING:
            raise Refused(500, missing)
        return found

    @property
    def sessions(self) -> int:
        """How many are open."""
        return self._sessions

    def take(self) -> None:
        if self._sessions >= SESSIONS_MAX:
            raise Refused(503, "too many sessions on this node")
        self._sessions += 1

    def give_back(self) -> None:
        self._sessions -= 1


def refuse_proxied(request: web.Request) -> None:
    """No sessions through nodes/proxy, and no volumes."""
    if PROXIED in request.headers:
        raise Refused(403, "nodes/proxy opens no sessions in pods and touches no volumes")


@contextmanager
def counted(tally: Tally, method: str, path: str) -> Iterator[None]:
    """A request, in upstream's words (pkg/kubelet/server: trimURLPath, isLongRunningRequest)."""
    first, _, rest = path.lstrip("/").partition("/")
    shown = f"{first}/{rest.partition('/')[0]}" if first == "metrics" and rest else first
    labels = (
        method if method in METHODS else "other",
        shown if shown in PAGES else "other",
        "readwrite",
        "true" if first in LONG_RUNNING else "false",
    )
    tally.answers[labels] += 1
    tally.answering[labels] += 1
    began = perf_counter()
    try:
        yield
    finally:
        tally.answering[labels] -= 1
        tally.time(ANSWER, perf_counter() - began, *labels)


class _Session:
    def __init__(self, server: AgentServer) -> None:
        self._server = server

    def __enter__(self) -> None:
        self._server.take()

    def __exit__(self, *_: object) -> None:
        self._server.give_back()


def _serves(worker: PodWorker) -> bool:
    """Whether the pod is still looked after; the log of one that is gone ends."""
    return not worker.state.stopped


def _log_of(worker: PodWorker, name: str, previous: bool) -> Any:
    """(path, id of the run). Raises Refused with upstream's texts."""
    pod = worker.state.pod
    where = f'container "{name}" in pod "{worker.narrator.name}"'
    if name not in worker.containers:
        pod_name = worker.narrator.name
        raise Refused(404, f'container "{name}" not found in pod "{pod_name}"\n')
    runs = worker.state.attempts.get(name) or []
    if previous:
        if len(runs) < 2:
            raise Refused(400, f"previous terminated {where} not found")
        run = runs[-2]
    elif runs:
        run = runs[-1]
    else:
        held = worker.state.waiting.get(name)
        plain = "PodInitializing" if pod["spec"].get("initContainers") else "ContainerCreating"
        reason = held.reason if held is not None else plain
        why = WAITING_FOR_IMAGE.get(reason, reason)
        raise Refused(400, f"{where} is waiting to start: {why}")
    data = worker.parts.config.data
    return log_path(data, pod, name, run.restart_count), run.id


def _log_options(query: Any, now: float) -> LogOptions:
    """PodLogOptions of a query. Raises Refused for what is no number or time."""
    try:
        since = None
        if query.get("sinceSeconds"):
            since = now - int(query["sinceSeconds"])
        elif query.get("sinceTime"):
            text = query["sinceTime"].replace("Z", "+00:00")
            since = _parse_time(text)
        stream = {"Stdout": b"stdout", "Stderr": b"stderr"}.get(query.get("stream", ""), b"")
        return LogOptions(
            follow=query.get("follow") in ("true", "1"),
            tail_lines=int(query["tailLines"]) if query.get("tailLines") else None,
            since_s=since,
            timestamps=query.get("timestamps") in ("true", "1"),
            limit_bytes=int(query["limitBytes"]) if query.get("limitBytes") else None,
            stream=stream,
        )
    except ValueError as error:
        raise Refused(400, str(error)) from error


def _parse_time(text: str) -> float:
    from datetime import datetime

    return datetime.fromisoformat(text).timestamp()
