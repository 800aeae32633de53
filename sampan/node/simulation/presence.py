"""Being there: simulated nodes register, renew their Leases and post a status now and then.

Tasks: `Presence.keep`, and one for each group whose turn it is. The nodes are dealt into groups,
and each group has its moment within `lease_s / 4`, kubelet's share of a Lease's life: thousands of
Leases make an even stream of writes, not a flood every ten seconds. At most `GROUPS_AT_ONCE` groups
are under way, so that a server that is slow for a while does not make all of them late. A request
that fails is logged and made again in its group's next turn, as kubelet does.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

from sampan.aio.clock import Clock
from sampan.api.errors import AlreadyExists, NotFound, Object, StatusError
from sampan.api.meta import has_condition
from sampan.api.resources import resource
from sampan.api.times import format_micro_time
from sampan.client.api import Client
from sampan.client.interface import STRATEGIC_PATCH

from ..registration import LEASE_NAMESPACE, LEASE_S, REPORT_S
from .shape import Shape, conditions, heartbeat, node_object

log = logging.getLogger("sampan.node.simulation")

RENEWALS = 4
"""How often a Lease is renewed in its life, at best: kubelet's nodeLeaseRenewIntervalFraction."""
GROUP = 50
"""Nodes that renew at the same moment: their writes become durable together."""
GROUPS_AT_ONCE = 16
AT_ONCE = 32
"""Registrations under way."""


class Presence:
    """Made by `SimulatedNodes`."""

    def __init__(
        self,
        client: Client,
        clock: Clock,
        shape: Shape,
        shares: Mapping[str, str],
        find: Callable[[str], Object | None] = lambda name: None,
    ) -> None:
        """`find` gives the Node as the cluster has it, as far as that is known."""
        self._client = client
        self._clock = clock
        self._shape = shape
        self._shares = shares
        self._find = find
        self._under_way: set[asyncio.Task[None]] = set()
        self._numbers = {name: number for number, name in enumerate(shape.names)}
        self.silent: set[str] = set()
        """Nodes whose agent is dead."""
        self._back: set[str] = set()
        self._revived = asyncio.Event()
        self._said: dict[str, float] = {}
        """When each node last posted its status."""
        self._turns = asyncio.Semaphore(AT_ONCE)
        self.lease_s: float = LEASE_S
        self.registered = asyncio.Event()
        """Every node is there."""

    def revive(self, name: str) -> None:
        """The node's agent starts again."""
        self.silent.discard(name)
        self._back.add(name)
        self._revived.set()

    async def register(self) -> None:
        """Make every node's objects, or bring old ones up to date."""
        await self._each(self._register, self._shape.names)
        self.registered.set()

    async def keep(self) -> None:
        """Renew the Leases, each group at its moment, for ever."""
        names = self._shape.names
        groups = [names[at : at + GROUP] for at in range(0, len(names), GROUP)]
        period = self.lease_s / RENEWALS
        began, turn = self._clock.monotonic(), 0
        while True:
            await self._bring_back()
            if not groups:
                await self._revived.wait()
                continue
            due = began + period * turn / len(groups)
            now = self._clock.monotonic()
            if now < due:
                await rest(self._clock, due - now, self._revived)
                continue
            if now > due + period:
                # The machine slept or is too slow: begin anew instead of running after time.
                began, turn = now, turn % len(groups)
                began -= period * turn / len(groups)
            await self._begin(groups[turn % len(groups)])
            turn += 1

    async def _begin(self, group: Sequence[str]) -> None:
        """One group's turn, beside those that are not done yet."""
        if len(self._under_way) >= GROUPS_AT_ONCE:
            await asyncio.wait(self._under_way, return_when=asyncio.FIRST_COMPLETED)
        task = asyncio.create_task(self._renew_all(group), name="leases of simulated nodes")
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def _renew_all(self, group: Sequence[str]) -> None:
        there = [name for name in group if name not in self.silent]
        await asyncio.gather(*(self._try(self._be_there, name) for name in there))

    def close(self) -> None:
        for task in self._under_way:
            task.cancel()

    async def withdraw(self, names: Iterable[str]) -> None:
        """Take nodes and their Leases away: they are simulated no more."""
        await self._each(self._withdraw, names)

    async def _bring_back(self) -> None:
        self._revived.clear()
        while self._back:
            name = self._back.pop()
            await self._attempt(self._register, name)
            await self._attempt(self._renew, name)

    async def _each(self, act: Callable[[str], Awaitable[None]], names: Iterable[str]) -> None:
        await asyncio.gather(*(self._attempt(act, name) for name in names))

    async def _attempt(self, act: Callable[[str], Awaitable[None]], name: str) -> None:
        async with self._turns:
            await self._try(act, name)

    @staticmethod
    async def _try(act: Callable[[str], Awaitable[None]], name: str) -> None:
        try:
            await act(name)
        except (StatusError, OSError) as error:
            log.info("simulated node %s: %s", name, error)

    async def _register(self, name: str) -> None:
        now, nodes = self._clock.now(), resource("nodes")
        body = node_object(self._numbers[name], self._shares[name], self._shape, now)
        self._said[name] = self._clock.monotonic()
        try:
            await self._client.create(nodes, body)
        except AlreadyExists:
            await self._client.patch(nodes, name, {"status": body["status"]}, subresource="status")
            await self._client.patch(nodes, name, {"metadata": body["metadata"]})

    async def _be_there(self, name: str) -> None:
        await self._renew(name)
        node = self._find(name)
        if node is not None and not has_condition(node, "Ready"):
            # Taken for dead while the server was slow: it says that it is not.
            await self._post(name, {"status": {"conditions": conditions(self._clock.now())}})
        elif self._clock.monotonic() - self._said.get(name, 0.0) >= REPORT_S:
            await self._post(name, heartbeat(self._clock.now()))

    async def _post(self, name: str, patch: Object) -> None:
        self._said[name] = self._clock.monotonic()
        nodes = resource("nodes")
        try:
            await self._client.patch(
                nodes, name, patch, subresource="status", content_type=STRATEGIC_PATCH
            )
        except NotFound:
            # Somebody deleted the node while its agent runs: it comes back.
            await self._register(name)

    async def _renew(self, name: str) -> None:
        leases = resource("leases", "coordination.k8s.io")
        stamp = format_micro_time(self._clock.now())
        try:
            patch = {"spec": {"renewTime": stamp}}
            await self._client.patch(leases, name, patch, LEASE_NAMESPACE)
        except NotFound:
            await self._client.create(leases, self._lease(name, stamp), LEASE_NAMESPACE)

    def _lease(self, name: str, stamp: str) -> Object:
        return {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": name, "namespace": LEASE_NAMESPACE},
            "spec": {
                "holderIdentity": name,
                "leaseDurationSeconds": int(self.lease_s),
                "renewTime": stamp,
            },
        }

    async def _withdraw(self, name: str) -> None:
        for kind, namespace in (
            (resource("nodes"), ""),
            (resource("leases", "coordination.k8s.io"), LEASE_NAMESPACE),
        ):
            try:
                await self._client.delete(kind, name, namespace)
            except NotFound:
                continue


async def rest(clock: Clock, seconds: float, sooner: asyncio.Event) -> None:
    """So long, or until the event."""
    waits = [
        asyncio.ensure_future(clock.sleep(seconds)),
        asyncio.ensure_future(sooner.wait()),
    ]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in waits:
            task.cancel()
