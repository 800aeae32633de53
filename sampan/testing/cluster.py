"""The cluster of one test, in its event loop: server, controllers, scheduler, simulated nodes.

The first cluster of a process is booted; what its store then holds (namespaces, roles, the nodes,
service accounts) is the template from which each later one begins, in a few milliseconds.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Mapping
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Self

import orjson
from msgspec import Struct, field

from sampan.aio.clock import Clock, SystemClock
from sampan.aio.tasks import Supervisor
from sampan.api.errors import Object
from sampan.api.principals import AUTHENTICATED, MASTERS
from sampan.client import kubeconfig
from sampan.client.api import Client
from sampan.client.informer import Informers
from sampan.controllers.runtime.controller import Options as ControllerOptions
from sampan.controllers.runtime.run import Running, run_controllers
from sampan.node.simulation.nodes import SimulatedNodes
from sampan.node.simulation.outcome import Match, Outcome, matcher
from sampan.node.simulation.shape import CAPACITY, Shape
from sampan.scheduler.run import Scheduler
from sampan.server.app import Server
from sampan.server.config import ServerConfig
from sampan.server.exchange import User
from sampan.server.http import Listener, serve
from sampan.server.usage import summarize_by
from sampan.store.interface import Record
from sampan.store.memory import MemoryStore
from sampan.store.mvcc import State

from . import files
from .clock import VirtualClock
from .objects import Objects

ADMIN = User("kubernetes-admin", (MASTERS, AUTHENTICATED))
CONTROLLERS = User("system:kube-controller-manager", (MASTERS, AUTHENTICATED))
SCHEDULER = User("system:kube-scheduler", (MASTERS, AUTHENTICATED))
NODES = User("system:node-simulator", (MASTERS, AUTHENTICATED))

BACKLOG = 128
QUIET_TURNS = 30
"""Turns of the loop without a write after which nothing more is on its way: every hand-over
between the parts of one process takes a few."""
SETTLE_S = 10.0
"""How long `settle` lets things go on before it says that they do not end."""


class Options(Struct, frozen=True):
    """What a test may ask of its cluster."""

    nodes: int = 1
    virtual_time: bool = False
    """Time stands still until the test calls `advance`."""
    capacity: Mapping[str, str] = field(default_factory=lambda: CAPACITY)
    """Of each node."""


class Unsettled(TimeoutError):
    """Something writes for ever; the text says what was written last."""


class Cluster(Objects):
    """A running cluster. `await Cluster.start()` gives one, `await cluster.close()` ends it.

    Everything of `Objects` works on it, as its administrator, in process.
    """

    def __init__(self, options: Options) -> None:
        self.options = options
        self.clock: Clock = VirtualClock(time.time()) if options.virtual_time else SystemClock()
        self.store = MemoryStore(_template_state(options))
        self.server = Server(self.store, _server_config(), self.clock)
        super().__init__(self.server.local_transport(ADMIN))
        self.client = Client(self._transport)
        """The house's own client, in process."""
        self.port = 0
        self._supervisor = Supervisor(self.clock)
        self._http: Listener | None = None
        self._running: Running | None = None
        self._nodes: SimulatedNodes | None = None

    @classmethod
    async def start(cls, options: Options | None = None) -> Self:
        """A cluster of a fresh state, its nodes ready, its API listening."""
        chosen = options or Options()
        made = cls(chosen)
        await made._boot()
        key = _template_key(chosen)
        if key not in _templates:
            await made.settle()
            _templates[key] = _snapshot(made.store)
        return made

    async def _boot(self) -> None:
        clock, supervisor = self.clock, self._supervisor
        await self.server.start()
        certificates = files.certificates()
        listener = _listen()
        self.port = listener.getsockname()[1]
        self._http = await serve(
            self.server, [listener], certificates / "server.crt", certificates / "server.key"
        )
        client = Client(self.server.local_transport(CONTROLLERS))
        informers = Informers(client, supervisor, clock)
        self._running = await run_controllers(
            client,
            informers,
            supervisor,
            clock,
            ControllerOptions(
                root_ca=_ca(),
                ca_cert=certificates / "ca.crt",
                ca_key=certificates / "ca.key",
                pod_cidr=files.POD_CIDR,
            ),
        )
        self.server.expositions.append(self._running.metrics)
        self.server.parts["controller-manager"] = partial(supervisor.trouble, "controller ")
        scheduler = Scheduler(Client(self.server.local_transport(SCHEDULER)), informers, clock)
        self.server.expositions.append(scheduler.exposition)
        supervisor.start("scheduler", scheduler.run)
        self.server.parts["scheduler"] = partial(supervisor.trouble, "scheduler")
        self._nodes = SimulatedNodes(
            Client(self.server.local_transport(NODES)), informers, clock, _shape(self.options)
        )
        self._nodes.start(supervisor)
        summarize_by(self.server, self._nodes.summary)

    async def close(self) -> None:
        """End everything; nothing is left behind. Clients that still watch are cut off."""
        if self._running is not None:
            await self._running.stop()
        await self._supervisor.stop()
        await self.server.close()
        if self._http is not None:
            await self._http.close()
        await self.store.close()
        if "kubeconfig" in self.__dict__:
            self.kubeconfig.unlink(missing_ok=True)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    # For clients

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    @property
    def token(self) -> str:
        """A bearer token of the administrator."""
        return files.token()

    @property
    def ca_file(self) -> Path:
        return files.certificates() / "ca.crt"

    @cached_property
    def kubeconfig(self) -> Path:
        """A kubeconfig file for any client; it goes with the cluster."""
        path = files.folder() / f"kubeconfig-{self.port}"
        access = kubeconfig.Access(self.url, ca=_ca(), token=self.token)
        # In JSON, which is YAML too, and quicker to write.
        path.write_bytes(orjson.dumps(kubeconfig.build("sampan-test", access)))
        path.chmod(0o600)
        return path

    # What pods do

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
        """From now on, and for pods that exist, `outcome` is what becomes of these pods' containers
        (of one of them, with `container`). The last call that speaks of a pod counts."""
        chosen = match or matcher(name, namespace=namespace, labels=labels, image=image)
        self._simulation.decide(chosen, outcome, container)

    def stop_node(self, name: str) -> None:
        """The node falls silent: no Lease is renewed, no pod of it changes any more."""
        self._simulation.silence(name)

    def start_node(self, name: str) -> None:
        """It speaks again."""
        self._simulation.revive(name)

    @property
    def _simulation(self) -> SimulatedNodes:
        assert self._nodes is not None, "the cluster is not started"
        return self._nodes

    # Time

    async def settle(self) -> None:
        """Until nothing more happens: no controller has work, and nothing is written. What waits
        for time to pass (or for a client outside) is not waited for. Raises Unsettled."""
        end = time.monotonic() + SETTLE_S
        quiet = 0
        revision = self.store.revision
        while quiet < QUIET_TURNS:
            await asyncio.sleep(0)
            busy = self._running is not None and not self._running.idle
            moved = self.store.revision != revision
            quiet = 0 if busy or moved else quiet + 1
            revision = self.store.revision
            if time.monotonic() > end:
                raise Unsettled(f"still busy at revision {revision}")

    async def advance(self, seconds: float) -> None:
        """Let virtual time pass: whatever is due happens at its own moment, in order."""
        if not isinstance(self.clock, VirtualClock):
            raise TypeError("ask for a cluster with virtual_time to turn its clock")
        await self.settle()
        await self.clock.advance(seconds)
        await self.settle()


