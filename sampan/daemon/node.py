"""The node process: agent, service proxy and DNS in one event loop.

Boot order, each step because the next one needs it:
  mount namespace   while the process still has one thread; every mount is made inside it
  network, runtime  they need no API server, so they are opened while the control plane loads
  go                the supervisor says that the API server listens, and the certificates are there
  informers         shared by all three parts
  agent, proxy, dns
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from functools import partial

from msgspec.structs import replace

from sampan.aio.clock import Clock, SystemClock
from sampan.aio.tasks import Supervisor
from sampan.api.errors import StatusError
from sampan.client.api import Client
from sampan.client.events import WARNING, EventRecorder
from sampan.client.http import HttpTransport
from sampan.client.informer import Informers
from sampan.dns.serve import DnsConfig, DnsServer
from sampan.linux import power
from sampan.linux.namespaces import enter_node_namespace
from sampan.node.agent import Agent
from sampan.node.config import NodeConfig
from sampan.node.network import BridgeNetwork
from sampan.node.registry.serve import RegistryServer
from sampan.node.settings import FILE, Settings, read_settings
from sampan.node.shutdown import shut_down
from sampan.paths import ClusterPaths
from sampan.proxy.families import IPV4, IPV6
from sampan.proxy.policy.run import PolicyKeeper
from sampan.proxy.restoring import say_restored
from sampan.proxy.run import Proxy, ProxyConfig
from sampan.proxy.status import Status
from sampan.version import GIT_VERSION

from . import config
from .child import Child, Refused, settle_memory
from .folders import FolderWatch
from .membership import has_joined, membership, settle_apart, until_due
from .registry import node_registry
from .wiring import images_of, node_config, node_network, node_overlay, node_runtime

log = logging.getLogger("sampan.node")

REQUEST_S = 120.0
"""How long a signing request may wait for its certificate before it is made anew."""


def main(arguments: list[str]) -> int:
    child = Child("node", arguments)
    try:
        child.paths.run.mkdir(parents=True, exist_ok=True, mode=0o700)
        if child.paths.number == 1:
            if has_joined(child):
                settle_apart(child)
            enter_node_namespace(child.paths.run)
        else:
            from .member import enter

            enter(child)
    except Refused as error:
        return child.refuse(error)
    except OSError as error:
        child.say(error=f"cannot make the node's namespaces: {error}")
        return 1
    return child.run(lambda: run(child))


async def run(child: Child) -> None:
    paths = child.paths
    cluster, identity = membership(child)
    clock = SystemClock()
    supervisor = Supervisor(clock, child.task_failed)
    settings = replace(node_config(paths, cluster), settings=chosen(paths))
    network, runtime = pods_network(paths, cluster), node_runtime(paths, cluster)
    await asyncio.gather(network.open(), runtime.open())
    settings = replace(settings, runtime_version=runtime.version)
    await child.go()
    transport = HttpTransport(
        cluster.url,
        ca=settings.ca_cert,
        cert=paths.pki / f"{identity}.crt",
        key=paths.pki / f"{identity}.key",
        agent=f"kubelet/{GIT_VERSION}",
    )
    client = Client(transport)
    informers = Informers(client, supervisor, clock)
    images = images_of(paths, runtime)
    agent = Agent(settings, client, runtime, images, network, clock=clock, informers=informers)
    agent.client_cert = paths.pki / f"{identity}.crt"
    host = transport.url.partition("://")[2]
    transport.answered = partial(agent.parts.tally.request, host)
    pair = paths.pki / f"{identity}.crt", paths.pki / f"{identity}.key"
    joined = pair if has_joined(child) else None
    registry = node_registry(cluster, settings, images, client, joined)
    recorder = EventRecorder(client, "kube-proxy", cluster.node_name, clock)
    proxy = Proxy(informers, proxy_config(settings, cluster), recorder=recorder)
    proxy.route = network.route_services
    families = (IPV4, IPV6) if settings.pod_cidr6 else (IPV4,)
    policies = PolicyKeeper(
        informers, cluster.name, cluster.node_name, recorder=recorder, families=families
    )
    network.admit = policies.admit
    network.restored = partial(say_restored, recorder, cluster.node_name, "NodeRulesRestored")
    dns = DnsServer(
        client,
        informers,
        DnsConfig(host=cluster.gateway, service_ip=cluster.dns_ip, node_name=cluster.node_name),
    )
    dns.complain = lambda found, why: recorder.event(
        found, WARNING, "InvalidNameServers", f"{why}; name servers stay as they were"
    )
    credentials = Credentials(child, identity, transport, agent, registry)
    try:
        supervisor.start("agent", agent.run)
        supervisor.start("certificates", lambda: credentials.run(client, cluster, clock))
        supervisor.start("events of services", recorder.run)
        supervisor.start("proxy", proxy.run)
        supervisor.start("the proxy's pages", Status(
            proxy, informers, cluster.node_name, cluster.gateway).run)  # fmt: skip
        supervisor.start("network policies", policies.run)
        supervisor.start("dns", dns.run)
        for name, task in outward(paths, cluster, agent, transport, informers):
            supervisor.start(name, task)
        await asyncio.gather(agent.ready.wait(), proxy.ready.wait(), dns.ready.wait())
        child.say(state="ready", node=cluster.node_name, stopping_s=cluster.shutdown_grace_s)
        if registry is not None:
            supervisor.start("registry", registry.run)
        settle_memory()
        await supervisor.wait()
    finally:
        if cluster.shutdown_grace_s and agent.ready.is_set() and power.is_going_down():
            await shut_down(agent, cluster.shutdown_grace_s, cluster.shutdown_grace_critical_s)
        await supervisor.stop()
        await runtime.close()
        await network.close()
        await transport.close()


def outward(
    paths: ClusterPaths,
    cluster: config.ClusterConfig,
    agent: Agent,
    transport: HttpTransport,
    informers: Informers,
) -> Iterator[tuple[str, Callable[[], Awaitable[None]]]]:
    """What makes one cluster of several machines, by name; nothing where there is one. Raises
    Refused."""
    try:
        overlay = node_overlay(paths, cluster, informers, agent.parts.client)
    except ValueError as error:
        raise Refused(str(error)) from error
    if overlay is not None:
        yield "overlay", overlay.run
    if cluster.address:
        # From another machine, which the server may not be able to call.
        from sampan.node.tidings import of_address
        from sampan.node.tunnel import Tunnel

        def own() -> tuple[str, int]:
            return agent.config.listen_host, agent.registration.port

        def seen(ip: str) -> None:
            agent.tell_of_node(of_address(cluster.address, ip))
            if overlay is not None:
                overlay.seen(ip)

        yield "tunnel", Tunnel(transport, own, agent.parts.clock, seen).run


def proxy_config(settings: NodeConfig, cluster: config.ClusterConfig) -> ProxyConfig:
    services = cluster.service_cidr, cluster.service_cidr6 if settings.pod_cidr6 else ""
    return ProxyConfig(
        cluster.name, cluster.node_name, settings.pod_cidr, services[0],
        settings.pod_cidr6, services[1],
    )  # fmt: skip


def pods_network(paths: ClusterPaths, cluster: config.ClusterConfig) -> BridgeNetwork:
    """Raises Refused for a CNI configuration that is no good."""
    try:
        return node_network(paths, cluster)
    except ValueError as error:
        raise Refused(str(error)) from error


def chosen(paths: ClusterPaths) -> Settings:
    """What the administrator chose for the node. Raises Refused."""
    try:
        return read_settings(paths.settings / FILE)
    except (OSError, ValueError) as error:
        raise Refused(str(error)) from error


class Credentials:
    """The node's two certificates while it runs.

    The first node lies beside the CA: the control process renews its files, and they are read again
    when they change. A node that joined asks for its own.
    """

    def __init__(
        self,
        child: Child,
        identity: str,
        transport: HttpTransport,
        agent: Agent,
        registry: RegistryServer | None,
    ) -> None:
        self._pki = child.paths.pki
        self._joined = has_joined(child)
        self._identity = identity
        self._transport = transport
        self._agent = agent
        self._registry = registry

    async def run(self, client: Client, cluster: config.ClusterConfig, clock: Clock) -> None:
        watch = FolderWatch(self._pki, self.reload)
        watch.open()
        try:
            if self._joined:
                await until_due(self._pki, clock)
                from .renewal import keep_renewed

                await keep_renewed(lambda: self.renew(client, cluster, clock), clock)
            await asyncio.Event().wait()
        finally:
            watch.close()

    async def renew(self, client: Client, cluster: config.ClusterConfig, clock: Clock) -> float:
        """Ask for what is due (kube-apiserver-client-kubelet and kubelet-serving)."""
        from .joining import request_certificate
        from .renewal import due_of, new_key, write_pair

        node = cluster.node_name
        wanted = {self._identity: (), "node": (node, cluster.address_of_node)}
        for name, alternatives in wanted.items():
            if due_of(self._pki / f"{name}.crt") > clock.now():
                continue
            key = new_key()
            try:
                async with asyncio.timeout(REQUEST_S):
                    certificate = await request_certificate(client, key, node, alternatives)
            except (OSError, ValueError, StatusError, TimeoutError):
                use = "server" if alternatives else "client"
                self._agent.parts.tally.renewals_failed[use] += 1
                raise
            write_pair(self._pki, name, key, certificate)
            self.reload()
        return min(due_of(self._pki / f"{name}.crt") for name in wanted)

    def reload(self) -> None:
        """Take the files as they are now; a pair that does not fit together is not taken."""
        pki = self._pki
        try:
            self._transport.renew(
                ca=pki / "ca.crt",
                cert=pki / f"{self._identity}.crt",
                key=pki / f"{self._identity}.key",
            )
            self._agent.renew()
            if self._registry is not None:
                self._registry.renew()
        except (OSError, ValueError) as error:
            log.error("changed certificates are not taken: %s", error)
