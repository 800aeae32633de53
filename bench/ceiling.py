"""What the load tool itself can do on this machine: `python -m bench.ceiling` prints its lines.

The tool asks a server that knows nothing: for each path it sends bytes made beforehand, over TLS,
from one loop. A server that does any work cannot be measured faster than this. The tool's own time
is counted in every figure, ours and upstream's: before its first request it reads the machine's
certificate authorities once for each of its connections (some 20 ms of processor time where there
are 140 of them), so the shorter a figure's run, the lower its ceiling.
"""

from __future__ import annotations

import asyncio
import ssl
import sys
from pathlib import Path
from typing import Any

import orjson
import uvloop

from tests.kit.cluster import server_files

POD_BYTES = 3_400
"""Of a pod as the load tool creates it, with its status and managed fields."""


def items(count: int) -> bytes:
    pod = {"metadata": {"name": "p"}, "spec": {"filler": "x" * POD_BYTES}}
    return orjson.dumps({"kind": "PodList", "items": [pod] * count})


def answer(status: bytes, body: bytes) -> bytes:
    head = b"HTTP/1.1 %b\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    return head % (status, len(body)) + body


CREATED = answer(b"201 Created", b"{}")
BY_MARK = ((b"limit=500", answer(b"200 OK", items(500))),
           (b"labelSelector", answer(b"200 OK", items(1))),
           (b"/pods/", answer(b"200 OK", items(1))),
           (b"/pods ", answer(b"200 OK", items(3_300))))  # fmt: skip
"""The first that a request's head contains is sent."""


class Canned(asyncio.Protocol):
    """One connection; a request is taken to end where its bytes do, as the tool sends them."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport

    def data_received(self, data: bytes) -> None:
        line = data[: data.find(b"\r\n")]
        if not line.startswith(b"GET "):
            self._transport.write(CREATED)
            return
        self._transport.write(next(made for mark, made in BY_MARK if mark in line))


async def serve(tool: Path) -> list[dict[str, Any]]:
    files = server_files()
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(files / "server.crt", files / "server.key")
    server = await asyncio.get_running_loop().create_server(Canned, "127.0.0.1", 0, ssl=tls)
    url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    command = [sys.executable, str(tool), url, "none", "--only", "write,read"]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    out, _ = await process.communicate()
    server.close()
    if process.returncode:
        raise SystemExit("the load tool failed against the canned server")
    return [orjson.loads(line) for line in out.splitlines()]


def run(tool: Path) -> dict[str, float]:
    """Per figure of the tool's writes and reads, how many per second it can take."""
    lines = uvloop.run(serve(tool))
    return {f"{line['figure']}, {line['conc']}": line["per_s"] for line in lines if "per_s" in line}


if __name__ == "__main__":
    print(run(Path(sys.argv[1])))
