"""The HTTP transport: TLS, kept-alive connections, watches as streams of lines.

aiohttp and ssl are imported when the first transport is made: a process that stays in-process
does not pay for them (0.2 s). Bounds: `MAX_CONNECTIONS` requests at once, the others wait for
their turn; watches have connections of their own, one each. Nothing is retried here, except what
aiohttp repeats by itself: an idempotent request on a kept-alive connection that had just closed.
"""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

import orjson
from msgspec.structs import replace

from sampan.api.errors import Object, StatusError, from_status

from .interface import JSON, WatchEvent
from .kubeconfig import Access
from .lines import LineSplitter

if TYPE_CHECKING:
    import ssl

    import aiohttp

# Enough to keep one server busy; more would only queue there.
MAX_CONNECTIONS = 64
# The server gives up on a request after 60 s; past that no answer will come.
REQUEST_TIMEOUT_S = 65.0
CONNECT_TIMEOUT_S = 10.0
# A watch may be silent for minutes, so the kernel probes for a peer that is gone.
KEEPALIVE_IDLE_S, KEEPALIVE_PROBES = 30, 3
KEPT_ALIVE_S = 60.0
UNHEARD_MS = 8_000
"""What was sent and not acknowledged for so long never will be. The kernel by itself would go on
for a quarter of an hour, with pauses that outlast the fault that caused them."""


UNANSWERED = "<error>"
Answered = Callable[[str, str, float], None]


def _ignore(method: str, code: str, seconds: float) -> None:
    pass


class HttpTransport:
    """A `Transport` over HTTP(S). Make it, use it and close it on one event loop."""

    def __init__(
        self,
        url: str,
        *,
        ca: Path | str = "",
        cert: Path | str = "",
        key: Path | str = "",
        token: str = "",
        agent: str = "sampan",
    ) -> None:
        """`ca`, `cert` and `key` are PEM files or PEM text. Without `ca` the system's are used.
        `agent` is the User-Agent, by which the server knows who owns the fields that are written.

        Raises OSError or ssl.SSLError for files that cannot be read or do not fit together.
        """
        self._open(Access(url, _pem(ca), _pem(cert), _pem(key), token))
        self._headers["User-Agent"] = agent

    @classmethod
    def from_access(cls, access: Access) -> HttpTransport:
        made = cls.__new__(cls)
        made._open(access)
        return made

    def _open(self, access: Access) -> None:
        self.url = access.url.rstrip("/")
        self._access = access
        self._ssl = _context(access) if access.url.startswith("https:") else None
        self._headers = {
            "Accept": JSON,
            "User-Agent": "sampan",
        }
        if access.token:
            self._headers["Authorization"] = f"Bearer {access.token}"
        self.answered: Answered = _ignore
        """Is told of every answer: method, code and seconds; the code is "<error>" without one."""
        self._requests: aiohttp.ClientSession | None = None
        self._watches: aiohttp.ClientSession | None = None

    def renew(self, *, ca: Path | str = "", cert: Path | str = "", key: Path | str = "") -> None:
        """Other credentials from the next connection on; requests under way end as they are.

        Raises as `__init__`, and then nothing has changed.
        """
        access = replace(self._access, ca=_pem(ca), cert=_pem(cert), key=_pem(key))
        self._ssl = _context(access)
        self._access = access

    @property
    def context(self) -> ssl.SSLContext | None:
        """The one of the moment, for connections besides requests."""
        return self._ssl

    def _tls(self) -> ssl.SSLContext | bool:
        """Given with each request: aiohttp reuses no connection that was made with another."""
        return self._ssl if self._ssl is not None else True

    def _session(self, limit: int, total_s: float | None) -> aiohttp.ClientSession:
        import aiohttp

        connector = aiohttp.TCPConnector(
            limit=limit,
            keepalive_timeout=KEPT_ALIVE_S,
            socket_factory=_socket,
        )
        timeout = aiohttp.ClientTimeout(total=total_s, sock_connect=CONNECT_TIMEOUT_S)
        return aiohttp.ClientSession(
            connector=connector,
            timeout=timeout,
            headers=self._headers,
            cookie_jar=aiohttp.DummyCookieJar(),
            read_bufsize=1 << 20,
        )

    def _address(self, path: str, query: Mapping[str, str] | None) -> Any:
        from yarl import URL

        text = self.url + quote(path, safe="/:@!$&'()*+,;=~")
        return URL(f"{text}?{urlencode(query)}" if query else text, encoded=True)

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        content_type: str = JSON,
    ) -> Object:
        """See `Transport.request`."""
        import aiohttp

        if self._requests is None:
            self._requests = self._session(MAX_CONNECTIONS, REQUEST_TIMEOUT_S)
        data, headers = None, None
        if body is not None:
            data = body if isinstance(body, bytes) else orjson.dumps(body)
            headers = {"Content-Type": content_type}
        began = perf_counter()
        try:
            async with self._requests.request(
                method,
                self._address(path, query),
                data=data,
                headers=headers,
                allow_redirects=False,
                ssl=self._tls(),
            ) as answer:
                raw = await answer.read()
                status = answer.status
        except aiohttp.ClientError as error:
            self.answered(method, UNANSWERED, perf_counter() - began)
            raise _unreachable(self.url, error) from error
        self.answered(method, str(status), perf_counter() - began)
        if status >= 400:
            raise _error(status, raw)
        return _decode(status, raw)

    async def watch(self, path: str, query: Mapping[str, str]) -> AsyncIterator[WatchEvent]:
        """See `Transport.watch`."""
        import aiohttp

        if self._watches is None:
            # Unlimited: each watch is one long-lived connection, and the informers bound them.
            self._watches = self._session(0, None)
        splitter = LineSplitter()
        began = perf_counter()
        try:
            async with self._watches.get(
                self._address(path, {**query, "watch": "true"}),
                allow_redirects=False,
                ssl=self._tls(),
            ) as answer:
                self.answered("GET", str(answer.status), perf_counter() - began)
                if answer.status >= 400:
                    raise _error(answer.status, await answer.read())
                async for chunk in answer.content.iter_any():
                    for line in splitter.feed(chunk):
                        yield _event(line)
        except aiohttp.ClientError as error:
            raise _unreachable(self.url, error) from error

    async def close(self) -> None:
        for session in (self._requests, self._watches):
            if session is not None:
                await session.close()
        self._requests = self._watches = None


