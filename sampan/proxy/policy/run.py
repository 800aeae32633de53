"""The policies of one node: watches them, keeps their table true, and lets new pods in.

Task: `run`, under the daemon's supervisor. Without policies it watches nothing else, and there is
no table. With the first one it begins to watch namespaces and all pods, since peers may be on other
nodes; the server lets a node see them while there are policies. Queue: what
changed while a transaction was being applied, each thing once; it becomes one transaction. Nothing
polls. A transaction the kernel refuses is followed by the whole table; if that fails as well, `run`
raises and the supervisor starts it again with backoff.

`admit` closes the gap between a pod's start and its rules: the node calls it with the address that
the pod is about to use, and starts the pod when the rules for it are in the kernel.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence, Set

from msgspec import Struct

from sampan.api.errors import BadRequest, Object
from sampan.api.resources import api_resource
from sampan.client.events import EventRecorder
from sampan.client.informer import Informer, Informers
from sampan.linux.nft import Nft, NftError
from sampan.linux.nftwatch import TransactionWatch, table_handle

from ..families import IPV4, Family
from ..restoring import say_refused, say_restored
from .flows import review, tightened
from .index import PolicyIndex
from .objects import Key, Pod, Policy, compile_policy, is_finished, pod_facts
from .table import PolicyTable

log = logging.getLogger("sampan.proxy.policy")

# How long a pod waits for its rules; then its start fails and is tried again by the agent.
ADMIT_S = 20.0
_BY_UID = "policy-uid"


class _Side(Struct):
    """One address family: what is planned, and the number of the table that holds it."""

    index: PolicyIndex
    table: PolicyTable
    handle: int = 0
    due: bool = False
    """Are there connections that the rules may not want any more?"""
    marked: set[bytes] | None = None
    """Addresses of connections that are refused; None when nobody has looked yet."""

    def find(self) -> int:
        return table_handle(self.table.name, self.table.family.word)


class PolicyKeeper:
    """Use it from one event loop. `ready` is set once the first policies are in the kernel."""

    def __init__(
        self,
        informers: Informers,
        cluster: str,
        node_name: str,
        nft: Nft | None = None,
        *,
        recorder: EventRecorder | None = None,
        families: Sequence[Family] = (IPV4,),
    ) -> None:
        self._informers = informers
        self._policies = informers.informer(api_resource("networkpolicies", "networking.k8s.io"))
        self._pods: Informer | None = None
        self._namespaces: Informer | None = None
        self._node_name = node_name
        self._cluster = cluster
        self._families = families
        self._sides = self._fresh()
        self._recorder = recorder
        self._nft = nft or Nft()
        self._wake = asyncio.Event()
        self._attached: dict[str, tuple[str, ...]] = {}
        self._waiting: list[asyncio.Future[None]] = []
        self._unsubscribe: list[Callable[[], None]] = []
        self._changed = False
        self._quiet: set[str] = set()
        """Addresses that have no connections to judge."""
        self.ready = asyncio.Event()
        self.rebuilds = 0

    async def run(self) -> None:
        """Follow the cluster until cancelled. The rules stay in the kernel then."""
        self._sides = self._fresh()
        self._unsubscribe.append(self._policies.on_change(self._policy_changed))
        watch = TransactionWatch()
        loop = asyncio.get_running_loop()
        loop.add_reader(watch.fileno(), self._hear, watch)
        try:
            await self._policies.synced()
            # Rules of an earlier run, whose policies may be gone.
            for side in self._sides:
                if not len(self._policies) and side.find():
                    await self._nft.apply(side.table.remove())
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
        """Remove the tables; `run` must have ended. Raises NftError."""
        for side in self._sides:
            await self._nft.apply(side.table.remove())

    def _fresh(self) -> list[_Side]:
        return [_Side(PolicyIndex(item), PolicyTable(self._cluster, item))
                for item in self._families]  # fmt: skip

    async def admit(self, uid: str, *ips: str) -> None:
        """Come back when the rules for a pod that will have these addresses are in the kernel.
        Raises TimeoutError when they cannot be told in time (nobody knows the pod, or the API
        server is away): it must not start without them."""
        async with asyncio.timeout(ADMIT_S):
            await self._policies.synced()
            for other in [key for key, used in self._attached.items() if used[0] == ips[0]]:
                del self._attached[other]
            if not len(self._policies):
                return
            self._attached[uid] = ips
            self._quiet.update(ips)
            await self._settled()
            if self._pods is not None:
                self._quiet.update(ips)
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
        key = meta["namespace"], meta["name"]
        policies: list[Policy | None] = [None] * len(self._sides)
        try:
            if new is not None:
                policies = [compile_policy(new, side.table.family) for side in self._sides]
        except (AttributeError, KeyError, TypeError, ValueError, BadRequest):
            # Stored by a server that checked less; nothing can be said about what it means.
            log.exception("policy %s/%s makes no sense", meta["namespace"], meta["name"])
        for side, policy in zip(self._sides, policies, strict=True):
            if side.index.put_policy(key, policy):
                self._mark()

    def _pod_changed(self, old: Object | None, new: Object | None) -> None:
        meta = (new or old or {})["metadata"]
        key: Key = (meta["namespace"], meta["name"])
        if new is None:
            self._attached.pop(meta["uid"], None)
        if old is not None and (new is None or is_finished(new)):
            found = (old.get("status") or {}).get("podIPs") or ()
            self._quiet.update(item.get("ip") or "" for item in found)
        for side in self._sides:
            pod = self._facts(new, side.table.family) if new is not None else None
            if side.index.put_pod(key, pod):
                self._mark()

    def _facts(self, obj: Object, family: Family) -> Pod | None:
        """An address belongs to the pod it was given last, whatever an older status says."""
        ips = self._attached.get(obj["metadata"].get("uid", ""), ())
        given = next(filter(None, map(family.parse, ips)), "")
        pod = pod_facts(obj, self._node_name, given, family)
        others = (used for used in self._attached.values() if pod is not None and pod.ip in used)
        if pod is not None and not given and pod.local and any(others):
            return None
        return pod

    def _namespace_changed(self, old: Object | None, new: Object | None) -> None:
        meta = (new or old or {})["metadata"]
        labels = None if new is None else meta.get("labels") or {}
        for side in self._sides:
            if side.index.put_namespace(meta["name"], labels):
                self._mark()

    async def _look_around(self) -> None:
        """Follow pods and namespaces from now on."""
        pods = self._informers.informer(api_resource("pods"))
        namespaces = self._informers.informer(api_resource("namespaces"))
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
        for side in self._sides:
            if side.due:
                await self._review(side)

    async def _settle(self, wanted: bool) -> None:
        """Bring the kernel to what the index says."""
        changed, self._changed = self._changed, False
        quiet, self._quiet = self._quiet, set()
        for side in self._sides:
            if wanted:
                await self._settle_side(side, changed, quiet)
            elif side.handle:
                side.handle, side.marked = 0, None
                await self._nft.apply(side.table.remove())

    async def _settle_side(self, side: _Side, changed: bool, quiet: Set[str]) -> None:
        before = side.table.state
        if not side.handle or side.find() != side.handle:
            if side.handle:
                self._say_restored(side)
            await self._rebuild(side)
            side.due = True
        elif changed:
            try:
                for script in side.table.change(side.index.state()):
                    await self._nft.apply(script)
            except NftError as error:
                log.warning("making table %s anew: %s", side.table.name, error)
                await self._rebuild(side)
            side.due = side.due or bool(side.marked) or tightened(before, side.table.state, quiet)

    async def _review(self, side: _Side) -> None:
        """Of the connections there are; pods that start do not wait for it."""
        side.due = False
        if not side.table.marks:
            return
        try:
            side.marked = await asyncio.to_thread(
                review, side.table.state, side.table.family, side.marked
            )
        except OSError as error:
            log.warning("connections older than the network policies go on: %s", error)

    async def _rebuild(self, side: _Side) -> None:
        self.rebuilds += 1
        try:
            try:
                await self._nft.apply(side.table.whole(side.index.state()))
            except NftError:
                if not side.table.marks or side.handle:
                    raise
                # The one thing in it that some kernels are built without.
                side.table.marks = False
                await self._nft.apply(side.table.whole(side.index.state()))
        except NftError as error:
            say_refused(self._recorder, self._node_name, "PolicyRulesRefused", error)
            raise
        side.handle = side.find()

    def _say_restored(self, side: _Side) -> None:
        log.warning("table %s was changed by somebody else", side.table.name)
        table = f"{side.table.family.word} {side.table.name}"
        say_restored(self._recorder, self._node_name, "PolicyRulesRestored", table)


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
