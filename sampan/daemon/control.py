"""The control-plane process: API server, controllers and scheduler in one event loop.

Boot order, each step because the next one needs it:
  configuration   the addresses certificates are made for
  certificates    the server's own, and those the node process waits for
  store           damaged data stops everything before a byte is served
  server          bootstrap objects are written before anybody can ask for them
  sockets         "listening" is said now: the node process may connect
  controllers, scheduler   clients of the server like any other, over the in-process transport
"""

from __future__ import annotations

import asyncio
import errno
import logging
import resource
import socket
from collections.abc import Awaitable, Callable
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING

from sampan.aio.clock import Clock, SystemClock
from sampan.aio.tasks import Supervisor
from sampan.api.errors import Object
from sampan.api.principals import AUTHENTICATED, MASTERS
from sampan.client import kubeconfig
from sampan.paths import DEFAULT_NAME, ClusterPaths
from sampan.server import encryption, settings
from sampan.server.app import Server
from sampan.server.authn.serviceaccount import KEYS_FOLDER
from sampan.server.config import ServerConfig
from sampan.server.exchange import User
from sampan.server.http import Listener, serve
from sampan.server.subresources.nodes import renew_context
from sampan.store.interface import Damaged
from sampan.store.sqlite import RESTORE, SqliteStore
from sampan.wire.address import join_host_port

from . import config, joining, pki
from .child import Child, Refused, settle_memory
from .folders import FolderWatch
from .renewal import keep_renewed

if TYPE_CHECKING:
    from sampan.controllers.runtime.run import Running

    Begin = Callable[
        [Child, config.ClusterConfig, Server, Supervisor, Object | None], Awaitable[Running]
    ]

log = logging.getLogger("sampan.control")

ADMIN = User("kubernetes-admin", (MASTERS, AUTHENTICATED))
AGENT = User(joining.BOOTSTRAP, (joining.BOOTSTRAPPERS, AUTHENTICATED))
SCHEDULER_FILE = "scheduler.yaml"
IP_FREEBIND = 15
BACKLOG = 1024


def main(arguments: list[str]) -> int:
    # Thousands of watches are thousands of sockets; the usual soft limit is 1024.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    child = Child("control", arguments)
    return child.run(lambda: run(child))


async def run(child: Child) -> None:
    paths = child.paths
    try:
        cluster = config.ensure(paths, child.options.listen)
        pki.ensure(paths.pki, cluster)
        if cluster.underlay:
            from .wireguardkeys import ensure_wireguard

            ensure_wireguard(paths.pki)
        scheduling = scheduler_configuration(paths)
        listeners = listen(cluster)
        store, codec = open_store(paths)
    except (Damaged, OSError, ValueError) as error:
        raise Refused(str(error)) from error
    clock = SystemClock()
    supervisor = Supervisor(clock, child.task_failed)
    try:
        server = Server(store, server_config(paths, cluster), clock)
    except (OSError, ValueError) as error:
        await store.close()
        raise Refused(str(error)) from error
    try:
        try:
            await server.start()
            cert, key = paths.pki / "server.crt", paths.pki / "server.key"
            http = await serve(server, listeners, cert, key)
        except ValueError as error:
            # A file of the administrator's that is no good.
            raise Refused(str(error)) from error
        child.say(state="listening", url=cluster.url)
        write_kubeconfig(paths, cluster)
        upkeep = Upkeep(paths, cluster, server, http)
        supervisor.start("certificates", lambda: upkeep.run(clock))
        supervisor.start("store", store.failed, vital=True)
        if codec is not None and codec.plugins:
            from sampan.server.kms import checks_of, follow

            server.health_checks.extend(checks_of(codec))
            supervisor.start("kms", lambda: follow(codec, store, clock))
        # The node does its part meanwhile, and what it asks for is answered.
        begin = await asyncio.to_thread(load_loops)
        running = await begin(child, cluster, server, supervisor, scheduling)
        child.say(state="ready")
        log.info("the API server listens at %s, with data in %s", cluster.url, paths.data)
        settle_memory()
        try:
            await supervisor.wait()
        finally:
            await running.stop()
            await supervisor.stop()
            await http.close()
    finally:
        await server.close()
        await store.close()


def load_loops() -> Begin:
    """What it imports takes a tenth of a second to load, and nothing before needs it."""
    from .loops import begin

    return begin


def scheduler_configuration(paths: ClusterPaths) -> Object | None:
    """The administrator's KubeSchedulerConfiguration, checked; None without one. Raises OSError and
    ValueError."""
    path = paths.settings / SCHEDULER_FILE
    if not path.exists():
        return None
        # Imported only where there is a file.
    from sampan.scheduler.configuration import profiles_of
    from sampan.wire import yaml

    try:
        found = yaml.loads(path.read_bytes(), [])
        if not isinstance(found, dict):
            raise ValueError("expected a KubeSchedulerConfiguration")
        profiles_of(found)
    except ValueError as error:
        raise ValueError(f"{path.name}: {error}") from error
    return found


