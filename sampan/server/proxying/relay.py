"""A client's request to a backend, and the backend's answer to the client.

After upstream's UpgradeAwareHandler (apimachinery util/proxy/upgradeaware.go): redirects are the
client's to follow, with links of HTML and Location rewritten to lead through the proxy. Tasks: one
that sends the request's body while the answer is read; it ends with the answer.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode

from ..exchange import NOT_KEPT, Request, Response, Stream, Upgrade
from . import headers as passing
from .backend import Backend, dial
from .headers import PATH_SAFE, Pairs
from .splice import splice
from .target import Target

if TYPE_CHECKING:
    from .rewriting import HtmlRewriter

INFLATE_BYTES = 256 << 10
"""A compressed page is rewritten in pieces of this size: no small body unpacks to a large one."""
# zlib's window bits for what an encoding's name stands for.
WINDOW_BITS = {"gzip": 31, "deflate": -15}
BODILESS = frozenset({204, 304})


async def relay(request: Request, target: Target) -> Response | Stream | Upgrade:
    """The backend's answer. Raises ServiceUnavailable when there is none."""
    if request.upgradable:
        head = encode_request(request, target, upgrade=True)
        return Upgrade(lambda client, received: splice(target, head, client, received))
    query = raw_query(request)
    if not target.path and request.method in ("GET", "HEAD"):
        # Relative links of the backend's root would lead elsewhere.
        where = quote(request.path, safe=PATH_SAFE) + "/" + (f"?{query}" if query else "")
        return Response(301, b"", content_type="", headers=[NOT_KEPT, ("Location", where)])
    _, made = await dial(target, lambda: Backend(bodiless=request.method == "HEAD"))
    assert isinstance(made, Backend)
    sending = asyncio.create_task(_send(request, target, made))
    try:
        status = await made.head
    except BaseException:
        sending.cancel()
        made.close()
        raise
    return _answer(request, target, made, status, sending)


def raw_query(request: Request) -> str:
    """The query as the client wrote it; in process it was never written."""
    return request.raw_query or urlencode(request.query, doseq=True)


def encode_request(request: Request, target: Target, *, upgrade: bool = False) -> bytes:
    """The head that the backend gets."""
    pairs: Pairs = [("Host", target.address if target.own_host else _host(request, target))]
    pairs += [
        (name, value)
        for name, value in passing.request_headers(request.headers, upgrade=upgrade)
        if name not in target.headers
    ]
    pairs += target.headers.items()
    if target.prefix:
        pairs.append(("X-Forwarded-Uri", quote(target.prefix + target.path, safe=PATH_SAFE)))
    if not upgrade:
        pairs.append(("Connection", "close"))
    if request.incoming is None:
        if request.body or request.method in ("POST", "PUT", "PATCH"):
            pairs.append(("Content-Length", str(len(request.body))))
    elif request.incoming.length is not None:
        pairs.append(("Content-Length", str(request.incoming.length)))
    else:
        pairs.append(("Transfer-Encoding", "chunked"))
    return passing.encode_head(request.method, target.path or "/", raw_query(request), pairs)


def _host(request: Request, target: Target) -> str:
    return request.headers.get("host") or target.address


async def _send(request: Request, target: Target, backend: Backend) -> None:
    """The request's head and body; a backend that has answered need not take it all."""
    alive = await backend.send(encode_request(request, target))
    incoming = request.incoming
    if incoming is None:
        if request.body and alive:
            await backend.send(request.body)
        return
    chunked = incoming.length is None
    async for block in incoming:
        framed = b"%x\r\n%b\r\n" % (len(block), block) if chunked else block
        # What the backend does not take is still read, so that the client can read its answer.
        alive = alive and await backend.send(framed)
    if chunked and alive:
        await backend.send(b"0\r\n\r\n")


def _answer(
    request: Request,
    target: Target,
    backend: Backend,
    status: int,
    sending: asyncio.Task[None],
) -> Stream:
    pairs = passing.response_headers(backend.headers)
    length = _length(backend.headers)
    hosts = frozenset((target.address, target.host, request.headers.get("host", "")))
    chunks = _body(backend, sending)
    if target.prefix:
        # Imported with the first answer that may have links.
        from .rewriting import HtmlRewriter, rewrite_link

        moved = any(name.lower() == "location" for name, _ in pairs)
        pairs = [
            (name, rewrite_link(value, target.prefix, hosts))
            if name.lower() == "location"
            else (name, value)
            for name, value in pairs
        ]
        known = {name.lower(): value for name, value in pairs}
        kind = known.get("content-type", "").partition(";")[0].strip()
        encoding = known.get("content-encoding", "").lower()
        readable = encoding in ("", *WINDOW_BITS)
        if not moved and kind == "text/html" and readable and request.method != "HEAD":
            chunks = _rewritten(chunks, HtmlRewriter(target.prefix, hosts), encoding)
            length = None
    if status in BODILESS:
        length = None
    pairs = [NOT_KEPT, *pairs]
    return Stream(chunks, status, "", pairs, length=length, bodiless=status in BODILESS)


def _length(pairs: Pairs) -> int | None:
    values = {value for name, value in pairs if name.lower() == "content-length"}
    text = values.pop() if len(values) == 1 else ""
    return int(text) if text.isascii() and text.isdigit() else None


async def _body(backend: Backend, sending: asyncio.Task[None]) -> AsyncIterator[bytes]:
    try:
        async with aclosing(backend.chunks()) as chunks:  # type: ignore[type-var]
            async for chunk in chunks:
                yield chunk
    finally:
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)


async def _rewritten(
    chunks: AsyncIterator[bytes], page: HtmlRewriter, encoding: str
) -> AsyncIterator[bytes]:
    """A page with its links changed, in the encoding it came in."""
    bits = WINDOW_BITS.get(encoding)
    unpack = zlib.decompressobj(bits) if bits is not None else None
    pack = zlib.compressobj(wbits=bits) if bits is not None else None
    try:
        async for chunk in chunks:
            rest = chunk
            while rest:
                if unpack is None:
                    data, rest = rest, b""
                else:
                    data, rest = unpack.decompress(rest, INFLATE_BYTES), unpack.unconsumed_tail
                made = page.feed(data)
                yield pack.compress(made) if pack is not None else made
        made = page.finish()
        yield pack.compress(made) + pack.flush() if pack is not None else made
    except zlib.error as error:
        raise ConnectionResetError("the backend's page cannot be unpacked") from error
    finally:
        await chunks.aclose()  # type: ignore[attr-defined]
