"""Pods in real containers of one cluster: upstream's conformance behaviours of sig-node. All are
made at once; each test reads what its own have said, or what became of them."""

from __future__ import annotations

import json
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.kit.cli import User
from tests.kit.images import busybox_archive
from tests.kit.machine import NOTHING, traces
from tests.kit.ports import free_port
from tests.system import pod_scenes as scenes

pytestmark = pytest.mark.root

PATIENCE_S = 30.0
Obj = dict[str, Any]


class World:
    """The cluster, and what its pods have said."""

    def __init__(self, user: User) -> None:
        self.user = user
        self.said: dict[str, list[str]] = {}

    def apply(self, *objects: Obj) -> None:
        body = {"apiVersion": "v1", "kind": "List", "items": [*objects]}
        self.user.kubectl("create", "-f", "-", text=json.dumps(body)).ok

    def pod(self, name: str) -> Any:
        return self.user.get("pod", name)

    def status(self, name: str, container: str = "c") -> Any:
        """Of a container; {} before it has one."""
        status = self.pod(name)["status"]
        kinds = ("containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses")
        every = [item for kind in kinds for item in status.get(kind) or ()]
        return next((item for item in every if item["name"] == container), {})

    def until(self, true: Callable[[], Any]) -> None:
        end = time.monotonic() + PATIENCE_S
        while not true():
            assert time.monotonic() < end, self.user.kubectl("get", "pods,events").out
            time.sleep(0.1)

    def env(self, name: str) -> dict[str, str]:
        pairs = (line.partition("=") for line in self.said[name])
        return {key: value for key, _, value in pairs}

    def patch(self, name: str, *more: str, **change: Any) -> str:
        return self.user.kubectl("patch", "pod", name, "-p", json.dumps(change), *more).ok

    def logs(self, *arguments: str) -> str:
        return self.user.kubectl("logs", *arguments).ok


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("pods")
    (folder / "home").mkdir()
    user = User("pods", folder / "data", folder / "home")
    images = [
        busybox_archive(folder / "busybox.tar", f"docker.io/library/{scenes.IMAGE}"),
        busybox_archive(
            folder / "talker.tar", f"docker.io/library/{scenes.TALKER}", ("echo", "of-image"),
            command=("by-default",),
        ),
    ]  # fmt: skip
    try:
        user.sampan("up", "--listen", f"127.0.0.1:{free_port()}").ok
        for image in images:
            user.sampan("image", "load", str(image)).ok
        yield begin(World(user))
    finally:
        user.sampan("down", "--purge").ok
    assert traces(user.name, user.data) == NOTHING


def begin(world: World) -> World:
    """Everything at once, and what ends is awaited."""
    pods = scenes.short()
    world.apply(*scenes.config(), scenes.server(), *scenes.lasting(), *pods)
    names = [item["metadata"]["name"] for item in pods]
    ended = ("Succeeded", "Failed")

    def done() -> bool:
        found = {it["metadata"]["name"]: it for it in world.user.get("pods")["items"]}
        return all(found[name]["status"]["phase"] in ended for name in names)

    world.until(done)
    with ThreadPoolExecutor(4) as pool:
        logs = pool.map(lambda name: world.user.kubectl("logs", name, "-c", "c"), names)
    world.said |= {name: log.out.splitlines() for name, log in zip(names, logs, strict=True)}
    world.apply(*scenes.hooked(world.pod("server")["status"]["podIP"]))
    return world


# Environment, commands and arguments


@pytest.mark.parametrize("kind", ["configmap", "secret"])
def test_keys_are_variables(world: World, kind: str) -> None:
    env = world.env(f"env-{kind}")
    assert env["DATA"] == env["data-1"] == env["p-data-1"] == "value-1"
    assert env["data_2"] == env["p-data_2"] == "value-2"


