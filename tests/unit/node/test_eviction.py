"""Pods that have to go: who is first, what they are told, and who is not taken."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sampan.linux.cgroups import Usage
from sampan.node.ephemeral import Written, excess
from sampan.node.ranking import Consumer, rank
from sampan.node.state import Crash, Waiting
from sampan.node.sysctls import refusal
from sampan.node.thresholds import MEMORY, NODE_DISK, Observation
from sampan.node.volumes.source import Token
from tests.kit.clock import settle
from tests.kit.onenode import PODS, Node, no_server

MIB = 1 << 20


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Node:
    no_server(monkeypatch)
    return Node(tmp_path)


def consumer(name: str, used: int, asked: str = "0", priority: int = 0) -> Consumer:
    container = {"name": "c", "resources": {"requests": {"memory": asked}}}
    spec = {"containers": [container], "priority": priority}
    return Consumer({"metadata": {"name": name, "namespace": "d"}, "spec": spec}, used)


def test_who_goes_first() -> None:
    found = rank(
        [
            consumer("within", 10, "20"),
            consumer("important", 90, "10", priority=5),
            consumer("little-over", 12, "10"),
            consumer("much-over", 50, "10"),
        ],
        "memory",
    )
    names = [item.pod["metadata"]["name"] for item in found]
    assert names == ["much-over", "little-over", "important", "within"]
    by_count = [consumer("few", 3), consumer("many", 9), consumer("vital", 99, priority=9)]
    names = [item.pod["metadata"]["name"] for item in rank(by_count, "pids")]
    assert names == ["many", "few", "vital"]


async def test_a_pod_is_evicted_for_memory(node: Node) -> None:
    async with node.running() as agent:
        node.bind("good", container={"resources": {"requests": {"memory": "64Mi"}}})
        node.bind("greedy", container={"resources": {"requests": {"memory": "8Mi"}}})
        names = ("good", "greedy")
        await node.until(lambda: all(node.container(name)["ready"] for name in names))
        for name, used in (("good", 60), ("greedy", 100)):
            group = f"kubepods/burstable/poduid-{name}"
            node.runtime.usages[group] = Usage(working_set_bytes=used * MIB)
            run = agent.workers[f"uid-{name}"].state.last("c")
            assert run is not None
            node.runtime.usages[run.id] = Usage(working_set_bytes=used * MIB)
        seen = {MEMORY: Observation(50 * MIB, 1000 * MIB)}
        agent.evictor._read = lambda: seen
        assert agent.evictor.observe() == ("MemoryPressure",)
        await node.until(lambda: node.pod("greedy")["status"]["phase"] == "Failed")
        status = node.pod("greedy")["status"]
        assert status["reason"] == "Evicted"
        assert status["message"] == (
            "The node was low on resource: memory. Threshold quantity: 100Mi, available: 50Mi. "
            "Container c was using 100Mi, request is 8Mi, has larger consumption of memory. "
        )
        (told,) = (item for item in status["conditions"] if item["type"] == "DisruptionTarget")
        assert told["reason"] == "TerminationByKubelet"
        event = next(
            item
            for path, item in node.api.objects.items()
            if "/events/" in path and item["reason"] == "Evicted"
        )
        assert event["metadata"]["annotations"] == {
            "offending_containers": "c",
            "offending_containers_usage": "100Mi",
            "starved_resource": "memory",
        }
        assert "EvictionThresholdMet" in node.reasons()
        assert node.pod("good")["status"]["phase"] == "Running"
        # The pressure is told of, and pods without requests are not taken while it lasts.
        node.bind("late")
        await node.until(lambda: node.pod("late")["status"]["phase"] == "Failed")
        assert node.pod("late")["status"]["message"] == (
            "Pod was rejected: The node had condition: [MemoryPressure]. "
        )
        assert "containerStatuses" not in node.pod("late")["status"]
        seen[MEMORY] = Observation(500 * MIB, 1000 * MIB)
        await node.clock.advance(10)
        await settle()
        kinds = node.api.objects["/api/v1/nodes/n1"]["status"]["conditions"]
        (pressure,) = (item for item in kinds if item["type"] == "MemoryPressure")
        assert (pressure["status"], pressure["reason"]) == ("True", "KubeletHasInsufficientMemory")
        assert node.pod("good")["status"]["phase"] == "Running"


async def test_a_disk_that_is_full_costs_one_pod(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the first one wrote goes with it, so nobody else has to; and nobody has to be asked: the
    API server may be what the full disk has stopped."""
    async with node.running() as agent:
        for name in ("good", "greedy"):
            node.bind(name, volumes=[{"name": "v", "emptyDir": {}}])
            await node.until(lambda name=name: node.container(name)["ready"])
        volume = agent.parts.volumes.empty_dir("uid-greedy", "v")
        (volume / "file").write_bytes(bytes(MIB))
        greedy = agent.workers["uid-greedy"].state.last("c")
        assert greedy is not None
        full = {NODE_DISK: Observation(0, 100 * MIB)}
        free = {NODE_DISK: Observation(90 * MIB, 100 * MIB)}
        agent.evictor._read = lambda: full if volume.exists() else free

        async def silent(*_: Any, **__: Any) -> Any:
            raise ConnectionError("connection refused")

        with monkeypatch.context() as patch:
            patch.setattr(node.api, "request", silent)
            await node.clock.advance(11)
            await node.until(lambda: agent.workers["uid-greedy"].state.stopped)
            # The next look finds the disk as full as before, and somebody's end to clean up.
            await node.clock.advance(11)
            await node.until(lambda: greedy.id not in node.runtime.containers)
            await node.clock.advance(2)
            await node.until(lambda: agent.evictor.conditions == ("DiskPressure",))
            assert len(node.runtime.running()) == 1
        await node.clock.advance(11)
        await node.until(lambda: node.pod("greedy")["status"]["phase"] == "Failed")
        status = node.container("greedy")["state"]["terminated"]
        assert status["containerID"].endswith(greedy.id)
        assert not volume.exists()
        assert node.pod("good")["status"]["phase"] == "Running"


