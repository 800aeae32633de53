"""What a controller is: informers it listens to, a queue of names, and `reconcile`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import ClassVar

from msgspec import Struct

from sampan.aio.clock import Clock
from sampan.aio.tasks import Supervisor
from sampan.api.descriptor import Descriptor
from sampan.api.errors import Object
from sampan.client.api import Client
from sampan.client.events import EventRecorder
from sampan.client.informer import Informer, Informers

from .queue import Queue, Request, Requeue

NodeCall = Callable[[str, str, str], Awaitable[tuple[int, str]]]
"""Asks a node's agent: (node, method, path) to (status, text). Raises InternalError."""


class Options(Struct, frozen=True):
    """What the daemon tells the controllers about the cluster."""

    root_ca: str = ""
    """The cluster's CA, published in every namespace; "" publishes none."""
    node_grace_s: float = 40.0
    """A node whose Lease is older than this is not known to be ready
    (--node-monitor-grace-period)."""
    ca_cert: Path | None = None
    """With `ca_key`: PEM files of the CA that signs certificates; None signs none."""
    ca_key: Path | None = None
    token_key: Path | None = None
    """PEM file of the key that signs tokens of service accounts; None signs none."""
    pod_cidr: str = ""
    """The pods' network, of which each node gets a share; "" leaves nodes alone."""
    pod_cidr6: str = ""
    """The same of IPv6, where the cluster has both: a node's share is at the same place."""
    reserved_share: str = ""
    """A share that is never given: the server's own node has it, by its configuration."""
    service_cidrs: str = ""
    """The services' networks, one of each family, whose last addresses are load balancers'; ""
    gives them none."""
    terminated_pods: int = 12500
    """Finished pods kept before the oldest go (--terminated-pod-gc-threshold)."""
    restore: Callable[[], Awaitable[None]] | None = None
    """Brings back the cluster's own objects that are missing; None leaves them away."""
    node_call: NodeCall | None = None
    """None where nodes have no agents."""


class Context(Struct, frozen=True):
    """What every controller is made from."""

    client: Client
    informers: Informers
    supervisor: Supervisor
    clock: Clock
    options: Options

    def recorder(self, component: str) -> EventRecorder:
        """A running recorder for the events of one component."""
        recorder = EventRecorder(self.client, component, clock=self.clock)
        self.supervisor.start(f"events {component}", recorder.run)
        return recorder


class Controller(ABC):
    """Brings what is towards what is wanted, from a name at a time.

    The contract of `reconcile(request)`:
    - `request` is a name, not an event: whatever happened, look at what is now. The object may be
      gone. It is never called twice at once for one name.
    - It returns None when done, or `Requeue(after_s)` to be called again although nothing
      changes. Changes call it by themselves: `__init__` wires the informers' handlers to `add`.
    - It raises what the client raises; the name is then tried again after a backoff that doubles.
      A Conflict means that the cache was behind and is retried without a word.
    - It is level-based and may die between any two writes: every write leaves a state from which
      the next call goes on.
    - Cached objects are shared: copy, then change.
    """

    name: ClassVar[str]
    """Of the queue in metrics, as upstream names it."""
    workers: ClassVar[int] = 5
    """Reconciles at once, each of another name (upstream's --concurrent-*-syncs)."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.client = context.client
        self.clock = context.clock
        self.queue = Queue(self.name, self.reconcile, context.clock, self.workers)
        self._listening: list[Informer] = []

    @abstractmethod
    async def reconcile(self, request: Request) -> Requeue | None: ...

    def informer(self, resource: Descriptor, *, fields: str = "") -> Informer:
        """The shared informer of a resource (of those that a field selector picks); the queue opens
        once it is filled."""
        informer = self.context.informers.informer(resource, fields=fields)
        self._listening.append(informer)
        return informer

    def add(self, obj: Object) -> None:
        """Queue an object by its name."""
        meta = obj["metadata"]
        self.queue.add(Request(meta.get("namespace", ""), meta["name"]))

    def add_changed(self, old: Object | None, new: Object | None) -> None:
        """An informer's handler that queues the object itself."""
        obj = new if new is not None else old
        if obj is not None:
            self.add(obj)

    def exposition(self) -> str:
        """Prometheus text of what the controller counts besides its queue."""
        return ""

    async def run(self) -> None:
        """Open the queue once the caches are filled, and keep its timer."""
        for informer in self._listening:
            await informer.synced()
        self.queue.open()
        await self.queue.run_timer()
