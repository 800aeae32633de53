"""The agent against a fake API, runtime and network: pods from seen to gone."""

from __future__ import annotations

import asyncio
import os
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from sampan.runtime.interface import Credentials, Image
from tests.kit.clock import settle
from tests.kit.onenode import PODS, Node, no_server
from tests.kit.runtime import BUSYBOX


def read(folder: str, name: str) -> str:
    return Path(folder, name).read_text()


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Node]:
    no_server(monkeypatch)
    return Node(tmp_path)


async def test_registers_node_and_lease(node: Node) -> None:
    async with node.running():
        made = node.api.objects["/api/v1/nodes/n1"]
        ready = made["status"]["conditions"][-1]
        assert (ready["type"], ready["status"], ready["reason"]) == (
            "Ready",
            "True",
            "KubeletReady",
        )
        assert made["spec"]["podCIDR"] == "10.244.0.0/24"
        assert made["status"]["daemonEndpoints"]["kubeletEndpoint"]["Port"] == 10250
        path = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/n1"
        first = node.api.objects[path]["spec"]["renewTime"]
        await node.clock.advance(10)
        assert node.api.objects[path]["spec"]["renewTime"] != first


async def test_pod_runs_with_one_status_write(node: Node) -> None:
    async with node.running():
        node.bind(container={"command": ["sleep", "1d"]})
        await node.until(lambda: node.pod()["status"]["phase"] == "Running")
        status = node.pod()["status"]
        assert [path for path, _ in node.api.patches if "pods" in path] == [f"{PODS}/p/status"]
        assert status["podIP"] == "10.244.0.2"
        assert node.container()["ready"]
        assert {c["type"]: c["status"] for c in status["conditions"]} == {
            "PodReadyToStartContainers": "True",
            "Initialized": "True",
            "Ready": "True",
            "ContainersReady": "True",
            "PodScheduled": "True",
        }
        assert node.runtime.specs[node.runtime.only().id].args == ["sleep", "1d"]
        await settle()
        assert node.api.events()[-3:] == [
            (
                "Normal",
                "Pulled",
                'Container image "busybox" already present on machine and can be accessed by '
                "the pod",
            ),
            ("Normal", "Created", "Container created"),
            ("Normal", "Started", "Container started"),
        ]


async def test_a_second_address_is_what_the_network_says(node: Node) -> None:
    """Not always at the place of the first in a share of the node's: a CNI plugin has its own."""
    node.network.other_ip = "fd66::2"
    async with node.running():
        node.bind(container={"command": ["sleep", "1d"]})
        await node.until(lambda: node.pod()["status"]["phase"] == "Running")
        both = [{"ip": "10.244.0.2"}, {"ip": "fd66::2"}]
        assert node.pod()["status"]["podIPs"] == both
        node.runtime.exit(node.runtime.only().id, 1)
        await node.until(lambda: node.container()["restartCount"] == 1)
        assert node.pod()["status"]["podIPs"] == both


async def test_deleted_pod_is_stopped_reported_and_let_go(node: Node) -> None:
    node.runtime.obeys = lambda number: None
    async with node.running():
        node.bind()
        await node.until(lambda: node.pod()["status"]["phase"] == "Running")
        pod = node.pod()
        meta = pod["metadata"] | {
            "deletionTimestamp": "2026-01-01T00:00:00Z",
            "deletionGracePeriodSeconds": 5,
        }
        node.api.put(f"{PODS}/p", pod | {"metadata": meta})
        await settle()
        running = node.runtime.only()
        assert node.runtime.signals == [(running.id, 15)]
        await node.clock.advance(4.9)
        assert node.runtime.running()
        await node.clock.advance(0.2)
        await node.until(lambda: f"{PODS}/p" not in node.api.objects)
        assert node.runtime.signals[-1] == (running.id, 9)
        assert node.api.deletes == [
            (f"{PODS}/p", {"gracePeriodSeconds": 0, "preconditions": {"uid": "uid-p"}})
        ]
        last = [body for path, body in node.api.patches if path.endswith("p/status")][-1]
        assert last["status"]["phase"] == "Failed"
        assert last["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"] == 137
        assert not node.runtime.containers
        assert not node.network.given
        await node.until(lambda: not (node.tmp / "data/pods/uid-p").exists())
        await node.until(lambda: not node.agent.workers)  # type: ignore[union-attr]
        assert "Killing" in node.reasons()


