"""The listening sockets of the cluster's registry, and what holds for every request.

On loopback in clear, as container tools expect of a local registry; on the node's own address,
where pods and other nodes reach it, by TLS with the node's certificate. Nothing is loaded before
the first client comes: until then two sockets are all there is. Bounds: `REQUESTS_MAX` at once.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from sampan.aio.tls import ServingContext, ServingFiles
from sampan.runtime.images import ImageStore
from sampan.wire.address import join_host_port

from .. import http
from ..config import NodeConfig
from ..visitors import Visitor, Visitors

if TYPE_CHECKING:
    from aiohttp import web

log = logging.getLogger("sampan.node.registry")

REQUESTS_MAX = 256
LOOPBACK = "127.0.0.1"
REALM = 'Basic realm="sampan"'
VERSION = {"Docker-Distribution-Api-Version": "registry/2.0"}


def domains(address: str, port: int) -> tuple[str, ...]:
    """The names of the registry, the first one that of its images in the store."""
    return tuple(join_host_port(host, port) for host in ("localhost", LOOPBACK, address))


class RegistryServer:
    """`run` from the node's start on; everything else follows from who comes."""

    def __init__(
        self, config: NodeConfig, visitors: Visitors, images: ImageStore, port: int
    ) -> None:
        self._config = config
        self._visitors = visitors
        self._images = images
        self._port = port
        self._sockets: list[socket.socket] = []
        self._called = asyncio.Event()
        self._runner: web.AppRunner | None = None
        self._tls: ServingContext | None = None
        self._requests = 0
        # Pods of an earlier agent look for their images before anybody can be served.
        images.local = _Waiting(self)

    async def run(self) -> None:
        """Until cancelled. Raises what keeps it from serving (OSError of its disk): who runs it
        begins anew after a while, and clients wait in the sockets' queues or are refused."""
        self.open()
        try:
            await self._called.wait()
            await self._start()
            await asyncio.Event().wait()
        finally:
            await self.close()

    def open(self) -> None:
        """Take the port on both addresses; one that is taken is passed over, with a warning."""
        loop = asyncio.get_running_loop()
        for host in dict.fromkeys((LOOPBACK, self._config.address)):
            try:
                listener = _listen(host, self._port)
            except OSError as error:
                log.warning("the registry does not listen on %s:%d: %s", host, self._port, error)
                continue
            self._sockets.append(listener)
            loop.add_reader(listener, self._wake)

    def _wake(self) -> None:
        """The first client is waiting in a socket's queue."""
        loop = asyncio.get_running_loop()
        for listener in self._sockets:
            loop.remove_reader(listener)
        self._called.set()

    async def _start(self) -> None:
        from aiohttp import web

        from .gate import Gate
        from .routes import Routes

        depot = self.depot()
        await asyncio.to_thread(depot.open)
        gate = Gate(self._visitors)
        visitor_key = self._visitor = web.RequestKey("visitor", Visitor)

        async def reads(request: web.Request, name: str) -> bool:
            return await gate.may(request[visitor_key], "get", name)

        self._routes, self._gate = Routes(depot, reads), gate
        server = web.Application()
        server.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(
            server,
            access_log=None,
            handle_signals=False,
            shutdown_timeout=http.SHUTDOWN_S,
            # Tokens of the cluster are long, and a Basic header has one and a third of it.
            max_field_size=32768,
        )
        await self._runner.setup()
        for listener in self._sockets:
            plain = listener.getsockname()[0] == LOOPBACK
            context = None if plain else self._context()
            await web.SockSite(self._runner, listener, ssl_context=context).start()

    def _context(self) -> Any:
        config = self._config
        self._tls = ServingContext(ServingFiles(config.cert, config.key, (config.ca_cert,)))
        return self._tls.context

    def depot(self) -> Any:
        """The registry's content, from its first use on."""
        from sampan.runtime.depot.depot import Depot

        if not isinstance(self._images.local, Depot):
            names = domains(self._config.address, self._port)
            self._images.local = Depot(self._images.registry, self._images, names)
        return self._images.local

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        from sampan.runtime.depot.blobs import Rejected

        if self._requests >= REQUESTS_MAX:
            return _refusal(Rejected(429, "TOOMANYREQUESTS", "too many requests at once"))
        self._requests += 1
        try:
            transport = request.transport
            certificate = transport.get_extra_info("peercert") if transport else None
            asked = request.headers.get("Authorization", "")
            visitor = request[self._visitor] = await self._gate.identify(certificate or {}, asked)
            what, handler = self._routes.find(request.method, request.path)
            if what:
                await self._gate.admit(visitor, request.method, what)
            answer = await handler(request)
        except Rejected as rejected:
            answer = _refusal(rejected)
        except OSError as error:
            log.exception("%s %s", request.method, request.path)
            answer = _refusal(Rejected(500, "UNKNOWN", f"the registry's disk: {error.strerror}"))
        finally:
            self._requests -= 1
        answer.headers.update(VERSION)
        return answer

    def renew(self) -> None:
        """The certificate's files are new. Raises OSError and ssl.SSLError, then the old stay."""
        if self._tls is not None:
            self._tls.reload()

    async def close(self) -> None:
        loop = asyncio.get_running_loop()
        for listener in self._sockets:
            loop.remove_reader(listener)
        self._called.clear()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None
        for listener in self._sockets:
            listener.close()
        self._sockets.clear()


class _Waiting:
    """Stands for the depot until a client or a pod wants something of it."""

    def __init__(self, server: RegistryServer) -> None:
        self._server = server
        self.domains: Collection[str] = domains(server._config.address, server._port)
        self.domain: str = domains(server._config.address, server._port)[0]

    async def image(self, name: Any) -> Any:
        return await self._server.depot().image(name)


def _listen(host: str, port: int) -> socket.socket:
    """Raises OSError."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # The address may be the pod bridge's, which is made at the same time.
        listener.setsockopt(socket.SOL_IP, http.IP_FREEBIND, 1)
        listener.bind((host, port))
        listener.listen(http.BACKLOG)
        listener.setblocking(False)
    except OSError:
        listener.close()
        raise
    return listener


def _refusal(rejected: Any) -> web.Response:
    import orjson
    from aiohttp import web

    body = {"errors": [{"code": rejected.code, "message": rejected.text}]}
    headers = {"WWW-Authenticate": REALM} if rejected.status == 401 else {}
    return web.Response(
        status=rejected.status,
        body=orjson.dumps(body),
        content_type="application/json",
        headers=headers,
    )
