"""A request passed on to an extension server, and its answer passed back as it comes.

The client's credentials stay here; who asks is told in the front-proxy headers, on a connection
with the front-proxy certificate. Redirects are refused (CVE-2022-3172), a failed upgrade is never
handed back (CVE-2018-1002105, see `proxying.splice`). Bounds: answers of up to `WHOLE_BYTES` with
a known length are answered whole, all others are streamed, at most
`webhooks.connection.HIGH_BYTES` ahead of the client. A head must come within `HEAD_S`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode, urlsplit

import orjson

from sampan.api.errors import InternalError

from ..exchange import Incoming, Request, Response, Stream, Upgrade
from ..proxying.headers import PATH_SAFE, Pairs, encode_head, request_headers, response_headers
from ..proxying.splice import Side, join
from ..proxying.splice import pass_on as pass_refusal
from ..webhooks.caller import dial
from ..webhooks.connection import Connection
from ..webhooks.target import CallFailed, Target, addresses_of
from .trust import identity_headers

if TYPE_CHECKING:
    from ..app import Server
    from .aggregator import Extension

HEAD_S = 60.0
"""Upstream's request time-out; what streams, streams on after its head."""
WHOLE_BYTES = 1 << 20
REDIRECTED = "the backend attempted to redirect this request, which is not permitted"
OWN = frozenset({"date", "cache-control", "content-type", "content-length", "audit-id"})
"""Headers of an answer that this server writes itself."""


async def pass_on(
    server: Server, request: Request, extension: Extension
) -> Response | Stream | Upgrade:
    """The extension's answer; 503 when there is none."""
    target = extension.target
    if not extension.available or target is None:
        return _plain(503, "service unavailable")
    query = request.raw_query or urlencode(request.query, doseq=True)
    if request.upgradable:
        head = _upgrade_head(request, target, query)
        return Upgrade(lambda client, received: _splice(server, target, head, (client, received)))
    path = quote(request.path, safe=PATH_SAFE)
    url = f"{target.url}{path}" + (f"?{query}" if query else "")
    try:
        async with asyncio.timeout(HEAD_S):
            connection = await server.webhooks.open(
                target, request.method, url, _headers(request), _body(request)
            )
    except TimeoutError:
        return _plain(503, "error trying to reach service: context deadline exceeded")
    except CallFailed as error:
        return _plain(503, f"error trying to reach service: {error.message}")
    return await _answer(server, request, target, connection)


def _headers(request: Request, *, upgrade: bool = False) -> Pairs:
    kept = request_headers(request.headers, upgrade=upgrade)
    # A compressed answer would be decompressed nowhere: the client's own wish is passed on.
    return [*kept, *identity_headers(request.user)]


def _body(request: Request) -> bytes | Incoming:
    """A body that still arrives is passed on as it does."""
    if request.local and request.body not in (None, b""):
        body = request.body
        return body if isinstance(body, bytes) else orjson.dumps(body)
    if request.incoming is not None:
        return request.incoming
    return request.body or b""


async def _answer(
    server: Server, request: Request, target: Target, connection: Connection
) -> Response | Stream:
    status = connection.status
    if 300 <= status < 400 and connection.header("location"):
        connection.abort()
        return _plain(502, REDIRECTED)
    content_type = connection.header("content-type")
    headers = [
        (name, value)
        for name, value in response_headers(connection.headers)
        if name.lower() not in OWN
    ]
    length = connection.header("content-length")
    bodiless = request.method == "HEAD" or status in (204, 304)
    if bodiless or (length.isdecimal() and int(length) <= WHOLE_BYTES):
        try:
            body = b"" if bodiless else await connection.read(WHOLE_BYTES)
        except CallFailed as error:
            return _plain(503, f"error trying to reach service: {error.message}")
        server.webhooks.keep(target, connection)
        return _local(request, Response(status, body, None, content_type, headers))
    return Stream(_chunks(server, target, connection), status, content_type, headers)


def _local(request: Request, response: Response) -> Response:
    """In process answers are decoded."""
    if request.local and response.body and response.content_type.startswith("application/json"):
        try:
            response.obj = orjson.loads(response.body)
        except orjson.JSONDecodeError:
            raise InternalError("Internal error occurred: the answer is no JSON") from None
    return response


async def _chunks(server: Server, target: Target, connection: Connection) -> AsyncIterator[bytes]:
    try:
        async for chunk in connection.chunks():
            yield chunk
    except CallFailed as error:
        # The client must not take what it has for the whole.
        raise ConnectionError(error.message) from None
    finally:
        server.webhooks.keep(target, connection)


def _plain(status: int, text: str) -> Response:
    """An error as Go's http.Error writes it, which upstream's proxy uses."""
    return Response(
        status, f"{text}\n".encode(), None, "text/plain; charset=utf-8",
        [("X-Content-Type-Options", "nosniff")],
    )  # fmt: skip


def _upgrade_head(request: Request, target: Target, query: str) -> bytes:
    host = urlsplit(target.url).netloc
    pairs = [("Host", host), *_headers(request, upgrade=True)]
    if request.method == "POST":
        pairs.append(("Content-Length", "0"))
    return encode_head(request.method, request.path, query, pairs)


async def _splice(
    server: Server, target: Target, head: bytes, client: tuple[asyncio.Transport, bytes]
) -> None:
    async def connect() -> tuple[asyncio.Transport, Side]:
        try:
            addresses = addresses_of(server, target)
            transport, side = await dial(target, addresses, lambda address: Side())
        except CallFailed as error:
            why = f"Internal error occurred: error dialing backend: {error.message}"
            raise InternalError(why) from None
        return transport, side

    await join(connect, head, client, pass_refusal)