async def test_critical_pods_stay(node: Node) -> None:
    async with node.running() as agent:
        node.bind("vital", priority=2_000_000_000)
        await node.until(lambda: node.container("vital")["ready"])
        agent.evictor._read = lambda: {MEMORY: Observation(0, MIB)}
        agent.evictor.observe()
        await settle()
        assert node.pod("vital")["status"]["phase"] == "Running"


def test_limits_of_local_storage(tmp_path: Path) -> None:
    folders = {name: tmp_path / name for name in ("v", "root", "log")}
    for folder in folders.values():
        folder.mkdir()
    written = Written({"v": folders["v"]}, {"c": (folders["root"], folders["log"])})
    container: Any = {"name": "c", "resources": {"limits": {"ephemeral-storage": "256Ki"}}}
    volume = {"name": "v", "emptyDir": {"sizeLimit": "64Ki"}}
    pod: Any = {"spec": {"containers": [container, {"name": "d"}], "volumes": [volume]}}
    assert excess(pod, written) is None
    (folders["v"] / "file").write_bytes(b"x" * 100_000)
    assert excess(pod, written) == (
        "emptydirfs.limit", 'Usage of EmptyDir volume "v" exceeds the limit "64Ki". '
    )  # fmt: skip
    volume["emptyDir"] = {}
    (folders["root"] / "file").write_bytes(b"x" * 200_000)
    assert excess(pod, written) == (
        "ephemeralpodfs.limit",
        "Pod ephemeral local storage usage exceeds the total limit of containers 256Ki. ",
    )
    pod["spec"]["containers"][1]["resources"] = {"limits": {"ephemeral-storage": "1Mi"}}
    assert excess(pod, written) is None
    (folders["log"] / "file").write_bytes(b"x" * 100_000)
    assert excess(pod, written) == (
        "ephemeralcontainerfs.limit",
        'Container c exceeded its local ephemeral storage limit "256Ki". ',
    )


