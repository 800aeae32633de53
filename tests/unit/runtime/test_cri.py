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
from sampan.runtime.cri.images import CriImages
from sampan.runtime.cri.messages import POD_UID
from sampan.runtime.interface import Container, ContainerSpec, RuntimeFailure, State
from sampan.runtime.places import Places
from sampan.runtime.verbs.exec import exec_


class Server:
    """One container, which it calls running although its process is gone."""

    version = "1.6.20"

    def __init__(self, pods: Path) -> None:
        self.pods = pods
        self.looks = 0
        self.failure: RpcError | None = None
        """What it says from the second look on."""
        self.sandboxes: list[dict[str, Any]] = []
        self.calls: list[tuple[str, Any]] = []
        self.refuses = False
        """Makes no containers."""

    async def open(self, pause: bytes) -> None:
        pass

    async def call(self, name: str, **asked: Any) -> dict[str, Any]:
        self.calls.append((name, asked))
        if name == "ListPodSandbox":
            return {"items": self.sandboxes}
        if name == "RunPodSandbox":
            return {"pod_sandbox_id": "s2"}
        if name == "CreateContainer" and self.refuses:
            raise RpcError(UNAVAILABLE, "no")
        if name == "CreateContainer":
            return {"container_id": "c2"}
        if name == "ListContainers":
            return {"containers": [{"id": "c1", "pod_sandbox_id": "s1"}]}
        if name != "ContainerStatus":
            return {"items": [], "images": []}
        self.looks += 1
        if self.looks > 1 and self.failure is not None:
            raise self.failure
        times = {"created_at": 1, "started_at": 2, "finished_at": 0}
        state = schemas.EXITED if self.sandboxes else schemas.RUNNING
        status = {"annotations": {POD_UID: "u"}, "image_ref": "i", "state": state, **times}
        return {"status": {**status, "exit_code": 255, "reason": "Unknown"}, "info": {}}


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


async def test_no_sandbox_stays_without_a_container(tmp_path: Path) -> None:
    """Of an agent killed before it made the first one, and where none can be made."""
    server = Server(tmp_path)
    server.sandboxes = [
        {"id": name, "state": 0, "labels": {POD_UID: uid}, "metadata": {"attempt": 0}}
        for name, uid in (("s1", "u"), ("s0", "gone"))
    ]
    runtime = cri.CriRuntime(cast(Containerd, server), tmp_path, "root", b"")
    await runtime.open()
    removed = ("RemovePodSandbox", {"pod_sandbox_id": "s0"})
    assert [call for call in server.calls if "RemovePod" in call[0]] == [removed]
    server.refuses = True
    with pytest.raises(RuntimeFailure):
        await runtime.create(ContainerSpec("c", "i", ["a"], [], annotations={POD_UID: "new"}))
    assert server.calls[-1] == ("RemovePodSandbox", {"pod_sandbox_id": "s2"})
    with pytest.raises(RuntimeFailure):
        await runtime.create(ContainerSpec("c", "i", ["a"], [], annotations={POD_UID: "u"}))
    assert "RemovePodSandbox" not in server.calls[-1], "another container lives there"


async def test_after_a_reboot_a_pod_has_another_sandbox(tmp_path: Path) -> None:
    """Under another attempt, as the name of the first is taken; which goes with its containers."""
    server = Server(tmp_path)
    server.sandboxes = [
        {"id": name, "state": 1, "labels": {POD_UID: "u"}, "metadata": {"attempt": attempt}}
        for attempt, name in enumerate(("s0", "s1"))
    ]
    runtime = cri.CriRuntime(cast(Containerd, server), tmp_path, "root", b"")
    await runtime.open()
    (found,) = runtime.list()
    assert (found.state, found.reason, found.rebooted) == (State.EXITED, "Unknown", True)
    removed = [asked["pod_sandbox_id"] for name, asked in server.calls if "RemovePod" in name]
    assert removed == ["s0"]
    spec = ContainerSpec("c2", "i", ["a"], [], annotations={POD_UID: "u"})
    await runtime.create(spec)
    (config,) = (asked["config"] for name, asked in server.calls if name == "RunPodSandbox")
    assert config["metadata"]["attempt"] == 2
    await runtime.delete("c1")
    assert server.calls[-1] == ("RemovePodSandbox", {"pod_sandbox_id": "s1"})
    # The pod's new one is still known.
    await runtime.create(spec)
    assert [name for name, _ in server.calls].count("RunPodSandbox") == 1


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


async def test_images_are_there_while_they_are_listed_again() -> None:
    class Images:
        """Says of each image what it is only when it is let."""

        def __init__(self) -> None:
            self.go_on = asyncio.Event()
            self.looks = 0

        async def call(self, name: str, **asked: Any) -> dict[str, Any]:
            if name == "ImageStatus":
                self.looks += 1
                await self.go_on.wait()
                return {"info": {}}
            row = {"repo_digests": [], "size": 1, "pinned": False}
            return {"images": [{**row, "id": i, "repo_tags": [f"r.io/{i}:{self.looks}"]}
                               for i in ("a", "b")]}  # fmt: skip

    server = Images()
    images = CriImages(cast(Containerd, server))
    server.go_on.set()
    await images.refresh()
    server.go_on.clear()
    again = asyncio.create_task(images.refresh())
    await asyncio.sleep(0)
    assert images.find("r.io/a:0") is not None
    assert images.find("r.io/b:0") is not None
    server.go_on.set()
    await again
    assert images.find("r.io/b:0") is None
    assert images.find("r.io/b:2") is not None


@pytest.mark.parametrize("trouble", ["gone", "full"])
async def test_a_command_that_cannot_be_written_down_is_a_failure_of_the_runtime(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trouble: str
) -> None:
    """A probe that raised anything else would never look again."""
    places = Places(tmp_path, tmp_path, "cgroup")
    if trouble == "full":
        places.bundle("c").mkdir(parents=True)
        (places.bundle("c") / "config.json").write_text('{"process": {"env": []}}')

        def full(self: Path, data: bytes) -> int:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(RuntimeFailure, match="cannot exec"):
        await exec_(places, "c", ["true"], tty=False, stdin=False)


async def test_who_deletes_while_another_one_does_waits_and_takes_over_from_one_that_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = Server(tmp_path)
    runtime = cri.CriRuntime(cast(Containerd, server), tmp_path, "root", b"")
    await runtime.open()
    begun, go, tries = asyncio.Event(), asyncio.Event(), 0
    call = server.call

    async def slow(name: str, **asked: Any) -> dict[str, Any]:
        nonlocal tries
        if name == "RemoveContainer":
            tries += 1
            begun.set()
            await go.wait()
            if tries == 1:
                raise RpcError(UNAVAILABLE, "busy")
        return await call(name, **asked)

    monkeypatch.setattr(server, "call", slow)
    deletions = [asyncio.create_task(runtime.delete("c1")) for _ in range(3)]
    await begun.wait()
    assert tries == 1
    go.set()
    found = await asyncio.gather(*deletions, return_exceptions=True)
    assert [type(each) for each in found] == [RuntimeFailure, type(None), type(None)]
    assert (tries, list(runtime.list())) == (2, [])
