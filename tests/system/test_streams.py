"""Streams to real containers: every kubectl's dialect, and what client libraries speak.

kubectl 1.27 speaks SPDY, 1.32 and 1.37 WebSocket v5 and SPDY tunnelled through a WebSocket. Those
beside the environment's own are made by `make clients`. One cluster is shared, and one pod: an
HTTP server, an echo on a port, and a container that reads its input.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import pty
import re
import select
import signal
import socket
import ssl
import struct
import subprocess
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.kit.cli import BIN, User
from tests.kit.images import busybox_archive
from tests.kit.machine import NOTHING, traces
from tests.kit.ports import free_port
from tests.kit.spdy import spdy_client

pytestmark = pytest.mark.root

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 20.0
KUBECTLS = [
    pytest.param(path, id=name)
    for name, path in (
        ("own", BIN / "kubectl"),
        ("1.27", ROOT / "build/clients/bin/kubectl-1.27"),
        ("1.32", ROOT / "build/clients/bin/kubectl-1.32"),
        ("1.37", ROOT / ".venv-clients/bin/kubectl"),
    )
    if path.exists() or os.environ.get("CI")
]
every_kubectl = pytest.mark.parametrize("kubectl", KUBECTLS)
PODS = "/api/v1/namespaces/default/pods"
WEB = (
    "mkdir /www; echo hello > /www/index.html; nc -ll -p 9000 -e cat & "
    "echo started; echo trouble >&2; exec httpd -f -p 8080 -h /www"
)
TALK = "while read -r line; do echo got $line; done; echo end of input; sleep 1000"


def box() -> dict[str, Any]:
    image = {"image": "busybox", "imagePullPolicy": "IfNotPresent"}
    web = {
        "name": "web",
        "command": ["sh", "-c", WEB],
        "ports": [{"containerPort": 8080}],
        "readinessProbe": {"httpGet": {"port": 8080}, "periodSeconds": 1},
        "resources": {"limits": {"cpu": "200m", "memory": "64Mi"}},
        "resizePolicy": [{"resourceName": "memory", "restartPolicy": "RestartContainer"}],
    }
    talk = {"name": "talk", "command": ["sh", "-c", TALK], "stdin": True, "stdinOnce": True}
    spec = {"terminationGracePeriodSeconds": 1, "containers": [web | image, talk | image]}
    meta = {"name": "box", "labels": {"app": "box"}}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec}


@pytest.fixture(scope="module")
def user(tmp_path_factory: pytest.TempPathFactory) -> Iterator[User]:
    folder = tmp_path_factory.mktemp("streams")
    (folder / "home").mkdir()
    user = User("streams", folder / "data", folder / "home")
    try:
        user.sampan("up", "--listen", f"127.0.0.1:{free_port()}").ok
        archive = busybox_archive(folder / "busybox.tar", "docker.io/library/busybox:latest")
        user.sampan("image", "load", str(archive)).ok
        start(user, box())
        user.kubectl("expose", "pod", "box", "--name=web", "--port=80", "--target-port=8080").ok
        yield user
    finally:
        user.sampan("down", "--purge").ok
    assert traces(user.name, user.data) == NOTHING


def start(user: User, pod: dict[str, Any]) -> None:
    user.kubectl("apply", "-f", "-", text=json.dumps(pod)).ok
    user.kubectl("wait", f"pod/{pod['metadata']['name']}", "--for=condition=Ready").ok


def until(check: Any, wanted: Any) -> None:
    """Ask again until it is so, for at most `PATIENCE_S`."""
    end = time.monotonic() + PATIENCE_S
    while (found := check()) != wanted:
        assert time.monotonic() < end, f"{found!r} instead of {wanted!r}"
        time.sleep(0.05)


# exec


@every_kubectl
def test_exec_carries_input_both_outputs_and_the_exit_code(user: User, kubectl: Path) -> None:
    script = "cat; echo wrong >&2; exit 7"
    run = user.run(
        str(kubectl), "exec", "-i", "box", "-c", "web", "--", "sh", "-c", script, text="typed\n" * 9
    )
    assert (run.code, run.out) == (7, "typed\n" * 9)
    assert run.err.splitlines() == ["wrong", "command terminated with exit code 7"]
    missing = user.run(str(kubectl), "exec", "box", "-c", "web", "--", "/no/such")
    assert missing.code != 0
    assert "executable file" in missing.err or "No such file" in missing.err


@every_kubectl
def test_a_terminal_is_given_its_size_and_every_new_one(user: User, kubectl: Path) -> None:
    master, slave = pty.openpty()
    set_size(master, 31, 97)
    # The size is told when the command runs already, here as upstream.
    wait = "until stty size 2>/dev/null | grep '^%s'; do sleep 0.02; done"
    script = f"{wait % '31 97'}; {wait % '12 34'}; exit 3"
    command = [str(kubectl), "exec", "-it", "box", "-c", "web", "--", "sh", "-c", script]
    run = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, env=user.environment)
    os.close(slave)
    try:
        read_until(master, b"31 97")
        set_size(master, 12, 34)
        run.send_signal(signal.SIGWINCH)
        read_until(master, b"12 34")
        assert run.wait(10) == 3
    finally:
        run.kill()
        run.wait()
        os.close(master)


def set_size(fd: int, rows: int, columns: int) -> None:
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


def read_until(fd: int, text: bytes) -> None:
    got = b""
    while text not in got:
        ready, _, _ = select.select([fd], [], [], PATIENCE_S)
        try:
            block = os.read(fd, 4096) if ready else b""
        except OSError:
            block = b""
        assert block, got
        got += block


def address(user: User) -> tuple[int, ssl.SSLContext, dict[str, str]]:
    config = (user.data / "admin.kubeconfig").read_text()
    found = re.search(r"server: https://127\.0\.0\.1:(\d+)", config)
    assert found
    token = (user.data / "admin.token").read_text().strip()
    context = ssl.create_default_context(cafile=str(user.data / "pki/ca.crt"))
    return int(found[1]), context, {"Authorization": f"Bearer {token}"}


EXEC = f"{PODS}/box/exec?container=web&stdin=1&stdout=1&stderr=1&command=sh&command=-c&command="


@pytest.mark.parametrize("protocol", ["v5.channel.k8s.io", "v4.channel.k8s.io"])
async def test_a_library_runs_a_command_over_a_websocket(user: User, protocol: str) -> None:
    port, context, headers = address(user)
    closes = protocol.startswith("v5")
    # Only v5 can end the input.
    script = "wc%20-c;%20exit%205" if closes else "head%20-c%205;%20exit%205"
    url = f"wss://127.0.0.1:{port}{EXEC}{script}"
    outputs: dict[int, bytes] = {1: b"", 2: b"", 3: b""}
    async with (
        aiohttp.ClientSession(headers=headers) as session,
        session.ws_connect(url, protocols=[protocol], ssl=context) as channels,
    ):
        assert channels.protocol == protocol
        carrier = channels.get_extra_info("socket")
        await channels.send_bytes(b"\x00hello")
        if closes:
            await channels.send_bytes(b"\xff\x00")
        async for message in channels:
            outputs[message.data[0]] += message.data[1:]
    async with asyncio.timeout(PATIENCE_S):
        # The farewell of TLS takes a moment, and nobody tells of its end.
        while carrier.fileno() >= 0:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
    assert outputs[1].strip() == (b"5" if closes else b"hello")
    status = json.loads(outputs[3])
    assert status["reason"] == "NonZeroExitCode"
    assert status["details"]["causes"] == [{"reason": "ExitCode", "message": "5"}]


async def test_a_library_runs_a_command_over_spdy(user: User) -> None:
    port, context, headers = address(user)
    target = f"{EXEC}wc%20-c;%20exit%205"
    async with spdy_client(port, target, context, headers=headers) as client:
        assert " 101 " in client.head
        error, stdin, stdout, stderr = (
            client.open(streamtype=kind) for kind in ("error", "stdin", "stdout", "stderr")
        )
        await client.send(stdin, b"hello", fin=True)
        await client.until(error, stdout, stderr)
    assert client.got[stdout].strip() == b"5"
    assert json.loads(bytes(client.got[error]))["details"]["causes"][0]["message"] == "5"


async def test_a_client_that_vanishes_takes_its_command_along(user: User) -> None:
    port, context, headers = address(user)
    # Its own name is not found by the look itself: [7] matches 7, not the bracket.
    target = f"{EXEC}sleep%207777"
    async with spdy_client(port, target, context, headers=headers) as client:
        for kind in ("error", "stdin", "stdout", "stderr"):
            client.open(streamtype=kind)
        await client.flush()
        await asyncio.to_thread(until, lambda: sleepers(user), 1)
        client.writer.transport.abort()
        with suppress(ConnectionError):
            await client.writer.wait_closed()
    await asyncio.to_thread(until, lambda: sleepers(user), 0)


def sleepers(user: User) -> int:
    return user.kubectl("exec", "box", "-c", "web", "--", "ps").ok.count("sleep 7777")


# attach


@every_kubectl
def test_attach_talks_to_the_container_itself(user: User, kubectl: Path) -> None:
    name = f"talk-{kubectl.parent.parent.name.strip('.')}-{kubectl.name.replace('.', '-')}"
    pod = box()
    pod["metadata"] = {"name": name}
    pod["spec"]["containers"] = pod["spec"]["containers"][1:]
    # It ends with its input, and `attach` with it.
    pod["spec"]["restartPolicy"] = "Never"
    pod["spec"]["containers"][0]["command"][2] = TALK.replace("sleep 1000", "sleep 0.2; exit 3")
    start(user, pod)
    run = user.run(str(kubectl), "attach", "-i", name, text="one\ntwo\n")
    assert run.out.splitlines()[:3] == ["got one", "got two", "end of input"], run.err
    logs = ("logs", name, "--tail=1")
    until(lambda: user.kubectl(*logs).out, "end of input\n")


# port-forward


@contextmanager
def forwarding(user: User, kubectl: Path, *ports: int) -> Iterator[tuple[Any, list[int]]]:
    """kubectl forwarding to these ports of the pod; the local ones, in the same order."""
    command = [str(kubectl), "port-forward", "pod/box", *(f":{port}" for port in ports)]
    run = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=user.environment
    )
    try:
        found: dict[int, int] = {}
        while len(found) < len(ports):
            assert run.stdout
            line = run.stdout.readline()
            assert line, run.stderr and run.stderr.read()
            match = re.match(r"Forwarding from 127\.0\.0\.1:(\d+) -> (\d+)", line)
            if match:
                found[int(match[2])] = int(match[1])
        yield run, [found[port] for port in ports]
    finally:
        run.terminate()
        run.communicate()


def talk(port: int, data: bytes) -> bytes:
    """Send, end the input, and read to the end."""
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) as connection:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        got = b""
        while block := connection.recv(65536):
            got += block
        return got


@every_kubectl
async def test_port_forward_carries_several_connections_at_once(user: User, kubectl: Path) -> None:
    with forwarding(user, kubectl, 8080, 9000) as (_, (web, echo)):
        page = await asyncio.to_thread(talk, web, b"GET / HTTP/1.0\r\n\r\n")
        assert page.endswith(b"hello\n")
        wanted = [bytes([48 + n]) * 200_000 for n in range(4)]
        got = await asyncio.gather(*(asyncio.to_thread(talk, echo, data) for data in wanted))
        assert got == wanted


@every_kubectl
def test_port_forward_says_when_nothing_listens(user: User, kubectl: Path) -> None:
    with forwarding(user, kubectl, 7) as (run, (port,)):
        assert talk_or_reset(port) == b""
        uid = user.get("pod", "box")["metadata"]["uid"]
        line = run.stderr.readline()
        while "forwarding port 7 to pod" not in line:
            line = run.stderr.readline()
            assert line
        assert uid in line
        assert "onnection refused" in line


def talk_or_reset(port: int) -> bytes:
    try:
        return talk(port, b"x")
    except ConnectionResetError:
        return b""


# cp, proxy, logs


@every_kubectl
def test_cp_takes_a_tree_there_and_back(user: User, kubectl: Path, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "deep/er").mkdir(parents=True)
    (tree / "empty").mkdir()
    (tree / "deep/er/zeros").write_bytes(os.urandom(1 << 20))
    (tree / "a file").write_text("text\n")
    there = f"/tmp/{tmp_path.name}"
    user.run(str(kubectl), "cp", str(tree), f"box:{there}", "-c", "web").ok
    user.run(str(kubectl), "cp", f"box:{there}", str(tmp_path / "back"), "-c", "web").ok
    same = subprocess.run(["diff", "-r", str(tree), str(tmp_path / "back")], check=False)
    assert same.returncode == 0


def test_pods_services_and_nodes_are_proxied(user: User) -> None:
    def raw(path: str) -> str:
        return user.kubectl("get", "--raw", path).out

    assert raw(f"{PODS}/box:8080/proxy/index.html") == "hello\n"
    assert raw(f"{PODS}/http:box:/proxy/") == "hello\n"
    service = "/api/v1/namespaces/default/services/web:80/proxy/index.html"
    until(lambda: raw(service), "hello\n")
    node = user.get("nodes")["items"][0]["metadata"]["name"]
    assert raw(f"/api/v1/nodes/{node}/proxy/healthz") == "ok"
    refused = user.kubectl("get", "--raw", f"/api/v1/nodes/{node}/proxy/exec/default/box/web")
    assert "Forbidden" in refused.err or "forbidden" in refused.err


def test_logs_are_followed_to_the_end_of_the_container(user: User) -> None:
    count = "for n in 1 2 3 4 5; do echo line $n; sleep 0.1; done; echo last >&2"
    pod = box()
    pod["metadata"] = {"name": "count"}
    pod["spec"]["restartPolicy"] = "Never"
    (container,) = pod["spec"]["containers"] = pod["spec"]["containers"][1:]
    container["command"][2] = count
    start_any(user, pod)
    follow = user.kubectl("logs", "-f", "count", "--pod-running-timeout=10s").ok
    assert follow.splitlines() == [*(f"line {n}" for n in range(1, 6)), "last"]
    assert user.kubectl("logs", "count", "--tail=2").ok.splitlines() == ["line 5", "last"]
    assert user.kubectl("logs", "count", "--limit-bytes=4").ok == "line"


def start_any(user: User, pod: dict[str, Any]) -> None:
    """Until it has been started, however short it runs."""
    user.kubectl("apply", "-f", "-", text=json.dumps(pod)).ok
    name = pod["metadata"]["name"]
    until(lambda: user.get("pod", name)["status"]["phase"] != "Pending", True)


BAD = "Error from server (BadRequest): "
REFUSALS = [
    ("box/log?container=nobody", "container nobody is not valid for pod box"),
    (
        "box/log?container=web&previous=true",
        'previous terminated container "web" in pod "box" not found',
    ),
    (
        "box/log",
        "a container name must be specified for pod box, choose one of: [web talk]",
    ),
    ("box/exec?command=true&stdout=1&container=web", "Upgrade request required"),
]


@pytest.mark.parametrize(("path", "text"), REFUSALS)
def test_what_cannot_be_streamed_is_refused_in_upstreams_words(
    user: User, path: str, text: str
) -> None:
    assert user.kubectl("get", "--raw", f"{PODS}/{path}").failed == f"{BAD}{text}"


def test_logs_of_what_waits_say_why(user: User) -> None:
    pod = box()
    pod["metadata"] = {"name": "absent"}
    (container,) = pod["spec"]["containers"] = pod["spec"]["containers"][1:]
    container["image"] = "nowhere.invalid/no:1"
    user.kubectl("apply", "-f", "-", text=json.dumps(pod)).ok
    where = f'{BAD}container "talk" in pod "absent" is waiting to start: '
    until(
        lambda: user.kubectl("logs", "absent").err,
        f"{where}trying and failing to pull image\n",
    )


# debug and resize


@every_kubectl
def test_debug_looks_into_the_processes_of_its_target(user: User, kubectl: Path) -> None:
    name = f"look-{KUBECTL_NUMBER[kubectl]}"
    look = "cat /proc/1/cmdline | tr '\\0' ' '; cd /proc/1/root && cat www/index.html"
    flags = ("--image=busybox", "--image-pull-policy=IfNotPresent", "--target=web", "-c", name)
    command = ("--attach=false", "--profile=general", "--", "sh", "-c", look)
    user.run(str(kubectl), "debug", "box", *flags, *command).ok
    until(
        lambda: user.kubectl("logs", "box", "-c", name).out,
        "httpd -f -p 8080 -h /www hello\n",
    )


KUBECTL_NUMBER = {item.values[0]: number for number, item in enumerate(KUBECTLS)}


def test_containers_that_share_processes_see_each_other(user: User) -> None:
    """Also after one of them has ended, whose leftovers go with it."""
    pod = box()
    pod["metadata"] = {"name": "shared"}
    pod["spec"]["shareProcessNamespace"] = True
    first, second = pod["spec"]["containers"]
    second["command"][2] = (
        "sleep 4444 & touch /tmp/x; sleep 0.5; while [ -e /tmp/x ]; do sleep 0.1; done"
    )
    start(user, pod)

    def processes() -> list[str]:
        text = user.kubectl("exec", "shared", "-c", first["name"], "--", "ps", "-o", "pid,args").ok
        return [line.strip() for line in text.splitlines()]

    assert "1 /pause" in processes()
    left = [line.split()[0] for line in processes() if line.endswith("sleep 4444")]
    assert len(left) == 1
    user.kubectl("exec", "shared", "-c", second["name"], "--", "rm", "/tmp/x").ok
    until(lambda: restarts(user, "shared", second["name"]), 1)
    again = [line.split()[0] for line in processes() if line.endswith("sleep 4444")]
    assert len(again) == 1
    assert again != left
    user.kubectl("delete", "pod", "shared", "--now").ok
    assert not [line for line in traces(user.name, user.data).processes if "/pause" in line]


def restarts(user: User, pod: str, name: str) -> int:
    found = user.get("pod", pod)["status"]["containerStatuses"]
    return next(int(item["restartCount"]) for item in found if item["name"] == name)


def test_a_resize_reaches_the_kernel_and_memory_wants_a_restart(user: User) -> None:
    def patch(**limits: str) -> None:
        change = {
            "containers": [{"name": "web", "resources": {"limits": limits, "requests": limits}}]
        }
        body = json.dumps({"spec": change})
        user.kubectl("patch", "pod", "box", "--subresource=resize", "-p", body).ok

    def web() -> Any:
        # Upstream sorts them by name.
        talk, web = user.get("pod", "box")["status"]["containerStatuses"]
        assert (talk["name"], web["name"]) == ("talk", "web")
        return web

    def kernel() -> list[str]:
        files = "cpu.max memory.max cpu/cpu.cfs_quota_us memory/memory.limit_in_bytes"
        script = f"cd /sys/fs/cgroup; cat {files} 2>/dev/null"
        text = user.kubectl("exec", "box", "-c", "web", "--", "sh", "-c", f"{script}; true").ok
        return [line.split()[0] for line in text.splitlines()]

    patch(cpu="300m", memory="64Mi")
    until(lambda: web()["resources"]["limits"], {"cpu": "300m", "memory": "64Mi"})
    assert kernel() == ["30000", str(64 << 20)]
    assert web()["restartCount"] == 0
    patch(cpu="300m", memory="96Mi")
    until(lambda: (web()["restartCount"], web()["ready"], waiting(web())), (1, True, None))
    assert kernel() == ["30000", str(96 << 20)]
    # All there is does not fit beside another pod, until that has gone.
    start(user, filler())
    most = user.get("nodes")["items"][0]["status"]["allocatable"]["cpu"]
    patch(cpu=most, memory="96Mi")
    until(lambda: pending(user)["reason"], "Deferred")
    assert pending(user)["message"].startswith("Node didn't have enough resource: cpu, requested: ")
    assert web()["resources"]["limits"]["cpu"] == "300m"
    user.kubectl("delete", "pod", "filler", "--now").ok
    until(lambda: web()["resources"]["limits"]["cpu"], most)
    assert pending(user) == {"reason": ""}
    assert kernel()[0] == str(int(most) * 100_000)
    assert web()["restartCount"] == 1


def waiting(status: Any) -> Any:
    return status["state"].get("waiting")


def filler() -> dict[str, Any]:
    """A pod that asks for half a processor."""
    pod = box()
    pod["metadata"] = {"name": "filler"}
    (container,) = pod["spec"]["containers"] = pod["spec"]["containers"][1:]
    container["resources"] = {"requests": {"cpu": "500m"}}
    return pod


def pending(user: User) -> Any:
    found = user.get("pod", "box")["status"]["conditions"]
    return next((item for item in found if item["type"] == "PodResizePending"), {"reason": ""})
