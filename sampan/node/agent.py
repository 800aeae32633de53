"""The node agent: makes the pods bound to this node run, and says how they fare.

Tasks (all under one supervisor): the informers, the exits of containers, the node's Lease and
status, the events' writer, the HTTPS server; and one per pod. Bounds: `max_pods` pods, and
`CREATES_PER_CPU` containers per processor being created at once. A stop, or a crash, leaves
containers running: the next agent finds them by their annotations.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from sampan.aio.backoff import Backoff
from sampan.aio.clock import Clock
from sampan.aio.tasks import Supervisor
from sampan.api.errors import Object
from sampan.api.resources import api_resource
from sampan.api.times import format_time
from sampan.client.api import Client
from sampan.client.events import EventRecorder
from sampan.client.informer import Informers
from sampan.linux import cgroups
from sampan.runtime.interface import Container, Images, Runtime

from .accesses import accesses_of
from .admission import PREFIX
from .allocation import Ledger
from .collector import collector_of
from .config import NodeConfig
from .hosts import Resolver, parse_resolver
from .housekeeping import Housekeeping
from .interface import PodNetwork
from .manifests import is_static, mirrored
from .objects import Objects
from .parts import Parts
from .providers import Providers
from .pulls import Pulls
from .registration import Registration
from .reports import Reports
from .static import StaticPods
from .tally import Tally
from .thresholds import DISK_SHORT, INODES_SHORT
from .tidings import Tiding, reference
from .tokens import Tokens
from .translate import POD_UID, Machine
from .volumes.kernel import Kernel, LinuxKernel
from .volumes.local import LocalVolumes
from .volumes.place import PodVolumes
from .worker import PodWorker

log = logging.getLogger("sampan.node")

CREATES_PER_CPU = 4
FAILED_S = 1.0
"""Until a worker that has failed is made anew."""
ORPHAN_S = 60.0
"""At the most between two tries to remove what is left of a pod."""
# After this much quiet the kernel's first cgroup move waits for a grace period again.
WARM_S = 1.0
RESOLV_CONF = Path("/etc/resolv.conf")


class Agent:
    """One node. `run` until cancelled or `stop`ped; containers live on."""

    def __init__(
        self,
        config: NodeConfig,
        client: Client,
        runtime: Runtime,
        images: Images,
        network: PodNetwork,
        *,
        clock: Clock,
        informers: Informers | None = None,
        kernel: Kernel | None = None,
    ) -> None:
        """`informers` may be shared with the process's other parts; else the agent has its own.

        Runtime and network are opened by `run` (again, if they are open) and closed by the caller.
        """
        self.config = config
        self.ready = asyncio.Event()
        """Set once the node is registered as Ready and its pods are being looked after."""
        self.workers: dict[str, PodWorker] = {}
        self.rejection: tuple[str, str] | None = None
        """Why no more pods are taken: reason and message of those that come all the same."""
        self.renew: Callable[[], None] = lambda: None
        """Tells the agent's server that its certificate's files are new."""
        self.client_cert = config.cert
        """The node's certificate as a client, where that is another."""
        self.supervisor = Supervisor(clock)
        self._informers = informers or Informers(client, self.supervisor, clock)
        self._runtime = runtime
        self._network = network
        self._clock = clock
        self._client = client
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._done: set[str] = set()
        self._orphans: set[asyncio.Task[None]] = set()
        self._warmed_at = -WARM_S
        self._unsubscribe: Callable[[], None] = lambda: None
        self._stopping = asyncio.Event()
        self._kernel = kernel or LinuxKernel()
        self.storage = LocalVolumes(config.data, self._kernel)
        config.data.mkdir(parents=True, exist_ok=True)
        self.registration = Registration(config, client, clock, images.list)
        self.runtime, self.clock = runtime, clock
        self.keeper = Housekeeping(self)
        self.evictor = self.keeper.evictor
        self.registration.pressures = self.evictor.observe
        self.recorder = EventRecorder(client, "kubelet", config.name, clock)
        self.registration.hear = self.tell_of_node
        tell = self.registration.tell
        self.providers = Providers(config, client, self._kernel, clock, tell)
        self.registration.in_use = self.providers.in_use
        self.parts = self._parts(images)
        self.collector = collector_of(self)
        for short in (DISK_SHORT, INODES_SHORT):
            self.evictor.reclaims[short].append(self.collector.delete_unused)
        self.static = StaticPods(
            config.static_pods or config.data / "manifests",
            (config.name, lambda: self.registration.uid),
            (client, self.parts.reports, clock),
            _Static(self),
        )
        self._pods = self._informers.informer(
            api_resource("pods"), fields=f"spec.nodeName={config.name}"
        )

    def _parts(self, images: Images) -> Parts:
        config, clock, client = self.config, self._clock, self._client
        allocatable, tally = self.registration.allocatable, Tally()
        self.providers.note = tally.time
        return Parts(
            config=config,
            clock=clock,
            client=client,
            runtime=self._runtime,
            images=images,
            network=self._network,
            pulls=Pulls(images, clock, accesses_of(config), tally),
            volumes=PodVolumes(config.data, config.run, self._kernel, self.providers),
            kernel=self._kernel,
            providers=self.providers,
            objects=Objects(self._informers),
            tokens=Tokens(client, clock),
            services=self._informers.informer(api_resource("services")),
            reports=Reports(client, clock, tally=tally),
            recorder=self.recorder,
            machine=Machine(
                self.keeper.bounds(),
                config.cluster_domain,
                config.data / "seccomp",
            ),
            host_resolver=_host_resolver(),
            allocatable=allocatable,
            ledger=Ledger(allocatable),
            creating=asyncio.Semaphore(CREATES_PER_CPU * (os.cpu_count() or 1)),
            processors=self.keeper.processors,
            tally=tally,
        )

    def tell_of_node(self, tidings: Iterable[Tiding]) -> None:
        """As events about the node."""
        for tiding in tidings:
            self.recorder.event(reference(self.config.name), *tiding)

    # Life

    async def run(self) -> None:
        """Boot, then work until `stop` or cancellation. Raises when a vital part fails."""
        from .http import AgentServer

        server = AgentServer(self)
        self.renew = server.renew
        try:
            self.registration.port = server.bind()
            self.supervisor.start("node events", self.recorder.run)
            self.parts.volumes.open()
            await asyncio.gather(
                self._runtime.open(),
                self._network.open(),
                self._pods.synced(),
            )
            self.keeper.open()
            # Before the pods: starting a hundred of them would keep the node from saying so.
            await self.registration.register()
            # Its modules take a while to load; until then who asks waits in the socket's queue.
            self.supervisor.start("node server", server.start)
            self.supervisor.start("container exits", self._watch_exits)
            await self._adopt()
            self.supervisor.start("static pods", self.static.run)
            self.supervisor.start("unused images", self.collector.run)
            self.supervisor.start("local storage", self.keeper.storage.run)
            self.supervisor.start("evictions", self.evictor.run)
            self.registration.each_tick = self.keeper.tick
            self.supervisor.start("node heartbeat", self.registration.keep_alive)
            self.supervisor.start("plugins", self._register_plugins)
            self.ready.set()
            log.info("node %s is ready with %d pods", self.config.name, len(self.workers))
            await self._until_stopped()
        finally:
            await self._close()
            await server.close()

    async def stop(self) -> None:
        """Ask `run` to end. Containers stay."""
        self._stopping.set()

    async def _until_stopped(self) -> None:
        waits = [
            asyncio.ensure_future(self._stopping.wait()),
            asyncio.ensure_future(self.supervisor.wait()),
        ]
        try:
            done, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in waits:
                task.cancel()

    async def _register_plugins(self) -> None:
        from .csi.registry import Homes, Registry

        node = self.config.name, lambda: self.registration.uid
        around = self._client, self._clock
        homes = Homes(self.providers.drivers, self.providers.plugins)
        await Registry(self.config.data, node, around, self.providers.kubelet, homes).run()

    async def _close(self) -> None:
        self._unsubscribe()
        self.keeper.close()
        self.static.close()
        self.ready.clear()
        tasks = [*self._tasks.values(), *self._orphans]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self.workers.clear()
        self._tasks.clear()
        await self.parts.reports.close()
        await self.supervisor.stop()
        self.providers.close()

    # Pods

    async def _adopt(self) -> None:
        """Match what runs here with what the API wants; then follow the API."""
        found: dict[str, list[Container]] = {}
        for container in self._runtime.list():
            found.setdefault(container.annotations.get(POD_UID, ""), []).append(container)
        pods = {}
        for pod in self._pods.list():
            if mirrored(pod):
                self.static.mirror_changed(None, pod)
            else:
                pods[pod["metadata"]["uid"]] = pod
        self.static.open()
        pods |= {uid: self.static.remembered(pod) for uid, pod in self.static.wanted.items()}
        live = {
            uid
            for uid, pod in pods.items()
            if (pod.get("status") or {}).get("phase") not in ("Succeeded", "Failed")
        }
        await self._network.retain(live)
        self.keeper.adopt(set(pods))
        for uid in {*found, *self.parts.volumes.known()} - pods.keys():
            self._clean_orphan(uid, found.get(uid, ()))
        for uid, pod in pods.items():
            self.start_worker(pod, found.get(uid, []))
        self._unsubscribe = self._pods.on_change(self._pod_changed)

    def _pod_changed(self, old: Object | None, new: Object | None) -> None:
        pod = new if new is not None else old
        if pod is None:
            return
        if mirrored(pod):
            self.static.mirror_changed(old, new)
            return
        uid = pod["metadata"]["uid"]
        worker = self.workers.get(uid)
        if new is None:
            self._done.discard(uid)
            if worker is not None:
                worker.removed()
        elif worker is not None:
            if worker.state.pod is not new:
                worker.update(new)
        elif uid not in self._done:
            self.start_worker(new)

    def start_worker(self, pod: Object, found: Sequence[Container] = ()) -> None:
        """Look after a pod; `found` are its containers that run already."""
        uid = pod["metadata"]["uid"]
        refused = None if found else self.keeper.refusal(pod)
        worker = PodWorker(self.parts, pod, list(found))
        if refused is not None:
            reason, text = refused
            worker.state.failure = (reason, f"{PREFIX}{text}")
            worker.state.refused = True
            self.parts.ledger.release(uid)
            self.parts.tally.rejected[reason] += 1
            worker.narrator.pod("Warning", reason, text)
        if not found:
            self._warm()
        self.workers[uid] = worker
        self.keeper.took()
        self._tasks[uid] = asyncio.create_task(self._work(worker), name=f"pod {uid}")

    def _warm(self) -> None:
        """A quiet kernel is slow at its first move into a cgroup: have it done meanwhile."""
        now = self._clock.monotonic()
        if now - self._warmed_at > WARM_S:
            self._warmed_at = now
            asyncio.get_running_loop().run_in_executor(None, cgroups.warm)

    async def _work(self, worker: PodWorker) -> None:
        """A worker that fails is logged and made anew; a pod never goes unattended."""
        uid = worker.state.uid
        try:
            await worker.run()
        except asyncio.CancelledError:
            raise
        except Exception:
            log.exception("pod %s", uid)
            await self._clock.sleep(FAILED_S)
            self.workers.pop(uid, None)
            found = self._pods.get(worker.narrator.namespace, worker.narrator.name)
            pod = self.static.wanted.get(uid) or found
            mine = [item for item in self._runtime.list() if item.annotations.get(POD_UID) == uid]
            if pod is not None and pod["metadata"]["uid"] == uid:
                self.start_worker(pod, mine)
                return
            # It was removed meanwhile.
            self._clean_orphan(uid, mine)
        self._forget(worker)

    def _forget(self, worker: PodWorker) -> None:
        """Nothing is left to be done for the pod."""
        uid = worker.state.uid
        self.workers.pop(uid, None)
        self._tasks.pop(uid, None)
        self.parts.reports.forget(uid)
        self.parts.tally.forget(uid)
        self.parts.ledger.release(uid)
        self.keeper.ended(uid)
        pod = self._pods.get(worker.narrator.namespace, worker.narrator.name)
        if pod is not None and pod["metadata"]["uid"] == uid:
            # It is on its way out (finalizers may hold it): there is nothing left to do for it.
            self._done.add(uid)
        self.keeper.keep_logs(worker.state.pod)
        if is_static(worker.state.pod):
            self.static.ended()
        runs = (run for runs in worker.state.attempts.values() for run in runs if run.id)
        left = [item for run in runs if (item := self._runtime.get(run.id)) is not None]
        if left or worker.sandbox.stays:
            self._clean_orphan(uid, left)

    async def _watch_exits(self) -> None:
        async for container in self._runtime.exits():
            worker = self.workers.get(container.annotations.get(POD_UID, ""))
            if worker is not None:
                worker.exited(container)

    @property
    def orphans(self) -> int:
        """Pods whose remains are being taken away."""
        return len(self._orphans)

    def _clean_orphan(self, uid: str, containers: Iterable[Container]) -> None:
        task = asyncio.create_task(self._remove_orphan(uid, list(containers)))
        self._orphans.add(task)
        task.add_done_callback(self._orphans.discard)

    async def _remove_orphan(self, uid: str, containers: list[Container]) -> None:
        """A pod that is deleted, and nobody looks after it any more: nothing of it may stay. What
        cannot be removed is tried again, as by upstream's housekeeping."""
        log.info("removing what is left of pod %s", uid or "?")
        backoff = Backoff(FAILED_S, ORPHAN_S)
        while True:
            try:
                for container in containers:
                    await self._runtime.delete(container.id)
                # A static pod comes again under its uid.
                if uid and uid not in self.workers:
                    await self._network.detach(uid)
                    await self.parts.volumes.remove(uid)
                return
            except Exception:
                log.exception("removing pod %s", uid)
            await self._clock.sleep(backoff.next_s())


def _host_resolver() -> Resolver:
    try:
        return parse_resolver(RESOLV_CONF.read_text(errors="replace"))
    except OSError:
        return Resolver()


class _Static:
    """The agent's workers, as static pods see them."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent

    def known(self) -> dict[str, Object]:
        pods = {uid: worker.state.pod for uid, worker in self._agent.workers.items()}
        return {uid: pod for uid, pod in pods.items() if is_static(pod)}

    def begin(self, pod: Object) -> None:
        self._agent.start_worker(pod)

    def end(self, uid: str) -> None:
        """As if its object had been deleted: there is none that could be."""
        worker = self._agent.workers[uid]
        pod = worker.state.pod
        meta, spec = pod["metadata"], pod["spec"]
        if "deletionTimestamp" not in meta:
            told = {
                "deletionTimestamp": format_time(self._agent.parts.clock.now()),
                "deletionGracePeriodSeconds": spec.get("terminationGracePeriodSeconds", 30),
            }
            worker.update(pod | {"metadata": meta | told})
