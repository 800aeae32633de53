"""One node agent with everything around it faked: API, runtime, network, kernel, clock."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from sampan.client.api import Client
from sampan.node.agent import Agent
from sampan.node.config import NodeConfig
from tests.kit.clock import FakeClock, settle
from tests.kit.node import FakeApi
from tests.kit.runtime import FakeImages, FakeKernel, FakeNetwork, FakeRuntime

PODS = "/api/v1/namespaces/default/pods"


def no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """The agent's HTTPS server is tried elsewhere."""

    class NoServer:
        def __init__(self, agent: Agent) -> None: ...

        def bind(self) -> int:
            return 10250

        def renew(self) -> None: ...

        async def start(self) -> None: ...

        async def close(self) -> None: ...

    monkeypatch.setattr("sampan.node.http.AgentServer", NoServer)


class Node:
    """One agent with everything around it."""

    def __init__(self, tmp: Path) -> None:
        self.tmp = tmp
        self.clock = FakeClock()
        self.api = FakeApi()
        self.images = FakeImages()
        self.runtime = FakeRuntime(self.clock)
        self.network = FakeNetwork()
        self.kernel = FakeKernel()
        self.agent: Agent | None = None

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Agent]:
        config = NodeConfig(
            name="n1",
            data=self.tmp / "data",
            run=self.tmp / "run",
            address="192.168.1.1",
            pod_cidr="10.244.0.0/24",
            dns_ip="10.96.0.10",
            ca_cert=self.tmp / "ca",
            cert=self.tmp / "cert",
            key=self.tmp / "key",
        )
        agent = Agent(
            config,
            Client(self.api),
            self.runtime,
            self.images,
            self.network,
            clock=self.clock,
            kernel=self.kernel,
        )
        task = asyncio.create_task(agent.run())
        self.agent = agent
        try:
            async with asyncio.timeout(5):
                waiting = asyncio.create_task(agent.ready.wait())
                await asyncio.wait([task, waiting], return_when=asyncio.FIRST_COMPLETED)
                if task.done():
                    task.result()
            await settle()
            yield agent
        finally:
            await agent.stop()
            await task

    def bind(self, name: str = "p", **spec: Any) -> None:
        """A pod bound to the node."""
        container = {"name": "c", "image": "busybox", "imagePullPolicy": "IfNotPresent"}
        container |= spec.pop("container", {})
        self.api.put(
            f"{PODS}/{name}",
            {
                "metadata": {"name": name, "namespace": "default", "uid": f"uid-{name}"},
                "spec": {"nodeName": "n1", "containers": [container], **spec},
                "status": {"phase": "Pending"},
            },
        )

    def pod(self, name: str = "p") -> Any:
        return self.api.objects[f"{PODS}/{name}"]

    def container(self, pod: str = "p", name: str = "") -> Any:
        """Its status; the first one is written a moment after the pod is seen."""
        for status in self.pod(pod)["status"].get("containerStatuses") or ():
            if not name or status["name"] == name:
                return status
        return {"state": {}, "restartCount": 0, "ready": False}

    def delete(self, name: str, grace_s: int) -> None:
        pod = self.pod(name)
        meta = pod["metadata"] | {
            "deletionTimestamp": "2026-01-01T00:00:00Z",
            "deletionGracePeriodSeconds": grace_s,
        }
        self.api.put(f"{PODS}/{name}", pod | {"metadata": meta})

    def reasons(self) -> list[str]:
        return [reason for _, reason, _ in self.api.events()]

    async def until(self, check: Any) -> None:
        """Let the loop run until `check()` holds; threads may be involved."""
        async with asyncio.timeout(5):
            while not check():
                await settle(1)