def test_a_pod_knows_itself(world: World) -> None:
    env, pod = world.env("env-downward"), world.pod("env-downward")
    status = pod["status"]
    assert (env["POD_NAME"], env["POD_NAMESPACE"]) == ("env-downward", "default")
    assert env["POD_UID"] == pod["metadata"]["uid"]
    assert (env["POD_IP"], env["HOST_IP"]) == (status["podIP"], status["hostIP"])
    assert env["HOST_IPS"] == ",".join(item["ip"] for item in status["hostIPs"])
    amounts = [env[name] for name in ("CPU_LIMIT", "MEMORY_LIMIT", "CPU_REQUEST", "MEMORY_REQUEST")]
    assert amounts == ["2", str(64 << 20), "1", str(32 << 20)]


def test_limits_are_by_default_the_nodes(world: World) -> None:
    env = world.env("env-defaults")
    room = world.user.get("nodes")["items"][0]["status"]["allocatable"]
    assert env["CPU_LIMIT"] == room["cpu"]
    assert int(env["MEMORY_LIMIT"]) == int(room["memory"].removesuffix("Ki")) * 1024


def test_services_are_in_the_environment(world: World) -> None:
    env, ip = world.env("env-services"), world.user.get("service", "fooservice")
    host = ip["spec"]["clusterIP"]
    assert {key: value for key, value in env.items() if key.startswith("FOOSERVICE_")} == {
        "FOOSERVICE_SERVICE_HOST": host,
        "FOOSERVICE_SERVICE_PORT": "8765",
        "FOOSERVICE_PORT": f"tcp://{host}:8765",
        "FOOSERVICE_PORT_8765_TCP": f"tcp://{host}:8765",
        "FOOSERVICE_PORT_8765_TCP_PROTO": "tcp",
        "FOOSERVICE_PORT_8765_TCP_PORT": "8765",
        "FOOSERVICE_PORT_8765_TCP_ADDR": host,
    }


def test_variables_are_expanded(world: World) -> None:
    assert world.env("env-composed")["FOOBAR"] == "foo-value;;bar-value"
    assert world.said["args"] == world.said["command"] == ["test-value"]


def test_a_sub_path_is_expanded(world: World) -> None:
    assert world.said["sub-path"] == ["test.log"]


@pytest.mark.parametrize("name", ["sub-absolute", "sub-backticks"])
def test_a_sub_path_that_leads_out_starts_nothing(world: World, name: str) -> None:
    world.until(lambda: "CreateContainerConfigError" in str(world.status(name)))
    assert world.pod(name)["status"]["phase"] == "Pending"


def test_a_sub_path_may_be_mended(world: World) -> None:
    world.until(lambda: "CreateContainerConfigError" in str(world.status("sub-later")))
    world.patch("sub-later", metadata={"annotations": {"path": "foo"}})
    world.until(lambda: world.pod("sub-later")["status"]["phase"] == "Succeeded")
    assert world.logs("sub-later") == "log\n"


def test_words_of_the_image_and_of_the_pod(world: World) -> None:
    names = ("none", "args", "command", "both")
    said = [world.said[f"words-{name}"] for name in names]
    assert said == [
        ["of-image by-default"], ["of-image other arguments"], ["other"], ["other both"],
    ]  # fmt: skip


# Ends, restarts, init containers


def test_termination_messages(world: World) -> None:
    def message(name: str) -> str:
        return str(world.status(f"message-{name}")["state"]["terminated"].get("message", ""))

    assert [message(name) for name in ("user", "log", "none", "file")] == ["DONE", "DONE", "", "OK"]


def test_restart_policies(world: World) -> None:
    """One that is always restarted waits ten seconds for its second restart; it needs but one."""
    wanted = {
        "always": ("Running", 1), "onfailure": ("Succeeded", 1), "never": ("Failed", 0),
    }  # fmt: skip
    for policy, (phase, count) in wanted.items():
        name = f"exit-{policy}"
        world.until(lambda: world.pod(name)["status"]["phase"] == phase)  # noqa: B023
        world.until(lambda: world.status(name)["restartCount"] == count)  # noqa: B023
    assert "running" in world.status("exit-always")["state"]


