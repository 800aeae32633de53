"""One look at a container: by HTTP, by TCP, by gRPC, by a command. Results in upstream's words.

pkg/probe/{http,tcp,exec}. The HTTP client here reads no more than it needs: a status and the first
10 KiB of the body; certificates are not checked, as upstream's probes do not either.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Mapping
from functools import cache
from typing import Any
from urllib.parse import urljoin, urlsplit

from msgspec import Struct

from sampan.runtime.interface import Runtime, RuntimeFailure
from sampan.wire.address import connect_words, join_host_port

BODY_MAX = 10 * 1024
HEAD_MAX = 64 * 1024
OUTPUT_MAX = 10 * 1024
REDIRECTS_MAX = 10
CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
PROBE_AGENT, HOOK_AGENT = "kube-probe/1.36", "kube-lifecycle/1.36"


class Look(Struct, frozen=True):
    good: bool
    text: str = ""
    """The failure as the event shows it."""
    warning: bool = False
    """It is good, but doubtful: the text says why."""


class Target(Struct, frozen=True):
    """The container a probe or hook is about."""

    container: Mapping[str, Any]
    container_id: str
    ip: str
    """The pod's address."""


async def look(
    runtime: Runtime, target: Target, probe: Mapping[str, Any], timeout_s: float | None
) -> Look:
    """Carry out one probe; never raises but for cancellation. Without a time-out it may last."""
    if probe.get("exec"):
        command = probe["exec"].get("command") or ()
        return await look_by_command(runtime, target.container_id, command, timeout_s)
    if probe.get("httpGet"):
        return await look_by_http(target, probe["httpGet"], timeout_s)
    if probe.get("tcpSocket"):
        action = probe["tcpSocket"]
        try:
            port = resolve_port(action.get("port"), target.container)
        except ValueError as error:
            return Look(False, str(error))
        return await look_by_tcp(action.get("host") or target.ip, port, timeout_s)
    if probe.get("grpc"):
        from .healthrpc import look_by_grpc

        action = probe["grpc"]
        service = action.get("service") or ""
        return await look_by_grpc(target.ip, int(action["port"]), service, timeout_s)
    return Look(False, "missing probe handler")


def resolve_port(port: Any, container: Mapping[str, Any]) -> int:
    """A number, or the name of one of the container's ports. Raises ValueError."""
    if isinstance(port, int) or (isinstance(port, str) and port.isdigit()):
        number = int(port)
    else:
        found = (item for item in container.get("ports") or () if item.get("name") == port)
        number = next((item["containerPort"] for item in found), 0)
        if not number:
            raise ValueError(f"couldn't find port: {port}")
    if not 0 < number < 65536:
        raise ValueError(f"invalid port number: {number}")
    return number


async def look_by_tcp(host: str, port: int, timeout_s: float | None) -> Look:
    try:
        async with asyncio.timeout(timeout_s):
            _, writer = await asyncio.open_connection(host, port)
    except TimeoutError:
        return Look(False, f"dial tcp {join_host_port(host, port)}: i/o timeout")
    except OSError as error:
        return Look(False, _refused(error, host, port))
    writer.transport.abort()
    return Look(True)


async def look_by_command(
    runtime: Runtime, container_id: str, command: Any, timeout_s: float | None
) -> Look:
    from sampan.runtime.streams import collect

    try:
        session = await runtime.exec(container_id, list(command))
    except RuntimeFailure as error:
        return Look(False, str(error))
    try:
        async with asyncio.timeout(timeout_s):
            output, code = await collect(session, OUTPUT_MAX)
    except TimeoutError:
        await session.kill()
        words = " ".join(command)
        return Look(False, f'command timed out: "{words}" timed out after {timeout_s:g}s')
    except asyncio.CancelledError:
        await session.kill()
        raise
    return Look(code == 0, output.decode("utf-8", "replace"))


async def look_by_http(target: Target, action: Mapping[str, Any], timeout_s: float | None) -> Look:
    """Any status of 200 to 399 is good. Redirects to the same host are followed."""
    status, text = await ask_by_http(target, action, timeout_s, PROBE_AGENT)
    if not status:
        return Look(False, text)
    if 300 <= status < 400:
        warning = f"Probe terminated redirects, Response body: {text}"
        return Look(True, warning, warning=True)
    if 200 <= status < 400:
        return Look(True)
    return Look(False, f"HTTP probe failed with statuscode: {status}")


