"""What works on the API from inside the control process: controllers, scheduler, simulated nodes.

They talk to the server over the in-process transport: no HTTP, no encoding. This module, and with
it all it imports, is loaded when the server already listens (`control`).
"""

from __future__ import annotations

import socket
from functools import partial

from sampan.aio.clock import Clock
from sampan.aio.tasks import Supervisor
from sampan.api.errors import Object
from sampan.api.principals import AUTHENTICATED, MASTERS
from sampan.client.api import Client
from sampan.client.informer import Informers
from sampan.controllers.runtime.controller import Options
from sampan.controllers.runtime.run import Running, run_controllers
from sampan.scheduler.run import Scheduler
from sampan.server.app import Server
from sampan.server.bootstrap import restore
from sampan.server.exchange import User
from sampan.server.subresources.fetching import ask

from . import config, joining
from .child import Child
from .identity import keep_identity
from .roles import keep_role
from .simulation import Keeper

# In-process components are part of the server's own process: no key of theirs could leak that
# does not lie beside the CA's. Their names are upstream's, for audit and events.
CONTROLLERS = User("system:kube-controller-manager", (MASTERS, AUTHENTICATED))
SCHEDULER = User("system:kube-scheduler", (MASTERS, AUTHENTICATED))


async def begin(
    child: Child,
    cluster: config.ClusterConfig,
    server: Server,
    supervisor: Supervisor,
    scheduling: Object | None,
) -> Running:
    """Start them all and come back at once; they begin when their caches are filled.

    `scheduling` is the administrator's KubeSchedulerConfiguration, None without one.
    """
    clock: Clock = server.clock
    client = Client(server.local_transport(CONTROLLERS))
    informers = Informers(client, supervisor, clock)
    pki = child.paths.pki
    running = await run_controllers(
        client,
        informers,
        supervisor,
        clock,
        Options(
            root_ca=(pki / "ca.crt").read_text(),
            ca_cert=pki / "ca.crt",
            ca_key=pki / "ca.key",
            token_key=pki / "sa.key",
            pod_cidr=cluster.pod_cidr,
            pod_cidr6=cluster.pod_cidr6,
            reserved_share=cluster.node_pod_cidr,
            service_cidrs=cluster.service_cidrs,
            node_call=partial(ask, server),
            restore=partial(restore, server),
        ),
    )
    server.expositions.append(running.metrics)
    server.parts["controller-manager"] = partial(supervisor.trouble, "controller ")
    scheduler = Scheduler(Client(server.local_transport(SCHEDULER)), informers, clock, scheduling)
    server.expositions.append(scheduler.exposition)
    supervisor.start("scheduler", scheduler.run)
    server.parts["scheduler"] = partial(supervisor.trouble, "scheduler")
    supervisor.start("joining", lambda: joining.publish(client, cluster))
    supervisor.start("roles", lambda: keep_role(client, informers, cluster.node_name))
    supervisor.start("identity", lambda: keep_identity(client, clock, socket.gethostname()))
    simulation = Keeper(child, server, informers, clock)
    supervisor.start("simulation", simulation.run)
    return running