def test_init_containers_come_first(world: World) -> None:
    for name, phase in (("init-always", "Running"), ("init-never", "Succeeded")):
        world.until(lambda: world.pod(name)["status"]["phase"] == phase)  # noqa: B023
        for init in ("init1", "init2"):
            assert world.status(name, init)["state"]["terminated"]["exitCode"] == 0
            assert world.status(name, init)["ready"]


def test_a_failed_init_container_keeps_the_others_from_starting(world: World) -> None:
    world.until(lambda: world.pod("init-never-fails")["status"]["phase"] == "Failed")
    assert world.status("init-never-fails", "init2")["state"]["terminated"]["exitCode"] == 1
    world.until(lambda: world.status("init-always-fails", "init2").get("restartCount", 0) >= 2)
    assert world.pod("init-always-fails")["status"]["phase"] == "Pending"
    for name in ("init-never-fails", "init-always-fails"):
        assert "terminated" not in world.status(name)["state"]
        assert not world.status(name)["started"]


def test_output_is_the_log(world: World) -> None:
    assert sorted(world.said["says"]) == ["Hello World", "to-stderr"]


def test_a_failed_pod_says_why_and_may_be_deleted(world: World) -> None:
    assert world.status("fails")["state"]["terminated"]["reason"] == "Error"
    world.user.kubectl("delete", "pod", "fails").ok
    assert "fails" not in [it["metadata"]["name"] for it in world.user.get("pods")["items"]]


# Rights


def test_users_and_groups(world: World) -> None:
    assert world.said["user"][0] == "65534"
    assert world.said["groups-of-pod"] == world.said["groups-of-container"] == ["1001", "2002"]


def test_rights(world: World) -> None:
    assert "may-not" in world.said["unprivileged"]
    assert world.said["writable"] == ["written"]
    assert "refused" in world.said["closed"]
    assert world.said["no-escalation"] == ["1000", "NoNewPrivs:\t1"]


def test_sysctls(world: World) -> None:
    assert world.said["sysctl"] == ["1"]


def test_malformed_sysctls_are_refused(world: World) -> None:
    names = ["kernel.shmmax", "foo-", "bar.."]
    body = scenes.pod("bad", scenes.container("true"))
    given = [{"name": name, "value": "1000"} for name in names]
    body["spec"]["securityContext"] = {"sysctls": given}
    answer = world.user.kubectl("create", "-f", "-", text=json.dumps(body))
    assert answer.code
    assert '"foo-"' in answer.err
    assert '"bar.."' in answer.err
    assert "kernel.shmmax" not in answer.err


# Hosts


def test_aliases_are_hosts(world: World) -> None:
    assert "123.45.67.89\tfoo\tbar" in world.said["aliases"]


def test_hosts_are_managed_but_the_nodes_own(world: World) -> None:
    head = "# Kubernetes-managed hosts file"
    assert world.said["hosts"][0].startswith(head)
    own = world.logs("hosts", "-c", "own")
    assert not own.startswith(head)
    assert own == Path("/etc/hosts").read_text()
    # As upstream's, that of a pod on the node's network is the node's under a heading.
    assert "\n".join(world.said["hosts-of-node"]).endswith(own.rstrip("\n"))


# Hooks and probes


def test_hooks_are_called(world: World) -> None:
    names = ("hook-http", "hook-exec")
    for name in names:
        world.until(lambda: world.status(name).get("ready"))  # noqa: B023
    asked = world.logs("server")
    assert "/poststart-http" in asked
    assert "/poststart-exec" in asked
    assert "/prestop" not in asked
    world.user.kubectl("delete", "pod", *names).ok
    asked = world.logs("server")
    assert "/prestop-http" in asked
    assert "/prestop-exec" in asked


