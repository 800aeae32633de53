"""What every pod worker of the node shares."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from sampan.aio.clock import Clock
from sampan.client.api import Client
from sampan.client.informer import Informer
from sampan.runtime.interface import Images, Runtime

from .allocation import Ledger
from .config import NodeConfig
from .hosts import Resolver
from .interface import PodNetwork
from .narration import Recorder
from .objects import Objects
from .providers import Providers
from .pulls import Pulls
from .reports import Reports
from .tally import Tally
from .tokens import Tokens
from .translate import Machine
from .volumes.kernel import Kernel
from .volumes.place import PodVolumes

if TYPE_CHECKING:
    from .worker import PodWorker


class Parts(Struct):
    config: NodeConfig
    clock: Clock
    client: Client
    runtime: Runtime
    images: Images
    network: PodNetwork
    pulls: Pulls
    volumes: PodVolumes
    kernel: Kernel
    providers: Providers
    objects: Objects
    tokens: Tokens
    services: Informer
    reports: Reports
    recorder: Recorder
    machine: Machine
    host_resolver: Resolver
    """The node's own resolv.conf."""
    allocatable: Mapping[str, str]
    ledger: Ledger
    """What has been promised of it."""
    creating: asyncio.Semaphore
    """How many containers are being created at once: more would only fight for the processors."""
    processors: Callable[[PodWorker, Mapping[str, Any]], str]
    """On which processors a container of a pod may run; "" is all. Raises NotEnough."""
    tally: Tally
    """What is counted for those who watch the node."""
