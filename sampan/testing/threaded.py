"""The same cluster for tests that are no coroutines: it lives in a loop of its own, in a thread.

Task: one daemon thread per process, started by the first such cluster, that runs an event loop;
every call is handed to it and waited for. Clients (kubectl, the Python client, an operator in the
test's thread) reach the server by its kubeconfig while the test blocks.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Self, TypeVar

from sampan.api.errors import Object
from sampan.node.simulation.outcome import Match, Outcome

from .cluster import Cluster, Options
from .objects import WAIT_S

Result = TypeVar("Result")

CALL_S = 60.0
"""No call takes longer, unless it was told to wait longer."""


@cache
def _loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="sampan-testing", daemon=True).start()
    return loop


def call(work: Coroutine[Any, Any, Result], timeout_s: float = CALL_S) -> Result:
    """Run `work` in the clusters' loop and wait for its result."""
    return asyncio.run_coroutine_threadsafe(work, _loop()).result(timeout_s)


class ThreadedCluster:
    """`Cluster`, with methods that block. See there for what each does."""

    def __init__(self, inner: Cluster) -> None:
        self.inner = inner

    @classmethod
    def start(cls, options: Options | None = None) -> Self:
        return cls(call(Cluster.start(options)))

    def close(self) -> None:
        call(self.inner.close())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def url(self) -> str:
        return self.inner.url

    @property
    def token(self) -> str:
        return self.inner.token

    @property
    def ca_file(self) -> Path:
        return self.inner.ca_file

    @property
    def kubeconfig(self) -> Path:
        return self.inner.kubeconfig

    @property
    def namespace(self) -> str:
        return self.inner.namespace

    def apply(
        self, manifest: str | Path | Object | list[Object], *, force: bool = True
    ) -> list[Object]:
        return call(self.inner.apply(manifest, force=force))

    def create(self, obj: Object) -> Object:
        return call(self.inner.create(obj))

    def get(self, kind: str, name: str, namespace: str = "") -> Object:
        return call(self.inner.get(kind, name, namespace))

    def find(self, kind: str, name: str, namespace: str = "") -> Object | None:
        return call(self.inner.find(kind, name, namespace))

    def list(
        self,
        kind: str,
        namespace: str = "",
        *,
        labels: str | Mapping[str, str] = "",
        fields: str = "",
    ) -> list[Object]:
        return call(self.inner.list(kind, namespace, labels=labels, fields=fields))

    def patch(
        self, kind: str, name: str, patch: Any, namespace: str = "", *, subresource: str = ""
    ) -> Object:
        return call(self.inner.patch(kind, name, patch, namespace, subresource=subresource))

    def delete(
        self, kind: str, name: str, namespace: str = "", *, options: Object | None = None
    ) -> Object:
        return call(self.inner.delete(kind, name, namespace, options=options))

    def wait(
        self,
        kind: str,
        name: str,
        until: Callable[[Object | None], Any],
        namespace: str = "",
        *,
        timeout_s: float = WAIT_S,
    ) -> Object | None:
        return call(
            self.inner.wait(kind, name, until, namespace, timeout_s=timeout_s), timeout_s + CALL_S
        )

    def script(
        self,
        outcome: Outcome,
        name: str = "*",
        *,
        namespace: str = "*",
        labels: Mapping[str, str] | None = None,
        image: str = "*",
        container: str = "",
        match: Match | None = None,
    ) -> None:
        async def run() -> None:
            self.inner.script(
                outcome,
                name,
                namespace=namespace,
                labels=labels,
                image=image,
                container=container,
                match=match,
            )

        call(run())

    def stop_node(self, name: str) -> None:
        _loop().call_soon_threadsafe(self.inner.stop_node, name)

    def start_node(self, name: str) -> None:
        _loop().call_soon_threadsafe(self.inner.start_node, name)

    def settle(self) -> None:
        call(self.inner.settle())

    def advance(self, seconds: float) -> None:
        call(self.inner.advance(seconds))
