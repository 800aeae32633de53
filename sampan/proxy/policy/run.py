"""The policies of one node: watches them, keeps their table true, and lets new pods in.

Task: `run`, under the daemon's supervisor. Without policies it watches nothing else, and there is
no table. With the first one it begins to watch namespaces and this node's pods (the agent's own
cache): pods of other machines cannot be reached yet, and an agent may not see them. Queue: what
changed while a transaction was being applied, each thing once; it becomes one transaction. Nothing
polls. A transaction the kernel refuses is followed by the whole table; if that fails as well, `run`
raises and the supervisor starts it again with backoff.

`admit` closes the gap between a pod's start and its rules: the node calls it with the address that
the pod is about to use, and starts the pod when the rules for it are in the kernel.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from sampan.api.errors import BadRequest, Object
from sampan.api.resources import resource
from sampan.client.informer import Informer, Informers
from sampan.linux.nft import Nft, NftError
from sampan.linux.nftwatch import TransactionWatch, table_handle

from .index import PolicyIndex
from .objects import Key, Pod, Policy, compile_policy, pod_facts
from .table import PolicyTable

log = logging.getLogger("sampan.proxy.policy")

# How long a pod waits for its rules; then its start fails and is tried again by the agent.
ADMIT_S = 20.0
_BY_UID = "policy-uid"


class PolicyKeeper:
    """Use it from one event loop. `ready` is set once the first policies are in the kernel."""

    def __init__(
        self, informers: Informers, cluster: str, node_name: str, nft: Nft | None = None
    ) -> None:
        self._informers = informers
        self._policies = informers.informer(resource("networkpolicies", "networking.k8s.io"))
        self._pods: Informer | None = None
        self._namespaces: Informer | None = None
        self._node_name = node_name
        self._index = PolicyIndex()
        self._table = PolicyTable(cluster)
        self._nft = nft or Nft()
        self._wake = asyncio.Event()
        self._handle = 0
        self._attached: dict[str, str] = {}
        self._waiting: list[asyncio.Future[None]] = []
        self._unsubscribe: list[Callable[[], None]] = []
        self._changed = False
        self.ready = asyncio.Event()
        self.rebuilds = 0

    async def run(self) -> None:
        """Follow the cluster until cancelled. The rules stay in the kernel then."""
        self._index = PolicyIndex()
        self._unsubscribe.append(self._policies.on_change(self._policy_changed))
        watch = TransactionWatch()
        loop = asyncio.get_running_loop()
        loop.add_reader(watch.fileno(), self._hear, watch)
        try:
            await self._policies.synced()
            # Rules of an earlier run, whose policies may be gone.
            if not len(self._policies) and table_handle(self._table.name):
                await self._nft.apply(self._table.remove())
            self._handle = 0
            while True:
                await self._turn()
                self.ready.set()
                await self._wake.wait()
        finally:
            loop.remove_reader(watch.fileno())
            watch.close()
            for undo in self._unsubscribe:
                undo()
            self._unsubscribe.clear()
            if self._pods is not None:
                self._pods = self._namespaces = None

    async def purge(self) -> None:
        """Remove the table; `run` must have ended. Raises NftError."""
        await self._nft.apply(self._table.remove())

    async def admit(self, uid: str, ip: str) -> None:
        """Come back when the rules for a pod that will have `ip` are in the kernel. Raises
        TimeoutError when they cannot be told in time (nobody knows the pod, or the API server is
        away): it must not start without them."""
        async with asyncio.timeout(ADMIT_S):
            await self._policies.synced()
            if not len(self._policies):
                return
            for other in [key for key, used in self._attached.items() if used == ip]:
                del self._attached[other]
            self._attached[uid] = ip
            await self._settled()
            if self._pods is not None:
                self._pod_changed(None, await _appeared(self._pods, uid))
                await self._settled()

    async def _settled(self) -> None:
        """Until a turn that begins later than now has ended well."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(done)
        self._wake.set()
        await done

    def _hear(self, watch: TransactionWatch) -> None:
        watch.drain()
        self._wake.set()

    def _mark(self) -> None:
        self._changed = True
        self._wake.set()

    def _policy_changed(self, old: Object | None, new: Object | None) -> None:
        meta = (new or old or {})["metadata"]
        policy: Policy | None = None
        try:
            policy = compile_policy(new) if new is not None else None
        except (AttributeError, KeyError, TypeError, ValueError, BadRequest):
            # Stored by a server that checked less; nothing can be said about what it means.
            log.exception("policy %s/%s makes no sense", meta["namespace"], meta["name"])
        if self._index.put_policy((meta["namespace"], meta["name"]), policy):
            self._mark()

    def _pod_changed(self, old: Object | None, new: Object | None) -> None:
        meta = (new or old or {})["metadata"]
        key: Key = (meta["namespace"], meta["name"])
        if new is None:
            self._attached.pop(meta["uid"], None)
        if self._index.put_pod(key, self._facts(new) if new is not None else None):
            self._mark()

    def _facts(self, obj: Object) -> Pod | None:
        """An address belongs to the pod it was given last, whatever an older status says."""
        given = self._attached.get(obj["metadata"].get("uid", ""), "")
        pod = pod_facts(obj, self._node_name, given)
        if pod is not None and not given and pod.local and pod.ip in self._attached.values():
            return None
        return pod

    def _namespace_changed(self, old: Object | None, new: Object | None) -> None:
        meta = (new or old or {})["metadata"]
        labels = None if new is None else meta.get("labels") or {}
        if self._index.put_namespace(meta["name"], labels):
            self._mark()

    async def _look_around(self) -> None:
        """Follow pods and namespaces from now on."""
        fields = f"spec.nodeName={self._node_name}"
        pods = self._informers.informer(resource("pods"), fields=fields)
        namespaces = self._informers.informer(resource("namespaces"))
        pods.add_index(_BY_UID, _uid_of)
        await namespaces.synced()
        await pods.synced()
        self._pods, self._namespaces = pods, namespaces
        self._unsubscribe.append(namespaces.on_change(self._namespace_changed))
        self._unsubscribe.append(pods.on_change(self._pod_changed))

    async def _turn(self) -> None:
        self._wake.clear()
        wanted = bool(len(self._policies))
        if wanted and self._pods is None:
            await self._look_around()
        waiting, self._waiting = self._waiting, []
        try:
            await self._settle(wanted)
        except BaseException as error:
            for future in waiting:
                if not future.done():
                    future.set_exception(OSError(f"network policies: {error}"))
            raise
        for future in waiting:
            if not future.done():
                future.set_result(None)

    async def _settle(self, wanted: bool) -> None:
        """Bring the kernel to what the index says."""
        changed, self._changed = self._changed, False
        if not wanted:
            if self._handle:
                self._handle = 0
                await self._nft.apply(self._table.remove())
            return
        if not self._handle or table_handle(self._table.name) != self._handle:
            if self._handle:
                log.warning("table %s was changed by somebody else", self._table.name)
            await self._rebuild()
        elif changed:
            try:
                for script in self._table.change(self._index.state()):
                    await self._nft.apply(script)
            except NftError as error:
                log.warning("making table %s anew: %s", self._table.name, error)
                await self._rebuild()

    async def _rebuild(self) -> None:
        self.rebuilds += 1
        await self._nft.apply(self._table.whole(self._index.state()))
        self._handle = table_handle(self._table.name)


async def _appeared(pods: Informer, uid: str) -> Object:
    """The pod, once the cache has it."""
    seen = asyncio.Event()
    undo = pods.on_change(lambda old, new: seen.set())
    try:
        while True:
            for pod in pods.by_index(_BY_UID, uid):
                return pod
            seen.clear()
            await seen.wait()
    finally:
        undo()


def _uid_of(pod: Object) -> tuple[str, ...]:
    return (pod["metadata"].get("uid", ""),)