def _event(line: bytes) -> WatchEvent:
    try:
        raw = orjson.loads(line)
        kind, obj = raw["type"], raw["object"]
    except (ValueError, KeyError, TypeError) as error:
        raise ConnectionError(f"not a watch event: {line[:80]!r}") from error
    if kind == "ERROR":
        raise from_status(obj)
    return WatchEvent(kind, obj)


def _decode(status: int, raw: bytes) -> Object:
    try:
        answer = orjson.loads(raw)
    except ValueError as error:
        raise ConnectionError(f"the answer ({status}) is not JSON: {raw[:80]!r}") from error
    if not isinstance(answer, dict):
        raise ConnectionError(f"the answer ({status}) is not an object: {raw[:80]!r}")
    return answer


def _error(status: int, raw: bytes) -> StatusError:
    """The exception of a Status body; plain text (a proxy's answer) is kept as the message."""
    try:
        body = orjson.loads(raw)
    except ValueError:
        body = None
    if not isinstance(body, dict) or body.get("kind") != "Status":
        text = raw[:1024].decode("utf-8", "replace").strip()
        body = {"message": text or f"the server answered {status}"}
    body.setdefault("code", status)
    return from_status(body)


def _unreachable(url: str, error: Exception) -> OSError:
    return ConnectionError(f"{url}: {error or type(error).__name__}")


def _socket(address: tuple[Any, ...]) -> socket.socket:
    """One that notices when the peer is gone, be it silent or spoken to."""
    family, kind, protocol, *_ = address
    sock = socket.socket(family, kind, protocol)
    for level, option, value in (
        (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
        (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_IDLE_S),
        (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE_IDLE_S // KEEPALIVE_PROBES),
        (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, KEEPALIVE_PROBES),
        (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNHEARD_MS),
    ):
        sock.setsockopt(level, option, value)
    return sock


def _pem(source: Path | str) -> str:
    if isinstance(source, Path):
        return source.read_text()
    if not source or source.startswith("-----BEGIN"):
        return source
    return Path(source).read_text()


def _context(access: Access) -> ssl.SSLContext:
    import ssl

    context = ssl.create_default_context(cadata=access.ca or None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if access.insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if access.cert:
        # OpenSSL reads the pair from a file only; it exists for the length of this call, 0600.
        handle, name = tempfile.mkstemp(prefix="sampan-", suffix=".pem")
        try:
            with os.fdopen(handle, "w") as file:
                file.write(f"{access.cert.rstrip()}\n{access.key}")
            context.load_cert_chain(name)
        finally:
            os.unlink(name)
    return context