_Template = tuple[list[Record], int]
_templates: dict[Any, _Template] = {}
"""Per kind of cluster (nodes and their capacity) what a booted one's store holds."""


def _template_key(options: Options) -> Any:
    return options.nodes, tuple(options.capacity.items())


def _template_state(options: Options) -> State:
    template = _templates.get(_template_key(options))
    return State() if template is None else State.restored(*template)


def _snapshot(store: MemoryStore) -> _Template:
    # Events tell of the first cluster's boot, which later tests did not see.
    records = [
        record
        for record in store.range("/registry/").records
        if not record.key.startswith("/registry/events/")
    ]
    return records, store.revision


def _shape(options: Options) -> Shape:
    names = tuple(f"node-{number}" for number in range(options.nodes))
    return Shape(names, files.POD_CIDR, options.capacity)


def _listen() -> socket.socket:
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(BACKLOG)
    listener.setblocking(False)
    return listener


def _ca() -> str:
    return (files.certificates() / "ca.crt").read_text()


def _server_config() -> ServerConfig:
    certificates = files.certificates()
    return ServerConfig(
        ca_cert=certificates / "ca.crt",
        ca_key=certificates / "ca.key",
        service_account_key=certificates / "sa.key",
        node_client_cert=certificates / "node-client.crt",
        node_client_key=certificates / "node-client.key",
        advertise_host=files.ADVERTISED,
        advertise_port=6443,
        service_cidr=files.SERVICE_CIDR,
        tokens={files.token(): ADMIN},
    )


def objects_in(cluster: Cluster) -> list[Object]:
    """Everything the cluster holds, decoded: for a test that asks what is left."""
    return [orjson.loads(record.value) for record in cluster.store.range("/registry/").records]
