"""Scenes of a node with real containers, played in a process of their own (test_node.py).

The process enters a mount namespace and a network namespace of its own, so that a scene that fails
half-way leaves nothing on the machine but its cgroups, which the test removes.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import sampan.node.http
from sampan.aio.clock import SystemClock
from sampan.client.api import Client
from sampan.linux.mounts import list_mounts
from sampan.linux.namespaces import CLONE_NEWNET, enter_node_namespace, unshare
from sampan.node.agent import Agent
from sampan.node.config import NodeConfig
from sampan.node.logs import LogOptions, read_log
from sampan.node.network import BridgeNetwork
from sampan.node.pause import pause_archive
from sampan.runtime.cri.containerd import Containerd
from sampan.runtime.cri.runtime import CriRuntime
from sampan.runtime.images import ImageStore
from sampan.runtime.oci import OciRuntime
from tests.kit.images import busybox_archive
from tests.kit.node import FakeApi

PODS = "/api/v1/namespaces/default/pods"
LOG_OF_P = "data/pods/uid-p/volumes/kubernetes.io~empty-dir/d/part/log"
CONFIG_MAP = "/api/v1/namespaces/default/configmaps/m"
UPLINK = (
    "ip link set lo up", "ip link add up0 type bridge", "ip address add 192.0.2.9/24 dev up0",
    "ip link set up0 up", "ip route add default via 192.0.2.1",
)  # fmt: skip


class NoServer:
    """The HTTPS server is tried elsewhere (tests/unit/node/test_http.py)."""

    def __init__(self, agent: Agent) -> None: ...

    def bind(self) -> int:
        return 10250

    def renew(self) -> None: ...

    async def start(self) -> None: ...

    async def close(self) -> None: ...


class Scene:
    def __init__(self, base: Path, cluster: str, kind: str) -> None:
        self.base, self.cluster, self.kind = base, cluster, kind
        self.api = FakeApi()
        self.images = ImageStore(base / "images")
        self.config = NodeConfig(
            name="n1", data=base / "data", run=base / "run", address="192.0.2.9",
            pod_cidr="10.244.0.0/24", dns_ip="10.96.0.10", ca_cert=base, cert=base, key=base,
        )  # fmt: skip

    def runtime(self) -> OciRuntime | CriRuntime:
        data, run = self.config.data, self.config.run
        if self.kind == "crun":
            return OciRuntime(data, run, self.images, self.cluster)
        return CriRuntime(Containerd(data, run), run, self.cluster, pause_archive())

    @asynccontextmanager
    async def agent(self) -> AsyncIterator[Agent]:
        """An agent until the end of the block; its containers stay."""
        config = self.config
        runtime = self.runtime()
        images = self.images if isinstance(runtime, OciRuntime) else runtime.images
        network = BridgeNetwork(config, self.cluster, "10.244.0.0/16")
        client = Client(self.api)
        agent = Agent(config, client, runtime, images, network, clock=SystemClock())
        task = asyncio.create_task(agent.run())
        ready = asyncio.create_task(agent.ready.wait())
        try:
            async with asyncio.timeout(20):
                await asyncio.wait([task, ready], return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                task.result()
            yield agent
        finally:
            # No farewell: as if it had been killed.
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await runtime.close()
            await network.close()

    def bind(self, name: str, script: str, **container: Any) -> None:
        self.api.put(
            f"{PODS}/{name}",
            {
                "metadata": {"name": name, "namespace": "default", "uid": f"uid-{name}"},
                "spec": {
                    "nodeName": "n1",
                    "volumes": [
                        {"name": "m", "configMap": {"name": "m"}},
                        {"name": "d", "emptyDir": {"medium": "Memory"}},
                    ],
                    "containers": [
                        {
                            "name": "c",
                            "image": "busybox",
                            "imagePullPolicy": "IfNotPresent",
                            "command": ["sh", "-c", script],
                            "volumeMounts": [
                                {"name": "m", "mountPath": "/m"},
                                {"name": "d", "mountPath": "/d", "subPath": "part"},
                            ],
                        }
                        | container
                    ],
                },
                "status": {"phase": "Pending"},
            },
        )

    def status(self, name: str) -> Any:
        return self.api.objects[f"{PODS}/{name}"]["status"]

    def delete(self, name: str, grace_s: int) -> None:
        pod = self.api.objects[f"{PODS}/{name}"]
        meta = pod["metadata"] | {
            "deletionTimestamp": "2026-01-01T00:00:00Z",
            "deletionGracePeriodSeconds": grace_s,
        }
        self.api.put(f"{PODS}/{name}", pod | {"metadata": meta})

    async def until(self, check: Callable[[], Any]) -> None:
        async with asyncio.timeout(20):
            while not check():  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    def is_ready(self, name: str) -> bool:
        statuses = self.status(name).get("containerStatuses")
        return bool(statuses) and statuses[0]["ready"]


async def execute(agent: Agent, name: str, *args: str) -> tuple[int, str]:
    run = agent.workers[f"uid-{name}"].state.last("c")
    assert run is not None
    streams = await agent.parts.runtime.exec(run.id, args)
    out = b""
    while (chunk := await streams.read()) is not None:
        out += chunk[1]
    return await streams.wait(), out.decode()


async def lifecycle(scene: Scene) -> None:
    """Started, looked at from all sides, configured anew, deleted without a trace."""
    scene.api.put(CONFIG_MAP, {"data": {"k": "one"}})
    async with scene.agent() as agent:
        scene.bind(
            "p",
            "trap 'echo bye; exit 5' TERM; echo hello $WHO; sleep 0.2; touch /d/ready; "
            "while true; do sleep 0.1; done",
            env=[{"name": "WHO", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}],
            readinessProbe={"exec": {"command": ["ls", "/d/ready"]}, "periodSeconds": 1},
            resources={"limits": {"memory": "64Mi"}},
        )
        await scene.until(lambda: scene.status("p")["phase"] == "Running")
        assert not scene.is_ready("p")
        await scene.until(lambda: scene.is_ready("p"))
        ip = scene.status("p")["podIP"]
        assert await execute(agent, "p", "cat", "/m/k") == (0, "one")
        assert await execute(agent, "p", "hostname") == (0, "p\n")
        _, hosts = await execute(agent, "p", "cat", "/etc/hosts")
        assert f"{ip}\tp\n" in hosts
        assert (await execute(agent, "p", "sh", "-c", "exit 7"))[0] == 7
        scene.api.put(CONFIG_MAP, {"data": {"k": "two"}})
        await scene.until(lambda: (scene.base / volume("p")).read_text() == "two")
        assert await execute(agent, "p", "cat", "/m/k") == (0, "two")
        path = scene.base / "data/logs/default_p_uid-p/c/0.log"
        log = read_log(path, LogOptions(), lambda: False, lambda: asyncio.sleep(0))
        assert b"".join([part async for part in log]) == f"hello {ip}\n".encode()
        scene.delete("p", 10)
        await scene.until(lambda: f"{PODS}/p" not in scene.api.objects)
        last = [body for path, body in scene.api.patches if path.endswith("/p/status")][-1]
        assert last["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"] == 5
        await scene.until(lambda: not agent.workers)
        for folder in ("pods", "logs", "containers"):
            assert not list((scene.base / "data" / folder).glob("*")), folder
        left = [str(point.target) for point in list_mounts() if "uid-p" in str(point.target)]
        assert not left
        assert not cgroups_of(scene.cluster, "poduid-p")


def cgroups_of(cluster: str, name: str) -> list[Path]:
    return [*Path("/sys/fs/cgroup").glob(f"**/{cluster}/**/{name}")]


def volume(name: str) -> str:
    return f"data/pods/uid-{name}/volumes/kubernetes.io~configmap/m/k"


async def restart(scene: Scene) -> None:
    """An agent that is killed leaves its containers; the next one finds them and cleans up."""
    scene.api.put(CONFIG_MAP, {"data": {"k": "one"}})
    async with scene.agent():
        scene.bind("stay", "sleep 1000")
        scene.bind("leave", "sleep 1000")
        scene.bind("end", "sleep 0.5; exit 4")
        await scene.until(lambda: all(map(scene.is_ready, ("stay", "leave", "end"))))
        before = scene.status("stay")["containerStatuses"][0]["containerID"]
        ip = scene.status("stay")["podIP"]
    scene.api.remove(f"{PODS}/leave")
    await asyncio.sleep(0.6)
    async with scene.agent() as agent:
        # What ended while nobody looked is seen, and started again.
        await scene.until(lambda: scene.status("end")["containerStatuses"][0]["restartCount"] >= 1)
        ended = scene.status("end")["containerStatuses"][0]["lastState"]["terminated"]
        assert ended["exitCode"] == 4
        await scene.until(lambda: not (scene.base / "data/pods/uid-leave").exists())
        assert (await execute(agent, "stay", "cat", "/m/k")) == (0, "one")
        assert scene.status("stay")["containerStatuses"][0]["containerID"] == before
        assert scene.status("stay")["podIP"] == ip
        mine = [item.annotations["io.kubernetes.pod.name"] for item in agent.parts.runtime.list()]
        assert sorted(set(mine)) == ["end", "stay"]
        for name in ("stay", "end"):
            scene.delete(name, 0)
        await scene.until(lambda: not any("/pods/" in path for path in scene.api.objects))


async def together(scene: Scene) -> None:
    """A sidecar, hooks and shared memory: who starts and stops when, and who sees what."""
    scene.api.put(CONFIG_MAP, {"data": {}})
    mounts = [{"name": "d", "mountPath": "/d", "subPath": "part"}]

    def container(name: str, script: str, **more: Any) -> dict[str, Any]:
        command = ["sh", "-c", script, name]
        policy = {"image": "busybox", "imagePullPolicy": "IfNotPresent"}
        return {"name": name, "command": command, "volumeMounts": mounts} | policy | more

    async with scene.agent() as agent:
        loop = "while true; do sleep 0.05; done"
        side = container(
            "side", f"trap 'echo side-stops >> /d/log; exit 0' TERM; touch /d/up; {loop}",
            restartPolicy="Always",
            startupProbe={"exec": {"command": ["ls", "/d/up"]}, "periodSeconds": 1},
            lifecycle={"preStop": {"exec": {"command": ["sh", "-c", "echo pre-stop >> /d/log"]}}},
        )  # fmt: skip
        init = container("init", "echo init >> /d/log; echo left > /dev/shm/left")
        hook = {"exec": {"command": ["sh", "-c", "sleep 0.3; echo post-start >> /d/log"]}}
        first = container(
            "c", f"trap 'sleep 0.3; echo c-stops >> /d/log; exit 0' TERM; {loop}",
            lifecycle={"postStart": hook},
        )  # fmt: skip
        second = container("second", f"echo second >> /d/log; {loop}")
        scene.bind("p", "")
        pod = scene.api.objects[f"{PODS}/p"]
        spec = pod["spec"] | {"initContainers": [side, init], "containers": [first, second]}
        scene.api.put(f"{PODS}/p", pod | {"spec": spec})
        await scene.until(lambda: scene.status("p")["phase"] == "Running")
        assert await execute(agent, "p", "cat", "/dev/shm/left") == (0, "left\n")
        _, log = await execute(agent, "p", "cat", "/d/log")
        assert log.split() == ["init", "post-start", "second"]
        places = set()
        for name in ("side", "c", "second"):
            run = agent.workers["uid-p"].state.last(name)
            assert run is not None
            found = agent.parts.runtime.get(run.id)
            assert found is not None
            places.add(os.readlink(f"/proc/{found.pid}/ns/ipc"))
        assert len(places) == 1
        assert places != {os.readlink("/proc/self/ns/ipc")}
        log_file = (scene.base / LOG_OF_P).open()
        scene.delete("p", 2)
        await scene.until(lambda: f"{PODS}/p" not in scene.api.objects)
        with log_file:
            assert log_file.read().split()[3:] == ["pre-stop", "c-stops", "side-stops"]
        await scene.until(lambda: not agent.workers)
        left = [str(point.target) for point in list_mounts() if "uid-p" in str(point.target)]
        assert not left


SCENES: dict[str, Callable[[Scene], Awaitable[None]]] = {
    "lifecycle": lifecycle,
    "restart": restart,
    "together": together,
}


async def play(act: Callable[[Scene], Awaitable[None]], scene: Scene) -> None:
    archive = busybox_archive(scene.base / "busybox.tar", "docker.io/library/busybox:latest")
    runtime = scene.runtime()
    if isinstance(runtime, OciRuntime):
        await scene.images.load(archive)
        await act(scene)
        return
    await runtime.open()
    await runtime.images.load(archive)
    try:
        await act(scene)
    finally:
        await runtime.purge(0.0)


def main() -> None:
    name, base, cluster, kind = sys.argv[1:]
    (Path(base) / "run").mkdir()
    enter_node_namespace(Path(base) / "run")
    unshare(CLONE_NEWNET)
    for command in UPLINK:
        subprocess.run(command.split(), check=True)
    sampan.node.http.AgentServer = NoServer  # type: ignore[assignment, misc]
    asyncio.run(play(SCENES[name], Scene(Path(base), cluster, kind)))


if __name__ == "__main__":
    main()
