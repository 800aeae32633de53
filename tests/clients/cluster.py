"""The cluster that the clients use, and small things they need of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from sampan.runtime.build import File
from tests.kit.cli import User
from tests.kit.images import busybox_archive
from tests.kit.machine import NOTHING, traces
from tests.kit.ports import free_port

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = ROOT / "build/clients"
"""Where `make clients` puts what is no Python package."""
PATIENCE_S = 20.0
START = b"#!/bin/sh\ntrap 'exit 0' TERM\necho started\nhttpd -f -p 8080 -h /www & wait $!\n"


@dataclass(slots=True)
class Cluster:
    user: User

    @property
    def config(self) -> dict[str, Any]:
        """The admin's kubeconfig."""
        value: dict[str, Any] = yaml.safe_load((self.user.data / "admin.kubeconfig").read_text())
        return value

    @property
    def node(self) -> str:
        """The name of the only node that an agent serves: transcripts make others."""
        nodes = self.user.get("nodes")["items"]
        return next(n["metadata"]["name"] for n in nodes if n["status"].get("addresses"))

    @property
    def environment(self) -> dict[str, str]:
        return self.user.environment

    def kubeconfig(self, namespace: str, path: Path) -> Path:
        """The admin's kubeconfig, in a namespace."""
        config = self.config
        for context in config["contexts"]:
            context["context"]["namespace"] = namespace
        path.write_text(yaml.safe_dump(config))
        path.chmod(0o600)
        return path

    @contextmanager
    def namespace(self, name: str) -> Iterator[None]:
        """A namespace whose service account can be used at once."""
        self.user.kubectl("create", "namespace", name).ok
        wait = ("wait", "--for=create", "serviceaccount/default", "-n", name, "--timeout=20s")
        self.user.kubectl(*wait).ok
        try:
            yield
        finally:
            self.user.kubectl("delete", "namespace", name, "--wait=false").ok


@contextmanager
def running(name: str, folder: Path) -> Iterator[Cluster]:
    """A cluster with our two images; checked for traces at the end."""
    home = folder / "home"
    home.mkdir()
    user = User(name, folder / "data", home)
    try:
        user.sampan("up", "--listen", f"127.0.0.1:{free_port()}", "--no-merge").ok
        for version in ("1", "2"):
            user.sampan("image", "load", str(web(folder / f"web-{version}.tar", version))).ok
        yield Cluster(user)
    finally:
        user.sampan("down", "--purge").ok
    left = traces(user.name, user.data)
    assert left == NOTHING, left


def web(path: Path, version: str) -> Path:
    """An archive of web:VERSION: busybox with a web server on 8080 that ends when told to."""
    extra = {
        "start": File(START, 0o755),
        "www/index.html": File(f"version {version}\n".encode(), 0o644),
    }
    return busybox_archive(
        path, f"docker.io/library/web:{version}", command=("/start",), extra=extra
    )


def until(true: Callable[[], Any], what: str = "") -> Any:
    """Its first true value; for what a client offers no wait for."""
    end = time.monotonic() + PATIENCE_S
    while not (value := true()):
        if time.monotonic() > end:
            raise AssertionError(f"not in time: {what or true}")
        time.sleep(0.05)
    return value


def unless_conflict(write: Callable[[], Any]) -> Callable[[], bool]:
    """Read and write, and whether nobody wrote between: what every careful client repeats."""

    def attempt() -> bool:
        try:
            write()
        except Exception as error:
            # Each library has an error class of its own; all say the code somewhere.
            status = getattr(error, "status", error)
            if 409 in (status, getattr(status, "code", 0)):
                return False
            raise
        return True

    return attempt


def pod(name: str, command: list[str] | None = None, **spec: Any) -> dict[str, Any]:
    """A pod of our image."""
    container: dict[str, Any] = {"name": "main", "image": "web:1"}
    if command:
        container["command"] = command
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {"terminationGracePeriodSeconds": 1, "containers": [container], **spec},
    }


def deployment(name: str, replicas: int = 1) -> dict[str, Any]:
    """A deployment of our image."""
    template = pod(name)
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": template["metadata"] | {}, "spec": template["spec"]},
        },
    }
