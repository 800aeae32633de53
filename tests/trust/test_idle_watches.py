"""Ten thousand watches that sleep: each takes little, writers do not feel them, others are served.

Costs are counted, not timed: what a write does is the same number of steps of the loop, however
many watch something else, and connections are taken until there are no more descriptors.
"""

from __future__ import annotations

import asyncio
import gc
import resource
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from sampan.server.exchange import Stream
from sampan.server.watching import Watcher
from tests.kit.cluster import ADMIN, Cluster, api_cluster, request_of
from tests.kit.trust import size
from tests.kit.wire import connected, listening, until

WATCHES = size(10_000)
NAMESPACES = 50
IDLE_BYTES = 8 << 10
"""What a watch without a socket may take; measured: 4.1 KB."""
SOCKET_BYTES = 48 << 10
"""With a connection in clear, both ends in this process; measured: 17 KB."""
CM = "/api/v1/namespaces/default/configmaps"

pytestmark = pytest.mark.trust


def resident() -> int:
    """Bytes of memory in use, by the kernel's count."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


async def watch(cluster: Cluster, path: str) -> tuple[Any, asyncio.Task[Any]]:
    """A watch that waits for its first event."""
    answer = await cluster.server.handle(request_of("GET", path, None, ADMIN, "", ""))
    assert isinstance(answer, Stream)
    return answer.chunks, asyncio.ensure_future(anext(answer.chunks))


@asynccontextmanager
async def sleepers(cluster: Cluster, count: int) -> AsyncIterator[list[asyncio.Task[Any]]]:
    """`count` watches of other namespaces, and of names in them."""
    made = []
    now = cluster.store.revision
    for number in range(count):
        path = f"/api/v1/namespaces/n{number % NAMESPACES}/configmaps?watch=1&resourceVersion={now}"
        if number % 3 == 1:
            path += f"&fieldSelector=metadata.name%3Dx{number}"
        elif number % 3 == 2:
            path += f"&labelSelector=app%3Da{number}"
        made.append(await watch(cluster, path + "&allowWatchBookmarks=true"))
    await asyncio.sleep(0)
    try:
        yield [task for _, task in made]
    finally:
        for _, task in made:
            task.cancel()
        await asyncio.gather(*(task for _, task in made), return_exceptions=True)
        for chunks, _ in made:
            await chunks.aclose()


class Work:
    """Counts what happens: turns of the loop, and batches offered to watchers."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.steps = self.offers = 0
        offer, run = Watcher.offer, asyncio.Handle._run

        def counted(watcher: Watcher, batch: Any) -> None:
            self.offers += 1
            offer(watcher, batch)

        def counted_run(handle: asyncio.Handle) -> Any:
            self.steps += 1
            return run(handle)

        monkeypatch.setattr(Watcher, "offer", counted)
        monkeypatch.setattr(asyncio.Handle, "_run", counted_run)

    async def of_writes(self, cluster: Cluster, prefix: str) -> tuple[int, int]:
        """(steps, offers) of twenty writes and reads, one watcher looking on."""
        path = f"{CM}?watch=1&resourceVersion={cluster.store.revision}"
        chunks, first = await watch(cluster, path)
        await asyncio.sleep(0)
        before = self.steps, self.offers
        for number in range(20):
            body = {"metadata": {"name": f"{prefix}{number}"}}
            assert (await cluster.http("POST", CM, body)).status == 201
            assert (await cluster.http("GET", f"{CM}/{prefix}{number}")).status == 200
        assert b'"ADDED"' in await first
        steps, offers = self.steps - before[0], self.offers - before[1]
        await chunks.aclose()
        return steps, offers


