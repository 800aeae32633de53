"""Upstream's rule of restarts: when the API server is killed and comes back, every client goes on
from where it watched, and sees every event once.

A control plane under a real `sampan up` is killed while objects are created and deleted; meanwhile
kubectl, the Python kubernetes client, the informer of @kubernetes/client-node and our own reflector
watch. Each object has a name of its own, so that what happened is known whatever answer was lost.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.clients.cluster import PROGRAMS
from tests.kit.cli import User
from tests.kit.machine import NOTHING, traces
from tests.kit.ports import free_port
from tests.kit.trust import size

pytestmark = pytest.mark.trust

KILLS = size(3)
EACH = 40
"""Objects made in one life of the server; every fourth is deleted again."""
TIMEOUT_S = 60
HERE = Path(__file__).parent / "programs"
LIBRARY = PROGRAMS / "node/node_modules/@kubernetes/client-node/dist/index.js"
MAPS = "/api/v1/namespaces/default/configmaps"
Event = tuple[str, str]


@pytest.fixture(scope="module")
def user(tmp_path_factory: pytest.TempPathFactory) -> Iterator[User]:
    folder = tmp_path_factory.mktemp("restart")
    (folder / "home").mkdir()
    user = User(f"rs-{os.getpid() % 1000}", folder / "data", folder / "home")
    try:
        user.sampan("up", "--listen", f"127.0.0.1:{free_port()}", "--no-merge").ok
        yield user
    finally:
        user.sampan("down", "--purge").ok
        assert traces(user.name, user.data) == NOTHING


@dataclass
class Watching:
    """A client in a process of its own, and what it has seen."""

    process: subprocess.Popen[str]
    lines: list[list[str]] = field(default_factory=list)
    thread: threading.Thread | None = None
    ready: threading.Event = field(default_factory=threading.Event)

    @classmethod
    def start(cls, user: User, *command: str) -> Watching:
        process = subprocess.Popen(
            command, env=user.environment | {"PYTHONPATH": str(HERE.parents[2])},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        made = cls(process)
        made.thread = threading.Thread(target=made.read, daemon=True)
        made.thread.start()
        return made

    def read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.split())
            self.ready.set()

    def end(self) -> None:
        assert self.thread is not None
        try:
            self.process.wait(TIMEOUT_S)
        finally:
            self.process.kill()
            self.thread.join()

    @property
    def events(self) -> list[Event]:
        kinds = ("ADDED", "MODIFIED", "DELETED")
        return [(line[0], line[1]) for line in self.lines if line[0] in kinds]

    @property
    def told(self) -> Counter[str]:
        return Counter(line[0] for line in self.lines)


class Kubectl(threading.Thread):
    """kubectl watches once: when its connection breaks it ends, and is started behind what it saw
    last."""

    def __init__(self, user: User, version: str) -> None:
        super().__init__(daemon=True)
        self.user, self.version = user, version
        self.events: list[Event] = []
        self.runs = 0

    def run(self) -> None:
        until = time.monotonic() + TIMEOUT_S
        while ("ADDED", "end") not in self.events and time.monotonic() < until:
            self.runs += 1
            path = f"{MAPS}?watch=1&resourceVersion={self.version}"
            process = subprocess.Popen(
                ["kubectl", "get", "--raw", path], env=self.user.environment,
                stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            )  # fmt: skip
            assert process.stdout is not None
            with process:
                for line in process.stdout:
                    self.take(json.loads(line))
                    if self.events[-1] == ("ADDED", "end"):
                        process.kill()

    def take(self, event: dict[str, Any]) -> None:
        meta = event["object"]["metadata"]
        self.version = meta["resourceVersion"]
        self.events.append((event["type"], meta["name"]))


class Writer:
    """Creates and deletes until the server has said that it is so."""

    def __init__(self, user: User) -> None:
        config = json.loads(user.kubectl("config", "view", "-o", "json").ok)
        token = (user.data / "admin.token").read_text().strip()
        self.session = requests.Session()
        # Another CA that the environment names would go before ours.
        self.session.trust_env = False
        self.session.headers["Authorization"] = f"Bearer {token}"
        self.session.verify = str(user.data / "pki/ca.crt")
        self.url = config["clusters"][0]["cluster"]["server"] + MAPS
        self.happened: list[Event] = []
        self.broken = 0

    def do(self, method: str, name: str, good: tuple[int, ...]) -> None:
        body = {"metadata": {"name": name}} if method == "POST" else None
        url = self.url if method == "POST" else f"{self.url}/{name}"
        until = time.monotonic() + TIMEOUT_S
        while True:
            try:
                status = self.session.request(method, url, json=body, timeout=10).status_code
            except requests.exceptions.RequestException:
                self.broken += 1
                if time.monotonic() > until:
                    raise
                continue
            # Behind a break, "exists" and "not found" say that it was done before.
            assert status in good, status
            self.happened.append(("ADDED" if method == "POST" else "DELETED", name))
            return

    def some(self, start: int) -> None:
        for number in range(start, start + EACH):
            self.do("POST", f"w{number}", (201, 409))
            if number % 4 == 3:
                self.do("DELETE", f"w{number - 2}", (200, 404))


def kill(user: User) -> None:
    status = json.loads(user.sampan("status", "--json").ok)
    os.kill(status["parts"]["control"]["pid"], signal.SIGKILL)


def write_and_kill(user: User, writer: Writer) -> None:
    """The server dies while the writer writes, as often as is asked."""
    for life in range(KILLS):
        killer = threading.Timer(0.05, kill, (user,))
        killer.start()
        writer.some(life * EACH)
        killer.join()
        # Alive again before it is killed again.
        writer.do("POST", f"life{life}", (201, 409))
    writer.some(KILLS * EACH)
    writer.do("POST", "end", (201, 409))


def test_every_client_goes_on_from_where_it_watched(user: User) -> None:
    assert LIBRARY.exists(), "make clients"
    program = str(HERE / "watching.py")
    writer = Writer(user)
    clients = {
        "kubernetes": Watching.start(user, sys.executable, program, "kubernetes", "default"),
        "sampan": Watching.start(user, sys.executable, program, "sampan", "default"),
        "client-node": Watching.start(
            user, "node", str(HERE / "watching.mjs"), LIBRARY.as_uri(), "default"
        ),
    }
    there = user.get("configmaps")
    kubectl = Kubectl(user, there["metadata"]["resourceVersion"])
    kubectl.start()
    # One that waits for the end, in kubectl's own way, from before the first kill.
    user.kubectl("create", "configmap", "waited").ok
    waiting = Watching.start(
        user, "kubectl", "wait", "configmap/waited", "--for=jsonpath={.data.done}=yes",
        f"--timeout={TIMEOUT_S * KILLS}s",
    )  # fmt: skip
    try:
        for client in clients.values():
            assert client.ready.wait(TIMEOUT_S)
        write_and_kill(user, writer)
        patch = ("--type=merge", "-p", '{"data":{"done":"yes"}}')
        user.kubectl("patch", "configmap", "waited", *patch).ok
        for client in (*clients.values(), waiting):
            client.end()
        kubectl.join()
    finally:
        for client in (*clients.values(), waiting):
            client.process.kill()
    assert writer.broken > 0
    assert waiting.process.returncode == 0
    seen = {name: client.events for name, client in clients.items()} | {"kubectl": kubectl.events}
    for name, events in seen.items():
        ours = [event for event in events if event[1] not in ("kube-root-ca.crt", "waited")]
        assert ours == writer.happened, (name, difference(ours, writer.happened))
    # They were all there when the server was not.
    assert kubectl.runs > KILLS
    assert clients["kubernetes"].told["BROKEN"] >= KILLS
    assert clients["client-node"].told["BROKEN"] >= KILLS
    assert clients["sampan"].lines[-1] == ["LISTS", "1", "0"]


def difference(seen: list[Event], happened: list[Event]) -> tuple[list[Event], list[Event]]:
    """(lost, seen too often)."""
    return (
        list((Counter(happened) - Counter(seen)).elements()),
        list((Counter(seen) - Counter(happened)).elements()),
    )


def test_what_is_lost_or_repeated_is_found() -> None:
    """The control: the judgement above is one that can be failed."""
    happened = [("ADDED", "a"), ("ADDED", "b"), ("DELETED", "a")]
    assert difference(happened[1:], happened) == ([("ADDED", "a")], [])
    assert difference([*happened, happened[0]], happened) == ([], [("ADDED", "a")])
