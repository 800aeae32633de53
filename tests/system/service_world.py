"""A cluster with the pods, services and sockets that tests of services and names speak with."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sampan.linux.namespaces import CLONE_NEWNET, setns
from tests.kit.cli import User

Obj = dict[str, Any]
IMAGE = "docker.io/library/busybox:test"
PATIENCE_S = 10.0
HTTP, UDP = 8080, 8081
SERVE = "mkdir /www; echo $(POD) > /www/hostname; exec httpd -f -p 8080 -h /www -r $(POD)"


def pod(name: str, labels: Obj | None = None, *, command: str = SERVE, **spec: Any) -> Obj:
    """A pod that serves its name; what it is called is in its command line."""
    container = {
        "name": "c",
        "image": IMAGE,
        "command": ["sh", "-c", command],
        "env": [{"name": "POD", "value": name}],
        "ports": [{"name": "http", "containerPort": HTTP},
                  {"name": "udp", "containerPort": UDP, "protocol": "UDP"}],
        **spec.pop("container", {}),
    }  # fmt: skip
    container["command"] = [part.replace("$(POD)", name) for part in container["command"]]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": labels or {}},
        "spec": {"containers": [container], "terminationGracePeriodSeconds": 0, **spec},
    }


def service(name: str, *ports: Obj, app: str = "web", **spec: Any) -> Obj:
    found = [*ports] or [{"name": "http", "port": 80, "targetPort": "http"}]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"selector": {"app": app}, "ports": found, **spec},
    }


class World:
    """The cluster as a user has it, and its pods' sockets."""

    def __init__(self, user: User) -> None:
        self.user = user

    def apply(self, *objects: Obj) -> None:
        body = {"apiVersion": "v1", "kind": "List", "items": [*objects]}
        self.user.kubectl("apply", "-f", "-", text=json.dumps(body)).ok

    def run(self, where: str, script: str) -> str:
        """What a shell in a pod prints; fails if it does."""
        return self.user.kubectl("exec", where, "--", "sh", "-c", script).ok.strip()

    def patch(self, name: str, **spec: Any) -> Obj:
        change = json.dumps({"spec": spec})
        done = self.user.kubectl("patch", "service", name, "--type=merge", "-p", change, "-ojson")
        found: Obj = json.loads(done.ok)
        return found

    def ask(self, where: str, url: str, count: int = 1) -> list[str]:
        """Who answers `count` requests from a pod. The kernel may have a change a moment later."""
        script = f"for i in $(seq {count}); do timeout 2 wget -qO- http://{url}/hostname; done"
        return self.until(lambda: self._said(where, script), lambda lines: len(lines) == count)

    def _said(self, where: str, script: str) -> list[str]:
        return self.user.kubectl("exec", where, "--", "sh", "-c", script).out.split()

    def until(self, look: Callable[[], Any], true: Callable[[Any], Any]) -> Any:
        end = time.monotonic() + PATIENCE_S
        while True:
            found = look()
            if true(found):
                return found
            assert time.monotonic() < end, found

    def look_up(self, where: str, name: str, kind: str = "a") -> str:
        return self.run(where, f"nslookup -type={kind} {name} 2>&1; true")

    def node_address(self) -> str:
        (node,) = self.user.get("nodes")["items"]
        # The first one is of IPv4.
        return str(node["status"]["addresses"][0]["address"])


def namespace_of(name: str) -> int:
    """The network namespace of a pod, found by its command line; a descriptor."""
    wanted = name.encode()
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if wanted in path.read_bytes().split(b"\0"):
                return os.open(path.with_name("ns") / "net", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            continue
    raise AssertionError(f"pod {name} has no process")


def socket_in(name: str, kind: int) -> socket.socket:
    """A socket of a pod's network; of the host's if `name` is ""."""
    if not name:
        return socket.socket(socket.AF_INET, kind)
    made: list[socket.socket] = []
    inside = namespace_of(name)

    def make() -> None:
        # A thread of its own: it stays in that namespace and ends with it.
        setns(inside, CLONE_NEWNET)
        made.append(socket.socket(socket.AF_INET, kind))

    worker = threading.Thread(target=make)
    worker.start()
    worker.join()
    os.close(inside)
    (sock,) = made
    return sock


@contextmanager
def answering(*names: str) -> Iterator[None]:
    """Servers in these pods that answer each datagram with the pod's name."""
    sockets = [(name, socket_in(name, socket.SOCK_DGRAM)) for name in names]

    def serve(name: str, sock: socket.socket) -> None:
        while True:
            data, peer = sock.recvfrom(100)
            if not data:
                return
            sock.sendto(name.encode(), peer)

    workers = []
    for name, sock in sockets:
        sock.bind(("", UDP))
        workers.append(threading.Thread(target=serve, args=(name, sock)))
        workers[-1].start()
    try:
        yield
    finally:
        for name, _ in sockets:
            with socket_in(name, socket.SOCK_DGRAM) as end:
                end.sendto(b"", ("127.0.0.1", UDP))
        for worker in workers:
            worker.join()
        for _, sock in sockets:
            sock.close()


def ask_udp(where: str, ip: str, port: int, wait_s: float = 1.0) -> str:
    """Who answers a datagram from a pod (the host if ""); "" if nobody does."""
    with socket_in(where, socket.SOCK_DGRAM) as sock:
        sock.settimeout(wait_s)
        sock.connect((ip, port))
        try:
            sock.send(b"who?")
            return sock.recv(100).decode()
        except OSError:
            return ""