async def test_sleeping_watches_take_little_and_slow_nobody(
    monkeypatch: pytest.MonkeyPatch, record_property: Any
) -> None:
    work = Work(monkeypatch)
    async with api_cluster() as cluster:
        await work.of_writes(cluster, "warm")
        alone = await work.of_writes(cluster, "a")
        gc.collect()
        before = resident()
        async with sleepers(cluster, WATCHES) as tasks:
            gc.collect()
            each = (resident() - before) / WATCHES
            record_property("bytes_per_idle_watch", round(each))
            print(f"{each / 1024:.1f} KiB for each of {WATCHES} watches")
            assert len(cluster.server.watchers) == WATCHES
            assert each < IDLE_BYTES
            among = await work.of_writes(cluster, "b")
            assert among[1] == alone[1] == 20
            assert among[0] <= alone[0] * 1.5
            assert not any(task.done() for task in tasks)
        assert not cluster.server.watchers
        gc.collect()
        # And what they took is free for others.
        again = resident()
        async with sleepers(cluster, WATCHES):
            assert resident() - again < WATCHES * IDLE_BYTES


async def test_watches_that_are_woken_are_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: the same number of watches that are concerned is seen by the same count."""
    work = Work(monkeypatch)
    async with api_cluster() as cluster:
        alone = await work.of_writes(cluster, "a")
        made = [await watch(cluster, f"{CM}?watch=1") for _ in range(200)]
        await asyncio.sleep(0)
        among = await work.of_writes(cluster, "b")
        assert among[1] > alone[1] + 200
        assert among[0] > alone[0] * 1.5
        for chunks, task in made:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await chunks.aclose()


def descriptors_left() -> int:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return soft


async def test_watches_on_sockets() -> None:
    """As many as the limit of files allows, both ends being here; a tenth in CI."""
    count = min(WATCHES // 10, (descriptors_left() - 500) // 2)
    request = b"GET %b?watch=1 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer t0ken\r\n\r\n"
    path = b"/api/v1/namespaces/n/configmaps"
    async with listening() as (cluster, listener):
        gc.collect()
        before = resident()
        wires = []
        for _ in range(count):
            sock = socket.socket()
            sock.setblocking(False)
            address = ("127.0.0.1", listener.ports[0])
            await asyncio.get_running_loop().sock_connect(sock, address)
            await asyncio.get_running_loop().sock_sendall(sock, request % path)
            wires.append(sock)
        await until(lambda: len(cluster.server.watchers) == count)
        each = (resident() - before) / count
        print(f"{each / 1024:.1f} KiB for each of {count} connections that watch")
        assert each < SOCKET_BYTES
        async with connected(listener) as other:
            assert (await other.get(CM))[0] == 200
        for sock in wires:
            sock.close()
        await until(lambda: not cluster.server.watchers and not listener.connections)


FULL = """
import asyncio, resource, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from tests.kit.wire import listening, until

async def main():
    resource.setrlimit(resource.RLIMIT_NOFILE, (80, 80))
    async with listening() as (cluster, listener):
        print(listener.ports[0], flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)

import uvloop
uvloop.run(main())
"""


def test_no_more_descriptors() -> None:
    """A server out of files serves whom it has, and others again when some have gone."""
    root = str(__file__).partition("/tests/")[0]
    process = subprocess.Popen(
        [sys.executable, "-c", FULL, root],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdin is not None
    clients: list[socket.socket] = []

    def client() -> socket.socket:
        made = socket.create_connection(("127.0.0.1", port), timeout=5)
        clients.append(made)
        return made

    try:
        port = int(process.stdout.readline())
        first = client()
        assert health(first)
        crowd = [client() for _ in range(120)]
        assert 20 < sum(map(health, crowd)) < 80
        assert health(first)
        for sock in crowd:
            sock.close()
        # Those that were refused before count for nothing now.
        assert any(health(client()) for _ in range(1000))
        assert health(first)
    finally:
        process.kill()
        process.communicate()
        for sock in clients:
            sock.close()


def health(sock: socket.socket) -> bool:
    """Is this connection answered?"""
    try:
        sock.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        answer = b""
        while not answer.endswith(b"\r\n\r\nok"):
            part = sock.recv(4096)
            if not part:
                return False
            answer += part
    except OSError:
        return False
    return answer.startswith(b"HTTP/1.1 200")
