"""What watches cost: `python -m bench.watches [--many 5000]` prints lines of JSON.

An API server in a process of its own, over TLS. Figures: what one writer waits and the server's
processor time per write with `FEW` watches and with many, once spread (each watches an object of
its own, as nodes do) and once all of the same collection; the server's memory per idle watch; and
from a write to its event at every one of `FEW` watchers.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import socket
import ssl
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import orjson
import uvloop

from sampan.daemon.child import settle_memory
from sampan.server.exchange import User
from sampan.server.http import serve
from tests.kit.cluster import api_cluster, server_files

FEW = 50
WRITES = 300
TOKEN = "bench"
TICKS = os.sysconf("SC_CLK_TCK")
PATH = "/api/v1/namespaces/default/configmaps"
HEAD = f"Host: bench\r\nAuthorization: Bearer {TOKEN}\r\n"
OPENED_AT_ONCE = 64


def more_files() -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


async def serve_until_closed() -> None:
    """The measured process: says its port, ends when its input does."""
    admin = User("admin", ("system:masters", "system:authenticated"))
    async with api_cluster(tokens={TOKEN: admin}) as cluster:
        files = server_files()
        listening = socket.create_server(("127.0.0.1", 0), backlog=4096)
        listener = await serve(
            cluster.server, [listening], files / "server.crt", files / "server.key"
        )
        settle_memory()
        print(listener.ports[0], flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
        await listener.close()


class Reader(asyncio.Protocol):
    """One watcher: counts events, and notes when the last one came."""

    def __init__(self, query: str) -> None:
        self._query = query
        self.transport: Any = None
        self.events = 0
        self.came_s = 0.0
        self.head = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.transport.write(f"GET {PATH}?watch=1{self._query} HTTP/1.1\r\n{HEAD}\r\n".encode())

    def data_received(self, data: bytes) -> None:
        if not self.head.done():
            self.head.set_result(None)
        found = data.count(b'"type":"')
        if found:
            self.events += found
            self.came_s = time.perf_counter()


class Writer:
    """One connection that writes one object at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def send(self, method: str, path: str, body: dict[str, Any]) -> None:
        raw = orjson.dumps(body)
        media = "merge-patch+json" if method == "PATCH" else "json"
        head = f"{method} {path} HTTP/1.1\r\n{HEAD}Content-Type: application/{media}\r\n"
        self._writer.write(f"{head}Content-Length: {len(raw)}\r\n\r\n".encode() + raw)
        answer = await self._reader.readuntil(b"\r\n\r\n")
        lines = dict(
            line.split(": ", 1) for line in answer.decode().split("\r\n")[1:] if ": " in line
        )
        await self._reader.readexactly(int(lines["Content-Length"]))
        assert answer[9:12] in (b"200", b"201"), answer


def insecure() -> ssl.SSLContext:
    """The certificate is a test's; what it costs is what counts."""
    tls = ssl.create_default_context()
    tls.check_hostname = False
    tls.verify_mode = ssl.CERT_NONE
    return tls


class Served:
    """The measured process and its clients."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        self._process = process
        self.port = int(process.stdout.readline())
        self._tls = insecure()

    def cpu_s(self) -> float:
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rsplit(") ", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def resident_bytes(self) -> int:
        pages = int(Path(f"/proc/{self._process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    async def writer(self) -> Writer:
        return Writer(*await asyncio.open_connection("127.0.0.1", self.port, ssl=self._tls))

    async def watch(self, queries: list[str]) -> list[Reader]:
        """Open watches from now on; they have begun when this comes back."""
        loop = asyncio.get_running_loop()
        out: list[Reader] = []
        for start in range(0, len(queries), OPENED_AT_ONCE):
            made = await asyncio.gather(
                *(
                    loop.create_connection(
                        lambda query=query: Reader(query), "127.0.0.1", self.port, ssl=self._tls
                    )
                    for query in queries[start : start + OPENED_AT_ONCE]
                )
            )
            out += [reader for _, reader in made]
            await asyncio.gather(*(reader.head for reader in out[start:]))
        return out


def spread(count: int) -> list[str]:
    """Each of an object of its own; those of object 0 are written."""
    return [f"&resourceVersion=1&fieldSelector=metadata.name%3Dc{n % count}" for n in range(count)]


def same(count: int) -> list[str]:
    return ["&sendInitialEvents=false&resourceVersionMatch=NotOlderThan"] * count


async def write(served: Served) -> dict[str, Any]:
    """`WRITES` patches by a process of its own: the readers' work must not count as its wait."""
    cpu_s = served.cpu_s()
    command = [sys.executable, "-m", "bench.watches", "--write", str(served.port)]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    answer, _ = await process.communicate()
    cpu_ms = (served.cpu_s() - cpu_s) / WRITES * 1e3
    return {**json.loads(answer), "server_cpu_ms_per_write": round(cpu_ms, 3)}