@pytest.mark.parametrize("how", ["exec", "http", "grpc"])
def test_what_is_not_alive_is_restarted(world: World, how: str) -> None:
    world.until(lambda: world.status(f"dies-{how}").get("restartCount", 0) >= 1)


def test_restarts_are_counted_up(world: World) -> None:
    counts = [0]

    def enough() -> bool:
        counts.append(world.status("dies-exec")["restartCount"])
        return counts[-1] >= 2

    world.until(enough)
    assert counts == sorted(counts)


@pytest.mark.parametrize("how", ["exec", "http", "tcp", "grpc"])
def test_what_is_alive_is_left_alone(world: World, how: str) -> None:
    status = world.status(f"live-{how}")
    assert status["restartCount"] == 0
    assert "running" in status["state"]


def test_readiness_waits(world: World) -> None:
    world.until(lambda: world.status("ready-late")["ready"])
    status = world.pod("ready-late")["status"]
    when = next(it for it in status["conditions"] if it["type"] == "Ready")["lastTransitionTime"]
    began = world.status("ready-late")["state"]["running"]["startedAt"]
    assert seconds(when) - seconds(began) >= 2
    assert world.status("ready-late")["restartCount"] == 0
    never = world.status("ready-never")
    assert (never["ready"], never["restartCount"]) == (False, 0)


def seconds(text: str) -> float:
    return time.mktime(time.strptime(text, "%Y-%m-%dT%H:%M:%SZ"))


# What is changed while it lives


def test_a_deadline_may_be_set_later(world: World) -> None:
    world.until(lambda: world.pod("deadline")["status"]["phase"] == "Running")
    world.patch("deadline", spec={"activeDeadlineSeconds": 1})
    world.until(lambda: world.pod("deadline")["status"]["phase"] == "Failed")
    assert world.pod("deadline")["status"]["reason"] == "DeadlineExceeded"


def test_a_pod_is_watched_from_its_making_to_its_end(world: World) -> None:
    world.apply(scenes.pod("brief", scenes.container(scenes.LOOP)))
    command = ("kubectl", "get", "pods", "-lname=brief", "-w", "--output-watch-events")
    watch = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=world.user.environment)
    with watch:
        assert watch.stdout is not None
        lines = iter(watch.stdout.readline, "")
        assert next(lines).startswith("EVENT")
        assert next(line for line in lines if "Running" in line)
        world.patch("brief", metadata={"labels": {"time": "now"}})
        assert world.user.kubectl("get", "pods", "-ltime=now", "-oname").ok == "pod/brief\n"
        world.user.kubectl("delete", "pod", "brief").ok
        assert any(line.startswith("DELETED") for line in lines)
        watch.kill()
    assert world.user.get("pods", "-lname=brief")["items"] == []


def test_containers_are_added_for_debugging(world: World) -> None:
    path = "/api/v1/namespaces/default/pods/debugged/ephemeralcontainers"
    world.until(lambda: world.pod("debugged")["status"]["phase"] == "Running")
    for count, name in ((1, "debugger"), (2, "another")):
        pod = world.pod("debugged")
        listed = pod["spec"].setdefault("ephemeralContainers", [])
        listed.append(scenes.container("echo polo; sleep 1000", name))
        world.user.kubectl("replace", "--raw", path, "-f", "-", text=json.dumps(pod)).ok
        world.until(lambda: "running" in world.status("debugged", name).get("state", {}))  # noqa: B023
        assert len(world.pod("debugged")["spec"]["ephemeralContainers"]) == count
        assert world.logs("debugged", "-c", name) == "polo\n"


def amounts(cpu: int, memory: int) -> Obj:
    return {"cpu": f"{cpu}m", "memory": f"{memory}Mi"}