async def ask_by_http(
    target: Target, action: Mapping[str, Any], timeout_s: float | None, agent: str
) -> tuple[int, str]:
    """The status and, of a redirect that is not followed, the body; or (0, why there was no
    answer)."""
    try:
        port = resolve_port(action.get("port"), target.container)
    except ValueError as error:
        return 0, str(error)
    scheme = (action.get("scheme") or "HTTP").lower()
    host = action.get("host") or target.ip
    path = action.get("path") or "/"
    url = f"{scheme}://{join_host_port(host, port)}{path if path.startswith('/') else '/' + path}"
    headers = {item["name"]: item.get("value", "") for item in action.get("httpHeaders") or ()}
    if "user-agent" not in {name.lower() for name in headers}:
        headers["User-Agent"] = agent
    try:
        async with asyncio.timeout(timeout_s):
            return await _get_following(url, headers)
    except TimeoutError:
        return 0, (
            f'Get "{url}": context deadline exceeded '
            "(Client.Timeout exceeded while awaiting headers)"
        )
    except (OSError, EOFError, ValueError, asyncio.LimitOverrunError) as error:
        return 0, f'Get "{url}": {_failure_text(error, host, port)}'


def _failure_text(error: Exception, host: str, port: int) -> str:
    if isinstance(error, OSError) and not isinstance(error, ssl.SSLError):
        return _refused(error, host, port)
    if isinstance(error, EOFError):
        return "EOF"
    return str(error)


async def _get_following(url: str, headers: Mapping[str, str]) -> tuple[int, str]:
    host = urlsplit(url).hostname
    for _ in range(REDIRECTS_MAX):
        status, location, body = await _get(url, headers)
        if status not in (301, 302, 303, 307, 308) or not location:
            return status, body
        url = urljoin(url, location)
        if urlsplit(url).hostname != host:
            # Upstream does not follow a redirect to another host and takes it for good.
            return status, body
    raise ValueError("stopped after 10 redirects")


async def _get(url: str, headers: Mapping[str, str]) -> tuple[int, str, str]:
    """Status and Location header of one GET, and of a redirect the body."""
    for name, value in headers.items():
        # The API looks at names only; a line of its own would be another header, or a request.
        if CONTROL.search(value):
            raise ValueError(f'net/http: invalid header field value for "{name}"')
    parts = urlsplit(url)
    secure = parts.scheme == "https"
    port = parts.port or (443 if secure else 80)
    reader, writer = await asyncio.open_connection(
        parts.hostname, port, ssl=unverified() if secure else None, limit=HEAD_MAX
    )
    try:
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        sent = {"Host": parts.netloc, "Accept": "*/*"}
        names = {name.lower() for name in headers}
        sent = {name: value for name, value in sent.items() if name.lower() not in names}
        lines = [f"GET {path} HTTP/1.1"]
        lines += [f"{name}: {value}" for name, value in (sent | dict(headers)).items()]
        lines += ["Connection: close", "", ""]
        writer.write("\r\n".join(lines).encode("latin-1", "replace"))
        head = await reader.readuntil(b"\r\n\r\n")
        status, location, size = _parse_head(head)
        body = b""
        if 300 <= status < 400 and size:
            body = await reader.readexactly(min(size, BODY_MAX))
        return status, location, body.decode("utf-8", "replace")
    finally:
        # Nothing more is wanted of it: no farewell, which over TLS would take a round trip.
        writer.transport.abort()


def _parse_head(head: bytes) -> tuple[int, str, int]:
    """Status, Location and Content-Length."""
    lines = head.decode("latin-1").split("\r\n")
    words = lines[0].split(" ", 2)
    if len(words) < 2 or not words[0].startswith("HTTP/") or not words[1].isdigit():
        raise ValueError(f'malformed HTTP response "{lines[0][:80]}"')
    location, size = "", 0
    for line in lines[1:]:
        name, _, value = line.partition(":")
        if name.lower() == "location":
            location = value.strip()
        elif name.lower() == "content-length" and value.strip().isdigit():
            size = int(value)
    return int(words[1]), location, size


@cache
def unverified() -> ssl.SSLContext:
    """For pods' own certificates, which nobody signed."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _refused(error: OSError, host: str, port: int) -> str:
    """In Go's words: "dial tcp 10.0.0.1:80: connect: connection refused"."""
    return f"dial tcp {join_host_port(host, port)}: connect: {connect_words(error)}"