async def write_alone(port: int) -> None:
    """Patch one object, one write after the other, and say how long they took."""
    writer = Writer(*await asyncio.open_connection("127.0.0.1", port, ssl=insecure()))
    waits = []
    for number in range(WRITES):
        start = time.perf_counter()
        await writer.send("PATCH", f"{PATH}/c0", {"data": {"n": str(number)}})
        waits.append(time.perf_counter() - start)
    rate = WRITES / sum(waits)
    waits.sort()
    show(
        writes_per_s=round(rate),
        p50_ms=round(waits[WRITES // 2] * 1e3, 2),
        p99_ms=round(waits[WRITES * 99 // 100] * 1e3, 2),
    )


async def latency(served: Served, readers: list[Reader]) -> dict[str, Any]:
    """From before a write to its event at each watcher, at a gentle pace."""
    writer = await served.writer()
    waits = []
    for number in range(100):
        before = [reader.events for reader in readers]
        start = time.perf_counter()
        await writer.send("PATCH", f"{PATH}/c0", {"data": {"l": str(number)}})
        while any(reader.events == was for reader, was in zip(readers, before, strict=True)):  # noqa: ASYNC110
            await asyncio.sleep(0.0005)
        waits += [reader.came_s - start for reader in readers]
    waits.sort()
    return {
        "p50_ms": round(waits[len(waits) // 2] * 1e3, 2),
        "p99_ms": round(waits[len(waits) * 99 // 100] * 1e3, 2),
    }


async def measure(process: subprocess.Popen[str], many: int) -> list[dict[str, Any]]:
    """The figures, shown as they come."""
    found: list[dict[str, Any]] = []

    def note(**figure: Any) -> None:
        found.append(figure)
        show(**figure)

    served = Served(process)
    writer = await served.writer()
    await writer.send("POST", PATH, {"metadata": {"name": "c0"}, "data": {"k": "v" * 1024}})
    for shape in (spread, same):
        few = await served.watch(shape(FEW))
        one = await write(served)
        if shape is same:
            note(figure="fan-out to watchers", watches=FEW, **await latency(served, few))
        before = served.resident_bytes()
        more = await served.watch(shape(many)[FEW:])
        size = (served.resident_bytes() - before) / len(more)
        note(figure="memory per idle watch", shape=shape.__name__, watches=many, bytes=round(size))
        other = await write(served)
        note(figure="writes under watches", shape=shape.__name__, watches=FEW, **one)
        note(figure="writes under watches", shape=shape.__name__, watches=many, **other)
        for reader in (*few, *more):
            reader.transport.close()
        await asyncio.sleep(1)
    return found


def show(**figure: Any) -> None:
    print(json.dumps(figure), flush=True)


def run(many: int = 5_000) -> dict[str, float]:
    """The figures of the page."""
    more_files()
    command = [sys.executable, "-m", "bench.watches", "--serve"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        lines = uvloop.run(measure(process, many))
        assert process.stdin is not None
        process.stdin.close()
    out: dict[str, float] = {}
    for line in lines:
        crowd = "many" if line["watches"] == many else "few"
        if line["figure"] == "writes under watches":
            out[f"write p50, {crowd} {line['shape']}"] = line["p50_ms"]
        elif line["figure"] == "memory per idle watch" and line["shape"] == "same":
            out["idle watch"] = round(line["bytes"] / 1e3, 1)
    return out


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="bench.watches", description=__doc__)
    parser.add_argument("--many", type=int, default=5_000)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--write", type=int, default=0, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    more_files()
    if options.write:
        uvloop.run(write_alone(options.write))
        return
    if options.serve:
        uvloop.run(serve_until_closed())
        return
    run(options.many)


if __name__ == "__main__":
    main(sys.argv[1:])