class Upkeep:
    """Renews the certificates of this process and follows the files it has read."""

    def __init__(
        self, paths: ClusterPaths, cluster: config.ClusterConfig, server: Server, http: Listener
    ) -> None:
        self._paths = paths
        self._cluster = cluster
        self._server = server
        self._http = http

    async def run(self, clock: Clock) -> None:
        """Until cancelled; a second look at what `run` made at boot costs one sleep."""
        settings = self._paths.settings
        folders = (self._paths.pki, settings, settings / KEYS_FOLDER)
        watches = [FolderWatch(item, self.reload) for item in folders if item.is_dir()]
        try:
            for watch in watches:
                watch.open()
            await keep_renewed(lambda: self.renew(clock.now()), clock)
        finally:
            for watch in watches:
                watch.close()

    async def renew(self, now_s: float) -> float:
        """Make what is due; `reload` follows, as the files change."""
        done = pki.ensure(self._paths.pki, self._cluster, now_s)
        if done.made:
            log.info("new certificates: %s", ", ".join(sorted(done.made)))
            self.reload()
        return done.due_s

    def reload(self) -> None:
        """Take the files as they are now. Files that are no good are reported and not taken."""
        try:
            self._http.reload()
            renew_context(self._server)
            write_kubeconfig(self._paths, self._cluster)
        except (OSError, ValueError) as error:
            log.error("changed certificates are not taken: %s", error)
        try:
            settings.load(self._server)
        except ValueError as error:
            log.error("changed files of the administrator are not taken: %s", error)


def listen(cluster: config.ClusterConfig) -> list[socket.socket]:
    """The configured address, and the first node's gateway, where pods reach the server: it may
    not exist yet, so it is bound without asking (IP_FREEBIND)."""
    host, port = cluster.listen_host, cluster.listen_port
    sockets = [bind(host, port)]
    if host not in ("0.0.0.0", "::"):
        sockets.append(bind(cluster.gateway, port, freebind=True))
    return sockets


def bind(host: str, port: int, *, freebind: bool = False) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if freebind:
        listener.setsockopt(socket.SOL_IP, IP_FREEBIND, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        where = join_host_port(host, port)
        if error.errno == errno.EADDRINUSE:
            advice = "stop what uses it, or choose another with --listen"
            raise OSError(f"{where} is in use; {advice}") from error
        raise OSError(f"cannot listen on {where}: {error.strerror}") from error
    listener.listen(BACKLOG)
    listener.setblocking(False)
    return listener


def open_store(paths: ClusterPaths) -> tuple[SqliteStore, encryption.Configured | None]:
    """The store, and what seals its values; a database that was there once and is gone is not
    replaced by an empty one.

    Nor is one that was cut to nothing: it looks to SQLite as if it were to be made.
    """
    mark = paths.data / "initialised"
    if mark.exists():
        if not paths.database.exists():
            raise Damaged(f"{paths.database} is missing. {RESTORE}")
        if paths.database.stat().st_size == 0:
            raise Damaged(f"{paths.database} is empty. {RESTORE}")
    codec = encryption.read(paths.settings / encryption.NAME)
    store = SqliteStore.open(paths.database, codec)
    if not mark.exists():
        config.write_private(mark, b"")
    return store, codec


def server_config(paths: ClusterPaths, cluster: config.ClusterConfig) -> ServerConfig:
    return ServerConfig(
        ca_cert=paths.pki / "ca.crt",
        ca_key=paths.pki / "ca.key",
        service_account_key=paths.pki / "sa.key",
        node_client_cert=paths.pki / "node-client.crt",
        node_client_key=paths.pki / "node-client.key",
        advertise_host=advertised(cluster),
        advertise_port=cluster.listen_port,
        service_cidr=cluster.service_cidrs,
        client_cas=(paths.settings / "client-ca.crt",),
        folder=paths.settings,
        audit_log=paths.logs / "audit.log",
        front_proxy_ca=paths.pki / "front-proxy-ca.crt",
        front_proxy_cert=paths.pki / "front-proxy-client.crt",
        front_proxy_key=paths.pki / "front-proxy-client.key",
        tokens={
            paths.token.read_text().strip(): ADMIN,
            joining.make_token(paths): AGENT,
        },
    )


def advertised(cluster: config.ClusterConfig) -> str:
    """Where pods reach the server, by IPv4, which its service has: an address of the machine if it
    listens on a certain one, else the first node's gateway."""
    host = cluster.listen_host
    if host == "0.0.0.0" or ":" in host or ip_address(host).is_loopback:
        return cluster.gateway
    return host


def write_kubeconfig(paths: ClusterPaths, cluster: config.ClusterConfig) -> None:
    """The admin's kubeconfig, made anew when the address or the certificate changed."""
    name = "sampan" if cluster.name == DEFAULT_NAME else f"sampan-{cluster.name}"
    access = kubeconfig.Access(
        url=cluster.url,
        ca=(paths.pki / "ca.crt").read_text(),
        cert=(paths.pki / "admin.crt").read_text(),
        key=(paths.pki / "admin.key").read_text(),
    )
    try:
        if kubeconfig.read(paths.kubeconfig) == access:
            return
    except kubeconfig.KubeconfigError:
        pass
    kubeconfig.write(paths.kubeconfig, kubeconfig.build(name, access))
    merged = paths.data / "merged.path"
    if merged.exists():
        try:
            kubeconfig.refresh(Path(merged.read_text().strip()), name, access)
        except (kubeconfig.KubeconfigError, OSError) as error:
            log.warning("the user's kubeconfig keeps the admin's former certificate: %s", error)
