"""HTTP/1.1 over TLS in front of `Server`: httptools parses, uvloop carries.

An asyncio protocol, not an ASGI app (docs/designs/005-http.md): what most requests need is one
parse, one call of `Server.begin` and one write, without a task. Only requests that wait for
something get a task.

Per connection: one request at a time; while it is answered, at most one batch of further
(pipelined) requests is held and reading is paused. A reader that does not take its answer pauses
the writer, and gets no further answer before it has; `WRITE_TIMEOUT_S` later it is cut off. What
could be read in two ways (lengths, transfer codings, versions) is refused, and what comes behind a
body (trailers) is never taken for a header. Limits are the constants below.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections import deque
from collections.abc import Coroutine
from typing import Any
from urllib.parse import parse_qs, unquote

import httptools

from sampan.api import errors
from sampan.api.errors import StatusError
from sampan.api.meta import new_uid

from .entrance import receive
from .exchange import Answer, Request, Response, Stream, Upgrade
from .incoming import Incoming
from .listeners import Listeners
from .outcome import failure
from .packing import compress, wants_gzip

log = logging.getLogger("sampan.http")

MAX_BODY = 3 << 20
"""Upstream's limit; etcd takes no larger object."""
MAX_HEAD = 64 << 10
"""Request line and headers: room for any token, none for a flood."""
MAX_PIPELINED = 64
"""Requests held while one is answered; more close the connection."""
MAX_FRAMING = 8
"""Bytes received per byte of a body: chunks of one byte each take six, a flood of chunk extensions
or trailers takes more (as CVE-2023-39326). The first `MAX_HEAD` are free."""
IDLE_TIMEOUT_S = 90.0
"""A kept-alive connection without a request, as Go's server."""
READ_TIMEOUT_S = 60.0
"""From the first byte of a request to its last."""
WRITE_TIMEOUT_S = 60.0
"""How long a full send buffer may stay full."""
PART = 128 << 10
"""Large answers are encrypted and sent in parts of this size: TLS buffers stay small, and the
client reads the first part while the next is made."""

PASSED_ON = re.compile(
    rb"/api/v1/(?:nodes|namespaces/[^/?]+/(?:pods|services))/[^/?]+/proxy(?:[/?]|$)"
).match
"""What takes a body as it comes, of any size: it is not for this server."""

