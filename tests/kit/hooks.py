"""An HTTPS server in the test's own loop: a webhook or extension API server whose answers the
test scripts, with a CA of its own.

async with hook_server(answer) as hook:
    config = {"url": hook.url("/admit"), "caBundle": hook.bundle}
"""

from __future__ import annotations

import asyncio
import base64
import datetime
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import orjson
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

NAMES = ("hook.default.svc", "localhost")


@dataclass(slots=True)
class Call:
    """One request as the server got it."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes
    connection: int
    """Number of the connection it came on."""
    certificate: dict[str, Any] | None = None
    """The client's certificate, if the server asked for one."""

    @property
    def json(self) -> Any:
        return orjson.loads(self.body)


@dataclass(slots=True)
class Reply:
    """What to answer. `body` may be bytes, a JSON value, or (for a stream) an iterator of bytes."""

    body: Any = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    raw: bytes | None = None
    """Sent instead of everything else, then the connection is closed."""


Answer = Callable[[Call], Awaitable[Reply]]


@dataclass(slots=True)
class HookServer:
    port: int
    bundle: str
    """The CA as a caBundle field has it."""
    calls: list[Call] = field(default_factory=list)
    connections: int = 0

    def url(self, path: str = "/") -> str:
        return f"https://localhost:{self.port}{path}"


@cache
def authority() -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    """The test's own CA, not the cluster's."""
    key = ec.generate_private_key(ec.SECP256R1())
    return key, _certificate("hook-ca", key.public_key(), None, key, ())


def pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _certificate(
    name: str,
    public: Any,
    issuer: x509.Certificate | None,
    key: ec.EllipticCurvePrivateKey,
    names: tuple[str, ...],
) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if issuer is None else issuer.subject)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
    )
    if names:
        alternatives = x509.SubjectAlternativeName([x509.DNSName(item) for item in names])
        builder = builder.add_extension(alternatives, critical=False)
    return builder.sign(key, hashes.SHA256())


def serving_pair(names: tuple[str, ...]) -> tuple[bytes, bytes]:
    """A certificate that the test's CA signed, and its key."""
    ca_key, ca = authority()
    key = ec.generate_private_key(ec.SECP256R1())
    leaf = _certificate("hook", key.public_key(), ca, ca_key, names)
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return pem(leaf), secret


def serving_context(client_ca: bytes = b"", names: tuple[str, ...] = NAMES) -> ssl.SSLContext:
    """TLS for a server whose certificate the test's CA signed."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "leaf.pem"
        path.write_bytes(b"".join(serving_pair(names)))
        context.load_cert_chain(path)
    if client_ca:
        context.verify_mode = ssl.CERT_OPTIONAL
        context.load_verify_locations(cadata=client_ca.decode())
    return context


@asynccontextmanager
async def hook_server(
    answer: Answer, *, client_ca: bytes = b"", names: tuple[str, ...] = NAMES
) -> AsyncIterator[HookServer]:
    """A server on a free port of this machine; every call is kept, then answered by `answer`."""
    bundle = base64.b64encode(pem(authority()[1])).decode()
    hook = HookServer(0, bundle)
    tasks: set[asyncio.Task[Any]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        hook.connections += 1
        number = hook.connections
        try:
            while (call := await _read(reader, writer, number)) is not None:
                hook.calls.append(call)
                if not await _write(writer, call, await answer(call)):
                    break
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            tasks.discard(task)
            writer.transport.abort()

    context = serving_context(client_ca, names)
    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    hook.port = server.sockets[0].getsockname()[1]
    try:
        yield hook
    finally:
        server.close()
        for task in tuple(tasks):
            task.cancel()
        await asyncio.gather(*tuple(tasks), return_exceptions=True)


async def _read(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int
) -> Call | None:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    first, *lines = head.decode("latin-1").rstrip("\r\n").split("\r\n")
    method, target, _ = first.split(" ")
    headers = {}
    for line in lines:
        name, _, value = line.partition(":")
        known = headers.get(name.lower())
        text = value.strip()
        headers[name.lower()] = text if known is None else f"{known},{text}"
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    certificate = writer.get_extra_info("peercert") or None
    return Call(method, target, headers, body, number, certificate)


async def _write(writer: asyncio.StreamWriter, call: Call, reply: Reply) -> bool:
    """Send the reply; False when the connection is done with."""
    if reply.raw is not None:
        writer.write(reply.raw)
        await writer.drain()
        return False
    headers = {"Content-Type": "application/json", **reply.headers}
    head = f"HTTP/1.1 {reply.status} X\r\n"
    head += "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    if hasattr(reply.body, "__aiter__"):
        writer.write(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode())
        async for chunk in reply.body:
            writer.write(b"%x\r\n%b\r\n" % (len(chunk), chunk))
            await writer.drain()
        writer.write(b"0\r\n\r\n")
    else:
        body = reply.body if isinstance(reply.body, bytes) else orjson.dumps(reply.body)
        writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode())
        if call.method != "HEAD":
            writer.write(body)
    await writer.drain()
    return True


def write_kubeconfig(path: Path, url: str, bundle: str, **users: Any) -> None:
    """A file whose context leads to `url`, with users by their names."""
    named = users or {"w": {"token": "us"}}
    raw = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "w",
        "contexts": [{"name": "w", "context": {"cluster": "w", "user": "w"}}],
        "clusters": [
            {"name": "w", "cluster": {"server": url, "certificate-authority-data": bundle}}
        ],
        "users": [{"name": name, "user": user} for name, user in named.items()],
    }
    path.write_text(yaml.safe_dump(raw))