async def test_crash_loop_backs_off_and_doubles(node: Node) -> None:
    async with node.running():
        node.bind()
        await node.until(lambda: node.runtime.running())
        node.runtime.exit(node.runtime.only().id, 1)
        # The first restart comes at once.
        await node.until(lambda: node.runtime.running() and node.container()["restartCount"] == 1)
        node.runtime.exit(node.runtime.only().id, 1)
        await node.until(lambda: "waiting" in node.container()["state"])
        assert node.container()["state"]["waiting"] == {
            "reason": "CrashLoopBackOff",
            "message": "back-off 10s restarting failed container=c pod=p_default(uid-p)",
        }
        assert node.container()["lastState"]["terminated"]["exitCode"] == 1
        assert node.pod()["status"]["phase"] == "Running"
        await node.clock.advance(9)
        assert not node.runtime.running()
        await node.clock.advance(1.1)
        await node.until(lambda: node.runtime.running())
        node.runtime.exit(node.runtime.only().id, 1)
        await node.until(lambda: "20s" in str(node.container()["state"]))
        # Only the last two runs are kept.
        assert len(node.runtime.containers) == 2


async def test_missing_config_map_waits_and_starts_when_it_comes(node: Node) -> None:
    async with node.running():
        node.bind(
            container={
                "env": [{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "m", "key": "k"}}}]
            }
        )
        await node.until(lambda: "configmap" in str(node.pod()["status"]))
        assert node.container()["state"]["waiting"] == {
            "reason": "CreateContainerConfigError",
            "message": 'configmap "m" not found',
        }
        node.api.put("/api/v1/namespaces/default/configmaps/m", {"data": {"x": "1"}})
        await node.until(lambda: "find key" in str(node.pod()["status"]))
        text = "couldn't find key k in ConfigMap default/m"
        assert node.container()["state"]["waiting"]["message"] == text
        node.api.put("/api/v1/namespaces/default/configmaps/m", {"data": {"k": "v"}})
        await node.until(lambda: node.runtime.running())
        assert ("A", "v") in node.runtime.specs[node.runtime.only().id].env


async def test_config_map_volume_follows_the_object(node: Node) -> None:
    node.api.put("/api/v1/namespaces/default/configmaps/m", {"data": {"k": "one"}})
    async with node.running():
        node.bind(
            volumes=[{"name": "v", "configMap": {"name": "m"}}],
            container={"volumeMounts": [{"name": "v", "mountPath": "/etc/v"}]},
        )
        await node.until(lambda: node.runtime.running())
        (source,) = [
            mount.source
            for mount in node.runtime.specs[node.runtime.only().id].mounts
            if mount.target == "/etc/v"
        ]
        assert read(source, "k") == "one"
        node.api.put("/api/v1/namespaces/default/configmaps/m", {"data": {"k": "two", "l": "x"}})
        await settle()
        assert read(source, "k") == "two"
        assert read(source, "l") == "x"


async def test_the_first_pull_of_a_pod_waits_for_its_secrets(node: Node) -> None:
    auths = b64encode(b'{"auths": {"r.io": {"username": "u", "password": "p"}}}').decode()
    kind = "kubernetes.io/dockerconfigjson"
    secret = {"type": kind, "data": {".dockerconfigjson": auths}}
    node.api.put("/api/v1/namespaces/default/secrets/s", secret)
    node.images.remote["r.io/app"] = BUSYBOX
    async with node.running():
        node.bind(container={"image": "r.io/app"}, imagePullSecrets=[{"name": "s"}])
        await node.until(lambda: node.runtime.running())
        assert node.images.pulls == [("r.io/app", Credentials("u", "p"))]


async def test_missing_image(node: Node) -> None:
    async with node.running():
        node.bind(container={"image": "nosuch"})
        await node.until(lambda: "ErrImagePull" in str(node.pod()["status"]))
        assert node.container()["state"]["waiting"]["message"] == "nosuch: not found"
        await node.clock.advance(3)
        await node.until(lambda: "ImagePullBackOff" in str(node.pod()["status"]))
        assert node.container()["state"]["waiting"]["message"].startswith(
            'Back-off pulling image "nosuch": ErrImagePull: '
        )
        assert node.pod()["status"]["phase"] == "Pending"
        node.images.remote["nosuch"] = BUSYBOX
        await node.clock.advance(8)
        await node.until(lambda: node.runtime.running())
        assert ("Warning", "Failed", 'Failed to pull image "nosuch": nosuch: not found') in (
            node.api.events()
        )


