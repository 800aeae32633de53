"""An API server in this process, over a store in memory: what behaviour tests speak to.

async with api_cluster() as cluster:
    await cluster.client.create(PODS, {...}, "default")
    answer = await cluster.http("GET", "/api/v1/pods")
"""

from __future__ import annotations

import atexit
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from typing import Any
from urllib.parse import parse_qs, urlsplit

import orjson

from sampan.aio.clock import Clock, SystemClock
from sampan.client.api import Client
from sampan.server.app import Server
from sampan.server.config import ServerConfig
from sampan.server.exchange import Request, Response, Stream, User
from sampan.store.interface import Store
from sampan.store.memory import MemoryStore

ADMIN = User("admin", ("system:masters", "system:authenticated"))


@dataclass(slots=True)
class Answer:
    """An answer as a client sees it."""

    status: int
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def json(self) -> Any:
        return orjson.loads(self.body)

    @property
    def message(self) -> str:
        return str(self.json.get("message", ""))


@dataclass(slots=True)
class Cluster:
    server: Server
    client: Client
    store: Store

    async def http(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        user: User = ADMIN,
        content_type: str = "application/json",
        accept: str = "",
    ) -> Answer:
        """One request through everything but sockets; `body` may be bytes or a JSON value."""
        answer = await self.server.handle(
            request_of(method, path, body, user, content_type, accept)
        )
        assert isinstance(answer, Response), answer
        assert answer.body is not None
        return Answer(answer.status, answer.body, dict(answer.headers))

    async def stream(
        self, path: str, *, user: User = ADMIN, accept: str = ""
    ) -> AsyncIterator[Any]:
        """The JSON values of a stream's lines."""
        answer = await self.server.handle(request_of("GET", path, None, user, "", accept))
        assert isinstance(answer, Stream), answer
        try:
            async for chunk in answer.chunks:
                for line in chunk.splitlines():
                    yield orjson.loads(line)
        finally:
            await answer.chunks.aclose()  # type: ignore[attr-defined]


def request_of(
    method: str, path: str, body: Any, user: User, content_type: str, accept: str
) -> Request:
    url = urlsplit(path)
    raw = body if isinstance(body, bytes) else b"" if body is None else orjson.dumps(body)
    headers = {"content-type": content_type} if content_type else {}
    if accept:
        headers["accept"] = accept
    query = parse_qs(url.query, keep_blank_values=True)
    return Request(method, url.path, query, headers, raw, user)


@cache
def server_files() -> Path:
    """A folder with a CA and the keys a server needs, made once per test run."""
    from sampan.daemon import pki
    from sampan.daemon.config import ClusterConfig

    folder = Path(mkdtemp(prefix="sampan-test-")) / "pki"
    cluster = ClusterConfig(
        "test", 0, "node", "10.244.0.0/16", "10.96.0.0/12", "127.0.0.1", 6443, "test"
    )
    pki.ensure(folder, cluster)
    atexit.register(rmtree, folder.parent, ignore_errors=True)
    return folder


def server_config(**changes: Any) -> ServerConfig:
    files = server_files()
    values: dict[str, Any] = {
        "ca_cert": files / "ca.crt",
        "ca_key": files / "ca.key",
        "service_account_key": files / "sa.key",
        "node_client_cert": files / "node-client.crt",
        "node_client_key": files / "node-client.key",
        "front_proxy_ca": files / "front-proxy-ca.crt",
        "front_proxy_cert": files / "front-proxy-client.crt",
        "front_proxy_key": files / "front-proxy-client.key",
        "advertise_host": "10.244.0.1",
        "advertise_port": 6443,
    }
    return ServerConfig(**{**values, **changes})


@asynccontextmanager
async def api_cluster(
    *, clock: Clock | None = None, store: Store | None = None, **config: Any
) -> AsyncIterator[Cluster]:
    """A started server; `config` changes fields of ServerConfig."""
    where = store or MemoryStore()
    server = Server(where, server_config(**config), clock or SystemClock())
    await server.start()
    # Nobody makes accounts here, so there are none to wait for.
    server.admission.lookups.wait_s = 0
    try:
        yield Cluster(server, Client(server.local_transport(ADMIN)), where)
    finally:
        await server.close()
        if store is None:
            await where.close()