def resized(world: World, name: str, wanted: dict[str, Obj], *how: str) -> None:
    change = [{"name": each, "resources": given} for each, given in wanted.items()]
    world.patch(name, "--subresource=resize", spec={"containers": change})
    for each, given in wanted.items():
        world.until(lambda: world.status(name, each)["resources"] == given)  # noqa: B023
        assert world.status(name, each)["restartCount"] == 0


RESIZES = {
    "up": ((30, 30), (30, 30), (15, 15)),
    "down": ((40, 40), (10, 15), (10, 14)),
    "across": ((50, 40), (5, 30), (50, 40)),
}


def test_containers_are_resized_together(world: World) -> None:
    for figures in RESIZES.values():
        wanted = {
            f"c{number}": {"requests": amounts(*each), "limits": amounts(*each)}
            for number, each in enumerate(figures, 1)
        }
        resized(world, "resized", wanted)


def test_limits_and_requests_are_added(world: World) -> None:
    wanted = {
        "c1": {"requests": amounts(30, 20), "limits": amounts(40, 30)},
        "c2": {"requests": amounts(25, 25), "limits": amounts(50, 50)},
    }
    resized(world, "burstable", wanted)
    # The same amounts, written otherwise.
    equal = {"requests": {"cpu": "0.03", "memory": "20480Ki"}, "limits": amounts(40, 30)}
    change = [{"name": "c1", "resources": equal}]
    world.patch("burstable", "--subresource=resize", spec={"containers": change})
    assert world.status("burstable", "c1")["restartCount"] == 0


def test_a_resize_by_replacement(world: World) -> None:
    pod = world.pod("resized")
    wanted = {"requests": amounts(60, 60), "limits": amounts(60, 60)}
    pod["spec"]["containers"][0]["resources"] = wanted
    path = "/api/v1/namespaces/default/pods/resized/resize"
    world.user.kubectl("replace", "--raw", path, "-f", "-", text=json.dumps(pod)).ok
    world.until(lambda: world.status("resized", "c1")["resources"] == wanted)
    seen = json.loads(world.user.kubectl("get", "--raw", path).ok)
    assert seen["spec"] == world.pod("resized")["spec"]


# Streams


def channels(user: User, path: str, session: aiohttp.ClientSession, protocol: str) -> Any:
    config = json.loads(user.kubectl("config", "view", "--raw", "-o", "json").ok)
    server = config["clusters"][0]["cluster"]["server"].replace("https", "wss")
    context = ssl.create_default_context(cafile=str(user.data / "pki/ca.crt"))
    url = f"{server}/api/v1/namespaces/default/pods/living/{path}"
    return session.ws_connect(url, protocols=[protocol], ssl=context)


async def heard(user: User, path: str, protocol: str) -> bytes:
    token = (user.data / "admin.token").read_text().strip()
    said = b""
    headers = {"Authorization": f"Bearer {token}"}
    async with (
        aiohttp.ClientSession(headers=headers) as session,
        channels(user, path, session, protocol) as stream,
    ):
        carrier: socket.socket = stream.get_extra_info("socket")
        async for message in stream:
            said += message.data
            if b"alive" in said or b"remote" in said:
                break
    await closed(carrier)
    return said


async def closed(carrier: socket.socket) -> None:
    """The farewell of TLS takes a moment, and nobody tells of its end."""
    import asyncio

    async with asyncio.timeout(PATIENCE_S):
        while carrier.fileno() >= 0:  # noqa: ASYNC110
            await asyncio.sleep(0.001)


async def test_a_command_over_a_websocket(world: World) -> None:
    path = "exec?container=c&stdout=1&stderr=1&command=echo&command=remote%20execution%20test"
    said = await heard(world.user, path, "v5.channel.k8s.io")
    assert b"remote execution test" in said


async def test_a_log_over_a_websocket(world: World) -> None:
    said = await heard(world.user, "log?container=c", "binary.k8s.io")
    assert said == b"container is alive\n"