VERSIONS = frozenset({"1.0", "1.1"})
NO_BODY = b""
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Connection(asyncio.Protocol):
    """One client connection."""

    def __init__(self, shared: Listeners) -> None:
        self._shared = shared
        self._server = shared.server
        self._loop = asyncio.get_running_loop()
        self._transport: Any = None
        self._parser: Any = httptools.HttpRequestParser(self)
        self._certificate: bytes | None = None
        self._peer = ""
        self._queue: deque[Request] = deque()
        self.answering: asyncio.Task[None] | None = None
        self._deadline = 0.0
        self._write_deadline = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._drained: asyncio.Future[None] | None = None
        self._close_after = False
        self._upgraded = False
        self._received = b""
        self._incoming: Incoming | None = None
        self._reset()

    def _reset(self) -> None:
        self._url = b""
        self._headers: dict[str, str] = {}
        self._body: list[bytes] = []
        self._head_size = 0
        self._body_size = 0
        self._framed_size = 0
        self._in_head = False
        self._in_body = False

    # The transport's side.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        tls = transport.get_extra_info("ssl_object")
        if tls is not None:
            self._certificate = self._server.authn.certificate_of(tls)
        peer = transport.get_extra_info("peername")
        self._peer = str(peer[0]) if isinstance(peer, tuple) else ""
        self._shared.connections.add(self)
        self._deadline = self._loop.time() + IDLE_TIMEOUT_S
        self._timer = self._loop.call_later(IDLE_TIMEOUT_S, self._check_time)

    def connection_lost(self, error: Exception | None) -> None:
        self._shared.remove(self)
        if self._timer is not None:
            self._timer.cancel()
        if self._incoming is not None:
            self._incoming.lose()
        if self.answering is not None:
            self.answering.cancel()
        self._drain()
        # The parser knows this connection: what it holds would wait for the collector of cycles.
        self._parser = None
        self._queue.clear()

    def _check_time(self) -> None:
        """One timer per connection, set again only when it fires: a request moves the deadline."""
        now = self._loop.time()
        if self._drained is not None and self._write_deadline <= now:
            self._transport.abort()
            return
        left = self._deadline - now
        if left <= 0:
            if self.answering is None and self._drained is None:
                self._transport.close()
                return
            left = IDLE_TIMEOUT_S
        self._timer = self._loop.call_later(left, self._check_time)

    def pause_writing(self) -> None:
        self._drained = self._loop.create_future()
        self._write_deadline = self._loop.time() + WRITE_TIMEOUT_S
        self._shared.slow[self] = None
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(WRITE_TIMEOUT_S, self._check_time)

    def resume_writing(self) -> None:
        self._shared.slow.pop(self, None)
        self._drain()
        if self.answering is None and not self._upgraded:
            self._next()

    def _drain(self) -> None:
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)
        self._drained = None

    def data_received(self, data: bytes) -> None:
        if self._upgraded:
            self._received += data
            return
        was_in_head, was_in_body = self._in_head, self._in_body
        try:
            self._parser.feed_data(data)
            if was_in_head and self._in_head:
                # A header that has no end is collected in the parser, which asks nobody.
                self._grow(len(data))
            elif was_in_body and self._in_body:
                self._frame(len(data))
        except httptools.HttpParserUpgrade as upgrade:
            self._upgraded = True
            self._received = data[upgrade.args[0] :] if upgrade.args else b""
        except httptools.HttpParserError as error:
            if not self._transport.is_closing():
                self._refuse(errors.BadRequest(f"malformed HTTP request: {error}"))

    # The parser's side.

    def on_message_begin(self) -> None:
        self._reset()
        self._in_head = True
        self._deadline = self._loop.time() + READ_TIMEOUT_S

    def on_url(self, url: bytes) -> None:
        self._url += url
        self._grow(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        self._grow(len(name) + len(value))
        if not self._in_head:
            # A trailer: nobody becomes somebody else by what stands behind the body.
            return
        key = name.decode("latin-1").lower()
        text = value.decode("latin-1")
        known = self._headers.get(key)
        self._headers[key] = text if known is None else f"{known},{text}"

    def _grow(self, size: int) -> None:
        self._head_size += size
        if self._head_size > MAX_HEAD and not self._transport.is_closing():
            self._refuse(errors.BadRequest("request header fields too large"), 431)

    def _frame(self, size: int) -> None:
        """More of a body's frame has come: chunk sizes, extensions, trailers, the body itself."""
        self._framed_size += size
        most = MAX_HEAD + MAX_FRAMING * self._body_size
        if self._framed_size > most and not self._transport.is_closing():
            self._refuse(errors.BadRequest("chunked encoding contains too much non-data"))

    def on_headers_complete(self) -> None:
        self._in_head, self._in_body = False, True
        if self._transport.is_closing():
            return
        length = self._headers.get("content-length", "")
        version = self._parser.get_http_version()
        if version not in VERSIONS:
            self._refuse(errors.BadRequest("unsupported protocol version"), 505)
            return
        coding = self._headers.get("transfer-encoding", "chunked").lower()
        if coding != "chunked":
            self._refuse(errors.BadRequest("unsupported transfer encoding"), 501)
            return
        host = self._headers.get("host")
        if host is None and version != "1.0":
            self._refuse(errors.BadRequest("missing required Host header"))
            return
        if host is not None and "," in host:
            self._refuse(errors.BadRequest("too many Host headers"))
            return
        passed = PASSED_ON(self._url) or self._server.aggregator.streams(self._url)
        if passed and self._may_pass_on(length):
            self._pass_on(length)
        elif length.isdecimal() and int(length) > MAX_BODY:
            self._refuse(_too_large())
        elif self._headers.get("expect", "").lower() == "100-continue":
            self._transport.write(CONTINUE)

    def _may_pass_on(self, length: str) -> bool:
        """A body for a proxy that need not be waited for: nothing else is under way."""
        has_body = length not in ("", "0") or "transfer-encoding" in self._headers
        busy = self._busy
        return has_body and not busy and not self._parser.should_upgrade()

    def _pass_on(self, length: str) -> None:
        """Answer while the body still arrives."""
        self._incoming = Incoming(self._transport, int(length) if length.isdecimal() else None)
        if self._headers.get("expect", "").lower() == "100-continue":
            self._transport.write(CONTINUE)
        try:
            request = self._request()
        except StatusError as error:
            self._refuse(error)
            return
        if not self._parser.should_keep_alive() or self._parser.get_http_version() == "1.0":
            self._close_after = True
        request.incoming = self._incoming
        self._answer(request)

    @property
    def _busy(self) -> bool:
        """Must a request wait, since another is answered or its answer is not taken?"""
        return self.answering is not None or bool(self._queue) or self._drained is not None

    def on_body(self, part: bytes) -> None:
        self._body_size += len(part)
        if self._incoming is not None:
            self._incoming.arrive(part)
            return
        if self._body_size > MAX_BODY:
            if not self._transport.is_closing():
                self._refuse(_too_large())
            return
        self._body.append(part)

    def on_message_complete(self) -> None:
        self._in_body = False
        if self._transport.is_closing():
            return
        if self._incoming is not None:
            incoming, self._incoming = self._incoming, None
            incoming.end()
            return
        parser = self._parser
        if (
            parser.should_upgrade()
            or not parser.should_keep_alive()
            or parser.get_http_version() == "1.0"
        ):
            # What follows an upgrade that is not granted cannot be parsed.
            self._close_after = True
        try:
            request = self._request()
        except StatusError as error:
            self._refuse(error)
            return
        if self._busy:
            self._queue.append(request)
            self._transport.pause_reading()
            if len(self._queue) > MAX_PIPELINED:
                self._transport.abort()
            return
        self._answer(request)

    def _request(self) -> Request:
        path, mark, query = self._url.partition(b"?")
        if path[:1] != b"/":
            try:
                path = httptools.parse_url(self._url).path or b"/"
            except httptools.HttpParserInvalidURLError:
                raise errors.BadRequest("invalid URI for request") from None
        try:
            text = path.decode()
            if "%" in text:
                text = unquote(text, errors="strict")
            values = parse_qs(query.decode(), keep_blank_values=True) if mark else {}
        except ValueError:
            raise errors.BadRequest("the URL is no valid UTF-8") from None
        body = self._body
        headers = self._headers
        return Request(
            self._parser.get_method().decode(),
            text,
            values,
            headers,
            body[0] if len(body) == 1 else b"".join(body),
            upgradable=bool(self._parser.should_upgrade()),
            audit_id=headers.get("audit-id") or new_uid(),
            peer=self._peer,
            raw_query=query.decode("latin-1") if mark else "",
        )

    def _refuse(self, error: StatusError, status: int = 0) -> None:
        """Answer what could not even become a request, and close."""
        request = Request("GET", "/", {}, {}, NO_BODY, audit_id=new_uid())
        response = failure(request, error)
        if status:
            response.status = status
        self._close_after = True
        self._send(request, response)

    # Answers.

    def _answer(self, request: Request) -> None:
        answer = receive(self._server, request, self._certificate)
        if isinstance(answer, Response) and not wants_gzip(request, answer):
            self._send(request, answer)
            self._next()
        else:
            self._deadline = self._loop.time() + IDLE_TIMEOUT_S
            self.answering = self._loop.create_task(self._finish(request, answer))

    async def _finish(self, request: Request, answer: Answer | Coroutine[Any, Any, Answer]) -> None:
        try:
            if isinstance(answer, Coroutine):
                answer = await answer
            if isinstance(answer, Response):
                if wants_gzip(request, answer):
                    await compress(answer)
                self._send(request, answer)
            elif isinstance(answer, Stream):
                await self._stream(request, answer)
            else:
                await self._splice(request, answer)
                return
        except ConnectionError as error:
            # A body that ends too early: the client sees it from the connection's end.
            log.info("%s %s: %s", request.method, request.path, error)
            self._transport.abort()
        except Exception:
            log.exception("%s %s: the answer broke off", request.method, request.path)
            self._transport.abort()
        self.answering = None
        self._next()

    def _next(self) -> None:
        """Go on with a request that arrived meanwhile, once the last answer is taken."""
        self._deadline = self._loop.time() + IDLE_TIMEOUT_S
        if self._drained is not None and not self._close_after:
            self._transport.pause_reading()
            return
        if self._queue and not self._transport.is_closing():
            self._answer(self._queue.popleft())
            return
        idle = not self._upgraded and not self._transport.is_closing()
        if idle and not self._transport.is_reading():
            self._transport.resume_reading()

    def _head(self, request: Request, answer: Response | Stream) -> bytes:
        head = self._shared.head(answer.status, answer.content_type)
        head += b"Audit-Id: %b\r\n" % request.audit_id.encode("latin-1", "replace")
        if request.flow is not None:
            head += request.flow.head
        for name, value in answer.headers:
            line = f"{name}: {value}\r\n"
            head += line.encode("utf-8", "replace")
        if self._incoming is not None:
            # Nobody may want the rest of the body, and what follows it cannot be read then.
            self._close_after = True
        if self._close_after or self._shared.closing:
            self._close_after = True
            head += b"Connection: close\r\n"
        return head

    def _send(self, request: Request, response: Response) -> None:
        transport = self._transport
        if transport.is_closing():
            return
        body = response.body if response.body is not None else NO_BODY
        head = b"%bContent-Length: %d\r\n\r\n" % (self._head(request, response), len(body))
        if request.method == "HEAD":
            transport.write(head)
        elif len(body) <= PART:
            transport.write(head + body)
        else:
            transport.write(head)
            view = memoryview(body)
            for start in range(0, len(body), PART):
                transport.write(view[start : start + PART])
            if self._drained is not None:
                self._shared.bound_unsent()
        if self._close_after:
            transport.close()

    async def _stream(self, request: Request, stream: Stream) -> None:
        """A chunked answer; ends when the stream does or the client goes."""
        transport = self._transport
        chunks = stream.chunks
        try:
            head = self._head(request, stream)
            bodiless = stream.bodiless or request.method == "HEAD"
            chunked = stream.length is None and not bodiless
            if chunked:
                head += b"Transfer-Encoding: chunked\r\n"
            elif stream.length is not None:
                head += b"Content-Length: %d\r\n" % stream.length
            transport.write(head + b"\r\n")
            if stream.direct is not None and chunked:
                stream.direct(self._write_chunk)
            async for chunk in chunks:
                if self._drained is not None:
                    await self._drained
                if chunk and not bodiless:
                    transport.write(_chunk(chunk) if chunked else chunk)
                if self._drained is not None:
                    await self._drained
            if chunked:
                transport.write(b"0\r\n\r\n")
            if self._close_after:
                transport.close()
        finally:
            close = getattr(chunks, "aclose", None)
            if close is not None:
                await close()

    def _write_chunk(self, chunk: bytes) -> bool:
        """Write a chunk of the answer under way, unless the reader is behind."""
        if self._drained is not None:
            return False
        self._transport.write(_chunk(chunk))
        return True

    async def _splice(self, request: Request, upgrade: Upgrade) -> None:
        """Give the connection away."""
        self._transport.pause_reading()
        if self._timer is not None:
            self._timer.cancel()
        self._shared.remove(self)
        try:
            await upgrade.splice(self._transport, self._received)
        except StatusError as error:
            self._close_after = True
            self._send(request, failure(request, error))
        except Exception:
            log.exception("%s %s: upgrade failed", request.method, request.path)
            self._transport.abort()

    @property
    def unsent(self) -> int:
        """Bytes that wait for the reader."""
        return int(self._transport.get_write_buffer_size())

    def shut(self) -> None:
        """Close when what is under way is answered; watches end by themselves."""
        self._close_after = True
        if self.answering is None:
            self._transport.close()

    def abort(self) -> None:
        self._transport.abort()


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def _too_large() -> StatusError:
    return errors.RequestEntityTooLarge(f"Request entity too large: limit is {MAX_BODY}")
