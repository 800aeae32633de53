"""`CriRuntime` and a server that lies, forgets or does not answer."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, cast

import pytest

from sampan.aio.grpc import NOT_FOUND, UNAVAILABLE, RpcError
from sampan.runtime.cri import runtime as cri
from sampan.runtime.cri import schemas
from sampan.runtime.cri.containerd import Containerd, layers_of
from sampan.runtime.interface import Container, RuntimeFailure, State


class Server:
    """One container, which it calls running although its process is gone."""

    version = "1.6.20"

    def __init__(self, pods: Path) -> None:
        self.pods = pods
        self.looks = 0
        self.failure: RpcError | None = None
        """What it says from the second look on."""

    async def open(self, pause: bytes) -> None:
        pass

    async def call(self, name: str, **asked: Any) -> dict[str, Any]:
        if name == "ListContainers":
            return {"containers": [{"id": "c1", "pod_sandbox_id": "s1"}]}
        if name != "ContainerStatus":
            return {"items": [], "images": []}
        self.looks += 1
        if self.looks > 1 and self.failure is not None:
            raise self.failure
        times = {"created_at": 1, "started_at": 2, "finished_at": 0}
        status = {"annotations": {}, "image_ref": "i", "state": schemas.RUNNING, **times}
        return {"status": {**status, "exit_code": 0, "reason": ""}, "info": {}}


@pytest.mark.parametrize(
    "failure",
    [None, RpcError(NOT_FOUND, "no such container"), RpcError(UNAVAILABLE, "connection refused")],
    ids=["lies", "forgets", "is away"],
)
async def test_what_the_server_lost_has_ended(
    failure: RpcError | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process is gone: however little the server knows, the pod must not wait for ever."""
    monkeypatch.setattr(cri, "EXIT_S", 0.0)
    server = Server(tmp_path)
    server.failure = failure
    runtime = cri.CriRuntime(cast(Containerd, server), tmp_path, "root", b"")
    await runtime.open()
    gone = await _next_exit(runtime)
    assert (gone.id, gone.state, gone.exit_code) == ("c1", State.EXITED, cri.LOST_EXIT_CODE)
    assert gone.finished_at > 0
    assert runtime.list() == [gone]


def test_where_an_images_layers_are() -> None:
    one = {"Type": "bind", "Source": "/s/1/fs", "Options": ["ro", "rbind"]}
    assert layers_of([one]) == [Path("/s/1/fs")]
    two = {"Type": "overlay", "Source": "overlay", "Options": ["index=off", "lowerdir=/b:/a"]}
    assert layers_of([two]) == [Path("/b"), Path("/a")]
    with pytest.raises(RuntimeFailure, match="unknown kind: zfs"):
        layers_of([{"Type": "zfs", "Source": "x", "Options": []}])


async def _next_exit(runtime: cri.CriRuntime) -> Container:
    async with asyncio.timeout(5):
        async for container in runtime.exits():
            return container
    raise AssertionError("unreachable")