async def test_agent_restart_keeps_containers_and_cleans_up(node: Node) -> None:
    async with node.running():
        node.bind("stay")
        node.bind("leave")
        await node.until(lambda: len(node.runtime.running()) == 2)
        before = {
            item.annotations["io.kubernetes.pod.name"]: item.id for item in node.runtime.running()
        }
    assert len(node.runtime.running()) == 2
    node.api.remove(f"{PODS}/leave")
    async with node.running():
        await node.until(lambda: len(node.runtime.containers) == 1)
        assert node.runtime.only().id == before["stay"]
        assert node.network.given.keys() == {"uid-stay"}
        node.runtime.exit(before["stay"], 3)
        await node.until(lambda: node.container("stay")["restartCount"] == 1)


async def test_tokens_of_containers_that_run_on_are_renewed_however_the_agent_began(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = {"serviceAccountToken": {"path": "token", "expirationSeconds": 1000}}
    async with node.running():
        node.bind(volumes=[{"name": "v", "projected": {"sources": [source]}}])
        await node.until(lambda: node.pod()["status"]["phase"] == "Running")
    (volume,) = (node.tmp / "run/volatile").glob("*/v")
    monkeypatch.setattr(node.api, "tokens", 0)
    post = node.api._post

    def refuse(path: str, body: Any) -> Any:
        if path.endswith("/token"):
            raise ConnectionRefusedError("the server is away")
        return post(path, body)

    monkeypatch.setattr(node.api, "_post", refuse)
    async with node.running():
        monkeypatch.setattr(node.api, "_post", post)
        assert node.api.tokens == 0
        await node.clock.advance(1)
        assert node.api.tokens == 1
        await node.clock.advance(800)
        assert read(str(volume), "token") == "token-2"


async def test_a_pod_that_goes_while_its_worker_has_failed_leaves_nothing(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with node.running() as agent:
        node.bind()
        await node.until(lambda: node.pod()["status"]["phase"] == "Running")

        def fail() -> float:
            raise RuntimeError("a fault of ours")

        worker = agent.workers["uid-p"]
        monkeypatch.setattr(worker, "_step", fail)
        worker.pulse.beat()
        await settle()
        node.api.remove(f"{PODS}/p")
        await node.clock.advance(1)
        await node.until(lambda: not node.runtime.containers)
        assert not agent.workers
        assert not node.network.given
        await node.until(lambda: not (node.tmp / "data/pods/uid-p").exists())


async def test_what_a_run_said_goes_with_it(node: Node) -> None:
    async with node.running():
        node.bind(container={"command": ["sh"]})
        for count in range(4):
            await node.until(
                lambda: node.runtime.running() and node.container()["restartCount"] == count  # noqa: B023
            )
            log = node.runtime.specs[node.runtime.only().id].log_path
            for name in (f"{count}.log", f"{count}.log.20260101-000000.000000001"):
                (log.parent / name).write_text("said")
            node.runtime.exit(node.runtime.only().id, 1)
            await settle()
            await node.clock.advance(41)
        assert not [*log.parent.glob("0.log*"), *log.parent.glob("1.log*")]
        assert len([*log.parent.glob("3.log*")]) == 2


async def test_machine_reboot_restarts_with_a_higher_count(node: Node) -> None:
    async with node.running():
        node.bind()
        await node.until(lambda: node.pod()["status"]["phase"] == "Running")
    node.runtime.containers.clear()
    async with node.running():
        await node.until(lambda: node.container()["restartCount"] == 1)
        assert node.container()["lastState"]["terminated"]["reason"] == "ContainerStatusUnknown"


async def test_job_pod_completes(node: Node) -> None:
    async with node.running():
        node.bind(restartPolicy="Never")
        await node.until(lambda: node.runtime.running())
        node.runtime.exit(node.runtime.only().id, 0)
        await node.until(lambda: node.pod()["status"]["phase"] == "Succeeded")
        ready = next(c for c in node.pod()["status"]["conditions"] if c["type"] == "Ready")
        assert (ready["status"], ready["reason"]) == ("False", "PodCompleted")
        assert node.container()["state"]["terminated"]["reason"] == "Completed"


async def test_init_containers_run_in_order(node: Node) -> None:
    async with node.running():
        node.bind(
            initContainers=[
                {"name": "i1", "image": "busybox"},
                {"name": "side", "image": "busybox", "restartPolicy": "Always"},
                {"name": "i2", "image": "busybox"},
            ]
        )

        def names() -> list[str]:
            return [
                item.annotations["io.kubernetes.container.name"] for item in node.runtime.running()
            ]

        await node.until(lambda: names() == ["i1"])
        await node.clock.advance(2)
        assert node.container()["state"]["waiting"]["reason"] == "PodInitializing"
        node.runtime.exit(node.runtime.only().id, 0)
        await node.until(lambda: names() == ["side", "i2"])
        node.runtime.exit(node.runtime.running()[1].id, 0)
        await node.until(lambda: names() == ["side", "c"])
        await node.until(lambda: node.pod()["status"]["phase"] == "Running")


async def test_start_failure_shows_and_backs_off(node: Node) -> None:
    node.runtime.start_error = 'exec: "nope": executable file not found in $PATH'
    async with node.running():
        node.bind(container={"command": ["nope"]})
        await node.until(lambda: "RunContainerError" in str(node.pod()["status"]))
        assert "executable file not found" in node.container()["state"]["waiting"]["message"]
        assert node.container()["lastState"]["terminated"]["reason"] == "StartError"
        await node.clock.advance(1.1)
        await node.until(lambda: node.container()["restartCount"] == 1)
        await node.clock.advance(1.1)
        await node.until(lambda: "CrashLoopBackOff" in str(node.pod()["status"]))


async def test_failed_exec_liveness_restarts_the_container(node: Node) -> None:
    node.runtime.exec_answer = lambda args: (b"no pulse", 1)
    async with node.running():
        probe = {"exec": {"command": ["check"]}, "periodSeconds": 5, "failureThreshold": 2}
        node.bind(container={"livenessProbe": probe})
        await node.until(lambda: node.runtime.running())
        await settle()
        first = node.runtime.only().id
        await node.clock.advance(5.6)
        await node.until(lambda: node.container()["restartCount"] == 1)
        assert node.runtime.signals == [(first, 15)]
        messages = [message for _, _, message in node.api.events()]
        assert "Liveness probe failed: no pulse" in messages
        assert "Container c failed liveness probe, will be restarted" in messages


async def test_another_image_restarts_the_container(node: Node) -> None:
    node.images.here["other"] = replace(BUSYBOX, id="sha256:" + "c" * 64, tags=("x.io/other:1",))
    async with node.running():
        node.bind()
        await node.until(lambda: node.pod()["status"]["phase"] == "Running")
        pod = node.pod()
        container = pod["spec"]["containers"][0] | {"image": "other"}
        node.api.put(f"{PODS}/p", pod | {"spec": pod["spec"] | {"containers": [container]}})
        await node.until(lambda: node.container()["restartCount"] == 1)
        assert node.container()["image"] == "x.io/other:1"
        messages = [message for _, _, message in node.api.events()]
        assert "Container c definition changed, will be restarted" in messages


async def test_missing_volume_is_told_once_and_mounted_when_it_comes(node: Node) -> None:
    async with node.running():
        node.bind(volumes=[{"name": "v", "secret": {"secretName": "s"}}])
        text = 'MountVolume.SetUp failed for volume "v" : secret "s" not found'
        told = ("Warning", "FailedMount", text)
        await node.until(lambda: told in node.api.events())
        await node.clock.advance(60)
        assert node.api.events().count(told) == 1
        assert node.container()["state"]["waiting"]["reason"] == "ContainerCreating"
        node.api.put("/api/v1/namespaces/default/secrets/s", {"data": {}})
        await node.until(lambda: node.runtime.running())


@pytest.mark.parametrize("policy", ["Always", "IfNotPresent", "Never"])
async def test_a_name_that_is_no_image(node: Node, policy: str) -> None:
    async with node.running():
        node.bind(container={"image": "UPPER:::x", "imagePullPolicy": policy})
        await node.until(lambda: "InvalidImageName" in str(node.pod()["status"]))


async def test_forced_removal_stops_within_a_second_and_says_nothing(node: Node) -> None:
    node.runtime.obeys = lambda number: None
    async with node.running() as agent:
        node.bind()
        await node.until(lambda: node.pod()["status"]["phase"] == "Running")
        writes = len(node.api.patches)
        node.api.remove(f"{PODS}/p")
        await settle()
        await node.clock.advance(1)
        await node.until(lambda: not agent.workers)
        assert [number for _, number in node.runtime.signals] == [15, 9]
        assert not node.runtime.containers
        assert [path for path, _ in node.api.patches[writes:] if "pods" in path] == []
        assert node.api.deletes == []


async def test_a_shorter_grace_is_heeded(node: Node) -> None:
    node.runtime.obeys = lambda number: None
    async with node.running():
        node.bind()
        await node.until(lambda: node.pod()["status"]["phase"] == "Running")
        for grace in (60, 2):
            pod = node.pod()
            meta = pod["metadata"] | {
                "deletionTimestamp": "2026-01-01T00:00:00Z",
                "deletionGracePeriodSeconds": grace,
            }
            node.api.put(f"{PODS}/p", pod | {"metadata": meta})
            await settle()
        await node.clock.advance(2)
        await node.until(lambda: f"{PODS}/p" not in node.api.objects)


async def test_ephemeral_container_is_started_once_beside_the_others(node: Node) -> None:
    async with node.running():
        node.bind()
        await node.until(lambda: node.pod()["status"]["phase"] == "Running")
        debug = {"name": "debug", "image": "busybox", "targetContainerName": "c"}
        pod = node.pod()
        node.api.put(f"{PODS}/p", pod | {"spec": pod["spec"] | {"ephemeralContainers": [debug]}})
        await node.until(lambda: len(node.runtime.running()) == 2)
        added = node.runtime.running()[1]
        node.runtime.exit(added.id, 1)
        await node.until(lambda: "terminated" in str(node.pod()["status"]))
        (status,) = node.pod()["status"]["ephemeralContainerStatuses"]
        assert status["state"]["terminated"]["exitCode"] == 1
        assert node.pod()["status"]["phase"] == "Running"
        await node.clock.advance(600)
        assert len(node.runtime.running()) == 1


async def test_a_deadline_ends_what_runs_and_what_is_still_pulled(node: Node) -> None:
    pulled = asyncio.Event()

    async def pull(reference: str, credentials: object = None) -> Image:
        await pulled.wait()
        return BUSYBOX

    node.images.pull = pull  # type: ignore[method-assign, assignment]
    async with node.running():
        node.bind(
            activeDeadlineSeconds=30,
            restartPolicy="Never",
            initContainers=[{"name": "i", "image": "slow"}],
        )
        await settle()
        await node.clock.advance(2)
        assert node.pod()["status"]["phase"] == "Pending"
        await node.clock.advance(29)
        await node.until(lambda: node.pod()["status"]["phase"] == "Failed")
        assert node.pod()["status"]["reason"] == "DeadlineExceeded"
        pulled.set()
        await settle()
        assert not node.runtime.containers


async def test_an_empty_dir_beyond_its_limit_ends_its_pod(node: Node) -> None:
    volumes = [
        {"name": "small", "emptyDir": {"sizeLimit": "64Ki"}},
        {"name": "free", "emptyDir": {}},
    ]
    async with node.running() as agent:
        node.bind(volumes=volumes, restartPolicy="Always")
        await node.until(lambda: node.runtime.running())
        free, small = (agent.parts.volumes.empty_dir("uid-p", name) for name in ("free", "small"))
        (free / "file").write_bytes(b"x" * 200_000)
        (small / "file").write_bytes(b"x" * 40_000)
        os.link(small / "file", small / "again")
        (small / "link").symlink_to(free)
        await node.clock.advance(11)
        await settle()
        assert node.pod()["status"]["phase"] == "Running"
        (small / "more").write_bytes(b"x" * 40_000)
        await node.clock.advance(11)
        await node.until(lambda: node.pod()["status"]["phase"] == "Failed")
        status = node.pod()["status"]
        text = 'Usage of EmptyDir volume "small" exceeds the limit "64Ki". '
        assert (status["reason"], status["message"]) == ("Evicted", text)
        assert ("Warning", "Evicted", text) in node.api.events()
