"""A web server outside the cluster, of a few lines: an issuer of tokens, a webhook."""

from __future__ import annotations

import asyncio
import base64
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import yaml

from tests.kit.cluster import server_files


class House:
    """An issuer's web server, or a webhook: answers by path, counts what it is asked."""

    def __init__(self) -> None:
        self.answers: dict[str, Any] = {}
        self.asked: list[str] = []
        self.bodies: list[Any] = []
        self.shown: list[str] = []
        """Authorization headers, in order."""
        self.url = ""

    def write_kubeconfig(self, path: Path, where: str) -> None:
        """A file that leads to `where` here."""
        ca = base64.b64encode((server_files() / "ca.crt").read_bytes()).decode()
        cluster = {"server": f"{self.url}{where}", "certificate-authority-data": ca}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "w",
            "contexts": [{"name": "w", "context": {"cluster": "w", "user": "w"}}],
            "clusters": [{"name": "w", "cluster": cluster}],
            "users": [{"name": "w", "user": {"token": "us"}}],
        }
        path.write_text(yaml.safe_dump(config))

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                method, path, _ = head.split(b" ", 2)
                for line in head.split(b"\r\n"):
                    if line.lower().startswith(b"authorization:"):
                        self.shown.append(line.split(b":", 1)[1].strip().decode())
                    if line.lower().startswith(b"content-length:"):
                        body = await reader.readexactly(int(line.split(b":")[1]))
                        self.bodies.append(orjson.loads(body or b"null"))
                self.asked.append(f"{method.decode()} {path.decode()}")
                found = self.answers.get(path.decode())
                if callable(found):
                    found = found(self.bodies[-1])
                raw = found if isinstance(found, bytes) else orjson.dumps(found)
                status = b"200 OK" if found is not None else b"404 Not Found"
                writer.write(
                    b"HTTP/1.1 %b\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
                    % (status, len(raw), raw)
                )
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()


@asynccontextmanager
async def house() -> AsyncIterator[House]:
    """One that serves, with a certificate of the test cluster's CA."""
    made = House()
    files = server_files()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(files / "server.crt", files / "server.key")
    sock = socket.create_server(("127.0.0.1", 0))
    made.url = f"https://localhost:{sock.getsockname()[1]}"
    server = await asyncio.start_server(made.serve, sock=sock, ssl=context)
    try:
        yield made
    finally:
        server.close()