async def test_who_is_not_taken(node: Node) -> None:
    async with node.running() as agent:
        agent.parts.ledger.allocatable = agent.parts.allocatable = {
            "cpu": "1", "memory": "1Gi", "pods": "9", "ephemeral-storage": "1Gi",
        }  # fmt: skip
        api = node.api.objects["/api/v1/nodes/n1"]
        assert agent.registration.node["metadata"]["name"] == api["metadata"]["name"]
        port = {"ports": [{"containerPort": 1, "hostPort": 8080}]}
        wants: dict[str, dict[str, Any]] = {
            "taken": {"container": port},
            "OutOfcpu": {"container": {"resources": {"requests": {"cpu": "2"}}}},
            "OutOfephemeral-storage": {
                "container": {"resources": {"requests": {"ephemeral-storage": "2Gi"}}}
            },
            "NodeAffinity": {"nodeSelector": {"disk": "ssd"}},
            "NodePorts": {"container": port},
            "SysctlForbidden": {
                "securityContext": {"sysctls": [{"name": "kernel.msgmax", "value": "1"}]}
            },
            "PodOSNotSupported": {"os": {"name": "windows"}},
            "AppArmor": {"securityContext": {"appArmorProfile": {"type": "RuntimeDefault"}}},
        }
        names = {reason: reason.lower() for reason in wants}
        for reason, spec in wants.items():
            node.bind(names[reason], **spec)
            await settle()
        refused = [reason for reason in wants if reason != "taken"]
        await node.until(
            lambda: all(node.pod(names[it])["status"]["phase"] == "Failed" for it in refused)
        )
        assert [node.pod(names[it])["status"]["reason"] for it in refused] == refused
        status = node.pod("outofcpu")["status"]
        assert status["message"] == (
            "Pod was rejected: Node didn't have enough resource: cpu, requested: 2000, used: 0, "
            "capacity: 1000"
        )
        assert node.pod("taken")["status"]["phase"] == "Running"
        assert f"{PODS}/taken" in node.api.objects


@pytest.mark.parametrize(
    ("name", "more", "text"),
    [
        ("kernel.shm_rmid_forced", {}, ""),
        ("net/ipv4/tcp_syncookies", {}, ""),
        ("kernel.shm_rmid_forced", {"hostIPC": True},
         'forbidden sysctl: "kernel.shm_rmid_forced" not allowed with host IPC enabled'),
        ("net.ipv4.tcp_syncookies", {"hostNetwork": True},
         'forbidden sysctl: "net.ipv4.tcp_syncookies" not allowed with host Net enabled'),
        ("kernel.msgmax", {}, 'forbidden sysctl: "kernel.msgmax" not allowlisted'),
        ("net.core.somaxconn", {}, ""),
    ],
)  # fmt: skip
def test_sysctls(name: str, more: dict[str, Any], text: str) -> None:
    spec = {"securityContext": {"sysctls": [{"name": name, "value": "1"}]}, **more}
    assert refusal(spec, ["net.core.*"]) == text


async def test_a_clock_that_is_set_shifts_what_waits(node: Node) -> None:
    async with node.running() as agent:
        node.bind()
        await node.until(lambda: node.container()["ready"])
        state = agent.workers["uid-p"].state
        state.waiting["c"] = Waiting("CrashLoopBackOff", "", node.clock.now() + 10)
        state.crashes["c"] = Crash(20, node.clock.now())
        sandbox = agent.workers["uid-p"].sandbox
        sandbox._tokens["", 3600] = Token("of the future", node.clock.now() + 3000)
        node.clock._base -= 3600
        agent.keeper.tick()
        assert state.waiting["c"].retry_at == node.clock.now() + 10 - 3600
        assert state.crashes["c"].updated_at == node.clock.now() - 3600
        # A token that begins later than now is none.
        assert sandbox.refresh_at == node.clock.now()
